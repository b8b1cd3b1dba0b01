//! An object store behind one small type: S3 by URL, or a folder that behaves like one. Calls block; they belong on threads
//! that may.

use std::future::Future;
use std::io::{Read, Write};
use std::ops::Range;
use std::path::Path as Folder;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, WriteMultipart};
use tokio::runtime::Runtime;

use crate::Error;

/// What is sent or fetched at once.
const PART_BYTES: usize = 8 << 20;

/// Objects under a prefix.
#[derive(Clone, Debug)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    url: String,
    prefix: String,
}

impl Objects {
    /// The objects under `s3://bucket/prefix`. Credentials, region and endpoint come from the environment (`AWS_…`).
    ///
    /// # Errors
    /// [`Error::Objects`] if the URL or the environment does not fit.
    pub fn at(url: &str) -> Result<Self, Error> {
        let (store, prefix) = Self::of_url(url)?.ok_or_else(|| {
            Error::Objects(format!("`{url}` is no object store; write `s3://bucket/prefix`"))
        })?;
        Ok(Self { prefix: prefix.trim_matches('/').to_owned(), ..store })
    }

    /// The files under a folder, as objects.
    ///
    /// # Errors
    /// [`Error::Objects`] if the folder is not there.
    pub fn in_folder(folder: &Folder) -> Result<Self, Error> {
        let store = LocalFileSystem::new_with_prefix(folder).map_err(|error| refused(&error))?;
        Ok(Self { store: Arc::new(store), url: folder.to_string_lossy().into_owned(), prefix: String::new() })
    }

    /// The bucket that a URL names and the rest of it; none if it is no such URL.
    pub(crate) fn of_url(url: &str) -> Result<Option<(Self, String)>, Error> {
        let Some(rest) = url.strip_prefix("s3://") else { return Ok(None) };
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        // The first provider of a process wins; a second installation is refused and harmless.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let store =
            AmazonS3Builder::from_env().with_bucket_name(bucket).build().map_err(|error| refused(&error))?;
        let objects = Self { store: Arc::new(store), url: format!("s3://{bucket}"), prefix: String::new() };
        Ok(Some((objects, key.to_owned())))
    }

    /// The store's name.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    fn path(&self, key: &str) -> Result<Path, Error> {
        let whole = if self.prefix.is_empty() { key.to_owned() } else { format!("{}/{key}", self.prefix) };
        Path::parse(&whole).map_err(|error| Error::Objects(format!("`{key}` names no object: {error}")))
    }

    /// The size of an object.
    ///
    /// # Errors
    /// [`Error::Objects`].
    pub fn size(&self, key: &str) -> Result<u64, Error> {
        let path = self.path(key)?;
        Ok(wait(self.store.head(&path))?.size)
    }

    /// Whether there is an object of that key.
    ///
    /// # Errors
    /// [`Error::Objects`].
    pub fn exists(&self, key: &str) -> Result<bool, Error> {
        let path = self.path(key)?;
        wait(async {
            match self.store.head(&path).await {
                Ok(_) => Ok(true),
                Err(object_store::Error::NotFound { .. }) => Ok(false),
                Err(error) => Err(error),
            }
        })
    }

    /// Some bytes of an object.
    ///
    /// # Errors
    /// [`Error::Objects`].
    pub fn range(&self, key: &str, range: Range<u64>) -> Result<Bytes, Error> {
        let path = self.path(key)?;
        wait(self.store.get_range(&path, range))
    }

    /// Writes an object: whole, or not at all.
    ///
    /// # Errors
    /// [`Error::Objects`].
    pub fn put(&self, key: &str, bytes: Bytes) -> Result<(), Error> {
        let path = self.path(key)?;
        wait(self.store.put(&path, PutPayload::from_bytes(bytes))).map(drop)
    }

    /// Writes an object from a file of any size, by parts: whole, or not at all.
    ///
    /// # Errors
    /// [`Error::Objects`] or [`Error::File`].
    pub fn upload(&self, key: &str, file: &Folder) -> Result<(), Error> {
        let path = self.path(key)?;
        let mut source = std::fs::File::open(file).map_err(Error::file(file))?;
        let mut upload =
            WriteMultipart::new_with_chunk_size(wait(self.store.put_multipart(&path))?, PART_BYTES);
        let mut buffer = vec![0; PART_BYTES];
        loop {
            match source.read(&mut buffer).map_err(Error::file(file))? {
                0 => break,
                taken => {
                    wait(async {
                        upload.wait_for_capacity(2).await?;
                        upload.write(&buffer[..taken]);
                        Ok(())
                    })?;
                }
            }
        }
        wait(upload.finish()).map(drop)
    }

    /// Writes an object to a file.
    ///
    /// # Errors
    /// [`Error::Objects`] or [`Error::File`].
    pub fn download(&self, key: &str, sink: &mut dyn Write) -> Result<(), Error> {
        let size = self.size(key)?;
        for start in (0..size).step_by(PART_BYTES) {
            let bytes = self.range(key, start..size.min(start + PART_BYTES as u64))?;
            sink.write_all(&bytes).map_err(Error::file(key))?;
        }
        Ok(())
    }

    /// Removes an object; one that is gone already is no error.
    ///
    /// # Errors
    /// [`Error::Objects`].
    pub fn remove(&self, key: &str) -> Result<(), Error> {
        let path = self.path(key)?;
        wait(async {
            match self.store.delete(&path).await {
                Err(object_store::Error::NotFound { .. }) => Ok(()),
                other => other,
            }
        })
    }

    /// The objects whose key matches a pattern with `*`, in the order of their names.
    ///
    /// # Errors
    /// [`Error::Objects`].
    pub fn matching(&self, pattern: &str) -> Result<Vec<String>, Error> {
        let glob = glob::Pattern::new(pattern)
            .map_err(|error| Error::Objects(format!("`{pattern}` is no pattern: {error}")))?;
        let folder =
            pattern.split('*').next().and_then(|fixed| fixed.rsplit_once('/')).map(|(folder, _)| folder);
        let under = folder.map(|folder| self.path(folder)).transpose()?;
        let listed: Vec<_> = wait(self.store.list(under.as_ref()).try_collect())?;
        let mut keys: Vec<String> = listed
            .into_iter()
            .map(|object| object.location.to_string())
            .map(|key| key.strip_prefix(&format!("{}/", self.prefix)).map_or(key.clone(), str::to_owned))
            .filter(|key| glob.matches(key))
            .collect();
        keys.sort();
        Ok(keys)
    }
}

fn refused(error: &object_store::Error) -> Error {
    Error::Objects(error.to_string())
}

/// Waits for an answer of the store, on a runtime of its own: readers of files are not asynchronous.
fn wait<T>(asked: impl Future<Output = object_store::Result<T>>) -> Result<T, Error> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("objects")
            .enable_all()
            .build()
            .expect("a process may have one more thread")
    });
    runtime.block_on(asked).map_err(|error| refused(&error))
}
