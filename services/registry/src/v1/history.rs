//! The history of a model's aliases: read it, prove it, ask it what was live.

use axum::Json;
use axum::extract::{Path, Query, State};
use chrono::{DateTime, Utc};
use domain::AsOf;
use serde::Deserialize;
use serde_json::{Value, json};
use service_kit::Problem;
use sqlx::PgConnection;
use storage::models;
use storage::models::history::{self, Entry};

use crate::aliases::chain::Audit;
use crate::{Error, Registry};

/// How many rows of history are read at a time.
const PAGE: i64 = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryPage {
    #[serde(default)]
    after: i64,
}

pub(super) async fn show(
    State(registry): State<Registry>,
    Path(name): Path<String>,
    Query(page): Query<HistoryPage>,
) -> Result<Json<Value>, Problem> {
    let mut conn = registry.context.db.acquire().await.map_err(Error::from)?;
    let entries = history::after(&mut conn, registry.project(), &name, page.after, PAGE).await;
    let entries: Vec<Entry> = entries.map_err(Error::from)?;
    if entries.is_empty() && page.after == 0 {
        require_model(&registry, &mut conn, &name).await?;
    }
    let next = (entries.len() as i64 == PAGE).then(|| entries.last().map(|entry| entry.sequence));
    Ok(Json(json!({ "history": entries, "next_after": next.flatten() })))
}

/// Of a model that is gone the history stays; a name without either was misspelt.
async fn require_model(registry: &Registry, conn: &mut PgConnection, name: &str) -> Result<(), Error> {
    models::find(conn, registry.project(), name).await?.map(|_| ()).ok_or_else(|| Error::no_model(name))
}

pub(super) async fn verify(
    State(registry): State<Registry>,
    Path(name): Path<String>,
) -> Result<Json<Audit>, Problem> {
    let mut conn = registry.context.db.acquire().await.map_err(Error::from)?;
    let mut audit = Audit::default();
    let mut last = 0;
    loop {
        let entries = history::after(&mut conn, registry.project(), &name, last, PAGE).await;
        let entries = entries.map_err(Error::from)?;
        let Some(newest) = entries.last() else { break };
        last = newest.sequence;
        entries.iter().for_each(|entry| audit.follow(registry.project(), &name, entry));
    }
    if last == 0 {
        require_model(&registry, &mut conn, &name).await?;
    }
    Ok(Json(audit))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Moment {
    time: DateTime<Utc>,
    #[serde(default = "champion")]
    alias: String,
}

fn champion() -> String {
    "champion".to_owned()
}

pub(super) async fn at(
    State(registry): State<Registry>,
    Path(name): Path<String>,
    Query(moment): Query<Moment>,
) -> Result<Json<Value>, Problem> {
    let mut conn = registry.context.db.acquire().await.map_err(Error::from)?;
    let decided_by =
        history::decided_by(&mut conn, registry.project(), &name, &moment.alias, AsOf(moment.time)).await;
    let decided_by = decided_by.map_err(Error::from)?;
    if decided_by.is_none()
        && history::after(&mut conn, registry.project(), &name, 0, 1).await.map_err(Error::from)?.is_empty()
    {
        require_model(&registry, &mut conn, &name).await?;
    }
    Ok(Json(json!({
        "model": name,
        "alias": moment.alias,
        "time": moment.time,
        "version": decided_by.as_ref().and_then(|entry| entry.to_version),
        "decided_by": decided_by,
    })))
}
