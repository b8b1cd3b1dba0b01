//! Causal self-attention over sequences stored end to end: no padding, and no time×time matrix kept.
//!
//! One task handles one head of one sequence. The backward pass computes the attention weights again, row by row.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

use super::host::{floats, read2};
use super::simd::{add_scaled, dot, exp, max, sum, vectorised};

/// qkv `[tokens, 3·d]` → `[tokens, d]`; head h uses columns h·e..(h+1)·e of each third, with e = d / heads.
///
/// out_i = Σ_{j ≤ i} softmax_j(q_i·k_j / √e) · v_j, within each sequence `offsets[s]..offsets[s + 1]`.
pub(crate) struct CausalAttention {
    pub(crate) heads: usize,
    pub(crate) offsets: Arc<[usize]>,
}

/// Whether there is a compiled inner loop for this head size.
pub(crate) fn supports(head: usize) -> bool {
    matches!(head, 8 | 16 | 32 | 64)
}

/// Keys are handled in blocks of so many, the last one padded: no loop has a scalar remainder.
const BLOCK: usize = 16;

/// One head's operands, gathered from the packed rows of a sequence, and room for a query's row of weights.
struct Head<const E: usize> {
    q: Vec<[f32; E]>,
    k: Vec<[f32; E]>,
    v: Vec<[f32; E]>,
    k_blocks: Vec<[[f32; BLOCK]; E]>, // the keys' columns, block by block
    v_blocks: Vec<[[f32; BLOCK]; E]>,
    weights: Vec<[f32; BLOCK]>,
}

impl<const E: usize> Head<E> {
    #[inline(always)]
    fn new(time: usize) -> Self {
        let (rows, blocks) = (vec![[0.0; E]; time], vec![[[0.0; BLOCK]; E]; time.div_ceil(BLOCK)]);
        let weights = vec![[0.0; BLOCK]; blocks.len()];
        Self {
            q: rows.clone(),
            k: rows.clone(),
            v: rows,
            k_blocks: blocks.clone(),
            v_blocks: blocks,
            weights,
        }
    }

    #[inline(always)]
    fn gather(&mut self, qkv: &[f32], d: usize, head: usize) {
        let from = head * E;
        for (i, row) in qkv.chunks_exact(3 * d).enumerate() {
            self.q[i].copy_from_slice(&row[from..from + E]);
            self.k[i].copy_from_slice(&row[d + from..d + from + E]);
            self.v[i].copy_from_slice(&row[2 * d + from..2 * d + from + E]);
        }
        transpose(&self.k, &mut self.k_blocks);
        transpose(&self.v, &mut self.v_blocks);
    }

    /// Computes the attention weights of query i over the keys 0..=i; the rest of the last block is 0.
    #[inline(always)]
    fn attend(&mut self, i: usize) {
        let scale = 1.0 / (E as f32).sqrt();
        let blocks = &mut self.weights[..=i / BLOCK];
        project(&self.q[i], &self.k_blocks, blocks);
        let weights = blocks.as_flattened_mut();
        for weight in weights.iter_mut() {
            *weight *= scale;
        }
        weights[i + 1..].fill(f32::NEG_INFINITY);
        let top = max(weights);
        for weight in weights.iter_mut() {
            *weight = exp(*weight - top);
        }
        weights[i + 1..].fill(0.0);
        let inverse = 1.0 / sum(weights);
        for weight in weights.iter_mut() {
            *weight *= inverse;
        }
    }
}

/// `[T, E]` → blocks of `[E, BLOCK]`; the padding stays 0.
#[inline(always)]
fn transpose<const E: usize>(rows: &[[f32; E]], blocks: &mut [[[f32; BLOCK]; E]]) {
    for (j, row) in rows.iter().enumerate() {
        let block = &mut blocks[j / BLOCK];
        for c in 0..E {
            block[c][j % BLOCK] = row[c];
        }
    }
}

/// out_j = Σ_c x_c · columns[c, j].
#[inline(always)]
fn project<const E: usize>(x: &[f32; E], columns: &[[[f32; BLOCK]; E]], out: &mut [[f32; BLOCK]]) {
    for (columns, out) in columns.iter().zip(out) {
        let (mut even, mut odd) = ([0f32; BLOCK], [0f32; BLOCK]);
        for c in (0..E).step_by(2) {
            for lane in 0..BLOCK {
                even[lane] += x[c] * columns[c][lane];
                odd[lane] += x[c + 1] * columns[c + 1][lane];
            }
        }
        for lane in 0..BLOCK {
            out[lane] = even[lane] + odd[lane];
        }
    }
}

/// Σ_j w_j · rows_j, over four accumulators.
#[inline(always)]
fn mix_rows<const E: usize>(weights: &[f32], rows: &[[f32; E]]) -> [f32; E] {
    let mut parts = [[0f32; E]; 4];
    let (weights_by_four, rows_by_four) = (weights.chunks_exact(4), rows.chunks_exact(4));
    let rest = weights_by_four.remainder().iter().zip(rows_by_four.remainder());
    for (weights, rows) in weights_by_four.zip(rows_by_four) {
        for part in 0..4 {
            add_scaled(&mut parts[part], weights[part], &rows[part]);
        }
    }
    for (part, (weight, row)) in rest.enumerate() {
        add_scaled(&mut parts[part], *weight, row);
    }
    std::array::from_fn(|c| (parts[0][c] + parts[1][c]) + (parts[2][c] + parts[3][c]))
}

/// One head of one sequence: out `[time, E]`.
#[inline(always)]
fn attend_head<const E: usize>(qkv: &[f32], d: usize, head: usize, out: &mut [f32]) {
    let mut operands = Head::<E>::new(out.len() / E);
    operands.gather(qkv, d, head);
    for (i, out) in out.chunks_exact_mut(E).enumerate() {
        operands.attend(i);
        let weights = &operands.weights.as_flattened()[..=i];
        out.copy_from_slice(&mix_rows(weights, &operands.v[..=i]));
    }
}

/// One head of one sequence: dqkv is ∂q, ∂k and ∂v, `[3, time, E]`.
#[inline(always)]
fn attend_head_backward<const E: usize>(qkv: &[f32], dout: &[f32], d: usize, head: usize, dqkv: &mut [f32]) {
    let time = dout.len() / d;
    let mut operands = Head::<E>::new(time);
    operands.gather(qkv, d, head);
    let mut slopes = vec![[0f32; BLOCK]; time.div_ceil(BLOCK)];
    let (dq, dkv) = dqkv.split_at_mut(time * E);
    let (dk, dv) = dkv.split_at_mut(time * E);
    let (dk, dv) = (dk.as_chunks_mut::<E>().0, dv.as_chunks_mut::<E>().0);
    for (i, dq) in dq.chunks_exact_mut(E).enumerate() {
        let mut dmixed = [0f32; E];
        dmixed.copy_from_slice(&dout[i * d + head * E..][..E]);
        dq.copy_from_slice(&attend_backward_row(
            &mut operands,
            i,
            &dmixed,
            &mut slopes,
            (&mut *dk, &mut *dv),
        ));
    }
}

/// With P the weights: ∂v_j = Σ_i P_ij·∂o_i, S_ij = P_ij·(∂o_i·v_j − Σ_j P_ij·∂o_i·v_j)/√e, ∂q_i = Σ_j S_ij·k_j,
/// ∂k_j = Σ_i S_ij·q_i. Adds row i's part to ∂k and ∂v and returns ∂q_i.
#[inline(always)]
fn attend_backward_row<const E: usize>(
    operands: &mut Head<E>,
    i: usize,
    dmixed: &[f32; E],
    slopes: &mut [[f32; BLOCK]],
    (dk, dv): (&mut [[f32; E]], &mut [[f32; E]]),
) -> [f32; E] {
    operands.attend(i);
    let scale = 1.0 / (E as f32).sqrt();
    let slopes = &mut slopes[..=i / BLOCK];
    project(dmixed, &operands.v_blocks, slopes);
    let (slopes, weights) = (slopes.as_flattened_mut(), operands.weights[..=i / BLOCK].as_flattened());
    let mean = dot(weights, slopes);
    for (slope, weight) in slopes.iter_mut().zip(weights) {
        *slope = weight * (*slope - mean) * scale;
    }
    let (slopes, weights, q) = (&slopes[..=i], &weights[..=i], operands.q[i]);
    for ((dk, dv), (slope, weight)) in dk.iter_mut().zip(dv).zip(slopes.iter().zip(weights)) {
        add_scaled(dk, *slope, &q);
        add_scaled(dv, *weight, dmixed);
    }
    mix_rows(slopes, &operands.k[..=i])
}

vectorised! {
    fn attend(qkv: &[f32], d: usize, e: usize, head: usize, out: &mut [f32]) {
        match e {
            8 => attend_head::<8>(qkv, d, head, out),
            16 => attend_head::<16>(qkv, d, head, out),
            32 => attend_head::<32>(qkv, d, head, out),
            _ => attend_head::<64>(qkv, d, head, out),
        }
    }
}

vectorised! {
    fn attend_backward(qkv: &[f32], dout: &[f32], d: usize, e: usize, head: usize, dqkv: &mut [f32]) {
        match e {
            8 => attend_head_backward::<8>(qkv, dout, d, head, dqkv),
            16 => attend_head_backward::<16>(qkv, dout, d, head, dqkv),
            32 => attend_head_backward::<32>(qkv, dout, d, head, dqkv),
            _ => attend_head_backward::<64>(qkv, dout, d, head, dqkv),
        }
    }
}

/// Splits rows of `width` numbers into one slice a sequence.
fn split<'a>(mut rows: &'a mut [f32], offsets: &[usize], width: usize) -> Vec<&'a mut [f32]> {
    let mut parts = Vec::with_capacity(offsets.len());
    for pair in offsets.windows(2) {
        let (part, rest) = rows.split_at_mut((pair[1] - pair[0]) * width);
        parts.push(part);
        rows = rest;
    }
    parts
}

impl CausalAttention {
    /// Calls `f` with each sequence's rows and each head, in parallel; results in order of sequence, then head.
    fn each_head(&self, f: impl Fn(Range<usize>, usize) -> Vec<f32> + Sync) -> Vec<Vec<f32>> {
        let tasks = (self.offsets.len() - 1) * self.heads;
        let one = |task: usize| {
            let (s, head) = (task / self.heads, task % self.heads);
            f(self.offsets[s]..self.offsets[s + 1], head)
        };
        (0..tasks).into_par_iter().map(one).collect()
    }

    /// Puts each head's `[thirds, time, e]` where it belongs in rows of `thirds`·heads·e numbers.
    fn scatter(&self, parts: &[Vec<f32>], e: usize, thirds: usize, rows: &mut [f32]) {
        let (heads, width) = (self.heads, thirds * self.heads * e);
        split(rows, &self.offsets, width).into_par_iter().enumerate().for_each(|(s, rows)| {
            let time = rows.len() / width;
            for (i, row) in rows.chunks_exact_mut(width).enumerate() {
                for (place, row) in row.chunks_exact_mut(e).enumerate() {
                    let (third, head) = (place / heads, place % heads);
                    row.copy_from_slice(&parts[s * heads + head][(third * time + i) * e..][..e]);
                }
            }
        });
    }
}

impl CustomOp1 for CausalAttention {
    fn name(&self) -> &'static str {
        "fused-causal-attention"
    }

    fn cpu_fwd(&self, qkv: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (tokens, packed) = layout.shape().dims2()?;
        let (d, qkv) = (packed / 3, floats(qkv, layout)?);
        let e = d / self.heads;
        let parts = self.each_head(|rows, head| {
            let mut out = vec![0f32; rows.len() * e];
            attend(&qkv[rows.start * packed..rows.end * packed], d, e, head, &mut out);
            out
        });
        let mut out = vec![0f32; tokens * d];
        self.scatter(&parts, e, 1, &mut out);
        Ok((CpuStorage::F32(out), Shape::from((tokens, d))))
    }

    fn bwd(&self, qkv: &Tensor, _out: &Tensor, dout: &Tensor) -> Result<Option<Tensor>> {
        let (_, packed) = qkv.dims2()?;
        let d = packed / 3;
        let dqkv = read2(qkv, dout, |qkv, dout| {
            let e = d / self.heads;
            let parts = self.each_head(|rows, head| {
                let mut part = vec![0f32; 3 * rows.len() * e];
                let dout = &dout[rows.start * d..rows.end * d];
                attend_backward(&qkv[rows.start * packed..rows.end * packed], dout, d, e, head, &mut part);
                part
            });
            let mut dqkv = vec![0f32; qkv.len()];
            self.scatter(&parts, e, 3, &mut dqkv);
            dqkv
        })?;
        Ok(Some(Tensor::from_vec(dqkv, qkv.shape(), qkv.device())?))
    }
}
