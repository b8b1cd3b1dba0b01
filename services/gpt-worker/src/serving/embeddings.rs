//! `/v1/embeddings`: what the GPT of a served model makes of histories, as vectors.

use axum::Json;
use axum::extract::State;
use domain::AsOf;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use service_kit::{JsonBody, Problem};

use super::{Naming, Question, Wants};
use crate::Worker;

/// What is asked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    model: String,
    #[serde(default)]
    alias: Option<String>,
    #[serde(default)]
    version: Option<i32>,
    /// One row a vector: the keys of its history, or the `history` itself.
    rows: Vec<Map<String, Value>>,
}

/// What is answered.
#[derive(Serialize)]
pub(crate) struct Answer {
    model: String,
    version: i32,
    cutoff: AsOf,
    width: usize,
    embeddings: Vec<Embedding>,
}

#[derive(Serialize)]
struct Embedding {
    vector: Vec<f32>,
    statuses: Map<String, Value>,
}

#[tracing::instrument(name = "gpt_worker.embeddings", skip_all, fields(model = request.model))]
pub(crate) async fn embeddings(
    State(worker): State<Worker>,
    JsonBody(request): JsonBody<Request>,
) -> Result<Json<Answer>, Problem> {
    let which = Naming { alias: request.alias, version: request.version }.which()?;
    super::bounded(request.rows.len())?;
    let serving = worker.serving(&request.model, &which).await?;
    let width = serving.servable.reader(&request.model)?.width();
    let Question { asked, statuses, now, .. } = worker.question(&serving, &request.rows).await?;
    let said = serving.engine.ask(asked, Wants::Vectors).await?;
    let embedding = |(row, vector)| Embedding { vector, statuses: statuses.of(row) };
    Ok(Json(Answer {
        model: request.model,
        version: serving.version,
        cutoff: AsOf(now),
        width,
        embeddings: said.vectors.into_iter().enumerate().map(embedding).collect(),
    }))
}
