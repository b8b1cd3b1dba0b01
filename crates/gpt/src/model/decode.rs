//! Decoding token by token: each layer remembers the keys and values of the tokens so far, so that a new token costs one
//! token's work. The scores are those of a pass over the whole sequence.

use std::sync::Arc;

use candle_core::{Device, Tensor};

use super::block::turns;
use super::ready::Ready;
use super::{Gpt, Positions};
use crate::Error;
use crate::kernels::cached::attend_cached;
use crate::kernels::host::read;

/// The keys and values of one layer, `[tokens, shared heads · e]` each.
#[derive(Clone, Debug, Default)]
pub(super) struct LayerCache {
    pub(super) keys: Vec<f32>,
    pub(super) values: Vec<f32>,
}

impl LayerCache {
    /// Remembers new keys and values, and lets each new query hear all up to its own place: → `[new tokens, heads·e]`.
    pub(super) fn attend(
        &mut self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        head: usize,
    ) -> Result<Tensor, Error> {
        let device = q.device();
        let (new, width) = k.dims2()?;
        let append = |tensor: &Tensor, to: &mut Vec<f32>| -> Result<(), Error> {
            Ok(read(&tensor.to_device(&Device::Cpu)?, |rows| to.extend_from_slice(rows))?)
        };
        append(k, &mut self.keys)?;
        append(v, &mut self.values)?;
        let heard = read(&q.to_device(&Device::Cpu)?, |q| {
            attend_cached(q, (&self.keys, &self.values), new, (width, head))
        })?;
        Ok(Tensor::from_vec(heard, q.shape(), device)?)
    }
}

/// A sequence being written: the model, and what each layer remembers of it.
#[derive(Debug)]
pub struct Decoder<'a> {
    gpt: &'a Gpt,
    layers: Vec<LayerCache>,
    length: usize,
    /// The packed weights, if it goes without candle's graph.
    ready: Option<Arc<Ready>>,
}

impl<'a> Decoder<'a> {
    /// An empty sequence.
    pub fn new(gpt: &'a Gpt) -> Self {
        let layers = vec![LayerCache::default(); gpt.config().layers];
        Self { gpt, layers, length: 0, ready: None }
    }

    /// Tokens so far.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Appends tokens and returns the scores of the one after them, `vocabulary` numbers.
    ///
    /// # Errors
    /// [`Error::Empty`] without tokens, [`Error::Recipe`] if the sequence would outgrow the context, and
    /// [`Error::Token`] for an id beyond the vocabulary.
    pub fn push(&mut self, tokens: &[u32]) -> Result<Vec<f32>, Error> {
        if tokens.is_empty() {
            return Err(Error::Empty { what: "a token sequence" });
        }
        let gpt = self.gpt;
        let end = self.length + tokens.len();
        gpt.check_length(end)?;
        gpt.check_ids(tokens)?;
        if self.length == 0 {
            self.ready = gpt.ready()?;
        }
        let x = self.embed(tokens, end)?.detach();
        let last = match &self.ready {
            Some(ready) => {
                let mut x = read(&x, <[f32]>::to_vec)?;
                let last = ready.extended(&mut x, self.length..end, &mut self.layers);
                Tensor::from_vec(last, (1, gpt.config().width), gpt.parameters().device())?
            }
            None => self.extended(x, end)?,
        };
        self.length = end;
        Ok(gpt.logits(&last)?.squeeze(0)?.to_vec1::<f32>()?)
    }

    /// The final hidden state of the last token, `[1, width]`, through candle's graph.
    fn extended(&mut self, mut x: Tensor, end: usize) -> Result<Tensor, Error> {
        let turns = turns(self.gpt.config(), self.length..end);
        for (block, cache) in self.gpt.blocks.iter().zip(&mut self.layers) {
            x = block.extend(&x, turns.as_ref(), cache)?; // [new tokens, width]
        }
        self.gpt.norm.forward(&x.narrow(0, x.dim(0)? - 1, 1)?.contiguous()?)
    }

    fn embed(&self, tokens: &[u32], end: usize) -> Result<Tensor, Error> {
        let device = self.gpt.parameters().device();
        let ids = Tensor::from_slice(tokens, tokens.len(), device)?;
        let x = self.gpt.tokens.index_select(&ids, 0)?;
        match (&self.gpt.positions, self.gpt.config().positions) {
            (Some(positions), Positions::Learned) => {
                let places = Tensor::arange(self.length as u32, end as u32, device)?;
                Ok((x + positions.index_select(&places, 0)?)?)
            }
            _ => Ok(x),
        }
    }
}
