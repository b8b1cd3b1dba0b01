//! Training sets: asked for over HTTP or by a schedule, built by a job, immutable afterwards.

use std::time::Instant;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use domain::definitions::Format;
use domain::ids::{JobId, TrainingSetId};
use frames::training_set::{build as build_set, spec_hash};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use service_kit::jobs::{Failure, Job, Outcome};
use service_kit::{JsonBody, Problem};
use sqlx::Connection;
use storage::jobs::NewJob;
use storage::training_sets::TrainingSet;

use crate::online::dataset;
use crate::parts::store_of;
use crate::snapshot::Snapshot;
use crate::{Error, FeatureStore, orphans, sources};

/// The job kind that builds training sets.
pub const JOB_KIND: &str = "build-training-set";

/// What to build, and what to do with it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildTrainingSet {
    /// The project.
    pub project: String,
    /// The dataset definition.
    pub dataset: String,
    /// Labels known by then; now, if not given.
    #[serde(default)]
    pub as_of: Option<DateTime<Utc>>,
    /// How its rows are kept, if not as the dataset says.
    #[serde(default)]
    pub format: Option<Format>,
    /// The job kind that follows: it gets `then_payload` with `training_set` added.
    #[serde(default)]
    pub then: Option<String>,
    /// The model definition to train with it, if `then` is `train`.
    #[serde(default)]
    pub model: Option<String>,
    /// Why it is built, for people: an incident, a schedule.
    #[serde(default)]
    pub reason: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    dataset: String,
    #[serde(default)]
    as_of: Option<DateTime<Utc>>,
    #[serde(default)]
    format: Option<Format>,
}

#[derive(Serialize)]
pub(crate) struct Promised {
    job: JobId,
}

pub(crate) async fn request(
    State(store): State<FeatureStore>,
    JsonBody(request): JsonBody<Request>,
) -> Result<(StatusCode, Json<Promised>), Problem> {
    let context = &store.context;
    let project = context.config.project.clone();
    let mut tx = context.db.begin().await.map_err(storage::Error::from)?;
    let definitions = storage::definitions::load(&mut tx, &project).await?;
    dataset(&definitions, &request.dataset, &project)?;
    let payload = BuildTrainingSet {
        project: project.clone(),
        dataset: request.dataset,
        as_of: request.as_of,
        format: request.format,
        then: None,
        model: None,
        reason: None,
    };
    let job = NewJob {
        project,
        kind: JOB_KIND.to_owned(),
        payload: json!(payload),
        dedup_key: None,
        priority: 0,
        max_attempts: 3,
    };
    let job = storage::jobs::enqueue(&mut tx, &job).await?;
    tx.commit().await.map_err(storage::Error::from)?;
    Ok((StatusCode::ACCEPTED, Json(Promised { job })))
}

pub(crate) async fn list(State(store): State<FeatureStore>) -> Result<Json<Vec<TrainingSet>>, Problem> {
    let mut conn = store.context.db.acquire().await.map_err(storage::Error::from)?;
    Ok(Json(storage::training_sets::latest(&mut conn, &store.context.config.project, 50).await?))
}

pub(crate) async fn show(
    State(store): State<FeatureStore>,
    Path(id): Path<TrainingSetId>,
) -> Result<Json<TrainingSet>, Problem> {
    let mut conn = store.context.db.acquire().await.map_err(storage::Error::from)?;
    Ok(Json(storage::training_sets::get(&mut conn, &store.context.config.project, id).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Export {
    /// The format; as the file lies there, whose SHA-256 is known, if not given.
    #[serde(default)]
    format: Option<Format>,
}

/// The rows of a training set as a file.
pub(crate) async fn export(
    State(store): State<FeatureStore>,
    Path(id): Path<TrainingSetId>,
    Query(export): Query<Export>,
) -> Result<Response, Problem> {
    let mut conn = store.context.db.acquire().await.map_err(storage::Error::from)?;
    let set = storage::training_sets::get(&mut conn, &store.context.config.project, id).await?;
    drop(conn);
    let files = store_of(&store.context)?;
    let format = export.format.unwrap_or_else(|| stored_as(&set));
    let bytes = tokio::task::spawn_blocking(move || -> Result<_, Error> {
        let file = files.local(&set.path, &set.sha256)?;
        frames::files::verify(&file, &set.sha256)?;
        Ok(frames::files::as_format(&file, format)?)
    })
    .await
    .map_err(Error::from)??;
    let kind = match format {
        Format::Arrow => "application/vnd.apache.arrow.file",
        Format::Parquet => "application/vnd.apache.parquet",
    };
    let name = format!("attachment; filename=\"{id}.{}\"", format.extension());
    Ok(([(CONTENT_TYPE, kind.to_owned()), (CONTENT_DISPOSITION, name)], bytes).into_response())
}

fn stored_as(set: &TrainingSet) -> Format {
    if set.path.ends_with(".parquet") { Format::Parquet } else { Format::Arrow }
}

/// Handles one job: builds the set (or finds that it exists) and says what follows.
pub(crate) async fn build(store: FeatureStore, job: Job) -> Result<Outcome, Failure> {
    let request: BuildTrainingSet = job.payload()?;
    let id = make(&store, &request).await?;
    let next = request.then.iter().map(|kind| NewJob {
        project: request.project.clone(),
        kind: kind.clone(),
        payload: json!({
            "project": request.project,
            "model": request.model,
            "training_set": id,
            "reason": request.reason,
            "promote": true,
        }),
        dedup_key: None,
        priority: 0,
        max_attempts: 3,
    });
    Ok(Outcome { answer: json!({ "training_set": id }), next: next.collect() })
}

async fn make(store: &FeatureStore, request: &BuildTrainingSet) -> Result<TrainingSetId, Error> {
    let began = Instant::now();
    let context = &store.context;
    let project = request.project.as_str();
    let mut conn = context.db.acquire().await?;
    let definitions = storage::definitions::load(&mut conn, project).await?;
    let mut dataset = dataset(&definitions, &request.dataset, project)?.clone();
    dataset.format = request.format.unwrap_or(dataset.format);
    let as_of = request.as_of.unwrap_or_else(|| context.clock.now());
    let max_seq = storage::parts::latest_seq(&mut conn, project).await?;
    drop(conn); // a foreign database takes its time, as does the join; nobody else should wait for a connection
    let spine = sources::spine(context, &definitions, &dataset).await?;
    let spec_hash = spec_hash(&definitions, &dataset, spine.as_ref());
    let mut conn = context.db.acquire().await?;
    if let Some(id) = storage::training_sets::find(&mut conn, project, &spec_hash, max_seq, as_of).await? {
        return Ok(id);
    }
    drop(conn);
    let snapshot = Snapshot::take(context, project, &definitions, &dataset, max_seq, spine).await?;
    let id = TrainingSetId::new();
    let path = format!("training-sets/{project}/{}/{id}.{}", dataset.name, dataset.format.extension());
    let history_path = format!("training-sets/{project}/{}/{id}.history.arrow", dataset.name);
    let places = (path.clone(), history_path.clone());
    let name = dataset.name.clone();
    let Snapshot { lease, mut rows, used } = snapshot;
    let built = tokio::task::spawn_blocking(move || -> Result<_, Error> {
        let built = build_set(&definitions, &dataset, as_of.timestamp_micros(), &mut rows)?;
        let (written, histories) = built.write(&rows.store, dataset.format, &places.0, &places.1)?;
        Ok((built.manifest, written, histories))
    })
    .await;
    storage::parts::release(&mut *context.db.acquire().await?, lease).await?;
    let (manifest, written, histories) = built??;
    let set = TrainingSet {
        id,
        dataset: name,
        spec_hash,
        max_seq,
        as_of,
        path,
        sha256: written.sha256,
        history_path: histories.as_ref().map(|_| history_path),
        history_sha256: histories.map(|histories| histories.sha256),
        rows: manifest.rows_out as i64,
        manifest: json!(manifest),
        created_at: context.clock.now(),
    };
    let mut conn = context.db.acquire().await?;
    let mut tx = conn.begin().await?;
    orphans::in_time(context, id.made_at())?;
    storage::training_sets::publish(&mut tx, project, &set).await?;
    storage::governance::inputs::record_parts(&mut tx, project, id, &used).await?;
    tx.commit().await?;
    let seconds = began.elapsed().as_secs_f64();
    store.metrics.training_set_seconds.with_label_values(&[&set.dataset]).observe(seconds);
    tracing::info!(training_set = %id, dataset = set.dataset, rows = set.rows, seconds, "built a training set");
    Ok(id)
}
