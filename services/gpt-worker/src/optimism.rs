//! The optimism report: the same model and features under a random split and under the temporal one.
//!
//! A random split lets a model learn from flights of the very day that it is judged on. The report trains both ways and
//! prints both claims side by side; only the temporal one is ever used for anything.

use domain::evaluation::Scores;
use domain::ids::TrainingSetId;
use domain::split::Window;
use gpt::allocator::KeptMemory;
use serde::{Deserialize, Serialize};
use serde_json::json;
use service_kit::jobs::{Failure, Job, Outcome};
use service_kit::judging::scores;
use statistics::Generator;
use statistics::calibrators::sigmoid;

use crate::kinds::{Lesson, learn};
use crate::training_data::{TrainingData, at_least, sample};
use crate::{Error, Worker, checkpoint};

/// The job kind that makes an optimism report.
pub const OPTIMISM_JOB: &str = "optimism-report";

/// What to report on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Optimism {
    /// The project.
    pub project: String,
    /// The model definition.
    pub model: String,
    /// What to learn from.
    pub training_set: TrainingSetId,
}

#[derive(Serialize)]
struct Report {
    random: Scores,
    temporal: Scores,
    train_rows: usize,
}

/// Handles one job.
pub(crate) async fn handle(worker: Worker, job: Job) -> Result<Outcome, Failure> {
    let request: Optimism = job.payload()?;
    let (id, set) = (job.leased.id, request.training_set);
    let data = TrainingData::load(&worker, id, &request.project, &request.model, set, false).await?;
    let report = tokio::task::spawn_blocking(move || report(&data)).await.map_err(Error::from)??;
    checkpoint::forget(&worker.context, id).await;
    Ok(Outcome { answer: json!(report), next: vec![] })
}

fn report(data: &TrainingData) -> Result<Report, Error> {
    let _kept = KeptMemory::hold();
    let windows = data.windows();
    let train = data.places(&windows, Window::Train);
    let validation = data.places(&windows, Window::Validation);
    let test = data.places(&windows, Window::Test);
    at_least("training", &train, 200)?;
    at_least("validation", &validation, 100)?;
    at_least("test", &test, 100)?;
    let sizes = [train.len(), validation.len()];
    let temporal = judge(data, train, validation, test)?;
    let mut shuffled: Vec<usize> = (0..windows.len()).collect();
    let mut generator = Generator::from_seed(data.model.seed);
    for at in (1..shuffled.len()).rev() {
        shuffled.swap(at, generator.below(at + 1));
    }
    let test = shuffled.split_off(sizes[0] + sizes[1]);
    let validation = shuffled.split_off(sizes[0]);
    let random = judge(data, shuffled, validation, test)?;
    Ok(Report { random, temporal, train_rows: data.model.max_train_rows.unwrap_or(sizes[0]).min(sizes[0]) })
}

/// Trains on some rows, stops early by others, and scores the rest.
fn judge(
    data: &TrainingData,
    train: Vec<usize>,
    validation: Vec<usize>,
    test: Vec<usize>,
) -> Result<Scores, Error> {
    let train = data.rows(sample(train, data.model.max_train_rows, data.model.seed));
    let (validation, test) = (data.rows(validation), data.rows(test));
    let lesson = Lesson::new(&data.model, data.stream(), &train, &validation)?
        .on(&data.device)
        .kept_in(&data.checkpoints);
    let learned = learn(&lesson, &mut |_| std::ops::ControlFlow::Continue(()))?;
    let odds = learned.log_odds(test.asked())?;
    let probabilities: Vec<f64> = odds.into_iter().map(|odds| sigmoid(odds - lesson.prior_shift())).collect();
    Ok(scores(&probabilities, &test.labels)?)
}
