//! The trainable part beside the backbone: the tower, its direct logit, and the fusing MLP.

use candle_core::{Device, Tensor};

use super::FusionRecipe;
use crate::layers::{Linear, Noise, Norm, Parameters};
use crate::tabular::{TabularBatch, Tower};
use crate::{Error, Kernels, TabularEncoder};

#[derive(Debug)]
pub(super) struct Network {
    parameters: Parameters,
    tower: Tower,
    direct: Linear,
    fusing: Option<Fusing>,
    kernels: Kernels,
}

#[derive(Debug)]
struct Fusing {
    norm: Norm,
    hidden: Linear,
    out: Linear,
    dropout: f64,
}

impl Network {
    /// `history_width` is the backbone's width, if there is one.
    pub(super) fn new(
        recipe: &FusionRecipe,
        encoder: &TabularEncoder,
        history_width: Option<usize>,
        device: &Device,
    ) -> Result<Self, Error> {
        let kernels = Kernels::for_device(device);
        let mut parameters = Parameters::new(device, recipe.seed);
        let tower = Tower::new(&mut parameters, encoder, &recipe.tower, kernels)?;
        let width = recipe.tower.width;
        let direct = Linear::uniform(&mut parameters, "direct", (width, 1), kernels)?;
        let fusing = history_width
            .map(|history| Fusing::new(&mut parameters, recipe, (history, width), kernels))
            .transpose()?;
        Ok(Self { parameters, tower, direct, fusing, kernels })
    }

    pub(super) fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    pub(super) fn kernels(&self) -> Kernels {
        self.kernels
    }

    /// `[rows, width]`.
    pub(super) fn tower(&self, batch: &TabularBatch, noise: &mut Noise) -> Result<Tensor, Error> {
        self.tower.forward(batch, noise)
    }

    /// The logit of the table alone: `[rows, width]` → `[rows]`.
    pub(super) fn tabular(&self, tower: &Tensor) -> Result<Tensor, Error> {
        Ok(self.direct.forward(tower)?.squeeze(1)?)
    }

    /// The logit of table and history: `[rows, width]` and `[rows, history width]` → `[rows]`.
    pub(super) fn joint(&self, tower: &Tensor, pooled: &Tensor, noise: &mut Noise) -> Result<Tensor, Error> {
        let direct = self.tabular(tower)?;
        let Some(fusing) = &self.fusing else { return Ok(direct) };
        let both = Tensor::cat(&[&fusing.norm.forward(pooled)?, tower], 1)?; // [rows, history + width]
        let hidden = self.kernels.gelu(&fusing.hidden.forward(&both)?)?; // [rows, head width]
        let hidden = noise.drop(self.kernels, hidden, fusing.dropout)?;
        Ok((direct + fusing.out.forward(&hidden)?.squeeze(1)?)?)
    }
}

impl Fusing {
    /// The last layer starts near 0, so that joint training starts from the tower's own logit.
    fn new(
        parameters: &mut Parameters,
        recipe: &FusionRecipe,
        (history, width): (usize, usize),
        kernels: Kernels,
    ) -> Result<Self, Error> {
        let norm = Norm::layer(parameters, "fusing.norm", history, kernels)?;
        let hidden =
            Linear::uniform(parameters, "fusing.hidden", (history + width, recipe.head_width), kernels)?;
        let out = Linear::normal(parameters, "fusing.out", (recipe.head_width, 1), 0.01, kernels)?;
        Ok(Self { norm, hidden, out, dropout: recipe.head_dropout })
    }
}
