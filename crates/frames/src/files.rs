//! Files that are whole or absent: written under a temporary name, synced, renamed, hashed on the way.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use domain::definitions::Format;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use sha2::{Digest, Sha256};

use crate::Error;
use crate::frame::Frame;
use crate::scan::guarded;
use crate::wire::{gather, read_file, to_batch, write_file};

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its SHA-256, in hex.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
}

/// Writes a file by `fill`: whole, synced and under its name, or not at all.
///
/// # Errors
/// [`Error::File`], or what `fill` said.
pub fn write_whole(
    path: &Path,
    fill: impl FnOnce(&mut (dyn Write + Send)) -> Result<(), Error>,
) -> Result<Written, Error> {
    let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(Error::file(folder))?;
    let temporary = temporary_name(path);
    let written = fill_and_sync(&temporary, fill);
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    let written = written?;
    fs::rename(&temporary, path).map_err(Error::file(path))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(Error::file(folder))?;
    Ok(written)
}

fn temporary_name(path: &Path) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!(".{name}.{}.tmp", std::process::id()))
}

fn fill_and_sync(
    path: &Path,
    fill: impl FnOnce(&mut (dyn Write + Send)) -> Result<(), Error>,
) -> Result<Written, Error> {
    let file = File::create(path).map_err(Error::file(path))?;
    let inner = BufWriter::with_capacity(1 << 20, file);
    let mut sink = Hashing { inner, hash: Sha256::new(), bytes: 0, refused: None };
    let filled = fill(&mut sink).and_then(|()| sink.flush().map_err(Error::file(path)));
    if let Some(cause) = sink.refused.take() {
        return Err(Error::file(path)(cause)); // what a writer of columns made of it says less
    }
    filled?;
    sink.inner.get_ref().sync_all().map_err(Error::file(path))?;
    Ok(Written { sha256: hex::encode(sink.hash.finalize()), bytes: sink.bytes })
}

/// The SHA-256, in hex, of what `fill` writes.
pub(crate) fn hash_of(fill: impl FnOnce(&mut dyn Write) -> Result<(), Error>) -> Result<String, Error> {
    let mut sink = Hashing { inner: io::sink(), hash: Sha256::new(), bytes: 0, refused: None };
    fill(&mut sink)?;
    Ok(hex::encode(sink.hash.finalize()))
}

struct Hashing<W> {
    inner: W,
    hash: Sha256,
    bytes: u64,
    /// The first thing that the system refused.
    refused: Option<io::Error>,
}

impl<W> Hashing<W> {
    /// Keeps what the system said, and says it.
    fn noted<T>(&mut self, done: io::Result<T>) -> io::Result<T> {
        done.inspect_err(|error| {
            let cause =
                error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error);
            self.refused.get_or_insert(cause);
        })
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let taken = self.inner.write(buffer);
        let taken = self.noted(taken)?;
        self.hash.update(&buffer[..taken]);
        self.bytes += taken as u64;
        Ok(taken)
    }
    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.inner.flush();
        self.noted(flushed)
    }
}

/// Writes bytes: whole, synced and under their name, or not at all.
///
/// # Errors
/// [`Error::File`].
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<Written, Error> {
    write_whole(path, |sink| sink.write_all(bytes).map_err(Error::file(path)))
}

/// The SHA-256 of a file, in hex.
///
/// # Errors
/// [`Error::File`].
pub fn sha256(path: &Path) -> Result<String, Error> {
    let mut file = File::open(path).map_err(Error::file(path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(Error::file(path))? {
            0 => return Ok(hex::encode(hash.finalize())),
            taken => hash.update(&buffer[..taken]),
        }
    }
}

/// Refuses a file that is not the one that was written.
///
/// # Errors
/// [`Error::Altered`] or [`Error::File`].
pub fn verify(path: &Path, expected: &str) -> Result<(), Error> {
    let found = sha256(path)?;
    if found == expected {
        return Ok(());
    }
    Err(Error::Altered { path: path.to_owned(), expected: expected.to_owned(), found })
}

/// Writes a frame as Parquet.
///
/// # Errors
/// [`Error::File`].
pub fn write_parquet(path: &Path, frame: &Frame) -> Result<Written, Error> {
    write_bytes(path, &parquet_bytes(frame)?)
}

/// A frame as the bytes of a Parquet file.
///
/// # Errors
/// [`Error::Unreadable`] if the frame cannot be encoded.
pub fn parquet_bytes(frame: &Frame) -> Result<Vec<u8>, Error> {
    let batch = to_batch(frame, false)?;
    let mut bytes = Vec::new();
    write_batches(&mut bytes, batch.schema(), &[batch])?;
    Ok(bytes)
}

fn write_batches(bytes: &mut Vec<u8>, schema: SchemaRef, batches: &[RecordBatch]) -> Result<(), Error> {
    let level = ZstdLevel::try_new(1).map_err(|error| Error::unreadable("compression level", error))?;
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
    let unwritable = |error: parquet::errors::ParquetError| Error::unreadable("frame", error);
    let mut writer = ArrowWriter::try_new(bytes, schema, Some(properties)).map_err(unwritable)?;
    for batch in batches {
        writer.write(batch).map_err(unwritable)?;
    }
    writer.close().map(drop).map_err(unwritable)
}

/// The bytes of a file.
///
/// # Errors
/// [`Error::File`].
pub fn bytes(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(Error::file(path))
}

/// Reads a Parquet file of ours.
///
/// # Errors
/// [`Error::File`] or [`Error::Unreadable`].
pub fn read_parquet(path: &Path) -> Result<Frame, Error> {
    guarded("Parquet file", || decode_parquet(path))
}

fn decode_parquet(path: &Path) -> Result<Frame, Error> {
    let file = File::open(path).map_err(Error::file(path))?;
    let unreadable = |error: parquet::errors::ParquetError| Error::unreadable("Parquet file", error);
    let builder =
        ParquetRecordBatchReaderBuilder::try_new(file).map_err(unreadable)?.with_batch_size(1 << 16);
    let schema = Arc::clone(builder.schema());
    let batches = builder
        .build()
        .map_err(unreadable)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Error::unreadable("Parquet file", error))?;
    gather(&schema, &batches)
}

/// Writes a frame as an Arrow IPC file, texts as dictionaries, LZ4-compressed.
///
/// # Errors
/// [`Error::File`].
pub fn write_arrow(path: &Path, frame: &Frame) -> Result<Written, Error> {
    let batch = to_batch(frame, true)?;
    write_whole(path, |sink| write_file(sink, &[batch]))
}

/// Reads a file of ours, Arrow IPC or Parquet.
///
/// # Errors
/// [`Error::File`] or [`Error::Unreadable`].
pub fn read_table(path: &Path) -> Result<Frame, Error> {
    if is_parquet(path)? { read_parquet(path) } else { read_arrow(path) }
}

fn is_parquet(path: &Path) -> Result<bool, Error> {
    let mut head = [0; 4];
    let mut file = File::open(path).map_err(Error::file(path))?;
    let read = file.read(&mut head).map_err(Error::file(path))?;
    Ok(&head[..read] == b"PAR1")
}

/// The bytes of a file of ours in one of the two formats: as it lies there if it is of that, else converted column by column, so
/// that types and values stay what they are.
///
/// # Errors
/// [`Error::File`] or [`Error::Unreadable`].
pub fn as_format(path: &Path, format: Format) -> Result<Vec<u8>, Error> {
    if is_parquet(path)? == (format == Format::Parquet) {
        return bytes(path);
    }
    let file = File::open(path).map_err(Error::file(path))?;
    let mut converted = Vec::new();
    match format {
        Format::Arrow => {
            let unreadable = |error: parquet::errors::ParquetError| Error::unreadable("Parquet file", error);
            let reader = ParquetRecordBatchReaderBuilder::try_new(file).map_err(unreadable)?.build();
            let batches = reader.map_err(unreadable)?.collect::<Result<Vec<_>, _>>();
            let batches = batches.map_err(|error| Error::unreadable("Parquet file", error))?;
            write_file(&mut converted, &batches)?;
        }
        Format::Parquet => {
            let batches = read_file(file)?;
            let schema = batches.first().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema);
            write_batches(&mut converted, schema, &batches)?;
        }
    }
    Ok(converted)
}

/// Reads an Arrow IPC file of ours.
///
/// # Errors
/// [`Error::File`] or [`Error::Unreadable`].
pub fn read_arrow(path: &Path) -> Result<Frame, Error> {
    let file = File::open(path).map_err(Error::file(path))?;
    let batches = read_file(file)?;
    gather(&batches.first().map_or_else(Schema::empty, |batch| batch.schema().as_ref().clone()), &batches)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Values;

    fn frame() -> Frame {
        Frame::new(
            2,
            vec![
                ("n".into(), Values::Number(vec![1.5, f64::NAN])),
                ("s".into(), Values::text([Some("a"), None])),
            ],
        )
    }

    #[test]
    fn a_frame_survives_parquet_and_arrow_files() {
        let folder = tempfile::tempdir().unwrap();
        let (parquet, arrow) = (folder.path().join("a/x.parquet"), folder.path().join("a/x.arrow"));
        let written = write_parquet(&parquet, &frame()).unwrap();
        write_arrow(&arrow, &frame()).unwrap();
        // NaN is not equal to itself, so the texts compare the columns
        assert_eq!(format!("{:?}", read_parquet(&parquet).unwrap()), format!("{:?}", frame()));
        assert_eq!(format!("{:?}", read_arrow(&arrow).unwrap()), format!("{:?}", frame()));
        verify(&parquet, &written.sha256).unwrap();
    }

    #[test]
    fn an_altered_file_is_refused_with_both_hashes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        let written = write_parquet(&path, &frame()).unwrap();
        fs::write(&path, b"else").unwrap();
        assert!(matches!(verify(&path, &written.sha256), Err(Error::Altered { .. })));
    }

    #[test]
    fn a_full_disk_is_said_as_such_whatever_was_written_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        let whole = Frame::new(1 << 18, vec![("n".into(), Values::Integer((0..1 << 18).collect()))]);
        let columns = |sink: &mut (dyn Write + Send)| write_file(sink, &[to_batch(&whole, false)?]);
        let bytes = |sink: &mut (dyn Write + Send)| sink.write_all(&[7]).map_err(Error::file("x"));
        type Fill<'a> = &'a dyn Fn(&mut (dyn Write + Send)) -> Result<(), Error>;
        for fill in [&columns as Fill<'_>, &bytes] {
            std::os::unix::fs::symlink("/dev/full", temporary_name(&path)).unwrap();
            let refused = write_whole(&path, fill).unwrap_err();
            assert!(matches!(refused, Error::Full { .. }), "{refused}");
            assert!(refused.to_string().contains("make room"), "{refused}");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn a_failed_write_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let failed = write_whole(&path, |_| Err(Error::unreadable("frame", "on purpose")));
        assert!(failed.is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
