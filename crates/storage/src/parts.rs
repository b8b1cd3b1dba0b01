//! SQL over the offline store's manifest: one row a file, replaced by merges and never deleted, so that a lineage stays whole.
//!
//! Belongs here: which files hold a view at a seq, and who still reads them. Not here: what is in a file (`frames`).

use chrono::{DateTime, Utc};
use domain::ids::PartId;
use sqlx::PgConnection;

use crate::Error;

/// A file of a feature view.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Which one.
    pub id: PartId,
    /// The view.
    pub view: String,
    /// The view's version.
    pub view_version: i32,
    /// The layout of the file.
    pub format: i32,
    /// The bucket that all its keys fall in, and of how many; `None` if they fall in any.
    pub bucket: Option<Bucket>,
    /// How often its rows were merged.
    pub level: i32,
    /// The first ingest that it holds rows of.
    pub min_seq: i64,
    /// The last one.
    pub seq: i64,
    /// Where it lies, relative to the data directory or to the object store's prefix.
    pub path: String,
    /// Its SHA-256, in hex.
    pub sha256: String,
    /// Its size.
    pub size_bytes: i64,
    /// Its rows.
    pub rows: i64,
    /// The earliest event.
    pub min_event_time: DateTime<Utc>,
    /// The latest event.
    pub max_event_time: DateTime<Utc>,
    /// The earliest moment of knowledge; `None` in parts of old.
    pub min_known_time: Option<DateTime<Utc>>,
    /// The latest moment of knowledge.
    pub max_known_time: DateTime<Utc>,
    /// Hash of its columns; `None` in parts of old.
    pub schema_hash: Option<String>,
}

/// One bucket of several: keys whose hash ends in its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Its number.
    pub number: i32,
    /// Of how many.
    pub of: i32,
}

/// How much of a view is stored, and how fresh it is.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Freshness {
    /// The view.
    pub view: String,
    /// Its files.
    pub parts: i64,
    /// Its rows.
    pub rows: i64,
    /// Its newest event.
    pub newest_event: DateTime<Utc>,
    /// Its newest knowledge.
    pub newest_knowledge: DateTime<Utc>,
}

/// Makes a file visible.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn publish(
    conn: &mut PgConnection,
    project: &str,
    part: &Part,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        r#"
        insert into parts (part_id, project, view, view_version, format, bucket, buckets, level, min_seq, seq, path, sha256,
                           size_bytes, rows, min_event_time, max_event_time, min_known_time, max_known_time, schema_hash,
                           created_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)
        "#,
        part.id as PartId,
        project,
        part.view,
        part.view_version,
        part.format,
        part.bucket.map(|bucket| bucket.number),
        part.bucket.map(|bucket| bucket.of),
        part.level,
        part.min_seq,
        part.seq,
        part.path,
        part.sha256,
        part.size_bytes,
        part.rows,
        part.min_event_time,
        part.max_event_time,
        part.min_known_time,
        part.max_known_time,
        part.schema_hash,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The files that hold a view up to a seq, in the order in which they were written. A merged file may hold later rows too.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn of_view(
    conn: &mut PgConnection,
    project: &str,
    view: &str,
    max_seq: i64,
) -> Result<Vec<Part>, Error> {
    let rows = sqlx::query!(
        r#"
        select part_id as "id: PartId", view, view_version, format, bucket, buckets, level,
               coalesce(min_seq, seq) as "min_seq!", seq, path, sha256, size_bytes, rows, min_event_time, max_event_time,
               min_known_time, max_known_time, schema_hash
        from parts
        where project = $1 and view = $2 and replaced_at is null and coalesce(min_seq, seq) <= $3
        order by coalesce(min_seq, seq), seq, part_id
        "#,
        project,
        view,
        max_seq,
    )
    .fetch_all(conn)
    .await?;
    let parts = rows.into_iter().map(|row| Part {
        id: row.id,
        view: row.view,
        view_version: row.view_version,
        format: row.format,
        bucket: row.bucket.zip(row.buckets).map(|(number, of)| Bucket { number, of }),
        level: row.level,
        min_seq: row.min_seq,
        seq: row.seq,
        path: row.path,
        sha256: row.sha256,
        size_bytes: row.size_bytes,
        rows: row.rows,
        min_event_time: row.min_event_time,
        max_event_time: row.max_event_time,
        min_known_time: row.min_known_time,
        max_known_time: row.max_known_time,
        schema_hash: row.schema_hash,
    });
    Ok(parts.collect())
}

/// The latest visible seq of a project; 0 if nothing was ever ingested.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn latest_seq(conn: &mut PgConnection, project: &str) -> Result<i64, Error> {
    Ok(sqlx::query_scalar!(
        r#"select coalesce(max(seq), 0) as "seq!" from parts where project = $1"#,
        project
    )
    .fetch_one(conn)
    .await?)
}

/// How much of each view is stored, and how fresh it is.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn freshness(conn: &mut PgConnection, project: &str) -> Result<Vec<Freshness>, Error> {
    Ok(sqlx::query_as!(
        Freshness,
        r#"
        select view, count(*) as "parts!", sum(rows)::bigint as "rows!",
               max(max_event_time) as "newest_event!", max(max_known_time) as "newest_knowledge!"
        from parts where project = $1 and replaced_at is null group by view order by view
        "#,
        project,
    )
    .fetch_all(conn)
    .await?)
}
