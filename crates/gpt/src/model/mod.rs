//! A decoder-only GPT over sequences stored end to end.
//!
//! Token embedding (plus learned positions, if any), pre-norm blocks, a final norm, and a head tied to the embedding.
//! Sequences are packed, not padded: a batch of unequal histories costs exactly its tokens.

mod batch;
mod config;
mod storage;

use candle_core::{Device, Tensor};

pub use batch::Batch;
pub use config::{GptConfig, Positions};

use crate::layers::{LayerNorm, Linear, Noise, Parameters};
use crate::{Error, Kernels};

/// A GPT with its weights.
#[derive(Debug)]
pub struct Gpt {
    config: GptConfig,
    kernels: Kernels,
    parameters: Parameters,
    tokens: Tensor,            // [vocabulary, width]
    positions: Option<Tensor>, // [context, width]
    blocks: Vec<Block>,
    norm: LayerNorm,
}

#[derive(Debug)]
struct Block {
    before_attention: LayerNorm,
    qkv: Linear,
    mixed: Linear,
    before_mlp: LayerNorm,
    inner: Linear,
    outer: Linear,
    heads: usize,
    dropout: f64,
    kernels: Kernels,
}

impl Gpt {
    /// A model with random weights: N(0, 0.02²), and 0.02/√(2·layers) where a block writes to the residual stream.
    ///
    /// # Errors
    /// [`Error::Recipe`] if the sizes do not fit together.
    ///
    /// # Source
    /// Radford et al. (2019), "Language models are unsupervised multitask learners".
    pub fn new(config: GptConfig, seed: u64, device: &Device) -> Result<Self, Error> {
        Self::with_kernels(config, seed, device, Kernels::for_device(device))
    }

    /// As [`Gpt::new`], with the implementation of the kernels chosen.
    ///
    /// # Errors
    /// [`Error::Recipe`] if the sizes do not fit together.
    pub fn with_kernels(
        config: GptConfig,
        seed: u64,
        device: &Device,
        kernels: Kernels,
    ) -> Result<Self, Error> {
        config.check()?;
        let mut parameters = Parameters::new(device, seed);
        let (width, deviation) = (config.width, 0.02);
        let tokens = parameters.normal("transformer.wte.weight", (config.vocabulary, width), deviation)?;
        let positions = match config.positions {
            Positions::None => None,
            Positions::Learned => {
                Some(parameters.normal("transformer.wpe.weight", (config.context, width), deviation)?)
            }
        };
        let blocks = (0..config.layers)
            .map(|layer| Block::new(&config, layer, &mut parameters, kernels))
            .collect::<Result<_, _>>()?;
        let norm = LayerNorm::new(&mut parameters, "transformer.ln_f", width, kernels)?;
        Ok(Self { config, kernels, parameters, tokens, positions, blocks, norm })
    }

    /// The sizes.
    pub fn config(&self) -> &GptConfig {
        &self.config
    }

    /// The weights, under their Hugging Face names.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The implementation that computes.
    pub fn kernels(&self) -> Kernels {
        self.kernels
    }

    /// The final hidden state of every token, `[tokens, width]`.
    ///
    /// # Errors
    /// [`Error::Recipe`] if a sequence is longer than the context.
    pub fn hidden(&self, batch: &Batch, noise: &mut Noise) -> Result<Tensor, Error> {
        let mut x = self.embed(batch, noise)?;
        for block in &self.blocks {
            x = block.forward(&x, batch, noise, None)?; // [tokens, width]
        }
        self.norm.forward(&x)
    }

    /// The final hidden state of each sequence's last token, `[sequences, width]`: what the whole history says.
    ///
    /// The last block computes only these rows after its attention; the result is that of [`Gpt::hidden`].
    ///
    /// # Errors
    /// [`Error::Recipe`] if a sequence is longer than the context.
    pub fn pooled(&self, batch: &Batch, noise: &mut Noise) -> Result<Tensor, Error> {
        let last = batch.last(self.parameters.device())?;
        let mut x = self.embed(batch, noise)?;
        for (layer, block) in self.blocks.iter().enumerate() {
            let only = (layer + 1 == self.blocks.len()).then_some(&last);
            x = block.forward(&x, batch, noise, only)?;
        }
        self.norm.forward(&x) // [sequences, width]
    }

    /// Scores of the next token, `[rows, width]` → `[rows, vocabulary]`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor, Error> {
        Ok(hidden.matmul(&self.tokens.t()?)?)
    }

    /// Mean next-token cross-entropy in nats; each sequence's last token has no target.
    ///
    /// # Errors
    /// [`Error::Recipe`] if a sequence is longer than the context.
    pub fn loss(&self, batch: &Batch, noise: &mut Noise) -> Result<Tensor, Error> {
        let logits = self.logits(&self.hidden(batch, noise)?)?;
        Ok(self.kernels.cross_entropy(&logits, &batch.targets())?)
    }

    /// The prompt followed by the `count` most likely tokens, one after the other.
    ///
    /// # Errors
    /// [`Error::Recipe`] if the sequence outgrows the context.
    pub fn greedy(&self, prompt: &[u32], count: usize) -> Result<Vec<u32>, Error> {
        let mut tokens = prompt.to_vec();
        for _ in 0..count {
            let pooled = self.pooled(&Batch::new([tokens.as_slice()])?, &mut Noise::off())?;
            let scores = self.logits(&pooled)?.squeeze(0)?;
            tokens.push(scores.argmax(0)?.to_scalar::<u32>()?);
        }
        Ok(tokens)
    }

    fn embed(&self, batch: &Batch, noise: &mut Noise) -> Result<Tensor, Error> {
        let longest = batch.longest();
        if longest > self.config.context {
            let reason = format!("{longest} tokens exceed the context of {}", self.config.context);
            return Err(Error::Recipe { reason });
        }
        let device = self.parameters.device();
        let mut x = self.tokens.index_select(&batch.ids(device)?, 0)?; // [tokens, width]
        if let Some(positions) = &self.positions {
            x = (x + positions.index_select(&batch.positions(device)?, 0)?)?;
        }
        noise.drop(self.kernels, x, self.config.dropout)
    }
}

impl Block {
    fn new(
        config: &GptConfig,
        layer: usize,
        parameters: &mut Parameters,
        kernels: Kernels,
    ) -> Result<Self, Error> {
        let (width, name) = (config.width, format!("transformer.h.{layer}"));
        let (deviation, residual) = (0.02, 0.02 / (2.0 * config.layers as f64).sqrt());
        let mut linear = |part: &str, sizes, deviation| {
            Linear::normal(parameters, &format!("{name}.{part}"), sizes, deviation, kernels)
        };
        let qkv = linear("attn.c_attn", (width, 3 * width), deviation)?;
        let mixed = linear("attn.c_proj", (width, width), residual)?;
        let inner = linear("mlp.c_fc", (width, 4 * width), deviation)?;
        let outer = linear("mlp.c_proj", (4 * width, width), residual)?;
        let mut norm = |part: &str| LayerNorm::new(parameters, &format!("{name}.{part}"), width, kernels);
        let (before_attention, before_mlp) = (norm("ln_1")?, norm("ln_2")?);
        let (heads, dropout) = (config.heads, config.dropout);
        Ok(Self { before_attention, qkv, mixed, before_mlp, inner, outer, heads, dropout, kernels })
    }

    /// x + attention(norm(x)), then x + mlp(norm(x)); with `only`, for those rows alone once attention has mixed.
    fn forward(
        &self,
        x: &Tensor,
        batch: &Batch,
        noise: &mut Noise,
        only: Option<&Tensor>,
    ) -> Result<Tensor, Error> {
        let select = |x: Tensor| -> Result<Tensor, Error> {
            only.map_or(Ok(x.clone()), |rows| Ok(x.index_select(rows, 0)?))
        };
        let qkv = self.qkv.forward(&self.before_attention.forward(x)?)?; // [tokens, 3·width]
        let heard = self.kernels.causal_attention(&qkv, self.heads, batch.offsets())?; // [tokens, width]
        let mixed = noise.drop(self.kernels, self.mixed.forward(&select(heard)?)?, self.dropout)?;
        let x = (select(x.clone())? + mixed)?; // [rows, width]
        let inner = self.kernels.gelu(&self.inner.forward(&self.before_mlp.forward(&x)?)?)?; // [rows, 4·width]
        Ok((&x + noise.drop(self.kernels, self.outer.forward(&inner)?, self.dropout)?)?) // [rows, width]
    }
}

#[cfg(test)]
mod tests;
