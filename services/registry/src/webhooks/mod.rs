//! Telling receivers of changes: what is said of each, and delivering it.
//!
//! A message is written in the transaction of its change (`storage::webhooks::note`) and delivered by a job, with MLflow's
//! headers and signature, to receivers that `service_kit::receivers` lets it reach.

mod delivery;

use serde_json::{Value, json};
use service_kit::Context;
use sqlx::PgConnection;
use storage::tracking::Pair;
use storage::webhooks::created;

use crate::Error;
pub(crate) use delivery::{send, work};

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change<'a> {
    /// A registered model (or a prompt) was created.
    Model { name: &'a str, tags: &'a [Pair], description: &'a str },
    /// A version of one was created.
    Version {
        name: &'a str,
        version: i32,
        source: &'a str,
        run_id: Option<&'a str>,
        tags: &'a [Pair],
        description: &'a str,
    },
    /// A tag of a model was set. MLflow tells of it for prompts only.
    ModelTag { name: &'a str, key: &'a str, value: &'a str },
    /// A tag of a model was removed.
    ModelTagGone { name: &'a str, key: &'a str },
    /// A tag of a version was set.
    VersionTag { name: &'a str, version: i32, key: &'a str, value: &'a str },
    /// A tag of a version was removed.
    VersionTagGone { name: &'a str, version: i32, key: &'a str },
    /// An alias was pointed at a version.
    Alias { name: &'a str, alias: &'a str, version: i32 },
    /// An alias was taken away.
    AliasGone { name: &'a str, alias: &'a str },
}

/// What webhooks may hear of: an entity, and what may happen to it.
pub(crate) const EVENTS: [(&str, &[&str]); 9] = [
    ("REGISTERED_MODEL", &["CREATED"]),
    ("MODEL_VERSION", &["CREATED"]),
    ("MODEL_VERSION_TAG", &["SET", "DELETED"]),
    ("MODEL_VERSION_ALIAS", &["CREATED", "DELETED"]),
    ("PROMPT", &["CREATED"]),
    ("PROMPT_VERSION", &["CREATED"]),
    ("PROMPT_TAG", &["SET", "DELETED"]),
    ("PROMPT_VERSION_TAG", &["SET", "DELETED"]),
    ("PROMPT_ALIAS", &["CREATED", "DELETED"]),
];

impl Change<'_> {
    fn model(&self) -> &str {
        match self {
            Self::Model { name, .. }
            | Self::Version { name, .. }
            | Self::ModelTag { name, .. }
            | Self::ModelTagGone { name, .. }
            | Self::VersionTag { name, .. }
            | Self::VersionTagGone { name, .. }
            | Self::Alias { name, .. }
            | Self::AliasGone { name, .. } => name,
        }
    }

    /// Entity, action, and what is said: of a model, or of a prompt.
    fn told(&self, is_prompt: bool) -> (&'static str, &'static str, Value) {
        let entity = |model, prompt| if is_prompt { prompt } else { model };
        match *self {
            Self::Model { name, tags, description } => {
                let data = json!({ "name": name, "tags": object(tags), "description": description });
                (entity("REGISTERED_MODEL", "PROMPT"), "CREATED", data)
            }
            Self::Version { name, version, source, run_id, tags, description } => {
                let data = created(name, version, source, run_id, &object(tags), description);
                (entity("MODEL_VERSION", "PROMPT_VERSION"), "CREATED", data)
            }
            Self::ModelTag { name, key, value } => {
                let data = json!({ "name": name, "key": key, "value": value });
                (entity("REGISTERED_MODEL_TAG", "PROMPT_TAG"), "SET", data)
            }
            Self::ModelTagGone { name, key } => {
                (entity("REGISTERED_MODEL_TAG", "PROMPT_TAG"), "DELETED", json!({ "name": name, "key": key }))
            }
            Self::VersionTag { name, version, key, value } => {
                let data =
                    json!({ "name": name, "version": version.to_string(), "key": key, "value": value });
                (entity("MODEL_VERSION_TAG", "PROMPT_VERSION_TAG"), "SET", data)
            }
            Self::VersionTagGone { name, version, key } => {
                let data = json!({ "name": name, "version": version.to_string(), "key": key });
                (entity("MODEL_VERSION_TAG", "PROMPT_VERSION_TAG"), "DELETED", data)
            }
            Self::Alias { name, alias, version } => {
                let data = json!({ "name": name, "alias": alias, "version": version.to_string() });
                (entity("MODEL_VERSION_ALIAS", "PROMPT_ALIAS"), "CREATED", data)
            }
            Self::AliasGone { name, alias } => {
                let data = json!({ "name": name, "alias": alias });
                (entity("MODEL_VERSION_ALIAS", "PROMPT_ALIAS"), "DELETED", data)
            }
        }
    }
}

fn object(tags: &[Pair]) -> Value {
    tags.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect()
}

/// Writes down, in the transaction of the change, what webhooks are to hear of it.
pub(crate) async fn note(
    context: &Context,
    conn: &mut PgConnection,
    project: &str,
    change: &Change<'_>,
) -> Result<(), Error> {
    let Some(is_prompt) = storage::webhooks::listened_to(conn, project, change.model()).await? else {
        return Ok(()); // nobody listens
    };
    tell(context, conn, project, change, is_prompt).await
}

/// As [`note`], where it is known that somebody listens and whether the model is a prompt to them.
pub(crate) async fn tell(
    context: &Context,
    conn: &mut PgConnection,
    project: &str,
    change: &Change<'_>,
    is_prompt: bool,
) -> Result<(), Error> {
    let (entity, action, data) = change.told(is_prompt);
    storage::webhooks::note(conn, project, entity, action, &data, context.clock.now()).await?;
    Ok(())
}

/// A message that says nothing new, for trying a webhook out.
pub(crate) fn example(entity: &str, action: &str) -> Value {
    let (name, version) = ("example", 1);
    let change = match (entity.trim_start_matches("PROMPT").trim_start_matches("MODEL_VERSION"), action) {
        ("_TAG", "SET") => Change::VersionTag { name, version, key: "key", value: "value" },
        ("_TAG", _) => Change::VersionTagGone { name, version, key: "key" },
        ("_ALIAS", "DELETED") => Change::AliasGone { name, alias: "alias" },
        ("_ALIAS", _) => Change::Alias { name, alias: "alias", version },
        ("REGISTERED_MODEL", _) => Change::Model { name, tags: &[], description: "" },
        _ => {
            Change::Version { name, version, source: "models:/m-0", run_id: None, tags: &[], description: "" }
        }
    };
    change.told(entity.starts_with("PROMPT")).2
}
