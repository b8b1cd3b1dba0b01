//! SQL over the feature store: parts and batches.

use chrono::{DateTime, Utc};
use domain::ids::PartId;
use serde_json::Value;
use sqlx::PgConnection;

use crate::Error;

/// A file of a feature view.
#[derive(Clone, Debug)]
pub struct Part {
    /// Which one.
    pub id: PartId,
    /// The view.
    pub view: String,
    /// The view's version.
    pub view_version: i32,
    /// The ingest that wrote it.
    pub seq: i64,
    /// Where it lies, relative to the data directory.
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
    /// The latest moment of knowledge.
    pub max_known_time: DateTime<Utc>,
}

/// Serialises the ingests of a project until the transaction ends, so that a smaller seq is never seen after a larger one.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn lock_ingest(conn: &mut PgConnection, project: &str) -> Result<(), Error> {
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended('ingest:' || $1, 0))", project)
        .execute(conn)
        .await?;
    Ok(())
}

/// The next position in the order of a project's ingests; whoever sees what the transaction stores sees that it got this far.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn next_seq(conn: &mut PgConnection, project: &str) -> Result<i64, Error> {
    Ok(sqlx::query_scalar!(
        r#"
        insert into ingest_watermarks as known (project, seq) values ($1, nextval('ingest_seq'))
        on conflict (project) do update set seq = excluded.seq returning seq
        "#,
        project,
    )
    .fetch_one(conn)
    .await?)
}

/// What an earlier batch with the same key was answered.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn earlier_answer(
    conn: &mut PgConnection,
    project: &str,
    source: &str,
    idempotency_key: &str,
) -> Result<Option<Value>, Error> {
    Ok(sqlx::query_scalar!(
        "select answer from ingest_batches where project = $1 and source = $2 and idempotency_key = $3",
        project,
        source,
        idempotency_key,
    )
    .fetch_optional(conn)
    .await?)
}

/// Remembers what a batch was answered.
///
/// # Errors
/// [`Error::Database`] if the database refuses, also if the key is taken.
pub async fn remember_batch(
    conn: &mut PgConnection,
    project: &str,
    source: &str,
    idempotency_key: &str,
    seq: i64,
    answer: &Value,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        r#"
        insert into ingest_batches (project, source, idempotency_key, seq, answer, created_at)
        values ($1, $2, $3, $4, $5, $6)
        "#,
        project,
        source,
        idempotency_key,
        seq,
        answer,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Keeps the rows that were not accepted, with the reason of each.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn keep_rejected(
    conn: &mut PgConnection,
    project: &str,
    source: &str,
    seq: i64,
    rejected: &[(i32, String)],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let (positions, reasons): (Vec<i32>, Vec<String>) = rejected.iter().cloned().unzip();
    sqlx::query!(
        r#"
        insert into rejected_rows (project, source, seq, position, reason, created_at)
        select $1, $2, $3, position, reason, $6 from unnest($4::int[], $5::text[]) as r (position, reason)
        "#,
        project,
        source,
        seq,
        &positions,
        &reasons,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Makes a file visible.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn publish_part(
    conn: &mut PgConnection,
    project: &str,
    part: &Part,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        r#"
        insert into parts (part_id, project, view, view_version, seq, path, sha256, size_bytes, rows,
                           min_event_time, max_event_time, max_known_time, created_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
        "#,
        part.id as PartId,
        project,
        part.view,
        part.view_version,
        part.seq,
        part.path,
        part.sha256,
        part.size_bytes,
        part.rows,
        part.min_event_time,
        part.max_event_time,
        part.max_known_time,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The files of a view's newest version up to a seq, in the order in which they were written.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn parts_of(
    conn: &mut PgConnection,
    project: &str,
    view: &str,
    max_seq: i64,
) -> Result<Vec<Part>, Error> {
    Ok(sqlx::query_as!(
        Part,
        r#"
        select part_id as "id: PartId", view, view_version, seq, path, sha256, size_bytes, rows,
               min_event_time, max_event_time, max_known_time
        from parts
        where project = $1 and view = $2 and seq <= $3
          and view_version = (select max(version) from view_versions where project = $1 and view = $2)
        order by seq, part_id
        "#,
        project,
        view,
        max_seq,
    )
    .fetch_all(conn)
    .await?)
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

/// How much of each view is stored: `(view, parts, rows, newest event, newest knowledge)`.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn freshness(conn: &mut PgConnection, project: &str) -> Result<Vec<Freshness>, Error> {
    Ok(sqlx::query_as!(
        Freshness,
        r#"
        select view, count(*) as "parts!", sum(rows)::bigint as "rows!",
               max(max_event_time) as "newest_event!", max(max_known_time) as "newest_knowledge!"
        from parts where project = $1 group by view order by view
        "#,
        project,
    )
    .fetch_all(conn)
    .await?)
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
