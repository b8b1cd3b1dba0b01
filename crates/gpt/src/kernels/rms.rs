//! RMS norm: each row to root mean square 1, then scaled.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::host::{ROWS_PER_SUM, add_up, floats, read2};
use super::simd::{dot, vectorised};

/// x `[rows, d]`, w `[d]` → w · x / √(mean(x²) + ε), over the last dimension.
///
/// # Source
/// Zhang & Sennrich (2019), "Root mean square layer normalization".
pub(crate) struct RmsNorm {
    pub(crate) epsilon: f32,
}

/// 1 / √(mean(x²) + ε).
#[inline(always)]
fn inverse_size(x: &[f32], epsilon: f32) -> f32 {
    1.0 / (dot(x, x) / x.len() as f32 + epsilon).sqrt()
}

vectorised! {
    fn normalise(x: &[f32], w: &[f32], epsilon: f32, out: &mut [f32]) {
        for (x, out) in x.chunks_exact(w.len()).zip(out.chunks_exact_mut(w.len())) {
            let inverse = inverse_size(x, epsilon);
            for ((out, x), w) in out.iter_mut().zip(x).zip(w) {
                *out = x * inverse * w;
            }
        }
    }
}

/// One run of rows: the operands, and where its gradients go.
struct Rows<'a> {
    x: &'a [f32],
    w: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
    dw: &'a mut [f32],
    epsilon: f32,
}

vectorised! {
    /// With s = 1/√(mean(x²) + ε) and g = w·∂y: ∂x = s·(g − x·s²·mean(g·x)), ∂w = Σ ∂y·x·s.
    fn normalise_backward(rows: Rows<'_>) {
        let Rows { x, w, dy, dx, dw, epsilon } = rows;
        let d = w.len();
        for ((x, dy), dx) in x.chunks_exact(d).zip(dy.chunks_exact(d)).zip(dx.chunks_exact_mut(d)) {
            let inverse = inverse_size(x, epsilon);
            for i in 0..d {
                dx[i] = w[i] * dy[i];
                dw[i] += dy[i] * x[i] * inverse;
            }
            let along = dot(dx, x) / d as f32 * inverse * inverse;
            for i in 0..d {
                dx[i] = inverse * (dx[i] - x[i] * along);
            }
        }
    }
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "fused-rms-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, w) = (floats(x, x_layout)?, floats(w, w_layout)?);
        let mut out = vec![0f32; x.len()];
        let task = ROWS_PER_SUM * w.len();
        out.par_chunks_mut(task)
            .zip(x.par_chunks(task))
            .for_each(|(out, x)| normalise(x, w, self.epsilon, out));
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let weights = w.to_vec1::<f32>()?;
        let (dx, dw) = read2(x, dy, |x, dy| self.gradients(x, &weights, dy))?;
        let device = x.device();
        Ok((Some(Tensor::from_vec(dx, x.shape(), device)?), Some(Tensor::from_vec(dw, w.shape(), device)?)))
    }
}

impl RmsNorm {
    /// `[rows, d]` → `[rows, d]`, on this thread.
    pub(crate) fn rows(&self, x: &[f32], w: &[f32], out: &mut [f32]) {
        normalise(x, w, self.epsilon, out);
    }

    fn gradients(&self, x: &[f32], w: &[f32], dy: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let (d, epsilon) = (w.len(), self.epsilon);
        let (task, mut dx) = (ROWS_PER_SUM * d, vec![0f32; x.len()]);
        let parts = dx
            .par_chunks_mut(task)
            .zip(x.par_chunks(task))
            .zip(dy.par_chunks(task))
            .map(|((dx, x), dy)| {
                let mut dw = vec![0f32; d];
                normalise_backward(Rows { x, w, dy, dx, dw: &mut dw, epsilon });
                dw
            })
            .collect();
        (dx, add_up(parts, d))
    }
}
