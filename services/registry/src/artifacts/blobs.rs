//! Where contents lie: `<data_dir>/blobs/ab/cdef…`, or `<prefix>/blobs/ab/cdef…` of a bucket.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::body::Body;
use futures::TryStreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path as Key;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt, WriteMultipart};
use secrecy::ExposeSecret;
use service_kit::Context;
use service_kit::config::ArtifactsConfig;
use tokio::fs;
use tokio::io::{AsyncReadExt, AsyncSeekExt, SeekFrom};

use super::{Arrived, CHUNK_BYTES, body_of};

/// The parts in which a content goes to a bucket.
const PART_BYTES: usize = 8 << 20;
/// How many parts are on their way at once.
const PARTS_IN_FLIGHT: usize = 3;

/// The place of contents.
#[derive(Clone)]
pub(crate) enum Blobs {
    Folder(PathBuf),
    Bucket(Arc<AmazonS3>, Key),
}

/// The one of this process: making a client reads certificates.
#[derive(Clone)]
struct Known(Result<Blobs, Arc<str>>);

impl Blobs {
    /// The configured place.
    pub(crate) fn of(context: &Context) -> io::Result<Self> {
        let config = &context.config.artifacts;
        let made = context.shared(|_| {
            Known(match &config.url {
                None => Ok(Self::Folder(context.data_dir.join("blobs"))),
                Some(url) => bucket(url, config).map_err(|error| Arc::from(error.to_string())),
            })
        });
        made.0.map_err(|error| io::Error::other(format!("`artifacts.url` cannot be used: {error}")))
    }

    fn file(folder: &Path, sha256: &str) -> PathBuf {
        let (shelf, name) = sha256.split_at(2);
        folder.join(shelf).join(name)
    }

    fn key(prefix: &Key, sha256: &str) -> Key {
        let (shelf, name) = sha256.split_at(2);
        prefix.clone().join("blobs").join(shelf).join(name)
    }

    /// Puts what arrived in its place. The same content may be there already: then it is written over, byte for byte the
    /// same, and whoever reads it notices nothing.
    pub(super) async fn put(&self, sha256: &str, arrived: Arrived) -> io::Result<()> {
        match self {
            Self::Folder(folder) => {
                let target = Self::file(folder, sha256);
                let shelf = target.parent().unwrap_or(folder).to_owned();
                fs::create_dir_all(&shelf).await?;
                fs::rename(&arrived.file, &target).await?;
                fs::File::open(shelf).await?.sync_all().await // the name must outlast a crash as the bytes do
            }
            Self::Bucket(bucket, prefix) => send(bucket, &Self::key(prefix, sha256), &arrived.file).await,
        }
    }

    /// Some bytes of a content.
    pub(super) async fn read(&self, sha256: &str, range: Range<u64>) -> io::Result<Body> {
        match self {
            Self::Folder(folder) => read_file(&Self::file(folder, sha256), range).await,
            Self::Bucket(_, _) if range.is_empty() => Ok(Body::empty()),
            Self::Bucket(bucket, prefix) => {
                let options = GetOptions { range: Some(range.into()), ..GetOptions::default() };
                let found = bucket.get_opts(&Self::key(prefix, sha256), options).await?;
                Ok(Body::from_stream(found.into_stream().map_err(io::Error::other)))
            }
        }
    }

    /// Removes a content; nothing happens if it is not there.
    pub(super) async fn remove(&self, sha256: &str) -> io::Result<()> {
        let removed = match self {
            Self::Folder(folder) => fs::remove_file(Self::file(folder, sha256)).await,
            Self::Bucket(bucket, prefix) => {
                bucket.delete(&Self::key(prefix, sha256)).await.map_err(io::Error::from)
            }
        };
        match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// Some bytes of a file.
pub(super) async fn read_file(file: &Path, range: Range<u64>) -> io::Result<Body> {
    let mut file = fs::File::open(file).await?;
    file.set_max_buf_size(CHUNK_BYTES);
    if range.start > 0 {
        file.seek(SeekFrom::Start(range.start)).await?;
    }
    Ok(body_of(file.take(range.end.saturating_sub(range.start))))
}

async fn send(bucket: &AmazonS3, key: &Key, file: &Path) -> io::Result<()> {
    let mut file = fs::File::open(file).await?;
    file.set_max_buf_size(PART_BYTES);
    let mut upload = WriteMultipart::new_with_chunk_size(bucket.put_multipart(key).await?, PART_BYTES);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = file.read(&mut chunk).await?;
        if read == 0 {
            break;
        }
        upload.wait_for_capacity(PARTS_IN_FLIGHT).await?;
        upload.write(&chunk[..read]);
    }
    upload.finish().await?;
    Ok(())
}

/// `s3://bucket/prefix`.
fn bucket(url: &str, config: &ArtifactsConfig) -> Result<Blobs, object_store::Error> {
    rustls::crypto::ring::default_provider().install_default().ok(); // another service may have done so
    let place = url.strip_prefix("s3://").unwrap_or_default();
    let (name, prefix) = place.split_once('/').unwrap_or((place, ""));
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(name).with_allow_http(config.allow_http);
    if let Some(region) = &config.region {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = &config.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(key) = &config.access_key_id {
        builder = builder.with_access_key_id(key);
    }
    if let Some(secret) = &config.secret_access_key {
        builder = builder.with_secret_access_key(secret.expose_secret());
    }
    Ok(Blobs::Bucket(Arc::new(builder.build()?), Key::parse(prefix)?))
}
