//! Jobs as people see them: what is queued, what became of it, what it said; ending one, and trying one again.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use domain::ids::JobId;
use serde_json::Value;
use sqlx::PgConnection;

use crate::Error;

/// A job as people see it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct JobRow {
    /// Which one.
    pub id: JobId,
    /// The first job of the chain it belongs to.
    pub chain: JobId,
    /// The request that asked for it, as in the logs.
    pub request_id: Option<String>,
    /// Names the handler.
    pub kind: String,
    /// `queued`, `running`, `succeeded`, `dead` or `cancelled`.
    pub state: String,
    /// What the enqueuer said.
    pub payload: Value,
    /// How often it was tried.
    pub attempts: i32,
    /// How often it may be tried.
    pub max_attempts: i32,
    /// Larger runs first.
    pub priority: i32,
    /// Not before.
    pub run_after: DateTime<Utc>,
    /// The process that works on it.
    pub lease_holder: Option<String>,
    /// Whether somebody asked that it end.
    pub cancel_requested: bool,
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

/// Asks that a job end. A queued one is cancelled at once; a running one learns of it at its next heartbeat.
///
/// # Errors
/// [`Error::Conflict`] if it has ended already; [`Error::NotFound`].
pub async fn cancel(conn: &mut PgConnection, id: JobId) -> Result<(), Error> {
    let done = sqlx::query!(
        r#"
        with asked as (
            update jobs
            set cancel_requested = true,
                state = case when state = 'queued' then 'cancelled' else state end,
                finished_at = case when state = 'queued' then clock_timestamp() end
            where job_id = $1 and state in ('queued', 'running')
            returning job_id
        )
        insert into job_logs (job_id, logged_at, line) select job_id, clock_timestamp(), 'asked to end' from asked
        "#,
        id as JobId,
    )
    .execute(&mut *conn)
    .await?;
    if done.rows_affected() == 0 {
        let state = get(conn, id).await?.state;
        return Err(Error::Conflict {
            what: format!("job {id} is {state}; only a queued or running job can be asked to end"),
        });
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
        select job_id as "id: JobId", coalesce(chain_id, job_id) as "chain!: JobId", request_id, kind, state, payload,
               attempts, max_attempts, priority, run_after, lease_holder, cancel_requested, progress, outcome, failure,
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
    list(conn, project, &Wanted { limit, ..Wanted::default() }).await
}

/// Which jobs are wanted.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Only those of the chain that begins with this one.
    pub chain: Option<JobId>,
    /// Only those in this state.
    pub state: Option<String>,
    /// Only those of this kind.
    pub kind: Option<String>,
    /// Only those listed after this one.
    pub after: Option<JobId>,
    /// At most so many.
    pub limit: i64,
}

/// The jobs of a project that are wanted, newest first.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn list(conn: &mut PgConnection, project: &str, wanted: &Wanted) -> Result<Vec<JobRow>, Error> {
    Ok(sqlx::query_as!(
        JobRow,
        r#"
        select job_id as "id: JobId", coalesce(chain_id, job_id) as "chain!: JobId", request_id, kind, state, payload,
               attempts, max_attempts, priority, run_after, lease_holder, cancel_requested, progress, outcome, failure,
               created_at, started_at, finished_at
        from jobs
        where project = $1 and ($2::text is null or state = $2) and ($3::text is null or kind = $3)
          and ($6::uuid is null or chain_id = $6)
          and ($4::uuid is null
               or (created_at, job_id) < (select last.created_at, last.job_id from jobs last where last.job_id = $4))
        order by created_at desc, job_id desc limit $5
        "#,
        project,
        wanted.state,
        wanted.kind,
        wanted.after as Option<JobId>,
        wanted.limit,
        wanted.chain as Option<JobId>,
    )
    .fetch_all(conn)
    .await?)
}

/// Which of these jobs may still be worked on.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn live_of(conn: &mut PgConnection, ids: &[JobId]) -> Result<HashSet<JobId>, Error> {
    let ids: Vec<_> = ids.iter().map(|id| id.0).collect();
    let live = sqlx::query_scalar!(
        r#"select job_id as "id: JobId" from jobs where job_id = any($1) and state in ('queued', 'running')"#,
        &ids,
    )
    .fetch_all(conn)
    .await?;
    Ok(live.into_iter().collect())
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

/// The latest jobs that make or judge versions of a model, newest first.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn of_model(
    conn: &mut PgConnection,
    project: &str,
    model: &str,
    registered_model: &str,
) -> Result<Vec<JobRow>, Error> {
    Ok(sqlx::query_as!(
        JobRow,
        r#"
        select job_id as "id: JobId", coalesce(chain_id, job_id) as "chain!: JobId", request_id, kind, state, payload,
               attempts, max_attempts, priority, run_after, lease_holder, cancel_requested, progress, outcome, failure,
               created_at, started_at, finished_at
        from jobs
        where project = $1
          and ((kind in ('build-training-set', 'train') and payload ->> 'model' = $2)
               or (kind = 'promote' and payload ->> 'registered_model' = $3))
        order by created_at desc, job_id desc limit 60
        "#,
        project,
        model,
        registered_model,
    )
    .fetch_all(conn)
    .await?)
}

/// The jobs of the chain that a job belongs to, oldest first.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn of_chain(conn: &mut PgConnection, member: JobId) -> Result<Vec<JobRow>, Error> {
    Ok(sqlx::query_as!(
        JobRow,
        r#"
        select job_id as "id: JobId", coalesce(chain_id, job_id) as "chain!: JobId", request_id, kind, state, payload,
               attempts, max_attempts, priority, run_after, lease_holder, cancel_requested, progress, outcome, failure,
               created_at, started_at, finished_at
        from jobs
        where job_id = $1 or chain_id = (select chain_id from jobs where job_id = $1)
        order by created_at, job_id
        "#,
        member as JobId,
    )
    .fetch_all(conn)
    .await?)
}

/// How long jobs of a kind have worked on a model within the last `per`, those at work included.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn worked_on(
    conn: &mut PgConnection,
    project: &str,
    kind: &str,
    model: &str,
    per: TimeDelta,
) -> Result<TimeDelta, Error> {
    let seconds = sqlx::query_scalar!(
        r#"
        select coalesce(sum(extract(epoch from coalesce(finished_at, clock_timestamp()) - started_at)), 0)
               ::double precision as "seconds!"
        from jobs
        where project = $1 and kind = $2 and payload ->> 'model' = $3 and started_at > clock_timestamp() - $4::interval
        "#,
        project,
        kind,
        model,
        super::interval(per),
    )
    .fetch_one(conn)
    .await?;
    Ok(TimeDelta::milliseconds((seconds * 1e3) as i64))
}

/// One line of a job's log.
#[derive(Clone, Debug, serde::Serialize)]
pub struct LogLine {
    /// When it was said, by Postgres's clock.
    pub logged_at: DateTime<Utc>,
    /// What was said.
    pub line: String,
}

/// Stores what a job said, each line so long ago.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn say(conn: &mut PgConnection, id: JobId, lines: &[(TimeDelta, String)]) -> Result<(), Error> {
    let ages: Vec<_> = lines.iter().map(|(age, _)| super::interval(*age)).collect();
    let text: Vec<_> = lines.iter().map(|(_, line)| line.clone()).collect();
    sqlx::query!(
        r#"
        insert into job_logs (job_id, logged_at, line)
        select $1, clock_timestamp() - age, line from unnest($2::interval[], $3::text[]) as said (age, line)
        "#,
        id as JobId,
        &ages,
        &text,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What a job has said, oldest first.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn logs(conn: &mut PgConnection, id: JobId) -> Result<Vec<LogLine>, Error> {
    Ok(sqlx::query_as!(
        LogLine,
        "select logged_at, line from job_logs where job_id = $1 order by said_nth",
        id as JobId,
    )
    .fetch_all(conn)
    .await?)
}

/// Queues a job that ended badly again, with all its tries, and wakes the workers when the transaction commits.
///
/// # Errors
/// [`Error::Conflict`] if it did not end badly, or another job of its key is live; [`Error::NotFound`].
pub async fn retry(conn: &mut PgConnection, id: JobId) -> Result<(), Error> {
    let row = get(conn, id).await?;
    let conflict = |what: String| Error::Conflict { what };
    let queued = sqlx::query_scalar!(
        r#"
        with again as (
            update jobs failed
            set state = 'queued', attempts = 0, run_after = clock_timestamp(), cancel_requested = false, started_at = null,
                finished_at = null
            where job_id = $1 and state in ('dead', 'cancelled')
              and not exists (
                  select 1 from jobs live
                  where live.project = failed.project and live.kind = failed.kind
                    and live.dedup_key = failed.dedup_key and live.state in ('queued', 'running'))
            returning job_id, kind
        ),
        said as (
            insert into job_logs (job_id, logged_at, line) select job_id, clock_timestamp(), 'queued again by request' from again
        )
        select pg_notify($2, kind)::text from again
        "#,
        id as JobId,
        super::WAKE_CHANNEL,
    )
    .fetch_optional(conn)
    .await?;
    match (queued, row.state.as_str()) {
        (Some(_), _) => Ok(()),
        (None, "dead" | "cancelled") => {
            Err(conflict(format!("another `{}` job does the work of {id} already", row.kind)))
        }
        (None, state) => {
            Err(conflict(format!("job {id} is {state}; only a dead or cancelled job is tried again")))
        }
    }
}
