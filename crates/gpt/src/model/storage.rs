//! A GPT as two files: `config.json` and `model.safetensors`, under Hugging Face's GPT-2 names.
//!
//! A directory written here loads in `transformers` if positions are learned, and a GPT-2 from there loads here.

use std::path::Path;

use candle_core::Device;
use serde::{Deserialize, Serialize};

use super::{Gpt, GptConfig, Positions};
use crate::error::check_format;
use crate::{Error, files};

const FORMAT: u32 = 1;

/// The keys of GPT-2's `config.json` that we need, and our own; other keys are Hugging Face's and not ours to refuse.
#[derive(Serialize, Deserialize)]
struct StoredConfig {
    #[serde(default = "current")]
    foretime_format: u32,
    #[serde(default = "learned")]
    foretime_positions: Positions,
    model_type: String,
    activation_function: String,
    layer_norm_epsilon: f64,
    vocab_size: usize,
    n_positions: usize,
    n_embd: usize,
    n_layer: usize,
    n_head: usize,
    n_inner: Option<usize>,
    #[serde(default)]
    resid_pdrop: f64,
}

fn current() -> u32 {
    FORMAT
}

fn learned() -> Positions {
    Positions::Learned
}

impl StoredConfig {
    fn of(config: &GptConfig) -> Self {
        Self {
            foretime_format: FORMAT,
            foretime_positions: config.positions,
            model_type: "gpt2".into(),
            activation_function: "gelu_new".into(),
            layer_norm_epsilon: f64::from(crate::kernels::LAYER_NORM_EPSILON),
            vocab_size: config.vocabulary,
            n_positions: config.context,
            n_embd: config.width,
            n_layer: config.layers,
            n_head: config.heads,
            n_inner: None,
            resid_pdrop: config.dropout,
        }
    }

    fn config(&self) -> Result<GptConfig, Error> {
        check_format("a GPT", self.foretime_format, FORMAT)?;
        let usual_inner = self.n_inner.is_none_or(|inner| inner == 4 * self.n_embd);
        let usual_epsilon = (self.layer_norm_epsilon - 1e-5).abs() < 1e-9;
        if self.model_type != "gpt2"
            || self.activation_function != "gelu_new"
            || !usual_inner
            || !usual_epsilon
        {
            let reason = "only GPT-2 with gelu_new, four-fold MLP and ε = 1e-5 is known".to_owned();
            return Err(Error::Recipe { reason });
        }
        Ok(GptConfig {
            vocabulary: self.vocab_size,
            context: self.n_positions,
            width: self.n_embd,
            layers: self.n_layer,
            heads: self.n_head,
            positions: self.foretime_positions,
            dropout: self.resid_pdrop,
        })
    }
}

impl Gpt {
    /// Writes `config.json` and `model.safetensors` into a directory, each whole or not at all.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be written.
    pub fn save(&self, directory: &Path) -> Result<(), Error> {
        files::make_directory(directory)?;
        files::write_tensors(&directory.join("model.safetensors"), &self.parameters.snapshot()?)?;
        files::write_json(&directory.join("config.json"), "a GPT's config", &StoredConfig::of(&self.config))
    }

    /// Reads a directory written by [`Gpt::save`] or by `transformers` for GPT-2.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Json`], [`Error::Format`] or [`Error::Weights`], as it is unreadable or unfit.
    pub fn load(directory: &Path, device: &Device) -> Result<Self, Error> {
        let stored: StoredConfig = files::read_json(&directory.join("config.json"), "a GPT's config")?;
        let gpt = Self::new(stored.config()?, 0, device)?;
        gpt.parameters.load(&files::read_tensors(&directory.join("model.safetensors"), device)?)?;
        Ok(gpt)
    }
}
