//! Asking for work: training jobs and optimism reports are enqueued here and done by the job loop.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::ids::{JobId, TrainingSetId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use service_kit::{JsonBody, Problem};
use storage::jobs::NewJob;

use crate::{Error, OPTIMISM_JOB, Optimism, TRAIN_JOB, Train, Worker};

/// A model to train.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    model: String,
    training_set: TrainingSetId,
    #[serde(default)]
    promote: bool,
}

/// A model whose optimism is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OptimismRequest {
    model: String,
    training_set: TrainingSetId,
}

#[derive(Serialize)]
pub(crate) struct Promised {
    job: JobId,
}

type Answer = Result<(StatusCode, Json<Promised>), Problem>;

pub(crate) async fn train(State(worker): State<Worker>, JsonBody(request): JsonBody<Request>) -> Answer {
    let payload = Train {
        project: worker.context.config.project.clone(),
        model: request.model.clone(),
        training_set: request.training_set,
        reason: None,
        promote: request.promote,
    };
    enqueue(&worker, TRAIN_JOB, &request.model, request.training_set, json!(payload)).await
}

pub(crate) async fn optimism(
    State(worker): State<Worker>,
    JsonBody(request): JsonBody<OptimismRequest>,
) -> Answer {
    let payload = Optimism {
        project: worker.context.config.project.clone(),
        model: request.model.clone(),
        training_set: request.training_set,
    };
    enqueue(&worker, OPTIMISM_JOB, &request.model, request.training_set, json!(payload)).await
}

/// Enqueues work on a model, after it was looked up: a misspelt name is refused now, not by the job.
async fn enqueue(worker: &Worker, kind: &str, model: &str, set: TrainingSetId, payload: Value) -> Answer {
    let context = &worker.context;
    let project = context.config.project.as_str();
    let mut tx = context.db.begin().await.map_err(storage::Error::from)?;
    let definitions = storage::definitions::load(&mut tx, project).await?;
    if definitions.model(model).is_none() {
        return Err(Error::Undefined { kind: "model", name: model.to_owned() }.into());
    }
    storage::training_sets::get(&mut tx, project, set).await?;
    let job = NewJob {
        project: project.to_owned(),
        kind: kind.to_owned(),
        payload,
        dedup_key: None,
        priority: 0,
        max_attempts: 3,
    };
    let job = storage::jobs::enqueue(&mut tx, &job).await?;
    tx.commit().await.map_err(storage::Error::from)?;
    Ok((StatusCode::ACCEPTED, Json(Promised { job })))
}
