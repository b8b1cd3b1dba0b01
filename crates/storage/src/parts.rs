//! SQL over the offline store's manifest: one row a file, replaced by merges and never deleted, so that a lineage stays whole.
//!
//! A reader takes a lease before it reads the manifest, under a lock that replacements take alone: so a lease is either
//! older than a replacement, and keeps the replaced file on disk, or it never sees the replaced row.
//!
//! Belongs here: which files hold a view at a seq, and who still reads them. Not here: what is in a file (`frames`).

use chrono::{DateTime, Utc};
use domain::ids::{PartId, PartLeaseId};
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

/// A part as it is stored.
struct Row {
    id: PartId,
    view: String,
    view_version: i32,
    format: i32,
    bucket: Option<i32>,
    buckets: Option<i32>,
    level: i32,
    min_seq: i64,
    seq: i64,
    path: String,
    sha256: String,
    size_bytes: i64,
    rows: i64,
    min_event_time: DateTime<Utc>,
    max_event_time: DateTime<Utc>,
    min_known_time: Option<DateTime<Utc>>,
    max_known_time: DateTime<Utc>,
    schema_hash: Option<String>,
}

impl From<Row> for Part {
    fn from(row: Row) -> Self {
        Self {
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
        }
    }
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

/// The files that hold the newest version of a view up to a seq, in the order in which they were written. A merged file may
/// hold later rows too.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn of_view(
    conn: &mut PgConnection,
    project: &str,
    view: &str,
    max_seq: i64,
) -> Result<Vec<Part>, Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        select part_id as "id: PartId", view, view_version, format, bucket, buckets, level,
               coalesce(min_seq, seq) as "min_seq!", seq, path, sha256, size_bytes, rows, min_event_time, max_event_time,
               min_known_time, max_known_time, schema_hash
        from parts
        where project = $1 and view = $2 and replaced_at is null and coalesce(min_seq, seq) <= $3
          and view_version = (select max(version) from view_versions where project = $1 and view = $2)
        order by coalesce(min_seq, seq), seq, part_id
        "#,
        project,
        view,
        max_seq,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(Part::from).collect())
}

/// The files that hold a version of a view, as far as they hold rows that happened by a moment.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn of_version(
    conn: &mut PgConnection,
    project: &str,
    view: &str,
    version: i32,
    happened_by: DateTime<Utc>,
) -> Result<Vec<Part>, Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        select part_id as "id: PartId", view, view_version, format, bucket, buckets, level,
               coalesce(min_seq, seq) as "min_seq!", seq, path, sha256, size_bytes, rows, min_event_time, max_event_time,
               min_known_time, max_known_time, schema_hash
        from parts
        where project = $1 and view = $2 and view_version = $3 and replaced_at is null and min_event_time <= $4
        order by coalesce(min_seq, seq), seq, part_id
        "#,
        project,
        view,
        version,
        happened_by,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(Part::from).collect())
}

/// Replaced files of a view that are still there.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn replaced(
    conn: &mut PgConnection,
    project: &str,
    view: &str,
) -> Result<Vec<(PartId, String)>, Error> {
    let rows = sqlx::query!(
        r#"
        select part_id as "id: PartId", path from parts
        where project = $1 and view = $2 and replaced_at is not null and removed_at is null
        order by part_id
        "#,
        project,
        view,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.path)).collect())
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

/// Takes the manifest of a project until the transaction ends: alone, to replace parts, or with other readers.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn lock(conn: &mut PgConnection, project: &str, alone: bool) -> Result<(), Error> {
    if alone {
        sqlx::query!("select pg_advisory_xact_lock(hashtextextended('parts:' || $1, 0))", project)
            .execute(conn)
            .await?;
    } else {
        sqlx::query!("select pg_advisory_xact_lock_shared(hashtextextended('parts:' || $1, 0))", project)
            .execute(conn)
            .await?;
    }
    Ok(())
}

/// Notes that somebody reads the parts that are listed now. Needs [`lock`].
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn lease(
    conn: &mut PgConnection,
    project: &str,
    expires_at: DateTime<Utc>,
) -> Result<PartLeaseId, Error> {
    let id = PartLeaseId::new();
    sqlx::query!(
        "insert into part_leases (lease_id, project, epoch, expires_at) values ($1, $2, nextval('part_epochs'), $3)",
        id as PartLeaseId,
        project,
        expires_at,
    )
    .execute(conn)
    .await?;
    Ok(id)
}

/// Ends a lease.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn release(conn: &mut PgConnection, id: PartLeaseId) -> Result<(), Error> {
    sqlx::query!("delete from part_leases where lease_id = $1", id as PartLeaseId).execute(conn).await?;
    Ok(())
}

/// Takes parts out of the manifest, because others that hold their rows come in with the same transaction. Needs [`lock`],
/// alone.
///
/// # Errors
/// [`Error::Conflict`] if one of them was replaced already: then nothing must come in.
pub async fn replace(conn: &mut PgConnection, parts: &[PartId], now: DateTime<Utc>) -> Result<(), Error> {
    let ids: Vec<uuid::Uuid> = parts.iter().map(|part| part.0).collect();
    let done = sqlx::query!(
        r#"
        update parts set replaced_at = $2, replaced_epoch = nextval('part_epochs')
        where part_id = any($1) and replaced_at is null
        "#,
        &ids,
        now,
    )
    .execute(conn)
    .await?;
    if done.rows_affected() == parts.len() as u64 {
        return Ok(());
    }
    Err(Error::Conflict { what: "another merge replaced some of these parts; plan anew".to_owned() })
}

/// Replaced parts that nobody reads any more, with their paths. Leases that ran out by `now` do not count.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn removable(
    conn: &mut PgConnection,
    project: &str,
    now: DateTime<Utc>,
) -> Result<Vec<(PartId, String)>, Error> {
    let rows = sqlx::query!(
        r#"
        select part_id as "id: PartId", path from parts
        where project = $1 and replaced_at is not null and removed_at is null
          and not exists (
              select 1 from part_leases
              where part_leases.project = $1 and part_leases.expires_at > $2 and part_leases.epoch < replaced_epoch
          )
        order by part_id
        "#,
        project,
        now,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.path)).collect())
}

/// Notes that the file of a part is gone.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn removed(conn: &mut PgConnection, id: PartId, now: DateTime<Utc>) -> Result<(), Error> {
    sqlx::query!("update parts set removed_at = $2 where part_id = $1", id as PartId, now)
        .execute(conn)
        .await?;
    Ok(())
}

/// How many parts of a view were never merged.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn unmerged(conn: &mut PgConnection, project: &str, view: &str) -> Result<i64, Error> {
    Ok(sqlx::query_scalar!(
        r#"
        select count(*) as "count!" from parts
        where project = $1 and view = $2 and replaced_at is null and level = 0
        "#,
        project,
        view,
    )
    .fetch_one(conn)
    .await?)
}

/// Those of these files that neither the manifest nor a training set names: they belong to nobody.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn unlisted(conn: &mut PgConnection, paths: &[String]) -> Result<Vec<String>, Error> {
    Ok(sqlx::query_scalar!(
        r#"
        select f.path as "path!" from unnest($1::text[]) as f (path)
        where not exists (select 1 from parts where parts.path = f.path and removed_at is null)
          and not exists (
              select 1 from training_sets where training_sets.path = f.path or training_sets.history_path = f.path
          )
        "#,
        paths,
    )
    .fetch_all(conn)
    .await?)
}
