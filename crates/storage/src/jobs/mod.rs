//! SQL over `jobs`: leased work. What a job *does* lives in the service that handles its kind.
//!
//! A lease is a random token with an expiry. Work happens outside any transaction; the holder extends the lease while it
//! works and must show the token to report. A lease that ran out is claimed by another worker.

mod people;

use chrono::{DateTime, TimeDelta, Utc};
use domain::ids::{JobId, LeaseToken};
use serde_json::Value;
use sqlx::PgConnection;

pub use people::{JobRow, LogLine, Wanted, cancel, counts, get, latest, list, logs, retry, say};

use crate::Error;

/// What is to be done.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// The project it belongs to.
    pub project: String,
    /// Names the handler.
    pub kind: String,
    /// Ids and settings, not data.
    pub payload: Value,
    /// At most one live job a key; a second enqueue returns the first.
    pub dedup_key: Option<String>,
    /// Larger runs first.
    pub priority: i32,
    /// Not before.
    pub run_after: DateTime<Utc>,
    /// How often it may be tried.
    pub max_attempts: i32,
}

/// A job in somebody's hands.
#[derive(Clone, Debug)]
pub struct Leased {
    /// Which one.
    pub id: JobId,
    /// The project it belongs to.
    pub project: String,
    /// Names the handler.
    pub kind: String,
    /// What the enqueuer said.
    pub payload: Value,
    /// This is the n-th try, from 1.
    pub attempts: i32,
    /// How often it may be tried.
    pub max_attempts: i32,
    /// Proves the lease.
    pub token: LeaseToken,
}

/// The channel that wakes workers; the payload is the kind.
pub const WAKE_CHANNEL: &str = "foretime_jobs";

/// Enqueues a job, or returns the live one with the same dedup key. Wakes the workers when the transaction commits.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn enqueue(conn: &mut PgConnection, job: &NewJob, now: DateTime<Utc>) -> Result<JobId, Error> {
    let id = JobId::new();
    let inserted = sqlx::query_scalar!(
        r#"
        insert into jobs (job_id, project, kind, payload, state, priority, dedup_key, run_after, max_attempts, created_at)
        values ($1, $2, $3, $4, 'queued', $5, $6, $7, $8, $9)
        on conflict (project, kind, dedup_key) where state in ('queued', 'running') do nothing
        returning job_id as "id: JobId"
        "#,
        id as JobId,
        job.project,
        job.kind,
        job.payload,
        job.priority,
        job.dedup_key,
        job.run_after,
        job.max_attempts,
        now,
    )
    .fetch_optional(&mut *conn)
    .await?;
    match inserted {
        Some(id) => {
            sqlx::query!("select pg_notify($1, $2)", WAKE_CHANNEL, job.kind).execute(conn).await?;
            Ok(id)
        }
        None => live_with_key(conn, job).await,
    }
}

async fn live_with_key(conn: &mut PgConnection, job: &NewJob) -> Result<JobId, Error> {
    let id = sqlx::query_scalar!(
        r#"
        select job_id as "id: JobId" from jobs
        where project = $1 and kind = $2 and dedup_key = $3 and state in ('queued', 'running')
        "#,
        job.project,
        job.kind,
        job.dedup_key,
    )
    .fetch_optional(conn)
    .await?;
    id.ok_or_else(|| Error::Conflict {
        what: format!("a `{}` job ended while another was enqueued; enqueue again", job.kind),
    })
}

/// Claims the next job of one of `kinds` whose time has come, or one whose lease ran out, for `lease`.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn claim(
    conn: &mut PgConnection,
    kinds: &[String],
    holder: &str,
    lease: TimeDelta,
    due: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<Option<Leased>, Error> {
    let row = sqlx::query!(
        r#"
        with next as (
            select job_id from jobs
            where kind = any($1)
              and ((state = 'queued' and run_after <= $2) or (state = 'running' and lease_expires_at < $3))
            order by priority desc, run_after, job_id
            limit 1
            for update skip locked
        ),
        claimed as (
            update jobs
            set state = 'running', attempts = attempts + 1, lease_token = $4, lease_holder = $5,
                lease_expires_at = $3::timestamptz + $6::interval, started_at = $3, failure = null
            from next
            where jobs.job_id = next.job_id
            returning jobs.job_id, project, kind, payload, attempts, max_attempts, lease_token
        ),
        said as (
            insert into job_logs (job_id, logged_at, line)
            select job_id, $3, format('try %s of %s began in process %s', attempts, max_attempts, $5) from claimed
        )
        select job_id as "id: JobId", project, kind, payload, attempts, max_attempts,
               lease_token as "token!: LeaseToken"
        from claimed
        "#,
        kinds,
        due,
        now,
        LeaseToken(uuid::Uuid::new_v4()) as LeaseToken,
        holder,
        interval(lease),
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Leased {
        id: row.id,
        project: row.project,
        kind: row.kind,
        payload: row.payload,
        attempts: row.attempts,
        max_attempts: row.max_attempts,
        token: row.token,
    }))
}

/// Extends a lease and stores the latest progress. Answers whether the job should go on: false if the lease was lost
/// or somebody asked to cancel it.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn heartbeat(
    conn: &mut PgConnection,
    job: &Leased,
    progress: Option<&Value>,
    lease: TimeDelta,
    now: DateTime<Utc>,
) -> Result<bool, Error> {
    let cancelled = sqlx::query_scalar!(
        r#"
        update jobs set lease_expires_at = $3::timestamptz + $4::interval, progress = coalesce($5, progress)
        where job_id = $1 and lease_token = $2
        returning cancel_requested
        "#,
        job.id as JobId,
        job.token as LeaseToken,
        now,
        interval(lease),
        progress,
    )
    .fetch_optional(conn)
    .await?;
    Ok(cancelled == Some(false))
}

/// Ends a job well. `false` if the lease had been lost: then somebody else does the work, and nothing was changed.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn succeed(
    conn: &mut PgConnection,
    job: &Leased,
    outcome: &Value,
    now: DateTime<Utc>,
) -> Result<bool, Error> {
    let done = sqlx::query!(
        r#"
        with done as (
            update jobs
            set state = 'succeeded', outcome = $3, finished_at = $4,
                lease_token = null, lease_holder = null, lease_expires_at = null
            where job_id = $1 and lease_token = $2
            returning job_id
        )
        insert into job_logs (job_id, logged_at, line) select job_id, $4, 'done' from done
        "#,
        job.id as JobId,
        job.token as LeaseToken,
        outcome,
        now,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Gives a job back after a failure: queued again at `retry_at`, or dead if its tries are used up or `retry_at` is `None`.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn fail(
    conn: &mut PgConnection,
    job: &Leased,
    failure: &str,
    retry_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<bool, Error> {
    let retry_at = retry_at.filter(|_| job.attempts < job.max_attempts);
    let done = sqlx::query!(
        r#"
        with done as (
            update jobs
            set state = case when cancel_requested then 'cancelled' when $4::timestamptz is null then 'dead'
                             else 'queued' end,
                run_after = coalesce($4, run_after), failure = $3,
                finished_at = case when $4::timestamptz is null or cancel_requested then $5::timestamptz end,
                lease_token = null, lease_holder = null, lease_expires_at = null
            where job_id = $1 and lease_token = $2
            returning job_id, state
        )
        insert into job_logs (job_id, logged_at, line)
        select job_id, $5, format('%s; the job is %s', $3::text, state) from done
        "#,
        job.id as JobId,
        job.token as LeaseToken,
        failure,
        retry_at,
        now,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

fn interval(span: TimeDelta) -> sqlx::postgres::types::PgInterval {
    let microseconds = span.num_microseconds().unwrap_or(i64::MAX);
    sqlx::postgres::types::PgInterval { months: 0, days: 0, microseconds }
}
