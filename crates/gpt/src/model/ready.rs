//! Reading without learning: the forward pass over slices, with weights packed for the products and adapters merged into them.
//!
//! Between one attention and the next a row needs no other row, so a task takes a few of them from what they heard to the next
//! block's queries, keys and values while they are in the processor's cache. Where only last tokens are asked for, the last
//! block computes keys and values of all tokens and everything else of the last ones. Every variant of the model is read so on
//! a CPU; candle's graph is the reference here.

mod parts;

use std::ops::Range;
use std::sync::Arc;

use candle_core::Tensor;
use rayon::prelude::*;

use super::block::Block;
use super::decode::LayerCache;
use super::step::{Pool, TOKENS};
use super::{Batch, Gpt, Positions};
use crate::kernels::Turns;
use crate::kernels::attention::CausalAttention;
use crate::kernels::cached::{attend_cached, attend_last};
use crate::kernels::host::{Held, read};
use crate::kernels::loss::HeadLoss;
use crate::kernels::product::Precision;
use crate::kernels::simd::add_scaled;
use crate::layers::Noise;
use crate::{Error, Kernels};
use parts::{At, Layer, Mlp, Projection, Scale};

/// At most so many rows go together from one attention to the next.
const ROWS: usize = 128;

/// A block that is read.
struct Reading {
    before_attention: Scale,
    projection: Projection,
    mixed: Layer,
    before_mlp: Scale,
    mlp: Mlp,
}

impl Reading {
    fn new(gpt: &Gpt, block: &Block, precision: Precision) -> Result<Self, Error> {
        let ([before_attention, before_mlp], [_, mixed, ..]) = block.parts();
        Ok(Self {
            before_attention: Scale::new(before_attention)?,
            projection: Projection::new((block, &gpt.config), 0..3, precision)?,
            mixed: Layer::new(mixed, precision)?,
            before_mlp: Scale::new(before_mlp)?,
            mlp: Mlp::new((block, &gpt.config), precision)?,
        })
    }
}

/// What rows become after a block's attention: normed, and perhaps projected.
type Next<'a> = (&'a Scale, Option<&'a Projection>);

/// The weights of a model, ready to be read with.
pub(super) struct Ready {
    blocks: Vec<Reading>,
    /// The last block's queries.
    asking: Projection,
    /// The last block's keys and values.
    heard: Projection,
    norm: Scale,
    heads: usize,
    /// Heads of keys and values.
    shared: usize,
    width: usize,
    rotary: bool,
    precision: Precision,
    pool: Arc<Pool>,
}

impl std::fmt::Debug for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ready").field("blocks", &self.blocks.len()).finish_non_exhaustive()
    }
}

impl Ready {
    /// Nothing if the kernels of the model are not ours.
    fn new(gpt: &Gpt) -> Result<Option<Self>, Error> {
        let ours = gpt.kernels != Kernels::Reference && gpt.parameters.device().is_cpu();
        let Some(last) = gpt.blocks.last().filter(|_| ours) else { return Ok(None) };
        let (precision, config) = (gpt.kernels.precision(), &gpt.config);
        let blocks = gpt.blocks.iter().map(|block| Reading::new(gpt, block, precision));
        Ok(Some(Self {
            blocks: blocks.collect::<Result<_, _>>()?,
            asking: Projection::new((last, config), 0..1, precision)?,
            heard: Projection::new((last, config), 1..3, precision)?,
            norm: Scale::new(&gpt.norm)?,
            heads: config.heads,
            shared: config.key_value_heads(),
            width: config.width,
            rotary: config.positions == Positions::Rotary,
            precision,
            pool: Arc::clone(&gpt.pool),
        }))
    }

    /// The angles of tokens at these places, if positions are rotary.
    fn turns(&self, places: impl Iterator<Item = usize>) -> Option<Turns> {
        self.rotary.then(|| Turns::new(places, self.width / self.heads))
    }

    fn attention(&self, batch: &Batch) -> CausalAttention {
        CausalAttention { heads: self.heads, offsets: batch.offsets().clone(), precision: self.precision }
    }

    /// The rows of `x` after the attention of `block`, if there is one: `x` itself, and what comes `next`.
    fn rows(
        &self,
        block: Option<&Reading>,
        (norm, projection): Next<'_>,
        at: At<'_>,
        heard: &[f32],
        x: &mut [f32],
        out: &mut [f32],
    ) {
        let mut normed = self.pool.take(x.len());
        if let Some(block) = block {
            block.mixed.add(heard, x);
            block.before_mlp.norm(x, &mut normed);
            block.mlp.add(&normed, x, &self.pool);
        }
        match projection {
            None => norm.norm(x, out),
            Some(projection) => {
                norm.norm(x, &mut normed);
                projection.write(&normed, at, out, &self.pool);
            }
        }
        self.pool.give([normed]);
    }

    /// As [`Ready::rows`], on all threads.
    fn advance(
        &self,
        block: Option<&Reading>,
        next: Next<'_>,
        turns: Option<&Turns>,
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
                self.rows(block, next, (turns, task * together), heard, x, out);
            },
        );
    }

    /// From embedded tokens to the final norm; `attend` turns a block's queries, keys and values into what is heard.
    fn through(
        &self,
        turns: Option<&Turns>,
        x: &mut [f32],
        out: &mut [f32],
        mut attend: impl FnMut(usize, &[f32], &mut [f32]),
    ) {
        let (mut qkv, mut heard) = (self.pool.take(3 * x.len()), self.pool.take(x.len()));
        let mut before = None;
        for (layer, block) in self.blocks.iter().enumerate() {
            let next = (&block.before_attention, Some(&block.projection));
            self.advance(before, next, turns, &heard, x, &mut qkv);
            attend(layer, &qkv, &mut heard);
            before = Some(block);
        }
        self.advance(before, (&self.norm, None), None, &heard, x, out);
        self.pool.give([qkv, heard]);
    }

    /// The final hidden states of all tokens.
    fn states(&self, x: &mut [f32], batch: &Batch, out: &mut [f32]) {
        let (attention, turns) = (self.attention(batch), self.turns(batch.places()));
        self.through(turns.as_ref(), x, out, |_, qkv, heard| attention.forward(qkv, self.width, heard));
    }

    /// The final hidden states of each sequence's last tokens, as many as fit in `out`.
    fn last(&self, x: &mut [f32], batch: &Batch, out: &mut [f32]) {
        let (width, attention) = (self.width, self.attention(batch));
        let turns = self.turns(batch.places());
        let (mut qkv, mut heard) = (self.pool.take(3 * x.len()), self.pool.take(x.len()));
        let Some((last, earlier)) = self.blocks.split_last() else { return };
        let mut before = None;
        for block in earlier {
            let next = (&block.before_attention, Some(&block.projection));
            self.advance(before, next, turns.as_ref(), &heard, x, &mut qkv);
            attention.forward(&qkv, width, &mut heard);
            before = Some(block);
        }
        qkv.truncate(2 * x.len());
        let told = (&last.before_attention, Some(&self.heard));
        self.advance(before, told, turns.as_ref(), &heard, x, &mut qkv);
        let count = out.len() / width / batch.sequences();
        let ends = batch.last(count).flat_map(|row| &x[row * width..(row + 1) * width]);
        let mut rows: Vec<f32> = ends.copied().collect(); // [sequences · count, width]
        let mut queries = vec![0f32; rows.len()];
        let turns = self.turns(batch.last_places(count));
        let asking = (&last.before_attention, Some(&self.asking));
        self.advance(None, asking, turns.as_ref(), &[], &mut rows, &mut queries);
        let told = attend_last(&queries, &qkv, batch.offsets(), (width, width / self.heads));
        self.advance(Some(last), (&self.norm, None), None, &told, &mut rows, out);
        self.pool.give([qkv, heard]);
    }

    /// The final hidden state of the last of some new tokens of one sequence, at these places; `caches` hold the tokens before
    /// them.
    pub(super) fn extended(
        &self,
        x: &mut [f32],
        places: Range<usize>,
        caches: &mut [LayerCache],
    ) -> Vec<f32> {
        let (width, head, new) = (self.width, self.width / self.heads, x.len() / self.width);
        let copied = self.heads / self.shared * head; // of each head of keys and values, one is remembered
        let (mut out, turns) = (vec![0f32; x.len()], self.turns(places));
        self.through(turns.as_ref(), x, &mut out, |layer, qkv, heard| {
            let cache = &mut caches[layer];
            let first = cache.keys.is_empty();
            let third = |third: usize| {
                qkv.chunks_exact(3 * width).map(move |row| &row[third * width..(third + 1) * width])
            };
            let own = |row| <[f32]>::chunks_exact(row, copied).flat_map(move |copies| &copies[..head]);
            cache.keys.extend(third(1).flat_map(own));
            cache.values.extend(third(2).flat_map(own));
            if first {
                let (heads, offsets, precision) = (self.heads, Arc::from([0, new]), self.precision);
                CausalAttention { heads, offsets, precision }.forward(qkv, width, heard);
            } else {
                let queries: Vec<f32> = third(0).flatten().copied().collect();
                let sizes = (self.shared * head, head);
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
        self.states_of_last(batch, 1)
    }

    /// The final hidden states of each sequence's last `count` tokens, `[sequences · count, width]`, one sequence after the other
    /// and its tokens in their order, in one pass.
    ///
    /// # Errors
    /// As [`Gpt::hidden`], and [`Error::Recipe`] if a sequence has fewer tokens.
    pub fn states_of_last(&self, batch: &Batch, count: usize) -> Result<Tensor, Error> {
        batch.check_last(count)?;
        match self.ready()? {
            None => Ok(self.pooled_last(batch, count, &mut Noise::off())?.detach()),
            Some(ready) => {
                self.read(batch, |part| part.sequences() * count, |x, batch, out| ready.last(x, batch, out))
            }
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
