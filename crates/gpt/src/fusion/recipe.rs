//! How to train a joint fusion.

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::tabular::TowerConfig;

/// How to train a joint fusion.
///
/// The tower learns alone first, then everything together; each stage is cut into rounds that end with a validation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FusionRecipe {
    /// Decides weights, order and dropout.
    pub seed: u64,
    /// Rows per step.
    pub batch: usize,
    /// At most so many training rows per round of the tower; rounds go on through the shuffled rows.
    pub tabular_rows: usize,
    /// At most so many training rows per joint round.
    pub joint_rows: usize,
    /// At most so many validation rows, taken evenly.
    pub validation_rows: usize,
    /// At most so many rounds of the tower alone; 0 to train jointly from the start.
    pub tabular_rounds: usize,
    /// At most so many rounds of tower and backbone together.
    pub joint_rounds: usize,
    /// Keep the best joint round even if a round of the tower alone was better.
    pub keep_joint: bool,
    /// A stage ends after so many rounds without a better validation loss.
    pub patience: usize,
    /// The highest learning rate of the tower's own stage.
    pub learning_rate: f64,
    /// The highest learning rate of the joint stage.
    pub joint_learning_rate: f64,
    /// The backbone's learning rate as a share of the joint one.
    pub backbone_rate: f64,
    /// Decay of matrices.
    pub weight_decay: f64,
    /// The largest global gradient norm.
    pub clip: f64,
    /// The tower.
    pub tower: TowerConfig,
    /// Width of the fusing MLP.
    pub head_width: usize,
    /// Share of the fusing MLP's elements dropped in training.
    pub head_dropout: f64,
}

impl Default for FusionRecipe {
    fn default() -> Self {
        Self {
            seed: 0,
            batch: 512,
            tabular_rows: 50_000,
            joint_rows: 20_000,
            validation_rows: 12_000,
            tabular_rounds: 8,
            joint_rounds: 3,
            keep_joint: false,
            patience: 3,
            learning_rate: 2e-3,
            joint_learning_rate: 5e-4,
            backbone_rate: 1.0,
            weight_decay: 0.02,
            clip: 1.0,
            tower: TowerConfig::default(),
            head_width: 64,
            head_dropout: 0.1,
        }
    }
}

impl FusionRecipe {
    pub(super) fn check(&self, has_backbone: bool) -> Result<(), Error> {
        let refuse = |reason: &str| Err(Error::Recipe { reason: reason.to_owned() });
        let sizes = [
            self.batch,
            self.tabular_rows,
            self.joint_rows,
            self.validation_rows,
            self.patience,
            self.head_width,
        ];
        if sizes.contains(&0) {
            return refuse("batch, row counts, patience and head_width are at least 1");
        }
        if !(0.0..1.0).contains(&self.head_dropout) {
            return refuse("dropout is at least 0 and below 1");
        }
        if has_backbone && self.joint_rounds == 0 {
            return refuse("a backbone needs at least one joint round");
        }
        if !has_backbone && self.tabular_rounds == 0 {
            return refuse("without a backbone there is at least one tabular round");
        }
        Ok(())
    }
}
