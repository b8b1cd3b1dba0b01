//! Foreign files, read batch by batch: Parquet, Arrow IPC and CSV, one or many, as often as needed and only the columns asked.
//!
//! A row's number is its file's number, then its place in the file, so that rows can be found again without being kept.
//! Whatever a reader of foreign bytes does, a panic in it included, is an [`Error`] here.

mod csv;
mod ipc;
mod parquet;
mod prune;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::array::{BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, SchemaRef};

use domain::expression::Bound;

use crate::Error;
use crate::place::{Bytes, expand};

/// Rows a batch holds at most.
pub(crate) const BATCH: usize = 1 << 14;
/// The bits of a row's number that count inside its file.
const IN_FILE: u32 = 40;

/// A table that lies in one or more files of one schema.
#[derive(Debug)]
pub(crate) struct Scan {
    files: Vec<(String, File)>,
}

#[derive(Debug)]
enum File {
    Parquet(parquet::File),
    Arrow(ipc::File),
    Csv(csv::File),
}

/// Some rows of a scan.
#[derive(Debug)]
pub(crate) struct Rows {
    /// The number of the first row; the others follow one by one, unless rows were chosen.
    pub(crate) first: u64,
    /// The columns asked for, in the order asked.
    pub(crate) batch: RecordBatch,
}

impl Scan {
    /// Opens a file, or all files that a pattern with `*` names, in the order of their names. `texts` are columns that a CSV
    /// file shall not guess the type of.
    ///
    /// # Errors
    /// [`Error::File`] or [`Error::Unreadable`], with the file's name.
    pub(crate) fn open(pattern: &str, texts: &[&str]) -> Result<Self, Error> {
        let opened = expand(pattern)?
            .into_iter()
            .map(|(name, bytes)| {
                let file =
                    guarded("file", || File::open(&name, bytes, texts)).map_err(Error::in_file(&name))?;
                Ok((name, file))
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let scan = Self { files: opened };
        scan.refuse_two_schemas()?;
        Ok(scan)
    }

    /// One file of our own.
    ///
    /// # Errors
    /// [`Error::File`] or [`Error::Unreadable`].
    pub(crate) fn of(name: &str, bytes: Bytes) -> Result<Self, Error> {
        Ok(Self { files: vec![(name.to_owned(), guarded("file", || File::open(name, bytes, &[]))?)] })
    }

    fn refuse_two_schemas(&self) -> Result<(), Error> {
        let first = self.schema();
        for (name, file) in &self.files[1..] {
            for field in first.fields() {
                let found = file.schema().field_with_name(field.name()).map(Field::data_type).ok().cloned();
                if found.as_ref() != Some(field.data_type()) {
                    let found = found.map_or("no such column".to_owned(), |kind| format!("{kind} values"));
                    return Err(Error::in_file(name)(Error::WrongType {
                        column: field.name().clone(),
                        found,
                        expected: format!("{} values, as in `{}`,", field.data_type(), self.files[0].0),
                    }));
                }
            }
        }
        Ok(())
    }

    /// The columns of its first file; the others have them too.
    pub(crate) fn schema(&self) -> SchemaRef {
        self.files[0].1.schema()
    }

    /// The first file's name, for messages.
    pub(crate) fn name(&self) -> &str {
        &self.files[0].0
    }

    /// No rows of these columns.
    ///
    /// # Errors
    /// [`Error::MissingColumn`], in the file's name.
    pub(crate) fn empty(&self, columns: &[&str]) -> Result<RecordBatch, Error> {
        let schema = self.schema();
        let places = columns.iter().map(|name| schema.index_of(name).map_err(|_| self.missing(name)));
        let places = places.collect::<Result<Vec<_>, _>>()?;
        RecordBatch::new_empty(schema).project(&places).map_err(|error| Error::unreadable("schema", error))
    }

    fn missing(&self, column: &str) -> Error {
        Error::in_file(self.name())(Error::MissingColumn {
            column: column.to_owned(),
            found: self.schema().fields().iter().map(|field| field.name().clone()).collect(),
        })
    }

    /// The type of a column.
    ///
    /// # Errors
    /// [`Error::MissingColumn`], in the file's name.
    pub(crate) fn kind(&self, column: &str) -> Result<DataType, Error> {
        let schema = self.schema();
        schema
            .field_with_name(column)
            .map(|field| field.data_type().clone())
            .map_err(|_| self.missing(column))
    }

    /// Metadata that a Parquet file's writer left under `key` in the first file.
    pub(crate) fn metadata(&self, key: &str) -> Option<String> {
        match &self.files[0].1 {
            File::Parquet(file) => file.metadata(key),
            File::Arrow(_) | File::Csv(_) => None,
        }
    }

    /// Reads all rows of these columns, in order.
    ///
    /// # Errors
    /// What `each` said, or an error with the file's name.
    pub(crate) fn read(
        &self,
        columns: &[&str],
        each: impl FnMut(Rows) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.read_within(columns, &[], each)
    }

    /// Reads at least the rows within all `bounds`: of Parquet files not the row groups that can hold none. The numbers of
    /// rows then have no meaning.
    ///
    /// # Errors
    /// What `each` said, or an error with the file's name.
    pub(crate) fn read_within(
        &self,
        columns: &[&str],
        bounds: &[Bound],
        mut each: impl FnMut(Rows) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for (number, (name, file)) in self.files.iter().enumerate() {
            let mut next = (number as u64) << IN_FILE;
            let mut counted = |batch: RecordBatch| {
                let rows = Rows { first: next, batch };
                next += rows.batch.num_rows() as u64;
                each(rows)
            };
            guarded("file", || file.read(columns, bounds, &mut counted)).map_err(Error::in_file(name))?;
        }
        Ok(())
    }

    /// Reads the rows of these numbers, which rise, in these columns: every one once, in order. The batches' boundaries are
    /// the reader's.
    ///
    /// # Errors
    /// What `each` said, or an error with the file's name.
    pub(crate) fn read_rows(
        &self,
        columns: &[&str],
        rows: &[u64],
        mut each: impl FnMut(RecordBatch) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for (number, (name, file)) in self.files.iter().enumerate() {
            let start = (number as u64) << IN_FILE;
            let within = |bound: u64| rows.partition_point(|row| *row < bound);
            let chosen = &rows[within(start)..within(start + (1 << IN_FILE))];
            if !chosen.is_empty() {
                let places: Vec<u64> = chosen.iter().map(|row| row - start).collect();
                let mut read = 0;
                let mut counted = |batch: RecordBatch| {
                    read += batch.num_rows();
                    each(batch)
                };
                guarded("file", || file.read_places(columns, &places, &mut counted))
                    .map_err(Error::in_file(name))?;
                if read != places.len() {
                    let why = format!("of {} rows of its keys, other columns hold {read}", places.len());
                    return Err(Error::in_file(name)(Error::unreadable("file", why)));
                }
            }
        }
        Ok(())
    }
}

impl File {
    fn open(name: &str, bytes: Bytes, texts: &[&str]) -> Result<Self, Error> {
        let head = bytes.head(6)?;
        if head.starts_with(b"PAR1") {
            return Ok(Self::Parquet(parquet::File::open(bytes)?));
        }
        if head.starts_with(b"ARROW1") {
            return Ok(Self::Arrow(ipc::File::open(bytes)?));
        }
        let lower = name.to_ascii_lowercase();
        if lower.ends_with(".csv") || lower.ends_with(".tsv") {
            let delimiter = if lower.ends_with(".tsv") { b'\t' } else { b',' };
            return Ok(Self::Csv(csv::File::open(bytes, delimiter, texts)?));
        }
        Err(Error::unreadable(
            "file",
            "it is neither Parquet nor Arrow IPC, and its name does not end in `.csv` or `.tsv`",
        ))
    }

    fn schema(&self) -> SchemaRef {
        match self {
            Self::Parquet(file) => file.schema(),
            Self::Arrow(file) => file.schema(),
            Self::Csv(file) => file.schema(),
        }
    }

    fn read(&self, columns: &[&str], bounds: &[Bound], each: &mut Each<'_>) -> Result<(), Error> {
        match self {
            Self::Parquet(file) => file.read(columns, bounds, each),
            Self::Arrow(file) => file.read(columns, each),
            Self::Csv(file) => file.read(columns, each),
        }
    }

    fn read_places(&self, columns: &[&str], places: &[u64], each: &mut Each<'_>) -> Result<(), Error> {
        match self {
            Self::Parquet(file) => file.read_places(columns, places, each),
            Self::Arrow(file) => file.read(columns, &mut chosen(places, each)),
            Self::Csv(file) => file.read(columns, &mut chosen(places, each)),
        }
    }
}

/// What is done with each batch.
type Each<'a> = dyn FnMut(RecordBatch) -> Result<(), Error> + 'a;

/// Lets only the rows at `places` through.
fn chosen<'a>(
    places: &'a [u64],
    each: &'a mut Each<'_>,
) -> impl FnMut(RecordBatch) -> Result<(), Error> + 'a {
    let mut start = 0;
    let mut rest = places;
    move |batch| {
        let end = start + batch.num_rows() as u64;
        let (here, later) = rest.split_at(rest.partition_point(|place| *place < end));
        rest = later;
        let chosen = mask(here, start, batch.num_rows());
        start = end;
        if here.is_empty() {
            return Ok(());
        }
        let kept = filter_record_batch(&batch, &BooleanArray::new(chosen, None));
        each(kept.map_err(|error| Error::unreadable("batch", error))?)
    }
}

/// Which of `rows` rows from `start` on are at `places`.
fn mask(places: &[u64], start: u64, rows: usize) -> BooleanBuffer {
    let mut mask = arrow::array::BooleanBufferBuilder::new(rows);
    mask.append_n(rows, false);
    for place in places {
        mask.set_bit((place - start) as usize, true);
    }
    mask.finish()
}

/// The places of these columns in a schema, and how to put what is read in schema order into the order asked.
fn projection(schema: &SchemaRef, columns: &[&str]) -> Result<(Vec<usize>, Vec<usize>), Error> {
    let known: HashMap<&str, usize> =
        schema.fields().iter().enumerate().map(|(place, field)| (field.name().as_str(), place)).collect();
    let asked = columns
        .iter()
        .map(|name| {
            known.get(name).copied().ok_or_else(|| Error::MissingColumn {
                column: (*name).to_owned(),
                found: schema.fields().iter().map(|field| field.name().clone()).collect(),
            })
        })
        .collect::<Result<Vec<usize>, Error>>()?;
    let mut sorted = asked.clone();
    sorted.sort_unstable();
    sorted.dedup();
    let order = asked.iter().map(|place| sorted.partition_point(|read| read < place)).collect();
    Ok((sorted, order))
}

fn reordered(batch: &RecordBatch, order: &[usize]) -> Result<RecordBatch, Error> {
    batch.project(order).map_err(|error| Error::unreadable("batch", error))
}

/// Runs a reader of foreign bytes: a panic in it says that the bytes are broken.
///
/// # Errors
/// What `read` said, or [`Error::Unreadable`] if it panicked.
pub(crate) fn guarded<T>(what: &'static str, read: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        let said = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("its reader gave up");
        Err(Error::unreadable(what, format!("its bytes are broken ({said})")))
    })
}
