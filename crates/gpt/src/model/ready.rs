//! Reading without learning: the forward pass over slices, with weights packed for the products and adapters merged into them.
//!
//! Between one attention and the next a row needs no other row, so a task takes a few of them from what they heard to the next
//! block's queries, keys and values while they are in the processor's cache. Where only last tokens are asked for, the last
//! block computes keys and values of all tokens and everything else of the last ones. For models of GPT-2's parts; others
//! go through candle's graph, which is the reference here.

use std::sync::Arc;

use candle_core::Tensor;
use rayon::prelude::*;

use super::block::Block;
use super::decode::LayerCache;
use super::step::{NORM, Pool, TOKENS};
use super::{Batch, Gpt};
use crate::kernels::activation::gelu_in_place;
use crate::kernels::attention::CausalAttention;
use crate::kernels::cached::{attend_cached, attend_last};
use crate::kernels::host::{Held, read};
use crate::kernels::loss::HeadLoss;
use crate::kernels::product::{Packed, Precision, Start, View};
use crate::kernels::simd::add_scaled;
use crate::layers::{Linear, Noise, Norm};
use crate::{Error, Kernels};

/// At most so many rows go together from one attention to the next.
const ROWS: usize = 128;

/// Scale and shift of a layer norm.
struct Scale {
    w: Vec<f32>,
    b: Vec<f32>,
}

impl Scale {
    fn new(norm: &Norm) -> Result<Option<Self>, Error> {
        let Some((w, b)) = norm.layer_tensors() else { return Ok(None) };
        Ok(Some(Self { w: read(w, <[f32]>::to_vec)?, b: read(b, <[f32]>::to_vec)? }))
    }

    fn norm(&self, x: &[f32], out: &mut [f32]) {
        NORM.rows(x, (&self.w, &self.b), out);
    }
}

/// Some columns of a linear layer, packed.
struct Layer {
    factor: Packed,
    bias: Vec<f32>,
    inputs: usize,
}

impl Layer {
    /// The columns from `first` on, so many.
    fn columns(
        weight: &Tensor,
        bias: &Tensor,
        (first, count): (usize, usize),
        precision: Precision,
    ) -> Result<Self, Error> {
        let (inputs, outputs) = weight.dims2()?;
        let bias = read(bias, |bias| bias[first..first + count].to_vec())?;
        let factor = read(weight, |weight| {
            Packed::new(View::strided(&weight[first..], (inputs, count), outputs), precision)
        })?;
        Ok(Self { factor, bias, inputs })
    }

    fn new(linear: &Linear, precision: Precision) -> Result<Self, Error> {
        let (weight, bias) = linear.merged()?;
        Self::columns(&weight, bias, (0, bias.elem_count()), precision)
    }

    /// out ← x·W + b, on this thread.
    fn write(&self, x: &[f32], out: &mut [f32]) {
        self.multiply(x, out, Start::Row(&self.bias));
    }

    /// out ← out + x·W + b, on this thread.
    fn add(&self, x: &[f32], out: &mut [f32]) {
        out.chunks_exact_mut(self.bias.len()).for_each(|row| add_scaled(row, 1.0, &self.bias));
        self.multiply(x, out, Start::Out);
    }

    fn multiply(&self, x: &[f32], out: &mut [f32], start: Start<'_>) {
        let (x, outputs) = (View::new(x, x.len() / self.inputs, self.inputs), self.bias.len());
        self.factor.multiply_here(x, (out, outputs, outputs), start);
    }
}

/// A block that is read.
struct Reading {
    before_attention: Scale,
    qkv: Layer,
    mixed: Layer,
    before_mlp: Scale,
    inner: Layer,
    outer: Layer,
}

impl Reading {
    fn new(block: &Block, precision: Precision) -> Result<Option<Self>, Error> {
        let ([before_attention, before_mlp], [qkv, mixed, inner, outer]) = block.parts();
        let (Some(before_attention), Some(before_mlp)) =
            (Scale::new(before_attention)?, Scale::new(before_mlp)?)
        else {
            return Ok(None);
        };
        let layer = |linear| Layer::new(linear, precision);
        let (qkv, mixed, inner, outer) = (layer(qkv)?, layer(mixed)?, layer(inner)?, layer(outer)?);
        Ok(Some(Self { before_attention, qkv, mixed, before_mlp, inner, outer }))
    }
}

/// What rows become after a block's attention: normed, and perhaps through a layer.
type Next<'a> = (&'a Scale, Option<&'a Layer>);

/// The weights of a model, ready to be read with.
pub(super) struct Ready {
    blocks: Vec<Reading>,
    /// The last block's queries.
    asking: Layer,
    /// The last block's keys and values.
    heard: Layer,
    norm: Scale,
    heads: usize,
    width: usize,
    precision: Precision,
    pool: Arc<Pool>,
}

impl std::fmt::Debug for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ready").field("blocks", &self.blocks.len()).finish_non_exhaustive()
    }
}

impl Ready {
    /// Nothing if the model has other parts than GPT-2's, or its kernels are not ours.
    fn new(gpt: &Gpt) -> Result<Option<Self>, Error> {
        let ours = gpt.kernels != Kernels::Reference && gpt.parameters.device().is_cpu();
        if !ours || !gpt.config.steps_by_hand() {
            return Ok(None);
        }
        let (precision, width) = (gpt.kernels.precision(), gpt.config.width);
        let blocks = gpt.blocks.iter().map(|block| Reading::new(block, precision));
        let blocks = blocks.collect::<Result<Option<Vec<_>>, _>>()?;
        let (Some(blocks), Some(norm), Some(last)) = (blocks, Scale::new(&gpt.norm)?, gpt.blocks.last())
        else {
            return Ok(None);
        };
        let (weight, bias) = last.parts().1[0].merged()?;
        let part = |from, count| Layer::columns(&weight, bias, (from, count), precision);
        let (asking, heard) = (part(0, width)?, part(width, 2 * width)?);
        let (heads, pool) = (gpt.config.heads, Arc::clone(&gpt.pool));
        Ok(Some(Self { blocks, asking, heard, norm, heads, width, precision, pool }))
    }

    fn attention(&self, batch: &Batch) -> CausalAttention {
        CausalAttention { heads: self.heads, offsets: batch.offsets().clone(), precision: self.precision }
    }

    /// The rows of `x` after the attention of `block`, if there is one: `x` itself, and what comes `next`.
    fn rows(&self, block: Option<&Reading>, next: Next<'_>, heard: &[f32], x: &mut [f32], out: &mut [f32]) {
        let mut normed = self.pool.take(x.len());
        if let Some(block) = block {
            block.mixed.add(heard, x);
            block.before_mlp.norm(x, &mut normed);
            let mut inside = self.pool.take(x.len() / self.width * block.inner.bias.len());
            block.inner.write(&normed, &mut inside);
            gelu_in_place(&mut inside);
            block.outer.add(&inside, x);
            self.pool.give([inside]);
        }
        match next {
            (norm, None) => norm.norm(x, out),
            (norm, Some(layer)) => {
                norm.norm(x, &mut normed);
                layer.write(&normed, out);
            }
        }
        self.pool.give([normed]);
    }

    /// As [`Ready::rows`], on all threads.
    fn advance(
        &self,
        block: Option<&Reading>,
        next: Next<'_>,
        heard: &[f32],
        x: &mut [f32],
        out: &mut [f32],
    ) {
        let (width, rows) = (self.width, x.len() / self.width);
        let together = rows.div_ceil(4 * rayon::current_num_threads()).clamp(16, ROWS).next_multiple_of(8);
        let outputs = out.len() / rows;
        x.par_chunks_mut(together * width).zip(out.par_chunks_mut(together * outputs)).enumerate().for_each(
            |(task, (x, out))| {
                let heard = block.map_or(&heard[..0], |_| &heard[task * together * width..][..x.len()]);
                self.rows(block, next, heard, x, out);
            },
        );
    }

    /// From embedded tokens to the final norm; `attend` turns a block's queries, keys and values into what is heard.
    fn through(&self, x: &mut [f32], out: &mut [f32], mut attend: impl FnMut(usize, &[f32], &mut [f32])) {
        let (mut qkv, mut heard) = (self.pool.take(3 * x.len()), self.pool.take(x.len()));
        let mut before = None;
        for (layer, block) in self.blocks.iter().enumerate() {
            self.advance(before, (&block.before_attention, Some(&block.qkv)), &heard, x, &mut qkv);
            attend(layer, &qkv, &mut heard);
            before = Some(block);
        }
        self.advance(before, (&self.norm, None), &heard, x, out);
        self.pool.give([qkv, heard]);
    }

    /// The final hidden states of all tokens.
    fn states(&self, x: &mut [f32], batch: &Batch, out: &mut [f32]) {
        let attention = self.attention(batch);
        self.through(x, out, |_, qkv, heard| attention.forward(qkv, self.width, heard));
    }

    /// The final hidden states of last tokens.
    fn last(&self, x: &mut [f32], batch: &Batch, out: &mut [f32]) {
        let (width, attention) = (self.width, self.attention(batch));
        let (mut qkv, mut heard) = (self.pool.take(3 * x.len()), self.pool.take(x.len()));
        let Some((last, earlier)) = self.blocks.split_last() else { return };
        let mut before = None;
        for block in earlier {
            self.advance(before, (&block.before_attention, Some(&block.qkv)), &heard, x, &mut qkv);
            attention.forward(&qkv, width, &mut heard);
            before = Some(block);
        }
        qkv.truncate(2 * x.len());
        self.advance(before, (&last.before_attention, Some(&self.heard)), &heard, x, &mut qkv);
        let ends = batch.offsets()[1..].iter().map(|end| &x[(end - 1) * width..end * width]);
        let mut rows: Vec<f32> = ends.flatten().copied().collect(); // [sequences, width]
        let mut queries = vec![0f32; rows.len()];
        let asking = (&last.before_attention, Some(&self.asking));
        self.advance(None, asking, &[], &mut rows, &mut queries);
        let told = attend_last(&queries, &qkv, batch.offsets(), (width, width / self.heads));
        self.advance(Some(last), (&self.norm, None), &told, &mut rows, out);
        self.pool.give([qkv, heard]);
    }

    /// The final hidden state of the last of some new tokens of one sequence; `caches` hold the tokens before them.
    pub(super) fn extended(&self, x: &mut [f32], caches: &mut [LayerCache]) -> Vec<f32> {
        let (width, new) = (self.width, x.len() / self.width);
        let mut out = vec![0f32; x.len()];
        self.through(x, &mut out, |layer, qkv, heard| {
            let cache = &mut caches[layer];
            let first = cache.keys.is_empty();
            let column = |third: usize| {
                qkv.chunks_exact(3 * width).flat_map(move |row| &row[third * width..(third + 1) * width])
            };
            cache.keys.extend(column(1));
            cache.values.extend(column(2));
            if first {
                let (heads, offsets, precision) = (self.heads, Arc::from([0, new]), self.precision);
                CausalAttention { heads, offsets, precision }.forward(qkv, width, heard);
            } else {
                let queries: Vec<f32> = column(0).copied().collect();
                let sizes = (width, width / self.heads);
                heard.copy_from_slice(&attend_cached(&queries, (&cache.keys, &cache.values), new, sizes));
            }
        });
        out.split_off((new - 1) * width)
    }
}

impl Gpt {
    /// Says that the weights stay what they are: they are packed once instead of at every pass. Whoever changes a parameter
    /// afterwards still reads with the old ones.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn settle(&mut self) -> Result<(), Error> {
        self.ready = Ready::new(self)?.map(Arc::new);
        Ok(())
    }

    pub(super) fn ready(&self) -> Result<Option<Arc<Ready>>, Error> {
        match &self.ready {
            Some(ready) => Ok(Some(Arc::clone(ready))),
            None => Ok(Ready::new(self)?.map(Arc::new)),
        }
    }

    /// The final hidden states of all tokens, `[tokens, width]`, without a way back: what [`Gpt::hidden`] gives, in less time
    /// and memory.
    ///
    /// # Errors
    /// As [`Gpt::hidden`].
    pub fn states(&self, batch: &Batch) -> Result<Tensor, Error> {
        match self.ready()? {
            None => Ok(self.hidden(batch, &mut Noise::off())?.detach()),
            Some(ready) => self.read(batch, Batch::tokens, |x, batch, out| ready.states(x, batch, out)),
        }
    }

    /// The final hidden state of each sequence's last token, `[sequences, width]`, without a way back: what [`Gpt::pooled`]
    /// gives, in less time and memory.
    ///
    /// # Errors
    /// As [`Gpt::hidden`].
    pub fn last_states(&self, batch: &Batch) -> Result<Tensor, Error> {
        match self.ready()? {
            None => Ok(self.pooled(batch, &mut Noise::off())?.detach()),
            Some(ready) => self.read(batch, Batch::sequences, |x, batch, out| ready.last(x, batch, out)),
        }
    }

    /// −ln p(next token) of every token in nats, 0 for the last of a sequence.
    ///
    /// # Errors
    /// As [`Gpt::hidden`].
    pub fn token_losses(&self, batch: &Batch) -> Result<Vec<f32>, Error> {
        self.losses_at(&self.states(batch)?, batch)
    }

    /// The same, of final hidden states that are known: those of all tokens of the batch, as [`Gpt::states`] gives them.
    pub(crate) fn losses_at(&self, hidden: &Tensor, batch: &Batch) -> Result<Vec<f32>, Error> {
        let targets = batch.targets();
        if self.kernels == Kernels::Reference || !self.parameters.device().is_cpu() {
            return Ok(crate::kernels::reference::row_losses(&self.logits(hidden)?, &targets)?);
        }
        let head = HeadLoss { targets, precision: self.kernels.precision() };
        let scorer = Held::new(self.scorer())?;
        Ok(read(hidden, |hidden| head.row_losses(hidden, &scorer))?)
    }

    /// Reads the parts of a batch: `f` turns embedded tokens into `rows` hidden states of each.
    fn read(
        &self,
        batch: &Batch,
        rows: impl Fn(&Batch) -> usize,
        f: impl Fn(&mut [f32], &Batch, &mut [f32]) + Sync,
    ) -> Result<Tensor, Error> {
        self.check(batch)?;
        let (width, tokens) = (self.config.width, Held::new(&self.tokens)?);
        let positions = self.positions.as_ref().map(Held::new).transpose()?;
        let (tokens, positions): (&[f32], Option<&[f32]>) = (&tokens, positions.as_deref());
        let mut states = vec![0f32; rows(batch) * width];
        let (mut parts, mut rest) = (Vec::new(), states.as_mut_slice());
        for (_, part) in batch.parts(TOKENS) {
            let (out, others) = rest.split_at_mut(rows(&part) * width);
            parts.push((part, out));
            rest = others;
        }
        parts.into_par_iter().for_each(|(part, out)| {
            let mut x = self.pool.take(part.tokens() * width);
            let places = part.raw_ids().iter().zip(part.places());
            for (row, (&id, place)) in x.chunks_exact_mut(width).zip(places) {
                row.copy_from_slice(&tokens[id as usize * width..][..width]);
                if let Some(positions) = positions {
                    add_scaled(row, 1.0, &positions[place * width..]);
                }
            }
            f(&mut x, &part, out);
            self.pool.give([x]);
        });
        Ok(Tensor::from_vec(states, (rows(batch), width), self.parameters.device())?)
    }
}
