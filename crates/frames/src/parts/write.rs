//! Writing a part.

use std::sync::Arc;

use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use super::{EVENT_TIME, FORMAT, FORMAT_KEY, KNOWN_TIME, OP, SEQ};
use crate::Error;
use crate::frame::{Frame, Values};
use crate::store::Store;
use crate::view::{ViewRows, ViewSchema};
use crate::wire::to_batch;

/// Rows of one row group.
const GROUP: usize = 1 << 17;

/// What was written, as the manifest lists it. Times are in microseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenPart {
    /// Its SHA-256, in hex.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
    /// Its rows.
    pub rows: usize,
    /// The first and the last event.
    pub events: (i64, i64),
    /// The first and the last moment of knowledge.
    pub known: (i64, i64),
    /// The first and the last ingest.
    pub seqs: (i64, i64),
}

/// Writes rows, of which there is one at least, as one part: sorted, whole or not at all.
///
/// # Errors
/// [`Error::File`] or [`Error::Objects`].
pub fn write(store: &Store, path: &str, schema: &ViewSchema, rows: &ViewRows) -> Result<WrittenPart, Error> {
    let sorted = rows.sorted(schema)?;
    let ends = |times: &[i64]| {
        let first = times.iter().copied().min().unwrap_or_default();
        (first, times.iter().copied().max().unwrap_or_default())
    };
    let (events, known, seqs) = (ends(&sorted.event_time), ends(&sorted.known_time), ends(&sorted.seq));
    let count = sorted.rows();
    let frame = as_frame(sorted);
    let properties = properties(&frame)?;
    let batch = to_batch(&frame, false)?;
    drop(frame);
    let written = store.write(path, |sink| {
        let options = ArrowWriterOptions::new().with_properties(properties);
        let mut writer = ArrowWriter::try_new_with_options(sink, Arc::clone(batch.schema_ref()), options)
            .map_err(unwritable)?;
        writer.write(&batch).map_err(unwritable)?;
        writer.close().map(drop).map_err(unwritable)
    })?;
    Ok(WrittenPart { sha256: written.sha256, bytes: written.bytes, rows: count, events, known, seqs })
}

fn as_frame(rows: ViewRows) -> Frame {
    let count = rows.rows();
    let mut columns: Vec<(String, Values)> = vec![
        (EVENT_TIME.to_owned(), Values::Time(rows.event_time)),
        (KNOWN_TIME.to_owned(), Values::Time(rows.known_time)),
        (SEQ.to_owned(), Values::Integer(rows.seq)),
        (OP.to_owned(), Values::Boolean(rows.op.into_iter().map(Some).collect())),
    ];
    columns.extend(rows.frame.columns().iter().cloned());
    Frame::new(count, columns)
}

/// Integers and times of sorted rows differ by little; numbers rarely repeat; texts do.
fn properties(frame: &Frame) -> Result<WriterProperties, Error> {
    let level = ZstdLevel::try_new(1).map_err(unwritable)?;
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(GROUP))
        .set_key_value_metadata(Some(vec![KeyValue::new(FORMAT_KEY.to_owned(), FORMAT.to_string())]));
    for (name, values) in frame.columns() {
        let column = || ColumnPath::new(vec![name.clone()]);
        properties = match values {
            Values::Integer(_) | Values::Time(_) => properties
                .set_column_dictionary_enabled(column(), false)
                .set_column_encoding(column(), Encoding::DELTA_BINARY_PACKED),
            Values::Number(_) | Values::Boolean(_) | Values::Exact(_) => {
                properties.set_column_dictionary_enabled(column(), false)
            }
            Values::Text(..) => properties,
        };
    }
    Ok(properties.build())
}

fn unwritable(error: ParquetError) -> Error {
    Error::unreadable("part", error)
}
