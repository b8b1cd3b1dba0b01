//! SQL over `schedule_firings`, up to when each schedule has been looked after, and `schedule_ticks`, what became of each tick.

use chrono::{DateTime, Utc};
use domain::ids::JobId;
use sqlx::PgConnection;

use crate::Error;

/// What is remembered of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Ticks up to here are done or forgiven.
    pub until: DateTime<Utc>,
    /// The latest tick, by the schedule's own times.
    pub last_fired: Option<DateTime<Utc>>,
    /// Since when it is held still, if it is.
    pub paused_at: Option<DateTime<Utc>>,
    /// Who holds it still.
    pub paused_by: Option<String>,
}

/// What became of a tick.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Tick {
    /// By the schedule's own times; when somebody asked, if somebody did.
    pub tick_at: DateTime<Utc>,
    /// `waiting`, `enqueued` or `skipped`.
    pub state: String,
    /// What it started.
    pub job: Option<JobId>,
    /// Who asked for it, or why nothing was started.
    pub why: String,
    /// How the latest job of its chain stands; none once that was collected.
    pub job_state: Option<String>,
}

/// What is remembered of a schedule, locked until the transaction ends; `None` if it is new.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn lock(conn: &mut PgConnection, project: &str, schedule: &str) -> Result<Option<Seen>, Error> {
    Ok(sqlx::query_as!(
        Seen,
        r#"
        select seen_until as until, last_fired, paused_at, paused_by from schedule_firings
        where project = $1 and schedule = $2 for update
        "#,
        project,
        schedule,
    )
    .fetch_optional(conn)
    .await?)
}

/// What is remembered of a schedule; `None` if it is new.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn find(conn: &mut PgConnection, project: &str, schedule: &str) -> Result<Option<Seen>, Error> {
    Ok(sqlx::query_as!(
        Seen,
        r#"
        select seen_until as until, last_fired, paused_at, paused_by from schedule_firings
        where project = $1 and schedule = $2
        "#,
        project,
        schedule,
    )
    .fetch_optional(conn)
    .await?)
}

/// Begins to look after a schedule; false if somebody did already.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn begin(
    conn: &mut PgConnection,
    project: &str,
    schedule: &str,
    from: DateTime<Utc>,
) -> Result<bool, Error> {
    let done = sqlx::query!(
        r#"
        insert into schedule_firings (project, schedule, seen_until) values ($1, $2, $3)
        on conflict (project, schedule) do nothing
        "#,
        project,
        schedule,
        from,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Notes that a schedule ticked.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn fired(
    conn: &mut PgConnection,
    project: &str,
    schedule: &str,
    at: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        r#"
        update schedule_firings set seen_until = greatest(seen_until, $3), last_fired = $3
        where project = $1 and schedule = $2
        "#,
        project,
        schedule,
        at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Holds a schedule still, or lets it go on from `now`, forgiving what passed meanwhile.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn set_paused(
    conn: &mut PgConnection,
    project: &str,
    schedule: &str,
    by: Option<&str>,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        r#"
        update schedule_firings
        set paused_at = case when $3::text is not null then coalesce(paused_at, $4::timestamptz) end,
            paused_by = case when $3::text is not null then coalesce(paused_by, $3) end,
            seen_until = case when $3::text is null and paused_at is not null then greatest(seen_until, $4)
                              else seen_until end
        where project = $1 and schedule = $2
        "#,
        project,
        schedule,
        by,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A tick, and what became of it.
#[derive(Clone, Copy, Debug)]
pub struct NewTick<'a> {
    /// The project.
    pub project: &'a str,
    /// The schedule.
    pub schedule: &'a str,
    /// When, by the schedule's own times.
    pub at: DateTime<Utc>,
    /// What it started; none if it waits or was let go.
    pub job: Option<JobId>,
    /// Whether it waits.
    pub waits: bool,
    /// What people should know.
    pub why: &'a str,
}

/// Notes what became of a tick; false if that was noted before, and then nothing may be started for it.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn add_tick(conn: &mut PgConnection, tick: NewTick<'_>) -> Result<bool, Error> {
    let done = sqlx::query!(
        r#"
        insert into schedule_ticks (project, schedule, tick_at, state, job_id, why)
        values ($1, $2, $3, case when $4::uuid is not null then 'enqueued' when $5 then 'waiting' else 'skipped' end,
                $4, $6)
        on conflict do nothing
        "#,
        tick.project,
        tick.schedule,
        tick.at,
        tick.job as Option<JobId>,
        tick.waits,
        tick.why,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// The ticks of a schedule that wait, oldest first.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn waiting(
    conn: &mut PgConnection,
    project: &str,
    schedule: &str,
) -> Result<Vec<DateTime<Utc>>, Error> {
    Ok(sqlx::query_scalar!(
        r#"
        select tick_at from schedule_ticks
        where project = $1 and schedule = $2 and state = 'waiting' order by tick_at
        "#,
        project,
        schedule,
    )
    .fetch_all(conn)
    .await?)
}

/// A tick that waited has its turn, or is let go if `job` is none.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn end_waiting(
    conn: &mut PgConnection,
    project: &str,
    schedule: &str,
    at: DateTime<Utc>,
    job: Option<JobId>,
    why: &str,
) -> Result<(), Error> {
    sqlx::query!(
        r#"
        update schedule_ticks
        set state = case when $4::uuid is null then 'skipped' else 'enqueued' end, job_id = $4,
            why = case when $5 = '' then why else $5 end
        where project = $1 and schedule = $2 and tick_at = $3 and state = 'waiting'
        "#,
        project,
        schedule,
        at,
        job as Option<JobId>,
        why,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The jobs that a schedule's latest ticks started and what followed from those, as far as they are not over.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn at_work(conn: &mut PgConnection, project: &str, schedule: &str) -> Result<Vec<JobId>, Error> {
    Ok(sqlx::query_scalar!(
        r#"
        with started as (
            select job_id from schedule_ticks
            where project = $1 and schedule = $2 and job_id is not null order by tick_at desc limit 20
        )
        select j.job_id as "id: JobId" from jobs j
        where j.state in ('queued', 'running')
          and (j.chain_id in (select s.job_id from started s) or j.job_id in (select s.job_id from started s))
        order by j.created_at
        "#,
        project,
        schedule,
    )
    .fetch_all(conn)
    .await?)
}

/// What became of the latest ticks, newest first.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn ticks(
    conn: &mut PgConnection,
    project: &str,
    schedule: &str,
    limit: i64,
) -> Result<Vec<Tick>, Error> {
    Ok(sqlx::query_as!(
        Tick,
        r#"
        select tick_at, state, job_id as "job: JobId", why,
               (select j.kind || ' ' || j.state from jobs j
                where j.chain_id = ticks.job_id or j.job_id = ticks.job_id
                order by j.created_at desc, j.job_id desc limit 1) as job_state
        from schedule_ticks ticks
        where project = $1 and schedule = $2 order by tick_at desc limit $3
        "#,
        project,
        schedule,
        limit,
    )
    .fetch_all(conn)
    .await?)
}
