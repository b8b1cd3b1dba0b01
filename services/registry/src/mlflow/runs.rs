//! `runs/create`, `get`, `update`, `delete`, `restore`, `search`.

use std::collections::BTreeMap;

use serde::Serialize;
use sqlx::PgConnection;
use storage::search::{self, RUNS, Search};
use storage::tracking::Contents;
use storage::tracking::runs::{self, NewRun, Run};

use super::input::Input;
use super::paging::{Listed, Page};
use super::refusal::Refusal;
use super::run_views::{self, Logged, RunInfo, RunView};
use super::written::{Written, WrittenAnswer};
use super::{Answer, done, experiments, filter, rules};
use crate::Registry;

/// What a run takes in an answer besides what was logged into it, about.
const INFO_BYTES: usize = 512;

/// The tag that holds a run's name.
pub(crate) const RUN_NAME: &str = "mlflow.runName";

pub(crate) async fn create(registry: Registry, input: Input) -> WrittenAnswer {
    let tags = input.pairs("tags")?;
    let tags = tags.into_iter().map(|tag| rules::run_tag("key", tag)).collect::<Result<Vec<_>, _>>()?;
    let tagged = tags.iter().find(|(key, _)| key == RUN_NAME).map(|(_, name)| name.as_str());
    let named = input.text("run_name")?.filter(|name| !name.is_empty());
    if let (Some(named), Some(tagged)) = (named, tagged)
        && named != tagged
    {
        return Err(Refusal::invalid(format!(
            "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different values \
             (run_name='{named}', mlflow.runName='{tagged}')."
        )));
    }
    let mut tx = registry.context.db.begin().await?;
    let experiment =
        experiments::find_active(&registry, &mut tx, input.text("experiment_id")?.unwrap_or("0")).await?;
    let unnamed = format!("run-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
    let new = NewRun {
        experiment_id: experiment.id,
        name: named.or(tagged).unwrap_or(&unnamed),
        user_id: input.text("user_id")?.unwrap_or_default(),
        start_ms: input.whole("start_time")?.unwrap_or_else(|| registry.now_ms()),
        tags: &tags,
    };
    let id = runs::create(&mut tx, registry.project(), &new).await?;
    tx.commit().await?;
    let artifact_uri = format!("{}/{id}/artifacts", experiment.artifact_location.trim_end_matches('/'));
    Ok(shown(run_views::new_run(&id, &artifact_uri, &new, &Logged::of(&begun(&new)))))
}

#[derive(Serialize)]
struct Shown<'a> {
    run: RunView<'a>,
}

#[derive(Serialize)]
struct Updated<'a> {
    run_info: RunInfo<'a>,
}

fn shown(run: RunView<'_>) -> Written {
    Written::of(&Shown { run })
}

/// What is in a run that has just begun.
fn begun(new: &NewRun<'_>) -> Contents {
    let mut tags: BTreeMap<String, String> = new.tags.iter().cloned().collect();
    tags.insert(RUN_NAME.to_owned(), new.name.to_owned());
    Contents { tags: tags.into_iter().collect(), ..Contents::default() }
}

pub(crate) fn no_run(id: &str) -> Refusal {
    Refusal::missing(format!("Run with id={id} not found"))
}

async fn find(registry: &Registry, conn: &mut PgConnection, id: &str) -> Result<Run, Refusal> {
    runs::find(conn, registry.project(), id).await?.ok_or_else(|| no_run(id))
}

/// Begins to log into a run, see [`runs::begin_logging`]; refuses one that is not there or was deleted.
pub(crate) async fn begin_logging(
    registry: &Registry,
    conn: &mut PgConnection,
    id: &str,
) -> Result<(), Refusal> {
    let stage = runs::begin_logging(conn, registry.project(), id).await?;
    active(id, stage.as_deref())
}

/// Refuses a run that is not there or was deleted.
pub(crate) async fn require_active(
    registry: &Registry,
    conn: &mut PgConnection,
    id: &str,
) -> Result<(), Refusal> {
    let stage = runs::lifecycle_of(conn, registry.project(), id).await?;
    active(id, stage.as_deref())
}

/// The same, if the life stage is known already; `None` for a run that is not there.
pub(crate) fn active(id: &str, stage: Option<&str>) -> Result<(), Refusal> {
    match stage {
        Some("active") => Ok(()),
        None => Err(no_run(id)),
        Some(stage) => Err(Refusal::invalid(format!(
            "The run {id} must be in the 'active' state. Current state is {stage}."
        ))),
    }
}

pub(crate) async fn get(registry: Registry, input: Input) -> WrittenAnswer {
    let mut conn = registry.context.db.acquire().await?;
    let run = find(&registry, &mut conn, input.run_id()?).await?;
    let logged = registry.kept_runs.logged(&mut conn, registry.project(), std::slice::from_ref(&run)).await?;
    drop(conn);
    Ok(shown(run_views::run(&run, logged.first().ok_or_else(|| no_run(&run.id))?)))
}

/// A status by its name or its number.
fn status(input: &Input) -> Result<Option<&'static str>, Refusal> {
    const STATUSES: [&str; 5] = ["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"];
    if let Ok(number) = input.whole("status") {
        let Some(number) = number else { return Ok(None) };
        let named = usize::try_from(number - 1).ok().and_then(|index| STATUSES.get(index).copied());
        return named.map(Some).ok_or_else(|| Refusal::invalid(format!("Invalid run status {number}")));
    }
    let text = input.text("status")?.unwrap_or_default();
    let named = STATUSES.into_iter().find(|status| *status == text);
    named.map(Some).ok_or_else(|| Refusal::invalid(format!("Invalid run status '{text}'")))
}

pub(crate) async fn update(registry: Registry, input: Input) -> WrittenAnswer {
    let (id, status, end_ms) = (input.run_id()?, status(&input)?, input.whole("end_time")?);
    let name = input.text("run_name")?.filter(|name| !name.is_empty());
    let mut tx = registry.context.db.begin().await?;
    require_active(&registry, &mut tx, id).await?;
    runs::update(&mut tx, registry.project(), id, status, end_ms, name).await?;
    if let Some(name) = name {
        let tag = rules::run_tag("key", (RUN_NAME.to_owned(), name.to_owned()))?;
        storage::tracking::set_tags(&mut tx, registry.project(), id, &[tag]).await?;
    }
    let run = find(&registry, &mut tx, id).await?;
    tx.commit().await?;
    Ok(Written::of(&Updated { run_info: run_views::run_info(&run) }))
}

pub(crate) async fn delete(registry: Registry, input: Input) -> Answer {
    set_lifecycle(&registry, &input, "deleted").await
}

pub(crate) async fn restore(registry: Registry, input: Input) -> Answer {
    set_lifecycle(&registry, &input, "active").await
}

async fn set_lifecycle(registry: &Registry, input: &Input, stage: &str) -> Answer {
    let id = input.required("run_id")?;
    let mut conn = registry.context.db.acquire().await?;
    runs::lifecycle_of(&mut conn, registry.project(), id).await?.ok_or_else(|| no_run(id))?;
    runs::set_lifecycle(&mut conn, registry.project(), id, stage).await?;
    done()
}

pub(crate) async fn search(registry: Registry, input: Input) -> WrittenAnswer {
    let page = Page::of(&input, 1_000, 50_000)?;
    let ids = input.texts("experiment_ids")?;
    let experiments = ids.iter().map(|id| rules::experiment_id(id)).collect::<Result<Vec<_>, _>>()?;
    let wanted = input.text("filter")?.unwrap_or_default();
    let search = Search {
        conditions: filter::filter(&RUNS, wanted)?,
        order: filter::order_by(&RUNS, &input.texts("order_by")?)?,
        experiments: Some(experiments),
        lifecycle: experiments::lifecycle(&input, "run_view_type")?,
        datasets: vec![],
        limit: page.limit(),
        after: page.after.clone(),
    };
    let mut conn = registry.context.db.acquire().await?;
    let mut found = match registry.kept_verdicts.page(&mut conn, registry.project(), wanted, &search).await? {
        Some(found) => found,
        None => runs::search(&mut conn, registry.project(), &search).await?,
    };
    let token = page.cut(&mut found, |(_, place)| place.clone());
    let found: Vec<Run> = found.into_iter().map(|(run, _)| run).collect();
    let logged = registry.kept_runs.logged(&mut conn, registry.project(), &found).await?;
    let total = if input.flag("include_total_count")? {
        Some(search::count(&mut conn, &RUNS, registry.project(), &search).await?)
    } else {
        None
    };
    drop(conn);
    let bytes = logged.iter().map(|logged| logged.size_bytes() + INFO_BYTES).sum();
    let answers = found.iter().zip(&logged).map(|(run, logged)| run_views::run(run, logged)).collect();
    Ok(Written::sized(&Listed { key: "runs", answers, token: token.as_deref(), total }, bytes))
}
