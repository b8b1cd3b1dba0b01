//! The sizes of a GPT.

use std::collections::HashMap;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::Error;

/// How the model knows the order of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Positions {
    /// Only by the causal mask ("NoPE"): the default for events, whose tokens carry their own times.
    None,
    /// A learned vector per place, as GPT-2 has it.
    Learned,
    /// Queries and keys turned by an angle that grows with the place.
    Rotary,
}

/// What brings the residual stream to one scale before each layer reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NormKind {
    /// Mean 0 and variance 1, scaled and shifted.
    Layer,
    /// Root mean square 1, scaled.
    Rms,
}

/// The non-linearity of the MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// GELU in its tanh form, over 4·width numbers.
    Gelu,
    /// max(x, 0)², over 4·width numbers.
    Relu2,
    /// silu(gate)·value, over about 8/3·width numbers, so that it costs what the others do.
    Swiglu,
}

/// The sizes of a GPT.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GptConfig {
    /// Distinct tokens.
    pub vocabulary: usize,
    /// The longest sequence.
    pub context: usize,
    /// Numbers per token in the residual stream.
    pub width: usize,
    /// Blocks.
    pub layers: usize,
    /// Attention heads per block; the width is a multiple of it.
    pub heads: usize,
    /// Heads of keys and values, each shared by heads / key_value_heads queries; as many as `heads` if not given.
    pub key_value_heads: Option<usize>,
    /// How order is known.
    pub positions: Positions,
    /// The norm before each layer.
    pub norm: NormKind,
    /// The non-linearity of the MLP.
    pub activation: Activation,
    /// Whether each head's queries and keys are brought to root mean square 1 before they meet.
    pub qk_norm: bool,
    /// Whether the head that scores tokens is the token embedding itself.
    pub tied: bool,
    /// Share of elements dropped in training.
    pub dropout: f64,
}

impl Default for GptConfig {
    fn default() -> Self {
        Self {
            vocabulary: 256,
            context: 50,
            width: 64,
            layers: 2,
            heads: 4,
            key_value_heads: None,
            positions: Positions::None,
            norm: NormKind::Layer,
            activation: Activation::Gelu,
            qk_norm: false,
            tied: true,
            dropout: 0.0,
        }
    }
}

impl GptConfig {
    /// Numbers per head.
    pub fn head_width(&self) -> usize {
        self.width / self.heads
    }

    /// Heads of keys and values.
    pub fn key_value_heads(&self) -> usize {
        self.key_value_heads.unwrap_or(self.heads)
    }

    /// Numbers inside the MLP.
    pub fn inner(&self) -> usize {
        match self.activation {
            Activation::Gelu | Activation::Relu2 => 4 * self.width,
            Activation::Swiglu => (8 * self.width).div_ceil(3).next_multiple_of(16),
        }
    }

    /// Whether attention reads queries, keys and values as the projection writes them.
    pub(crate) fn plain_attention(&self) -> bool {
        self.positions != Positions::Rotary && !self.qk_norm && self.key_value_heads() == self.heads
    }

    /// Whether training steps of such a model are written out by hand: it has GPT-2's parts.
    pub(crate) fn steps_by_hand(&self) -> bool {
        self.plain_attention() && self.norm == NormKind::Layer && self.activation == Activation::Gelu
    }

    /// Refuses a config whose sizes are not those of the stored tensors, before a model of that size is made.
    pub(crate) fn check_stored(&self, tensors: &HashMap<String, Tensor>) -> Result<(), Error> {
        if self.layers > tensors.len() {
            let reason = format!("{} layers, but only {} tensors are stored", self.layers, tensors.len());
            return Err(Error::Recipe { reason });
        }
        let places =
            (self.positions == Positions::Learned).then_some(("transformer.wpe.weight", self.context));
        for (name, rows) in [("transformer.wte.weight", self.vocabulary)].into_iter().chain(places) {
            let refuse = |reason: String| Error::Weights { name: name.to_owned(), reason };
            let stored = tensors.get(name).ok_or_else(|| refuse("they are missing".into()))?;
            if stored.dims() != [rows, self.width] {
                return Err(refuse(format!("shape {:?} instead of {:?}", stored.dims(), [rows, self.width])));
            }
        }
        Ok(())
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let refuse = |reason: &str| Err(Error::Recipe { reason: reason.to_owned() });
        let sizes = [self.vocabulary, self.context, self.width, self.layers, self.heads];
        if sizes.contains(&0) {
            return refuse("every size of a GPT is at least 1");
        }
        if !self.width.is_multiple_of(self.heads) {
            return refuse("the width of a GPT is a multiple of its heads");
        }
        let shared = self.key_value_heads();
        if shared == 0 || !self.heads.is_multiple_of(shared) {
            return refuse("the heads of a GPT are a multiple of its key_value_heads");
        }
        if self.positions == Positions::Rotary && !self.head_width().is_multiple_of(2) {
            return refuse("rotary positions need heads of an even width");
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return refuse("dropout is at least 0 and below 1");
        }
        Ok(())
    }
}
