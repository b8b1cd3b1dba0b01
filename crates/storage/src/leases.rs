//! SQL over `leases`: a name that one process holds at a time. Moments are the machine's.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::Error;

/// Takes a lease that is free or ran out, or extends one's own. Answers whether `holder` holds it now.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn hold(
    conn: &mut PgConnection,
    name: &str,
    holder: &str,
    expires_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<bool, Error> {
    let done = sqlx::query!(
        r#"
        insert into leases (name, holder, expires_at) values ($1, $2, $3)
        on conflict (name) do update set holder = excluded.holder, expires_at = excluded.expires_at
        where leases.holder = $2 or leases.expires_at < $4
        "#,
        name,
        holder,
        expires_at,
        now,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Gives a lease back, so that another process need not wait until it runs out.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn release(conn: &mut PgConnection, name: &str, holder: &str) -> Result<(), Error> {
    sqlx::query!("delete from leases where name = $1 and holder = $2", name, holder).execute(conn).await?;
    Ok(())
}
