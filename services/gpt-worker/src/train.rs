//! One training job: learn, calibrate, judge on later rows, write the model and its evidence, record the run.

use std::ops::ControlFlow;
use std::time::Instant;

use domain::evaluation::{CalibratorChoice, Evaluation, TESTED_FILE};
use domain::ids::TrainingSetId;
use domain::{Cutoff, LabelTime};
use frames::Values;
use frames::assemble::frame_of;
use frames::judged::Judged;
use gpt::allocator::KeptMemory;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use service_kit::jobs::{Failure, Job, Outcome};
use service_kit::judging::{by_month, diagram, scores};
use storage::jobs::NewJob;

use crate::kinds::Step;
use crate::model_file::Servable;
use crate::path::{Walked, walk};
use crate::reading::Read;
use crate::record::Run;
use crate::training_data::{Rows, TrainingData, sample};
use crate::{Error, Worker, checkpoint};

/// The job kind that trains a model.
pub const TRAIN_JOB: &str = "train";

/// Training rows that monitors compare with, at most.
const REFERENCE_ROWS: usize = 20_000;

/// What to train, and whether it may go on to serve.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Train {
    /// The project.
    pub project: String,
    /// The model definition.
    pub model: String,
    /// What to learn from.
    pub training_set: TrainingSetId,
    /// Why, for people.
    #[serde(default)]
    pub reason: Option<Value>,
    /// Register the version, ask its gate, and let it serve if it passes. The split then counts back from the training
    /// set's moment of knowledge.
    #[serde(default)]
    pub promote: bool,
}

/// Judged rows that are kept with the model's inputs, at most: enough to learn what probabilities are worth on another mix of rows.
const TESTED_ROWS: usize = 4_000;

/// Everything a finished training has to say.
struct Trained {
    evaluation: Evaluation,
    curve: Vec<Step>,
    importance: Vec<(String, f64)>,
    train_rows: usize,
}

/// Handles one job.
pub(crate) async fn handle(worker: Worker, job: Job) -> Result<Outcome, Failure> {
    let request: Train = job.payload()?;
    if let Some(done) = crate::record::done_before(&worker.context, &request, job.leased.id).await? {
        return Ok(done);
    }
    let began = Instant::now();
    let (id, set) = (job.leased.id, request.training_set);
    let data =
        TrainingData::load(&worker, id, &request.project, &request.model, set, request.promote).await?;
    let run = Run::begin(&worker.context, &request, &data, id).await?;
    let model = data.model.clone();
    let folder = run.model_folder().to_owned();
    let relative = run.relative_model_folder().to_owned();
    let watched = job.clone();
    let trained = tokio::task::spawn_blocking(move || {
        let _kept = KeptMemory::hold();
        let mut on_step = progress(&watched);
        train(&data, &folder, &relative, &mut on_step)
    })
    .await
    .map_err(Error::from)?;
    let trained = match trained {
        Ok(trained) => trained,
        Err(error) => {
            run.fail(&worker.context, &error).await?;
            return Err(error.into());
        }
    };
    let seconds = began.elapsed().as_secs_f64();
    worker.metrics.training_seconds.with_label_values(&[&model.name]).observe(seconds);
    run.finish(&worker.context, &trained.evaluation, &trained.curve, trained.train_rows, seconds).await?;
    checkpoint::forget(&worker.context, id).await;
    let next =
        if request.promote { vec![run.promotion(&worker.context, &request, &model).await?] } else { vec![] };
    let auc = trained.evaluation.overall.auc.map_or(f64::NAN, |auc| auc.value);
    job.say(format!(
        "run {} trained `{}` on {} rows in {seconds:.1} s; AUC {auc:.4} on later rows",
        run.id(),
        model.name,
        trained.train_rows
    ));
    let answer = json!({
        "run_id": run.id(),
        "model": model.name,
        "kind": model.kind,
        "registered_model": model.registered_model,
        "source": run.source(),
        "evaluation": trained.evaluation,
        "importance": trained.importance.into_iter().take(20).collect::<Vec<_>>(),
        "curve": trained.curve,
        "train_rows": trained.train_rows,
        "seconds": seconds,
    });
    Ok(Outcome { answer, next })
}

/// Reports steps to the job, and ends when it is cancelled.
fn progress(job: &Job) -> impl FnMut(&Step) -> ControlFlow<()> + use<> {
    let (job, mut begun) = (job.clone(), false);
    move |step: &Step| {
        if !std::mem::replace(&mut begun, true) && step.step > 1 {
            let (done, steps, stage) = (step.step - 1, step.steps, &step.stage);
            job.say(format!("goes on from a checkpoint after {done} of {steps} steps of `{stage}`"));
        }
        job.report(json!(step));
        if job.cancelled.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

fn train(
    data: &TrainingData,
    folder: &std::path::Path,
    relative: &str,
    on_step: &mut dyn FnMut(&Step) -> ControlFlow<()>,
) -> Result<Trained, Error> {
    let places = data.places_of(&data.windows())?;
    let trained_through = places.trained_through(data);
    let (windows, test) = places.rows(data);
    let Walked { mut servable, choice, curve } = walk(data, &windows, on_step)?;
    let importance = servable.learned.importance();
    let read = Read::later(data, &servable, &windows)?;
    servable.card.sight = read.as_ref().map(|read| read.sight(data.model.seed));
    servable.save(folder)?;
    read.map(|read| read.write(&servable, folder)).transpose()?;
    let reference = Reference::write(data, &servable, &windows.train, folder)?;
    let evaluation = judge(data, &servable, &test, choice, trained_through, folder, relative, &reference)?;
    Ok(Trained { evaluation, curve, importance, train_rows: windows.train.places.len() })
}

/// The training rows that monitors compare with.
struct Reference {
    rate: f64,
}

const REFERENCE_FILE: &str = "reference.arrow";
const JUDGED_FILE: &str = "judged.arrow";

impl Reference {
    fn write(
        data: &TrainingData,
        servable: &Servable,
        train: &Rows,
        folder: &std::path::Path,
    ) -> Result<Self, Error> {
        let rate =
            train.labels.iter().filter(|label| **label).count() as f64 / train.labels.len().max(1) as f64;
        let rows = data.rows(sample(train.places.clone(), Some(REFERENCE_ROWS), data.model.seed));
        let probabilities = servable.probabilities(rows.asked())?;
        let mut frame = frame_of(&rows.table);
        frame.set("probability", Values::Number(probabilities));
        frame.set("cutoff", Values::Time(rows.cutoffs));
        frames::files::write_arrow(&folder.join(REFERENCE_FILE), &frame)?;
        Ok(Self { rate })
    }
}

#[expect(clippy::too_many_arguments, reason = "one record is put together from all that a training knows")]
fn judge(
    data: &TrainingData,
    servable: &Servable,
    test: &Rows,
    calibrator: CalibratorChoice,
    trained_through: LabelTime,
    folder: &std::path::Path,
    relative: &str,
    reference: &Reference,
) -> Result<Evaluation, Error> {
    let probabilities = servable.probabilities(test.asked())?;
    let judged = Judged {
        rows: test.places.iter().map(|&row| data.set.rows[row].clone()).collect(),
        cutoffs: test.cutoffs.clone(),
        labels: test.labels.clone(),
        probabilities: probabilities.clone(),
    };
    let written = judged.write(&folder.join(JUDGED_FILE))?;
    write_tested(data, servable, test, folder)?;
    let at = |micros: Option<&i64>| micros.copied().and_then(Cutoff::from_micros).unwrap_or_default();
    Ok(Evaluation {
        training_set: data.id,
        dataset: data.dataset.name.clone(),
        schema_fingerprint: data.manifest.schema_fingerprint.clone(),
        trained_through,
        evaluated_from: at(test.cutoffs.first()),
        evaluated_through: at(test.cutoffs.last()),
        overall: scores(&probabilities, &test.labels)?,
        by_month: by_month(&probabilities, &test.labels, &test.cutoffs)?,
        reliability: diagram(&probabilities, &test.labels)?,
        calibrator,
        predictions_path: format!("{relative}/{JUDGED_FILE}"),
        predictions_sha256: written.sha256,
        reference_path: format!("{relative}/{REFERENCE_FILE}"),
        reference_rate: reference.rate,
    })
}

/// Some of the judged rows, with what the model was given.
fn write_tested(
    data: &TrainingData,
    servable: &Servable,
    test: &Rows,
    folder: &std::path::Path,
) -> Result<(), Error> {
    let rows = data.rows(sample(test.places.clone(), Some(TESTED_ROWS), data.model.seed));
    let probabilities = servable.probabilities(rows.asked())?;
    let mut frame = frame_of(&rows.table);
    frame.set("probability", Values::Number(probabilities));
    frame.set("label", Values::Boolean(rows.labels.into_iter().map(Some).collect()));
    frame.set("cutoff", Values::Time(rows.cutoffs));
    frames::files::write_arrow(&folder.join(TESTED_FILE), &frame)?;
    Ok(())
}

/// The job that asks the registry's gate.
pub(crate) fn promotion_job(request: &Train, registered_model: &str, version: i32) -> NewJob {
    NewJob {
        project: request.project.clone(),
        kind: "promote".to_owned(),
        payload: json!({
            "project": request.project,
            "registered_model": registered_model,
            "version": version,
            "reason": request.reason.as_ref().map_or_else(|| "retrained".to_owned(), ToString::to_string),
        }),
        dedup_key: None,
        priority: 0,
        max_attempts: 3,
    }
}
