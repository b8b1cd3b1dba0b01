//! Applying definitions: parse all, check all, plan, and write in one transaction; or show the plan. And listing them.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Query, State};
use chrono::{DateTime, Utc};
use domain::definitions::{
    Before, Change, ChangeKind, Definitions, Evolution, Invalid, Layout, Object, ViewVersion, ViewVersions,
    check, parse_file, plan,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use service_kit::{JsonBody, Problem};
use sqlx::PgConnection;

use crate::{Error, FeatureStore, materialize, sources};

/// Definition files by name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Apply {
    files: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {
    /// Show what would be done.
    #[serde(default)]
    dry_run: bool,
    /// Let a view whose stored rows cannot be read under the new definition go on as a new version.
    #[serde(default)]
    allow_new_versions: bool,
}

/// What was, or would be, done.
#[derive(Serialize)]
pub(crate) struct Applied {
    applied: bool,
    plan: Vec<Change>,
    /// What stands in the way, and what would let it pass.
    refused: Vec<String>,
}

#[tracing::instrument(name = "feature_store.apply", skip_all)]
pub(crate) async fn apply(
    State(store): State<FeatureStore>,
    Query(options): Query<Options>,
    JsonBody(request): JsonBody<Apply>,
) -> Result<Json<Applied>, Problem> {
    let declared = parse_all(&request.files)?;
    let project = store.project();
    let mut tx = store.context.db.begin().await.map_err(storage::Error::from)?;
    storage::definitions::lock(&mut tx, project).await?;
    let merged = over(storage::definitions::load(&mut tx, project).await?, &declared);
    check(&merged)?;
    let unknown = sources::unknown_connections(&declared, &merged, &store.context.config);
    if !unknown.is_empty() {
        return Err(Invalid(unknown).into());
    }
    let stored = storage::definitions::stored(&mut tx, project).await?;
    let views = storage::view_versions::current(&mut tx, project).await?;
    let changes = plan(&declared, &merged, Before { stored: &stored, views: &views });
    let refused = if options.allow_new_versions { vec![] } else { refusals(&changes) };
    if options.dry_run {
        return Ok(Json(Applied { applied: false, plan: changes, refused }));
    }
    if !refused.is_empty() {
        return Err(Error::ChangeRefused(refused).into());
    }
    let now = store.context.clock.now();
    save(&mut tx, project, &declared, &changes, now).await?;
    storage::features::lock_ingest(&mut tx, project).await?; // no batch may come between old and new versions
    for longer in settle(&mut tx, project, &merged, &views, now).await? {
        materialize::fill(&store, &mut tx, &merged, &longer, None, now).await?;
    }
    storage::definitions::bump_epoch(&mut tx, project).await?;
    tx.commit().await.map_err(storage::Error::from)?;
    let mut conn = store.context.db.acquire().await.map_err(storage::Error::from)?;
    store.catalogues.exact(&mut conn, project).await?;
    Ok(Json(Applied { applied: true, plan: changes, refused }))
}

async fn save(
    tx: &mut PgConnection,
    project: &str,
    declared: &Definitions,
    changes: &[Change],
    now: DateTime<Utc>,
) -> Result<(), storage::Error> {
    for (located, change) in declared.objects().zip(changes) {
        if change.change != ChangeKind::Keep {
            let body = located.object.body();
            storage::definitions::save(tx, project, &change.kind, &change.name, &body, now).await?;
        }
    }
    Ok(())
}

/// Begins and revises versions, so that each view's rows are read as it is declared now. Answers the versions whose windows
/// reach further back than their online rows do.
async fn settle(
    tx: &mut PgConnection,
    project: &str,
    merged: &Definitions,
    views: &ViewVersions,
    now: DateTime<Utc>,
) -> Result<Vec<ViewVersion>, storage::Error> {
    let mut longer = Vec::new();
    for located in merged.objects() {
        let Object::FeatureView(view) = &located.object else { continue };
        let Some(layout) = Layout::of(merged, view) else { continue };
        let Some(known) = views.get(&view.name) else {
            storage::view_versions::begin(tx, project, &view.name, 1, &layout, now).await?;
            continue;
        };
        match known.layout.evolve(&layout, &known.revisions) {
            Evolution::Same => {}
            Evolution::Incompatible { .. } => {
                let version = known.version + 1;
                storage::view_versions::begin(tx, project, &view.name, version, &layout, now).await?;
            }
            Evolution::Additive { longer_memory, .. } => {
                let mut revised = known.clone();
                if revised.layout.values != layout.values {
                    revised.revisions.push(layout.values.clone());
                }
                revised.layout = layout;
                storage::view_versions::revise(tx, &revised).await?;
                longer.extend(longer_memory.then_some(revised));
            }
        }
    }
    Ok(longer)
}

fn parse_all(files: &BTreeMap<String, String>) -> Result<Definitions, Invalid> {
    let mut declared = Definitions::default();
    let mut errors = Vec::new();
    for (name, text) in files {
        if let Err(invalid) = parse_file(name, text).and_then(|objects| declared.extend(objects)) {
            errors.extend(invalid.0);
        }
    }
    if errors.is_empty() { Ok(declared) } else { Err(Invalid(errors)) }
}

/// What will be stored: everything stored, with what is declared over it.
fn over(mut stored: Definitions, declared: &Definitions) -> Definitions {
    stored.0.extend(declared.0.clone());
    stored
}

fn refusals(changes: &[Change]) -> Vec<String> {
    let refused = |change: &Change| match &change.change {
        ChangeKind::NewVersion { version, why } => Some(format!(
            "{} `{}`: {why}, so its stored rows cannot be read any more; it would go on as version {version}, which \
             begins without rows. Declare a new view beside it, or allow it: `foretime apply --allow-new-versions`, \
             `?allow_new_versions=true`",
            change.kind, change.name
        )),
        _ => None,
    };
    changes.iter().filter_map(refused).collect()
}

/// What to list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Filter {
    kind: Option<String>,
    tag: Option<String>,
    owner: Option<String>,
}

pub(crate) async fn list(
    State(store): State<FeatureStore>,
    Query(filter): Query<Filter>,
) -> Result<Json<BTreeMap<String, Vec<Value>>>, Problem> {
    if let Some(kind) = &filter.kind
        && !domain::definitions::KINDS.contains(&kind.as_str())
    {
        let hint = domain::words::did_you_mean(kind, domain::definitions::KINDS.iter().copied());
        return Err(Error::BadRequest(format!("`{kind}` is no kind of definition{hint}")).into());
    }
    let mut conn = store.context.db.acquire().await.map_err(storage::Error::from)?;
    let stored = storage::definitions::stored(&mut conn, store.project()).await?;
    let mut by_kind: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for ((kind, _), object) in stored {
        if filter.takes(&kind, &object.body) {
            by_kind.entry(kind).or_default().push(object.body);
        }
    }
    Ok(Json(by_kind))
}

impl Filter {
    fn takes(&self, kind: &str, body: &Value) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
        let owner = body["owner"].as_str().unwrap_or_default();
        let tags = body["tags"].as_array().map(Vec::as_slice).unwrap_or_default();
        is(&self.kind, kind)
            && is(&self.owner, owner)
            && self.tag.as_ref().is_none_or(|wanted| tags.iter().any(|tag| tag == wanted))
    }
}
