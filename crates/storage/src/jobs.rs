//! SQL over `jobs`: leased work. What a job *does* lives in the service that handles its kind.
//!
//! A lease is a random token with an expiry. Work happens outside any transaction; the holder extends the lease while it
//! works and must show the token to report. A lease that ran out is claimed by another worker.

use chrono::{DateTime, TimeDelta, Utc};
use domain::ids::{JobId, LeaseToken};
use serde_json::Value;
use sqlx::PgConnection;

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

/// A job as people see it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct JobRow {
    /// Which one.
    pub id: JobId,
    /// Names the handler.
    pub kind: String,
    /// `queued`, `running`, `succeeded`, `dead` or `cancelled`.
    pub state: String,
    /// What the enqueuer said.
    pub payload: Value,
    /// How often it was tried.
    pub attempts: i32,
    /// What the handler last reported.
    pub progress: Option<Value>,
    /// What the handler answered.
    pub outcome: Option<Value>,
    /// What went wrong the last time.
    pub failure: Option<String>,
    /// When it was enqueued.
    pub created_at: DateTime<Utc>,
    /// When the latest try began.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
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
        )
        update jobs
        set state = 'running', attempts = attempts + 1, lease_token = $4, lease_holder = $5,
            lease_expires_at = $3::timestamptz + $6::interval, started_at = $3, failure = null
        from next
        where jobs.job_id = next.job_id
        returning jobs.job_id as "id: JobId", project, kind, payload, attempts, max_attempts,
                  lease_token as "token!: LeaseToken"
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
        update jobs
        set state = 'succeeded', outcome = $3, finished_at = $4,
            lease_token = null, lease_holder = null, lease_expires_at = null
        where job_id = $1 and lease_token = $2
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
        update jobs
        set state = case when cancel_requested then 'cancelled' when $4::timestamptz is null then 'dead' else 'queued' end,
            run_after = coalesce($4, run_after), failure = $3,
            finished_at = case when $4::timestamptz is null or cancel_requested then $5::timestamptz end,
            lease_token = null, lease_holder = null, lease_expires_at = null
        where job_id = $1 and lease_token = $2
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

/// Asks that a job end. A queued one is cancelled at once; a running one learns of it at its next heartbeat.
///
/// # Errors
/// [`Error::NotFound`] if no live job has that id.
pub async fn cancel(conn: &mut PgConnection, id: JobId, now: DateTime<Utc>) -> Result<(), Error> {
    let done = sqlx::query!(
        r#"
        update jobs
        set cancel_requested = true,
            state = case when state = 'queued' then 'cancelled' else state end,
            finished_at = case when state = 'queued' then $2::timestamptz end
        where job_id = $1 and state in ('queued', 'running')
        "#,
        id as JobId,
        now,
    )
    .execute(conn)
    .await?;
    if done.rows_affected() == 0 {
        return Err(Error::not_found(format!("a queued or running job {id}")));
    }
    Ok(())
}

/// One job.
///
/// # Errors
/// [`Error::NotFound`] if there is none of that id.
pub async fn get(conn: &mut PgConnection, id: JobId) -> Result<JobRow, Error> {
    sqlx::query_as!(
        JobRow,
        r#"
        select job_id as "id: JobId", kind, state, payload, attempts, progress, outcome, failure,
               created_at, started_at, finished_at
        from jobs where job_id = $1
        "#,
        id as JobId,
    )
    .fetch_optional(conn)
    .await?
    .ok_or_else(|| Error::not_found(format!("job {id}")))
}

/// The latest jobs of a project, newest first.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn latest(conn: &mut PgConnection, project: &str, limit: i64) -> Result<Vec<JobRow>, Error> {
    Ok(sqlx::query_as!(
        JobRow,
        r#"
        select job_id as "id: JobId", kind, state, payload, attempts, progress, outcome, failure,
               created_at, started_at, finished_at
        from jobs where project = $1 order by created_at desc, job_id desc limit $2
        "#,
        project,
        limit,
    )
    .fetch_all(conn)
    .await?)
}

/// How many jobs of each kind are in each state: `(kind, state, jobs)`.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn counts(conn: &mut PgConnection) -> Result<Vec<(String, String, i64)>, Error> {
    let rows = sqlx::query!(r#"select kind, state, count(*) as "jobs!" from jobs group by kind, state"#)
        .fetch_all(conn)
        .await?;
    Ok(rows.into_iter().map(|row| (row.kind, row.state, row.jobs)).collect())
}

/// Stores a line that a job said.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn log(conn: &mut PgConnection, id: JobId, line: &str, now: DateTime<Utc>) -> Result<(), Error> {
    sqlx::query!(
        "insert into job_logs (job_id, logged_at, line) values ($1, $2, $3)",
        id as JobId,
        now,
        line
    )
    .execute(conn)
    .await?;
    Ok(())
}

fn interval(span: TimeDelta) -> sqlx::postgres::types::PgInterval {
    let microseconds = span.num_microseconds().unwrap_or(i64::MAX);
    sqlx::postgres::types::PgInterval { months: 0, days: 0, microseconds }
}
