//! Models and their versions, as they stand.

use axum::Json;
use axum::extract::{Path, State};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use service_kit::Problem;
use storage::models::{self, Version};

use crate::{Error, Registry};

#[derive(Serialize)]
pub(super) struct ModelView {
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

pub(super) async fn list(State(registry): State<Registry>) -> Result<Json<Value>, Problem> {
    let mut conn = registry.context.db.acquire().await.map_err(Error::from)?;
    let names = models::names(&mut conn, registry.project()).await.map_err(Error::from)?;
    drop(conn);
    Ok(Json(json!({ "models": views(&registry, &names).await? })))
}

pub(super) async fn show(
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
