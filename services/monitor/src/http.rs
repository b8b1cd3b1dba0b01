//! The monitor's routes, other than labels.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use chrono::{DateTime, TimeDelta, Utc};
use domain::definitions::{Definitions, Monitor, Object};
use domain::ids::{IncidentId, JobId};
use domain::incident::{Cause, Phase};
use serde::{Deserialize, Serialize};
use serde_json::json;
use service_kit::{Context, JsonBody, Problem};
use storage::incidents::{HistoryRow, Incident, StoredWatch};
use storage::monitors::WindowRow;
use storage::notifications::Notification;

use crate::delivery::message::Moved;
use crate::jobs::RunMonitorJob;
use crate::{backtest, channels, labels, loops, named, picture, reports, schedules, silences};

/// How many incidents a listing shows.
const LISTED: i64 = 200;
/// How much time the windows of an answer span unless the question says.
const SPAN: TimeDelta = TimeDelta::days(90);

/// All routes.
pub(crate) fn routes(context: Context) -> Router {
    Router::new()
        .route("/v1/labels", post(labels::take))
        .route("/v1/monitors", get(monitors))
        .route("/v1/monitors/{name}/windows", get(windows))
        .route("/v1/monitors/{name}/run", post(run))
        .route("/v1/monitors/{name}/backtest", post(backtest::backtest))
        .route("/v1/monitors/{name}/learned", get(reports::learned))
        .route("/v1/reports", get(reports::list))
        .route("/v1/reports/{monitor}/{window_start}", get(reports::show))
        .route("/v1/references/{model}/{version}", get(reports::reference))
        .route("/v1/profiles/{model}/{version}", get(reports::profile))
        .route("/v1/incidents", get(incidents))
        .route("/v1/incidents/{id}", get(incident))
        .route("/v1/incidents/{id}/acknowledge", post(acknowledge))
        .route("/v1/incidents/{id}/silence", post(silences::silence_incident))
        .route("/v1/silences", get(silences::list).post(silences::create))
        .route("/v1/silences/{id}", delete(silences::end))
        .route("/v1/incidents/{id}/picture.svg", get(picture_svg))
        .route("/v1/incidents/{id}/picture.png", get(picture_png))
        .route("/v1/channels", get(channels::list))
        .route("/v1/channels/{name}/test", post(channels::test))
        .route("/v1/notifications", get(channels::notifications))
        .route("/v1/notifications/{id}/retry", post(channels::retry))
        .merge(schedules::routes::routes())
        .route("/v1/loop", get(loops::show))
        .with_state(context)
}

pub(crate) async fn load(context: &Context) -> Result<Definitions, storage::Error> {
    let mut conn = context.db.acquire().await?;
    storage::definitions::load(&mut conn, &context.config.project).await
}

async fn monitors(State(context): State<Context>) -> Result<Json<Vec<Monitor>>, Problem> {
    let definitions = load(&context).await?;
    let monitors = definitions.objects().filter_map(|located| match &located.object {
        Object::Monitor(monitor) => Some(monitor.clone()),
        _ => None,
    });
    Ok(Json(monitors.collect()))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Span {
    from: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
}

async fn windows(
    State(context): State<Context>,
    Path(name): Path<String>,
    Query(span): Query<Span>,
) -> Result<Json<Vec<WindowRow>>, Problem> {
    named(&load(&context).await?, &name)?;
    let until = span.until.unwrap_or_else(|| context.clock.now());
    let from = span.from.unwrap_or(until - SPAN);
    let mut conn = context.db.acquire().await.map_err(storage::Error::from)?;
    Ok(Json(storage::monitors::windows(&mut conn, &context.config.project, &name, from, until).await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RunRequest {
    until: Option<DateTime<Utc>>,
}

async fn run(
    State(context): State<Context>,
    Path(name): Path<String>,
    JsonBody(request): JsonBody<RunRequest>,
) -> Result<Response, Problem> {
    named(&load(&context).await?, &name)?;
    let job = RunMonitorJob { project: context.config.project.clone(), monitor: name, until: request.until };
    let key = request.until.map_or_else(|| "now".to_owned(), |until| until.to_rfc3339());
    let mut tx = context.db.begin().await.map_err(storage::Error::from)?;
    let id: JobId = storage::jobs::enqueue(&mut tx, &job.row(&key)).await?;
    tx.commit().await.map_err(storage::Error::from)?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "job_id": id }))).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listing {
    state: Option<Phase>,
}

async fn incidents(
    State(context): State<Context>,
    Query(listing): Query<Listing>,
) -> Result<Json<Vec<Incident>>, Problem> {
    let mut conn = context.db.acquire().await.map_err(storage::Error::from)?;
    let state = listing.state.map(Phase::as_str);
    Ok(Json(storage::incidents::latest(&mut conn, &context.config.project, state, LISTED).await?))
}

#[derive(Debug, Serialize)]
struct Whole {
    #[serde(flatten)]
    incident: Incident,
    history: Vec<HistoryRow>,
    notifications: Vec<Notification>,
}

async fn incident(
    State(context): State<Context>,
    Path(id): Path<IncidentId>,
) -> Result<Json<Whole>, Problem> {
    let mut conn = context.db.acquire().await.map_err(storage::Error::from)?;
    Ok(Json(Whole {
        incident: storage::incidents::get(&mut conn, &context.config.project, id).await?,
        history: storage::incidents::history(&mut conn, id).await?,
        notifications: storage::notifications::of_incident(&mut conn, id).await?,
    }))
}

async fn picture_svg(
    State(context): State<Context>,
    Path(id): Path<IncidentId>,
) -> Result<impl IntoResponse, Problem> {
    let svg = picture::svg(&moved(&context, id).await?).ok_or_else(|| unpictured(id))?;
    Ok(([(CONTENT_TYPE, "image/svg+xml")], svg))
}

async fn picture_png(
    State(context): State<Context>,
    Path(id): Path<IncidentId>,
) -> Result<impl IntoResponse, Problem> {
    let png = picture::png(&moved(&context, id).await?).ok_or_else(|| unpictured(id))?;
    Ok(([(CONTENT_TYPE, "image/png")], png))
}

async fn moved(context: &Context, id: IncidentId) -> Result<Vec<Moved>, storage::Error> {
    let mut conn = context.db.acquire().await?;
    let incident = storage::incidents::get(&mut conn, &context.config.project, id).await?;
    Ok(serde_json::from_value(incident.evidence).unwrap_or_default())
}

fn unpictured(id: IncidentId) -> storage::Error {
    storage::Error::not_found(format!("a picture of incident {id}: nothing in its evidence has a size"))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Acknowledgement {
    by: String,
    #[serde(default)]
    note: String,
}

async fn acknowledge(
    State(context): State<Context>,
    Path(id): Path<IncidentId>,
    JsonBody(said): JsonBody<Acknowledgement>,
) -> Result<Json<Incident>, Problem> {
    let (project, now) = (&context.config.project, context.clock.now());
    let mut tx = context.db.begin().await.map_err(storage::Error::from)?;
    let incident = storage::incidents::get(&mut tx, project, id).await?;
    let (monitor, model) = (&incident.monitor, &incident.registered_model);
    let cause: Cause = incident.cause.parse()?;
    let stored = storage::incidents::watch(&mut tx, project, monitor, model, cause).await?;
    let stored = stored.filter(|stored| stored.incident == Some(id)).ok_or_else(|| {
        storage::Error::Conflict { what: format!("incident {id} was followed by another of its cause") }
    })?;
    let watch = stored.watch.acknowledge()?;
    storage::incidents::save_watch(&mut tx, project, monitor, model, cause, &StoredWatch { watch, ..stored })
        .await?;
    storage::incidents::set_phase(&mut tx, id, watch.phase, now).await?;
    storage::incidents::set_acknowledged(&mut tx, id, &said.by, now).await?;
    let detail = json!({ "by": said.by, "note": said.note });
    storage::incidents::note(&mut tx, id, "acknowledged", &detail, now).await?;
    let incident = storage::incidents::get(&mut tx, project, id).await?;
    tx.commit().await.map_err(storage::Error::from)?;
    Ok(Json(incident))
}
