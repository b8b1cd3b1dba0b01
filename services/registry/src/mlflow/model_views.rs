//! How registered models and their versions look on the wire. What is absent is left out, as MLflow's protobuf does.

use serde::Serialize;
use storage::models::{Overview, Version};

use super::written::{Pairs, digits};

#[derive(Serialize)]
pub(crate) struct VersionView<'a> {
    name: &'a str,
    #[serde(serialize_with = "digits")]
    version: i32,
    creation_timestamp: i64,
    last_updated_timestamp: i64,
    current_stage: &'a str,
    description: &'a str,
    source: &'a str,
    run_id: &'a str,
    status: &'static str,
    run_link: &'a str,
    #[serde(skip_serializing_if = "Pairs::is_empty")]
    tags: Pairs<'a>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    aliases: &'a [String],
}

#[derive(Serialize)]
pub(crate) struct ModelView<'a> {
    name: &'a str,
    creation_timestamp: i64,
    last_updated_timestamp: i64,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    latest_versions: Vec<VersionView<'a>>,
    #[serde(skip_serializing_if = "Pairs::is_empty")]
    tags: Pairs<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    aliases: Vec<AliasView<'a>>,
}

#[derive(Serialize)]
struct AliasView<'a> {
    alias: &'a str,
    #[serde(serialize_with = "digits")]
    version: i32,
}

/// A version with the aliases that point at it.
pub(crate) fn version(version: &Version) -> VersionView<'_> {
    VersionView {
        name: &version.model,
        version: version.version,
        creation_timestamp: version.created_ms,
        last_updated_timestamp: version.updated_ms,
        current_stage: &version.stage,
        description: &version.description,
        source: &version.source,
        run_id: version.run_id.as_deref().unwrap_or_default(),
        status: "READY",
        run_link: &version.run_link,
        tags: Pairs(&version.tags),
        aliases: &version.aliases,
    }
}

/// A registered model; MLflow shows the versions inside it without their aliases.
pub(crate) fn registered_model(overview: &Overview) -> ModelView<'_> {
    let Overview { model, latest } = overview;
    ModelView {
        name: &model.name,
        creation_timestamp: model.created_ms,
        last_updated_timestamp: model.updated_ms,
        description: &model.description,
        latest_versions: latest
            .iter()
            .map(|latest| VersionView { aliases: &[], ..version(latest) })
            .collect(),
        tags: Pairs(&model.tags),
        aliases: model
            .aliases
            .iter()
            .map(|(alias, version)| AliasView { alias, version: *version })
            .collect(),
    }
}
