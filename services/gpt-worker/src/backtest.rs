//! A backtest: the whole path of a model walked again and again from an origin that moves on, as retraining would have.
//!
//! Each fold learns, calibrates and is judged on what follows; together the folds judge every row of their tests once. Nothing
//! is registered.

use std::ops::ControlFlow;

use domain::Cutoff;
use domain::evaluation::{Interval, Scores};
use domain::ids::TrainingSetId;
use domain::split::{Fold, RollingOrigin};
use gpt::allocator::KeptMemory;
use serde::{Deserialize, Serialize};
use serde_json::json;
use service_kit::jobs::{Failure, Job, Outcome};
use service_kit::judging::scores;
use statistics::Generator;
use statistics::ranking::auc_by_counts;
use statistics::resampling::{block_bootstrap, mean_by_counts};

use crate::path::{Walked, walk};
use crate::training_data::TrainingData;
use crate::{Error, Worker, checkpoint};

/// The job kind that backtests.
pub const BACKTEST_JOB: &str = "backtest";

/// Draws behind an interval over all folds.
const REPLICATES: usize = 1_000;
/// Rows of one day are one block: they are not independent.
const DAY: i64 = 86_400_000_000;

/// What to backtest.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backtest {
    /// The project.
    pub project: String,
    /// The model definition.
    pub model: String,
    /// What to learn from and to be judged on.
    pub training_set: TrainingSetId,
    /// Where the folds lie.
    pub origin: RollingOrigin,
}

/// What a fold came to.
#[derive(Debug, Serialize)]
struct Judged {
    #[serde(flatten)]
    fold: Fold,
    train_rows: usize,
    calibrator_kept: bool,
    scores: Scores,
}

/// What all folds came to.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    folds: Vec<Judged>,
    /// Over the tests of all folds.
    overall: Scores,
    /// Intervals over days drawn with replacement; none if there are too few days.
    auc_by_days: Option<Interval>,
    log_loss_by_days: Option<Interval>,
}

/// Rows of all tests.
#[derive(Debug, Default)]
struct All {
    probabilities: Vec<f64>,
    labels: Vec<bool>,
    days: Vec<u64>,
}

/// Handles one job.
pub(crate) async fn handle(worker: Worker, job: Job) -> Result<Outcome, Failure> {
    let request: Backtest = job.payload()?;
    let (id, set) = (job.leased.id, request.training_set);
    let data = TrainingData::load(&worker, id, &request.project, &request.model, set, false).await?;
    let watched = job.clone();
    let report = tokio::task::spawn_blocking(move || backtest(&data, request.origin, &watched));
    let report = report.await.map_err(Error::from)??;
    checkpoint::forget(&worker.context, id).await;
    Ok(Outcome { answer: json!(report), next: vec![] })
}

fn backtest(data: &TrainingData, origin: RollingOrigin, job: &Job) -> Result<Report, Error> {
    let last = data.set.cutoffs.iter().max().map_or(0, |last| last + 1);
    let until = Cutoff::from_micros(last).unwrap_or_default();
    let folds = origin.folds(until).map_err(|error| Error::BadRequest(error.to_string()))?;
    let _kept = KeptMemory::hold();
    let (mut all, mut judged) = (All::default(), Vec::new());
    for (number, fold) in (1..).zip(folds) {
        job.report(json!({ "stage": "fold", "step": number, "steps": origin.folds }));
        let from = fold.split.validation_until;
        let one = walk_fold(data, fold, job, &mut all);
        let one = one.map_err(|cause| Error::Fold { number, from, cause: Box::new(cause) })?;
        let auc = one.scores.auc.map_or(f64::NAN, |auc| auc.value);
        job.say(format!("fold {number} of {}: AUC {auc:.4} on {} rows", origin.folds, one.scores.rows));
        judged.push(one);
    }
    Ok(Report {
        model: data.model.name.clone(),
        folds: judged,
        overall: scores(&all.probabilities, &all.labels)?,
        auc_by_days: all.auc_by_days(data.model.seed),
        log_loss_by_days: all.log_loss_by_days(data.model.seed),
    })
}

fn walk_fold(data: &TrainingData, fold: Fold, job: &Job, all: &mut All) -> Result<Judged, Error> {
    let places = data.places_of(&data.windows_by(|cutoff, label| fold.window(cutoff, label)))?;
    let (windows, test) = places.rows(data);
    let mut go_on = |_: &crate::kinds::Step| match job.cancelled.is_cancelled() {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    };
    let Walked { servable, choice, .. } = walk(data, &windows, &mut go_on)?;
    if job.cancelled.is_cancelled() {
        return Err(Error::Cancelled);
    }
    let probabilities = servable.probabilities(test.asked())?;
    let scores = scores(&probabilities, &test.labels)?;
    all.days.extend(test.cutoffs.iter().map(|cutoff| cutoff.div_euclid(DAY).cast_unsigned()));
    all.labels.extend(&test.labels);
    all.probabilities.extend(probabilities);
    Ok(Judged { fold, train_rows: windows.train.places.len(), calibrator_kept: choice.kept, scores })
}

impl All {
    fn auc_by_days(&self, seed: u64) -> Option<Interval> {
        let metric = auc_by_counts(&self.probabilities, &self.labels).ok()?;
        self.by_days(metric, seed)
    }

    fn log_loss_by_days(&self, seed: u64) -> Option<Interval> {
        let loss = |(p, label): (&f64, &bool)| -(if *label { *p } else { 1.0 - p }).max(1e-15).ln();
        let losses: Vec<f64> = self.probabilities.iter().zip(&self.labels).map(loss).collect();
        self.by_days(mean_by_counts(&losses).ok()?, seed)
    }

    fn by_days(&self, metric: impl Fn(&[u32]) -> Option<f64>, seed: u64) -> Option<Interval> {
        let found = block_bootstrap(&self.days, metric, REPLICATES, &mut Generator::from_seed(seed)).ok()?;
        Some(Interval { value: found.estimate, low: found.interval.low, high: found.interval.high })
    }
}
