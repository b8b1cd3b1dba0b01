//! How to train a classifier.

use serde::{Deserialize, Serialize};

use crate::{Error, LoraConfig};

/// What stands for a whole sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// The hidden state of its last token.
    Last,
    /// The mean of all its hidden states.
    Mean,
}

/// How to train a classifier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClassifierRecipe {
    /// Decides the head, the order and the dropout.
    pub seed: u64,
    /// What stands for a sequence.
    pub pooling: Pooling,
    /// Train adapters of this form and leave the model as it is; train the whole model if not given.
    pub lora: Option<LoraConfig>,
    /// How much an example of each class counts; equally if not given.
    pub class_weights: Option<Vec<f64>>,
    /// Sequences per step.
    pub batch: usize,
    /// At most so many rounds; each ends with a validation.
    pub rounds: usize,
    /// At most so many training sequences per round.
    pub rows_per_round: usize,
    /// Training ends after so many rounds without a better validation loss.
    pub patience: usize,
    /// The highest learning rate of the head.
    pub learning_rate: f64,
    /// The body's learning rate as a share of the head's.
    pub body_rate: f64,
    /// Decay of matrices.
    pub weight_decay: f64,
    /// The largest global gradient norm.
    pub clip: f64,
}

impl Default for ClassifierRecipe {
    fn default() -> Self {
        Self {
            seed: 0,
            pooling: Pooling::Last,
            lora: None,
            class_weights: None,
            batch: 64,
            rounds: 10,
            rows_per_round: 50_000,
            patience: 3,
            learning_rate: 1e-3,
            body_rate: 1.0,
            weight_decay: 0.01,
            clip: 1.0,
        }
    }
}

impl ClassifierRecipe {
    pub(super) fn check(&self, classes: usize) -> Result<(), Error> {
        let refuse = |reason: String| Err(Error::Recipe { reason });
        if classes < 2 {
            return refuse("a classifier has at least 2 classes".into());
        }
        if [self.batch, self.rounds, self.rows_per_round, self.patience].contains(&0) {
            return refuse("batch, rounds, rows_per_round and patience are at least 1".into());
        }
        if let Some(weights) = &self.class_weights {
            if weights.len() != classes {
                return refuse(format!("{} class weights for {classes} classes", weights.len()));
            }
            if weights.iter().any(|w| !w.is_finite() || *w < 0.0) || weights.iter().all(|w| *w == 0.0) {
                return refuse("class weights are finite, not negative, and not all 0".into());
            }
        }
        Ok(())
    }

    pub(super) fn weight(&self, class: u32) -> f64 {
        self.class_weights.as_ref().map_or(1.0, |weights| weights[class as usize])
    }
}
