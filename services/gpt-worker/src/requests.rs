//! Asking for work: what takes long is enqueued here and done by the job loop.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::ids::{JobId, TrainingSetId};
use domain::split::RollingOrigin;
use domain::{Cutoff, Horizon};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use service_kit::{JsonBody, Problem};
use storage::jobs::NewJob;

use crate::{
    BACKTEST_JOB, Backtest, Error, OPTIMISM_JOB, Optimism, PUBLISH_JOB, PublishEmbeddings, TRAIN_JOB, Train,
    Worker,
};

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

/// A model to backtest.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BacktestRequest {
    model: String,
    training_set: TrainingSetId,
    folds: usize,
    test: Horizon,
    validation: Horizon,
    #[serde(default)]
    train: Option<Horizon>,
}

/// Folds of one backtest, at most.
const MOST_FOLDS: usize = 200;

pub(crate) async fn backtest(
    State(worker): State<Worker>,
    JsonBody(request): JsonBody<BacktestRequest>,
) -> Answer {
    let BacktestRequest { model, training_set, folds, test, validation, train } = request;
    let origin = RollingOrigin { folds, test, validation, train };
    origin.folds(Cutoff::default()).map_err(|error| Error::BadRequest(error.to_string()))?;
    if folds > MOST_FOLDS {
        return Err(Error::BadRequest(format!("`folds` is {folds}; at most {MOST_FOLDS} are walked")).into());
    }
    let project = worker.context.config.project.clone();
    let payload = Backtest { project, model: model.clone(), training_set, origin };
    enqueue(&worker, BACKTEST_JOB, &model, training_set, json!(payload)).await
}

pub(crate) async fn publish(
    State(worker): State<Worker>,
    JsonBody(request): JsonBody<PublishEmbeddings>,
) -> Answer {
    crate::publish::check(&worker, &request).await?;
    promise(&worker, PUBLISH_JOB, json!(request)).await
}

/// Enqueues work on a model, after it was looked up: a misspelt name is refused now, not by the job.
async fn enqueue(worker: &Worker, kind: &str, model: &str, set: TrainingSetId, payload: Value) -> Answer {
    let project = worker.project();
    let mut conn = worker.context.db.acquire().await.map_err(storage::Error::from)?;
    let definitions = storage::definitions::load(&mut conn, project).await?;
    if definitions.model(model).is_none() {
        return Err(Error::Undefined { kind: "model", name: model.to_owned() }.into());
    }
    storage::training_sets::get(&mut conn, project, set).await?;
    drop(conn);
    promise(worker, kind, payload).await
}

async fn promise(worker: &Worker, kind: &str, payload: Value) -> Answer {
    let context = &worker.context;
    let mut tx = context.db.begin().await.map_err(storage::Error::from)?;
    let job = NewJob {
        project: worker.project().to_owned(),
        kind: kind.to_owned(),
        payload,
        dedup_key: None,
        priority: 0,
        run_after: context.clock.now(),
        max_attempts: 3,
    };
    let job = storage::jobs::enqueue(&mut tx, &job, context.machine_clock.now()).await?;
    tx.commit().await.map_err(storage::Error::from)?;
    Ok((StatusCode::ACCEPTED, Json(Promised { job })))
}
