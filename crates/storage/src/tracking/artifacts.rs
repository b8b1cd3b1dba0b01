//! SQL over `artifacts` and `blobs`: names, and the contents that they name. A content is kept once, however many names it has.
//!
//! Whoever gives a content a name holds its row of `blobs` first, and so does whoever removes it: of the two, one waits.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::Error;

/// A named content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// Its SHA-256, in hex.
    pub sha256: String,
    /// Its length.
    pub size_bytes: i64,
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// `None` for a directory.
    pub size_bytes: Option<i64>,
}

/// Holds the row of a content, and of the one that `path` named until now, until the transaction ends. The caller puts the
/// bytes in place after this and before [`save`].
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn hold(
    conn: &mut PgConnection,
    project: &str,
    path: &str,
    artifact: &Artifact,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        "insert into blobs (sha256, size_bytes, unreferenced_since) values ($1, $2, $3) on conflict do nothing",
        artifact.sha256,
        artifact.size_bytes,
        now,
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        r#"
        select sha256 from blobs
        where sha256 = $1 or sha256 = (select sha256 from artifacts where project = $2 and path = $3 and in_blob)
        order by sha256 for update
        "#,
        artifact.sha256,
        project,
        path,
    )
    .fetch_all(conn)
    .await?;
    Ok(())
}

/// Names a content that is held; a second one under the same path replaces the first.
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
    let before = find(conn, project, path).await?;
    sqlx::query!(
        r#"
        insert into artifacts (project, path, sha256, size_bytes, stored_at, in_blob) values ($1, $2, $3, $4, $5, true)
        on conflict (project, path) do update
        set sha256 = excluded.sha256, size_bytes = excluded.size_bytes, stored_at = excluded.stored_at, in_blob = true
        "#,
        project,
        path,
        artifact.sha256,
        artifact.size_bytes,
        now,
    )
    .execute(&mut *conn)
    .await?;
    count(conn, &artifact.sha256, 1, now).await?;
    match before {
        Some(before) => count(conn, &before.sha256, -1, now).await,
        None => Ok(()),
    }
}

/// Counts names of a content.
async fn count(conn: &mut PgConnection, sha256: &str, change: i64, now: DateTime<Utc>) -> Result<(), Error> {
    sqlx::query!(
        r#"
        update blobs
        set names = names + $2, unreferenced_since = case when names + $2 = 0 then $3::timestamptz end
        where sha256 = $1
        "#,
        sha256,
        change,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What a path names, if it lies in a blob.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn find(conn: &mut PgConnection, project: &str, path: &str) -> Result<Option<Artifact>, Error> {
    Ok(sqlx::query_as!(
        Artifact,
        "select sha256, size_bytes from artifacts where project = $1 and path = $2 and in_blob",
        project,
        path,
    )
    .fetch_optional(conn)
    .await?)
}

/// The entries of a directory that lie in blobs, by name. `directory` ends with a slash, or is empty for the root.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn list(conn: &mut PgConnection, project: &str, directory: &str) -> Result<Vec<Entry>, Error> {
    Ok(sqlx::query_as!(
        Entry,
        r#"
        select split_part(substr(path, length($2) + 1), '/', 1) as "name!",
               max(size_bytes) filter (where position('/' in substr(path, length($2) + 1)) = 0) as size_bytes
        from artifacts where project = $1 and starts_with(path, $2) and in_blob
        group by 1 order by 1
        "#,
        project,
        directory,
    )
    .fetch_all(conn)
    .await?)
}

/// Whether a file is named where `path` would need a directory, or `path` is a directory of named files.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn is_in_the_way(conn: &mut PgConnection, project: &str, path: &str) -> Result<bool, Error> {
    let parents: Vec<String> = path.match_indices('/').map(|(end, _)| path[..end].to_owned()).collect();
    Ok(sqlx::query_scalar!(
        r#"
        select exists (select 1 from artifacts where project = $1 and path = any($2) and in_blob)
            or exists (select 1 from artifacts where project = $1 and starts_with(path, $3 || '/') and in_blob)
               as "blocked!"
        "#,
        project,
        &parents,
        path,
    )
    .fetch_one(conn)
    .await?)
}

/// Forgets a path and all below it. Contents that nothing names any more are collected later.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn delete(
    conn: &mut PgConnection,
    project: &str,
    path: &str,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        r#"
        with gone as (
            delete from artifacts where project = $1 and (path = $2 or starts_with(path, $2 || '/'))
            returning sha256, in_blob
        ),
        counted as (select sha256, count(*) as lost from gone where in_blob group by sha256)
        update blobs b
        set names = b.names - lost,
            unreferenced_since = case when b.names - lost = 0 then $3::timestamptz end
        from counted where b.sha256 = counted.sha256
        "#,
        project,
        path,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Contents that nothing has named since `before`; their rows are held until the transaction ends. Those that somebody is
/// about to name are left out.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn hold_unreferenced(
    conn: &mut PgConnection,
    before: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<String>, Error> {
    Ok(sqlx::query_scalar!(
        r#"
        select sha256 from blobs where names = 0 and unreferenced_since < $1
        order by unreferenced_since limit $2 for update skip locked
        "#,
        before,
        limit,
    )
    .fetch_all(conn)
    .await?)
}

/// Forgets contents whose bytes are gone.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn forget(conn: &mut PgConnection, contents: &[String]) -> Result<(), Error> {
    sqlx::query!("delete from blobs where sha256 = any($1) and names = 0", contents).execute(conn).await?;
    Ok(())
}
