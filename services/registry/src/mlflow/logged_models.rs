//! `logged-models…`: the models that runs wrote.

use axum::Json;
use axum::extract::Path;
use serde_json::json;
use sqlx::PgConnection;
use storage::search::{self, DatasetName, LOGGED_MODELS, Lifecycle, Order, Search, Subject};
use storage::tracking::Pair;
use storage::tracking::logged_models::{self, LoggedModel, NewLoggedModel};

use super::input::Input;
use super::paging::{Page, answer};
use super::refusal::Refusal;
use super::{Answer, done, experiments, filter, rules, views};
use crate::Registry;

pub(crate) fn no_model(id: &str) -> Refusal {
    Refusal::missing(format!("Logged model with ID '{id}' not found."))
}

pub(crate) async fn find(
    registry: &Registry,
    conn: &mut PgConnection,
    id: &str,
) -> Result<LoggedModel, Refusal> {
    logged_models::find(conn, registry.project(), id).await?.ok_or_else(|| no_model(id))
}

fn shown(model: &LoggedModel) -> Answer {
    Ok(Json(json!({ "model": views::logged_model(model) })))
}

pub(crate) async fn create(registry: Registry, input: Input) -> Answer {
    let unnamed = format!("model-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
    let name = input.text("name")?.filter(|name| !name.is_empty()).unwrap_or(&unnamed);
    rules::logged_model_name(name)?;
    let (tags, params) = (tags(&input)?, params(&input)?);
    let mut tx = registry.context.db.begin().await?;
    let experiment = experiments::find_active(&registry, &mut tx, input.required("experiment_id")?).await?;
    let source_run_id = input.text("source_run_id")?.filter(|id| !id.is_empty());
    if let Some(run_id) = source_run_id {
        super::runs::require_active(&registry, &mut tx, run_id).await?;
    }
    let new = NewLoggedModel {
        experiment_id: experiment.id,
        name,
        model_type: input.text("model_type")?.unwrap_or_default(),
        source_run_id,
        tags: &tags,
        params: &params,
    };
    let id = logged_models::create(&mut tx, registry.project(), &new, registry.now_ms()).await?;
    let model = find(&registry, &mut tx, &id).await?;
    tx.commit().await?;
    shown(&model)
}

fn tags(input: &Input) -> Result<Vec<Pair>, Refusal> {
    input.pairs("tags")?.into_iter().map(|tag| rules::run_tag("key", tag)).collect()
}

fn params(input: &Input) -> Result<Vec<Pair>, Refusal> {
    input.pairs("params")?.into_iter().map(|param| rules::param("key", param)).collect()
}

pub(crate) async fn get(registry: Registry, Path(id): Path<String>) -> Answer {
    let mut conn = registry.context.db.acquire().await?;
    shown(&find(&registry, &mut conn, &id).await?)
}

/// A status by its name or its number.
fn status(input: &Input) -> Result<&'static str, Refusal> {
    const STATUSES: [&str; 3] = ["LOGGED_MODEL_PENDING", "LOGGED_MODEL_READY", "LOGGED_MODEL_UPLOAD_FAILED"];
    let named = match input.whole("status") {
        Ok(number) => number.and_then(|number| STATUSES.get(usize::try_from(number - 1).ok()?).copied()),
        Err(_) => input.text("status")?.and_then(|text| STATUSES.into_iter().find(|status| *status == text)),
    };
    named.ok_or_else(|| Refusal::invalid("Invalid model status: expected one of LOGGED_MODEL_PENDING, LOGGED_MODEL_READY, LOGGED_MODEL_UPLOAD_FAILED."))
}

pub(crate) async fn finalize(registry: Registry, Path(id): Path<String>, input: Input) -> Answer {
    let status = status(&input)?;
    let mut tx = registry.context.db.begin().await?;
    if !logged_models::set_status(&mut tx, registry.project(), &id, status, registry.now_ms()).await? {
        return Err(no_model(&id));
    }
    let model = find(&registry, &mut tx, &id).await?;
    tx.commit().await?;
    shown(&model)
}

pub(crate) async fn delete(registry: Registry, Path(id): Path<String>) -> Answer {
    let mut conn = registry.context.db.acquire().await?;
    let deleted = logged_models::delete(&mut conn, registry.project(), &id, registry.now_ms()).await?;
    if deleted { done() } else { Err(no_model(&id)) }
}

pub(crate) async fn set_tags(registry: Registry, Path(id): Path<String>, input: Input) -> Answer {
    let tags = tags(&input)?;
    let mut tx = registry.context.db.begin().await?;
    find(&registry, &mut tx, &id).await?;
    logged_models::set_tags(&mut tx, registry.project(), &id, &tags).await?;
    tx.commit().await?;
    done()
}

pub(crate) async fn delete_tag(registry: Registry, Path((id, key)): Path<(String, String)>) -> Answer {
    let mut conn = registry.context.db.acquire().await?;
    find(&registry, &mut conn, &id).await?;
    if !logged_models::delete_tag(&mut conn, registry.project(), &id, &key).await? {
        return Err(Refusal::missing(format!("No tag with key '{key}' found for model with ID '{id}'.")));
    }
    done()
}

pub(crate) async fn log_params(registry: Registry, Path(id): Path<String>, input: Input) -> Answer {
    let params = params(&input)?;
    let mut tx = registry.context.db.begin().await?;
    find(&registry, &mut tx, &id).await?;
    match logged_models::set_params(&mut tx, registry.project(), &id, &params).await {
        Err(storage::Error::Conflict { what }) => return Err(Refusal::invalid(what)),
        other => other?,
    }
    tx.commit().await?;
    done()
}

/// A data set that a clause names by `dataset_name` and, if only one state of it is meant, `dataset_digest`.
fn dataset(input: &Input) -> Result<DatasetName, Refusal> {
    let text = |key| Ok::<_, Refusal>(input.text(key)?.filter(|text| !text.is_empty()).map(str::to_owned));
    Ok(DatasetName { name: text("dataset_name")?, digest: text("dataset_digest")? })
}

/// A key of the order: `{"field_name", "ascending", "dataset_name", "dataset_digest"}`.
fn order(input: &Input) -> Result<Order, Refusal> {
    let field = input.text("field_name")?.unwrap_or_default();
    let unknown = || Refusal::invalid(format!("Invalid order by field name: {field}"));
    let subject = match field.split_once('.') {
        Some(("metrics" | "metric", _)) => filter::subject_of(&LOGGED_MODELS, field)?,
        Some(_) => {
            return Err(Refusal::invalid(format!(
                "Invalid order by field name: {field}. Only metrics are supported."
            )));
        }
        None => {
            let attribute = LOGGED_MODELS.attribute(field.trim_end_matches("_ms"));
            Subject::Attribute(attribute.ok_or_else(unknown)?)
        }
    };
    let dataset = Some(dataset(input)?).filter(|dataset| dataset.name.is_some() || dataset.digest.is_some());
    Ok(Order { subject, ascending: !input.has("ascending") || input.flag("ascending")?, dataset })
}

pub(crate) async fn search(registry: Registry, input: Input) -> Answer {
    let page = Page::of(&input, 50, 1_000)?;
    if !input.has("experiment_ids") {
        return Err(input.absent("experiment_ids"));
    }
    let ids = input.texts("experiment_ids")?;
    let experiments = ids.iter().map(|id| rules::experiment_id(id)).collect::<Result<Vec<_>, _>>()?;
    let datasets = input.items("datasets")?.iter().map(dataset).collect::<Result<Vec<_>, _>>()?;
    if datasets.iter().any(|dataset| dataset.name.is_none()) {
        return Err(Refusal::invalid("`dataset_name` in the `datasets` clause must be specified."));
    }
    let search = Search {
        conditions: filter::filter(&LOGGED_MODELS, input.text("filter")?.unwrap_or_default())?,
        order: input.items("order_by")?.iter().map(order).collect::<Result<_, _>>()?,
        experiments: Some(experiments),
        lifecycle: Lifecycle::Active,
        datasets,
        limit: page.limit(),
        after: page.after.clone(),
    };
    let mut conn = registry.context.db.acquire().await?;
    let found = search::find(&mut conn, &LOGGED_MODELS, registry.project(), &search).await?;
    let (ids, token) = page.keys(found);
    let found = logged_models::load(&mut conn, registry.project(), &ids).await?;
    Ok(Json(answer("models", found.iter().map(views::logged_model).collect(), token)))
}
