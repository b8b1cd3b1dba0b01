//! A training step written out by hand over slices: what the composed forward pass and its derivative compute, without a
//! graph.
//!
//! Gradients are added to where they end, what a block keeps for its way back is ten numbers a width and token (its two
//! inputs, queries, keys and values, what was heard, the inside of the MLP), and buffers go from layer to layer and from
//! step to step. A batch goes through in parts of about [`TOKENS`], so that a layer finds what the one before it wrote in
//! the processor's cache, and some parts beside each other, so that threads seldom wait for each other. For models of GPT-2's parts; others take the way through candle's graph, which is the reference here.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Mutex;

use candle_core::backprop::GradStore;
use candle_core::{Tensor, TensorId};
use rayon::prelude::*;

use super::block::Block;
use super::{Batch, Gpt};
use crate::Error;
use crate::kernels::LAYER_NORM_EPSILON;
use crate::kernels::activation::{Dropout, gelu_all, gelu_slope};
use crate::kernels::attention::CausalAttention;
use crate::kernels::host::{Held, column_sums};
use crate::kernels::loss::HeadLoss;
use crate::kernels::norm::LayerNorm;
use crate::kernels::product::{Packed, Precision, Start, View, accumulate, multiply_once};
use crate::kernels::simd::add_scaled;
use crate::layers::Noise;

/// Tokens that go through the layers together.
pub(crate) const TOKENS: usize = 1024;

/// Bytes of gradients that lanes may hold besides each other.
const LANE_BYTES: usize = 128 << 20;

impl super::GptConfig {
    /// Runs of parts of a batch that go through the layers beside each other, each with gradients of its own: at most four,
    /// and so few that the gradients stay small. Threads that each have a part of their own need not wait for each other layer
    /// by layer. Not the number of threads: sums must not depend on it.
    pub(crate) fn lanes(&self) -> usize {
        (LANE_BYTES / (4 * self.parameters()).max(1)).clamp(1, 4)
    }
}

pub(super) const NORM: LayerNorm = LayerNorm { epsilon: LAYER_NORM_EPSILON };

/// Buffers of earlier layers and steps, to be used again: a new one costs page faults.
#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<Vec<Vec<f32>>>);

impl Pool {
    /// A buffer of this length, with anything in it: of those that are large enough the one of which the least must be
    /// filled, then the smallest; or a new one in the place of the smallest, so that there are never more than were in use at
    /// once.
    pub(super) fn take(&self, length: usize) -> Vec<f32> {
        let mut free = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let by_size = |at: &usize| free[*at].capacity();
        let by_filling = |at: &usize| (length.saturating_sub(free[*at].len()), free[*at].capacity());
        let fits = (0..free.len()).filter(|at| free[*at].capacity() >= length).min_by_key(by_filling);
        let (found, fit) = (fits.or_else(|| (0..free.len()).min_by_key(by_size)), fits.is_some());
        let mut buffer = found.map(|at| free.swap_remove(at)).filter(|_| fit).unwrap_or_default();
        buffer.resize(length, 0.0);
        buffer
    }

    /// The buffers that nobody uses.
    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.0.lock().map_or(0, |free| free.len())
    }

    pub(super) fn give(&self, buffers: impl IntoIterator<Item = Vec<f32>>) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(buffers);
    }
}

/// A linear layer's tensors, and their elements.
struct Weights<'a> {
    weight: &'a Tensor,
    bias: &'a Tensor,
    w: Held<'a>,
    b: Held<'a>,
    packed: Option<[Packed; 2]>, // for the way there and for the way back
}

impl<'a> Weights<'a> {
    fn new((weight, bias): (&'a Tensor, &'a Tensor)) -> Result<Self, Error> {
        let (w, b) = (Held::new(weight)?, Held::new(bias)?);
        Ok(Self { weight, bias, w, b, packed: None })
    }

    fn view(&self) -> View<'_> {
        View::new(&self.w, self.w.len() / self.b.len(), self.b.len())
    }

    /// Packs the weight for all parts of a batch. Not when a part first needs it: a thread that waits for its share of the
    /// packing may start another part, which would wait for the same.
    fn pack(&mut self, precision: Precision) {
        self.packed = Some([self.view(), self.view().transposed()].map(|view| Packed::new(view, precision)));
    }
}

/// The tensors of a block.
struct Parts<'a> {
    before_attention: Weights<'a>,
    qkv: Weights<'a>,
    mixed: Weights<'a>,
    before_mlp: Weights<'a>,
    inner: Weights<'a>,
    outer: Weights<'a>,
}

impl<'a> Parts<'a> {
    fn new(block: &'a Block) -> Result<Option<Self>, Error> {
        let Some([before_attention, qkv, mixed, before_mlp, inner, outer]) = block.plain_parts() else {
            return Ok(None);
        };
        Ok(Some(Self {
            before_attention: Weights::new(before_attention)?,
            qkv: Weights::new(qkv)?,
            mixed: Weights::new(mixed)?,
            before_mlp: Weights::new(before_mlp)?,
            inner: Weights::new(inner)?,
            outer: Weights::new(outer)?,
        }))
    }

    /// The layers that are matrix products.
    fn products(&mut self) -> [&mut Weights<'a>; 4] {
        [&mut self.qkv, &mut self.mixed, &mut self.inner, &mut self.outer]
    }
}

/// What the way back through a block needs.
struct Kept {
    qkv: Vec<f32>,
    heard: Vec<f32>,
    between: Vec<f32>, // the residual stream between attention and MLP
    inside: Vec<f32>,  // the MLP before its non-linearity
}

/// The dropout masks of a block: after attention, after the MLP.
type Masks = [Option<Dropout>; 2];

/// What all layers share.
struct Pass<'a> {
    pool: &'a Pool,
    precision: Precision,
    attention: CausalAttention,
    first: usize, // tokens before this part
    tokens: usize,
    width: usize,
}

/// The gradients so far, by tensor.
#[derive(Default)]
struct Slopes(HashMap<TensorId, (Tensor, Vec<f32>)>);

impl Slopes {
    fn add(&mut self, tensor: &Tensor, slope: Vec<f32>) {
        match self.0.entry(tensor.id()) {
            Entry::Vacant(entry) => {
                entry.insert((tensor.clone(), slope));
            }
            Entry::Occupied(mut entry) => add_scaled(&mut entry.get_mut().1, 1.0, &slope),
        }
    }

    /// The gradient of a tensor, to be added to by products; nothing so far is an empty one.
    fn of_products(&mut self, tensor: &Tensor) -> &mut Vec<f32> {
        &mut self.0.entry(tensor.id()).or_insert_with(|| (tensor.clone(), Vec::new())).1
    }

    /// The gradient of a tensor, to be added to.
    fn of(&mut self, tensor: &Tensor) -> &mut [f32] {
        let start = || (tensor.clone(), vec![0f32; tensor.elem_count()]);
        &mut self.0.entry(tensor.id()).or_insert_with(start).1
    }

    fn join(&mut self, other: Self) {
        for (tensor, slope) in other.0.into_values() {
            self.add(&tensor, slope);
        }
    }

    fn into_store(self) -> Result<GradStore, Error> {
        let mut store = GradStore::default();
        for (tensor, slope) in self.0.into_values() {
            store.insert(&tensor, Tensor::from_vec(slope, tensor.shape(), tensor.device())?);
        }
        Ok(store)
    }
}

impl Pass<'_> {
    fn take(&self, width: usize) -> Vec<f32> {
        self.pool.take(self.tokens * width)
    }

    /// Drops elements of `[tokens, width]`, of which so many come before the first.
    fn drop(&self, mask: Option<&Dropout>, values: &mut [f32], before: usize) {
        if let Some(mask) = mask {
            mask.drop_in_place(values, self.first * self.width + before);
        }
    }

    /// start + x·factor, with `then` for each part of a row; the factor as it is packed already, if it is.
    fn multiply(
        &self,
        x: &[f32],
        (packed, factor): (Option<&Packed>, View<'_>),
        start: Start<'_>,
        then: impl Fn(usize, &mut [f32]) + Sync,
    ) -> Vec<f32> {
        let mut out = self.take(factor.columns());
        let x = View::new(x, self.tokens, x.len() / self.tokens);
        match packed {
            Some(packed) => packed.multiply(x, &mut out, start, then),
            None => multiply_once((x, factor), self.precision, &mut out, start, then),
        }
        out
    }

    /// x·W + b, for whatever is done `then` with each part of a row.
    fn linear(&self, x: &[f32], weights: &Weights<'_>, then: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
        let packed = weights.packed.as_ref().map(|[forward, _]| forward);
        self.multiply(x, (packed, weights.view()), Start::Row(&weights.b), then)
    }

    /// As [`Pass::linear`], with dropout, and added to the residual stream.
    fn onto(&self, x: &[f32], weights: &Weights<'_>, stream: &[f32], mask: Option<&Dropout>) -> Vec<f32> {
        self.linear(x, weights, |before, row| {
            self.drop(mask, row, before);
            add_scaled(row, 1.0, &stream[before..]);
        })
    }

    /// With y = x·W + b: ∂W and ∂b are noted, and ∂x comes back, changed by `then`.
    fn linear_back(
        &self,
        (x, dy): (&[f32], &[f32]),
        weights: &Weights<'_>,
        slopes: &mut Slopes,
        then: impl Fn(usize, &mut [f32]) + Sync,
    ) -> Vec<f32> {
        let (inner, outer) = (x.len() / self.tokens, weights.b.len());
        let (x, right) = (View::new(x, self.tokens, inner), View::new(dy, self.tokens, outer));
        accumulate((x.transposed(), right), self.precision, slopes.of_products(weights.weight));
        slopes.add(weights.bias, column_sums(dy, outer));
        let packed = weights.packed.as_ref().map(|[_, back]| back);
        self.multiply(dy, (packed, weights.view().transposed()), Start::Zero, then)
    }

    /// The slope after dropout: a copy, or nothing if nothing is dropped.
    fn dropped(&self, mask: Option<&Dropout>, slope: &[f32]) -> Option<Vec<f32>> {
        mask.map(|mask| {
            let mut rows = slope.to_vec();
            self.drop(Some(mask), &mut rows, 0);
            rows
        })
    }

    fn norm(&self, x: &[f32], weights: &Weights<'_>) -> Vec<f32> {
        let mut out = self.take(self.width);
        NORM.forward(x, (&weights.w, &weights.b), &mut out);
        out
    }

    /// Adds what comes back through a norm of x to `dx`.
    fn norm_back(&self, x: &[f32], weights: &Weights<'_>, dy: &[f32], dx: &mut [f32], slopes: &mut Slopes) {
        let (dw, db) = NORM.backward(x, &weights.w, dy, dx);
        slopes.add(weights.weight, dw);
        slopes.add(weights.bias, db);
    }

    fn gelu(&self, x: &[f32]) -> Vec<f32> {
        let mut out = self.pool.take(x.len());
        gelu_all(x, &mut out);
        out
    }

    /// x + attention(norm(x)), then x + mlp(norm(x)).
    fn forward(&self, parts: &Parts<'_>, x: &[f32], masks: &Masks) -> (Vec<f32>, Kept) {
        let normed = self.norm(x, &parts.before_attention);
        let qkv = self.linear(&normed, &parts.qkv, |_, _| {});
        let mut heard = self.take(self.width);
        self.attention.forward(&qkv, self.width, &mut heard);
        let between = self.onto(&heard, &parts.mixed, x, masks[0].as_ref());
        let again = self.norm(&between, &parts.before_mlp);
        let inside = self.linear(&again, &parts.inner, |_, _| {});
        let active = self.gelu(&inside);
        let out = self.onto(&active, &parts.outer, &between, masks[1].as_ref());
        self.pool.give([normed, again, active]);
        (out, Kept { qkv, heard, between, inside })
    }

    /// Turns the gradient of a block's output into that of its input x, and notes those of its weights.
    fn backward(
        &self,
        parts: &Parts<'_>,
        (x, kept): (&[f32], Kept),
        masks: &Masks,
        slope: &mut [f32],
        slopes: &mut Slopes,
    ) {
        let Kept { qkv, heard, between, inside } = kept;
        let active = self.gelu(&inside);
        let dropped = self.dropped(masks[1].as_ref(), slope);
        let dy = dropped.as_deref().unwrap_or(slope);
        let dinside = self.linear_back((&active, dy), &parts.outer, slopes, |before, row| {
            gelu_slope(&inside[before..before + row.len()], row);
        });
        let normed = self.norm(&between, &parts.before_mlp);
        let dnormed = self.linear_back((&normed, &dinside), &parts.inner, slopes, |_, _| {});
        self.norm_back(&between, &parts.before_mlp, &dnormed, slope, slopes);
        self.pool.give([active, inside, dinside, normed, dnormed, between]);

        let dropped = self.dropped(masks[0].as_ref(), slope);
        let dy = dropped.as_deref().unwrap_or(slope);
        let dheard = self.linear_back((&heard, dy), &parts.mixed, slopes, |_, _| {});
        let mut dqkv = self.take(3 * self.width);
        self.attention.backward(&qkv, &dheard, self.width, &mut dqkv);
        let normed = self.norm(x, &parts.before_attention);
        let dnormed = self.linear_back((&normed, &dqkv), &parts.qkv, slopes, |_, _| {});
        self.norm_back(x, &parts.before_attention, &dnormed, slope, slopes);
        self.pool.give([heard, dheard, qkv, dqkv, normed, dnormed]);
    }
}

impl Gpt {
    /// As [`Gpt::gradients`], or nothing if the model has other parts than GPT-2's or does not learn them all.
    pub(super) fn step_by_hand(
        &self,
        batch: &Batch,
        noise: &mut Noise,
        share: f64,
        recompute: bool,
    ) -> Result<Option<(f64, GradStore)>, Error> {
        let Some((mut parts, norm)) = self.plain_parts()? else { return Ok(None) };
        self.check(batch)?;
        let rate = self.config.dropout;
        let first = noise.mask(rate);
        let masks: Vec<Masks> = parts.iter().map(|_| [noise.mask(rate), noise.mask(rate)]).collect();
        let pieces = batch.parts(TOKENS);
        if pieces.len() > 1 {
            let products = parts.iter_mut().flat_map(Parts::products);
            products.for_each(|weights| weights.pack(self.kernels.precision()));
        }
        let (parts, all) = ((parts, norm), batch.counted_targets().max(1) as f64);
        let lane = |pieces: &[(usize, Batch)]| {
            let (mut loss, mut slopes) = (0.0, Slopes::default());
            for (before, piece) in pieces {
                let (pass, weight) = (self.pass(piece, *before), piece.counted_targets() as f64 / all);
                let (masks, how) = ((first.as_ref(), masks.as_slice()), (share * weight, recompute));
                loss += weight * self.piece_by_hand(&pass, &parts, piece, masks, how, &mut slopes)?;
            }
            Ok::<_, Error>((loss, slopes))
        };
        let together = pieces.len().div_ceil(self.config.lanes());
        let done: Vec<_> = pieces.par_chunks(together).map(lane).collect::<Result<_, _>>()?;
        let (mut loss, mut slopes) = (0.0, Slopes::default());
        for (of_lane, slopes_of_lane) in done {
            loss += of_lane;
            slopes.join(slopes_of_lane);
        }
        Ok(Some((loss, slopes.into_store()?)))
    }

    /// Forward and back for some sequences of a batch; returns their mean loss.
    fn piece_by_hand(
        &self,
        pass: &Pass<'_>,
        (parts, norm): &(Vec<Parts<'_>>, Weights<'_>),
        batch: &Batch,
        (first, masks): (Option<&Dropout>, &[Masks]),
        (share, recompute): (f64, bool),
        slopes: &mut Slopes,
    ) -> Result<f64, Error> {
        let (mut streams, mut kept) = (vec![self.embed_by_hand(pass, batch)?], Vec::new());
        pass.drop(first, &mut streams[0], 0);
        for (layer, parts) in parts.iter().enumerate() {
            let (out, keep) = pass.forward(parts, &streams[layer], &masks[layer]);
            streams.push(out);
            kept.push(if recompute { pass.forget(keep) } else { Some(keep) });
        }
        let last = streams.pop().unwrap_or_default();
        let (loss, mut slope) = self.head_by_hand(pass, (&last, norm), batch, share, slopes)?;
        pass.pool.give([last]);
        for (layer, parts) in parts.iter().enumerate().rev() {
            let x = streams.pop().unwrap_or_default();
            let kept = kept[layer].take().unwrap_or_else(|| pass.again(parts, &x, &masks[layer]));
            pass.backward(parts, (&x, kept), &masks[layer], &mut slope, slopes);
            pass.pool.give([x]);
        }
        pass.drop(first, &mut slope, 0);
        self.embed_back(batch, &slope, slopes);
        pass.pool.give([slope]);
        Ok(loss)
    }

    /// The tensors of all blocks and of the final norm, if all are of GPT-2's kind and learn.
    fn plain_parts(&self) -> Result<Option<(Vec<Parts<'_>>, Weights<'_>)>, Error> {
        let ours = self.kernels != crate::Kernels::Reference && self.parameters.device().is_cpu();
        let Some(norm) = self.norm.layer_tensors().filter(|_| ours && self.tokens.is_variable()) else {
            return Ok(None);
        };
        let parts = self.blocks.iter().map(Parts::new).collect::<Result<Option<Vec<_>>, _>>()?;
        parts.map(|parts| Ok((parts, Weights::new(norm)?))).transpose()
    }

    pub(super) fn check(&self, batch: &Batch) -> Result<(), Error> {
        self.check_length(batch.longest())?;
        self.check_ids(batch.raw_ids())
    }

    fn pass(&self, batch: &Batch, first: usize) -> Pass<'_> {
        let (precision, offsets) = (self.kernels.precision(), batch.offsets().clone());
        let attention = CausalAttention { heads: self.config.heads, offsets, precision };
        let (tokens, width) = (batch.tokens(), self.config.width);
        Pass { pool: &self.pool, precision, attention, first, tokens, width }
    }

    fn embed_by_hand(&self, pass: &Pass<'_>, batch: &Batch) -> Result<Vec<f32>, Error> {
        let (width, mut x) = (self.config.width, pass.take(self.config.width));
        let tokens = Held::new(&self.tokens)?;
        let positions = self.positions.as_ref().map(Held::new).transpose()?;
        for ((row, &id), place) in x.chunks_exact_mut(width).zip(batch.raw_ids()).zip(batch.places()) {
            row.copy_from_slice(&tokens[id as usize * width..][..width]);
            if let Some(positions) = &positions {
                add_scaled(row, 1.0, &positions[place * width..]);
            }
        }
        Ok(x)
    }

    /// The loss, and the gradient of the last block's output.
    fn head_by_hand(
        &self,
        pass: &Pass<'_>,
        (x, norm): (&[f32], &Weights<'_>),
        batch: &Batch,
        share: f64,
        slopes: &mut Slopes,
    ) -> Result<(f64, Vec<f32>), Error> {
        let (hidden, scorer) = (pass.norm(x, norm), self.scorer());
        let (mut dhidden, mut slope) = (pass.take(self.config.width), pass.take(self.config.width));
        let head = HeadLoss { targets: batch.targets(), precision: pass.precision };
        let factors = (hidden.as_slice(), &*Held::new(scorer)?);
        let loss = head.learn(factors, share as f32, &mut dhidden, slopes.of_products(scorer));
        slope.fill(0.0);
        pass.norm_back(x, norm, &dhidden, &mut slope, slopes);
        pass.pool.give([hidden, dhidden]);
        Ok((loss, slope))
    }

    fn embed_back(&self, batch: &Batch, slope: &[f32], slopes: &mut Slopes) {
        let width = self.config.width;
        let add = |slopes: &mut [f32], at: usize, row: &[f32]| {
            add_scaled(&mut slopes[at * width..], 1.0, row);
        };
        let tokens = slopes.of(&self.tokens);
        for (row, &id) in slope.chunks_exact(width).zip(batch.raw_ids()) {
            add(tokens, id as usize, row);
        }
        if let Some(positions) = &self.positions {
            let places = slopes.of(positions);
            for (row, place) in slope.chunks_exact(width).zip(batch.places()) {
                add(places, place, row);
            }
        }
    }
}

impl Pass<'_> {
    /// Gives back what a block kept.
    fn forget(&self, kept: Kept) -> Option<Kept> {
        self.pool.give([kept.qkv, kept.heard, kept.between, kept.inside]);
        None
    }

    /// What a block kept, computed again.
    fn again(&self, parts: &Parts<'_>, x: &[f32], masks: &Masks) -> Kept {
        let (out, kept) = self.forward(parts, x, masks);
        self.pool.give([out]);
        kept
    }
}
