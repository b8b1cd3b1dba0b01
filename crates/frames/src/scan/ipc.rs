//! Arrow IPC files, batch by batch.

use std::io::BufReader;

use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::FileReader;

use super::{BATCH, Each, projection, reordered};
use crate::Error;
use crate::place::Bytes;

/// An open Arrow IPC file.
#[derive(Debug)]
pub(super) struct File {
    bytes: Bytes,
    schema: SchemaRef,
}

fn unreadable(error: ArrowError) -> Error {
    Error::unreadable("Arrow file", error)
}

impl File {
    pub(super) fn open(bytes: Bytes) -> Result<Self, Error> {
        let schema = FileReader::try_new(BufReader::new(bytes.reader()), None).map_err(unreadable)?.schema();
        Ok(Self { bytes, schema })
    }

    pub(super) fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    pub(super) fn read(&self, columns: &[&str], each: &mut Each<'_>) -> Result<(), Error> {
        let (places, order) = projection(&self.schema, columns)?;
        let reader =
            FileReader::try_new(BufReader::new(self.bytes.reader()), Some(places)).map_err(unreadable)?;
        for batch in reader {
            let batch = reordered(&batch.map_err(unreadable)?, &order)?;
            for start in (0..batch.num_rows()).step_by(BATCH) {
                each(batch.slice(start, BATCH.min(batch.num_rows() - start)))?;
            }
        }
        Ok(())
    }
}
