//! The files of a version: where they are, and what they were when somebody first looked at them closely.

use futures::StreamExt;
use sha2::{Digest, Sha256};
use sqlx::PgConnection;
use storage::governance::VersionKey;
use storage::governance::files::{VersionFile, files_of, keep};
use storage::models::Version;
use storage::tracking::runs;

use crate::artifacts::{ArtifactPath, Failure, Store};
use crate::{Error, Registry};

/// The folder of a version below the artifact root.
///
/// # Errors
/// [`Error::Invalid`] if the files are not this server's.
pub(crate) async fn folder_of(
    conn: &mut PgConnection,
    project: &str,
    version: &Version,
) -> Result<ArtifactPath, Error> {
    let uri = resolved(conn, project, &version.storage_uri).await?;
    let path = uri.as_deref().and_then(|uri| uri.strip_prefix("mlflow-artifacts:"));
    path.and_then(|path| ArtifactPath::parse(path.trim_start_matches('/'))).ok_or_else(|| {
        Error::Invalid(format!(
            "the files of version {} of `{}` lie at `{}`, which this server does not hold; upload them with `log_model` to \
             have them hashed, signed and verified",
            version.version, version.model, version.storage_uri
        ))
    })
}

/// `runs:/<id>/<path>` as a place among the artifacts; other URIs as they are.
async fn resolved(conn: &mut PgConnection, project: &str, uri: &str) -> Result<Option<String>, Error> {
    let Some(path) = uri.strip_prefix("runs:/") else { return Ok(Some(uri.to_owned())) };
    let (run_id, below) = path.split_once('/').unwrap_or((path, ""));
    let root = runs::artifact_uri_of(conn, project, run_id).await?;
    Ok(root.map(|root| format!("{}/{below}", root.trim_end_matches('/'))))
}

/// The files of a version as they were first seen; if nobody looked yet, as they are now, from now on.
///
/// # Errors
/// [`Error::Invalid`] if there are none here; [`Error::Unreadable`] if one cannot be read.
pub(crate) async fn frozen(registry: &Registry, version: &Version) -> Result<Vec<VersionFile>, Error> {
    let key = key_of(registry.project(), version);
    let mut conn = registry.context.db.acquire().await?;
    let known = files_of(&mut conn, key).await?;
    if !known.is_empty() {
        return Ok(known);
    }
    let folder = folder_of(&mut conn, registry.project(), version).await?;
    drop(conn); // hashing takes its time
    let found = hashed(registry, &folder).await?;
    if found.is_empty() {
        return Err(Error::Invalid(format!(
            "version {} of `{}` has no files at `{}` yet; upload them first",
            version.version, version.model, version.storage_uri
        )));
    }
    Ok(keep(&mut *registry.context.db.acquire().await?, key, &found).await?)
}

pub(crate) fn key_of<'a>(project: &'a str, version: &'a Version) -> VersionKey<'a> {
    VersionKey { project, model: &version.model, version: version.version }
}

/// The files below a folder with the hashes of what is in them now, by path.
pub(crate) async fn hashed(registry: &Registry, folder: &ArtifactPath) -> Result<Vec<VersionFile>, Error> {
    let store =
        Store::of(&registry.context, registry.project()).map_err(|error| unreadable(folder, error))?;
    let mut folders = vec![folder.clone()];
    let mut files = Vec::new();
    while let Some(open) = folders.pop() {
        for entry in store.list(Some(&open)).await.map_err(|error| unreadable(&open, error))? {
            let Some(path) = open.join(&entry.name) else { continue };
            let Some(size_bytes) = entry.size_bytes else {
                folders.push(path);
                continue;
            };
            let sha256 = content_hash(&store, &path).await.map_err(|error| unreadable(&path, error))?;
            let below = path.as_str()[folder.as_str().len() + 1..].to_owned();
            files.push(VersionFile { path: below, sha256, size_bytes });
        }
    }
    files.sort();
    Ok(files)
}

fn unreadable(path: &ArtifactPath, error: Failure) -> Error {
    match error {
        Failure::Database(error) => error,
        other => Error::Unreadable(format!("`{}` cannot be read: {other}", path.as_str())),
    }
}

/// The hash of the bytes themselves, whatever was written down about them.
async fn content_hash(store: &Store<'_>, path: &ArtifactPath) -> Result<String, Failure> {
    let file = store.open(path).await?;
    let mut bytes = file.read(0, file.size_bytes).await?.into_data_stream();
    let mut hash = Sha256::new();
    while let Some(chunk) = bytes.next().await {
        hash.update(chunk.map_err(std::io::Error::other)?);
    }
    Ok(hex::encode(hash.finalize()))
}
