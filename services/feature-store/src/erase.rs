//! Forgetting entities: online at once, offline by a job that can be killed anywhere and goes on where it was.
//!
//! The request's transaction writes the journal, takes the online rows away, flags the training sets and enqueues the job;
//! from its commit on nothing of the entity is served. The job replaces each part that holds it, one transaction a part, and
//! ends with a receipt. Rows that happened before the erasure stay away if they are sent again.

use std::collections::{BTreeSet, HashMap};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use domain::definitions::{Columns, Definitions, Shape, ViewVersion};
use domain::ids::{ErasureId, JobId, PartId, TrainingSetId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use service_kit::jobs::{Failure, Job, Outcome};
use service_kit::{JsonBody, Problem};
use sha2::{Digest, Sha256};
use sqlx::PgConnection;
use storage::erasures::{Erasure, Rewritten};
use storage::features::Part;
use storage::jobs::NewJob;

use crate::online::bounded;
use crate::{Error, FeatureStore};

/// The job kind that rewrites parts.
pub(crate) const JOB_KIND: &str = "erase";

/// Whom to forget.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    /// The entity's key columns, one object an entity.
    keys: Vec<Map<String, Value>>,
    /// Why: a request's number, say. It is kept.
    #[serde(default)]
    reason: String,
}

/// What was done, and what follows.
#[derive(Serialize)]
pub(crate) struct Promised {
    erasure: ErasureId,
    job: JobId,
    /// Rows that happened by then are gone.
    horizon: DateTime<Utc>,
    online_rows_removed: u64,
    training_sets_flagged: Vec<TrainingSetId>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Payload {
    project: String,
    erasure: ErasureId,
}

pub(crate) async fn request(
    State(store): State<FeatureStore>,
    Path(entity): Path<String>,
    JsonBody(request): JsonBody<Request>,
) -> Result<(StatusCode, Json<Promised>), Problem> {
    bounded(request.keys.len())?;
    let project = store.project();
    let mut tx = store.context.db.begin().await.map_err(storage::Error::from)?;
    storage::features::lock_ingest(&mut tx, project).await?;
    let catalogue = store.catalogues.exact(&mut tx, project).await?;
    let versions = versions_of(&mut tx, &catalogue.definitions, project, &entity).await?;
    let keys = encoded(&versions, &request.keys)?;
    let now = store.context.clock.now();
    let erasure = Erasure {
        id: ErasureId::new(),
        entity,
        reason: request.reason,
        key_count: keys.len() as i32,
        horizon: now,
        requested_at: now,
        finished_at: None,
        receipt: None,
    };
    storage::erasures::request(&mut tx, project, &erasure, &keys).await?;
    let mut removed = 0;
    for version in versions.iter().filter(|version| version.layout.shape != Shape::Log) {
        removed += storage::online::erase(&mut tx, version.id, &keys, now).await?;
    }
    let flagged = flag(&mut tx, project, &catalogue.definitions, &versions, &erasure).await?;
    let views: Vec<String> = versions.iter().map(|version| version.view.clone()).collect();
    let samples = storage::parity::forget(&mut tx, project, &views).await?;
    let job = enqueue(&store, &mut tx, erasure.id).await?;
    tx.commit().await.map_err(storage::Error::from)?;
    store.sampler.forget(&views);
    for sample in samples {
        store.remove_file(&sample).await;
    }
    let promised = Promised {
        erasure: erasure.id,
        job,
        horizon: now,
        online_rows_removed: removed,
        training_sets_flagged: flagged,
    };
    Ok((StatusCode::ACCEPTED, Json(promised)))
}

/// Every version of every view that describes the entity.
async fn versions_of(
    conn: &mut PgConnection,
    definitions: &Definitions,
    project: &str,
    entity: &str,
) -> Result<Vec<ViewVersion>, Error> {
    if definitions.entity(entity).is_none() {
        return Err(Error::Undefined {
            kind: "entity",
            name: entity.to_owned(),
            project: project.to_owned(),
        });
    }
    let mut versions = storage::view_versions::all(conn, project).await?;
    versions.retain(|version| version.layout.entity == entity);
    if versions.is_empty() {
        return Err(Error::BadRequest(format!("no view describes `{entity}`, so there is nothing to erase")));
    }
    Ok(versions)
}

/// The keys as every version writes them; a version whose key has other columns or types has bytes of its own.
fn encoded(versions: &[ViewVersion], keys: &[Map<String, Value>]) -> Result<Vec<Vec<u8>>, Error> {
    if keys.is_empty() {
        return Err(Error::BadRequest("`keys` names no entity".to_owned()));
    }
    let mut layouts: Vec<&Columns> = versions.iter().map(|version| &version.layout.keys).collect();
    layouts.dedup();
    let mut encoded = BTreeSet::new();
    let mut refusal = None;
    for columns in layouts {
        match keys_under(columns, keys) {
            Ok(keys) => encoded.extend(keys),
            Err(error) => refusal = Some(error), // an older key of the entity; a newer one has to fit
        }
    }
    match refusal {
        Some(error) if encoded.is_empty() => Err(error),
        _ => Ok(encoded.into_iter().collect()),
    }
}

fn keys_under(columns: &Columns, keys: &[Map<String, Value>]) -> Result<Vec<Vec<u8>>, Error> {
    let frame = frames::rows::pushed(keys, columns)?;
    let names: Vec<&String> = columns.iter().map(|(name, _)| name).collect();
    let encoded = frames::keys::Keys::of(&frame, &names)?;
    if let Some(row) = (0..encoded.len()).find(|row| encoded.get(*row).is_none()) {
        return Err(Error::BadRequest(format!("key {row} has a part that is null, so it names no entity")));
    }
    Ok(encoded.distinct())
}

/// Flags the training sets that may hold rows of the entity: those of datasets that read a view of it.
async fn flag(
    tx: &mut PgConnection,
    project: &str,
    definitions: &Definitions,
    versions: &[ViewVersion],
    erasure: &Erasure,
) -> Result<Vec<TrainingSetId>, Error> {
    let views: BTreeSet<&str> = versions.iter().map(|version| version.view.as_str()).collect();
    let reads = |name: &&str| {
        definitions.dataset(name).is_some_and(|dataset| {
            let history = dataset.history.as_ref().and_then(|name| definitions.event_stream(name));
            let read =
                dataset.views.iter().chain([&dataset.spine.view]).chain(history.map(|stream| &stream.view));
            read.into_iter().any(|view| views.contains(view.as_str()))
        })
    };
    let datasets: Vec<String> =
        definitions.names("dataset").into_iter().filter(reads).map(str::to_owned).collect();
    let sets = storage::erasures::training_sets_of(tx, project, &datasets, erasure.requested_at).await?;
    storage::erasures::flag(tx, project, erasure.id, &sets, erasure.requested_at).await?;
    Ok(sets)
}

async fn enqueue(
    store: &FeatureStore,
    tx: &mut PgConnection,
    erasure: ErasureId,
) -> Result<JobId, storage::Error> {
    let project = store.project().to_owned();
    let job = NewJob {
        payload: json!(Payload { project: project.clone(), erasure }),
        project,
        kind: JOB_KIND.to_owned(),
        dedup_key: Some(erasure.to_string()),
        priority: 10,
        run_after: store.context.clock.now(),
        max_attempts: 20,
    };
    storage::jobs::enqueue(tx, &job, store.context.machine_clock.now()).await
}

pub(crate) async fn show(
    State(store): State<FeatureStore>,
    Path(id): Path<ErasureId>,
) -> Result<Json<Erasure>, Problem> {
    let mut conn = store.context.db.acquire().await.map_err(storage::Error::from)?;
    Ok(Json(storage::erasures::get(&mut conn, store.project(), id).await?))
}

/// Handles one job: rewrites what still has to be, and writes the receipt.
pub(crate) async fn run(store: FeatureStore, job: Job) -> Result<Outcome, Failure> {
    let payload: Payload = job.payload()?;
    let receipt = finish(&store, &payload).await?;
    Ok(Outcome { answer: receipt, next: vec![] })
}

async fn finish(store: &FeatureStore, payload: &Payload) -> Result<Value, Error> {
    let project = payload.project.as_str();
    let mut conn = store.context.db.acquire().await?;
    let erasure = storage::erasures::get(&mut conn, project, payload.erasure).await?;
    if let Some(receipt) = erasure.receipt {
        return Ok(receipt);
    }
    let horizons = storage::erasures::keys_of(&mut conn, project, &erasure.entity).await?;
    let mut versions = storage::view_versions::all(&mut conn, project).await?;
    versions.retain(|version| version.layout.entity == erasure.entity);
    drop(conn);
    for version in &versions {
        rewrite(store, project, &erasure, version, &horizons).await?;
    }
    let mut tx = store.context.db.begin().await?;
    for replaced in storage::erasures::rewritten(&mut tx, erasure.id).await? {
        store.remove_file(&replaced.old_path).await;
    }
    let receipt = receipt(&mut tx, project, &erasure).await?;
    storage::erasures::finish(&mut tx, erasure.id, &receipt, store.context.clock.now()).await?;
    tx.commit().await?;
    tracing::info!(erasure = %erasure.id, entity = erasure.entity, "an erasure is finished");
    Ok(receipt)
}

/// Replaces the parts of a view version that hold erased rows.
async fn rewrite(
    store: &FeatureStore,
    project: &str,
    erasure: &Erasure,
    version: &ViewVersion,
    horizons: &HashMap<Vec<u8>, i64>,
) -> Result<(), Error> {
    let mut conn = store.context.db.acquire().await?;
    let mut parts =
        storage::erasures::parts_before(&mut conn, project, &version.view, erasure.horizon).await?;
    drop(conn);
    parts.retain(|part| part.view_version == version.version);
    for part in parts {
        if let Some((successor, removed)) = without(store, version, &part, horizons).await? {
            replace(store, project, erasure.id, &part, successor, removed).await?;
        }
    }
    Ok(())
}

/// Writes what is left of a part; `None` if nothing has to go. The successor is `None` if nothing is left.
async fn without(
    store: &FeatureStore,
    version: &ViewVersion,
    part: &Part,
    horizons: &HashMap<Vec<u8>, i64>,
) -> Result<Option<(Option<Part>, i64)>, Error> {
    let id = PartId::new();
    let folder = part.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let path = format!("{folder}/{:012}-{id}.parquet", part.seq);
    let (old, new) = (store.context.data_dir.join(&part.path), store.context.data_dir.join(&path));
    let names: Vec<String> = version.layout.keys.iter().map(|(name, _)| name.clone()).collect();
    let (horizons, part) = (horizons.clone(), part.clone());
    tokio::task::spawn_blocking(move || {
        if !old.exists() {
            return Ok(None); // its file is gone already, so it holds nobody
        }
        let Some(left) = frames::erase::without(&old, &names, &horizons)? else { return Ok(None) };
        let removed = left.removed as i64;
        if left.frame.rows() == 0 {
            return Ok(Some((None, removed)));
        }
        let written = frames::files::write_parquet(&new, &left.frame)?;
        let successor = Part {
            id,
            path,
            sha256: written.sha256,
            size_bytes: written.bytes as i64,
            rows: left.frame.rows() as i64,
            ..part
        };
        Ok(Some((Some(successor), removed)))
    })
    .await?
}

async fn replace(
    store: &FeatureStore,
    project: &str,
    erasure: ErasureId,
    old: &Part,
    new: Option<Part>,
    removed: i64,
) -> Result<(), Error> {
    let mut tx = store.context.db.begin().await?;
    if storage::erasures::drop_part(&mut tx, old.id).await? {
        if let Some(new) = &new {
            storage::features::publish_part(&mut tx, project, new, store.context.clock.now()).await?;
        }
        let note = Rewritten {
            view: old.view.clone(),
            view_version: old.view_version,
            old_path: old.path.clone(),
            old_sha256: old.sha256.clone(),
            new_sha256: new.map(|new| new.sha256),
            rows_removed: removed,
        };
        storage::erasures::note_part(&mut tx, erasure, &note).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// What was done, with a hash over it, so that a copy of the receipt can be held against the journal.
async fn receipt(conn: &mut PgConnection, project: &str, erasure: &Erasure) -> Result<Value, Error> {
    let sets = storage::erasures::flagged(conn, erasure.id).await?;
    let mut receipt = json!({
        "erasure": erasure.id,
        "project": project,
        "entity": erasure.entity,
        "reason": erasure.reason,
        "keys": erasure.key_count,
        "horizon": erasure.horizon,
        "requested_at": erasure.requested_at,
        "parts": storage::erasures::rewritten(conn, erasure.id).await?,
        "models": storage::erasures::models_of(conn, project, &sets).await?,
        "training_sets": sets,
    });
    let hash = hex::encode(Sha256::digest(receipt.to_string()));
    receipt["sha256"] = json!(hash);
    Ok(receipt)
}
