//! Cross layers: explicit products of features.

use candle_core::Tensor;

use crate::layers::{Linear, Parameters};
use crate::{Error, Kernels};

/// Cross layers of DCNv2: x_{l+1} = x₀ ⊙ (W_l·x_l + b_l) + x_l, with W_l full, or of low rank as U_l·V_l.
///
/// After L layers the output holds products of up to L + 1 features.
///
/// # Source
/// Wang et al. (2021), "DCN V2: Improved deep & cross network", equations 1 and 3.
#[derive(Clone, Debug)]
pub struct Cross {
    layers: Vec<Product>,
}

#[derive(Clone, Debug)]
enum Product {
    Full(Linear),
    LowRank { into: Tensor, out: Linear },
}

impl Product {
    fn forward(&self, x: &Tensor) -> Result<Tensor, Error> {
        match self {
            Self::Full(map) => map.forward(x),
            Self::LowRank { into, out } => out.forward(&x.matmul(into)?), // [rows, rank] → [rows, width]
        }
    }
}

impl Cross {
    /// So many layers over `width` features; `rank` 0 or at least the width means full matrices. Parameters are named
    /// `{name}.{layer}.weight` and `.bias`, and `{name}.{layer}.into` (`[width, rank]`) if of low rank.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn new(
        parameters: &mut Parameters,
        name: &str,
        width: usize,
        layers: usize,
        rank: usize,
        kernels: Kernels,
    ) -> Result<Self, Error> {
        let layers = (0..layers)
            .map(|layer| {
                let name = format!("{name}.{layer}");
                if rank == 0 || rank >= width {
                    return Ok(Product::Full(Linear::uniform(parameters, &name, (width, width), kernels)?));
                }
                let bound = 1.0 / (width as f64).sqrt();
                let into = parameters.uniform(&format!("{name}.into"), (width, rank), bound)?;
                let out = Linear::uniform(parameters, &name, (rank, width), kernels)?;
                Ok(Product::LowRank { into, out })
            })
            .collect::<Result<_, Error>>()?;
        Ok(Self { layers })
    }

    /// `[rows, width]` → `[rows, width]`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn forward(&self, first: &Tensor) -> Result<Tensor, Error> {
        let mut x = first.clone();
        for layer in &self.layers {
            x = ((first * layer.forward(&x)?)? + x)?; // [rows, width]
        }
        Ok(x)
    }
}
