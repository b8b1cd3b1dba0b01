//! A Parquet file read column by column: a file of any size takes the memory of one column.

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};

use crate::Error;

/// Rows that are decoded at a time.
const BATCH_ROWS: usize = 32_768;

/// What a column holds, as far as comparing goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// Numbers of any width.
    Number,
    /// Texts, truth values.
    Category,
    /// Instants and dates.
    Time,
    /// Anything else: lists, structs, bytes.
    Other,
}

impl ColumnKind {
    fn of(kind: &DataType) -> Self {
        match kind {
            DataType::Dictionary(_, values) => Self::of(values),
            DataType::Boolean | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::Category,
            DataType::Timestamp(..)
            | DataType::Date32
            | DataType::Date64
            | DataType::Time32(_)
            | DataType::Time64(_) => Self::Time,
            kind if kind.is_numeric() => Self::Number,
            _ => Self::Other,
        }
    }
}

/// A column of numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Numbers {
    /// The values that are not null, in the order of the rows; NaN is a value.
    pub values: Vec<f64>,
    /// Rows without a value.
    pub nulls: u64,
}

/// A Parquet file, ready to be read column by column.
#[derive(Clone)]
pub struct ColumnFile {
    path: PathBuf,
    metadata: ArrowReaderMetadata,
    columns: Vec<(String, ColumnKind)>,
    rows: u64,
}

impl ColumnFile {
    /// Reads the file's footer.
    ///
    /// # Errors
    /// [`Error::File`]; [`Error::Unreadable`] if it is no Parquet file.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(Error::file(path))?;
        let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new())
            .map_err(|error| Error::unreadable("Parquet file", error))?;
        let fields = metadata.schema().fields();
        let columns = fields.iter().map(|field| (field.name().clone(), ColumnKind::of(field.data_type())));
        let rows = metadata.metadata().file_metadata().num_rows().max(0).cast_unsigned();
        Ok(Self { path: path.to_owned(), columns: columns.collect(), metadata, rows })
    }

    /// The columns, in the file's order.
    pub fn columns(&self) -> &[(String, ColumnKind)] {
        &self.columns
    }

    /// What a column holds; `None` if there is none of that name.
    pub fn kind(&self, column: &str) -> Option<ColumnKind> {
        self.columns.iter().find(|(name, _)| name == column).map(|(_, kind)| *kind)
    }

    /// How many rows.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// A column as numbers; times as microseconds since 1970.
    ///
    /// # Errors
    /// [`Error::MissingColumn`]; [`Error::Unreadable`] if the file is damaged or the column holds no numbers.
    pub fn numbers(&self, column: &str) -> Result<Numbers, Error> {
        let mut numbers = Numbers { values: Vec::with_capacity(self.rows as usize), nulls: 0 };
        self.each_batch(column, |batch| {
            let batch = as_numbers(batch)?;
            let values = batch.as_primitive::<Float64Type>();
            numbers.nulls += values.null_count() as u64;
            if values.null_count() == 0 {
                numbers.values.extend_from_slice(values.values());
            } else {
                numbers.values.extend(values.iter().flatten());
            }
            Ok(())
        })?;
        Ok(numbers)
    }

    /// Every so manieth row of a column as a number, the first included; NaN where there is none.
    ///
    /// # Errors
    /// As [`ColumnFile::numbers`].
    pub fn every(&self, column: &str, step: usize) -> Result<Vec<f64>, Error> {
        let (mut values, mut row) = (Vec::new(), 0_usize);
        self.each_batch(column, |batch| {
            let batch = as_numbers(batch)?;
            let cells = batch.as_primitive::<Float64Type>();
            let first = row.next_multiple_of(step.max(1)) - row;
            let wanted = (first..cells.len()).step_by(step.max(1));
            values.extend(wanted.map(|at| if cells.is_null(at) { f64::NAN } else { cells.value(at) }));
            row += cells.len();
            Ok(())
        })?;
        Ok(values)
    }

    /// Shows each value of a column as a text, in the order of the rows.
    ///
    /// # Errors
    /// [`Error::MissingColumn`]; [`Error::Unreadable`] if the file is damaged or the column holds no texts.
    pub fn levels(&self, column: &str, mut visit: impl FnMut(Option<&str>)) -> Result<(), Error> {
        self.each_batch(column, |batch| {
            let batch = converted(batch, &DataType::Utf8)?;
            batch.as_string::<i32>().iter().for_each(&mut visit);
            Ok(())
        })
    }

    fn missing(&self, column: &str) -> Error {
        let found = self.columns.iter().map(|(name, _)| name.clone()).collect();
        Error::MissingColumn { column: column.to_owned(), found }
    }

    fn each_batch(
        &self,
        column: &str,
        mut visit: impl FnMut(&ArrayRef) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for batch in self.reader(column)? {
            let batch = batch.map_err(|error| Error::unreadable("Parquet file", error))?;
            visit(batch.column(0))?;
        }
        Ok(())
    }

    fn reader(&self, column: &str) -> Result<ParquetRecordBatchReader, Error> {
        let place = self.columns.iter().position(|(name, _)| name == column);
        let place = place.ok_or_else(|| self.missing(column))?;
        let file = File::open(&self.path).map_err(Error::file(&self.path))?;
        let mask = ProjectionMask::roots(self.metadata.metadata().file_metadata().schema_descr(), [place]);
        ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
            .with_projection(mask)
            .with_batch_size(BATCH_ROWS)
            .build()
            .map_err(|error| Error::unreadable("Parquet file", error))
    }
}

fn converted(values: &ArrayRef, kind: &DataType) -> Result<ArrayRef, Error> {
    if values.data_type() == kind {
        return Ok(values.clone());
    }
    cast(values, kind).map_err(|error| Error::unreadable("column", error))
}

/// Numbers as they are, times as microseconds.
fn as_numbers(values: &ArrayRef) -> Result<ArrayRef, Error> {
    let micros = DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None);
    match values.data_type() {
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => {
            let instants = converted(&converted(values, &micros)?, &DataType::Int64)?;
            converted(&instants, &DataType::Float64)
        }
        DataType::Time32(_) | DataType::Time64(_) => {
            let ticks = DataType::Time64(arrow::datatypes::TimeUnit::Microsecond);
            converted(&converted(&converted(values, &ticks)?, &DataType::Int64)?, &DataType::Float64)
        }
        _ => converted(values, &DataType::Float64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::write_parquet;
    use crate::{Frame, Values};

    fn file(folder: &Path) -> PathBuf {
        let columns = vec![
            ("fare".to_owned(), Values::Number(vec![1.5, f64::NAN, 3.0])),
            ("carrier".to_owned(), Values::text([Some("AA"), None, Some("UA")])),
            ("on_time".to_owned(), Values::Boolean(vec![Some(true), None, Some(false)])),
            ("at".to_owned(), Values::Time(vec![0, 1, 2])),
        ];
        let path = folder.join("rows.parquet");
        write_parquet(&path, &Frame::new(3, columns)).unwrap();
        path
    }

    #[test]
    fn every_other_row_keeps_its_place_though_some_hold_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.parquet");
        let rows = 3 * BATCH_ROWS + 1;
        let number = |row: usize| if row % 4 == 2 { f64::NAN } else { row as f64 };
        let columns = vec![("x".to_owned(), Values::Number((0..rows).map(number).collect()))];
        write_parquet(&path, &Frame::new(rows, columns)).unwrap();
        let found = ColumnFile::open(&path).unwrap().every("x", 7).unwrap();
        assert_eq!(found.len(), rows.div_ceil(7));
        let same = |(place, value): (usize, &f64)| {
            value.to_bits() == number(7 * place).to_bits() || value.is_nan() && number(7 * place).is_nan()
        };
        assert!(found.iter().enumerate().all(same));
    }

    #[test]
    fn columns_are_read_one_by_one_by_kind() {
        let folder = tempfile::tempdir().unwrap();
        let file = ColumnFile::open(&file(folder.path())).unwrap();
        let kinds: Vec<ColumnKind> = file.columns().iter().map(|(_, kind)| *kind).collect();
        assert_eq!(kinds, [ColumnKind::Number, ColumnKind::Category, ColumnKind::Category, ColumnKind::Time]);
        assert_eq!(file.numbers("at").unwrap(), Numbers { values: vec![0.0, 1.0, 2.0], nulls: 0 });
        let levels = |column: &str| {
            let mut seen = vec![];
            file.levels(column, |level| seen.push(level.map(str::to_owned))).unwrap();
            seen
        };
        assert_eq!(levels("carrier"), [Some("AA".into()), None, Some("UA".into())]);
        assert_eq!(levels("on_time"), [Some("true".into()), None, Some("false".into())]);
        assert!(matches!(file.numbers("fares"), Err(Error::MissingColumn { .. })));
    }

    #[test]
    fn something_else_than_parquet_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.parquet");
        std::fs::write(&path, "a,b\n1,2\n").unwrap();
        assert!(ColumnFile::open(&path).is_err());
    }
}
