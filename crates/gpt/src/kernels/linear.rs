//! y = x·W + b in one operation: the bias joins the product in place, and its gradient is a parallel column sum.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::host::{ELEMENTS_PER_TASK, column_sums, floats, read};

/// x `[rows, in]`, W `[in, out]`, b `[out]` → `[rows, out]`.
pub(crate) struct Linear;

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "fused-linear"
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
        let (rows, inner) = x_layout.shape().dims2()?;
        let (_, out) = w_layout.shape().dims2()?;
        let bias = floats(b, b_layout)?;
        let CpuStorage::F32(mut y) = x.matmul(w, (1, rows, out, inner), x_layout, w_layout)? else {
            bail!("fused kernels compute in f32")
        };
        let rows_per_task = (ELEMENTS_PER_TASK / out).max(1);
        y.par_chunks_mut(rows_per_task * out).for_each(|chunk| {
            for row in chunk.chunks_exact_mut(out) {
                for (y, b) in row.iter_mut().zip(bias) {
                    *y += b;
                }
            }
        });
        Ok((CpuStorage::F32(y), Shape::from((rows, out))))
    }

    /// ∂x = ∂y·Wᵀ, ∂W = xᵀ·∂y, ∂b = Σ over rows of ∂y.
    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let width = b.dim(0)?;
        let wanted = |tensor: &Tensor, gradient: &dyn Fn() -> Result<Tensor>| {
            tensor.track_op().then(gradient).transpose()
        };
        let dx = wanted(x, &|| dy.matmul(&w.t()?))?;
        let dw = wanted(w, &|| x.t()?.matmul(dy))?;
        let db = wanted(b, &|| Tensor::from_vec(read(dy, |dy| column_sums(dy, width))?, width, b.device()))?;
        Ok((dx, dw, db))
    }
}
