//! y = x·W + b in one operation: the bias joins the product in place, and its gradient is a parallel column sum.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

use super::host::{column_sums, floats, read, read2};
use super::product::{Precision, Start, View, multiply, multiply_once};

/// Below so many rows, packing the weights costs more than our product gains.
const FEW_ROWS: usize = 8;

/// x `[rows, in]`, W `[in, out]`, b `[out]` → `[rows, out]`.
pub(crate) struct Linear {
    pub(crate) precision: Precision,
}

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
        if rows < FEW_ROWS || !x_layout.is_contiguous() {
            let CpuStorage::F32(mut y) = x.matmul(w, (1, rows, out, inner), x_layout, w_layout)? else {
                bail!("fused kernels compute in f32")
            };
            for row in y.chunks_exact_mut(out) {
                row.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
            }
            return Ok((CpuStorage::F32(y), Shape::from((rows, out))));
        }
        let (x, w) = (floats(x, x_layout)?, floats(w, w_layout)?);
        let mut y = vec![0f32; rows * out];
        let factors = (View::new(x, rows, inner), View::new(w, inner, out));
        multiply_once(factors, self.precision, &mut y, Start::Row(bias), |_, _| {});
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
        let ((rows, inner), precision) = (x.dims2()?, self.precision);
        let dx = wanted(x, &|| {
            let product = |dy: &[f32], w: &[f32]| {
                multiply(View::new(dy, rows, width), View::new(w, inner, width).transposed(), precision)
            };
            Tensor::from_vec(read2(dy, w, product)?, (rows, inner), x.device())
        })?;
        let dw = wanted(w, &|| {
            let product = |x: &[f32], dy: &[f32]| {
                multiply(View::new(x, rows, inner).transposed(), View::new(dy, rows, width), precision)
            };
            Tensor::from_vec(read2(x, dy, product)?, (inner, width), w.device())
        })?;
        let db = wanted(b, &|| Tensor::from_vec(read(dy, |dy| column_sums(dy, width))?, width, b.device()))?;
        Ok((dx, dw, db))
    }
}
