//! A block: norm, attention, norm, MLP, each half added to the residual stream.

use std::sync::Arc;

use candle_core::Tensor;

use super::config::{Activation, NormKind, Positions};
use super::decode::LayerCache;
use super::{Batch, GptConfig};
use crate::kernels::Turns;
use crate::layers::{Linear, Noise, Norm, Parameters};
use crate::{Error, Kernels};

/// The deviation of random weights.
pub(super) const DEVIATION: f64 = 0.02;

/// What all blocks of a forward pass share.
pub(super) struct Pass<'a> {
    pub(super) batch: &'a Batch,
    pub(super) turns: Option<Arc<Turns>>,
}

impl<'a> Pass<'a> {
    pub(super) fn new(config: &GptConfig, batch: &'a Batch) -> Self {
        Self { batch, turns: turns(config, batch.places()) }
    }
}

/// The rotary angles of tokens at these places, if the positions are rotary.
pub(super) fn turns(config: &GptConfig, places: impl Iterator<Item = usize>) -> Option<Arc<Turns>> {
    let rotary = config.positions == Positions::Rotary;
    rotary.then(|| Arc::new(Turns::new(places, config.head_width())))
}

#[derive(Clone, Debug)]
pub(super) struct Block {
    before_attention: Norm,
    attention: Attention,
    before_mlp: Norm,
    mlp: Mlp,
    dropout: f64,
    kernels: Kernels,
}

pub(super) fn new_norm(
    config: &GptConfig,
    parameters: &mut Parameters,
    name: &str,
    kernels: Kernels,
) -> Result<Norm, Error> {
    match config.norm {
        NormKind::Layer => Norm::layer(parameters, name, config.width, kernels),
        NormKind::Rms => Norm::rms(parameters, name, config.width, kernels),
    }
}

impl Block {
    pub(super) fn new(
        config: &GptConfig,
        layer: usize,
        parameters: &mut Parameters,
        kernels: Kernels,
    ) -> Result<Self, Error> {
        let name = format!("transformer.h.{layer}");
        let attention = Attention::new(config, &format!("{name}.attn"), parameters, kernels)?;
        let mlp = Mlp::new(config, &format!("{name}.mlp"), parameters, kernels)?;
        let before_attention = new_norm(config, parameters, &format!("{name}.ln_1"), kernels)?;
        let before_mlp = new_norm(config, parameters, &format!("{name}.ln_2"), kernels)?;
        Ok(Self { before_attention, attention, before_mlp, mlp, dropout: config.dropout, kernels })
    }

    /// x + attention(norm(x)), then x + mlp(norm(x)); with `only`, for those rows alone once attention has mixed.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        pass: &Pass<'_>,
        noise: &mut Noise,
        only: Option<&Tensor>,
    ) -> Result<Tensor, Error> {
        let select = |x: Tensor| -> Result<Tensor, Error> {
            only.map_or(Ok(x.clone()), |rows| Ok(x.index_select(rows, 0)?))
        };
        let normed = self.before_attention.forward(x)?;
        let heard = self.attention.heard(&normed, pass, noise)?; // [tokens, width]
        let mixed = self.attention.mixed.forward_with(&select(heard)?, noise)?;
        let x = (select(x.clone())? + noise.drop(self.kernels, mixed, self.dropout)?)?; // [rows, width]
        let thought = self.mlp.forward(&self.before_mlp.forward(&x)?, noise)?;
        Ok((&x + noise.drop(self.kernels, thought, self.dropout)?)?) // [rows, width]
    }

    /// As [`Block::forward`] for the next tokens of one sequence, whose earlier keys and values are in `cache`.
    pub(super) fn extend(
        &self,
        x: &Tensor,
        turns: Option<&Arc<Turns>>,
        cache: &mut LayerCache,
    ) -> Result<Tensor, Error> {
        let noise = &mut Noise::off();
        let [q, k, v] = self.attention.project(&self.before_attention.forward(x)?, turns, noise)?;
        let heard = cache.attend(&q, &k, &v, self.attention.head)?; // [new tokens, width]
        let x = (x + self.attention.mixed.forward(&heard)?)?;
        Ok((&x + self.mlp.forward(&self.before_mlp.forward(&x)?, noise)?)?)
    }

    /// The linear layers with their names under `transformer.h.{layer}.`.
    pub(super) fn linears_mut(&mut self) -> [(&'static str, &mut Linear); 4] {
        [
            ("attn.c_attn", &mut self.attention.qkv),
            ("attn.c_proj", &mut self.attention.mixed),
            ("mlp.c_fc", &mut self.mlp.inner),
            ("mlp.c_proj", &mut self.mlp.outer),
        ]
    }

    /// The norms and the linear layers, in the order of their use.
    pub(super) fn parts(&self) -> ([&Norm; 2], [&Linear; 4]) {
        let linears = [&self.attention.qkv, &self.attention.mixed, &self.mlp.inner, &self.mlp.outer];
        ([&self.before_attention, &self.before_mlp], linears)
    }

    /// The norms of each head's queries and keys, if there are any.
    pub(super) fn head_norms(&self) -> [Option<&Tensor>; 2] {
        [self.attention.query_norm.as_ref(), self.attention.key_norm.as_ref()]
    }

    /// Weights and biases of norm, queries to values, mixing, norm, and the two layers of the MLP, if the block is made of
    /// GPT-2's parts and all of them learn.
    pub(super) fn plain_parts(&self) -> Option<[(&Tensor, &Tensor); 6]> {
        let plain = self.attention.plain && self.mlp.activation == Activation::Gelu;
        let parts = [
            self.before_attention.layer_tensors()?,
            self.attention.qkv.tensors()?,
            self.attention.mixed.tensors()?,
            self.before_mlp.layer_tensors()?,
            self.mlp.inner.tensors()?,
            self.mlp.outer.tensors()?,
        ];
        let learns = parts.iter().all(|(weight, bias)| weight.is_variable() && bias.is_variable());
        (plain && learns).then_some(parts)
    }

    /// From now on another implementation computes.
    pub(super) fn use_kernels(&mut self, kernels: Kernels) {
        self.linears_mut().into_iter().for_each(|(_, linear)| linear.use_kernels(kernels));
        self.before_attention.use_kernels(kernels);
        self.before_mlp.use_kernels(kernels);
        (self.attention.kernels, self.mlp.kernels, self.kernels) = (kernels, kernels, kernels);
    }

    /// From now on only adapters get gradients.
    pub(super) fn freeze(&mut self) {
        self.linears_mut().into_iter().for_each(|(_, linear)| linear.freeze());
        self.before_attention.freeze();
        self.before_mlp.freeze();
        self.attention.freeze();
    }
}

/// Causal self-attention with grouped keys and values.
#[derive(Clone, Debug)]
struct Attention {
    qkv: Linear,
    mixed: Linear,
    query_norm: Option<Tensor>, // [head]
    key_norm: Option<Tensor>,   // [head]
    heads: usize,
    shared: usize,
    head: usize,
    plain: bool,
    kernels: Kernels,
}

impl Attention {
    fn new(
        config: &GptConfig,
        name: &str,
        parameters: &mut Parameters,
        kernels: Kernels,
    ) -> Result<Self, Error> {
        let (width, head) = (config.width, config.head_width());
        let (heads, shared) = (config.heads, config.key_value_heads());
        let residual = DEVIATION / (2.0 * config.layers as f64).sqrt();
        let sizes = (width, (heads + 2 * shared) * head);
        let qkv = Linear::normal(parameters, &format!("{name}.c_attn"), sizes, DEVIATION, kernels)?;
        let mixed = Linear::normal(parameters, &format!("{name}.c_proj"), (width, width), residual, kernels)?;
        let mut norm = |part: &str| {
            config
                .qk_norm
                .then(|| parameters.constant(&format!("{name}.{part}.weight"), head, 1.0))
                .transpose()
        };
        let (query_norm, key_norm) = (norm("q_norm")?, norm("k_norm")?);
        let plain = config.plain_attention();
        Ok(Self { qkv, mixed, query_norm, key_norm, heads, shared, head, plain, kernels })
    }

    /// What each token hears: `[tokens, width]` → `[tokens, width]`.
    fn heard(&self, x: &Tensor, pass: &Pass<'_>, noise: &mut Noise) -> Result<Tensor, Error> {
        let qkv = if self.plain {
            self.qkv.forward_with(x, noise)?
        } else {
            let [q, k, v] = self.project(x, pass.turns.as_ref(), noise)?;
            Tensor::cat(&[q, self.repeat(k)?, self.repeat(v)?], 1)?
        };
        Ok(self.kernels.causal_attention(&qkv, self.heads, pass.batch.offsets())?)
    }

    /// Queries `[tokens, heads·e]`, keys and values `[tokens, shared·e]`, normed and turned.
    fn project(
        &self,
        x: &Tensor,
        turns: Option<&Arc<Turns>>,
        noise: &mut Noise,
    ) -> Result<[Tensor; 3], Error> {
        let qkv = self.qkv.forward_with(x, noise)?;
        let (q, kv) = (self.heads * self.head, self.shared * self.head);
        let part = |from, width| qkv.narrow(1, from, width)?.contiguous();
        let q_normed = self.head_norm(part(0, q)?, self.query_norm.as_ref())?;
        let k_normed = self.head_norm(part(q, kv)?, self.key_norm.as_ref())?;
        let turn = |x: Tensor| match turns {
            Some(turns) => self.kernels.rotary(&x, turns),
            None => Ok(x),
        };
        Ok([turn(q_normed)?, turn(k_normed)?, part(q + kv, kv)?])
    }

    /// RMS norm of each head by itself.
    fn head_norm(&self, x: Tensor, weight: Option<&Tensor>) -> Result<Tensor, Error> {
        let Some(weight) = weight else { return Ok(x) };
        let (tokens, width) = x.dims2()?;
        let heads = x.reshape((tokens * width / self.head, self.head))?;
        Ok(self.kernels.rms_norm(&heads, weight)?.reshape((tokens, width))?)
    }

    /// Each shared head once for every query head that reads it: `[tokens, shared·e]` → `[tokens, heads·e]`.
    fn repeat(&self, x: Tensor) -> Result<Tensor, Error> {
        let (tokens, group) = (x.dim(0)?, self.heads / self.shared);
        if group == 1 {
            return Ok(x);
        }
        let one = x.reshape((tokens, self.shared, 1, self.head))?;
        let many = one.broadcast_as((tokens, self.shared, group, self.head))?;
        Ok(many.contiguous()?.reshape((tokens, self.heads * self.head))?)
    }

    fn freeze(&mut self) {
        self.query_norm = self.query_norm.as_ref().map(Tensor::detach);
        self.key_norm = self.key_norm.as_ref().map(Tensor::detach);
    }
}

#[derive(Clone, Debug)]
struct Mlp {
    inner: Linear,
    outer: Linear,
    activation: Activation,
    kernels: Kernels,
}

impl Mlp {
    fn new(
        config: &GptConfig,
        name: &str,
        parameters: &mut Parameters,
        kernels: Kernels,
    ) -> Result<Self, Error> {
        let (width, inner) = (config.width, config.inner());
        let halves = if config.activation == Activation::Swiglu { 2 } else { 1 };
        let residual = DEVIATION / (2.0 * config.layers as f64).sqrt();
        let mut linear = |part: &str, sizes, deviation| {
            Linear::normal(parameters, &format!("{name}.{part}"), sizes, deviation, kernels)
        };
        let first = linear("c_fc", (width, halves * inner), DEVIATION)?;
        let second = linear("c_proj", (inner, width), residual)?;
        Ok(Self { inner: first, outer: second, activation: config.activation, kernels })
    }

    fn forward(&self, x: &Tensor, noise: &mut Noise) -> Result<Tensor, Error> {
        let inner = self.inner.forward_with(x, noise)?;
        let active = match self.activation {
            Activation::Gelu => self.kernels.gelu(&inner)?,
            Activation::Relu2 => self.kernels.relu2(&inner)?,
            Activation::Swiglu => self.kernels.swiglu(&inner)?,
        };
        self.outer.forward_with(&active, noise) // [rows, width]
    }
}
