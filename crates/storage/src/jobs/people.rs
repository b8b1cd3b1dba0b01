//! Jobs as people see them: what is queued, what became of it, what it said; ending one, and trying one again.

use chrono::{DateTime, Utc};
use domain::ids::JobId;
use serde_json::Value;
use sqlx::PgConnection;

use crate::Error;

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
/// [`Error::NotFound`] if no live job has that id.
pub async fn cancel(conn: &mut PgConnection, id: JobId, now: DateTime<Utc>) -> Result<(), Error> {
    let done = sqlx::query!(
        r#"
        with asked as (
            update jobs
            set cancel_requested = true,
                state = case when state = 'queued' then 'cancelled' else state end,
                finished_at = case when state = 'queued' then $2::timestamptz end
            where job_id = $1 and state in ('queued', 'running')
            returning job_id
        )
        insert into job_logs (job_id, logged_at, line) select job_id, $2, 'asked to end' from asked
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
        select job_id as "id: JobId", kind, state, payload, attempts, max_attempts, priority, run_after, lease_holder,
               cancel_requested, progress, outcome, failure, created_at, started_at, finished_at
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
        select job_id as "id: JobId", kind, state, payload, attempts, max_attempts, priority, run_after, lease_holder,
               cancel_requested, progress, outcome, failure, created_at, started_at, finished_at
        from jobs
        where project = $1 and ($2::text is null or state = $2) and ($3::text is null or kind = $3)
          and ($4::uuid is null
               or (created_at, job_id) < (select last.created_at, last.job_id from jobs last where last.job_id = $4))
        order by created_at desc, job_id desc limit $5
        "#,
        project,
        wanted.state,
        wanted.kind,
        wanted.after as Option<JobId>,
        wanted.limit,
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

/// One line of a job's log.
#[derive(Clone, Debug, serde::Serialize)]
pub struct LogLine {
    /// When it was said, by the machine's clock.
    pub logged_at: DateTime<Utc>,
    /// What was said.
    pub line: String,
}

/// Stores what a job said.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn say(conn: &mut PgConnection, id: JobId, lines: &[LogLine]) -> Result<(), Error> {
    let (at, text): (Vec<_>, Vec<_>) = lines.iter().map(|line| (line.logged_at, line.line.clone())).unzip();
    sqlx::query!(
        r#"
        insert into job_logs (job_id, logged_at, line)
        select $1, at, line from unnest($2::timestamptz[], $3::text[]) as said (at, line)
        "#,
        id as JobId,
        &at,
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

/// Queues a job that ended badly again from `due` on, with all its tries, and wakes the workers when the transaction commits.
///
/// # Errors
/// [`Error::Conflict`] if it did not end badly, or another job of its key is live; [`Error::NotFound`].
pub async fn retry(
    conn: &mut PgConnection,
    id: JobId,
    due: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let row = get(conn, id).await?;
    let conflict = |what: String| Error::Conflict { what };
    let queued = sqlx::query_scalar!(
        r#"
        with again as (
            update jobs failed
            set state = 'queued', attempts = 0, run_after = $2, cancel_requested = false, started_at = null,
                finished_at = null
            where job_id = $1 and state in ('dead', 'cancelled')
              and not exists (
                  select 1 from jobs live
                  where live.project = failed.project and live.kind = failed.kind
                    and live.dedup_key = failed.dedup_key and live.state in ('queued', 'running'))
            returning job_id, kind
        ),
        said as (
            insert into job_logs (job_id, logged_at, line) select job_id, $3, 'queued again by request' from again
        )
        select pg_notify($4, kind)::text from again
        "#,
        id as JobId,
        due,
        now,
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
