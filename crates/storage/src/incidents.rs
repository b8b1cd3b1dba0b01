//! SQL over `incidents`, their append-only history, and the watches between windows.

use chrono::{DateTime, Utc};
use domain::ids::{IncidentId, JobId};
use domain::incident::{Cause, Phase, Severity, Watch};
use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;

use crate::Error;

/// An incident that opens.
#[derive(Clone, Debug)]
pub struct NewIncident {
    /// Which one.
    pub id: IncidentId,
    /// The project it belongs to.
    pub project: String,
    /// The monitor that saw it.
    pub monitor: String,
    /// The registered model.
    pub registered_model: String,
    /// The version that serves.
    pub version: i32,
    /// Why it exists.
    pub cause: Cause,
    /// How much it matters.
    pub severity: Severity,
    /// One sentence for people.
    pub summary: String,
    /// The strongest findings, strongest first.
    pub evidence: Value,
    /// When the first bad window began.
    pub first_seen: DateTime<Utc>,
}

/// An incident as people see it.
#[derive(Clone, Debug, Serialize)]
pub struct Incident {
    /// Which one.
    pub id: IncidentId,
    /// The monitor that saw it.
    pub monitor: String,
    /// The registered model.
    pub registered_model: String,
    /// The version that served when it opened.
    pub version: i32,
    /// Why it exists.
    pub cause: String,
    /// How much it matters.
    pub severity: String,
    /// `firing`, `acknowledged`, `recovering` or `resolved`.
    pub state: String,
    /// One sentence for people.
    pub summary: String,
    /// The strongest findings when it opened, strongest first.
    pub evidence: Value,
    /// When the first bad window began.
    pub first_seen: DateTime<Utc>,
    /// When it opened.
    pub opened_at: DateTime<Utc>,
    /// When somebody took it.
    pub acknowledged_at: Option<DateTime<Utc>>,
    /// Who.
    pub acknowledged_by: Option<String>,
    /// When it was over.
    pub resolved_at: Option<DateTime<Utc>>,
}

/// Something that happened to an incident.
#[derive(Clone, Debug, Serialize)]
pub struct HistoryRow {
    /// When.
    pub happened_at: DateTime<Utc>,
    /// What.
    pub change: String,
    /// More.
    pub detail: Value,
}

/// A watch and what it remembers besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredWatch {
    /// The state machine's memory.
    pub watch: Watch,
    /// The latest incident.
    pub incident: Option<IncidentId>,
    /// The end of the last window it has seen.
    pub judged_through: DateTime<Utc>,
}

/// The watch over one cause, locked until the transaction ends; `None` before its first window.
///
/// # Errors
/// [`Error::Unreadable`] if it has a format that this program does not know.
pub async fn watch(
    conn: &mut PgConnection,
    project: &str,
    monitor: &str,
    registered_model: &str,
    cause: Cause,
) -> Result<Option<StoredWatch>, Error> {
    let row = sqlx::query!(
        r#"
        select watch, format, incident_id as "incident: IncidentId", judged_through from incident_watches
        where project = $1 and monitor = $2 and registered_model = $3 and cause = $4
        for update
        "#,
        project,
        monitor,
        registered_model,
        cause.as_str(),
    )
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let unreadable = |why: String| Error::Unreadable { what: "incident watch", why };
    if row.format != 1 {
        return Err(unreadable(format!("its format is {}, this program knows 1", row.format)));
    }
    let watch = serde_json::from_value(row.watch).map_err(|error| unreadable(error.to_string()))?;
    Ok(Some(StoredWatch { watch, incident: row.incident, judged_through: row.judged_through }))
}

/// Stores the watch over one cause.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn save_watch(
    conn: &mut PgConnection,
    project: &str,
    monitor: &str,
    registered_model: &str,
    cause: Cause,
    stored: &StoredWatch,
) -> Result<(), Error> {
    let watch = serde_json::to_value(stored.watch).expect("a watch has only string keys");
    sqlx::query!(
        r#"
        insert into incident_watches (project, monitor, registered_model, cause, watch, incident_id, judged_through)
        values ($1, $2, $3, $4, $5, $6, $7)
        on conflict (project, monitor, registered_model, cause) do update
        set watch = excluded.watch, format = excluded.format, incident_id = excluded.incident_id,
            judged_through = excluded.judged_through
        "#,
        project,
        monitor,
        registered_model,
        cause.as_str(),
        watch,
        stored.incident as Option<IncidentId>,
        stored.judged_through,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Opens an incident.
///
/// # Errors
/// [`Error::Database`] if the database refuses, such as for a second open one of the same cause.
pub async fn open(conn: &mut PgConnection, incident: &NewIncident, now: DateTime<Utc>) -> Result<(), Error> {
    sqlx::query!(
        r#"
        insert into incidents (incident_id, project, monitor, registered_model, version, cause, severity, state, summary,
                               evidence, first_seen, opened_at)
        values ($1, $2, $3, $4, $5, $6, $7, 'firing', $8, $9, $10, $11)
        "#,
        incident.id as IncidentId,
        incident.project,
        incident.monitor,
        incident.registered_model,
        incident.version,
        incident.cause.as_str(),
        incident.severity.as_str(),
        incident.summary,
        incident.evidence,
        incident.first_seen,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Moves an open incident, or one that is re-opened, to another state.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn set_phase(
    conn: &mut PgConnection,
    id: IncidentId,
    phase: Phase,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        r#"
        update incidents
        set state = $2, resolved_at = case when $2 = 'resolved' then $3::timestamptz end
        where incident_id = $1
        "#,
        id as IncidentId,
        phase.as_str(),
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Makes an open incident matter more, with what says so.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn raise(
    conn: &mut PgConnection,
    id: IncidentId,
    severity: Severity,
    summary: &str,
    evidence: &Value,
) -> Result<(), Error> {
    sqlx::query!(
        "update incidents set severity = $2, summary = $3, evidence = $4 where incident_id = $1",
        id as IncidentId,
        severity.as_str(),
        summary,
        evidence,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes who has an incident.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn set_acknowledged(
    conn: &mut PgConnection,
    id: IncidentId,
    by: &str,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        "update incidents set acknowledged_at = $3, acknowledged_by = $2 where incident_id = $1",
        id as IncidentId,
        by,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Appends to an incident's history.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn note(
    conn: &mut PgConnection,
    id: IncidentId,
    change: &str,
    detail: &Value,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        "insert into incident_history (incident_id, happened_at, change, detail) values ($1, $2, $3, $4)",
        id as IncidentId,
        now,
        change,
        detail,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// One incident.
///
/// # Errors
/// [`Error::NotFound`] if there is none of that id.
pub async fn get(conn: &mut PgConnection, project: &str, id: IncidentId) -> Result<Incident, Error> {
    sqlx::query_as!(
        Incident,
        r#"
        select incident_id as "id: IncidentId", monitor, registered_model, version, cause, severity, state, summary,
               evidence, first_seen, opened_at, acknowledged_at, acknowledged_by, resolved_at
        from incidents where project = $1 and incident_id = $2
        "#,
        project,
        id as IncidentId,
    )
    .fetch_optional(conn)
    .await?
    .ok_or_else(|| Error::not_found(format!("incident {id}")))
}

/// The latest incidents, newest first; of one state if that is given.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn latest(
    conn: &mut PgConnection,
    project: &str,
    state: Option<&str>,
    limit: i64,
) -> Result<Vec<Incident>, Error> {
    Ok(sqlx::query_as!(
        Incident,
        r#"
        select incident_id as "id: IncidentId", monitor, registered_model, version, cause, severity, state, summary,
               evidence, first_seen, opened_at, acknowledged_at, acknowledged_by, resolved_at
        from incidents where project = $1 and ($2::text is null or state = $2)
        order by opened_at desc, incident_id desc limit $3
        "#,
        project,
        state,
        limit,
    )
    .fetch_all(conn)
    .await?)
}

/// The incidents that people are told of and that are open, or ended after `ended_since`.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn standing(
    conn: &mut PgConnection,
    project: &str,
    ended_since: DateTime<Utc>,
) -> Result<Vec<Incident>, Error> {
    Ok(sqlx::query_as!(
        Incident,
        r#"
        select incident_id as "id: IncidentId", monitor, registered_model, version, cause, severity, state, summary,
               evidence, first_seen, opened_at, acknowledged_at, acknowledged_by, resolved_at
        from incidents
        where project = $1 and severity <> 'log' and (resolved_at is null or resolved_at > $2)
        order by opened_at, incident_id
        "#,
        project,
        ended_since,
    )
    .fetch_all(conn)
    .await?)
}

/// What happened to an incident, oldest first.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn history(conn: &mut PgConnection, id: IncidentId) -> Result<Vec<HistoryRow>, Error> {
    Ok(sqlx::query_as!(
        HistoryRow,
        r#"
        select happened_at, change, detail from incident_history
        where incident_id = $1 order by incident_history_id
        "#,
        id as IncidentId,
    )
    .fetch_all(conn)
    .await?)
}

/// When an incident of this project last asked for this model to be retrained.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn last_retrain(
    conn: &mut PgConnection,
    project: &str,
    model: &str,
) -> Result<Option<DateTime<Utc>>, Error> {
    Ok(sqlx::query_scalar!(
        r#"
        select max(h.happened_at) from incident_history h join incidents i using (incident_id)
        where i.project = $1 and h.change = 'retrain' and h.detail ->> 'model' = $2
        "#,
        project,
        model,
    )
    .fetch_one(conn)
    .await?)
}

/// Incidents that asked for a new model and were not told yet what came of it, each with the job that they asked for. They
/// are locked until the transaction ends, so that nobody tells it twice.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn untold_retrains(
    conn: &mut PgConnection,
    project: &str,
) -> Result<Vec<(IncidentId, JobId)>, Error> {
    let rows = sqlx::query!(
        r#"
        select i.incident_id as "incident: IncidentId", (asked.detail ->> 'job')::uuid as "job!: JobId"
        from incidents i join incident_history asked using (incident_id)
        where i.project = $1 and asked.change = 'retrain'
          and not exists (
              select 1 from incident_history told
              where told.incident_id = i.incident_id
                and told.change in ('retrained', 'retrain-refused', 'retrain-failed')
                and told.detail ->> 'job' = asked.detail ->> 'job')
        for update of i skip locked
        "#,
        project,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.incident, row.job)).collect())
}

/// How many incidents of each monitor are in each state: `(monitor, state, incidents)`.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn counts(conn: &mut PgConnection, project: &str) -> Result<Vec<(String, String, i64)>, Error> {
    let rows = sqlx::query!(
        r#"select monitor, state, count(*) as "incidents!" from incidents where project = $1 group by 1, 2"#,
        project,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.monitor, row.state, row.incidents)).collect())
}
