//! Artifact files: `<data_dir>/artifacts/<experiment>/<run>/artifacts/…`, written whole or not at all, hashed on the way.
//!
//! A client's path becomes an [`ArtifactPath`] or nothing: what has none cannot reach a file.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use percent_encoding::percent_decode_str;
use sha2::{Digest, Sha256};
use tokio::fs;
use tokio::io::AsyncWriteExt;

/// A path below the artifact root that cannot leave it, in any spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ArtifactPath(String);

impl ArtifactPath {
    /// The path, if it is one: plain names between slashes, none of them special now or after more percent-decoding.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let trimmed = text.trim_end_matches('/');
        let plain = text.len() <= 2_000 && trimmed.split('/').all(is_plain_name);
        (plain && !decoded(trimmed).split('/').any(|name| matches!(name, "." | "..")))
            .then(|| Self(trimmed.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The last name.
    pub(crate) fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The path of `below` inside this directory.
    pub(crate) fn join(&self, below: &str) -> Option<Self> {
        if below.is_empty() { Some(self.clone()) } else { Self::parse(&format!("{}/{below}", self.0)) }
    }
}

fn is_plain_name(name: &str) -> bool {
    let decoded = decoded(name);
    !name.is_empty()
        && name.len() <= 255
        && !matches!(decoded.as_str(), "." | "..")
        && !decoded.chars().any(|character| matches!(character, '\\' | '\0') || character.is_control())
}

/// Percent-decoded until nothing changes: a second decoder down the line must not see another path.
fn decoded(text: &str) -> String {
    let mut text = text.to_owned();
    loop {
        let next = percent_decode_str(&text).decode_utf8_lossy().into_owned();
        if next == text {
            return text;
        }
        text = next;
    }
}

/// One entry of a directory.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Its name.
    pub(crate) name: String,
    /// `None` for a directory.
    pub(crate) size_bytes: Option<u64>,
}

/// What was written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// SHA-256, in hex.
    pub(crate) sha256: String,
    /// The length.
    pub(crate) size_bytes: u64,
}

/// The files below one data directory.
pub(crate) struct Store {
    root: PathBuf,
    incoming: PathBuf,
}

impl Store {
    pub(crate) fn below(data_dir: &Path) -> Self {
        Self { root: data_dir.join("artifacts"), incoming: data_dir.join("incoming") }
    }

    /// Where a path's bytes are.
    pub(crate) fn file(&self, path: &ArtifactPath) -> PathBuf {
        self.root.join(path.as_str())
    }

    /// Writes a body: first under a temporary name, then in place, so that nobody reads half a file.
    pub(crate) async fn write<S, E>(&self, path: &ArtifactPath, body: S) -> io::Result<Written>
    where
        S: Stream<Item = Result<Bytes, E>>,
        E: std::error::Error + Send + Sync + 'static,
    {
        fs::create_dir_all(&self.incoming).await?;
        let temporary = self.incoming.join(uuid::Uuid::new_v4().to_string());
        let written = match pour(&temporary, body).await {
            Ok(written) => self.put_in_place(&temporary, path).await.map(|()| written),
            Err(error) => Err(error),
        };
        if written.is_err() {
            fs::remove_file(&temporary).await.ok();
        }
        written
    }

    async fn put_in_place(&self, temporary: &Path, path: &ArtifactPath) -> io::Result<()> {
        let target = self.file(path);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).await?;
        }
        fs::rename(temporary, target).await
    }

    /// Opens a file; its length comes with it.
    pub(crate) async fn open(&self, path: &ArtifactPath) -> io::Result<(fs::File, u64)> {
        let file = fs::File::open(self.file(path)).await?;
        let metadata = file.metadata().await?;
        if !metadata.is_file() {
            return Err(io::Error::from(io::ErrorKind::IsADirectory));
        }
        Ok((file, metadata.len()))
    }

    /// The entries of a directory, by name; none if it is not there or is a file.
    pub(crate) async fn list(&self, path: Option<&ArtifactPath>) -> io::Result<Vec<Listed>> {
        let directory = path.map_or_else(|| self.root.clone(), |path| self.file(path));
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
                listed.push(Listed { name, size_bytes: metadata.is_file().then_some(metadata.len()) });
            }
        }
        listed.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(listed)
    }

    /// Removes a file or a directory; nothing happens if it is not there.
    pub(crate) async fn remove(&self, path: &ArtifactPath) -> io::Result<()> {
        let file = self.file(path);
        let removed = match fs::symlink_metadata(&file).await {
            Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(file).await,
            Ok(_) => fs::remove_file(file).await,
            Err(error) => Err(error),
        };
        removed.or_else(|error| if is_absent(&error) { Ok(()) } else { Err(error) })
    }
}

/// True if nothing of that name is there, or a file stands where a directory was meant.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

async fn pour<S, E>(file: &Path, body: S) -> io::Result<Written>
where
    S: Stream<Item = Result<Bytes, E>>,
    E: std::error::Error + Send + Sync + 'static,
{
    let mut body = std::pin::pin!(body);
    let mut file = fs::File::create_new(file).await?;
    let mut hash = Sha256::new();
    let mut size_bytes = 0;
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|cause| io::Error::new(io::ErrorKind::ConnectionAborted, cause))?;
        hash.update(&chunk);
        size_bytes += chunk.len() as u64;
        file.write_all(&chunk).await?;
    }
    file.flush().await?;
    file.sync_all().await?;
    Ok(Written { sha256: hex::encode(hash.finalize()), size_bytes })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_that_leaves_the_root_is_refused_in_every_spelling() {
        for path in [
            "",
            "/",
            "..",
            "../x",
            "a/../b",
            "a/..",
            "./a",
            "a/./b",
            "/etc/passwd",
            "a//b",
            "a\\..\\b",
            "..\\x",
            "%2e%2e/x",
            "a/%2e%2e/b",
            "%252e%252e/x",
            "a/%2E%2E",
            "..%2fx",
            "a%2f..%2fb",
            "a%5c..%5cb",
            "a\0b",
            "a%00",
            "a\nb",
            "%25252e%25252e%25252fx",
        ] {
            assert_eq!(ArtifactPath::parse(path), None, "{path:?}");
        }
    }

    #[test]
    fn an_ordinary_path_stays_as_it_is() {
        for path in [
            "1/abc/artifacts/model/MLmodel",
            "0/models/m-1/artifacts/a b.txt",
            "1/x/artifacts/..a/b..",
            "1/é/100%",
        ] {
            assert_eq!(ArtifactPath::parse(path).unwrap().as_str(), path);
        }
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_lies_below_the_root(path in "[a./%2eE5cfF\\\\0 ]{0,24}") {
            if let Some(path) = ArtifactPath::parse(&path) {
                let joined = Path::new("/root").join(path.as_str());
                let normal = |part| matches!(part, std::path::Component::Normal(_) | std::path::Component::RootDir);
                prop_assert!(joined.starts_with("/root") && joined.components().all(normal));
            }
        }
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::below(dir.path());
        let path = ArtifactPath::parse("1/r/artifacts/a.txt").unwrap();
        let broken = futures::stream::iter([Ok(Bytes::from("half")), Err(io::Error::other("gone"))]);
        assert!(store.write(&path, broken).await.is_err());
        assert!(store.open(&path).await.is_err());
        assert_eq!(std::fs::read_dir(dir.path().join("incoming")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn what_is_written_is_read_back_and_hashed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::below(dir.path());
        let path = ArtifactPath::parse("1/r/artifacts/a.txt").unwrap();
        let body = futures::stream::iter([Ok::<_, io::Error>(Bytes::from("ab")), Ok(Bytes::from("c"))]);
        let written = store.write(&path, body).await.unwrap();
        assert_eq!(written.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let listed = store.list(ArtifactPath::parse("1/r/artifacts").as_ref()).await.unwrap();
        assert_eq!(listed, [Listed { name: "a.txt".into(), size_bytes: Some(3) }]);
    }
}
