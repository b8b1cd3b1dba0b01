//! Schedules over HTTP: what is planned and what became of it; holding one still, letting it go on, starting it now.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use chrono::{DateTime, Utc};
use domain::definitions::{Action, CatchUp, Definitions, Overlap, Schedule};
use domain::ids::JobId;
use serde::Serialize;
use service_kit::auth::Principal;
use service_kit::{Context, Problem};
use sqlx::PgConnection;
use storage::schedules::Tick;

use super::{Happened, Turn, schedules};
use crate::Error;

/// So many ticks to come are shown.
const UPCOMING: usize = 3;
/// So many past ticks are shown of one schedule.
const PAST: i64 = 20;

pub(crate) fn routes() -> Router<Context> {
    Router::new()
        .route("/v1/schedules", get(list))
        .route("/v1/schedules/{name}", get(show))
        .route("/v1/schedules/{name}/pause", post(pause))
        .route("/v1/schedules/{name}/resume", post(resume))
        .route("/v1/schedules/{name}/run", post(run))
}

/// A schedule as people see it.
#[derive(Debug, Serialize)]
pub(crate) struct Planned {
    name: String,
    cron: String,
    time_zone: String,
    action: Action,
    catch_up: CatchUp,
    overlap: Overlap,
    #[serde(skip_serializing_if = "Option::is_none")]
    jitter: Option<domain::Horizon>,
    last_fired: Option<DateTime<Utc>>,
    paused_at: Option<DateTime<Utc>>,
    paused_by: Option<String>,
    /// When the next ticks happen, their delays included; none while it is held still.
    next: Vec<DateTime<Utc>>,
    /// Jobs that ticks have started and that are not over.
    at_work: Vec<JobId>,
}

impl Planned {
    /// When and by which schedule a model is trained next, in words; none if this schedule trains none or is held still.
    pub(crate) fn next_training(&self) -> Option<String> {
        let next = self.next.first().filter(|_| matches!(self.action, Action::Train(_)))?;
        Some(format!("schedule `{}` at {next}", self.name))
    }
}

#[derive(Serialize)]
struct Told {
    #[serde(flatten)]
    planned: Planned,
    ticks: Vec<Tick>,
}

/// What is planned, as of `now`.
pub(crate) async fn planned(
    conn: &mut PgConnection,
    project: &str,
    schedule: &Schedule,
    now: DateTime<Utc>,
) -> Result<Planned, Error> {
    let timetable = Turn { project, definitions: &Definitions::default(), schedule, now }.timetable()?;
    let seen = storage::schedules::find(conn, project, &schedule.name).await?;
    let at_work = storage::schedules::at_work(conn, project, &schedule.name).await?;
    let held_still = seen.as_ref().is_some_and(|seen| seen.paused_at.is_some());
    let upcoming = timetable.after(now).map(|tick| timetable.happens_at(tick));
    Ok(Planned {
        name: schedule.name.clone(),
        cron: schedule.cron.clone(),
        time_zone: schedule.time_zone.clone(),
        action: schedule.action.clone(),
        catch_up: schedule.catch_up,
        overlap: schedule.overlap,
        jitter: schedule.jitter,
        last_fired: seen.as_ref().and_then(|seen| seen.last_fired),
        paused_at: seen.as_ref().and_then(|seen| seen.paused_at),
        paused_by: seen.and_then(|seen| seen.paused_by),
        next: if held_still { vec![] } else { upcoming.take(UPCOMING).collect() },
        at_work,
    })
}

async fn list(State(context): State<Context>) -> Result<Json<Vec<Planned>>, Problem> {
    let (mut conn, definitions) = load(&context).await?;
    let mut all = Vec::new();
    for schedule in schedules(&definitions) {
        all.push(planned(&mut conn, &context.config.project, schedule, context.clock.now()).await?);
    }
    Ok(Json(all))
}

async fn show(State(context): State<Context>, Path(name): Path<String>) -> Result<Json<Told>, Problem> {
    let (mut conn, definitions) = load(&context).await?;
    told(&mut conn, &context, named(&definitions, &name)?).await
}

async fn told(
    conn: &mut PgConnection,
    context: &Context,
    schedule: &Schedule,
) -> Result<Json<Told>, Problem> {
    let project = &context.config.project;
    let planned = planned(conn, project, schedule, context.clock.now()).await?;
    let ticks = storage::schedules::ticks(conn, project, &schedule.name, PAST).await?;
    Ok(Json(Told { planned, ticks }))
}

async fn pause(
    State(context): State<Context>,
    Path(name): Path<String>,
    principal: Principal,
) -> Result<Json<Told>, Problem> {
    hold(&context, &name, Some(principal.shown())).await
}

async fn resume(State(context): State<Context>, Path(name): Path<String>) -> Result<Json<Told>, Problem> {
    hold(&context, &name, None).await
}

async fn hold(context: &Context, name: &str, by: Option<&str>) -> Result<Json<Told>, Problem> {
    let (mut conn, definitions) = load(context).await?;
    let (schedule, project, now) = (named(&definitions, name)?, &context.config.project, context.clock.now());
    storage::schedules::begin(&mut conn, project, name, now).await?;
    storage::schedules::set_paused(&mut conn, project, name, by, now).await?;
    told(&mut conn, context, schedule).await
}

/// Lets a schedule tick now, also one that is held still; its overlap policy holds.
async fn run(
    State(context): State<Context>,
    Path(name): Path<String>,
    principal: Principal,
) -> Result<(StatusCode, Json<Told>), Problem> {
    let (mut conn, definitions) = load(&context).await?;
    let (schedule, project, now) =
        (named(&definitions, &name)?, &context.config.project, context.clock.now());
    let mut tx = sqlx::Connection::begin(&mut *conn).await.map_err(storage::Error::from)?;
    storage::schedules::begin(&mut tx, project, &name, now).await?;
    storage::schedules::lock(&mut tx, project, &name).await?;
    let turn = Turn { project, definitions: &definitions, schedule, now };
    let happened = turn.happen(&mut tx, now, &format!("asked for by {}", principal.shown())).await?;
    if let Happened::LetGo(why) = happened {
        let what = format!("schedule `{name}` starts nothing now: {why}");
        return Err(Problem::from(storage::Error::Conflict { what })); // and nothing is noted
    }
    tx.commit().await.map_err(storage::Error::from)?;
    Ok((StatusCode::ACCEPTED, told(&mut conn, &context, schedule).await?))
}

type Loaded = (sqlx::pool::PoolConnection<sqlx::Postgres>, Definitions);

async fn load(context: &Context) -> Result<Loaded, Error> {
    let mut conn = context.db.acquire().await?;
    let definitions = storage::definitions::load(&mut conn, &context.config.project).await?;
    Ok((conn, definitions))
}

fn named<'a>(definitions: &'a Definitions, name: &str) -> Result<&'a Schedule, storage::Error> {
    let found = schedules(definitions).find(|schedule| schedule.name == name);
    found.ok_or_else(|| storage::Error::not_found(format!("schedule `{name}`")))
}
