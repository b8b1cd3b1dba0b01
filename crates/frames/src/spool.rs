//! Rows in append-only files that outlive the process that writes them: what somebody was promised and is not published yet.
//!
//! Belongs here: the format, and whose a file is. Not here: what the rows are, and when they are published.
//!
//! A record is written by one `write`, before anybody is told of it. Then it lies in the system's page cache, where the end of
//! the process, however it ends, does not reach it. Nothing is synced: a loss of power may take what the system had not brought
//! to the disk by then, and leaves the records before that readable.
//!
//! A spool belongs to whoever holds its lock. The system lets the lock of an ended process go, so that another one can take
//! over what is in the file.
//!
//! Format 1. A record is `FTS1`, the lengths of its head and of its rows (32 bits each, little-endian), the first eight bytes
//! of the SHA-256 of both, the head as JSON, and the rows as an Arrow IPC stream.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use domain::definitions::ValueType;
use domain::ids::SpoolId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::wire::{read_stream_as, write_stream};
use crate::{Error, Frame};

const MAGIC: &[u8; 4] = b"FTS1";
const PREFIX: usize = 20;
const EXTENSION: &str = "spool";

/// What is said of the rows of a record.
#[derive(Serialize, Deserialize)]
struct Head {
    label: Value,
    /// The columns whose types Arrow's do not say.
    exact: Vec<(String, ValueType)>,
}

/// Rows, and what the writer said of them.
#[derive(Debug, PartialEq)]
pub struct Record {
    /// What the writer said of them.
    pub label: Value,
    /// The rows.
    pub rows: Frame,
}

/// What a spool holds.
#[derive(Debug)]
pub struct Contents {
    /// Its whole records, the oldest first.
    pub records: Vec<Record>,
    /// Bytes after these: a record that was never written to its end.
    pub torn_bytes: usize,
}

impl Record {
    /// The record as [`Spool::append`] takes it.
    ///
    /// # Errors
    /// [`Error::Unreadable`] if the rows cannot be encoded, or are more than 4 GiB.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let exact = self.rows.schema().into_iter().filter(|(_, kind)| kind.exact_width().is_some());
        let head = Head { label: self.label.clone(), exact: exact.collect() };
        let head = serde_json::to_vec(&head).map_err(|error| Error::unreadable("record", error))?;
        let rows = write_stream(&self.rows)?;
        let length = |bytes: &[u8]| {
            u32::try_from(bytes.len()).map_err(|_| Error::unreadable("record", "it is larger than 4 GiB"))
        };
        let mut record = Vec::with_capacity(PREFIX + head.len() + rows.len());
        record.extend_from_slice(MAGIC);
        record.extend_from_slice(&length(&head)?.to_le_bytes());
        record.extend_from_slice(&length(&rows)?.to_le_bytes());
        record.extend_from_slice(&check(&head, &rows));
        record.extend_from_slice(&head);
        record.extend_from_slice(&rows);
        Ok(record)
    }

    fn decode(head: &[u8], rows: &[u8]) -> Result<Self, Error> {
        let head: Head = serde_json::from_slice(head).map_err(|error| Error::unreadable("spool", error))?;
        Ok(Self { label: head.label, rows: read_stream_as(rows, &head.exact)? })
    }
}

fn check(head: &[u8], rows: &[u8]) -> [u8; 8] {
    let hash = Sha256::new().chain_update(head).chain_update(rows).finalize();
    std::array::from_fn(|byte| hash[byte])
}

/// A file of records, held by this process.
#[derive(Debug)]
pub struct Spool {
    path: PathBuf,
    file: File,
    length: u64,
    whole: bool,
}

impl Spool {
    /// A new one in `folder`.
    ///
    /// # Errors
    /// [`Error::File`] or [`Error::Full`].
    pub fn create(folder: &Path) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(Error::file(folder))?;
        loop {
            let path = folder.join(format!("{}.{EXTENSION}", SpoolId::new()));
            let file = OpenOptions::new().read(true).append(true).create_new(true).open(&path);
            let file = file.map_err(Error::file(&path))?;
            // whoever looked for abandoned ones may have been quicker: then it is gone, or about to go
            if held(&file).map_err(Error::file(&path))? {
                return Ok(Self { path, file, length: 0, whole: true });
            }
        }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether more can be appended: what a refused `append` left behind could not be taken back otherwise.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// Adds an encoded record, or nothing of it.
    ///
    /// # Errors
    /// [`Error::Full`] if there is no room; [`Error::File`].
    pub fn append(&mut self, record: &[u8]) -> Result<(), Error> {
        match self.file.write_all(record) {
            Ok(()) => {
                self.length += record.len() as u64;
                Ok(())
            }
            Err(cause) => {
                self.whole = self.file.set_len(self.length).is_ok();
                Err(Error::file(&self.path)(cause))
            }
        }
    }

    /// All of its records. Reading ends at the first that is not whole.
    ///
    /// # Errors
    /// [`Error::File`]; [`Error::Unreadable`] if it is of another format.
    pub fn read(&self) -> Result<Contents, Error> {
        let mut bytes = Vec::new();
        let mut file = File::open(&self.path).map_err(Error::file(&self.path))?;
        file.read_to_end(&mut bytes).map_err(Error::file(&self.path))?;
        contents(&bytes).map_err(Error::in_file(&self.path))
    }

    /// Removes it, once what it held is published.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn remove(self) -> Result<(), Error> {
        fs::remove_file(&self.path).map_err(Error::file(&self.path))
    }
}

fn contents(bytes: &[u8]) -> Result<Contents, Error> {
    let (mut records, mut left) = (Vec::new(), bytes);
    while let Some((head, rows, rest)) = split(left)? {
        records.push(Record::decode(head, rows)?);
        left = rest;
    }
    Ok(Contents { records, torn_bytes: left.len() })
}

/// The head and the rows of a record, and what follows it.
type Split<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// The first record; `None` if there is no whole one.
fn split(bytes: &[u8]) -> Result<Option<Split<'_>>, Error> {
    let Some((prefix, rest)) = bytes.split_at_checked(PREFIX) else { return Ok(None) };
    if prefix[..3] == MAGIC[..3] && prefix[3] != MAGIC[3] {
        let why = format!("its format is `{}`, this program knows 1", prefix[3].escape_ascii());
        return Err(Error::unreadable("spool", why));
    }
    let length = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| prefix[at + byte])) as usize;
    let Some((head, rest)) = rest.split_at_checked(length(4)) else { return Ok(None) };
    let Some((rows, rest)) = rest.split_at_checked(length(8)) else { return Ok(None) };
    let whole = prefix[..4] == MAGIC[..] && prefix[12..] == check(head, rows);
    Ok(whole.then_some((head, rows, rest)))
}

/// The spools of a folder whose processes have ended; this process holds them from now on.
///
/// # Errors
/// [`Error::File`].
pub fn abandoned(folder: &Path) -> Result<Vec<Spool>, Error> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        entries => entries.map_err(Error::file(folder))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::file(folder))?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            found.extend(take_over(path)?);
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

fn take_over(path: PathBuf) -> Result<Option<Spool>, Error> {
    let file = match OpenOptions::new().read(true).append(true).open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None), // its owner was done with it
        opened => opened.map_err(Error::file(&path))?,
    };
    if !held(&file).map_err(Error::file(&path))? {
        return Ok(None);
    }
    let length = file.metadata().map_err(Error::file(&path))?.len();
    Ok(Some(Spool { path, file, length, whole: false })) // it may end in the middle of a record
}

/// Takes the lock; whether it is ours now, and of a file that still has its name.
fn held(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(file.metadata()?.nlink() > 0),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Values;
    use crate::exact::Exact;

    fn record(number: f64) -> Record {
        let exact =
            Exact::parsed(ValueType::Decimal { precision: 12, scale: 2 }, [Some("27.10")].into_iter());
        let columns = vec![
            ("x".to_owned(), Values::Number(vec![number])),
            ("price".to_owned(), Values::Exact(exact.unwrap())),
        ];
        Record { label: json!({ "version": 3 }), rows: Frame::new(1, columns) }
    }

    #[test]
    fn records_come_back_as_they_were_and_a_torn_last_one_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::create(folder.path()).unwrap();
        let records = [record(1.0), record(f64::INFINITY)];
        let encoded: Vec<Vec<u8>> = records.iter().map(|record| record.encode().unwrap()).collect();
        for bytes in &encoded {
            spool.append(bytes).unwrap();
        }
        let read = spool.read().unwrap();
        assert_eq!((&read.records[..], read.torn_bytes), (&records[..], 0));
        for left in [1, PREFIX, encoded[1].len() - 1] {
            let bytes = [&encoded[0], &encoded[1][..left]].concat();
            let read = contents(&bytes).unwrap();
            assert_eq!((&read.records[..], read.torn_bytes), (&records[..1], left));
        }
        let mut altered = encoded.concat();
        *altered.last_mut().unwrap() ^= 1;
        assert_eq!(contents(&altered).unwrap().records.len(), 1, "its check does not fit");
        altered[3] = b'2';
        let refusal = contents(&altered).unwrap_err().to_string();
        assert!(refusal.contains("its format is `2`, this program knows 1"), "{refusal}");
    }

    #[test]
    fn a_spool_is_its_writers_until_that_ends_and_then_one_others() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::create(folder.path()).unwrap();
        spool.append(&record(1.0).encode().unwrap()).unwrap();
        assert!(abandoned(folder.path()).unwrap().is_empty(), "it is still held");
        let path = spool.path().to_owned();
        drop(spool);
        let mut found = abandoned(folder.path()).unwrap();
        assert!(abandoned(folder.path()).unwrap().is_empty(), "two hold it");
        let spool = found.pop().unwrap();
        assert_eq!((spool.path(), spool.read().unwrap().records), (&*path, vec![record(1.0)]));
        spool.remove().unwrap();
        assert!(!path.exists() && abandoned(folder.path()).unwrap().is_empty());
    }
}
