//! SQL over `artifacts`: what was uploaded, and its hash.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::Error;

/// An uploaded file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// Its SHA-256, in hex.
    pub sha256: String,
    /// Its length.
    pub size_bytes: i64,
}

/// Notes an upload; a second one to the same path replaces the first.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn save(
    conn: &mut PgConnection,
    project: &str,
    path: &str,
    artifact: &Artifact,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        r#"
        insert into artifacts (project, path, sha256, size_bytes, stored_at) values ($1, $2, $3, $4, $5)
        on conflict (project, path) do update
        set sha256 = excluded.sha256, size_bytes = excluded.size_bytes, stored_at = excluded.stored_at
        "#,
        project,
        path,
        artifact.sha256,
        artifact.size_bytes,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What was noted of a path.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn find(conn: &mut PgConnection, project: &str, path: &str) -> Result<Option<Artifact>, Error> {
    Ok(sqlx::query_as!(
        Artifact,
        "select sha256, size_bytes from artifacts where project = $1 and path = $2",
        project,
        path,
    )
    .fetch_optional(conn)
    .await?)
}

/// Forgets a path and all below it.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn delete(conn: &mut PgConnection, project: &str, path: &str) -> Result<(), Error> {
    sqlx::query!(
        "delete from artifacts where project = $1 and (path = $2 or starts_with(path, $2 || '/'))",
        project,
        path,
    )
    .execute(conn)
    .await?;
    Ok(())
}
