//! Bodies on their way in: written to a temporary file and hashed by a thread of their own, a few chunks in memory.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use sha2::{Digest, Sha256};
use storage::tracking::artifacts::Artifact;
use tokio::sync::mpsc;

use super::Failure;

/// Chunks that wait for the writing thread. They are as large as the network hands them over.
const WAITING_CHUNKS: usize = 32;

/// A body that arrived whole, in a temporary file that goes when this does, unless it was moved.
pub(crate) struct Arrived {
    pub(super) file: PathBuf,
    sha256: String,
    size_bytes: u64,
}

impl Arrived {
    /// Its hash and its length.
    pub(crate) fn artifact(&self) -> Artifact {
        Artifact {
            sha256: self.sha256.clone(),
            size_bytes: i64::try_from(self.size_bytes).unwrap_or(i64::MAX),
        }
    }
}

impl Drop for Arrived {
    fn drop(&mut self) {
        std::fs::remove_file(&self.file).ok();
    }
}

/// Where bodies arrive.
pub(super) fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join("incoming")
}

/// Receives a body.
pub(super) async fn receive<S, E>(data_dir: &Path, body: S) -> Result<Arrived, Failure>
where
    S: Stream<Item = Result<Bytes, E>>,
{
    let folder = folder(data_dir);
    tokio::fs::create_dir_all(&folder).await?;
    let file = folder.join(uuid::Uuid::new_v4().to_string());
    let arriving = Arrived { file: file.clone(), sha256: String::new(), size_bytes: 0 };
    let (chunks, waiting) = mpsc::channel(WAITING_CHUNKS);
    let writer = tokio::task::spawn_blocking(move || write(&file, waiting));
    let mut body = std::pin::pin!(body);
    let mut broke_off = false;
    while let Some(chunk) = body.next().await {
        let Ok(chunk) = chunk else {
            broke_off = true;
            break;
        };
        if chunks.send(chunk).await.is_err() {
            break; // the writer failed, and says why below
        }
    }
    drop(chunks);
    let (sha256, size_bytes) = writer.await.map_err(io::Error::other)??;
    if broke_off {
        return Err(Failure::BrokeOff);
    }
    let mut arrived = arriving;
    (arrived.sha256, arrived.size_bytes) = (sha256, size_bytes);
    Ok(arrived)
}

fn write(file: &Path, mut chunks: mpsc::Receiver<Bytes>) -> io::Result<(String, u64)> {
    let mut file = File::create_new(file)?;
    let mut hash = Sha256::new();
    let mut size_bytes = 0;
    while let Some(chunk) = chunks.blocking_recv() {
        file.write_all(&chunk)?;
        hash.update(&chunk);
        size_bytes += chunk.len() as u64;
    }
    file.sync_all()?;
    Ok((hex::encode(hash.finalize()), size_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_that_breaks_off_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let broken = futures::stream::iter([Ok(Bytes::from("half")), Err(io::Error::other("gone"))]);
        assert!(matches!(receive(dir.path(), broken).await, Err(Failure::BrokeOff)));
        assert_eq!(std::fs::read_dir(folder(dir.path())).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn what_arrives_is_hashed() {
        let dir = tempfile::tempdir().unwrap();
        let body = futures::stream::iter([Ok::<_, io::Error>(Bytes::from("ab")), Ok(Bytes::from("c"))]);
        let arrived = receive(dir.path(), body).await.unwrap().artifact();
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!((arrived.sha256.as_str(), arrived.size_bytes), (expected, 3));
    }
}
