//! Artifacts: names that clients choose, and contents kept once under their hash.
//!
//! An upload is hashed while it arrives in `<data_dir>/incoming`, put in place under its hash, and then named, in a
//! transaction that holds the content's row: so nobody reads half a file, and the collector never takes what is being named.
//! Files that services of ours wrote to `<data_dir>/artifacts/<path>` are read there; clients may delete them, not write.

mod blobs;
mod collect;
mod incoming;
mod parts;
mod path;

use std::io;
use std::path::PathBuf;

use axum::body::Body;
use bytes::Bytes;
use futures::Stream;
use service_kit::Context;
use storage::tracking::artifacts::{self, Artifact, Entry};
use tokio::fs;
use tokio_util::io::ReaderStream;

use crate::Error;
pub(crate) use blobs::Blobs;
pub(crate) use collect::{KIND as COLLECT, schedule, work as collect};
pub(crate) use incoming::Arrived;
pub(crate) use parts::Parts;
pub(crate) use path::ArtifactPath;

/// How much of a file is read at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// Why an artifact could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Nothing of that name is there.
    #[error("nothing is there")]
    Absent,
    /// A directory is where a file is meant, or the other way round.
    #[error("a file stands where a directory is meant, or the other way round")]
    InTheWay,
    /// The client stopped sending.
    #[error("the body broke off")]
    BrokeOff,
    /// The place that keeps contents did not do it.
    #[error("the artifacts' place failed")]
    Place(#[from] io::Error),
    /// The database did not do it.
    #[error(transparent)]
    Database(#[from] Error),
}

impl From<storage::Error> for Failure {
    fn from(error: storage::Error) -> Self {
        Self::Database(error.into())
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

/// A file that can be read from anywhere in it.
pub(crate) struct Readable {
    /// Its length.
    pub(crate) size_bytes: u64,
    /// The hash of its content, if it was taken.
    pub(crate) sha256: Option<String>,
    place: Place,
}

enum Place {
    Blob(Blobs),
    File(PathBuf),
}

impl Readable {
    /// The bytes from `start` up to but not including `end`.
    pub(crate) async fn read(&self, start: u64, end: u64) -> Result<Body, Failure> {
        let range = start..end.min(self.size_bytes);
        match (&self.place, &self.sha256) {
            (Place::Blob(blobs), Some(sha256)) => Ok(blobs.read(sha256, range).await?),
            (Place::Blob(_), None) => Err(Failure::Absent),
            (Place::File(file), _) => Ok(blobs::read_file(file, range).await?),
        }
    }
}

/// The artifacts of one project.
pub(crate) struct Store<'a> {
    context: &'a Context,
    project: &'a str,
    blobs: Blobs,
}

impl<'a> Store<'a> {
    pub(crate) fn of(context: &'a Context, project: &'a str) -> Result<Self, Failure> {
        Ok(Self { context, project, blobs: Blobs::of(context)? })
    }

    /// Where a service of ours may have written a file of that name.
    fn file(&self, path: &ArtifactPath) -> PathBuf {
        self.context.data_dir.join("artifacts").join(path.as_str())
    }

    /// Takes a body, whole or not at all.
    pub(crate) async fn write<S, E>(&self, path: &ArtifactPath, body: S) -> Result<Artifact, Failure>
    where
        S: Stream<Item = Result<Bytes, E>>,
    {
        let arrived = incoming::receive(&self.context.data_dir, body).await?;
        self.keep(path, arrived).await
    }

    /// Gives what arrived its name.
    pub(crate) async fn keep(&self, path: &ArtifactPath, arrived: Arrived) -> Result<Artifact, Failure> {
        let artifact = arrived.artifact();
        let now = self.context.clock.now();
        let mut tx = self.context.db.begin().await?;
        let on_disk = fs::symlink_metadata(self.file(path)).await.is_ok_and(|metadata| metadata.is_dir());
        if on_disk || artifacts::is_in_the_way(&mut tx, self.project, path.as_str()).await? {
            return Err(Failure::InTheWay);
        }
        artifacts::hold(&mut tx, self.project, path.as_str(), &artifact, now).await?;
        self.blobs.put(&artifact.sha256, arrived).await?;
        artifacts::save(&mut tx, self.project, path.as_str(), &artifact, now).await?;
        tx.commit().await?;
        Ok(artifact)
    }

    /// The file of that name.
    pub(crate) async fn open(&self, path: &ArtifactPath) -> Result<Readable, Failure> {
        let mut conn = self.context.db.acquire().await?;
        if let Some(artifact) = artifacts::find(&mut conn, self.project, path.as_str()).await? {
            return Ok(Readable {
                size_bytes: artifact.size_bytes.try_into().unwrap_or_default(),
                sha256: Some(artifact.sha256),
                place: Place::Blob(self.blobs.clone()),
            });
        }
        let file = self.file(path);
        match fs::symlink_metadata(&file).await {
            Ok(metadata) if metadata.is_file() => {
                Ok(Readable { size_bytes: metadata.len(), sha256: None, place: Place::File(file) })
            }
            Ok(metadata) if metadata.is_dir() => Err(Failure::InTheWay),
            Ok(_) => Err(Failure::Absent), // a link leads who knows where
            Err(error) if is_absent(&error) => {
                let below = artifacts::list(&mut conn, self.project, &format!("{}/", path.as_str())).await?;
                Err(if below.is_empty() { Failure::Absent } else { Failure::InTheWay })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The entries of a directory, by name; none if it is not there or is a file.
    pub(crate) async fn list(&self, path: Option<&ArtifactPath>) -> Result<Vec<Entry>, Failure> {
        let directory = path.map(|path| format!("{}/", path.as_str())).unwrap_or_default();
        let mut conn = self.context.db.acquire().await?;
        let mut entries = artifacts::list(&mut conn, self.project, &directory).await?;
        let on_disk = match path {
            Some(path) => self.file(path),
            None => self.context.data_dir.join("artifacts"),
        };
        for entry in files_of(&on_disk).await? {
            if entries.iter().all(|known| known.name != entry.name) {
                entries.push(entry);
            }
        }
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(entries)
    }

    /// Removes a file or a directory; nothing happens if it is not there.
    pub(crate) async fn remove(&self, path: &ArtifactPath) -> Result<(), Failure> {
        let mut conn = self.context.db.acquire().await?;
        artifacts::delete(&mut conn, self.project, path.as_str(), self.context.clock.now()).await?;
        let file = self.file(path);
        let removed = match fs::symlink_metadata(&file).await {
            Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(file).await,
            Ok(_) => fs::remove_file(file).await,
            Err(error) => Err(error),
        };
        removed.or_else(|error| if is_absent(&error) { Ok(()) } else { Err(error.into()) })
    }
}

/// What lies in a directory: files and directories, no links.
async fn files_of(directory: &std::path::Path) -> io::Result<Vec<Entry>> {
    let mut entries = match fs::read_dir(directory).await {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => return Ok(vec![]),
        Err(error) => return Err(error),
    };
    let mut listed = Vec::new();
    while let Some(entry) = entries.next_entry().await? {
        let metadata = entry.metadata().await?; // of the entry itself: a link is neither file nor directory
        if let Ok(name) = entry.file_name().into_string()
            && (metadata.is_file() || metadata.is_dir())
        {
            let size_bytes = metadata.is_file().then(|| metadata.len().try_into().unwrap_or(i64::MAX));
            listed.push(Entry { name, size_bytes });
        }
    }
    Ok(listed)
}

/// True if nothing of that name is there, or a file stands where a directory was meant.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// A file as a body.
fn body_of(file: impl tokio::io::AsyncRead + Send + 'static) -> Body {
    Body::from_stream(ReaderStream::with_capacity(file, CHUNK_BYTES))
}
