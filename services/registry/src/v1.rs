//! The registry's own routes: models, versions, alias moves, their history, evidence and lineage.

use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, Utc};
use domain::AsOf;
use domain::gate::Verdict;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use service_kit::{JsonBody, Problem};
use storage::models::history::{self, Entry};
use storage::models::{self, Version};

use crate::aliases::{self, Ask, evidence_of};
use crate::chain::Audit;
use crate::{Error, Registry, lineage, mlflow};

/// How many rows of history are read at a time.
const PAGE: i64 = 1_000;

pub(crate) fn routes() -> Router<Registry> {
    Router::new()
        .route("/v1/models", get(list))
        .route("/v1/models/{name}", get(show))
        .route("/v1/models/{name}/aliases/{alias}", post(move_alias))
        .route("/v1/models/{name}/history", get(show_history))
        .route("/v1/models/{name}/history/verify", get(verify))
        .route("/v1/models/{name}/at", get(at))
        .route("/v1/models/{name}/versions/{version}/evidence", get(evidence))
        .route("/v1/models/{name}/versions/{version}/lineage", get(show_lineage))
}

/// Who asks: the name in basic authentication, which MLflow's clients send; it is a claim, the password is the proof.
pub(crate) fn actor_of(headers: &HeaderMap) -> String {
    let named = || {
        let (scheme, value) = headers.get("authorization")?.to_str().ok()?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let pair = String::from_utf8(BASE64_STANDARD.decode(value.trim()).ok()?).ok()?;
        pair.split_once(':').map(|(name, _)| name.to_owned()).filter(|name| !name.is_empty())
    };
    named().unwrap_or_else(|| "anonymous".to_owned())
}

#[derive(Serialize)]
struct ModelView {
    name: String,
    description: String,
    created_at: Option<DateTime<Utc>>,
    versions: Vec<VersionView>,
}

#[derive(Serialize)]
struct VersionView {
    version: i32,
    run_id: Option<String>,
    source: String,
    created_at: Option<DateTime<Utc>>,
    aliases: Vec<String>,
    tags: Value,
}

async fn list(State(registry): State<Registry>) -> Result<Json<Value>, Problem> {
    let mut conn = registry.context.db.acquire().await.map_err(Error::from)?;
    let names = models::names(&mut conn, registry.project()).await.map_err(Error::from)?;
    drop(conn);
    Ok(Json(json!({ "models": views(&registry, &names).await? })))
}

async fn show(
    State(registry): State<Registry>,
    Path(name): Path<String>,
) -> Result<Json<ModelView>, Problem> {
    let view = views(&registry, std::slice::from_ref(&name)).await?.pop();
    Ok(Json(view.ok_or_else(|| Error::no_model(&name))?))
}

async fn views(registry: &Registry, names: &[String]) -> Result<Vec<ModelView>, Error> {
    let mut conn = registry.context.db.acquire().await?;
    let mut versions = models::versions_of(&mut conn, registry.project(), names).await?;
    let aliases = models::aliases_of(&mut conn, registry.project(), names).await?;
    let found = models::load(&mut conn, registry.project(), names).await?;
    let view = |model: models::RegisteredModel| {
        let own = versions.extract_if(.., |version| version.model == model.name);
        ModelView {
            versions: own.map(|version| version_view(version, &aliases)).collect(),
            name: model.name,
            description: model.description,
            created_at: DateTime::from_timestamp_millis(model.created_ms),
        }
    };
    Ok(found.into_iter().map(view).collect())
}

fn version_view(version: Version, aliases: &[models::Alias]) -> VersionView {
    let points_here =
        |alias: &&models::Alias| alias.model == version.model && alias.version == version.version;
    VersionView {
        aliases: aliases.iter().filter(points_here).map(|alias| alias.alias.clone()).collect(),
        version: version.version,
        run_id: version.run_id,
        source: version.source,
        created_at: DateTime::from_timestamp_millis(version.created_ms),
        tags: version.tags.into_iter().map(|(key, value)| (key, Value::String(value))).collect(),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MoveAlias {
    version: i32,
    reason: Option<String>,
}

async fn move_alias(
    State(registry): State<Registry>,
    Path((model, alias)): Path<(String, String)>,
    headers: HeaderMap,
    JsonBody(wanted): JsonBody<MoveAlias>,
) -> Result<Json<Verdict>, Problem> {
    mlflow::rules::alias(&alias).map_err(|refusal| Error::Invalid(refusal.message))?;
    let actor = actor_of(&headers);
    let ask = Ask {
        project: registry.project(),
        model: &model,
        alias: &alias,
        actor: &actor,
        reason: wanted.reason.as_deref(),
    };
    Ok(Json(aliases::point_at(&registry.context, &ask, wanted.version).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HistoryPage {
    #[serde(default)]
    after: i64,
}

async fn show_history(
    State(registry): State<Registry>,
    Path(name): Path<String>,
    Query(page): Query<HistoryPage>,
) -> Result<Json<Value>, Problem> {
    let mut conn = registry.context.db.acquire().await.map_err(Error::from)?;
    let entries = history::after(&mut conn, registry.project(), &name, page.after, PAGE).await;
    let entries: Vec<Entry> = entries.map_err(Error::from)?;
    if entries.is_empty() && page.after == 0 {
        let model = models::find(&mut conn, registry.project(), &name).await.map_err(Error::from)?;
        model.ok_or_else(|| Error::no_model(&name))?;
    }
    let next = (entries.len() as i64 == PAGE).then(|| entries.last().map(|entry| entry.sequence));
    Ok(Json(json!({ "history": entries, "next_after": next.flatten() })))
}

async fn verify(State(registry): State<Registry>, Path(name): Path<String>) -> Result<Json<Audit>, Problem> {
    let mut conn = registry.context.db.acquire().await.map_err(Error::from)?;
    let mut audit = Audit::default();
    let mut last = 0;
    loop {
        let entries = history::after(&mut conn, registry.project(), &name, last, PAGE).await;
        let entries = entries.map_err(Error::from)?;
        let Some(newest) = entries.last() else { return Ok(Json(audit)) };
        last = newest.sequence;
        entries.iter().for_each(|entry| audit.follow(registry.project(), &name, entry));
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Moment {
    time: DateTime<Utc>,
    #[serde(default = "champion")]
    alias: String,
}

fn champion() -> String {
    "champion".to_owned()
}

async fn at(
    State(registry): State<Registry>,
    Path(name): Path<String>,
    Query(moment): Query<Moment>,
) -> Result<Json<Value>, Problem> {
    let mut conn = registry.context.db.acquire().await.map_err(Error::from)?;
    let decided_by =
        history::decided_by(&mut conn, registry.project(), &name, &moment.alias, AsOf(moment.time)).await;
    let decided_by = decided_by.map_err(Error::from)?;
    Ok(Json(json!({
        "model": name,
        "alias": moment.alias,
        "time": moment.time,
        "version": decided_by.as_ref().and_then(|entry| entry.to_version),
        "decided_by": decided_by,
    })))
}

async fn evidence(
    State(registry): State<Registry>,
    Path((name, version)): Path<(String, i32)>,
) -> Result<Json<Value>, Problem> {
    let version = find(&registry, &name, version).await?;
    let mut conn = registry.context.db.acquire().await.map_err(Error::from)?;
    let evaluation = evidence_of(&mut conn, registry.project(), &version).await?.ok_or_else(|| {
        Error::Missing(format!(
            "version {} of `{name}` was never evaluated by the run that made it",
            version.version
        ))
    })?;
    Ok(Json(json!({ "run_id": version.run_id, "evaluation": evaluation })))
}

async fn show_lineage(
    State(registry): State<Registry>,
    Path((name, version)): Path<(String, i32)>,
) -> Result<Json<Value>, Problem> {
    let version = find(&registry, &name, version).await?;
    Ok(Json(lineage::of(&registry.context, registry.project(), &version).await?))
}

async fn find(registry: &Registry, name: &str, version: i32) -> Result<Version, Error> {
    let mut conn = registry.context.db.acquire().await?;
    let found = models::find_version(&mut conn, registry.project(), name, version).await?;
    found.ok_or_else(|| Error::no_version(name, version))
}
