//! Attention of new tokens over remembered keys and values: one row of weights at a time, nothing kept.

use rayon::prelude::*;

use super::simd::{add_scaled, dot, exp_shifted, vectorised};

/// One query row's operands: all its heads, and the keys and values it may hear, each `step` after the one before.
struct Row<'a> {
    q: &'a [f32],
    keys: &'a [f32],
    values: &'a [f32],
    step: usize,
    width: usize,
    head: usize,
}

vectorised! {
    /// out_h = Σ_j softmax_j(q_h·k_j / √e)·v_j, where query head h reads the shared head h·(shared / heads).
    fn attend_row(row: Row<'_>, out: &mut [f32]) {
        let Row { q, keys, values, step, width, head } = row;
        let (time, scale) = (keys.len().div_ceil(step), 1.0 / (head as f32).sqrt());
        let group = q.len() / width;
        let mut weights = vec![0f32; time];
        for (h, (q, out)) in q.chunks_exact(head).zip(out.chunks_exact_mut(head)).enumerate() {
            let from = h / group * head;
            for (weight, key) in weights.iter_mut().zip(keys.chunks(step)) {
                *weight = dot(q, &key[from..from + head]) * scale;
            }
            let (_, mass) = exp_shifted(&mut weights);
            for (weight, value) in weights.iter().zip(values.chunks(step)) {
                add_scaled(out, weight / mass, &value[from..from + head]);
            }
        }
    }
}

/// The last `new` tokens hear all tokens up to themselves. q `[new, heads·e]`; keys and values `[tokens, width]` with
/// `width` = shared·e; → `[new, heads·e]`.
pub(crate) fn attend_cached(
    q: &[f32],
    (keys, values): (&[f32], &[f32]),
    new: usize,
    (width, head): (usize, usize),
) -> Vec<f32> {
    let (mut out, row) = (vec![0f32; q.len()], q.len() / new);
    let before = keys.len() / width - new;
    out.par_chunks_mut(row).zip(q.par_chunks(row)).enumerate().for_each(|(i, (out, q))| {
        let heard = ..(before + i + 1) * width;
        attend_row(Row { q, keys: &keys[heard], values: &values[heard], step: width, width, head }, out);
    });
    out
}

/// The last tokens of each sequence, equally many, hear themselves and what is before them. q `[sequences · count, d]`; keys and
/// values side by side, `[tokens, 2·d]`, cut by `offsets`; → `[sequences · count, d]`.
pub(crate) fn attend_last(
    q: &[f32],
    keys_values: &[f32],
    offsets: &[usize],
    (d, head): (usize, usize),
) -> Vec<f32> {
    let (mut out, step) = (vec![0f32; q.len()], 2 * d);
    let count = q.len() / d / (offsets.len() - 1);
    out.par_chunks_mut(d).zip(q.par_chunks(d)).enumerate().for_each(|(row, (out, q))| {
        let (sequence, place) = (row / count, row % count);
        let heard = offsets[sequence]..offsets[sequence + 1] + place + 1 - count;
        let keys = &keys_values[heard.start * step..heard.end * step];
        attend_row(Row { q, keys, values: &keys[d..], step, width: d, head }, out);
    });
    out
}
