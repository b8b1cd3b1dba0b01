//! SQL that forgets what is over: finished jobs, ticks, answers kept for repeated requests, served predictions' files.

use chrono::TimeDelta;
use domain::ids::JobId;
use sqlx::PgConnection;

use crate::Error;
use crate::jobs::interval;

/// So many rows go in one transaction, so that none is long.
const AT_ONCE: i64 = 5_000;

/// How many finished jobs are older than `age`, with all of their chain.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn old_jobs(conn: &mut PgConnection, age: TimeDelta) -> Result<i64, Error> {
    Ok(sqlx::query_scalar!(
        r#"
        select count(*) as "jobs!" from jobs j
        where j.finished_at < clock_timestamp() - $1::interval
          and not exists (select 1 from jobs other where other.chain_id = j.chain_id
                          and (other.finished_at is null or other.finished_at >= clock_timestamp() - $1::interval))
        "#,
        interval(age),
    )
    .fetch_one(conn)
    .await?)
}

/// Forgets some finished jobs that are older than `age`, with all of their chain; answers which.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn forget_jobs(conn: &mut PgConnection, age: TimeDelta) -> Result<Vec<JobId>, Error> {
    Ok(sqlx::query_scalar!(
        r#"
        delete from jobs where job_id in (
            select j.job_id from jobs j
            where j.finished_at < clock_timestamp() - $1::interval
              and not exists (select 1 from jobs other where other.chain_id = j.chain_id
                              and (other.finished_at is null or other.finished_at >= clock_timestamp() - $1::interval))
            limit $2)
        returning job_id as "job_id: JobId"
        "#,
        interval(age),
        AT_ONCE,
    )
    .fetch_all(conn)
    .await?)
}

/// How many ticks that do not wait were noted longer ago than `age`.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn old_ticks(conn: &mut PgConnection, age: TimeDelta) -> Result<i64, Error> {
    Ok(sqlx::query_scalar!(
        r#"
        select count(*) as "ticks!" from schedule_ticks
        where noted_at < clock_timestamp() - $1::interval and state <> 'waiting'
        "#,
        interval(age),
    )
    .fetch_one(conn)
    .await?)
}

/// Forgets those ticks; answers how many.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn forget_ticks(conn: &mut PgConnection, age: TimeDelta) -> Result<u64, Error> {
    let done = sqlx::query!(
        "delete from schedule_ticks where noted_at < clock_timestamp() - $1::interval and state <> 'waiting'",
        interval(age),
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// How many answers to batches were kept for longer than `age`, in case they are sent again.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn old_answers(
    conn: &mut PgConnection,
    before: chrono::DateTime<chrono::Utc>,
) -> Result<i64, Error> {
    Ok(sqlx::query_scalar!(
        r#"select count(*) as "answers!" from ingest_batches where created_at < $1"#,
        before
    )
    .fetch_one(conn)
    .await?)
}

/// Forgets those answers; answers how many. The platform's clock has dated them.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn forget_answers(
    conn: &mut PgConnection,
    before: chrono::DateTime<chrono::Utc>,
) -> Result<u64, Error> {
    let done = sqlx::query!("delete from ingest_batches where created_at < $1", before).execute(conn).await?;
    Ok(done.rows_affected())
}

/// A file of served predictions.
#[derive(Clone, Debug)]
pub struct OldLog {
    /// Its row.
    pub id: uuid::Uuid,
    /// Where it lies, relative to the data directory.
    pub path: String,
    /// Its predictions.
    pub rows: i64,
}

/// Some files of served predictions whose last cutoff lies before `before`, locked until the transaction ends.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn old_logs(
    conn: &mut PgConnection,
    before: chrono::DateTime<chrono::Utc>,
    limit: i64,
) -> Result<Vec<OldLog>, Error> {
    Ok(sqlx::query_as!(
        OldLog,
        r#"
        select prediction_log_id as id, path, rows from prediction_logs
        where last_cutoff < $1 order by last_cutoff limit $2 for update skip locked
        "#,
        before,
        limit,
    )
    .fetch_all(conn)
    .await?)
}

/// Forgets files of served predictions; what labels join to stays.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn forget_logs(conn: &mut PgConnection, logs: &[OldLog]) -> Result<(), Error> {
    let ids: Vec<_> = logs.iter().map(|log| log.id).collect();
    sqlx::query!("delete from prediction_logs where prediction_log_id = any($1)", &ids).execute(conn).await?;
    Ok(())
}
