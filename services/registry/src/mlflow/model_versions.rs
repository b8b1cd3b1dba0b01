//! `model-versions/…`, and the version that an alias points at.

use std::collections::BTreeMap;

use axum::Json;
use serde::Serialize;
use serde_json::{Value, json};
use service_kit::auth::Principal;
use sqlx::{Connection, PgConnection};
use storage::models::{self, Added, NewVersion, Unless, Version};
use storage::search::{self, Lifecycle, Search, VERSIONS};
use storage::tracking::{self, Pair};

use super::input::Input;
use super::model_views::{self, VersionView};
use super::paging::{Listed, Page};
use super::refusal::Refusal;
use super::registered_models::{note, without_prompts};
use super::sources::{self, Source};
use super::written::{Written, WrittenAnswer};
use super::{Answer, done, filter, logged_models, rules};
use crate::aliases::{self, Ask};
use crate::webhooks::{self, Change};
use crate::{Error, Registry};

/// The tag of a logged model that lists the versions it became.
const REGISTRATIONS: &str = "mlflow.modelVersions";

pub(crate) async fn create(registry: Registry, input: Input) -> WrittenAnswer {
    let (name, source) = (input.required("name")?, input.required("source")?);
    rules::model_name(name)?;
    let tags = input.pairs("tags")?;
    tags.iter().try_for_each(rules::registry_tag)?;
    let mut conn = registry.context.db.acquire().await?;
    let found = source_of(&registry, &mut conn, &input, source, &tags).await?;
    let new = NewVersion {
        source,
        storage_uri: &found.storage_uri,
        run_id: found.run_id.as_deref(),
        run_link: input.text("run_link")?.unwrap_or_default(),
        logged_model_id: found.logged_model_id.as_deref(),
        made_by_run: found.made_by_run,
        description: input.text("description")?.unwrap_or_default(),
        tags: &tags,
    };
    let (project, now_ms) = (registry.project(), registry.now_ms());
    let alone = match new.logged_model_id {
        None => models::add_version(&mut conn, project, name, &new, now_ms, Unless::ListenedTo).await?,
        Some(_) => None,
    };
    let number = match alone {
        Some(added) => added.version,
        None => add(&registry, &mut conn, name, &new, now_ms).await?,
    };
    Ok(written(&begun(name, number, &new, now_ms)))
}

/// Adds a version with what belongs to it, or nothing of it; answers its number.
async fn add(
    registry: &Registry,
    conn: &mut PgConnection,
    name: &str,
    new: &NewVersion<'_>,
    now_ms: i64,
) -> Result<i32, Refusal> {
    let project = registry.project();
    let mut tx = conn.begin().await?;
    let added = models::add_version(&mut tx, project, name, new, now_ms, Unless::Never).await?;
    let Added { version: number, is_prompt_to_listeners } = added.ok_or_else(|| Error::no_model(name))?;
    if let Some(model_id) = new.logged_model_id {
        note_registration(registry, &mut tx, model_id, name, number).await?;
    }
    if let Some(is_prompt) = is_prompt_to_listeners {
        let change = Change::Version {
            name,
            version: number,
            source: new.source,
            run_id: new.run_id,
            tags: new.tags,
            description: new.description,
        };
        webhooks::tell(&registry.context, &mut tx, project, &change, is_prompt).await?;
    }
    tx.commit().await?;
    Ok(number)
}

/// A version as it is when it has just been created: no alias can point at it yet.
fn begun(model: &str, version: i32, new: &NewVersion<'_>, now_ms: i64) -> Version {
    let tags: BTreeMap<String, String> = new.tags.iter().cloned().collect();
    Version {
        model: model.to_owned(),
        version,
        description: new.description.to_owned(),
        stage: "None".to_owned(),
        source: new.source.to_owned(),
        storage_uri: new.storage_uri.to_owned(),
        run_id: new.run_id.map(str::to_owned),
        run_link: new.run_link.to_owned(),
        made_by_run: new.made_by_run,
        created_ms: now_ms,
        updated_ms: now_ms,
        tags: tags.into_iter().collect(),
        aliases: vec![],
    }
}

async fn source_of(
    registry: &Registry,
    conn: &mut PgConnection,
    input: &Input,
    source: &str,
    tags: &[Pair],
) -> Result<Source, Refusal> {
    if tags.iter().any(|(key, value)| key == "mlflow.prompt.is_prompt" && value == "true") {
        // A prompt has no files: its text is a tag.
        let storage_uri = source.to_owned();
        return Ok(Source { storage_uri, run_id: None, logged_model_id: None, made_by_run: false });
    }
    let named = |key| Ok::<_, Refusal>(input.text(key)?.filter(|id| !id.is_empty()));
    let (run_id, model_id) = (named("run_id")?, named("model_id")?);
    run_id.map_or(Ok(()), |id| rules::id("run_id", id))?;
    sources::resolve(registry, conn, source, run_id, model_id).await
}

async fn note_registration(
    registry: &Registry,
    conn: &mut PgConnection,
    model_id: &str,
    name: &str,
    version: i32,
) -> Result<(), Refusal> {
    let model = logged_models::find(registry, conn, model_id).await?;
    let noted = model.tags.iter().find(|(key, _)| key == REGISTRATIONS).map(|(_, value)| value.as_str());
    let mut noted: Vec<Value> = noted.and_then(|noted| serde_json::from_str(noted).ok()).unwrap_or_default();
    noted.push(json!({ "name": name, "version": version }));
    let tag = (REGISTRATIONS.to_owned(), Value::Array(noted).to_string());
    Ok(tracking::logged_models::set_tags(conn, registry.project(), model_id, &[tag]).await?)
}

async fn find(
    registry: &Registry,
    conn: &mut PgConnection,
    model: &str,
    version: i32,
) -> Result<Version, Refusal> {
    let found = models::find_version(conn, registry.project(), model, version).await?;
    found.ok_or_else(|| Error::no_version(model, version).into())
}

async fn shown(registry: &Registry, conn: &mut PgConnection, model: &str, version: i32) -> WrittenAnswer {
    Ok(written(&find(registry, conn, model, version).await?))
}

#[derive(Serialize)]
struct Shown<'a> {
    model_version: VersionView<'a>,
}

fn written(version: &Version) -> Written {
    Written::of(&Shown { model_version: model_views::version(version) })
}

/// The model and version that a request names.
fn named(input: &Input) -> Result<(&str, i32), Refusal> {
    Ok((input.required("name")?, rules::version(input.required("version")?)?))
}

pub(crate) async fn get(registry: Registry, input: Input) -> WrittenAnswer {
    let (model, version) = named(&input)?;
    shown(&registry, &mut *registry.context.db.acquire().await?, model, version).await
}

pub(crate) async fn get_by_alias(registry: Registry, input: Input) -> WrittenAnswer {
    let (model, alias) = (input.required("name")?, input.required("alias")?);
    rules::readable_alias(alias)?;
    let mut conn = registry.context.db.acquire().await?;
    let found = if alias.eq_ignore_ascii_case("latest") {
        let latest = models::latest_versions_of(&mut conn, registry.project(), &[model.to_owned()]).await?;
        latest.into_iter().max_by_key(|version| version.version)
    } else {
        models::version_by_alias(&mut conn, registry.project(), model, alias).await?
    };
    if let Some(version) = found {
        return Ok(written(&version));
    }
    models::find(&mut conn, registry.project(), model).await?.ok_or_else(|| Error::no_model(model))?;
    Err(if alias.eq_ignore_ascii_case("latest") {
        Refusal::missing(format!("Latest version not found for model {model}."))
    } else {
        Refusal::invalid(format!("Registered model alias {alias} not found."))
    })
}

pub(crate) async fn update(registry: Registry, input: Input) -> WrittenAnswer {
    let (model, version) = named(&input)?;
    let description = input.text("description")?.unwrap_or_default();
    let mut tx = registry.context.db.begin().await?;
    find(&registry, &mut tx, model, version).await?;
    let now_ms = registry.now_ms();
    models::set_version_description(&mut tx, registry.project(), model, version, description, now_ms).await?;
    let answer = shown(&registry, &mut tx, model, version).await;
    tx.commit().await?;
    answer
}

pub(crate) async fn delete(registry: Registry, principal: Principal, input: Input) -> Answer {
    let (model, version) = named(&input)?;
    let (actor, reason) = (principal.shown(), format!("version {version} was deleted"));
    let ask = Ask { project: registry.project(), model, alias: "", actor, reason: Some(&reason) };
    let mut tx = registry.context.db.begin().await?;
    aliases::remove_all(&registry.context, &mut tx, &ask, Some(version)).await?;
    find(&registry, &mut tx, model, version).await?;
    models::delete_version(&mut tx, registry.project(), model, version).await?;
    models::touch(&mut tx, registry.project(), model, registry.now_ms()).await?;
    tx.commit().await?;
    done()
}

pub(crate) async fn download_uri(registry: Registry, input: Input) -> Answer {
    let (model, version) = named(&input)?;
    let found = find(&registry, &mut *registry.context.db.acquire().await?, model, version).await?;
    Ok(Json(json!({ "artifact_uri": found.storage_uri })))
}

pub(crate) async fn transition_stage(registry: Registry, input: Input) -> WrittenAnswer {
    let (model, version) = named(&input)?;
    let stage = rules::stage(input.required("stage")?)?;
    let archive = input.flag("archive_existing_versions")?;
    if archive && !matches!(stage, "Staging" | "Production") {
        return Err(Refusal::invalid(format!(
            "Model version transition cannot archive existing model versions because '{stage}' is not an Active stage. \
             Valid stages are Staging, Production"
        )));
    }
    let mut tx = registry.context.db.begin().await?;
    find(&registry, &mut tx, model, version).await?;
    let now_ms = registry.now_ms();
    models::set_version_stage(&mut tx, registry.project(), model, version, stage, archive, now_ms).await?;
    models::touch(&mut tx, registry.project(), model, now_ms).await?;
    let answer = shown(&registry, &mut tx, model, version).await;
    tx.commit().await?;
    answer
}

pub(crate) async fn set_tag(registry: Registry, input: Input) -> Answer {
    let (model, version) = named(&input)?;
    let tag = (input.required("key")?.to_owned(), input.text("value")?.unwrap_or_default().to_owned());
    rules::registry_tag(&tag)?;
    let mut tx = registry.context.db.begin().await?;
    find(&registry, &mut tx, model, version).await?;
    models::set_version_tags(&mut tx, registry.project(), model, version, std::slice::from_ref(&tag)).await?;
    let change = Change::VersionTag { name: model, version, key: &tag.0, value: &tag.1 };
    note(&registry, &mut tx, &change).await?;
    tx.commit().await?;
    done()
}

pub(crate) async fn delete_tag(registry: Registry, input: Input) -> Answer {
    let ((model, version), key) = (named(&input)?, input.required("key")?);
    let mut tx = registry.context.db.begin().await?;
    find(&registry, &mut tx, model, version).await?;
    models::delete_version_tag(&mut tx, registry.project(), model, version, key).await?;
    note(&registry, &mut tx, &Change::VersionTagGone { name: model, version, key }).await?;
    tx.commit().await?;
    done()
}

pub(crate) async fn search(registry: Registry, input: Input) -> WrittenAnswer {
    let page = Page::of(&input, 200_000, 200_000)?;
    let conditions = filter::filter(&VERSIONS, input.text("filter")?.unwrap_or_default())?;
    let search = Search {
        conditions: without_prompts(conditions),
        order: filter::order_by(&VERSIONS, &input.texts("order_by")?)?,
        experiments: None,
        lifecycle: Lifecycle::None,
        datasets: vec![],
        limit: page.limit(),
        after: page.after.clone(),
    };
    let mut conn = registry.context.db.acquire().await?;
    let found = search::find(&mut conn, &VERSIONS, registry.project(), &search).await?;
    let (keys, token) = page.keys(found);
    let key = |key: &String| {
        let (version, model) = key.split_once('/')?;
        Some((model.to_owned(), version.parse().ok()?))
    };
    let keys: Vec<(String, i32)> = keys.iter().filter_map(key).collect();
    let found = models::load_versions(&mut conn, registry.project(), &keys).await?;
    let answers = found.iter().map(model_views::version).collect();
    Ok(Written::of(&Listed { key: "model_versions", answers, token: token.as_deref(), total: None }))
}
