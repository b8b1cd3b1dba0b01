//! CSV and TSV files with a header. Types are guessed from the first rows; times are always texts, which whoever knows them to
//! be times reads with their offset.

use std::io::BufReader;
use std::sync::Arc;

use arrow::csv::ReaderBuilder;
use arrow::csv::reader::Format;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;

use super::{BATCH, Each, projection, reordered};
use crate::Error;
use crate::place::Bytes;

/// How many rows types are guessed from.
const GUESSED_FROM: usize = 10_000;

/// An open CSV file.
#[derive(Debug)]
pub(super) struct File {
    bytes: Bytes,
    schema: SchemaRef,
    delimiter: u8,
}

fn unreadable(error: &ArrowError) -> Error {
    Error::unreadable("CSV file", format!("{error} (types are guessed from its first {GUESSED_FROM} rows)"))
}

impl File {
    pub(super) fn open(bytes: Bytes, delimiter: u8, texts: &[&str]) -> Result<Self, Error> {
        let format = Format::default().with_header(true).with_delimiter(delimiter);
        let (guessed, _) = format
            .infer_schema(BufReader::new(bytes.reader()), Some(GUESSED_FROM))
            .map_err(|error| unreadable(&error))?;
        let fields: Vec<Field> = guessed
            .fields()
            .iter()
            .map(|field| {
                let text = texts.contains(&field.name().as_str())
                    || matches!(field.data_type(), DataType::Timestamp(..) | DataType::Null);
                let kind = if text { DataType::Utf8 } else { field.data_type().clone() };
                Field::new(field.name(), kind, true)
            })
            .collect();
        Ok(Self { bytes, schema: Arc::new(Schema::new(fields)), delimiter })
    }

    pub(super) fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    pub(super) fn read(&self, columns: &[&str], each: &mut Each<'_>) -> Result<(), Error> {
        let (places, order) = projection(&self.schema, columns)?;
        let reader = ReaderBuilder::new(self.schema.clone())
            .with_header(true)
            .with_delimiter(self.delimiter)
            .with_batch_size(BATCH)
            .with_projection(places)
            .build(BufReader::new(self.bytes.reader()))
            .map_err(|error| unreadable(&error))?;
        for batch in reader {
            each(reordered(&batch.map_err(|error| unreadable(&error))?, &order)?)?;
        }
        Ok(())
    }
}
