//! The tabular tower: embeddings of numbers and categories, crossed and deep in parallel, as DCNv2 has it.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::encoder::TabularBatch;
use super::{Cross, Piecewise, TabularEncoder};
use crate::layers::{Linear, Noise, Parameters};
use crate::{Error, Kernels};

/// How a number becomes several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NumberEmbedding {
    /// Periodic: ReLU(W·[cos 2πcx ‖ sin 2πcx] + b).
    #[default]
    Plr,
    /// Piecewise linear over bins of equal mass.
    Ple,
}

/// The sizes of the tower.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TowerConfig {
    /// How numbers are embedded.
    pub embedding: NumberEmbedding,
    /// Bins per number, if they are embedded piecewise linearly.
    pub bins: usize,
    /// Frequencies per number.
    pub frequencies: usize,
    /// σ of the frequencies' start, N(0, σ²): low ones give smooth functions.
    pub frequency_scale: f64,
    /// Numbers that each number becomes.
    pub number_width: usize,
    /// Numbers that each category becomes.
    pub category_width: usize,
    /// Cross layers.
    pub cross_layers: usize,
    /// Rank of a cross layer's matrix; 0 is full.
    pub cross_rank: usize,
    /// Widths of the deep part.
    pub deep: Vec<usize>,
    /// Width of the result.
    pub width: usize,
    /// Share of elements dropped in training.
    pub dropout: f64,
}

impl Default for TowerConfig {
    fn default() -> Self {
        Self {
            embedding: NumberEmbedding::Plr,
            bins: 16,
            frequencies: 12,
            frequency_scale: 0.1,
            number_width: 8,
            category_width: 8,
            cross_layers: 2,
            cross_rank: 32,
            deep: vec![192, 96],
            width: 64,
            dropout: 0.1,
        }
    }
}

/// Encoded rows → `[rows, width]`.
///
/// Numbers pass through embeddings (PLR: ReLU(W·[cos 2πcx ‖ sin 2πcx] + b), a map per feature; or [`Piecewise`]) and also
/// enter as they are; categories through a table of vectors.
///
/// # Source
/// Gorishniy, Rubachev & Babenko (2022), "On embeddings for numerical features in tabular deep learning", §3.3; Wang et
/// al. (2021), "DCN V2", figure 1 (b).
#[derive(Debug)]
pub struct Tower {
    numbers: Option<Numbers>,
    categories: Option<Tensor>, // [codes, category width]
    cross: Cross,
    deep: Vec<Linear>,
    out: Linear,
    dropout: f64,
    kernels: Kernels,
}

#[derive(Debug)]
enum Numbers {
    Periodic(Periodic),
    Piecewise(Piecewise),
}

impl Numbers {
    fn new(parameters: &mut Parameters, numbers: usize, config: &TowerConfig) -> Result<Self, Error> {
        Ok(match config.embedding {
            NumberEmbedding::Plr => Self::Periodic(Periodic::new(parameters, numbers, config)?),
            NumberEmbedding::Ple => {
                Self::Piecewise(Piecewise::new(parameters, numbers, config.bins, config.number_width)?)
            }
        })
    }

    /// `[rows, numbers]` → `[rows, numbers · e]`.
    fn forward(&self, x: &Tensor, kernels: Kernels) -> Result<Tensor, Error> {
        match self {
            Self::Periodic(Periodic { frequencies, weight, bias }) => {
                Ok(kernels.periodic(x, frequencies, weight, bias)?)
            }
            Self::Piecewise(pieces) => pieces.forward(x),
        }
    }
}

#[derive(Debug)]
struct Periodic {
    frequencies: Tensor, // [numbers, n]
    weight: Tensor,      // [numbers, 2n, e]
    bias: Tensor,        // [numbers, e]
}

impl Periodic {
    fn new(parameters: &mut Parameters, numbers: usize, config: &TowerConfig) -> Result<Self, Error> {
        let (n, e) = (config.frequencies, config.number_width);
        let bound = 1.0 / (2.0 * n as f64).sqrt();
        Ok(Self {
            frequencies: parameters.normal(
                "tower.numbers.frequencies",
                (numbers, n),
                config.frequency_scale,
            )?,
            weight: parameters.uniform("tower.numbers.weight", (numbers, 2 * n, e), bound)?,
            bias: parameters.uniform("tower.numbers.bias", (numbers, e), bound)?,
        })
    }
}

impl TowerConfig {
    fn check(&self) -> Result<(), Error> {
        let sizes = [self.frequencies, self.bins, self.number_width, self.category_width, self.width];
        if sizes.contains(&0) || self.deep.contains(&0) {
            return Err(Error::Recipe { reason: "every size of the tower is at least 1".into() });
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(Error::Recipe { reason: "dropout is at least 0 and below 1".into() });
        }
        Ok(())
    }
}

impl Tower {
    /// A tower for the tables that an encoder reads, with random weights.
    ///
    /// # Errors
    /// [`Error::Recipe`] if a size is 0.
    pub fn new(
        parameters: &mut Parameters,
        encoder: &TabularEncoder,
        config: &TowerConfig,
        kernels: Kernels,
    ) -> Result<Self, Error> {
        config.check()?;
        let (numbers, categories) = (encoder.numbers(), encoder.categories());
        let input =
            numbers * (config.number_width + 1) + encoder.indicators() + categories * config.category_width;
        let embedded = (numbers > 0).then(|| Numbers::new(parameters, numbers, config)).transpose()?;
        let table = (encoder.codes(), config.category_width);
        let vectors =
            (categories > 0).then(|| parameters.normal("tower.categories", table, 0.1)).transpose()?;
        let (layers, rank) = (config.cross_layers, config.cross_rank);
        let cross = Cross::new(parameters, "tower.cross", input, layers, rank, kernels)?;
        let widths: Vec<usize> = std::iter::once(input).chain(config.deep.iter().copied()).collect();
        let deep = widths
            .windows(2)
            .enumerate()
            .map(|(i, pair)| {
                Linear::uniform(parameters, &format!("tower.deep.{i}"), (pair[0], pair[1]), kernels)
            })
            .collect::<Result<_, _>>()?;
        let both = input + widths[widths.len() - 1];
        let out = Linear::uniform(parameters, "tower.out", (both, config.width), kernels)?;
        Ok(Self {
            numbers: embedded,
            categories: vectors,
            cross,
            deep,
            out,
            dropout: config.dropout,
            kernels,
        })
    }

    pub(crate) fn forward(&self, batch: &TabularBatch, noise: &mut Noise) -> Result<Tensor, Error> {
        let input = self.input(batch)?; // [rows, input]
        let input = noise.drop(self.kernels, input, self.dropout / 2.0)?;
        let crossed = self.cross.forward(&input)?; // [rows, input]
        let mut deep = input;
        for layer in &self.deep {
            deep = noise.drop(self.kernels, layer.forward(&deep)?.relu()?, self.dropout)?; // [rows, deep]
        }
        let crossed = noise.drop(self.kernels, crossed, self.dropout)?;
        Ok(self.out.forward(&Tensor::cat(&[crossed, deep], 1)?)?.relu()?) // [rows, width]
    }

    fn input(&self, batch: &TabularBatch) -> Result<Tensor, Error> {
        let mut parts = Vec::with_capacity(4);
        if let Some(numbers) = &self.numbers {
            parts.push(numbers.forward(&batch.numbers, self.kernels)?);
            parts.push(batch.numbers.clone());
            parts.push(batch.missing.clone());
        }
        if let Some(vectors) = &self.categories {
            parts.push(vectors.index_select(&batch.codes, 0)?.reshape((batch.rows, ()))?);
        }
        parts.retain(|part| part.elem_count() > 0);
        Ok(Tensor::cat(&parts, 1)?)
    }
}
