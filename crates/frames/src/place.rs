//! Where foreign files lie: on a disk, or in an object store (`s3://bucket/…`), read by ranges.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes as Buffer;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use crate::Error;
use crate::objects::Objects;

/// The bytes of one file.
#[derive(Clone, Debug)]
pub(crate) struct Bytes(Arc<Kind>);

#[derive(Debug)]
enum Kind {
    Disk { path: PathBuf, file: fs::File, size: u64 },
    Object { objects: Objects, key: String, size: u64 },
}

impl Bytes {
    /// Opens a file on a disk.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) fn on_disk(path: &Path) -> Result<Self, Error> {
        let file = fs::File::open(path).map_err(Error::file(path))?;
        let size = file.metadata().map_err(Error::file(path))?.len();
        Ok(Self(Arc::new(Kind::Disk { path: path.to_owned(), file, size })))
    }

    /// Opens an object.
    ///
    /// # Errors
    /// [`Error::Objects`].
    pub(crate) fn object(objects: &Objects, key: &str) -> Result<Self, Error> {
        let size = objects.size(key)?;
        Ok(Self(Arc::new(Kind::Object { objects: objects.clone(), key: key.to_owned(), size })))
    }

    /// How many there are.
    pub(crate) fn size(&self) -> u64 {
        match &*self.0 {
            Kind::Disk { size, .. } | Kind::Object { size, .. } => *size,
        }
    }

    /// The first bytes, `count` of them if there are so many.
    ///
    /// # Errors
    /// [`Error::File`] or [`Error::Objects`].
    pub(crate) fn head(&self, count: usize) -> Result<Buffer, Error> {
        let count = count.min(usize::try_from(self.size()).unwrap_or(usize::MAX));
        self.range(0, count).map_err(Error::file(self.name()))
    }

    /// Some bytes from the middle.
    ///
    /// # Errors
    /// [`Error::File`] or [`Error::Objects`], also if there are not so many.
    pub(crate) fn slice(&self, start: u64, length: usize) -> Result<Buffer, Error> {
        self.range(start, length).map_err(Error::file(self.name()))
    }

    /// A reader of all bytes from the first on.
    pub(crate) fn reader(&self) -> Reader {
        Reader { bytes: self.clone(), at: 0 }
    }

    fn name(&self) -> PathBuf {
        match &*self.0 {
            Kind::Disk { path, .. } => path.clone(),
            Kind::Object { key, .. } => key.into(),
        }
    }

    fn range(&self, start: u64, length: usize) -> io::Result<Buffer> {
        if start.checked_add(length as u64).is_none_or(|end| end > self.size()) {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the file ends before what it promises",
            ));
        }
        match &*self.0 {
            Kind::Disk { file, .. } => {
                use std::os::unix::fs::FileExt;
                let mut buffer = vec![0; length];
                file.read_exact_at(&mut buffer, start)?;
                Ok(buffer.into())
            }
            Kind::Object { objects, key, .. } => {
                objects.range(key, start..start + length as u64).map_err(io::Error::other)
            }
        }
    }
}

/// Reads bytes from one place on; every reader has its own.
#[derive(Debug)]
pub(crate) struct Reader {
    bytes: Bytes,
    at: u64,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.bytes.size().saturating_sub(self.at)).unwrap_or(usize::MAX);
        let count = buffer.len().min(left);
        buffer[..count].copy_from_slice(&self.bytes.range(self.at, count)?);
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Reader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.bytes.size().checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a place before the file"))?;
        Ok(self.at)
    }
}

impl Length for Bytes {
    fn len(&self) -> u64 {
        self.size()
    }
}

impl ChunkReader for Bytes {
    type T = io::BufReader<Reader>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(io::BufReader::new(Reader { bytes: self.clone(), at: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Buffer, ParquetError> {
        Ok(self.range(start, length)?)
    }
}

/// The files that a pattern names, by name, in the order of their names. Without a `*` it names one.
///
/// # Errors
/// [`Error::File`] if there is none.
pub(crate) fn expand(pattern: &str) -> Result<Vec<(String, Bytes)>, Error> {
    if let Some((objects, key)) = Objects::of_url(pattern)? {
        let url = |key: &str| format!("{}/{key}", objects.url());
        if !key.contains('*') {
            return Ok(vec![(pattern.to_owned(), Bytes::object(&objects, &key)?)]);
        }
        let keys = objects.matching(&key)?;
        let found = keys.iter().map(|key| Ok((url(key), Bytes::object(&objects, key)?)));
        return refuse_none(pattern, found.collect::<Result<_, Error>>()?);
    }
    if !pattern.contains('*') {
        return Ok(vec![(pattern.to_owned(), Bytes::on_disk(Path::new(pattern))?)]);
    }
    let paths =
        glob::glob(pattern).map_err(|error| Error::Join(format!("`{pattern}` is no pattern: {error}")))?;
    let mut found = Vec::new();
    for path in paths {
        let path = path.map_err(|error| Error::file(error.path().to_owned())(error.into()))?;
        if path.is_file() {
            found.push((path.to_string_lossy().into_owned(), Bytes::on_disk(&path)?));
        }
    }
    refuse_none(pattern, found)
}

fn refuse_none(pattern: &str, found: Vec<(String, Bytes)>) -> Result<Vec<(String, Bytes)>, Error> {
    if found.is_empty() {
        return Err(Error::Join(format!(
            "no file matches `{pattern}`; correct the pattern, or put a file there"
        )));
    }
    Ok(found)
}
