//! SQL over `audit`: who changed what. Rows are only ever added.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::Error;

/// One change.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Entry {
    /// Its place in the order of all.
    pub audit_id: i64,
    /// When it was answered, by the machine's clock.
    pub at: DateTime<Utc>,
    /// Who asked.
    pub actor: String,
    /// As what.
    pub role: String,
    /// The request's method.
    pub method: String,
    /// The request's path.
    pub path: String,
    /// What was answered.
    pub status: i32,
    /// The request's id, as in logs and in the answer's `x-request-id`.
    pub request_id: Option<String>,
}

/// Writes down a change; its `audit_id` is chosen here.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn add(conn: &mut PgConnection, entry: &Entry) -> Result<(), Error> {
    sqlx::query!(
        "insert into audit (at, actor, role, method, path, status, request_id) values ($1, $2, $3, $4, $5, $6, $7)",
        entry.at,
        entry.actor,
        entry.role,
        entry.method,
        entry.path,
        entry.status,
        entry.request_id,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The changes before one (of all, without one), the newest first.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn latest(conn: &mut PgConnection, before: Option<i64>, limit: i64) -> Result<Vec<Entry>, Error> {
    Ok(sqlx::query_as!(
        Entry,
        "select * from audit where $1::bigint is null or audit_id < $1 order by audit_id desc limit $2",
        before,
        limit,
    )
    .fetch_all(conn)
    .await?)
}
