//! The routes about silences.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use domain::ids::{IncidentId, SilenceId};
use domain::incident::Cause;
use domain::silence::{Label, Matcher, Silence, Subject};
use serde::Deserialize;
use serde_json::json;
use service_kit::{Context, JsonBody, Problem};
use sqlx::PgConnection;
use storage::incidents::{Incident, StoredWatch};
use storage::silences::StoredSilence;

use crate::Error;
use crate::delivery::courier::Outbox;
use crate::telling::{Teller, is_silenced};

/// The silences that are not over.
pub(crate) async fn list(State(context): State<Context>) -> Result<Json<Vec<StoredSilence>>, Problem> {
    let mut conn = context.db.acquire().await.map_err(storage::Error::from)?;
    let (project, now) = (&context.config.project, context.clock.now());
    Ok(Json(storage::silences::in_force(&mut conn, project, now).await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewSilence {
    matchers: Vec<Matcher>,
    starts_at: Option<DateTime<Utc>>,
    ends_at: DateTime<Utc>,
    by: String,
    #[serde(default)]
    comment: String,
}

/// Begins a silence.
pub(crate) async fn create(
    State(context): State<Context>,
    JsonBody(asked): JsonBody<NewSilence>,
) -> Result<(StatusCode, Json<StoredSilence>), Problem> {
    let silence = Silence {
        matchers: asked.matchers,
        starts_at: asked.starts_at.unwrap_or_else(|| context.clock.now()),
        ends_at: asked.ends_at,
        by: asked.by,
        comment: asked.comment,
    };
    Ok((StatusCode::CREATED, Json(begin(&context, silence).await?)))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hush {
    until: DateTime<Utc>,
    by: String,
    #[serde(default)]
    comment: String,
}

/// Silences what an incident is about: its monitor, model and cause.
pub(crate) async fn silence_incident(
    State(context): State<Context>,
    Path(id): Path<IncidentId>,
    JsonBody(asked): JsonBody<Hush>,
) -> Result<(StatusCode, Json<StoredSilence>), Problem> {
    let mut conn = context.db.acquire().await.map_err(storage::Error::from)?;
    let incident = storage::incidents::get(&mut conn, &context.config.project, id).await?;
    drop(conn);
    let matcher = |label, value: &String| Matcher { label, value: value.clone(), equal: true };
    let silence = Silence {
        matchers: vec![
            matcher(Label::Monitor, &incident.monitor),
            matcher(Label::Model, &incident.registered_model),
            matcher(Label::Cause, &incident.cause),
        ],
        starts_at: context.clock.now(),
        ends_at: asked.until,
        by: asked.by,
        comment: asked.comment,
    };
    Ok((StatusCode::CREATED, Json(begin(&context, silence).await?)))
}

/// Ends a silence before its time; what it kept from being told is told now.
pub(crate) async fn end(
    State(context): State<Context>,
    Path(id): Path<SilenceId>,
) -> Result<StatusCode, Problem> {
    let (project, now) = (&context.config.project, context.clock.now());
    let mut tx = context.db.begin().await.map_err(storage::Error::from)?;
    storage::silences::end(&mut tx, project, id, now).await?;
    apply(&context, &mut tx).await?;
    tx.commit().await.map_err(storage::Error::from)?;
    Outbox::of(&context).ring();
    Ok(StatusCode::NO_CONTENT)
}

async fn begin(context: &Context, silence: Silence) -> Result<StoredSilence, Problem> {
    let (silence, id, now) = (silence.checked()?, SilenceId::new(), context.clock.now());
    let mut tx = context.db.begin().await.map_err(storage::Error::from)?;
    storage::silences::insert(&mut tx, &context.config.project, id, &silence, now).await?;
    apply(context, &mut tx).await?;
    tx.commit().await.map_err(storage::Error::from)?;
    Ok(StoredSilence { id, silence, created_at: now })
}

/// Moves every open incident to where the silences now in force put it.
async fn apply(context: &Context, conn: &mut PgConnection) -> Result<(), Error> {
    let (project, now) = (&context.config.project, context.clock.now());
    for incident in storage::incidents::standing(conn, project, now).await? {
        let Ok(cause) = incident.cause.parse::<Cause>() else { continue };
        let Ok(severity) = incident.severity.parse() else { continue };
        let (monitor, model) = (&incident.monitor, &incident.registered_model);
        let Some(stored) = storage::incidents::watch(conn, project, monitor, model, cause).await? else {
            continue;
        };
        if stored.incident != Some(incident.id) {
            continue;
        }
        let silenced = is_silenced(conn, project, Subject { monitor, model, cause, severity }, now).await?;
        let (watch, change) = stored.watch.hushed(silenced);
        storage::incidents::save_watch(
            conn,
            project,
            monitor,
            model,
            cause,
            &StoredWatch { watch, ..stored },
        )
        .await?;
        let Some(change) = change else { continue };
        storage::incidents::set_phase(conn, incident.id, watch.phase, now).await?;
        storage::incidents::note(conn, incident.id, change.as_str(), &json!({}), now).await?;
        if !watch.silenced {
            tell_now(context, conn, &incident, stored.judged_through).await?;
        }
    }
    Ok(())
}

async fn tell_now(
    context: &Context,
    conn: &mut PgConnection,
    incident: &Incident,
    until: DateTime<Utc>,
) -> Result<(), Error> {
    let project = &context.config.project;
    let definitions = storage::definitions::load(conn, project).await?;
    let Some(monitor) = definitions.monitor(&incident.monitor) else { return Ok(()) };
    let teller = Teller { definitions: &definitions, monitor, project, now: context.clock.now() };
    teller.tell(conn, incident, "opened", until).await
}
