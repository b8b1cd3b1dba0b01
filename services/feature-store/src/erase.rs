//! Forgetting entities: online at once, offline by a job that can be killed anywhere and goes on where it was.
//!
//! The request's transaction writes the journal, takes the online rows away, flags the training sets and enqueues the job;
//! from its commit on nothing of the entity is served. The job replaces each part that holds it, one transaction a part,
//! blanks what was served of it ([`crate::erase_logs`]), and ends with a receipt, which also names the views of other entities
//! that hold the key as a value. Rows that happened before the erasure stay away if they are sent again; answers that a worker
//! still had in memory are blanked as soon as they are published, by the same job, started anew.

use std::collections::{BTreeSet, HashMap};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use domain::definitions::{Columns, Definitions, Shape, ViewVersion};
use domain::ids::{ErasureId, JobId, TrainingSetId};
use frames::view::{ViewRows, ViewSchema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use service_kit::jobs::{Failure, Job, Outcome};
use service_kit::{JsonBody, Problem};
use sha2::{Digest, Sha256};
use sqlx::PgConnection;
use storage::erasures::{Erasure, RedactedLog, Rewritten};
use storage::parts::Part;

use crate::online::bounded;
use crate::parts::{readable, store_of};
use crate::{Error, FeatureStore, erase_logs, parts};

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
    let job = storage::erasures::enqueue(&mut tx, project, erasure.id).await?;
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
        return Err(Error::undefined(definitions, "entity", entity, project));
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
                dataset.views.iter().chain(&dataset.spine.view).chain(history.map(|stream| &stream.view));
            read.into_iter().any(|view| views.contains(view.as_str()))
        })
    };
    let datasets: Vec<String> =
        definitions.names("dataset").into_iter().filter(reads).map(str::to_owned).collect();
    let sets = storage::erasures::training_sets_of(tx, project, &datasets, erasure.requested_at).await?;
    storage::erasures::flag(tx, project, erasure.id, &sets, erasure.requested_at).await?;
    Ok(sets)
}

/// An erasure, and what was blanked after its receipt was written.
#[derive(Serialize)]
pub(crate) struct Shown {
    #[serde(flatten)]
    erasure: Erasure,
    /// Files of answers that a worker still had in memory when the receipt was written.
    redacted_since: Vec<RedactedLog>,
}

pub(crate) async fn show(
    State(store): State<FeatureStore>,
    Path(id): Path<ErasureId>,
) -> Result<Json<Shown>, Problem> {
    let mut conn = store.context.db.acquire().await.map_err(storage::Error::from)?;
    let erasure = storage::erasures::get(&mut conn, store.project(), id).await?;
    let receipt = erasure.receipt.as_ref().map(|receipt| receipt["prediction_logs"].to_string());
    let mut redacted_since = storage::erasures::redacted(&mut conn, id).await?;
    redacted_since.retain(|log| receipt.as_ref().is_some_and(|told| !told.contains(&log.old_sha256)));
    Ok(Json(Shown { erasure, redacted_since }))
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
    let horizons = storage::erasures::keys_of(&mut conn, project, &erasure.entity).await?;
    let mut versions = storage::view_versions::all(&mut conn, project).await?;
    let not_rewritten = erase_logs::not_rewritten(&versions, &erasure);
    versions.retain(|version| version.layout.entity == erasure.entity);
    drop(conn);
    if let Some(receipt) = &erasure.receipt {
        erase_logs::redact(store, project, &erasure, &versions, &horizons).await?;
        return Ok(receipt.clone());
    }
    for version in &versions {
        rewrite(store, project, &erasure, version, &horizons).await?;
    }
    erase_logs::redact(store, project, &erasure, &versions, &horizons).await?;
    let mut tx = store.context.db.begin().await?;
    let receipt = receipt(&mut tx, project, &erasure, &not_rewritten).await?;
    storage::erasures::finish(&mut tx, erasure.id, &receipt, store.context.clock.now()).await?;
    tx.commit().await?;
    tracing::info!(erasure = %erasure.id, entity = erasure.entity, "an erasure is finished");
    Ok(receipt)
}

/// Replaces the parts of a view version that hold erased rows, and removes the files of those that were replaced before.
async fn rewrite(
    store: &FeatureStore,
    project: &str,
    erasure: &Erasure,
    version: &ViewVersion,
    horizons: &HashMap<Vec<u8>, i64>,
) -> Result<(), Error> {
    let (view, number) = (version.view.as_str(), version.version);
    // A merge that comes between writes what it read before: look again until nothing is left.
    loop {
        let mut conn = store.context.db.acquire().await?;
        let listed = storage::parts::of_version(&mut conn, project, view, number, erasure.horizon).await?;
        drop(conn);
        let mut changed = false;
        for part in listed {
            if let Some(left) = without(store, version, &part, horizons).await? {
                changed |= !replace(store, project, erasure.id, version, &part, left).await?;
            }
        }
        if !changed {
            break;
        }
    }
    remove_replaced(store, project, view).await
}

/// Files that no manifest lists hold erased rows too; a training set that is being built from them is built anew.
async fn remove_replaced(store: &FeatureStore, project: &str, view: &str) -> Result<(), Error> {
    let mut conn = store.context.db.acquire().await?;
    for (id, path) in storage::parts::replaced(&mut conn, project, view).await? {
        let place = store_of(&store.context)?;
        tokio::task::spawn_blocking(move || place.remove(&path)).await??;
        storage::parts::removed(&mut conn, id, store.context.clock.now()).await?;
    }
    Ok(())
}

/// What is left of a part.
struct Left {
    schema: ViewSchema,
    rows: ViewRows,
    removed: i64,
}

/// What is left of a part; `None` if nothing has to go. Columns that the view no longer has stay in it.
async fn without(
    store: &FeatureStore,
    version: &ViewVersion,
    part: &Part,
    horizons: &HashMap<Vec<u8>, i64>,
) -> Result<Option<Left>, Error> {
    let place = store_of(&store.context)?;
    let own = ViewSchema { keys: version.layout.keys.clone(), values: version.layout.values.clone() };
    let (horizons, part) = (horizons.clone(), part.clone());
    tokio::task::spawn_blocking(move || {
        let schema = frames::parts::widest(&place, &own, &[readable(&part)])?;
        let rows = parts::read(&place, &schema, std::slice::from_ref(&part))?;
        let keys = rows.keys(&schema)?;
        let gone = |row: usize| {
            let horizon = keys.get(row).and_then(|key| horizons.get(key));
            horizon.is_some_and(|horizon| rows.event_time[row] <= *horizon)
        };
        let kept: Vec<u32> = (0..rows.rows()).filter(|row| !gone(*row)).map(|row| row as u32).collect();
        let removed = (rows.rows() - kept.len()) as i64;
        Ok((removed > 0).then(|| Left { rows: rows.take(&kept), schema, removed }))
    })
    .await?
}

/// Puts what is left in the part's place; false if a merge replaced it meanwhile.
async fn replace(
    store: &FeatureStore,
    project: &str,
    erasure: ErasureId,
    version: &ViewVersion,
    old: &Part,
    left: Left,
) -> Result<bool, Error> {
    let context = &store.context;
    let new = match left.rows.rows() {
        0 => None,
        _ => Some(parts::successor(context, version, old, left.schema, left.rows).await?),
    };
    let mut tx = context.db.begin().await?;
    storage::parts::lock(&mut tx, project, true).await?;
    match storage::parts::replace(&mut tx, &[old.id], context.clock.now()).await {
        Err(storage::Error::Conflict { .. }) => return Ok(false),
        done => done?,
    }
    if let Some(new) = &new {
        parts::publish(&mut tx, context, project, new, context.clock.now()).await?;
    }
    let note = Rewritten {
        view: old.view.clone(),
        view_version: old.view_version,
        old_path: old.path.clone(),
        old_sha256: old.sha256.clone(),
        new_sha256: new.map(|new| new.sha256),
        rows_removed: left.removed,
    };
    storage::erasures::note_part(&mut tx, erasure, &note).await?;
    tx.commit().await?;
    Ok(true)
}

/// What was done, with a hash over it, so that a copy of the receipt can be held against the journal.
async fn receipt(
    conn: &mut PgConnection,
    project: &str,
    erasure: &Erasure,
    not_rewritten: &[Value],
) -> Result<Value, Error> {
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
        "prediction_logs": storage::erasures::redacted(conn, erasure.id).await?,
        "views_not_rewritten": not_rewritten,
        "models": storage::erasures::models_of(conn, project, &sets).await?,
        "training_sets": sets,
    });
    let hash = hex::encode(Sha256::digest(receipt.to_string()));
    receipt["sha256"] = json!(hash);
    Ok(receipt)
}
