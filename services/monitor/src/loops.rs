//! The closed loop of each model, seen in one place: what serves, what is being made to take its place, what that waits for;
//! and how a retraining that an incident asked for ended, told in the incident.

use axum::Json;
use axum::extract::{Query, State};
use chrono::{DateTime, Utc};
use domain::AsOf;
use domain::definitions::{Action, Definitions, Model, Monitor, Object, Schedule};
use domain::ids::{IncidentId, JobId, TrainingSetId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use service_kit::{Context, Problem};
use sqlx::PgConnection;
use storage::governance::VersionKey;
use storage::incidents::Incident;
use storage::jobs::JobRow;

use crate::Error;
use crate::schedules::routes::{Planned, planned};
use crate::schedules::schedules;

/// So many of a model's latest chains are shown.
const CHAINS: usize = 5;
/// The alias that serves.
const CHAMPION: &str = "champion";

/// The loops of a project.
#[derive(Serialize)]
pub(crate) struct Loops {
    project: String,
    as_of: DateTime<Utc>,
    models: Vec<Loop>,
}

/// The loop of one model.
#[derive(Serialize)]
struct Loop {
    model: String,
    registered_model: String,
    champion: Option<Champion>,
    stage: Stage,
    waits_for: String,
    runs: Vec<Chain>,
    schedules: Vec<Planned>,
    monitors: Vec<Watching>,
    open_incidents: Vec<Incident>,
}

/// What serves, and why it may.
#[derive(Serialize)]
struct Champion {
    version: i32,
    since: Option<DateTime<Utc>>,
    by: Option<String>,
    evidence: Option<Evidence>,
}

/// What a version was found to be worth, in short; monitors compare with its training rows.
#[derive(Serialize)]
struct Evidence {
    training_set: TrainingSetId,
    trained_through: DateTime<Utc>,
    evaluated_from: DateTime<Utc>,
    evaluated_through: DateTime<Utc>,
    rows: u64,
    auc: Option<f64>,
    log_loss: f64,
    ece: f64,
    reference: String,
}

/// Where the loop stands.
#[derive(Serialize)]
struct Stage {
    /// `training-set`, `train`, `promote`, or `serving` or `idle` when nothing is at work.
    step: &'static str,
    state: String,
    job: Option<JobId>,
    progress: Option<Value>,
}

/// A monitor of the model.
#[derive(Serialize)]
struct Watching {
    monitor: String,
    retrains: bool,
}

/// One way around the loop: from what began it to what came of it.
#[derive(Serialize)]
struct Chain {
    chain: JobId,
    /// The schedule or incident that began it; null if somebody did.
    reason: Value,
    began_at: DateTime<Utc>,
    steps: Vec<Step>,
    outcome: String,
}

#[derive(Serialize)]
struct Step {
    step: &'static str,
    job: JobId,
    state: String,
    attempts: i32,
    finished_at: Option<DateTime<Utc>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    /// The project; this process serves one, and its tokens open no other.
    project: Option<String>,
}

pub(crate) async fn show(
    State(context): State<Context>,
    Query(asked): Query<Asked>,
) -> Result<Json<Loops>, Problem> {
    let (project, as_of) = (context.config.project.clone(), context.clock.now());
    if let Some(other) = asked.project.filter(|asked| *asked != project) {
        let what = format!("project `{other}` (this process serves `{project}`)");
        return Err(storage::Error::not_found(what).into());
    }
    let mut conn = context.db.acquire().await.map_err(storage::Error::from)?;
    let definitions = storage::definitions::load(&mut conn, &project).await?;
    let mut models = Vec::new();
    for name in definitions.names("model") {
        let Some(model) = definitions.model(name) else { continue };
        models.push(of_model(&mut conn, &project, &definitions, model, as_of).await?);
    }
    Ok(Json(Loops { project, as_of, models }))
}

async fn of_model(
    conn: &mut PgConnection,
    project: &str,
    definitions: &Definitions,
    model: &Model,
    now: DateTime<Utc>,
) -> Result<Loop, Error> {
    let registered = &model.registered_model;
    let champion = champion(conn, project, registered, now).await?;
    let jobs = storage::jobs::of_model(conn, project, &model.name, registered).await?;
    let monitors: Vec<&Monitor> =
        monitors(definitions).filter(|monitor| monitor.model == *registered).collect();
    let mut own = Vec::new();
    for schedule in schedules(definitions).filter(|schedule| starts(schedule, model, &monitors)) {
        own.push(planned(conn, project, schedule, now).await?);
    }
    let incidents = storage::incidents::standing(conn, project, now).await?;
    Ok(Loop {
        model: model.name.clone(),
        registered_model: registered.clone(),
        stage: stage(&jobs, champion.is_some()),
        waits_for: waits_for(&jobs, &own, &monitors, &model.name),
        champion,
        runs: chains(&jobs),
        schedules: own,
        monitors: monitors.iter().map(|monitor| watching(monitor, &model.name)).collect(),
        open_incidents: incidents
            .into_iter()
            .filter(|incident| incident.registered_model == *registered && incident.resolved_at.is_none())
            .collect(),
    })
}

fn monitors(definitions: &Definitions) -> impl Iterator<Item = &Monitor> {
    definitions.objects().filter_map(|located| match &located.object {
        Object::Monitor(monitor) => Some(monitor),
        _ => None,
    })
}

/// Whether a schedule is of this loop: it trains the model, or runs a monitor of it.
fn starts(schedule: &Schedule, model: &Model, monitors: &[&Monitor]) -> bool {
    match &schedule.action {
        Action::Train(name) => *name == model.name,
        Action::Monitor(name) => monitors.iter().any(|monitor| monitor.name == *name),
        _ => false,
    }
}

fn watching(monitor: &Monitor, model: &str) -> Watching {
    let retrains = monitor.on_incident.as_ref().is_some_and(|wish| wish.retrain == model);
    Watching { monitor: monitor.name.clone(), retrains }
}

async fn champion(
    conn: &mut PgConnection,
    project: &str,
    model: &str,
    now: DateTime<Utc>,
) -> Result<Option<Champion>, Error> {
    let Some(version) = storage::models::alias_of(conn, project, model, CHAMPION).await? else {
        return Ok(None);
    };
    let key = VersionKey { project, model, version };
    let evidence = storage::model_evidence::of_version(conn, key).await?.map(|found| Evidence {
        training_set: found.training_set,
        trained_through: found.trained_through.0,
        evaluated_from: found.evaluated_from.0,
        evaluated_through: found.evaluated_through.0,
        rows: found.overall.rows,
        auc: found.overall.auc.map(|auc| auc.value),
        log_loss: found.overall.log_loss,
        ece: found.overall.ece,
        reference: found.reference_path,
    });
    let moved = storage::models::history::decided_by(conn, project, model, CHAMPION, AsOf(now)).await?;
    let moved = moved.filter(|entry| entry.to_version == Some(version));
    Ok(Some(Champion {
        version,
        since: moved.as_ref().map(|entry| entry.at),
        by: moved.map(|entry| entry.actor),
        evidence,
    }))
}

/// The loop's word for a kind of job.
fn step_of(kind: &str) -> &'static str {
    match kind {
        "build-training-set" => "training-set",
        "train" => "train",
        _ => "promote",
    }
}

fn is_live(job: &JobRow) -> bool {
    matches!(job.state.as_str(), "queued" | "running")
}

/// Where the loop stands: at the live job that is furthest along, or at rest.
fn stage(jobs: &[JobRow], serves: bool) -> Stage {
    match jobs.iter().find(|job| is_live(job)) {
        Some(job) => Stage {
            step: step_of(&job.kind),
            state: job.state.clone(),
            job: Some(job.id),
            progress: job.progress.clone(),
        },
        None => {
            let step = if serves { "serving" } else { "idle" };
            Stage { step, state: "at rest".to_owned(), job: None, progress: None }
        }
    }
}

fn waits_for(jobs: &[JobRow], schedules: &[Planned], monitors: &[&Monitor], model: &str) -> String {
    if let Some(job) = jobs.iter().find(|job| is_live(job)) {
        let step = step_of(&job.kind);
        return match (job.state.as_str(), job.attempts) {
            ("running", _) => format!("step `{step}`, at work since {}", shown(job.started_at)),
            (_, 0) => format!("a worker that is free for step `{step}`"),
            (_, tries) => format!(
                "try {} of {} of step `{step}`, not before {}",
                tries + 1,
                job.max_attempts,
                job.run_after
            ),
        };
    }
    let training = schedules.iter().find_map(Planned::next_training);
    let by_incident: Vec<String> = monitors
        .iter()
        .filter(|monitor| watching(monitor, model).retrains)
        .map(|monitor| format!("an incident of monitor `{}`", monitor.name))
        .collect();
    let waits: Vec<String> = training.into_iter().chain(by_incident).collect();
    if waits.is_empty() {
        "nothing: no schedule and no incident starts it".to_owned()
    } else {
        waits.join(", or ")
    }
}

fn shown(moment: Option<DateTime<Utc>>) -> String {
    moment.map_or_else(|| "a moment ago".to_owned(), |moment| moment.to_string())
}

/// The chains that these jobs form, the latest first. The jobs are sorted, the newest first.
fn chains(jobs: &[JobRow]) -> Vec<Chain> {
    let mut heads: Vec<JobId> = Vec::new();
    for job in jobs {
        if !heads.contains(&job.chain) {
            heads.push(job.chain);
        }
    }
    heads.into_iter().take(CHAINS).filter_map(|head| chain(jobs, head)).collect()
}

fn chain(jobs: &[JobRow], head: JobId) -> Option<Chain> {
    let steps: Vec<&JobRow> = jobs.iter().rev().filter(|job| job.chain == head).collect();
    let first = steps.first()?;
    Some(Chain {
        chain: head,
        reason: reason_of(first),
        began_at: first.created_at,
        outcome: outcome_of(steps.last()?).1,
        steps: steps
            .iter()
            .map(|job| Step {
                step: step_of(&job.kind),
                job: job.id,
                state: job.state.clone(),
                attempts: job.attempts,
                finished_at: job.finished_at,
            })
            .collect(),
    })
}

fn reason_of(job: &JobRow) -> Value {
    let reason = &job.payload["reason"];
    // a gate's job carries it as text
    reason.as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_else(|| reason.clone())
}

/// What came of a chain, by its latest job: the change to note in an incident (none while it goes on), and words for it.
fn outcome_of(last: &JobRow) -> (Option<&'static str>, String) {
    let step = step_of(&last.kind);
    let failure = last.failure.as_deref().unwrap_or("no word");
    match last.state.as_str() {
        "queued" | "running" => (None, format!("at step `{step}`")),
        "dead" => (Some("retrain-failed"), format!("step `{step}` failed: {failure}")),
        "cancelled" => (Some("retrain-failed"), format!("step `{step}` was cancelled")),
        _ if step != "promote" => (Some("retrain-failed"), format!("it ended after step `{step}`")),
        _ => {
            let said = last.outcome.clone().unwrap_or_default();
            let version = &said["version"];
            if said["promoted"] == json!(true) {
                (Some("retrained"), format!("version {version} became champion"))
            } else {
                (Some("retrain-refused"), format!("the gate refused version {version}"))
            }
        }
    }
}

/// Notes in each incident that asked for a new model what came of it, once; answers in how many.
///
/// # Errors
/// [`Error`] if the database refuses.
pub async fn tell_outcomes(context: &Context) -> Result<usize, Error> {
    let (project, now) = (&context.config.project, context.clock.now());
    let mut tx = context.db.begin().await?;
    let mut told = 0;
    for (incident, job) in storage::incidents::untold_retrains(&mut tx, project).await? {
        told += usize::from(tell(&mut tx, incident, job, now).await?);
    }
    tx.commit().await?;
    Ok(told)
}

async fn tell(
    conn: &mut PgConnection,
    incident: IncidentId,
    job: JobId,
    now: DateTime<Utc>,
) -> Result<bool, Error> {
    let chain = storage::jobs::of_chain(conn, job).await?;
    let Some(last) = chain.last() else { return Ok(false) };
    let (Some(change), words) = outcome_of(last) else { return Ok(false) };
    let said = last.outcome.clone().unwrap_or_default();
    let mut detail = json!({ "job": job, "last_job": last.id, "said": words });
    for key in ["version", "verdict"].iter().filter(|key| !said[**key].is_null()) {
        detail[*key] = said[*key].clone();
    }
    storage::incidents::note(conn, incident, change, &detail, now).await?;
    Ok(true)
}
