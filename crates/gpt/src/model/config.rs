//! The sizes of a GPT.

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
    /// How order is known.
    pub positions: Positions,
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
            positions: Positions::None,
            dropout: 0.0,
        }
    }
}

impl GptConfig {
    pub(crate) fn check(&self) -> Result<(), Error> {
        let refuse = |reason: &str| Err(Error::Recipe { reason: reason.to_owned() });
        let sizes = [self.vocabulary, self.context, self.width, self.layers, self.heads];
        if sizes.contains(&0) {
            return refuse("every size of a GPT is at least 1");
        }
        if !self.width.is_multiple_of(self.heads) {
            return refuse("the width of a GPT is a multiple of its heads");
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return refuse("dropout is at least 0 and below 1");
        }
        Ok(())
    }
}
