//! SQL over `notifications`: the outbox. A row is written in the transaction that caused it; each channel's rows leave in order,
//! one at a time, under a lease.

use chrono::{DateTime, TimeDelta, Utc};
use domain::ids::{IncidentId, NotificationId};
use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;

use crate::Error;
use crate::jobs::interval;

/// A message to be delivered.
#[derive(Clone, Debug)]
pub struct NewNotification {
    /// Which one; receivers see it as the idempotency key.
    pub id: NotificationId,
    /// The project it belongs to.
    pub project: String,
    /// What it is about; a digest is about many.
    pub incident: Option<IncidentId>,
    /// The monitor that tells.
    pub monitor: String,
    /// The registered model it is about.
    pub registered_model: String,
    /// Where it goes.
    pub channel: String,
    /// `opened`, `reopened`, `resolved` or `digest`.
    pub event: &'static str,
    /// What is sent.
    pub payload: Value,
    /// Whether the budget is spent: then it is kept and counted, and not sent.
    pub held_back: bool,
}

/// A message as people see it.
#[derive(Clone, Debug, Serialize)]
pub struct Notification {
    /// Which one.
    pub id: NotificationId,
    /// What it is about; a digest is about many.
    pub incident: Option<IncidentId>,
    /// Where it goes.
    pub channel: String,
    /// `opened`, `reopened`, `resolved` or `digest`.
    pub event: String,
    /// What is sent.
    pub payload: Value,
    /// `queued`, `delivered`, `dead` or `held-back`.
    pub state: String,
    /// How often it was tried.
    pub attempts: i32,
    /// What went wrong the last time.
    pub failure: Option<String>,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// When it is tried next, while it is queued.
    pub next_try_at: DateTime<Utc>,
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
        insert into notifications (notification_id, project, incident_id, monitor, registered_model, channel, event, payload,
                                   state, created_at, next_try_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, case when $9 then 'held-back' else 'queued' end, $10, $10)
        "#,
        new.id as NotificationId,
        new.project,
        new.incident as Option<IncidentId>,
        new.monitor,
        new.registered_model,
        new.channel,
        new.event,
        new.payload,
        new.held_back,
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
        select notification_id as "id: NotificationId", incident_id as "incident: IncidentId", channel, event, payload, state,
               attempts, failure, created_at, next_try_at, delivered_at
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
        select notification_id as "id: NotificationId", incident_id as "incident: IncidentId", channel, event, payload, state,
               attempts, failure, created_at, next_try_at, delivered_at
        from notifications where incident_id = $1 order by created_at, notification_id
        "#,
        incident as IncidentId,
    )
    .fetch_all(conn)
    .await?)
}

/// The latest messages, newest first; of one state if that is given.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn latest(
    conn: &mut PgConnection,
    project: &str,
    state: Option<&str>,
    limit: i64,
) -> Result<Vec<Notification>, Error> {
    Ok(sqlx::query_as!(
        Notification,
        r#"
        select notification_id as "id: NotificationId", incident_id as "incident: IncidentId", channel, event, payload, state,
               attempts, failure, created_at, next_try_at, delivered_at
        from notifications where project = $1 and ($2::text is null or state = $2)
        order by created_at desc, notification_id desc limit $3
        "#,
        project,
        state,
        limit,
    )
    .fetch_all(conn)
    .await?)
}

/// The channels whose oldest waiting message is due and in nobody's hands.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn due_channels(
    conn: &mut PgConnection,
    project: &str,
    due: DateTime<Utc>,
) -> Result<Vec<String>, Error> {
    Ok(sqlx::query_scalar!(
        r#"
        select channel from (
            select distinct on (channel) channel, next_try_at, lease_expires_at from notifications
            where project = $1 and state = 'queued' order by channel, created_at, notification_id
        ) heads
        where next_try_at <= $2 and (lease_expires_at is null or lease_expires_at < clock_timestamp())
        "#,
        project,
        due,
    )
    .fetch_all(conn)
    .await?)
}

/// How many messages could be leaving now, or are. Those behind one that waits for its next try wait too.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn leaving(conn: &mut PgConnection, project: &str, due: DateTime<Utc>) -> Result<i64, Error> {
    Ok(sqlx::query_scalar!(
        r#"
        select count(*) as "leaving!" from (
            select distinct on (channel) next_try_at from notifications
            where project = $1 and state = 'queued' order by channel, created_at, notification_id
        ) heads
        where next_try_at <= $2
        "#,
        project,
        due,
    )
    .fetch_one(conn)
    .await?)
}

/// Takes the oldest waiting message of a channel for so long by Postgres's clock, if it is due and in nobody's hands.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn claim(
    conn: &mut PgConnection,
    project: &str,
    channel: &str,
    lasts: TimeDelta,
    due: DateTime<Utc>,
) -> Result<Option<Notification>, Error> {
    Ok(sqlx::query_as!(
        Notification,
        r#"
        with head as (
            select notification_id from notifications
            where project = $1 and channel = $2 and state = 'queued'
            order by created_at, notification_id limit 1 for update
        )
        update notifications n set lease_expires_at = clock_timestamp() + $3::interval from head
        where n.notification_id = head.notification_id and n.state = 'queued' and n.next_try_at <= $4
          and (n.lease_expires_at is null or n.lease_expires_at < clock_timestamp())
        returning n.notification_id as "id: NotificationId", incident_id as "incident: IncidentId", channel, event, payload,
                  state, attempts, failure, created_at, next_try_at, delivered_at
        "#,
        project,
        channel,
        interval(lasts),
        due,
    )
    .fetch_optional(conn)
    .await?)
}

/// How many messages a channel was given after `since`.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn delivered_since(
    conn: &mut PgConnection,
    project: &str,
    channel: &str,
    since: DateTime<Utc>,
) -> Result<i64, Error> {
    Ok(sqlx::query_scalar!(
        r#"
        select count(*) as "messages!" from notifications where project = $1 and channel = $2 and delivered_at > $3
        "#,
        project,
        channel,
        since,
    )
    .fetch_one(conn)
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
        set state = 'delivered', attempts = attempts + 1, failure = null, delivered_at = $2, lease_expires_at = null
        where notification_id = $1
        "#,
        id as NotificationId,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes that a message did not arrive, and when it is tried again; `None`: never by itself.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn failed(
    conn: &mut PgConnection,
    id: NotificationId,
    failure: &str,
    next_try_at: Option<DateTime<Utc>>,
) -> Result<(), Error> {
    sqlx::query!(
        r#"
        update notifications
        set state = case when $3::timestamptz is null then 'dead' else 'queued' end, attempts = attempts + 1, failure = $2,
            next_try_at = coalesce($3, next_try_at), lease_expires_at = null
        where notification_id = $1 and state = 'queued'
        "#,
        id as NotificationId,
        failure,
        next_try_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Gives a message back untried, until `next_try_at`.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn defer(
    conn: &mut PgConnection,
    id: NotificationId,
    next_try_at: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        "update notifications set next_try_at = $2, lease_expires_at = null where notification_id = $1",
        id as NotificationId,
        next_try_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Puts a dead letter back into its lane, with all its tries.
///
/// # Errors
/// [`Error::Conflict`] if it is not dead.
pub async fn revive(
    conn: &mut PgConnection,
    project: &str,
    id: NotificationId,
    now: DateTime<Utc>,
) -> Result<Notification, Error> {
    let done = sqlx::query!(
        r#"
        update notifications set state = 'queued', attempts = 0, next_try_at = $3, created_at = $3
        where project = $1 and notification_id = $2 and state = 'dead'
        "#,
        project,
        id as NotificationId,
        now,
    )
    .execute(&mut *conn)
    .await?;
    let message = get(conn, project, id).await?;
    if done.rows_affected() == 0 {
        let what = format!("notification {id} is {}; only a dead one can be sent again", message.state);
        return Err(Error::Conflict { what });
    }
    Ok(message)
}

/// How many messages opened or re-opened something for a channel about a model since `since`, and were not held back.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn told_since(
    conn: &mut PgConnection,
    project: &str,
    channel: &str,
    registered_model: &str,
    since: DateTime<Utc>,
) -> Result<i64, Error> {
    Ok(sqlx::query_scalar!(
        r#"
        select count(*) as "messages!" from notifications
        where project = $1 and registered_model = $3 and channel = $2 and created_at >= $4
          and event in ('opened', 'reopened') and state <> 'held-back'
        "#,
        project,
        channel,
        registered_model,
        since,
    )
    .fetch_one(conn)
    .await?)
}

/// Whether a channel was told, or is about to be, that an incident opened.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn was_told(conn: &mut PgConnection, channel: &str, incident: IncidentId) -> Result<bool, Error> {
    Ok(sqlx::query_scalar!(
        r#"
        select exists (select from notifications
                       where incident_id = $2 and channel = $1 and event in ('opened', 'reopened')
                         and state <> 'held-back') as "told!"
        "#,
        channel,
        incident as IncidentId,
    )
    .fetch_one(conn)
    .await?)
}

/// From now on, what a channel was not told about a model counts as told by `by`.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn count_held_back(
    conn: &mut PgConnection,
    project: &str,
    channel: &str,
    registered_model: &str,
    by: NotificationId,
) -> Result<(), Error> {
    sqlx::query!(
        r#"
        update notifications set counted_in = $4
        where project = $1 and channel = $2 and registered_model = $3 and state = 'held-back' and counted_in is null
        "#,
        project,
        channel,
        registered_model,
        by as NotificationId,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What a channel was not told about a model and has not heard of since: summaries, oldest first.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn held_back(
    conn: &mut PgConnection,
    project: &str,
    channel: &str,
    registered_model: &str,
) -> Result<Vec<(DateTime<Utc>, String)>, Error> {
    let rows = sqlx::query!(
        r#"
        select created_at, coalesce(payload ->> 'summary', '') as "summary!" from notifications
        where project = $1 and channel = $2 and registered_model = $3 and state = 'held-back' and counted_in is null
        order by created_at, notification_id
        "#,
        project,
        channel,
        registered_model,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.created_at, row.summary)).collect())
}
