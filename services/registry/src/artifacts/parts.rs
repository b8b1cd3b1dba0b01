//! Uploads in parts: each part is a file in a folder of its upload, until they are put together or given up.

use std::io;
use std::path::{Path, PathBuf};

use axum::body::Body;
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use tokio::fs;

use super::blobs::read_file;
use super::{Arrived, Failure, incoming};

/// An upload in parts.
pub(crate) struct Parts {
    data_dir: PathBuf,
    folder: PathBuf,
}

impl Parts {
    /// Begins an upload; answers its id.
    pub(crate) async fn begin(data_dir: &Path) -> io::Result<String> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        fs::create_dir_all(folder(data_dir, &id)).await?;
        Ok(id)
    }

    /// The upload of that id, if it goes on.
    pub(crate) async fn of(data_dir: &Path, id: &str) -> Option<Self> {
        let plain = id.len() == 32 && id.chars().all(|c| c.is_ascii_hexdigit());
        let folder = folder(data_dir, id);
        (plain && fs::metadata(&folder).await.is_ok_and(|metadata| metadata.is_dir()))
            .then(|| Self { data_dir: data_dir.to_owned(), folder })
    }

    /// Takes one part; answers its hash.
    pub(crate) async fn take<S, E>(&self, number: u32, body: S) -> Result<String, Failure>
    where
        S: Stream<Item = Result<Bytes, E>>,
    {
        let arrived = incoming::receive(&self.data_dir, body).await?;
        fs::rename(&arrived.file, self.folder.join(number.to_string())).await?;
        Ok(arrived.artifact().sha256)
    }

    /// Puts the parts of these numbers together.
    pub(crate) async fn join(&self, numbers: &[u32]) -> Result<Arrived, Failure> {
        let files: Vec<PathBuf> = numbers.iter().map(|number| self.folder.join(number.to_string())).collect();
        for file in &files {
            if !fs::metadata(file).await.is_ok_and(|metadata| metadata.is_file()) {
                return Err(Failure::Absent);
            }
        }
        let bodies =
            futures::stream::iter(files).then(|file| async move { read_file(&file, 0..u64::MAX).await });
        let chunks =
            bodies.map_ok(|body: Body| body.into_data_stream().map_err(io::Error::other)).try_flatten();
        incoming::receive(&self.data_dir, chunks).await
    }

    /// Gives the upload up, or removes what was put together.
    pub(crate) async fn end(self) -> io::Result<()> {
        fs::remove_dir_all(self.folder).await
    }
}

fn folder(data_dir: &Path, id: &str) -> PathBuf {
    incoming::folder(data_dir).join(format!("parts-{id}"))
}
