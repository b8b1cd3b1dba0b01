//! What a join writes: Parquet, Arrow IPC or CSV, chunk by chunk, whole or not at all.

use std::io::Write;
use std::path::Path;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::csv::Writer as CsvWriter;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::ipc::writer::FileWriter;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use crate::Error;
use crate::files::write_whole;

/// Labels written at once.
pub(super) const CHUNK: usize = 1 << 16;

/// An output file, open.
pub(super) struct Output<'a> {
    schema: SchemaRef,
    writer: Writer<'a>,
}

enum Writer<'a> {
    Parquet(Box<ArrowWriter<Sink<'a>>>),
    Arrow(Box<FileWriter<Sink<'a>>>),
    Csv(Box<CsvWriter<Sink<'a>>>),
}

type Sink<'a> = &'a mut (dyn Write + Send);

impl Output<'_> {
    /// Writes the file by `fill`, or leaves nothing.
    ///
    /// # Errors
    /// [`Error::File`], or what `fill` said.
    pub(super) fn write(
        path: &Path,
        schema: &SchemaRef,
        fill: impl FnOnce(&mut Output<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let extension = path.extension().map(std::ffi::OsStr::to_ascii_lowercase);
        write_whole(path, |sink| {
            let writer = match extension.as_ref().and_then(|extension| extension.to_str()) {
                Some("csv") => Writer::Csv(Box::new(CsvWriter::new(sink))),
                Some("arrow" | "ipc" | "feather") => {
                    Writer::Arrow(Box::new(FileWriter::try_new(sink, schema).map_err(unwritable)?))
                }
                _ => Writer::Parquet(Box::new(parquet(sink, schema)?)),
            };
            let mut output = Output { schema: schema.clone(), writer };
            fill(&mut output)?;
            output.finish()
        })
        .map(drop)
    }

    /// Writes some rows.
    ///
    /// # Errors
    /// [`Error::Unreadable`] if the format cannot hold them.
    pub(super) fn add(&mut self, columns: Vec<ArrayRef>) -> Result<(), Error> {
        let rows = columns.first().map_or(0, |column| column.len());
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch =
            RecordBatch::try_new_with_options(self.schema.clone(), columns, &options).map_err(unwritable)?;
        match &mut self.writer {
            Writer::Parquet(writer) => writer.write(&batch).map_err(unwritable),
            Writer::Arrow(writer) => writer.write(&batch).map_err(unwritable),
            Writer::Csv(writer) => writer.write(&batch).map_err(unwritable),
        }
    }

    fn finish(self) -> Result<(), Error> {
        match self.writer {
            Writer::Parquet(writer) => writer.close().map(drop).map_err(unwritable),
            Writer::Arrow(mut writer) => writer.finish().map_err(unwritable),
            Writer::Csv(mut writer) => {
                let nothing = RecordBatch::new_empty(self.schema);
                writer.write(&nothing).map_err(unwritable) // the header, if there was no row
            }
        }
    }
}

fn unwritable(error: impl std::fmt::Display) -> Error {
    Error::unreadable("output", error)
}

fn parquet<'a>(sink: Sink<'a>, schema: &SchemaRef) -> Result<ArrowWriter<Sink<'a>>, Error> {
    let level = ZstdLevel::try_new(1).map_err(unwritable)?;
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(CHUNK * 2));
    // Numbers and times rarely repeat: a dictionary of them costs time and is thrown away.
    for field in schema.fields() {
        let repeats = matches!(
            field.data_type(),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(..)
        );
        if !repeats {
            let column = ColumnPath::new(vec![field.name().clone()]);
            properties = properties.set_column_dictionary_enabled(column, false);
        }
    }
    ArrowWriter::try_new(sink, schema.clone(), Some(properties.build())).map_err(unwritable)
}
