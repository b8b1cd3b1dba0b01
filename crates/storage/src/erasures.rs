//! SQL over erasures: the journal, the keys that must not come back, and what is flagged because of them.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use domain::ids::{ErasureId, JobId, TrainingSetId};
use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::Error;
use crate::jobs::{self, NewJob};

/// The job kind that rewrites what holds erased rows.
pub const JOB_KIND: &str = "erase";

/// One erasure.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Erasure {
    /// Which one.
    pub id: ErasureId,
    /// The entity.
    pub entity: String,
    /// Why, in the words of who asked.
    pub reason: String,
    /// How many keys.
    pub key_count: i32,
    /// Rows that happened by then are gone.
    pub horizon: DateTime<Utc>,
    /// When it was asked for.
    pub requested_at: DateTime<Utc>,
    /// When the last file was rewritten.
    pub finished_at: Option<DateTime<Utc>>,
    /// What was taken from where.
    pub receipt: Option<Value>,
}

/// Whether any key of an entity was ever erased.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn any(conn: &mut PgConnection, project: &str, entity: &str) -> Result<bool, Error> {
    Ok(sqlx::query_scalar!(
        r#"select exists (select 1 from erased_keys where project = $1 and entity = $2) as "any!""#,
        project,
        entity,
    )
    .fetch_one(conn)
    .await?)
}

/// Up to when rows of these keys stay away, in microseconds; keys that were never erased are not listed.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn horizons(
    conn: &mut PgConnection,
    project: &str,
    entity: &str,
    keys: &[Vec<u8>],
) -> Result<HashMap<Vec<u8>, i64>, Error> {
    let rows = sqlx::query!(
        "select key, horizon from erased_keys where project = $1 and entity = $2 and key = any($3)",
        project,
        entity,
        keys,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.key, row.horizon.timestamp_micros())).collect())
}

/// Writes an erasure into the journal, with its keys.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn request(
    conn: &mut PgConnection,
    project: &str,
    erasure: &Erasure,
    keys: &[Vec<u8>],
) -> Result<(), Error> {
    // What is published by now its job will find; what is published later finds the erasure: see `look_again`.
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended('erasures:' || $1, 0))", project)
        .fetch_one(&mut *conn)
        .await?;
    sqlx::query!(
        r#"
        insert into erasures (erasure_id, project, entity, reason, key_count, horizon, requested_at)
        values ($1, $2, $3, $4, $5, $6, $7)
        "#,
        erasure.id as ErasureId,
        project,
        erasure.entity,
        erasure.reason,
        erasure.key_count,
        erasure.horizon,
        erasure.requested_at,
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        r#"
        insert into erased_keys as known (project, entity, key, horizon, erasure_id)
        select $1, $2, key, $4, $5 from unnest($3::bytea[]) as k (key)
        on conflict (project, entity, key) do update
        set horizon = greatest(known.horizon, excluded.horizon), erasure_id = excluded.erasure_id
        "#,
        project,
        erasure.entity,
        keys,
        erasure.horizon,
        erasure.id as ErasureId,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Enqueues the job that rewrites what holds rows of an erasure.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn enqueue(conn: &mut PgConnection, project: &str, id: ErasureId) -> Result<JobId, Error> {
    let job = NewJob {
        project: project.to_owned(),
        kind: JOB_KIND.to_owned(),
        payload: json!({ "project": project, "erasure": id }),
        dedup_key: Some(id.to_string()),
        priority: 10,
        max_attempts: 20,
    };
    jobs::enqueue(conn, &job).await
}

/// Lets every erasure whose horizon is not before `since` look at the prediction logs again: answers from before it have just been
/// published, out of a worker's memory or its spool. Call it in the transaction that publishes them.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn look_again(conn: &mut PgConnection, project: &str, since: DateTime<Utc>) -> Result<(), Error> {
    sqlx::query!("select pg_advisory_xact_lock_shared(hashtextextended('erasures:' || $1, 0))", project)
        .fetch_one(&mut *conn)
        .await?;
    let reaching = sqlx::query_scalar!(
        r#"select erasure_id as "id: ErasureId" from erasures where project = $1 and horizon >= $2 order by erasure_id"#,
        project,
        since,
    )
    .fetch_all(&mut *conn)
    .await?;
    for id in reaching {
        enqueue(conn, project, id).await?;
    }
    Ok(())
}

/// One erasure.
///
/// # Errors
/// [`Error::NotFound`] if there is none of that id.
pub async fn get(conn: &mut PgConnection, project: &str, id: ErasureId) -> Result<Erasure, Error> {
    sqlx::query_as!(
        Erasure,
        r#"
        select erasure_id as "id: ErasureId", entity, reason, key_count, horizon, requested_at, finished_at, receipt
        from erasures where project = $1 and erasure_id = $2
        "#,
        project,
        id as ErasureId,
    )
    .fetch_optional(conn)
    .await?
    .ok_or_else(|| Error::not_found(format!("erasure {id}")))
}

/// The keys of an erasure, with their horizons: those that a later erasure took over included.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn keys_of(
    conn: &mut PgConnection,
    project: &str,
    entity: &str,
) -> Result<HashMap<Vec<u8>, i64>, Error> {
    let rows = sqlx::query!(
        "select key, horizon from erased_keys where project = $1 and entity = $2",
        project,
        entity
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.key, row.horizon.timestamp_micros())).collect())
}

/// The training sets of these datasets that were made before the erasure, when its rows could be seen.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn training_sets_of(
    conn: &mut PgConnection,
    project: &str,
    datasets: &[String],
    requested_at: DateTime<Utc>,
) -> Result<Vec<TrainingSetId>, Error> {
    Ok(sqlx::query_scalar!(
        r#"
        select training_set_id as "id: TrainingSetId" from training_sets
        where project = $1 and dataset = any($2) and created_at <= $3 order by created_at
        "#,
        project,
        datasets,
        requested_at,
    )
    .fetch_all(conn)
    .await?)
}

/// The training sets that an erasure flagged.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn flagged(conn: &mut PgConnection, id: ErasureId) -> Result<Vec<TrainingSetId>, Error> {
    Ok(sqlx::query_scalar!(
        r#"
        select training_set_id as "id: TrainingSetId" from training_set_flags
        where erasure_id = $1 order by training_set_id
        "#,
        id as ErasureId,
    )
    .fetch_all(conn)
    .await?)
}

/// Flags training sets because of an erasure.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn flag(
    conn: &mut PgConnection,
    project: &str,
    id: ErasureId,
    sets: &[TrainingSetId],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let sets: Vec<uuid::Uuid> = sets.iter().map(|set| set.0).collect();
    sqlx::query!(
        r#"
        insert into training_set_flags (training_set_id, erasure_id, project, flagged_at)
        select training_set_id, $2, $3, $4 from unnest($1::uuid[]) as s (training_set_id)
        on conflict do nothing
        "#,
        &sets,
        id as ErasureId,
        project,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The registered versions that were trained on flagged sets, as `model/version`.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn models_of(
    conn: &mut PgConnection,
    project: &str,
    sets: &[TrainingSetId],
) -> Result<Vec<String>, Error> {
    let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
    Ok(sqlx::query_scalar!(
        r#"
        select distinct v.model || '/' || v.version as "name!"
        from model_versions v
        join run_tags t on t.project = v.project and t.run_id = v.run_id and t.key = 'foretime.training_set'
        where v.project = $1 and t.value = any($2) order by 1
        "#,
        project,
        &sets,
    )
    .fetch_all(conn)
    .await?)
}

/// Finishes an erasure with its receipt; a second finish changes nothing.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn finish(
    conn: &mut PgConnection,
    id: ErasureId,
    receipt: &Value,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        "update erasures set finished_at = $2, receipt = $3 where erasure_id = $1 and finished_at is null",
        id as ErasureId,
        now,
        receipt,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A file that an erasure replaced.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Rewritten {
    /// The view.
    pub view: String,
    /// Its version.
    pub view_version: i32,
    /// Where it lay.
    #[serde(skip)]
    pub old_path: String,
    /// What the file's SHA-256 was.
    pub old_sha256: String,
    /// What its successor's is; `None` if no row was left.
    pub new_sha256: Option<String>,
    /// How many rows it lost.
    pub rows_removed: i64,
}

/// Notes a replaced file, in the transaction that replaces it.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn note_part(conn: &mut PgConnection, id: ErasureId, part: &Rewritten) -> Result<(), Error> {
    sqlx::query!(
        r#"
        insert into erasure_parts (erasure_id, view, view_version, old_path, old_sha256, new_sha256, rows_removed)
        values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing
        "#,
        id as ErasureId,
        part.view,
        part.view_version,
        part.old_path,
        part.old_sha256,
        part.new_sha256,
        part.rows_removed,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The files that an erasure replaced.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn rewritten(conn: &mut PgConnection, id: ErasureId) -> Result<Vec<Rewritten>, Error> {
    Ok(sqlx::query_as!(
        Rewritten,
        r#"
        select view, view_version, old_path, old_sha256, new_sha256, rows_removed from erasure_parts
        where erasure_id = $1 order by view, view_version, old_sha256
        "#,
        id as ErasureId,
    )
    .fetch_all(conn)
    .await?)
}

/// A file of served predictions in which an erasure blanked rows.
#[derive(Clone, Debug, serde::Serialize)]
pub struct RedactedLog {
    /// The registered model that answered.
    pub registered_model: String,
    /// The version that answered.
    pub version: i32,
    /// Where it lay.
    #[serde(skip)]
    pub old_path: String,
    /// What the file's SHA-256 was.
    pub old_sha256: String,
    /// What its successor's is.
    pub new_sha256: String,
    /// How many rows were blanked.
    pub rows_redacted: i64,
}

/// Notes a file in which rows were blanked, in the transaction that replaces it.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn note_log(conn: &mut PgConnection, id: ErasureId, log: &RedactedLog) -> Result<(), Error> {
    sqlx::query!(
        r#"
        insert into erasure_logs (erasure_id, registered_model, version, old_path, old_sha256, new_sha256, rows_redacted)
        values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing
        "#,
        id as ErasureId,
        log.registered_model,
        log.version,
        log.old_path,
        log.old_sha256,
        log.new_sha256,
        log.rows_redacted,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The files in which an erasure blanked rows.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn redacted(conn: &mut PgConnection, id: ErasureId) -> Result<Vec<RedactedLog>, Error> {
    Ok(sqlx::query_as!(
        RedactedLog,
        r#"
        select registered_model, version, old_path, old_sha256, new_sha256, rows_redacted from erasure_logs
        where erasure_id = $1 order by registered_model, version, old_sha256
        "#,
        id as ErasureId,
    )
    .fetch_all(conn)
    .await?)
}

/// The files that an erasure put others in the place of.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn replaced_logs(conn: &mut PgConnection, id: ErasureId) -> Result<Vec<String>, Error> {
    Ok(sqlx::query_scalar!("select old_path from erasure_logs where erasure_id = $1", id as ErasureId)
        .fetch_all(conn)
        .await?)
}
