//! SQL over `webhooks` and their deliveries: the outbox. A delivery is written in the transaction of the change it tells of,
//! together with the job that delivers it.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::Error;
use crate::jobs::{Cause, NewJob, caused_by, enqueue};

/// Names the job that delivers; never renamed.
pub const DELIVER: &str = "deliver-webhook";
/// How often a delivery is tried: for about a day, with the job loop's pauses of at most ten minutes.
const TRIES: i32 = 150;

/// Somebody who wants to hear of changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Which one.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// What people wrote about it.
    pub description: Option<String>,
    /// Where messages go.
    pub url: String,
    /// What it hears of, as `ENTITY.ACTION`.
    pub events: Vec<String>,
    /// What signs messages.
    pub secret: Option<String>,
    /// `ACTIVE` or `DISABLED`.
    pub status: String,
    /// When it was created, in milliseconds.
    pub created_ms: i64,
    /// When it last changed, in milliseconds.
    pub updated_ms: i64,
}

/// A message to a webhook.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Which one.
    pub id: Uuid,
    /// To whom.
    pub webhook: Webhook,
    /// What changed, such as `MODEL_VERSION`.
    pub entity: String,
    /// How, such as `CREATED`.
    pub action: String,
    /// What is to be said about it.
    pub data: Value,
    /// `queued`, `delivered` or `dead`.
    pub state: String,
    /// When it was written.
    pub created_at: DateTime<Utc>,
}

/// Adds a webhook.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn insert(conn: &mut PgConnection, project: &str, webhook: &Webhook) -> Result<(), Error> {
    sqlx::query!(
        r#"
        insert into webhooks (webhook_id, project, name, description, url, events, secret, status, created_ms, updated_ms)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
        "#,
        webhook.id,
        project,
        webhook.name,
        webhook.description,
        webhook.url,
        &webhook.events,
        webhook.secret,
        webhook.status,
        webhook.created_ms,
        webhook.updated_ms,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Writes a webhook as it is now; `false` if it is not there.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn update(conn: &mut PgConnection, project: &str, webhook: &Webhook) -> Result<bool, Error> {
    let done = sqlx::query!(
        r#"
        update webhooks set name = $3, description = $4, url = $5, events = $6, secret = $7, status = $8, updated_ms = $9
        where project = $1 and webhook_id = $2
        "#,
        project,
        webhook.id,
        webhook.name,
        webhook.description,
        webhook.url,
        &webhook.events,
        webhook.secret,
        webhook.status,
        webhook.updated_ms,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Removes a webhook with what it has not heard yet; `false` if it is not there.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn delete(conn: &mut PgConnection, project: &str, id: Uuid) -> Result<bool, Error> {
    let done = sqlx::query!("delete from webhooks where project = $1 and webhook_id = $2", project, id)
        .execute(conn)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// One webhook, if it is there.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn find(conn: &mut PgConnection, project: &str, id: Uuid) -> Result<Option<Webhook>, Error> {
    Ok(sqlx::query_as!(
        Webhook,
        r#"
        select webhook_id as id, name, description, url, events, secret, status, created_ms, updated_ms
        from webhooks where project = $1 and webhook_id = $2
        "#,
        project,
        id,
    )
    .fetch_optional(conn)
    .await?)
}

/// Webhooks that hear of `event` (all, if it is empty), oldest first, after a place.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn list(
    conn: &mut PgConnection,
    project: &str,
    event: &str,
    (created_ms, id): (i64, Uuid),
    limit: i64,
) -> Result<Vec<Webhook>, Error> {
    Ok(sqlx::query_as!(
        Webhook,
        r#"
        select webhook_id as id, name, description, url, events, secret, status, created_ms, updated_ms
        from webhooks
        where project = $1 and ($2 = '' or $2 = any(events)) and (created_ms, webhook_id) > ($3, $4)
        order by created_ms, webhook_id limit $5
        "#,
        project,
        event,
        created_ms,
        id,
        limit,
    )
    .fetch_all(conn)
    .await?)
}

/// If anybody listens to changes in a project: whether a model of it is a prompt, as MLflow tells them apart.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn listened_to(conn: &mut PgConnection, project: &str, model: &str) -> Result<Option<bool>, Error> {
    Ok(sqlx::query_scalar!(
        r#"
        select exists (
            select 1 from registered_model_tags
            where project = $1 and model = $2 and key = 'mlflow.prompt.is_prompt' and value = 'true'
        ) as "is_prompt!"
        where exists (select 1 from webhooks where project = $1 and status = 'ACTIVE')
        "#,
        project,
        model,
    )
    .fetch_optional(conn)
    .await?)
}

/// Writes, in the caller's transaction, what active webhooks are to hear of a change; answers how many there are.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn note(
    conn: &mut PgConnection,
    project: &str,
    entity: &str,
    action: &str,
    data: &Value,
    now: DateTime<Utc>,
) -> Result<usize, Error> {
    let deliveries = sqlx::query_scalar!(
        r#"
        insert into webhook_deliveries (delivery_id, webhook_id, entity, action, data, state, created_at)
        select gen_random_uuid(), webhook_id, $2, $3, $4, 'queued', $5
        from webhooks where project = $1 and status = 'ACTIVE' and $2 || '.' || $3 = any(events)
        returning delivery_id
        "#,
        project,
        entity,
        action,
        data,
        now,
    )
    .fetch_all(&mut *conn)
    .await?;
    for delivery in &deliveries {
        let job = NewJob {
            project: project.to_owned(),
            kind: DELIVER.to_owned(),
            payload: json!({ "delivery": delivery }),
            dedup_key: None,
            priority: 0,
            max_attempts: TRIES,
        };
        // a message is no step of what caused it: nothing that follows waits until it arrives
        caused_by(Cause { chain: None, ..Cause::current() }, enqueue(conn, &job)).await?;
    }
    Ok(deliveries.len())
}

/// Writes, in the caller's transaction, that a run of this platform made a version.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn note_version(
    conn: &mut PgConnection,
    project: &str,
    model: &str,
    version: i32,
    source: &str,
    run_id: &str,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    if listened_to(conn, project, model).await?.is_some() {
        let data = created(model, version, source, Some(run_id), &json!({}), "");
        note(conn, project, "MODEL_VERSION", "CREATED", &data, now).await?;
    }
    Ok(())
}

/// What MLflow says of a version that was created.
pub fn created(
    model: &str,
    version: i32,
    source: &str,
    run_id: Option<&str>,
    tags: &Value,
    description: &str,
) -> Value {
    json!({
        "name": model,
        "version": version.to_string(),
        "source": source,
        "run_id": run_id,
        "tags": tags,
        "description": description,
    })
}

/// A message with its webhook, unless that was removed.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn delivery(conn: &mut PgConnection, id: Uuid) -> Result<Option<Delivery>, Error> {
    let row = sqlx::query!(
        r#"
        select d.delivery_id, d.entity, d.action, d.data, d.state, d.created_at,
               w.webhook_id, w.name, w.description, w.url, w.events, w.secret, w.status, w.created_ms, w.updated_ms
        from webhook_deliveries d join webhooks w using (webhook_id) where d.delivery_id = $1
        "#,
        id,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Delivery {
        id: row.delivery_id,
        webhook: Webhook {
            id: row.webhook_id,
            name: row.name,
            description: row.description,
            url: row.url,
            events: row.events,
            secret: row.secret,
            status: row.status,
            created_ms: row.created_ms,
            updated_ms: row.updated_ms,
        },
        entity: row.entity,
        action: row.action,
        data: row.data,
        state: row.state,
        created_at: row.created_at,
    }))
}

/// Notes that a message arrived.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn delivered(conn: &mut PgConnection, id: Uuid, now: DateTime<Utc>) -> Result<(), Error> {
    sqlx::query!(
        r#"
        update webhook_deliveries
        set state = 'delivered', attempts = attempts + 1, failure = null, delivered_at = $2 where delivery_id = $1
        "#,
        id,
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
pub async fn failed(conn: &mut PgConnection, id: Uuid, failure: &str, dead: bool) -> Result<(), Error> {
    sqlx::query!(
        r#"
        update webhook_deliveries
        set state = case when $3 then 'dead' else 'queued' end, attempts = attempts + 1, failure = $2
        where delivery_id = $1 and state <> 'delivered'
        "#,
        id,
        failure,
        dead,
    )
    .execute(conn)
    .await?;
    Ok(())
}
