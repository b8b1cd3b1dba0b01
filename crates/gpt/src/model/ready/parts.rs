//! The parts of a block as they are read with: norms and layers as slices and packed factors, and what stands between them.
//! All of it runs on the calling thread, over the rows it is given.

use std::ops::Range;

use candle_core::Tensor;

use super::super::GptConfig;
use super::super::block::Block;
use super::super::config::{Activation, Positions};
use super::super::step::{NORM, Pool};
use crate::Error;
use crate::kernels::activation::{gelu_in_place, swiglu};
use crate::kernels::host::read;
use crate::kernels::product::{Packed, Precision, Start, View};
use crate::kernels::rms::RmsNorm;
use crate::kernels::simd::add_scaled;
use crate::kernels::{LAYER_NORM_EPSILON, Turns};
use crate::layers::{Linear, Norm};

const RMS: RmsNorm = RmsNorm { epsilon: LAYER_NORM_EPSILON };

fn numbers(tensor: &Tensor) -> Result<Vec<f32>, Error> {
    Ok(read(tensor, <[f32]>::to_vec)?)
}

/// What brings rows to one scale: a layer norm, or without shift an RMS norm.
pub(super) struct Scale {
    w: Vec<f32>,
    b: Option<Vec<f32>>,
}

impl Scale {
    pub(super) fn new(norm: &Norm) -> Result<Self, Error> {
        let (w, b) = norm.tensors();
        Ok(Self { w: numbers(w)?, b: b.map(numbers).transpose()? })
    }

    pub(super) fn norm(&self, x: &[f32], out: &mut [f32]) {
        match &self.b {
            Some(b) => NORM.rows(x, (&self.w, b), out),
            None => RMS.rows(x, &self.w, out),
        }
    }
}

/// Some columns of a linear layer, packed.
pub(super) struct Layer {
    factor: Packed,
    bias: Vec<f32>,
    inputs: usize,
}

impl Layer {
    fn columns(
        (weight, bias): (&Tensor, &Tensor),
        columns: Range<usize>,
        precision: Precision,
    ) -> Result<Self, Error> {
        let (inputs, outputs) = weight.dims2()?;
        let factor = read(weight, |weight| {
            let view = View::strided(&weight[columns.start..], (inputs, columns.len()), outputs);
            Packed::new(view, precision)
        })?;
        let bias = read(bias, |bias| bias[columns].to_vec())?;
        Ok(Self { factor, bias, inputs })
    }

    pub(super) fn new(linear: &Linear, precision: Precision) -> Result<Self, Error> {
        let (weight, bias) = linear.merged()?;
        Self::columns((&weight, bias), 0..bias.elem_count(), precision)
    }

    fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// out ← x·W + b.
    fn write(&self, x: &[f32], out: &mut [f32]) {
        self.multiply(x, out, Start::Row(&self.bias));
    }

    /// out ← out + x·W + b.
    pub(super) fn add(&self, x: &[f32], out: &mut [f32]) {
        out.chunks_exact_mut(self.outputs()).for_each(|row| add_scaled(row, 1.0, &self.bias));
        self.multiply(x, out, Start::Out);
    }

    fn multiply(&self, x: &[f32], out: &mut [f32], start: Start<'_>) {
        let (x, outputs) = (View::new(x, x.len() / self.inputs, self.inputs), self.outputs());
        self.factor.multiply_here(x, (out, outputs, outputs), start);
    }
}

/// The angles of a batch's tokens, if positions are rotary, and which of them the first row has.
pub(super) type At<'a> = (Option<&'a Turns>, usize);

/// Queries, keys or values, as they are projected and as they meet.
struct Third {
    /// Heads that are projected.
    heads: usize,
    /// How often each of them is heard: once for every head of queries that shares it.
    copies: usize,
    norm: Option<Vec<f32>>, // [head]
    turned: bool,
}

impl Third {
    fn plain(&self) -> bool {
        self.copies == 1 && self.norm.is_none() && !self.turned
    }

    /// One row's heads, normed and turned.
    fn shape(&self, row: &[f32], (turns, token): At<'_>, out: &mut [f32]) {
        match &self.norm {
            Some(w) => RMS.rows(row, w, out),
            None => out.copy_from_slice(row),
        }
        if let Some(turns) = turns.filter(|_| self.turned) {
            turns.turn(token, out, 1.0);
        }
    }
}

/// From normed rows to queries, keys and values, or to some of them: each as wide as the queries.
pub(super) struct Projection {
    layer: Layer,
    thirds: Vec<Third>,
    head: usize,
}

impl Projection {
    /// Those of the thirds that are `wanted`, of queries, keys and values.
    pub(super) fn new(
        (block, config): (&Block, &GptConfig),
        wanted: Range<usize>,
        precision: Precision,
    ) -> Result<Self, Error> {
        let (heads, shared, head) = (config.heads, config.key_value_heads(), config.head_width());
        let [query_norm, key_norm] = block.head_norms();
        let rotary = config.positions == Positions::Rotary;
        let third = |heads: usize, norm: Option<&Tensor>, turned: bool| -> Result<Third, Error> {
            Ok(Third { heads, copies: config.heads / heads, norm: norm.map(numbers).transpose()?, turned })
        };
        let thirds = [
            third(heads, query_norm, rotary)?,
            third(shared, key_norm, rotary)?,
            third(shared, None, false)?,
        ];
        let ends = [0, heads, heads + shared, heads + 2 * shared].map(|heads| heads * head);
        let (weight, bias) = block.parts().1[0].merged()?;
        let layer = Layer::columns((&weight, bias), ends[wanted.start]..ends[wanted.end], precision)?;
        let thirds = thirds.into_iter().skip(wanted.start).take(wanted.len()).collect();
        Ok(Self { layer, thirds, head })
    }

    pub(super) fn write(&self, x: &[f32], at: At<'_>, out: &mut [f32], pool: &Pool) {
        if self.thirds.iter().all(Third::plain) {
            return self.layer.write(x, out);
        }
        let rows = x.len() / self.layer.inputs;
        let mut raw = pool.take(rows * self.layer.outputs());
        self.layer.write(x, &mut raw);
        let outputs = out.len() / rows;
        let each = raw.chunks_exact(self.layer.outputs()).zip(out.chunks_exact_mut(outputs));
        each.enumerate().for_each(|(row, (raw, out))| self.meet(raw, (at.0, at.1 + row), out));
        pool.give([raw]);
    }

    /// One row's projected heads as they meet.
    fn meet(&self, mut raw: &[f32], at: At<'_>, mut out: &mut [f32]) {
        for third in &self.thirds {
            let (own, others) = raw.split_at(third.heads * self.head);
            let (to, rest) = out.split_at_mut(own.len() * third.copies);
            third.shape(own, at, &mut to[..own.len()]);
            for head in (0..third.heads).rev().filter(|_| third.copies > 1) {
                let from = head * self.head..(head + 1) * self.head;
                for copy in (0..third.copies).rev() {
                    to.copy_within(from.clone(), (head * third.copies + copy) * self.head);
                }
            }
            (raw, out) = (others, rest);
        }
    }
}

/// The two layers of an MLP and what is between them.
pub(super) struct Mlp {
    inner: Layer,
    outer: Layer,
    activation: Activation,
}

impl Mlp {
    pub(super) fn new((block, config): (&Block, &GptConfig), precision: Precision) -> Result<Self, Error> {
        let [_, _, inner, outer] = block.parts().1;
        let (inner, outer) = (Layer::new(inner, precision)?, Layer::new(outer, precision)?);
        Ok(Self { inner, outer, activation: config.activation })
    }

    /// x ← x + what the MLP makes of the normed rows.
    pub(super) fn add(&self, normed: &[f32], x: &mut [f32], pool: &Pool) {
        let mut inside = pool.take(normed.len() / self.inner.inputs * self.inner.outputs());
        self.inner.write(normed, &mut inside);
        match self.activation {
            Activation::Gelu => gelu_in_place(&mut inside),
            Activation::Relu2 => inside.iter_mut().for_each(|x| *x = x.max(0.0) * x.max(0.0)),
            Activation::Swiglu => {
                let mut gated = pool.take(inside.len() / 2);
                let (from, to) = (self.inner.outputs(), self.inner.outputs() / 2);
                let rows = gated.chunks_exact_mut(to).zip(inside.chunks_exact(from));
                rows.for_each(|(out, x)| swiglu(x, out));
                pool.give([std::mem::replace(&mut inside, gated)]);
            }
        }
        self.outer.add(&inside, x);
        pool.give([inside]);
    }
}
