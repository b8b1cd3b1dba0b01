//! SQL over `published_embeddings`: which rows of feature views a version made, asked in both directions.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::VersionKey;
use crate::Error;

/// Rows of a feature view that a version made.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Publication {
    /// The view.
    pub view: String,
    /// The view's version.
    pub view_version: i32,
    /// How many rows.
    pub rows: i64,
    /// The position of their ingest.
    pub seq: i64,
    /// SHA-256 of the file that they came in, in hex.
    pub sha256: String,
    /// When they were taken in.
    pub published_at: DateTime<Utc>,
}

/// Writes down who made the rows of an ingest, once. Of a version that is gone nothing is written.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn record(
    conn: &mut PgConnection,
    key: VersionKey<'_>,
    (seq, sha256): (i64, &str),
    now: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        r#"
        insert into published_embeddings (project, model, version, view, view_version, seq, rows, sha256, published_at)
        select made.project, made.model, made.version, parts.view, parts.view_version, parts.seq, sum(parts.rows), $5, $6
        from model_versions made join parts on parts.project = made.project and parts.seq = $4
        where made.project = $1 and made.model = $2 and made.version = $3
        group by made.project, made.model, made.version, parts.view, parts.view_version, parts.seq
        on conflict do nothing
        "#,
        key.project,
        key.model,
        key.version,
        seq,
        sha256,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The rows that a version made, the latest first.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn of_version(conn: &mut PgConnection, key: VersionKey<'_>) -> Result<Vec<Publication>, Error> {
    Ok(sqlx::query_as!(
        Publication,
        r#"
        select view, view_version, rows, seq, sha256, published_at from published_embeddings
        where project = $1 and model = $2 and version = $3 order by seq desc, view, view_version
        "#,
        key.project,
        key.model,
        key.version,
    )
    .fetch_all(conn)
    .await?)
}

/// A version that made rows of a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maker {
    /// The view.
    pub view: String,
    /// The view's version.
    pub view_version: i32,
    /// The registered model.
    pub model: String,
    /// The version.
    pub version: i32,
}

/// The versions that made rows of these views, up to a position of ingests.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn makers(
    conn: &mut PgConnection,
    project: &str,
    views: &[String],
    through: i64,
) -> Result<Vec<Maker>, Error> {
    Ok(sqlx::query_as!(
        Maker,
        r#"
        select distinct view, view_version, model, version from published_embeddings
        where project = $1 and view = any($2) and seq <= $3 order by view, view_version, model, version
        "#,
        project,
        views,
        through,
    )
    .fetch_all(conn)
    .await?)
}
