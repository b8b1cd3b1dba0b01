//! SQL over `jobs`: leased work. What a job *does* lives in the service that handles its kind.
//!
//! A lease is a random token with an expiry. Work happens outside any transaction; the holder extends the lease while it
//! works and must show the token to report. A lease that ran out is claimed by another worker.
//!
//! Every moment of a job is Postgres's own: a worker whose clock is wrong, or that was stopped for a while, takes nothing from
//! another. The platform's clock, which a replay may set, has no part in it.

mod cause;
mod people;

use std::collections::HashSet;

use chrono::TimeDelta;
use domain::ids::{JobId, LeaseToken};
use serde_json::Value;
use sqlx::PgConnection;

pub use cause::{Cause, caused_by};
pub use people::{
    JobRow, LogLine, Wanted, cancel, counts, get, latest, list, live_of, logs, of_chain, of_model, retry,
    say, worked_on,
};

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
    /// The first job of its chain.
    pub chain: JobId,
    /// The request that asked for it, as in the logs.
    pub request_id: Option<String>,
    /// The trace that it goes on with, as W3C Trace Context writes it.
    pub traceparent: Option<String>,
}

/// The channel that wakes workers; the payload is the kind.
pub const WAKE_CHANNEL: &str = "foretime_jobs";

/// Enqueues a job, or returns the live one with the same dedup key. Wakes the workers when the transaction commits. What is
/// enqueued within [`caused_by`] remembers its cause.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn enqueue(conn: &mut PgConnection, job: &NewJob) -> Result<JobId, Error> {
    loop {
        if let Some(id) = add(conn, job).await? {
            return Ok(id);
        }
        // the live one may end between the two statements; then there is room for this one
        if let Some(id) = live_with_key(conn, job).await? {
            return Ok(id);
        }
    }
}

/// Adds a job, unless a live one has its dedup key.
async fn add(conn: &mut PgConnection, job: &NewJob) -> Result<Option<JobId>, Error> {
    let (id, cause) = (JobId::new(), Cause::current());
    let inserted = sqlx::query_scalar!(
        r#"
        with added as (
            insert into jobs (job_id, project, kind, payload, state, priority, dedup_key, run_after, max_attempts,
                              created_at, chain_id, request_id, traceparent)
            values ($1, $2, $3, $4, 'queued', $5, $6, clock_timestamp(), $7, clock_timestamp(), $8, $9, $11)
            on conflict (project, kind, dedup_key) where state in ('queued', 'running') do nothing
            returning kind
        )
        select pg_notify($10, kind)::text from added
        "#,
        id as JobId,
        job.project,
        job.kind,
        job.payload,
        job.priority,
        job.dedup_key,
        job.max_attempts,
        cause.chain.unwrap_or(id) as JobId,
        cause.request_id,
        WAKE_CHANNEL,
        cause.traceparent,
    )
    .fetch_optional(&mut *conn)
    .await?;
    Ok(inserted.map(|_| id))
}

async fn live_with_key(conn: &mut PgConnection, job: &NewJob) -> Result<Option<JobId>, Error> {
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
    Ok(id)
}

/// Claims for `lease` up to `most` jobs of `kinds`: those whose lease ran out first, then the next whose time has come.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn claim(
    conn: &mut PgConnection,
    kinds: &[String],
    holder: &str,
    lease: TimeDelta,
    most: i64,
) -> Result<Vec<Leased>, Error> {
    Ok(sqlx::query_as!(
        Leased,
        r#"
        with lost as (
            select job_id from jobs
            where state = 'running' and kind = any($1) and lease_expires_at < now()
            order by lease_expires_at limit $2
            for update skip locked
        ),
        queued as (
            select job_id from jobs
            where state = 'queued' and kind = any($1) and run_after <= now()
            order by priority desc, run_after, job_id
            limit greatest($2 - (select count(*) from lost), 0)
            for update skip locked
        ),
        claimed as (
            update jobs
            set state = 'running', attempts = attempts + 1, lease_token = gen_random_uuid(), lease_holder = $3,
                lease_expires_at = clock_timestamp() + $4::interval, started_at = clock_timestamp(), failure = null
            from (select job_id from lost union all select job_id from queued) next
            where jobs.job_id = next.job_id
            returning jobs.job_id, project, kind, payload, attempts, max_attempts, lease_token, chain_id, request_id,
                      traceparent
        ),
        said as (
            insert into job_logs (job_id, logged_at, line)
            select job_id, clock_timestamp(), format('try %s of %s began in process %s', attempts, max_attempts, $3)
            from claimed
        )
        select job_id as "id!: JobId", project as "project!", kind as "kind!", payload as "payload!",
               attempts as "attempts!", max_attempts as "max_attempts!", lease_token as "token!: LeaseToken",
               coalesce(chain_id, job_id) as "chain!: JobId", request_id, traceparent
        from claimed
        "#,
        kinds,
        most,
        holder,
        interval(lease),
    )
    .fetch_all(conn)
    .await?)
}

/// Extends a lease and stores progress. `false` means: stop working, the lease is lost or the job should be cancelled.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn heartbeat(
    conn: &mut PgConnection,
    job: &Leased,
    progress: Option<&Value>,
    lease: TimeDelta,
) -> Result<bool, Error> {
    let cancelled = sqlx::query_scalar!(
        r#"
        update jobs
        set lease_expires_at = clock_timestamp() + $3::interval, progress = coalesce($4, progress)
        where job_id = $1 and lease_token = $2
        returning cancel_requested
        "#,
        job.id as JobId,
        job.token as LeaseToken,
        interval(lease),
        progress,
    )
    .fetch_optional(conn)
    .await?;
    Ok(cancelled == Some(false))
}

/// Ends jobs well, each with its outcome. Answers those that were still held: of the others somebody else does the work, and
/// nothing of them was changed.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn succeed(conn: &mut PgConnection, ended: &[(&Leased, &Value)]) -> Result<HashSet<JobId>, Error> {
    let jobs: Vec<_> = ended.iter().map(|(job, _)| job.id.0).collect();
    let tokens: Vec<_> = ended.iter().map(|(job, _)| job.token.0).collect();
    let outcomes: Vec<Value> = ended.iter().map(|(_, outcome)| (*outcome).clone()).collect();
    let held = sqlx::query_scalar!(
        r#"
        with ended as (
            select * from unnest($1::uuid[], $2::uuid[], $3::jsonb[]) as ended (job_id, token, outcome)
        ),
        done as (
            update jobs
            set state = 'succeeded', outcome = ended.outcome, finished_at = clock_timestamp(),
                lease_token = null, lease_holder = null, lease_expires_at = null
            from ended
            where jobs.job_id = ended.job_id and jobs.lease_token = ended.token
            returning jobs.job_id
        ),
        said as (
            insert into job_logs (job_id, logged_at, line) select job_id, clock_timestamp(), 'done' from done
        )
        select job_id as "id!: JobId" from done
        "#,
        &jobs,
        &tokens,
        &outcomes,
    )
    .fetch_all(conn)
    .await?;
    Ok(held.into_iter().collect())
}

/// Gives a job back after a failure: queued again `retry_in` from now, or dead if its tries are used up or that is `None`.
/// `false` if the lease had been lost.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn fail(
    conn: &mut PgConnection,
    job: &Leased,
    failure: &str,
    retry_in: Option<TimeDelta>,
) -> Result<bool, Error> {
    let retry_in = retry_in.filter(|_| job.attempts < job.max_attempts).map(interval);
    let done = sqlx::query!(
        r#"
        with done as (
            update jobs
            set state = case when cancel_requested then 'cancelled' when $4::interval is null then 'dead'
                             else 'queued' end,
                run_after = coalesce(clock_timestamp() + $4::interval, run_after), failure = $3,
                finished_at = case when $4::interval is null or cancel_requested then clock_timestamp() end,
                lease_token = null, lease_holder = null, lease_expires_at = null
            where job_id = $1 and lease_token = $2
            returning job_id, state
        )
        insert into job_logs (job_id, logged_at, line)
        select job_id, clock_timestamp(), format('%s; the job is %s', $3::text, state) from done
        "#,
        job.id as JobId,
        job.token as LeaseToken,
        failure,
        retry_in,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Gives a job back whose process stops: it is queued again at once, wakes who waits for work, and this try of it does not count.
/// `false` if the lease had been lost.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn give_back(conn: &mut PgConnection, job: &Leased, why: &str) -> Result<bool, Error> {
    let given = sqlx::query_scalar!(
        r#"
        with given as (
            update jobs
            set state = case when cancel_requested then 'cancelled' else 'queued' end,
                attempts = attempts - 1, failure = $3,
                finished_at = case when cancel_requested then clock_timestamp() end,
                lease_token = null, lease_holder = null, lease_expires_at = null
            where job_id = $1 and lease_token = $2
            returning job_id, kind, state
        ),
        said as (
            insert into job_logs (job_id, logged_at, line)
            select job_id, clock_timestamp(), format('%s; its process stops, and the job is %s', $3::text, state) from given
        )
        select pg_notify($4, kind)::text from given
        "#,
        job.id as JobId,
        job.token as LeaseToken,
        why,
        WAKE_CHANNEL,
    )
    .fetch_optional(conn)
    .await?;
    Ok(given.is_some())
}

pub(crate) fn interval(span: TimeDelta) -> sqlx::postgres::types::PgInterval {
    let microseconds = span.num_microseconds().unwrap_or(i64::MAX);
    sqlx::postgres::types::PgInterval { months: 0, days: 0, microseconds }
}
