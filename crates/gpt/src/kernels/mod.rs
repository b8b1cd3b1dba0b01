//! The operations a training step spends its time in, each with two implementations.
//!
//! [`Kernels::Reference`] composes candle's differentiable operations and runs on any device; [`Kernels::Fused`] is our
//! own forward and backward code for the CPU. Tests hold the fused ones to the reference and to finite differences.

pub(crate) mod activation;
pub(crate) mod attention;
pub(crate) mod cached;
pub(crate) mod host;
mod linear;
pub(crate) mod loss;
pub(crate) mod norm;
mod periodic;
pub(crate) mod product;
pub(crate) mod reference;
pub(crate) mod rms;
mod rotary;
pub(crate) mod simd;

use std::sync::Arc;

use candle_core::{Device, Result, Tensor};
pub use product::Precision;

pub(crate) use rotary::Turns;

/// A target of this value is left out of the loss.
pub const IGNORED: u32 = u32::MAX;

/// ε of layer norm, as GPT-2 has it.
pub const LAYER_NORM_EPSILON: f32 = 1e-5;

/// Which implementation computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernels {
    /// Composed of candle operations: any device, the oracle in tests.
    Reference,
    /// Our own forward and backward passes: CPU and f32 only.
    Fused,
    /// As fused, but the factors of matrix products are rounded to bf16 where the processor multiplies them; weights,
    /// activations and sums stay f32.
    FusedBf16,
}

impl Kernels {
    /// The fast one where it runs.
    pub fn for_device(device: &Device) -> Self {
        if device.is_cpu() { Self::Fused } else { Self::Reference }
    }

    /// The same implementation, multiplying numbers of this precision; the reference has only one.
    #[must_use]
    pub fn with_precision(self, precision: Precision) -> Self {
        match (self, precision) {
            (Self::Reference, _) => Self::Reference,
            (_, Precision::F32) => Self::Fused,
            (_, Precision::Bf16) => Self::FusedBf16,
        }
    }

    pub(crate) fn precision(self) -> Precision {
        if self == Self::FusedBf16 { Precision::Bf16 } else { Precision::F32 }
    }

    /// Mean softmax cross-entropy of h·Eᵀ over the targets that are not [`IGNORED`]: `[rows, d]`, `[vocabulary, d]` → `[]`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn head_loss(self, hidden: &Tensor, scorer: &Tensor, targets: &Arc<[u32]>) -> Result<Tensor> {
        match self {
            Self::Reference => reference::cross_entropy(&hidden.matmul(&scorer.t()?)?, targets),
            Self::Fused | Self::FusedBf16 => {
                let (targets, precision) = (Arc::clone(targets), self.precision());
                hidden.apply_op2(scorer, loss::HeadLoss { targets, precision })
            }
        }
    }

    /// x·W + b: `[rows, in]`, `[in, out]`, `[out]` → `[rows, out]`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn linear(self, x: &Tensor, w: &Tensor, b: &Tensor) -> Result<Tensor> {
        match self {
            Self::Reference => reference::linear(x, w, b),
            Self::Fused | Self::FusedBf16 => {
                x.apply_op3(w, b, linear::Linear { precision: self.precision() })
            }
        }
    }

    /// w · (x − mean) / √(variance + ε) + b over the last dimension: `[rows, d]` → `[rows, d]`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn layer_norm(self, x: &Tensor, w: &Tensor, b: &Tensor) -> Result<Tensor> {
        match self {
            Self::Reference => reference::layer_norm(x, w, b, LAYER_NORM_EPSILON),
            Self::Fused | Self::FusedBf16 => {
                x.apply_op3(w, b, norm::LayerNorm { epsilon: LAYER_NORM_EPSILON })
            }
        }
    }

    /// w · x / √(mean(x²) + ε) over the last dimension: `[rows, d]` → `[rows, d]`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn rms_norm(self, x: &Tensor, w: &Tensor) -> Result<Tensor> {
        match self {
            Self::Reference => reference::rms_norm(x, w, LAYER_NORM_EPSILON),
            Self::Fused | Self::FusedBf16 => x.apply_op2(w, rms::RmsNorm { epsilon: LAYER_NORM_EPSILON }),
        }
    }

    /// Rotary positions: each head of `[tokens, heads·e]` turned by its token's angles.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub(crate) fn rotary(self, x: &Tensor, turns: &Arc<Turns>) -> Result<Tensor> {
        match self {
            Self::Reference => reference::rotary(x, turns),
            Self::Fused | Self::FusedBf16 => x.apply_op1(rotary::Rotary { turns: Arc::clone(turns) }),
        }
    }

    /// silu(a)·b, with a and b the halves of each row: `[rows, 2n]` → `[rows, n]`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn swiglu(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Reference => reference::swiglu(x),
            Self::Fused | Self::FusedBf16 => x.apply_op1(activation::Swiglu),
        }
    }

    /// max(x, 0)², element by element.
    ///
    /// # Errors
    /// If the operation fails.
    pub fn relu2(self, x: &Tensor) -> Result<Tensor> {
        x.relu()?.sqr()
    }

    /// GELU in its tanh form, element by element.
    ///
    /// # Errors
    /// If the operation fails.
    pub fn gelu(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Reference => reference::gelu(x),
            Self::Fused | Self::FusedBf16 => x.apply_op1(activation::Gelu),
        }
    }

    /// Causal self-attention within the sequences that `offsets` cuts: `[tokens, 3·d]` → `[tokens, d]`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn causal_attention(self, qkv: &Tensor, heads: usize, offsets: &Arc<[usize]>) -> Result<Tensor> {
        match self {
            Self::Reference => reference::causal_attention(qkv, heads, offsets),
            Self::Fused | Self::FusedBf16 => {
                let (offsets, precision) = (Arc::clone(offsets), self.precision());
                qkv.apply_op1(attention::CausalAttention { heads, offsets, precision })
            }
        }
    }

    /// Mean softmax cross-entropy in nats over the targets that are not [`IGNORED`]: `[rows, vocabulary]` → `[]`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn cross_entropy(self, logits: &Tensor, targets: &Arc<[u32]>) -> Result<Tensor> {
        match self {
            Self::Reference => reference::cross_entropy(logits, targets),
            Self::Fused | Self::FusedBf16 => {
                logits.apply_op1(loss::CrossEntropy { targets: Arc::clone(targets) })
            }
        }
    }

    /// Each element kept with probability 1 − rate and then divided by it; `key` decides which.
    ///
    /// # Errors
    /// If the operation fails.
    pub fn dropout(self, x: &Tensor, rate: f32, key: u64) -> Result<Tensor> {
        match self {
            _ if rate <= 0.0 => Ok(x.clone()),
            Self::Reference => reference::dropout(x, rate, key),
            Self::Fused | Self::FusedBf16 => x.apply_op1(activation::Dropout { rate, key }),
        }
    }

    /// ReLU(W_f·[cos(2π·c_f·x_f) ‖ sin(2π·c_f·x_f)] + b_f): `[rows, F]`, `[F, n]`, `[F, 2n, e]`, `[F, e]` →
    /// `[rows, F·e]`. x is data: it gets no gradient.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn periodic(
        self,
        x: &Tensor,
        frequencies: &Tensor,
        weights: &Tensor,
        bias: &Tensor,
    ) -> Result<Tensor> {
        match self {
            Self::Reference => reference::periodic(x, frequencies, weights, bias),
            Self::Fused | Self::FusedBf16 => {
                let features = x.dim(1)?;
                let x = host::read(x, |x| Arc::from(x))?;
                frequencies.apply_op3(weights, bias, periodic::Periodic { x, features })
            }
        }
    }
}

#[cfg(test)]
mod tests;
