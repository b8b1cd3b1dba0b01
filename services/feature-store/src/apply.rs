//! Applying definitions: parse all, check all, plan, and write in one transaction; or show the plan.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Query, State};
use domain::definitions::{Change, ChangeKind, Definitions, Invalid, check, parse_file, plan};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use service_kit::{JsonBody, Problem};

use crate::{Error, FeatureStore};

/// Definition files by name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Apply {
    files: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {
    #[serde(default)]
    dry_run: bool,
}

/// What was, or would be, done.
#[derive(Serialize)]
pub(crate) struct Applied {
    applied: bool,
    plan: Vec<Change>,
}

#[tracing::instrument(name = "feature_store.apply", skip_all)]
pub(crate) async fn apply(
    State(store): State<FeatureStore>,
    Query(options): Query<Options>,
    JsonBody(request): JsonBody<Apply>,
) -> Result<Json<Applied>, Problem> {
    let declared = parse_all(&request.files)?;
    let project = &store.context.config.project;
    let mut tx = store.context.db.begin().await.map_err(storage::Error::from)?;
    storage::definitions::lock(&mut tx, project).await?;
    check(&over(storage::definitions::load(&mut tx, project).await?, &declared))?;
    let changes = plan(&declared, &storage::definitions::stored(&mut tx, project).await?);
    refuse(&changes)?;
    if options.dry_run {
        return Ok(Json(Applied { applied: false, plan: changes }));
    }
    let now = store.context.clock.now();
    for (located, change) in declared.objects().zip(&changes) {
        if change.change != ChangeKind::Keep {
            let body = located.object.body();
            storage::definitions::save(&mut tx, project, &change.kind, &change.name, &body, now).await?;
        }
    }
    tx.commit().await.map_err(storage::Error::from)?;
    Ok(Json(Applied { applied: true, plan: changes }))
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

fn refuse(changes: &[Change]) -> Result<(), Error> {
    let refused: Vec<String> = changes
        .iter()
        .filter_map(|change| match &change.change {
            ChangeKind::Refuse { why } => Some(format!("{} `{}`: {why}", change.kind, change.name)),
            _ => None,
        })
        .collect();
    if refused.is_empty() { Ok(()) } else { Err(Error::ChangeRefused(refused)) }
}

pub(crate) async fn list(
    State(store): State<FeatureStore>,
) -> Result<Json<BTreeMap<String, Vec<Value>>>, Problem> {
    let mut conn = store.context.db.acquire().await.map_err(storage::Error::from)?;
    let stored = storage::definitions::stored(&mut conn, &store.context.config.project).await?;
    let mut by_kind: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for ((kind, _), object) in stored {
        by_kind.entry(kind).or_default().push(object.body);
    }
    Ok(Json(by_kind))
}
