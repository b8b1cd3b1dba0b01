//! What a demo run found: `report.json` for programs, `report.html` for people.
//!
//! Belongs here: the shape of the findings and how they look. Not here: how they are found (`demo`).

mod html;
mod lineage;
pub(crate) mod plots;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use domain::evaluation::{Evaluation, Interval, Scores};
use domain::gate::Verdict;
use serde::Serialize;

pub use html::html;

/// Everything that a demo run found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Rows of the spine with a label.
    pub rows_in: u64,
    /// Rows of the training set.
    pub rows_out: u64,
    /// Values that were learned after their row's cutoff.
    pub leaked_values: u64,
    /// What a random split claims beside what the later truth is, 24 hours ahead.
    pub optimism: Optimism,
    /// The models that were trained, in the order in which they asked the gate.
    pub models: Vec<ModelReport>,
    /// The version that became champion, such as `late-arrival v1`.
    pub champion: String,
    /// What the monitors opened.
    pub incidents: Vec<IncidentReport>,
    /// Messages that the sink received.
    pub notifications_delivered: u64,
    /// The retraining that drift triggered.
    pub retraining: Retraining,
    /// Where the champion comes from.
    pub lineage: Lineage,
    /// One row a day of the replay.
    pub days: Vec<Day>,
    /// Verdicts of input columns by month: column → month → share of windows called `drift`.
    pub drift_by_month: BTreeMap<String, BTreeMap<String, f64>>,
    /// What each step did and how long it took.
    pub steps: Vec<Step>,
    /// Whether this was a run on a sample.
    pub quick: bool,
    /// How long everything took.
    pub seconds: f64,
    /// The most memory the process held.
    pub peak_rss_mb: f64,
}

/// One step of the run.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// What it did.
    pub name: String,
    /// What was measured.
    pub measured: String,
    /// How long it took.
    pub seconds: f64,
}

/// A random split's claim beside the temporal truth.
#[derive(Clone, Debug, Serialize)]
pub struct Optimism {
    /// AUC under the random split.
    pub random_auc: f64,
    /// AUC on later data.
    pub temporal_auc: f64,
    /// Expected calibration error under the random split.
    pub random_ece: f64,
    /// Expected calibration error on later data.
    pub temporal_ece: f64,
    /// All scores under the random split.
    pub random: Scores,
    /// All scores on later data.
    pub temporal: Scores,
}

/// One trained model.
#[derive(Clone, Debug, Serialize)]
pub struct ModelReport {
    /// The model definition.
    pub name: String,
    /// How it learned.
    pub kind: String,
    /// Its version of the registered model.
    pub version: i32,
    /// AUC on the test window.
    pub auc: f64,
    /// Lower end of its 95 % interval.
    pub auc_low: f64,
    /// Upper end.
    pub auc_high: f64,
    /// Log-loss on the test window, in nats.
    pub log_loss: f64,
    /// Brier score on the test window.
    pub brier: f64,
    /// Expected calibration error on the test window.
    pub ece: f64,
    /// What it would stay under if the probabilities were true.
    pub ece_null_high: f64,
    /// Expected calibration error by month.
    pub ece_by_month: BTreeMap<String, f64>,
    /// What the gate said.
    pub gate: GateReport,
    /// Rows it learned from.
    pub train_rows: u64,
    /// How long it learned.
    pub train_seconds: f64,
    /// Everything the evaluation found.
    pub evaluation: Evaluation,
    /// The training curve: stage, step, loss, validation loss.
    pub curve: Vec<CurvePoint>,
    /// Which inputs mattered, most first (trees only).
    pub importance: Vec<(String, f64)>,
}

/// A point of a training curve.
#[derive(Clone, Debug, Serialize, serde::Deserialize)]
pub struct CurvePoint {
    /// `pretrain`, `tabular` or `joint`.
    pub stage: String,
    /// Steps done in the stage.
    pub step: u64,
    /// Steps of the stage.
    pub steps: u64,
    /// Loss in nats.
    pub loss: f64,
    /// Validation loss, where one was computed.
    pub validation_loss: Option<f64>,
}

/// What a gate said.
#[derive(Clone, Debug, Serialize)]
pub struct GateReport {
    /// Whether the alias moved.
    pub passed: bool,
    /// The failed checks' evidence; empty if it passed.
    pub reasons: String,
    /// All checks, if the answer held them.
    pub verdict: Option<Verdict>,
}

/// One incident.
#[derive(Clone, Debug, Serialize)]
pub struct IncidentReport {
    /// Which.
    pub id: String,
    /// The cause, such as `label-rate`.
    pub cause: String,
    /// `page`, `ticket` or `log`.
    pub severity: String,
    /// Its state at the end of the replay.
    pub state: String,
    /// What it says.
    pub summary: String,
    /// When it was first seen (simulated time).
    pub first_seen: String,
    /// When it resolved, if it did.
    pub resolved_at: Option<String>,
}

/// The retraining that drift triggered.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Retraining {
    /// The incident, or why none triggered one.
    pub triggered_by: String,
    /// What the gate said of the new version.
    pub gate: String,
    /// The new version, if one was registered.
    pub version: Option<i32>,
    /// Whether the incident resolved afterwards, or why not.
    pub outcome: String,
}

/// Where the champion comes from.
#[derive(Clone, Debug, Serialize)]
pub struct Lineage {
    /// The version.
    pub model_version: String,
    /// The training run.
    pub run_id: String,
    /// The training set.
    pub training_set: String,
    /// The SHA-256 of its Arrow file.
    pub sha256: String,
    /// Everything ingested up to this position.
    pub max_seq: i64,
    /// The views and how many parts each has.
    pub views: BTreeMap<String, i64>,
}

/// One day of the replay.
#[derive(Clone, Debug, Serialize)]
pub struct Day {
    /// The day (UTC).
    pub day: String,
    /// Predictions that were served.
    pub predictions: u64,
    /// Their mean probability.
    pub mean_probability: f64,
    /// The share of flights that came late, once known.
    pub late_rate: Option<f64>,
    /// AUC of what was served, once labels were known.
    pub auc: Option<Interval>,
    /// Input columns that were called drifted.
    pub drifted_columns: u64,
    /// The version that served.
    pub version: i32,
}
