//! `experiments/…`.

use axum::Json;
use serde_json::json;
use sqlx::PgConnection;
use storage::search::{self, EXPERIMENTS, Lifecycle, Search};
use storage::tracking::experiments::{self, DEFAULT_ID, Experiment};

use super::input::Input;
use super::paging::{Page, answer};
use super::refusal::Refusal;
use super::{Answer, done, filter, rules, views};
use crate::Registry;

pub(crate) async fn create(registry: Registry, input: Input) -> Answer {
    let name = input.required("name")?;
    rules::experiment_name(name)?;
    let location = input.text("artifact_location")?.filter(|location| !location.is_empty());
    location.map_or(Ok(()), rules::artifact_location)?;
    let tags = input.pairs("tags")?;
    tags.iter().try_for_each(rules::experiment_tag)?;
    let mut tx = registry.context.db.begin().await?;
    let id = experiments::insert(&mut tx, registry.project(), name, location, registry.now_ms()).await?;
    let id = id.ok_or_else(|| Refusal::exists(format!("Experiment(name={name}) already exists.")))?;
    experiments::set_tags(&mut tx, registry.project(), id, &tags).await?;
    tx.commit().await?;
    Ok(Json(json!({ "experiment_id": id.to_string() })))
}

/// The experiment that a request names by `experiment_id`.
pub(crate) async fn find(
    registry: &Registry,
    conn: &mut PgConnection,
    id: &str,
) -> Result<Experiment, Refusal> {
    let id = rules::experiment_id(id)?;
    let mut found = experiments::find(conn, registry.project(), id).await?;
    if found.is_none() && id == DEFAULT_ID {
        experiments::ensure_default(conn, registry.project(), registry.now_ms()).await?;
        found = experiments::find(conn, registry.project(), id).await?;
    }
    found.ok_or_else(|| Refusal::missing(format!("No Experiment with id={id} exists")))
}

/// The same, if something may be added to it.
pub(crate) async fn find_active(
    registry: &Registry,
    conn: &mut PgConnection,
    id: &str,
) -> Result<Experiment, Refusal> {
    let experiment = find(registry, conn, id).await?;
    if experiment.lifecycle_stage != "active" {
        return Err(Refusal::invalid(format!(
            "The experiment {} must be in the 'active' state. Current state is {}.",
            experiment.id, experiment.lifecycle_stage
        )));
    }
    Ok(experiment)
}

pub(crate) async fn get(registry: Registry, input: Input) -> Answer {
    let mut conn = registry.context.db.acquire().await?;
    let experiment = find(&registry, &mut conn, input.required("experiment_id")?).await?;
    Ok(Json(json!({ "experiment": views::experiment(&experiment, registry.project()) })))
}

pub(crate) async fn get_by_name(registry: Registry, input: Input) -> Answer {
    let name = input.required("experiment_name")?;
    let mut conn = registry.context.db.acquire().await?;
    if name == "Default" {
        experiments::ensure_default(&mut conn, registry.project(), registry.now_ms()).await?;
    }
    let id = experiments::id_of(&mut conn, registry.project(), name).await?;
    let id = id.ok_or_else(|| Refusal::missing(format!("Could not find experiment with name '{name}'")))?;
    let experiment = find(&registry, &mut conn, &id.to_string()).await?;
    Ok(Json(json!({ "experiment": views::experiment(&experiment, registry.project()) })))
}

/// Which life stages a request wants: `ACTIVE_ONLY` (1), `DELETED_ONLY` (2) or `ALL` (3).
pub(crate) fn lifecycle(input: &Input, key: &str) -> Result<Lifecycle, Refusal> {
    let word = match input.whole(key) {
        Ok(None) => "1".to_owned(),
        Ok(Some(number)) => number.to_string(),
        Err(_) => input.text(key)?.unwrap_or_default().to_owned(),
    };
    match word.as_str() {
        "1" | "ACTIVE_ONLY" => Ok(Lifecycle::Active),
        "2" | "DELETED_ONLY" => Ok(Lifecycle::Deleted),
        "3" | "ALL" => Ok(Lifecycle::All),
        other => Err(Refusal::invalid(format!("Invalid value '{other}' for parameter '{key}' supplied."))),
    }
}

pub(crate) async fn search(registry: Registry, input: Input) -> Answer {
    let page = Page::of(&input, 1_000, 50_000)?;
    let search = Search {
        conditions: filter::filter(&EXPERIMENTS, input.text("filter")?.unwrap_or_default())?,
        order: filter::order_by(&EXPERIMENTS, &input.texts("order_by")?)?,
        experiments: None,
        lifecycle: lifecycle(&input, "view_type")?,
        datasets: vec![],
        limit: page.limit(),
        after: page.after.clone(),
    };
    let mut conn = registry.context.db.acquire().await?;
    experiments::ensure_default(&mut conn, registry.project(), registry.now_ms()).await?;
    let found = search::find(&mut conn, &EXPERIMENTS, registry.project(), &search).await?;
    let (keys, token) = page.keys(found);
    let ids: Vec<i64> = keys.iter().filter_map(|key| key.parse().ok()).collect();
    let found = experiments::load(&mut conn, registry.project(), &ids).await?;
    let shown = found.iter().map(|experiment| views::experiment(experiment, registry.project()));
    Ok(Json(answer("experiments", shown.collect(), token)))
}

/// The data sets that runs of some experiments read.
pub(crate) async fn search_datasets(registry: Registry, input: Input) -> Answer {
    const MOST: usize = 20;
    let ids = input.texts("experiment_ids")?;
    if ids.is_empty() {
        return Err(Refusal::invalid("SearchDatasets request must specify at least one experiment_id."));
    }
    if ids.len() > MOST {
        return Err(Refusal::invalid(format!(
            "SearchDatasets request cannot specify more than {MOST} experiment_ids. Received {} experiment_ids.",
            ids.len()
        )));
    }
    let ids = ids.iter().map(|id| rules::experiment_id(id)).collect::<Result<Vec<_>, _>>()?;
    let mut conn = registry.context.db.acquire().await?;
    let found = storage::tracking::datasets_of(&mut conn, registry.project(), &ids).await?;
    Ok(Json(answer("dataset_summaries", found.iter().map(views::dataset_summary).collect(), None)))
}

pub(crate) async fn update(registry: Registry, input: Input) -> Answer {
    let mut tx = registry.context.db.begin().await?;
    let experiment = find_active(&registry, &mut tx, input.required("experiment_id")?).await?;
    let name = input.required("new_name")?;
    rules::experiment_name(name)?;
    if !experiments::rename(&mut tx, registry.project(), experiment.id, name, registry.now_ms()).await? {
        return Err(Refusal::exists(format!("Experiment(name={name}) already exists.")));
    }
    tx.commit().await?;
    done()
}

pub(crate) async fn delete(registry: Registry, input: Input) -> Answer {
    set_lifecycle(&registry, &input, "deleted").await
}

pub(crate) async fn restore(registry: Registry, input: Input) -> Answer {
    set_lifecycle(&registry, &input, "active").await
}

async fn set_lifecycle(registry: &Registry, input: &Input, stage: &str) -> Answer {
    let mut tx = registry.context.db.begin().await?;
    let experiment = find(registry, &mut tx, input.required("experiment_id")?).await?;
    if experiment.lifecycle_stage == stage {
        let message = format!("No Experiment with id={} exists", experiment.id);
        return Err(Refusal::missing(message));
    }
    experiments::set_lifecycle(&mut tx, registry.project(), experiment.id, stage, registry.now_ms()).await?;
    tx.commit().await?;
    done()
}

pub(crate) async fn set_tag(registry: Registry, input: Input) -> Answer {
    let tag = (input.required("key")?.to_owned(), input.text("value")?.unwrap_or_default().to_owned());
    rules::experiment_tag(&tag)?;
    let mut tx = registry.context.db.begin().await?;
    let experiment = find_active(&registry, &mut tx, input.required("experiment_id")?).await?;
    experiments::set_tags(&mut tx, registry.project(), experiment.id, &[tag]).await?;
    tx.commit().await?;
    done()
}

pub(crate) async fn delete_tag(registry: Registry, input: Input) -> Answer {
    let key = input.required("key")?;
    let mut conn = registry.context.db.acquire().await?;
    let experiment = find_active(&registry, &mut conn, input.required("experiment_id")?).await?;
    if !experiments::delete_tag(&mut conn, registry.project(), experiment.id, key).await? {
        return Err(Refusal::missing(format!(
            "No tag with name: {key} in experiment with id {}",
            experiment.id
        )));
    }
    done()
}
