//! A decoder-only GPT over sequences stored end to end.
//!
//! Token embedding (plus learned positions, if any), pre-norm blocks, a final norm, and a head that is the embedding or
//! its own matrix.
//! Sequences are packed, not padded: a batch of unequal histories costs exactly its tokens.

mod batch;
mod block;
mod config;
mod decode;
mod generate;
mod ready;
mod step;
mod storage;

use std::sync::Arc;

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};

pub use batch::Batch;
pub use config::{Activation, GptConfig, NormKind, Positions};
pub use decode::Decoder;
pub use generate::{Ended, Generation, Sampling};
pub(crate) use step::TOKENS;

use crate::layers::{Linear, Noise, Norm, Parameters};
use crate::{Error, Kernels, Precision};
use block::{Block, DEVIATION, Pass};

/// A GPT with its weights.
#[derive(Debug)]
pub struct Gpt {
    config: GptConfig,
    kernels: Kernels,
    parameters: Parameters,
    tokens: Tensor,            // [vocabulary, width]
    positions: Option<Tensor>, // [context, width]
    blocks: Vec<Block>,
    norm: Norm,
    head: Option<Tensor>, // [vocabulary, width], unless tied
    pool: Arc<step::Pool>,
    ready: Option<Arc<ready::Ready>>,
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
        let (width, deviation) = (config.width, DEVIATION);
        let tokens = parameters.normal("transformer.wte.weight", (config.vocabulary, width), deviation)?;
        let positions = match config.positions {
            Positions::None | Positions::Rotary => None,
            Positions::Learned => {
                Some(parameters.normal("transformer.wpe.weight", (config.context, width), deviation)?)
            }
        };
        let blocks = (0..config.layers)
            .map(|layer| Block::new(&config, layer, &mut parameters, kernels))
            .collect::<Result<_, _>>()?;
        let norm = block::new_norm(&config, &mut parameters, "transformer.ln_f", kernels)?;
        let mut own_head = || parameters.normal("lm_head.weight", (config.vocabulary, width), deviation);
        let head = if config.tied { None } else { Some(own_head()?) };
        let pool = Arc::default();
        Ok(Self { config, kernels, parameters, tokens, positions, blocks, norm, head, pool, ready: None })
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

    /// From now on matrix products multiply numbers of this precision. Weights stay what they are.
    pub fn use_precision(&mut self, precision: Precision) {
        let kernels = self.kernels.with_precision(precision);
        self.blocks.iter_mut().for_each(|block| block.use_kernels(kernels));
        self.norm.use_kernels(kernels);
        (self.kernels, self.ready) = (kernels, None);
    }

    /// The final hidden state of every token, `[tokens, width]`.
    ///
    /// # Errors
    /// [`Error::Recipe`] if a sequence is longer than the context.
    pub fn hidden(&self, batch: &Batch, noise: &mut Noise) -> Result<Tensor, Error> {
        let mut x = self.embed(batch, noise)?;
        let pass = Pass::new(&self.config, batch);
        for block in &self.blocks {
            x = block.forward(&x, &pass, noise, None)?; // [tokens, width]
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
        self.pooled_last(batch, 1, noise)
    }

    /// As [`Gpt::pooled`], of the last `count` tokens: `[sequences · count, width]`.
    fn pooled_last(&self, batch: &Batch, count: usize, noise: &mut Noise) -> Result<Tensor, Error> {
        batch.check_last(count)?;
        let last = batch.last_rows(count, self.parameters.device())?;
        let pass = Pass::new(&self.config, batch);
        let mut x = self.embed(batch, noise)?;
        for (layer, block) in self.blocks.iter().enumerate() {
            let only = (layer + 1 == self.blocks.len()).then_some(&last);
            x = block.forward(&x, &pass, noise, only)?;
        }
        self.norm.forward(&x) // [sequences · count, width]
    }

    /// Scores of the next token, `[rows, width]` → `[rows, vocabulary]`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor, Error> {
        Ok(hidden.matmul(&self.scorer().t()?)?)
    }

    /// Mean next-token cross-entropy in nats; each sequence's last token has no target.
    ///
    /// # Errors
    /// [`Error::Recipe`] if a sequence is longer than the context.
    pub fn loss(&self, batch: &Batch, noise: &mut Noise) -> Result<Tensor, Error> {
        self.head_loss(&self.hidden(batch, noise)?, batch)
    }

    /// The loss of [`Gpt::loss`], and the gradients of `share` times it; with `recompute` as
    /// [`Gpt::gradients_recomputed`] computes them.
    ///
    /// # Errors
    /// As [`Gpt::loss`].
    pub fn gradients(
        &self,
        batch: &Batch,
        noise: &mut Noise,
        share: f64,
        recompute: bool,
    ) -> Result<(f64, GradStore), Error> {
        if let Some(done) = self.step_by_hand(batch, noise, share, recompute)? {
            return Ok(done);
        }
        if recompute {
            return self.gradients_recomputed(batch, noise, share);
        }
        let loss = self.loss(batch, noise)?;
        Ok((f64::from(loss.to_scalar::<f32>()?), (loss * share)?.backward()?))
    }

    /// The loss of [`Gpt::loss`] and the gradients of `share` times it, keeping the activations of one block at a time: the others are
    /// computed again on the way back. Costs a third more time; the numbers are the same.
    ///
    /// # Errors
    /// [`Error::Recipe`] if a sequence is longer than the context.
    pub fn gradients_recomputed(
        &self,
        batch: &Batch,
        noise: &mut Noise,
        share: f64,
    ) -> Result<(f64, GradStore), Error> {
        let pass = Pass::new(&self.config, batch);
        let embedded = self.embed(batch, noise)?;
        let mut inputs = vec![Var::from_tensor(&embedded.detach())?];
        let mut noises = Vec::with_capacity(self.blocks.len());
        for (block, at) in self.blocks.iter().zip(0..) {
            noises.push(noise.clone());
            let x: &Var = &inputs[at];
            let y = block.forward(x, &pass, noise, None)?; // [tokens, width]
            inputs.push(Var::from_tensor(&y.detach())?);
        }
        let last = inputs.pop().ok_or(Error::Empty { what: "a GPT" })?;
        let loss = self.head_loss(&self.norm.forward(&last)?, batch)?;
        let value = f64::from(loss.to_scalar::<f32>()?);
        let mut gradients = (loss * share)?.backward()?;
        let mut slope = gradients.remove(&last);
        for ((block, x), mut noise) in self.blocks.iter().zip(&inputs).zip(noises).rev() {
            let y = block.forward(x, &pass, &mut noise, None)?;
            slope = pull_back(&y, slope, &mut gradients, Some(x))?;
        }
        pull_back(&embedded, slope, &mut gradients, None)?;
        Ok((value, gradients))
    }

    /// The mean next-token cross-entropy of final hidden states.
    fn head_loss(&self, hidden: &Tensor, batch: &Batch) -> Result<Tensor, Error> {
        Ok(self.kernels.head_loss(hidden, self.scorer(), &batch.targets())?)
    }

    /// The matrix that scores tokens, `[vocabulary, width]`.
    fn scorer(&self) -> &Tensor {
        self.head.as_ref().unwrap_or(&self.tokens)
    }

    fn check_length(&self, tokens: usize) -> Result<(), Error> {
        if tokens <= self.config.context {
            return Ok(());
        }
        Err(Error::Recipe {
            reason: format!("{tokens} tokens exceed the context of {}", self.config.context),
        })
    }

    fn check_ids(&self, ids: &[u32]) -> Result<(), Error> {
        let vocabulary = self.config.vocabulary;
        match ids.iter().find(|&&id| id as usize >= vocabulary) {
            Some(&id) => Err(Error::Token { id, vocabulary }),
            None => Ok(()),
        }
    }

    /// The blocks' linear layers under their full names.
    pub(crate) fn linears_mut(&mut self) -> impl Iterator<Item = (String, &mut Linear)> {
        self.ready = None;
        self.blocks.iter_mut().enumerate().flat_map(|(layer, block)| {
            let named = block.linears_mut().into_iter();
            named.map(move |(part, linear)| (format!("transformer.h.{layer}.{part}"), linear))
        })
    }

    /// From now on the model's own weights get no gradient: only adapters and what comes after it learn.
    pub fn freeze(&mut self) {
        self.tokens = self.tokens.detach();
        self.positions = self.positions.as_ref().map(Tensor::detach);
        self.head = self.head.as_ref().map(Tensor::detach);
        self.blocks.iter_mut().for_each(Block::freeze);
        self.norm.freeze();
    }

    fn embed(&self, batch: &Batch, noise: &mut Noise) -> Result<Tensor, Error> {
        self.check_length(batch.longest())?;
        self.check_ids(batch.raw_ids())?;
        let device = self.parameters.device();
        let mut x = self.tokens.index_select(&batch.ids(device)?, 0)?; // [tokens, width]
        if let Some(positions) = &self.positions {
            x = (x + positions.index_select(&batch.positions(device)?, 0)?)?;
        }
        noise.drop(self.kernels, x, self.config.dropout)
    }
}

/// Adds the gradients of Σ y·slope to the others, and returns the one of `input`.
fn pull_back(
    y: &Tensor,
    slope: Option<Tensor>,
    gradients: &mut GradStore,
    input: Option<&Var>,
) -> Result<Option<Tensor>, Error> {
    let Some(slope) = slope.filter(|_| y.track_op()) else { return Ok(None) };
    let mut part = y.mul(&slope.detach())?.sum_all()?.backward()?;
    let next = input.and_then(|input| part.remove(input));
    gradients.extend(part)?;
    Ok(next)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod variants;
