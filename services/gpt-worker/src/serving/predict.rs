//! `/v1/predict`: probabilities of rows, each with its id.

use axum::Json;
use axum::extract::State;
use domain::AsOf;
use domain::ids::PredictionId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use service_kit::{JsonBody, Problem};

use super::Naming;
use crate::Worker;

/// What is asked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PredictRequest {
    /// The registered model.
    model: String,
    /// Which of its versions, by alias.
    #[serde(default)]
    alias: Option<String>,
    /// Which of its versions, by number.
    #[serde(default)]
    version: Option<i32>,
    /// One row a question: the dataset's spine columns and `event_time`; features and a `history` that it brings are not
    /// fetched.
    rows: Vec<Map<String, Value>>,
}

/// What is answered.
#[derive(Serialize)]
pub(crate) struct PredictAnswer {
    model: String,
    version: i32,
    cutoff: AsOf,
    predictions: Vec<Answer>,
}

#[derive(Serialize)]
struct Answer {
    prediction_id: PredictionId,
    probability: f64,
    statuses: Map<String, Value>,
}

#[tracing::instrument(name = "gpt_worker.predict", skip_all, fields(model = request.model))]
pub(crate) async fn predict(
    State(worker): State<Worker>,
    JsonBody(request): JsonBody<PredictRequest>,
) -> Result<Json<PredictAnswer>, Problem> {
    let which = Naming { alias: request.alias, version: request.version }.which()?;
    super::bounded(request.rows.len())?;
    let serving = worker.serving(&request.model, &which).await?;
    let told = worker.foretell(serving, &request.rows).await?;
    let answers = told.ids.iter().zip(&told.probabilities).enumerate();
    Ok(Json(PredictAnswer {
        model: request.model,
        version: told.serving.version,
        cutoff: told.cutoff,
        predictions: answers
            .map(|(row, (id, probability))| Answer {
                prediction_id: *id,
                probability: *probability,
                statuses: told.statuses.of(row),
            })
            .collect(),
    }))
}

/// Writes and publishes the logged predictions now.
pub(crate) async fn flush(State(worker): State<Worker>) -> Result<Json<Value>, Problem> {
    Ok(Json(json!({ "rows": worker.log.flush().await? })))
}
