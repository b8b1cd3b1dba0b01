//! What an evaluation found, as numbers that a gate can judge and a person can read.
//!
//! The estimators live in `statistics`; these are their results on one model version and one window of time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::TrainingSetId;
use crate::time::{Cutoff, LabelTime};

/// The Arrow file beside the judged rows that holds some of them with the model's inputs: `cutoff`, `label`, `probability` and a
/// column an input. A version from before there was one, or from elsewhere, has none.
pub const TESTED_FILE: &str = "tested.arrow";

/// A number with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The estimate.
    pub value: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// One bin of a reliability diagram.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// Mean predicted probability of the rows in the bin.
    pub predicted: f64,
    /// Share of them whose outcome came true, with its Wilson interval.
    pub observed: Interval,
    /// How many rows.
    pub rows: u64,
}

/// How well probabilities matched outcomes over some rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// How many rows were judged.
    pub rows: u64,
    /// The share whose outcome came true.
    pub base_rate: f64,
    /// Area under the ROC curve with DeLong's interval; `None` if only one outcome occurred.
    pub auc: Option<Interval>,
    /// Average precision; `None` if only one outcome occurred.
    pub average_precision: Option<f64>,
    /// Mean negative log-likelihood, in nats.
    pub log_loss: f64,
    /// Mean squared error of the probability.
    pub brier: f64,
    /// Expected calibration error over 15 equal-width bins.
    pub ece: f64,
    /// What `ece` would stay under 95 % of the time if the probabilities were true.
    pub ece_null_high: f64,
    /// Calibration slope; `None` if it cannot be estimated.
    pub slope: Option<f64>,
    /// Calibration intercept; `None` if it cannot be estimated.
    pub intercept: Option<f64>,
}

/// Which calibrator was fitted, and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CalibratorChoice {
    /// `temperature`, `platt`, `isotonic`, `beta` or `identity`.
    pub kind: String,
    /// Whether it serves.
    pub kept: bool,
    /// Log-loss of the later window without it.
    pub log_loss_without: f64,
    /// Log-loss of the later window with it.
    pub log_loss_with: f64,
}

/// A model version judged on data later than everything it learned from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// What it was trained on.
    pub training_set: TrainingSetId,
    /// The dataset definition it answers.
    pub dataset: String,
    /// Fingerprint of the feature columns' names and types.
    pub schema_fingerprint: String,
    /// The newest outcome that training, early stopping or calibration saw.
    pub trained_through: LabelTime,
    /// The earliest cutoff it was judged on.
    pub evaluated_from: Cutoff,
    /// The latest cutoff it was judged on.
    pub evaluated_through: Cutoff,
    /// Over the whole window.
    pub overall: Scores,
    /// By calendar month of the cutoff (UTC), such as `2013-11`.
    pub by_month: BTreeMap<String, Scores>,
    /// The reliability diagram of the whole window.
    pub reliability: Vec<ReliabilityBin>,
    /// What became of the calibrator.
    pub calibrator: CalibratorChoice,
    /// The Arrow file of judged rows: `row` (the spine key), `cutoff`, `label`, `probability`. Relative to the data directory.
    pub predictions_path: String,
    /// Its SHA-256, in hex.
    pub predictions_sha256: String,
    /// The Arrow file of training rows that monitors compare with: the model's inputs and `probability`, at most 20,000
    /// rows sampled by seed. Relative to the data directory.
    pub reference_path: String,
    /// The share of training rows whose outcome came true.
    pub reference_rate: f64,
}
