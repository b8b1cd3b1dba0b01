//! SQL over `version_files`: the hashes of a version's files, written once.

use sqlx::PgConnection;

use super::VersionKey;
use crate::Error;

/// A file of a version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct VersionFile {
    /// Its path below the version's folder, with `/` between names.
    pub path: String,
    /// SHA-256, in hex.
    pub sha256: String,
    /// Its length.
    pub size_bytes: i64,
}

/// Writes down the files of a version, unless somebody did before; answers what stands, by path.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn keep(
    conn: &mut PgConnection,
    key: VersionKey<'_>,
    files: &[VersionFile],
) -> Result<Vec<VersionFile>, Error> {
    let paths: Vec<String> = files.iter().map(|file| file.path.clone()).collect();
    let hashes: Vec<String> = files.iter().map(|file| file.sha256.clone()).collect();
    let sizes: Vec<i64> = files.iter().map(|file| file.size_bytes).collect();
    sqlx::query!(
        r#"
        insert into version_files (project, model, version, path, sha256, size_bytes)
        select $1, $2, $3, * from unnest($4::text[], $5::text[], $6::bigint[])
        where not exists (select from version_files where project = $1 and model = $2 and version = $3)
        on conflict do nothing
        "#,
        key.project,
        key.model,
        key.version,
        &paths,
        &hashes,
        &sizes,
    )
    .execute(&mut *conn)
    .await?;
    files_of(conn, key).await
}

/// The files of a version as they were written down, by path; none if nobody looked yet.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn files_of(conn: &mut PgConnection, key: VersionKey<'_>) -> Result<Vec<VersionFile>, Error> {
    Ok(sqlx::query_as!(
        VersionFile,
        r#"
        select path, sha256, size_bytes from version_files
        where project = $1 and model = $2 and version = $3 order by path collate "C"
        "#,
        key.project,
        key.model,
        key.version,
    )
    .fetch_all(conn)
    .await?)
}
