//! SQL over `schedule_firings`: up to when each schedule has been looked after.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::Error;

/// What is remembered of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Firings up to here are done or forgiven.
    pub until: DateTime<Utc>,
    /// The latest firing, by the schedule's own times.
    pub last_fired: Option<DateTime<Utc>>,
}

/// What is remembered of a schedule, locked until the transaction ends; `None` if it is new.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn lock(conn: &mut PgConnection, project: &str, schedule: &str) -> Result<Option<Seen>, Error> {
    Ok(sqlx::query_as!(
        Seen,
        r#"
        select seen_until as until, last_fired from schedule_firings
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
        "select seen_until as until, last_fired from schedule_firings where project = $1 and schedule = $2",
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

/// Notes that a schedule fired.
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
