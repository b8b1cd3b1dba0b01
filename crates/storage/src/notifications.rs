//! SQL over `notifications`: the outbox. A row is written in the transaction that caused it and delivered by a job.

use chrono::{DateTime, Utc};
use domain::ids::{IncidentId, NotificationId};
use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;

use crate::Error;

/// A message to be delivered.
#[derive(Clone, Debug)]
pub struct NewNotification {
    /// Which one; receivers see it as the idempotency key.
    pub id: NotificationId,
    /// The project it belongs to.
    pub project: String,
    /// What it is about.
    pub incident: IncidentId,
    /// Where it goes.
    pub channel: String,
    /// `opened`, `reopened` or `resolved`.
    pub event: String,
    /// What is sent.
    pub payload: Value,
}

/// A message as people see it.
#[derive(Clone, Debug, Serialize)]
pub struct Notification {
    /// Which one.
    pub id: NotificationId,
    /// Where it goes.
    pub channel: String,
    /// `opened`, `reopened` or `resolved`.
    pub event: String,
    /// What is sent.
    pub payload: Value,
    /// `queued`, `delivered` or `dead`.
    pub state: String,
    /// How often it was tried.
    pub attempts: i32,
    /// What went wrong the last time.
    pub failure: Option<String>,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// When it arrived.
    pub delivered_at: Option<DateTime<Utc>>,
}

/// Writes a message.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn insert(conn: &mut PgConnection, new: &NewNotification, now: DateTime<Utc>) -> Result<(), Error> {
    sqlx::query!(
        r#"
        insert into notifications (notification_id, project, incident_id, channel, event, payload, state, created_at)
        values ($1, $2, $3, $4, $5, $6, 'queued', $7)
        "#,
        new.id as NotificationId,
        new.project,
        new.incident as IncidentId,
        new.channel,
        new.event,
        new.payload,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// One message.
///
/// # Errors
/// [`Error::NotFound`] if there is none of that id.
pub async fn get(conn: &mut PgConnection, project: &str, id: NotificationId) -> Result<Notification, Error> {
    sqlx::query_as!(
        Notification,
        r#"
        select notification_id as "id: NotificationId", channel, event, payload, state, attempts, failure, created_at,
               delivered_at
        from notifications where project = $1 and notification_id = $2
        "#,
        project,
        id as NotificationId,
    )
    .fetch_optional(conn)
    .await?
    .ok_or_else(|| Error::not_found(format!("notification {id}")))
}

/// The messages about an incident, oldest first.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn of_incident(conn: &mut PgConnection, incident: IncidentId) -> Result<Vec<Notification>, Error> {
    Ok(sqlx::query_as!(
        Notification,
        r#"
        select notification_id as "id: NotificationId", channel, event, payload, state, attempts, failure, created_at,
               delivered_at
        from notifications where incident_id = $1 order by created_at, notification_id
        "#,
        incident as IncidentId,
    )
    .fetch_all(conn)
    .await?)
}

/// Notes that a message arrived.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn delivered(conn: &mut PgConnection, id: NotificationId, now: DateTime<Utc>) -> Result<(), Error> {
    sqlx::query!(
        r#"
        update notifications
        set state = 'delivered', attempts = attempts + 1, failure = null, delivered_at = $2
        where notification_id = $1
        "#,
        id as NotificationId,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes that a message did not arrive; `dead` if it will not be tried again.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn failed(
    conn: &mut PgConnection,
    id: NotificationId,
    failure: &str,
    dead: bool,
) -> Result<(), Error> {
    sqlx::query!(
        r#"
        update notifications
        set state = case when $3 then 'dead' else 'queued' end, attempts = attempts + 1, failure = $2
        where notification_id = $1 and state <> 'delivered'
        "#,
        id as NotificationId,
        failure,
        dead,
    )
    .execute(conn)
    .await?;
    Ok(())
}
