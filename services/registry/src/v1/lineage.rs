//! Where versions come from and what they made, and which versions came from something.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::IntoResponse;
use domain::ids::{PartId, TrainingSetId};
use serde::Deserialize;
use serde_json::{Value, json};
use service_kit::auth::Principal;
use service_kit::{JsonBody, Problem};
use storage::governance::inputs::{self, Input};

use super::find;
use crate::files::key_of;
use crate::lineage::{self, Lineage};
use crate::{Error, Registry};

pub(super) async fn show(
    State(registry): State<Registry>,
    Path((name, version)): Path<(String, i32)>,
) -> Result<Json<Lineage>, Problem> {
    let version = find(&registry, &name, version).await?;
    Ok(Json(lineage::of(&registry, &version).await?))
}

pub(super) async fn picture(
    State(registry): State<Registry>,
    Path((name, version)): Path<(String, i32)>,
) -> Result<impl IntoResponse, Problem> {
    let version = find(&registry, &name, version).await?;
    let drawn = lineage::draw(&lineage::of(&registry, &version).await?);
    Ok(([(header::CONTENT_TYPE, "image/svg+xml")], drawn))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Said {
    inputs: Vec<SaidInput>,
}

/// Something that a version trained elsewhere was made of.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SaidInput {
    kind: Kind,
    name: String,
    uri: Option<String>,
    sha256: Option<String>,
    #[serde(default)]
    details: serde_json::Map<String, Value>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Dataset,
    File,
    Code,
    Model,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Dataset => "dataset",
            Self::File => "file",
            Self::Code => "code",
            Self::Model => "model",
        }
    }
}

pub(super) async fn record(
    State(registry): State<Registry>,
    Path((name, version)): Path<(String, i32)>,
    principal: Principal,
    JsonBody(said): JsonBody<Said>,
) -> Result<Json<Lineage>, Problem> {
    principal.may_write("write lineage down")?;
    let version = find(&registry, &name, version).await?;
    let mut tx = registry.context.db.begin().await.map_err(Error::from)?;
    for input in said.inputs {
        let input = checked(input, principal.shown(), &registry)?;
        inputs::record_input(&mut tx, key_of(registry.project(), &version), &input)
            .await
            .map_err(Error::from)?;
    }
    tx.commit().await.map_err(Error::from)?;
    Ok(Json(lineage::of(&registry, &version).await?))
}

fn checked(said: SaidInput, recorded_by: &str, registry: &Registry) -> Result<Input, Error> {
    if said.name.is_empty() || said.name.len() > 500 {
        return Err(Error::Invalid("an input needs a `name` of 1 to 500 bytes".to_owned()));
    }
    Ok(Input {
        kind: said.kind.name().to_owned(),
        name: said.name,
        uri: said.uri,
        sha256: said.sha256.map(|hash| sha256(&hash)).transpose()?,
        details: Value::Object(said.details),
        recorded_by: recorded_by.to_owned(),
        recorded_at: registry.context.clock.now(),
    })
}

/// A SHA-256 in lower case.
fn sha256(text: &str) -> Result<String, Error> {
    match hex::decode(text) {
        Ok(bytes) if bytes.len() == 32 => Ok(hex::encode(bytes)),
        _ => Err(Error::Invalid(format!("`{text}` is no SHA-256: 64 hexadecimal digits are"))),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Of {
    sha256: Option<String>,
    part: Option<PartId>,
    training_set: Option<TrainingSetId>,
    view: Option<String>,
}

pub(super) async fn uses(
    State(registry): State<Registry>,
    Query(of): Query<Of>,
) -> Result<Json<Value>, Problem> {
    let mut conn = registry.context.db.acquire().await.map_err(Error::from)?;
    let project = registry.project();
    let found = match of {
        Of { sha256: Some(hash), part: None, training_set: None, view: None } => {
            inputs::uses_of_hash(&mut conn, project, &sha256(&hash)?).await
        }
        Of { sha256: None, part: Some(part), training_set: None, view: None } => {
            inputs::uses_of_part(&mut conn, project, part).await
        }
        Of { sha256: None, part: None, training_set: Some(set), view: None } => {
            inputs::uses_of_training_set(&mut conn, project, set).await
        }
        Of { sha256: None, part: None, training_set: None, view: Some(view) } => {
            inputs::uses_of_view(&mut conn, project, &view).await
        }
        _ => {
            let why = "name one of `sha256`, `part`, `training_set` and `view`";
            return Err(Error::Invalid(why.to_owned()).into());
        }
    };
    Ok(Json(json!({ "versions": found.map_err(Error::from)? })))
}
