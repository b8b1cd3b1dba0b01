//! A GPT as two files: `config.json` and `model.safetensors`, under Hugging Face's GPT-2 names.
//!
//! A directory written here loads in `transformers` if positions are learned, and a GPT-2 from there loads here.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::{Activation, Gpt, GptConfig, NormKind, Positions};
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
    #[serde(default = "layer")]
    foretime_norm: NormKind,
    #[serde(default)]
    foretime_qk_norm: bool,
    #[serde(default)]
    foretime_key_value_heads: Option<usize>,
    #[serde(default = "yes")]
    tie_word_embeddings: bool,
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

fn layer() -> NormKind {
    NormKind::Layer
}

fn yes() -> bool {
    true
}

/// Hugging Face's word for an activation.
fn word(activation: Activation) -> &'static str {
    match activation {
        Activation::Gelu => "gelu_new",
        Activation::Relu2 => "relu2",
        Activation::Swiglu => "swiglu",
    }
}

impl StoredConfig {
    fn of(config: &GptConfig) -> Self {
        Self {
            foretime_format: FORMAT,
            foretime_positions: config.positions,
            foretime_norm: config.norm,
            foretime_qk_norm: config.qk_norm,
            foretime_key_value_heads: config.key_value_heads,
            tie_word_embeddings: config.tied,
            model_type: "gpt2".into(),
            activation_function: word(config.activation).into(),
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
        let refuse = |reason: String| Error::Recipe { reason };
        if self.model_type != "gpt2" || (self.layer_norm_epsilon - 1e-5).abs() > 1e-9 {
            return Err(refuse("only GPT-2 with ε = 1e-5 is known".into()));
        }
        let config = GptConfig { activation: self.activation()?, ..self.sizes() };
        match self.n_inner {
            Some(inner) if inner != config.inner() => {
                Err(refuse(format!("an MLP of {inner} where {} is known", config.inner())))
            }
            _ => Ok(config),
        }
    }

    fn activation(&self) -> Result<Activation, Error> {
        match self.activation_function.as_str() {
            "gelu_new" | "gelu_pytorch_tanh" => Ok(Activation::Gelu),
            "relu2" => Ok(Activation::Relu2),
            "swiglu" => Ok(Activation::Swiglu),
            other => Err(Error::Recipe { reason: format!("activation `{other}` is not known") }),
        }
    }

    fn sizes(&self) -> GptConfig {
        GptConfig {
            vocabulary: self.vocab_size,
            context: self.n_positions,
            width: self.n_embd,
            layers: self.n_layer,
            heads: self.n_head,
            key_value_heads: self.foretime_key_value_heads,
            positions: self.foretime_positions,
            norm: self.foretime_norm,
            activation: Activation::Gelu,
            qk_norm: self.foretime_qk_norm,
            tied: self.tie_word_embeddings,
            dropout: self.resid_pdrop,
        }
    }
}

/// The tensors of a language model, whose names begin with `transformer.`; those of the bare transformer, as GPT-2's own
/// files have them, do not.
fn named(tensors: HashMap<String, Tensor>) -> HashMap<String, Tensor> {
    if !tensors.contains_key("wte.weight") {
        return tensors;
    }
    tensors.into_iter().map(|(name, tensor)| (format!("transformer.{name}"), tensor)).collect()
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
        let config = stored.config()?;
        config.check()?;
        let tensors = named(files::read_tensors(&directory.join("model.safetensors"), device)?);
        config.check_stored(&tensors)?;
        let gpt = Self::new(config, 0, device)?;
        gpt.parameters.load(&tensors)?;
        Ok(gpt)
    }
}
