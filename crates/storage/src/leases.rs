//! SQL over `leases`: a name that one process holds at a time. Moments are Postgres's.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;

use crate::Error;
use crate::jobs::interval;

/// What Postgres's clock shows.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn now(conn: &mut PgConnection) -> Result<DateTime<Utc>, Error> {
    Ok(sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#).fetch_one(conn).await?)
}

/// Takes a lease that is free or ran out, or extends one's own. Answers whether `holder` holds it now.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn hold(
    conn: &mut PgConnection,
    name: &str,
    holder: &str,
    lasts: TimeDelta,
) -> Result<bool, Error> {
    let done = sqlx::query!(
        r#"
        insert into leases (name, holder, expires_at) values ($1, $2, clock_timestamp() + $3::interval)
        on conflict (name) do update set holder = excluded.holder, expires_at = excluded.expires_at
        where leases.holder = $2 or leases.expires_at < clock_timestamp()
        "#,
        name,
        holder,
        interval(lasts),
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Whether `holder` holds a lease that has not run out. Nobody else can take it until the caller's transaction ends.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn is_held(conn: &mut PgConnection, name: &str, holder: &str) -> Result<bool, Error> {
    let held = sqlx::query_scalar!(
        r#"
        select true as "held!" from leases
        where name = $1 and holder = $2 and expires_at > clock_timestamp() for share
        "#,
        name,
        holder,
    )
    .fetch_optional(conn)
    .await?;
    Ok(held.is_some())
}

/// Gives a lease back, so that another process need not wait until it runs out.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn release(conn: &mut PgConnection, name: &str, holder: &str) -> Result<(), Error> {
    sqlx::query!("delete from leases where name = $1 and holder = $2", name, holder).execute(conn).await?;
    Ok(())
}
