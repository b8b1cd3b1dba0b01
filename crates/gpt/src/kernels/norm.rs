//! Layer norm: each row to mean 0 and variance 1, then scaled and shifted.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::host::{ROWS_PER_SUM, add_up, floats, read, read2};
use super::simd::{dot, sum, vectorised};

/// Rows that one task brings to one scale.
const ROWS_PER_TASK: usize = 64;

/// x `[rows, d]`, w `[d]`, b `[d]` → w · (x − mean) / √(variance + ε) + b, over the last dimension.
pub(crate) struct LayerNorm {
    pub(crate) epsilon: f32,
}

vectorised! {
    fn normalise(x: &[f32], w: &[f32], b: &[f32], epsilon: f32, out: &mut [f32]) {
        let d = w.len();
        for (x, out) in x.chunks_exact(d).zip(out.chunks_exact_mut(d)) {
            let inverse = centre(x, epsilon, out);
            for ((out, w), b) in out.iter_mut().zip(w).zip(b) {
                *out = *out * inverse * w + b;
            }
        }
    }
}

/// Writes x − mean and returns 1 / √(variance + ε).
#[inline(always)]
fn centre(x: &[f32], epsilon: f32, out: &mut [f32]) -> f32 {
    let d = x.len() as f32;
    let mean = sum(x) / d;
    for (out, x) in out.iter_mut().zip(x) {
        *out = x - mean;
    }
    1.0 / (dot(out, out) / d + epsilon).sqrt()
}

/// The gradients that belong to one run of rows; `scratch` holds `[x̂, w·∂y]`.
struct Rows<'a> {
    x: &'a [f32],
    w: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
    dw: &'a mut [f32],
    db: &'a mut [f32],
    scratch: &'a mut [f32],
    epsilon: f32,
}

vectorised! {
    /// Adds to ∂x. With x̂ the normalised row: ∂x = (w·∂y − mean(w·∂y) − x̂·mean(w·∂y·x̂)) / σ, ∂w = Σ ∂y·x̂, ∂b = Σ ∂y.
    fn normalise_backward(rows: Rows<'_>) {
        let Rows { x, w, dy, dx, dw, db, scratch, epsilon } = rows;
        let d = w.len();
        let (hat, weighted) = scratch.split_at_mut(d);
        for ((x, dy), dx) in x.chunks_exact(d).zip(dy.chunks_exact(d)).zip(dx.chunks_exact_mut(d)) {
            let inverse = centre(x, epsilon, hat);
            for i in 0..d {
                hat[i] *= inverse;
                weighted[i] = w[i] * dy[i];
                dw[i] += dy[i] * hat[i];
                db[i] += dy[i];
            }
            let mean = sum(weighted) / d as f32;
            let along = dot(weighted, hat) / d as f32;
            for i in 0..d {
                dx[i] += inverse * (weighted[i] - mean - hat[i] * along);
            }
        }
    }
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "fused-layer-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, w, b) = (floats(x, x_layout)?, floats(w, w_layout)?, floats(b, b_layout)?);
        let mut out = vec![0f32; x.len()];
        self.forward(x, (w, b), &mut out);
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _b: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let d = w.elem_count();
        let mut dx = vec![0f32; x.elem_count()];
        let (dw, db) = read2(x, dy, |x, dy| read(w, |w| self.backward(x, w, dy, &mut dx)))??;
        let device = x.device();
        Ok((
            Some(Tensor::from_vec(dx, x.shape(), device)?),
            Some(Tensor::from_vec(dw, d, device)?),
            Some(Tensor::from_vec(db, d, device)?),
        ))
    }
}

impl LayerNorm {
    /// `[rows, d]` → `[rows, d]`.
    pub(crate) fn forward(&self, x: &[f32], (w, b): (&[f32], &[f32]), out: &mut [f32]) {
        let task = ROWS_PER_TASK * w.len();
        out.par_chunks_mut(task)
            .zip(x.par_chunks(task))
            .for_each(|(out, x)| normalise(x, w, b, self.epsilon, out));
    }

    /// As [`LayerNorm::forward`], on this thread.
    pub(crate) fn rows(&self, x: &[f32], (w, b): (&[f32], &[f32]), out: &mut [f32]) {
        normalise(x, w, b, self.epsilon, out);
    }

    /// Adds ∂x to `dx` and returns (∂w, ∂b).
    pub(crate) fn backward(&self, x: &[f32], w: &[f32], dy: &[f32], dx: &mut [f32]) -> (Vec<f32>, Vec<f32>) {
        let d = w.len();
        let task = ROWS_PER_SUM * d;
        let (dw, db) = dx
            .par_chunks_mut(task)
            .zip(x.par_chunks(task))
            .zip(dy.par_chunks(task))
            .map(|((dx, x), dy)| {
                let (mut dw, mut db, mut scratch) = (vec![0f32; d], vec![0f32; d], vec![0f32; 2 * d]);
                let (dw_rows, db_rows, scratch) = (&mut dw, &mut db, &mut scratch);
                normalise_backward(Rows {
                    x,
                    w,
                    dy,
                    dx,
                    dw: dw_rows,
                    db: db_rows,
                    scratch,
                    epsilon: self.epsilon,
                });
                (dw, db)
            })
            .unzip();
        (add_up(dw, d), add_up(db, d))
    }
}
