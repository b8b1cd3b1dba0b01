//! Causal self-attention over sequences stored end to end: no padding, and no time×time matrix.
//!
//! One task handles one head of one sequence, a block of queries at a time: their scores against all keys up to the last
//! of them, the softmax, and the product with the values. The backward pass computes a block's weights again.
//!
//! # Source
//! Dao et al. (2022), "FlashAttention", for computing weights again instead of keeping them.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

use super::host::{floats, read2};
use super::product::{Packed, Precision, Start, View};
use super::simd::{dot, exp, max, sum, vectorised};

/// qkv `[tokens, 3·d]` → `[tokens, d]`; head h uses columns h·e..(h+1)·e of each third, with e = d / heads.
///
/// out_i = Σ_{j ≤ i} softmax_j(q_i·k_j / √e) · v_j, within each sequence `offsets[s]..offsets[s + 1]`.
pub(crate) struct CausalAttention {
    pub(crate) heads: usize,
    pub(crate) offsets: Arc<[usize]>,
    pub(crate) precision: Precision,
}

/// Queries that are answered together.
const QUERIES: usize = 64;

/// Rows of weights are padded to a multiple of this.
const LANES: usize = 16;

/// One head of one sequence: the rows of qkv, `[time, 3·d]`, and which columns of them are the head's.
#[derive(Clone, Copy)]
struct Head<'a> {
    qkv: &'a [f32],
    d: usize,
    first: usize,
    e: usize,
    precision: Precision,
}

impl<'a> Head<'a> {
    fn time(&self) -> usize {
        self.qkv.len() / (3 * self.d)
    }

    /// Queries (0), keys (1) or values (2), `[time, e]`.
    fn third(&self, which: usize) -> View<'a> {
        View::strided(&self.qkv[which * self.d + self.first..], (self.time(), self.e), 3 * self.d)
    }

    fn scale(&self) -> f32 {
        1.0 / (self.e as f32).sqrt()
    }

    fn pack(&self, factor: View<'_>) -> Packed {
        Packed::new(factor, self.precision)
    }

    /// Room for a block of weights, and the step between its rows.
    fn room(&self) -> (Vec<f32>, usize) {
        let step = self.time().next_multiple_of(LANES);
        (vec![0f32; QUERIES.min(self.time()) * step], step)
    }

    /// The blocks of queries.
    fn blocks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let time = self.time();
        (0..time).step_by(QUERIES).map(move |from| from..(from + QUERIES).min(time))
    }

    /// out `[time, e]`.
    fn attend(&self, out: &mut [f32]) {
        let (keys, values) = (self.pack(self.third(1).transposed()), self.pack(self.third(2)));
        let (mut weights, step) = self.room();
        for block in self.blocks() {
            let (queries, heard) = (self.third(0).part(block.clone()), block.end);
            keys.multiply_here(queries, (&mut weights, step, heard), Start::Zero);
            let out = &mut out[block.start * self.e..block.end * self.e];
            let inverses: Vec<f32> = block
                .clone()
                .zip(weights.chunks_exact_mut(step))
                .map(|(i, row)| 1.0 / exponentiate(&mut row[..padded(heard)], i + 1, self.scale()))
                .collect();
            let weights = View::strided(&weights, (block.len(), heard), step);
            values.multiply_here(weights, (out, self.e, self.e), Start::Zero);
            for (row, inverse) in out.chunks_exact_mut(self.e).zip(inverses) {
                row.iter_mut().for_each(|value| *value *= inverse);
            }
        }
    }

    /// With P the weights: ∂v = Pᵀ·∂o, S = P∘(∂o·vᵀ − Σ_j P∘(∂o·vᵀ))/√e, ∂q = S·k, ∂k = Sᵀ·q. dqkv is ∂q, ∂k and ∂v,
    /// `[3, time, e]`, and starts at 0.
    fn attend_backward(&self, dout: View<'_>, dqkv: &mut [f32]) {
        let e = self.e;
        let (dq, dkv) = dqkv.split_at_mut(self.time() * e);
        let (dk, dv) = dkv.split_at_mut(self.time() * e);
        let (across, keys) = (self.pack(self.third(1).transposed()), self.pack(self.third(1)));
        let values = self.pack(self.third(2).transposed());
        let ((mut weights, step), (mut slopes, _)) = (self.room(), self.room());
        for block in self.blocks() {
            let (queries, dout) = (self.third(0).part(block.clone()), dout.part(block.clone()));
            let (heard, shape) = (block.end, (block.len(), block.end));
            across.multiply_here(queries, (&mut weights, step, heard), Start::Zero);
            values.multiply_here(dout, (&mut slopes, step, heard), Start::Zero);
            let rows = weights.chunks_exact_mut(step).zip(slopes.chunks_exact_mut(step));
            for (i, (weights, slopes)) in block.clone().zip(rows) {
                let (weights, slopes) = (&mut weights[..padded(heard)], &mut slopes[..padded(heard)]);
                slope(weights, slopes, i + 1, self.scale());
            }
            let weights = View::strided(&weights, shape, step);
            let slopes = View::strided(&slopes, shape, step);
            keys.multiply_here(slopes, (&mut dq[block.start * e..], e, e), Start::Zero);
            self.pack(dout).multiply_here(weights.transposed(), (dv, e, e), Start::Out);
            self.pack(queries).multiply_here(slopes.transposed(), (dk, e, e), Start::Out);
        }
    }
}

fn padded(heard: usize) -> usize {
    heard.next_multiple_of(LANES)
}

vectorised! {
    /// Turns a row of scores into exp(scale·(score − highest)) for the first `heard`, 0 for the others; returns their sum.
    fn exponentiate(row: &mut [f32], heard: usize, scale: f32) -> f32 {
        let (row, future) = row.split_at_mut(padded(heard));
        future.fill(0.0);
        row[heard..].fill(f32::NEG_INFINITY);
        let top = max(row);
        for value in row.iter_mut() {
            *value = exp((*value - top) * scale);
        }
        row[heard..].fill(0.0);
        sum(row)
    }
}

vectorised! {
    /// Turns scores into weights, and ∂weights into ∂scores.
    fn slope(weights: &mut [f32], slopes: &mut [f32], heard: usize, scale: f32) {
        let inverse = 1.0 / exponentiate(weights, heard, scale);
        slopes[heard..].fill(0.0);
        let (weights, slopes) = (&mut weights[..padded(heard)], &mut slopes[..padded(heard)]);
        let mean = dot(weights, slopes) * inverse;
        for (weight, slope) in weights.iter_mut().zip(slopes.iter_mut()) {
            *weight *= inverse;
            *slope = *weight * (*slope - mean) * scale;
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
    fn head<'a>(&self, qkv: &'a [f32], d: usize, rows: &Range<usize>, head: usize) -> Head<'a> {
        let (e, qkv) = (d / self.heads, &qkv[rows.start * 3 * d..rows.end * 3 * d]);
        Head { qkv, d, first: head * e, e, precision: self.precision }
    }

    /// `[tokens, 3·d]` → `[tokens, d]`.
    pub(crate) fn forward(&self, qkv: &[f32], d: usize, out: &mut [f32]) {
        let e = d / self.heads;
        let parts = self.each_head(|rows, head| {
            let mut out = vec![0f32; rows.len() * e];
            self.head(qkv, d, &rows, head).attend(&mut out);
            out
        });
        self.scatter(&parts, e, 1, out);
    }

    /// qkv `[tokens, 3·d]`, ∂out `[tokens, d]` → ∂qkv.
    pub(crate) fn backward(&self, qkv: &[f32], dout: &[f32], d: usize, dqkv: &mut [f32]) {
        let e = d / self.heads;
        let parts = self.each_head(|rows, head| {
            let mut part = vec![0f32; 3 * rows.len() * e];
            let dout = View::strided(&dout[rows.start * d + head * e..], (rows.len(), e), d);
            self.head(qkv, d, &rows, head).attend_backward(dout, &mut part);
            part
        });
        self.scatter(&parts, e, 3, dqkv);
    }

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
        let mut out = vec![0f32; tokens * packed / 3];
        self.forward(floats(qkv, layout)?, packed / 3, &mut out);
        Ok((CpuStorage::F32(out), Shape::from((tokens, packed / 3))))
    }

    fn bwd(&self, qkv: &Tensor, _out: &Tensor, dout: &Tensor) -> Result<Option<Tensor>> {
        let d = qkv.dim(1)? / 3;
        let mut dqkv = vec![0f32; qkv.elem_count()];
        read2(qkv, dout, |qkv, dout| self.backward(qkv, dout, d, &mut dqkv))?;
        Ok(Some(Tensor::from_vec(dqkv, qkv.shape(), qkv.device())?))
    }
}
