//! Parquet files: row group by row group, only the columns asked, and only the groups and rows that are wanted.

use arrow::datatypes::SchemaRef;
use domain::expression::Bound;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::errors::ParquetError;

use super::{BATCH, Each, mask, projection, prune, reordered};
use crate::Error;
use crate::place::Bytes;

/// An open Parquet file.
#[derive(Debug)]
pub(super) struct File {
    bytes: Bytes,
    metadata: ArrowReaderMetadata,
}

fn unreadable(error: ParquetError) -> Error {
    Error::unreadable("Parquet file", error)
}

impl File {
    pub(super) fn open(bytes: Bytes) -> Result<Self, Error> {
        let metadata = ArrowReaderMetadata::load(&bytes, ArrowReaderOptions::new()).map_err(unreadable)?;
        refuse_impossible_sizes(&metadata, bytes.size())?;
        Ok(Self { bytes, metadata })
    }

    pub(super) fn schema(&self) -> SchemaRef {
        self.metadata.schema().clone()
    }

    pub(super) fn metadata(&self, key: &str) -> Option<String> {
        let entries = self.metadata.metadata().file_metadata().key_value_metadata()?;
        entries.iter().find(|entry| entry.key == key)?.value.clone()
    }

    pub(super) fn read(&self, columns: &[&str], bounds: &[Bound], each: &mut Each<'_>) -> Result<(), Error> {
        let wanted = prune::groups(&self.metadata, bounds);
        wanted.into_iter().try_for_each(|group| self.read_group(columns, group, None, each))
    }

    pub(super) fn read_places(
        &self,
        columns: &[&str],
        places: &[u64],
        each: &mut Each<'_>,
    ) -> Result<(), Error> {
        let mut start = 0;
        let mut rest = places;
        for group in 0..self.groups() {
            let rows = self.metadata.metadata().row_group(group).num_rows() as u64;
            let (here, later) = rest.split_at(rest.partition_point(|place| *place < start + rows));
            rest = later;
            if !here.is_empty() {
                let wanted = RowSelection::from_boolean_buffer(mask(here, start, rows as usize));
                self.read_group(columns, group, Some(wanted), each)?;
            }
            start += rows;
        }
        Ok(())
    }

    fn groups(&self) -> usize {
        self.metadata.metadata().num_row_groups()
    }

    fn read_group(
        &self,
        columns: &[&str],
        group: usize,
        wanted: Option<RowSelection>,
        each: &mut Each<'_>,
    ) -> Result<(), Error> {
        let (places, order) = projection(&self.schema(), columns)?;
        let builder =
            ParquetRecordBatchReaderBuilder::new_with_metadata(self.bytes.clone(), self.metadata.clone());
        let columns = ProjectionMask::roots(builder.parquet_schema(), places);
        let mut builder =
            builder.with_batch_size(BATCH).with_row_groups(vec![group]).with_projection(columns);
        if let Some(wanted) = wanted {
            builder = builder.with_row_selection(wanted);
        }
        for batch in builder.build().map_err(unreadable)? {
            let batch = batch.map_err(|error| Error::unreadable("Parquet file", error))?;
            each(reordered(&batch, &order)?)?;
        }
        Ok(())
    }
}

/// Refuses a file whose footer promises more bytes than there are, before anybody makes room for them.
fn refuse_impossible_sizes(metadata: &ArrowReaderMetadata, size: u64) -> Result<(), Error> {
    for group in metadata.metadata().row_groups() {
        let rows = group.num_rows();
        let columns = group.columns().iter();
        let fits = columns.clone().all(|column| {
            let (start, length) = column.byte_range();
            start.checked_add(length).is_some_and(|end| end <= size)
        });
        if rows < 0 || !fits {
            return Err(Error::unreadable("Parquet file", "its footer promises more than the file holds"));
        }
    }
    Ok(())
}
