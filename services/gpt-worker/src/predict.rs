//! Answering: features of this moment from the online store, the champion's probabilities, and a log of both.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use domain::ids::PredictionId;
use domain::{AsOf, Cutoff};
use frames::assemble::Assembled;
use frames::online::{asks, features, spine};
use frames::rows::from_json;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use service_kit::catalogue::Catalogue;
use service_kit::{JsonBody, Problem};
use sqlx::PgConnection;

use crate::model_file::Servable;
use crate::{Error, Worker, prediction_log};

/// Rows in one request, at most.
const MAX_ROWS: usize = 10_000;

/// What is asked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PredictRequest {
    /// The registered model.
    model: String,
    /// Which of its versions.
    #[serde(default = "champion")]
    alias: String,
    /// One row a question: the dataset's spine columns, and `event_time`.
    rows: Vec<Map<String, Value>>,
}

fn champion() -> String {
    "champion".to_owned()
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
}

/// A version that serves.
#[derive(Clone)]
struct Serving {
    version: i32,
    servable: Arc<Servable>,
}

/// Loaded versions, by model and alias.
#[derive(Clone, Default)]
pub(crate) struct Champions(Arc<Mutex<HashMap<(String, String), Serving>>>);

#[tracing::instrument(name = "gpt_worker.predict", skip_all, fields(model = request.model))]
pub(crate) async fn predict(
    State(worker): State<Worker>,
    JsonBody(request): JsonBody<PredictRequest>,
) -> Result<Json<PredictAnswer>, Problem> {
    let began = Instant::now();
    if request.rows.is_empty() || request.rows.len() > MAX_ROWS {
        return Err(Error::BadRequest(format!("`rows` must hold 1 to {MAX_ROWS} rows")).into());
    }
    let mut conn = worker.context.db.acquire().await.map_err(storage::Error::from)?;
    let serving = worker.serving(&mut conn, &request.model, &request.alias).await?;
    drop(conn);
    let catalogue = worker.catalogues.now(&worker.context.config.project).await?;
    let now = worker.context.clock.now();
    let assembled = assemble(&worker, &catalogue, &serving, &request.rows, now).await?;
    let answers = answer(&worker, &request.model, &serving, assembled, now).await?;
    worker
        .metrics
        .predict_seconds
        .with_label_values(&[&request.model])
        .observe(began.elapsed().as_secs_f64());
    Ok(Json(PredictAnswer {
        model: request.model,
        version: serving.version,
        cutoff: AsOf(now),
        predictions: answers,
    }))
}

/// Writes and publishes the logged predictions now.
pub(crate) async fn flush(State(worker): State<Worker>) -> Result<Json<Value>, Problem> {
    Ok(Json(json!({ "rows": worker.log.flush().await? })))
}

async fn assemble(
    worker: &Worker,
    catalogue: &Catalogue,
    serving: &Serving,
    rows: &[Map<String, Value>],
    now: DateTime<Utc>,
) -> Result<Assembled, Error> {
    let (definitions, views) = (&catalogue.definitions, &catalogue.views);
    let name = &serving.servable.card.dataset;
    let dataset =
        definitions.dataset(name).ok_or_else(|| Error::Undefined { kind: "dataset", name: name.clone() })?;
    let columns = domain::definitions::spine_columns(definitions, dataset);
    let spine = spine(definitions, dataset, &from_json(rows, &columns)?)?;
    let micros = now.timestamp_micros();
    let fetched = worker.reader.fetch(asks(definitions, views, dataset, &spine, micros)?).await?;
    Ok(features(definitions, views, dataset, &spine, micros, &fetched)?)
}

async fn answer(
    worker: &Worker,
    model: &str,
    serving: &Serving,
    assembled: Assembled,
    now: DateTime<Utc>,
) -> Result<Vec<Answer>, Error> {
    let servable = Arc::clone(&serving.servable);
    let (probabilities, inputs) = tokio::task::spawn_blocking(move || -> Result<_, Error> {
        let table = assembled.table()?;
        let cutoffs = vec![now.timestamp_micros(); table.rows()];
        let probabilities = servable.probabilities(&table, assembled.history.as_ref(), &cutoffs)?;
        Ok((probabilities, assembled.features))
    })
    .await??;
    let predictions: Vec<_> = probabilities.iter().map(|p| prediction_log::answer(Cutoff(now), *p)).collect();
    let answers = predictions
        .iter()
        .map(|prediction| Answer { prediction_id: prediction.id, probability: prediction.probability })
        .collect();
    let version = serving.version.to_string();
    worker.metrics.predictions.with_label_values(&[model, &version]).inc_by(predictions.len() as u64);
    if worker.log.add((model.to_owned(), serving.version), inputs, predictions)? {
        worker.log.flush().await?;
    }
    Ok(answers)
}

impl Worker {
    /// The version that the alias points at, loaded. A moved alias is seen by the next request.
    async fn serving(&self, conn: &mut PgConnection, model: &str, alias: &str) -> Result<Serving, Error> {
        let project = &self.context.config.project;
        let nothing = || Error::NothingServes { model: model.to_owned(), alias: alias.to_owned() };
        let (version, folder) =
            crate::record::served(conn, project, model, alias).await?.ok_or_else(nothing)?;
        let key = (model.to_owned(), alias.to_owned());
        let known = self.champions.0.lock().expect("no holder of this lock can panic").get(&key).cloned();
        if let Some(serving) = known.filter(|serving| serving.version == version) {
            return Ok(serving);
        }
        let folder = self.context.data_dir.join(folder);
        let servable = tokio::task::spawn_blocking(move || Servable::load(&folder)).await??;
        let serving = Serving { version, servable: Arc::new(servable) };
        self.champions.0.lock().expect("no holder of this lock can panic").insert(key, serving.clone());
        Ok(serving)
    }
}
