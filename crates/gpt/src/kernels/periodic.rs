//! Periodic embeddings of numbers in one pass: sines, a linear map per feature, ReLU.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use std::f32::consts::TAU;
use std::sync::Arc;

use super::host::{floats, read2};
use super::simd::{add_scaled, dot, sin_turns, vectorised};

/// Numbers `[rows, F]` (held here: data has no gradient), frequencies `[F, n]`, weights `[F, 2n, e]`, bias `[F, e]` →
/// `[rows, F·e]`: ReLU(W_f·[cos(2π·c_f·x) ‖ sin(2π·c_f·x)] + b_f).
pub(crate) struct Periodic {
    pub(crate) x: Arc<[f32]>,
    pub(crate) features: usize,
}

/// Rows that one task of the forward pass handles.
const ROWS_PER_TASK: usize = 32;

/// [cos ‖ sin] of one number.
#[inline(always)]
fn waves(x: f32, frequencies: &[f32], out: &mut [f32]) {
    let (cosines, sines) = out.split_at_mut(frequencies.len());
    for ((cosine, sine), frequency) in cosines.iter_mut().zip(sines).zip(frequencies) {
        *cosine = sin_turns(frequency * x + 0.25);
        *sine = sin_turns(frequency * x);
    }
}

struct Weights<'a> {
    frequencies: &'a [f32],
    weights: &'a [f32],
    bias: &'a [f32],
    features: usize,
}

vectorised! {
    fn embed(x: &[f32], weights: Weights<'_>, out: &mut [f32]) {
        let Weights { frequencies, weights, bias, features } = weights;
        let (n, e) = (frequencies.len() / features, bias.len() / features);
        let mut wave = vec![0f32; 2 * n];
        for (i, (&x, out)) in x.iter().zip(out.chunks_exact_mut(e)).enumerate() {
            let f = i % features;
            waves(x, &frequencies[f * n..(f + 1) * n], &mut wave);
            out.copy_from_slice(&bias[f * e..(f + 1) * e]);
            for (&value, row) in wave.iter().zip(weights[f * 2 * n * e..].chunks_exact(e)) {
                add_scaled(out, value, row);
            }
            for value in out.iter_mut() {
                *value = value.max(0.0);
            }
        }
    }
}

/// One feature's share of the backward pass.
struct Feature<'a> {
    feature: usize,
    features: usize,
    x: &'a [f32],
    y: &'a [f32],
    dy: &'a [f32],
    frequencies: &'a [f32],
    weights: &'a [f32],
    d_frequencies: &'a mut [f32],
    d_weights: &'a mut [f32],
    d_bias: &'a mut [f32],
}

vectorised! {
    /// With g the gradient where y > 0: ∂b = Σ g, ∂W = Σ waveᵀ·g, and ∂c = Σ 2π·x·(cos·(W·g)_sin − sin·(W·g)_cos).
    fn embed_backward(part: Feature<'_>) {
        let Feature { feature, features, x, y, dy, frequencies, weights, d_frequencies, d_weights, d_bias } = part;
        let (n, e) = (frequencies.len(), d_bias.len());
        let (mut wave, mut d_wave, mut g) = (vec![0f32; 2 * n], vec![0f32; 2 * n], vec![0f32; e]);
        for row in 0..x.len() / features {
            let (x, at) = (x[row * features + feature], (row * features + feature) * e);
            for ((g, &y), &dy) in g.iter_mut().zip(&y[at..at + e]).zip(&dy[at..at + e]) {
                *g = if y > 0.0 { dy } else { 0.0 };
            }
            waves(x, frequencies, &mut wave);
            add_scaled(d_bias, 1.0, &g);
            for k in 0..2 * n {
                add_scaled(&mut d_weights[k * e..(k + 1) * e], wave[k], &g);
                d_wave[k] = dot(&weights[k * e..(k + 1) * e], &g);
            }
            for j in 0..n {
                d_frequencies[j] += TAU * x * (wave[j] * d_wave[n + j] - wave[n + j] * d_wave[j]);
            }
        }
    }
}

impl CustomOp3 for Periodic {
    fn name(&self) -> &'static str {
        "fused-periodic"
    }

    fn cpu_fwd(
        &self,
        frequencies: &CpuStorage,
        frequencies_layout: &Layout,
        weights: &CpuStorage,
        weights_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let features = self.features;
        let (frequencies, weights) =
            (floats(frequencies, frequencies_layout)?, floats(weights, weights_layout)?);
        let bias = floats(bias, bias_layout)?;
        let rows = self.x.len() / features;
        let mut out = vec![0f32; rows * bias.len()];
        out.par_chunks_mut(ROWS_PER_TASK * bias.len())
            .zip(self.x.par_chunks(ROWS_PER_TASK * features))
            .for_each(|(out, x)| embed(x, Weights { frequencies, weights, bias, features }, out));
        Ok((CpuStorage::F32(out), Shape::from((rows, bias.len()))))
    }

    fn bwd(
        &self,
        frequencies: &Tensor,
        weights: &Tensor,
        bias: &Tensor,
        y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let e = bias.dim(1)?;
        let (df, dw, db) = read2(y, dy, |y, dy| {
            read2(frequencies, weights, |frequencies, weights| self.gradients(frequencies, weights, e, y, dy))
        })??;
        let device = bias.device();
        Ok((
            Some(Tensor::from_vec(df, frequencies.shape(), device)?),
            Some(Tensor::from_vec(dw, weights.shape(), device)?),
            Some(Tensor::from_vec(db, bias.shape(), device)?),
        ))
    }
}

impl Periodic {
    /// A task per feature: each owns its rows of the three gradients.
    fn gradients(
        &self,
        frequencies: &[f32],
        weights: &[f32],
        e: usize,
        y: &[f32],
        dy: &[f32],
    ) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let (features, n) = (self.features, frequencies.len() / self.features);
        let (mut df, mut dw) = (vec![0f32; frequencies.len()], vec![0f32; weights.len()]);
        let mut db = vec![0f32; features * e];
        df.par_chunks_mut(n)
            .zip(dw.par_chunks_mut(2 * n * e))
            .zip(db.par_chunks_mut(e))
            .enumerate()
            .for_each(|(feature, ((d_frequencies, d_weights), d_bias))| {
                embed_backward(Feature {
                    feature,
                    features,
                    x: &self.x,
                    y,
                    dy,
                    frequencies: &frequencies[feature * n..(feature + 1) * n],
                    weights: &weights[feature * 2 * n * e..(feature + 1) * 2 * n * e],
                    d_frequencies,
                    d_weights,
                    d_bias,
                });
            });
        (df, dw, db)
    }
}
