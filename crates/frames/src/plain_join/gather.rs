//! The second pass over a view: the chosen features of the rows that won, and nothing else.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, new_null_array};
use arrow::compute::{cast, interleave};
use arrow::datatypes::{DataType, UInt64Type};

use crate::Error;
use crate::as_of::Status;
use crate::contest::Won;
use crate::scan::Scan;

/// A label without a row.
const NO_ROW: u32 = u32::MAX;

/// The type in which a column is written: dictionaries are written out, everything else stays what it is.
pub(super) fn written_type(kind: &DataType) -> DataType {
    match kind {
        DataType::Dictionary(_, value) => written_type(value),
        kind => kind.clone(),
    }
}

/// The winning rows of one view, in the order of their file, and which of them each label has.
pub(super) struct Gathered {
    /// By feature: a null, then what was read.
    chunks: Vec<Vec<ArrayRef>>,
    /// The number of the first row of each chunk that was read; one more at the end.
    starts: Vec<u32>,
    /// By label: its row among those read, or [`NO_ROW`].
    rows: Vec<u32>,
    statuses: Vec<Status>,
}

impl Gathered {
    /// Reads the features of the rows that labels won.
    ///
    /// # Errors
    /// An error that names the column that cannot be written.
    pub(super) fn of(scan: &Scan, features: &[(String, DataType)], won: &[Won]) -> Result<Self, Error> {
        let (numbers, rows) = distinct(won);
        let mut chunks: Vec<Vec<ArrayRef>> =
            features.iter().map(|(_, kind)| vec![new_null_array(kind, 1)]).collect();
        let mut starts = vec![0];
        if !features.is_empty() {
            let names: Vec<&str> = features.iter().map(|(name, _)| name.as_str()).collect();
            scan.read_rows(&names, &numbers, |batch| {
                starts.push(starts.last().unwrap_or(&0) + batch.num_rows() as u32);
                keep(&mut chunks, features, &batch)
            })?;
        }
        let mut gathered =
            Self { chunks, starts, rows, statuses: won.iter().map(|won| won.status).collect() };
        gathered.tell_nulls();
        Ok(gathered)
    }

    /// A row was found, but all features asked of it are null.
    fn tell_nulls(&mut self) {
        if self.chunks.is_empty() {
            return;
        }
        let chunk_is_null = |chunk: usize| {
            let nulls: Vec<_> = self.chunks.iter().map(|column| column[chunk].logical_nulls()).collect();
            move |row: usize| nulls.iter().all(|nulls| nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)))
        };
        let mut all_null = Vec::with_capacity(*self.starts.last().unwrap_or(&0) as usize);
        for chunk in 1..self.starts.len() {
            let is_null = chunk_is_null(chunk);
            all_null.extend((0..(self.starts[chunk] - self.starts[chunk - 1]) as usize).map(is_null));
        }
        for (status, &row) in self.statuses.iter_mut().zip(&self.rows) {
            if row != NO_ROW && all_null[row as usize] {
                *status = Status::Null;
            }
        }
    }

    /// Appends the features and the status of some labels, and counts the statuses.
    ///
    /// # Errors
    /// [`Error::Unreadable`] if a column has become too long.
    pub(super) fn columns(
        &self,
        labels: Range<usize>,
        columns: &mut Vec<ArrayRef>,
        counts: &mut BTreeMap<Status, usize>,
    ) -> Result<(), Error> {
        let places: Vec<(usize, usize)> =
            self.rows[labels.clone()].iter().map(|&row| self.place(row)).collect();
        for chunks in &self.chunks {
            let chunks: Vec<&dyn Array> = chunks.iter().map(AsRef::as_ref).collect();
            columns.push(interleave(&chunks, &places).map_err(|error| Error::unreadable("column", error))?);
        }
        let statuses = &self.statuses[labels];
        for status in statuses {
            *counts.entry(*status).or_default() += 1;
        }
        columns.push(Arc::new(StringArray::from_iter_values(statuses.iter().map(|status| status.name()))));
        Ok(())
    }

    /// The chunk of a row and its place there.
    fn place(&self, row: u32) -> (usize, usize) {
        if row == NO_ROW {
            return (0, 0);
        }
        let chunk = self.starts.partition_point(|start| *start <= row);
        (chunk, (row - self.starts[chunk - 1]) as usize)
    }
}

/// The distinct rows that were won, and for each label the place of its row among them.
fn distinct(won: &[Won]) -> (Vec<u64>, Vec<u32>) {
    let mut labels: Vec<(u64, u32)> =
        won.iter().enumerate().filter_map(|(label, won)| Some((won.row?, label as u32))).collect();
    labels.sort_unstable();
    let mut numbers: Vec<u64> = Vec::with_capacity(labels.len());
    let mut rows = vec![NO_ROW; won.len()];
    for (number, label) in labels {
        if numbers.last() != Some(&number) {
            numbers.push(number);
        }
        rows[label as usize] = numbers.len() as u32 - 1;
    }
    numbers.shrink_to_fit();
    (numbers, rows)
}

fn keep(
    chunks: &mut [Vec<ArrayRef>],
    features: &[(String, DataType)],
    batch: &RecordBatch,
) -> Result<(), Error> {
    for ((chunks, (name, kind)), column) in chunks.iter_mut().zip(features).zip(batch.columns()) {
        refuse_large(name, column)?;
        let column = if column.data_type() == kind {
            column.clone()
        } else {
            cast(column, kind).map_err(|error| Error::unreadable("column", format!("`{name}`: {error}")))?
        };
        chunks.push(column);
    }
    Ok(())
}

/// Refuses unsigned integers that nothing after this join could hold.
fn refuse_large(name: &str, column: &ArrayRef) -> Result<(), Error> {
    if let Some(values) = column.as_primitive_opt::<UInt64Type>()
        && let Some(large) = values.iter().flatten().find(|value| i64::try_from(*value).is_err())
    {
        return Err(Error::WrongType {
            column: name.to_owned(),
            found: format!("{large}, which is above 2⁶³ − 1,"),
            expected: "64-bit integers".to_owned(),
        });
    }
    Ok(())
}
