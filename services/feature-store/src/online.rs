//! Online features of a dataset at this moment, and how fresh the views are.

use std::collections::HashMap;

use axum::Json;
use axum::extract::{Path, State};
use domain::definitions::{Dataset, Definitions};
use frames::online::{Fetched, Read, features, reads, spine};
use frames::rows::{from_json, to_json};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use service_kit::{JsonBody, Problem};
use sqlx::PgConnection;
use storage::parts::Freshness;

use crate::ingest::VIEW_VERSION;
use crate::{Error, FeatureStore};

/// The rows that are asked about: spine columns and `event_time`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OnlineRequest {
    rows: Vec<Map<String, Value>>,
}

#[tracing::instrument(name = "feature_store.online", skip_all, fields(dataset = %name))]
pub(crate) async fn online(
    State(store): State<FeatureStore>,
    Path(name): Path<String>,
    JsonBody(request): JsonBody<OnlineRequest>,
) -> Result<Json<Value>, Problem> {
    let project = store.context.config.project.as_str();
    let mut conn = store.context.db.acquire().await.map_err(storage::Error::from)?;
    let definitions = storage::definitions::load(&mut conn, project).await?;
    let dataset = dataset(&definitions, &name, project)?;
    let columns = domain::definitions::spine_columns(&definitions, dataset);
    let spine = spine(&definitions, dataset, &from_json(&request.rows, &columns)?)?;
    let now = store.context.clock.now();
    let mut fetched = HashMap::new();
    for read in reads(&definitions, dataset, &spine, now.timestamp_micros())? {
        let rows = fetch(&mut conn, project, &read).await?;
        fetched.insert(read.view, rows);
    }
    let assembled = features(&definitions, dataset, &spine, now.timestamp_micros(), fetched)?;
    let statuses: HashMap<&str, _> =
        assembled.joined.iter().map(|joined| (joined.view.as_str(), &joined.statuses)).collect();
    Ok(Json(json!({ "cutoff": now, "rows": to_json(&assembled.features), "statuses": statuses })))
}

async fn fetch(conn: &mut PgConnection, project: &str, read: &Read) -> Result<Fetched, storage::Error> {
    let since = read.since.and_then(chrono::DateTime::from_timestamp_micros);
    let rows = storage::features::read(conn, project, &read.view, VIEW_VERSION, &read.keys, since).await?;
    Ok(Fetched {
        event_times: rows.event_times.iter().map(chrono::DateTime::timestamp_micros).collect(),
        known_times: rows.known_times.iter().map(chrono::DateTime::timestamp_micros).collect(),
        payloads: rows.payloads,
        seqs: rows.seqs,
        ops: rows.ops,
    })
}

/// The dataset of that name.
pub(crate) fn dataset<'a>(
    definitions: &'a Definitions,
    name: &str,
    project: &str,
) -> Result<&'a Dataset, Error> {
    definitions.dataset(name).ok_or_else(|| Error::Undefined {
        kind: "dataset",
        name: name.to_owned(),
        project: project.to_owned(),
    })
}

pub(crate) async fn freshness(State(store): State<FeatureStore>) -> Result<Json<Vec<Freshness>>, Problem> {
    let mut conn = store.context.db.acquire().await.map_err(storage::Error::from)?;
    Ok(Json(storage::parts::freshness(&mut conn, &store.context.config.project).await?))
}
