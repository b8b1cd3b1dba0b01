//! Where our own files lie: a folder, or an object store. A file is whole or absent, hashed on the way, and never changed.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::Error;
use crate::files::{Written, hash_of, parquet_bytes, sha256, write_whole};
use crate::frame::Frame;
use crate::objects::Objects;
use crate::place::Bytes;
use crate::wire::{to_batch, write_file};

/// A folder, or an object store with a folder for what is on its way there.
#[derive(Clone, Debug)]
pub enum Store {
    /// Files under this folder.
    Folder(PathBuf),
    /// Objects; files pass through the folder when they are written, and stay there while they are read as a whole.
    Objects {
        /// Where they lie.
        objects: Objects,
        /// The folder.
        cache: PathBuf,
    },
}

impl Store {
    /// The store at `url` (`s3://bucket/prefix`), or `folder` itself without one.
    ///
    /// # Errors
    /// [`Error::Objects`] if the URL or the environment does not fit.
    pub fn at(url: Option<&str>, folder: &Path) -> Result<Self, Error> {
        Ok(match url {
            None => Self::Folder(folder.to_owned()),
            Some(url) => Self::Objects { objects: Objects::at(url)?, cache: folder.join("cache") },
        })
    }

    /// Writes a file by `fill`: whole, or not at all.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Objects`], or what `fill` said.
    pub fn write(
        &self,
        path: &str,
        fill: impl FnOnce(&mut (dyn Write + Send)) -> Result<(), Error>,
    ) -> Result<Written, Error> {
        match self {
            Self::Folder(folder) => write_whole(&folder.join(path), fill),
            Self::Objects { objects, cache } => {
                let passing = cache.join(path);
                let written = write_whole(&passing, fill)?;
                objects.upload(path, &passing)?;
                fs::remove_file(&passing).map_err(Error::file(&passing))?;
                Ok(written)
            }
        }
    }

    /// Writes a frame as an Arrow IPC file, texts as dictionaries, LZ4-compressed.
    ///
    /// # Errors
    /// [`Error::File`] or [`Error::Objects`].
    pub fn write_arrow(&self, path: &str, frame: &Frame) -> Result<Written, Error> {
        let batch = to_batch(frame, true)?;
        self.write(path, |sink| write_file(sink, &[batch]))
    }

    /// Writes a frame as a Parquet file.
    ///
    /// # Errors
    /// [`Error::File`] or [`Error::Objects`].
    pub fn write_parquet(&self, path: &str, frame: &Frame) -> Result<Written, Error> {
        let bytes = parquet_bytes(frame)?;
        self.write(path, |sink| sink.write_all(&bytes).map_err(Error::file(path)))
    }

    /// The bytes of a file, read by ranges.
    ///
    /// # Errors
    /// [`Error::File`] or [`Error::Objects`].
    pub(crate) fn open(&self, path: &str) -> Result<Bytes, Error> {
        match self {
            Self::Folder(folder) => Bytes::on_disk(&folder.join(path)),
            Self::Objects { objects, .. } => Bytes::object(objects, path),
        }
    }

    /// The file on a disk, fetched if need be. Files never change, so one of that hash is fetched once.
    ///
    /// # Errors
    /// [`Error::File`] or [`Error::Objects`].
    pub fn local(&self, path: &str, expected: &str) -> Result<PathBuf, Error> {
        match self {
            Self::Folder(folder) => Ok(folder.join(path)),
            Self::Objects { objects, cache } => {
                let file = cache.join(path);
                if !file.exists() || sha256(&file)? != expected {
                    write_whole(&file, |sink| objects.download(path, sink))?;
                }
                Ok(file)
            }
        }
    }

    /// The SHA-256, in hex, of what is in a file now; none if it is gone.
    ///
    /// # Errors
    /// [`Error::File`] or [`Error::Objects`].
    pub fn sha256(&self, path: &str) -> Result<Option<String>, Error> {
        match self {
            Self::Folder(folder) if !folder.join(path).exists() => Ok(None),
            Self::Folder(folder) => sha256(&folder.join(path)).map(Some),
            Self::Objects { objects, .. } if !objects.exists(path)? => Ok(None),
            Self::Objects { objects, .. } => hash_of(|sink| objects.download(path, sink)).map(Some),
        }
    }

    /// Removes a file, and what was kept of it in the folder; one that is gone already is no error.
    ///
    /// # Errors
    /// [`Error::File`] or [`Error::Objects`].
    pub fn remove(&self, path: &str) -> Result<(), Error> {
        match self {
            Self::Folder(folder) => remove(&folder.join(path)),
            Self::Objects { objects, cache } => {
                remove(&cache.join(path))?;
                objects.remove(path)
            }
        }
    }

    /// The files under a path, by their paths: also those that are being written, and those on their way to the object store.
    ///
    /// # Errors
    /// [`Error::File`] or [`Error::Objects`].
    pub fn list(&self, under: &str) -> Result<Vec<String>, Error> {
        let mut files = Vec::new();
        match self {
            Self::Folder(folder) => gather(folder, under, &mut files)?,
            Self::Objects { objects, cache } => {
                files = objects.matching(&format!("{under}/*"))?;
                gather(cache, under, &mut files)?;
            }
        }
        files.sort();
        files.dedup();
        Ok(files)
    }
}

fn remove(file: &Path) -> Result<(), Error> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::file(file)(error)),
        _ => Ok(()),
    }
}

/// Adds the files below `folder/under`. What is gone by the time that it is looked at was not there.
fn gather(folder: &Path, under: &str, files: &mut Vec<String>) -> Result<(), Error> {
    let place = folder.join(under);
    let entries = match fs::read_dir(&place) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(Error::file(&place))?,
    };
    for entry in entries {
        let entry = entry.map_err(Error::file(&place))?;
        let path = format!("{under}/{}", entry.file_name().to_string_lossy());
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => gather(folder, &path, files)?,
            Ok(_) => files.push(path),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(Error::file(&place)(error)),
        }
    }
    Ok(())
}
