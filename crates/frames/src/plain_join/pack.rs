//! Foreign files laid out as the offline store lays out its parts: by bucket, sorted, so that they are joined with less memory.

use std::path::Path;

use arrow::array::RecordBatch;

use super::lookup::tombstones;
use super::{Join, View, whole_times};
use crate::Error;
use crate::frame::Frame;
use crate::keys::Keys;
use crate::moments::{Reading, Rounding};
use crate::parts::{self, Bucket, WrittenPart};
use crate::scan::{Rows, Scan};
use crate::store::Store;
use crate::view::{ViewRows, ViewSchema};
use crate::wire::from_batch;

/// Writes the rows of a view as parts, one a bucket, into a folder; the files are read once a bucket, so that only one bucket
/// is in memory. Read them again with `event_time=__event_time,known_time=__known_time,seq=__seq,op=__op`.
///
/// # Errors
/// An error that names the file and the column that does not fit.
pub fn pack(view: &View, folder: &Path, buckets: u32) -> Result<Vec<WrittenPart>, Error> {
    if !buckets.is_power_of_two() || buckets > 4096 {
        return Err(Error::Join(format!(
            "{buckets} is no number of buckets; write a power of two up to 4096"
        )));
    }
    let join = Join::open(view)?;
    let store = Store::at(None, folder)?;
    let mut written = Vec::new();
    for number in 0..buckets {
        let bucket = Bucket { number, of: buckets };
        let (schema, rows) = rows_of(&join, bucket).map_err(Error::in_file(join.scan.name()))?;
        if rows.rows() > 0 {
            let name = format!("{number:04}-of-{buckets:04}.parquet");
            written.push(parts::write(&store, &name, &schema, &rows)?);
        }
    }
    Ok(written)
}

fn rows_of(join: &Join<'_>, bucket: Bucket) -> Result<(ViewSchema, ViewRows), Error> {
    let view = join.view;
    let keys: Vec<&str> = view.keys.iter().map(|key| key.view.as_str()).collect();
    let features = join.features.iter().map(|(name, _)| name.as_str());
    let columns: Vec<&str> = keys.iter().copied().chain(features).collect();
    let times = [Some(&view.event_time), view.known_time.as_ref(), view.op.as_ref()];
    let mut read: Vec<&str> = columns.clone();
    read.extend(times.into_iter().flatten().map(String::as_str));
    let empty = from_batch(&RecordBatch::new_empty(projected(&join.scan, &columns)?))?;
    let (key_columns, values) =
        empty.schema().into_iter().partition(|(name, _)| keys.contains(&name.as_str()));
    let schema = ViewSchema { keys: key_columns, values };
    let mut all = ViewRows::empty(&schema);
    join.scan.read(&read, |rows| {
        let batch = rows_in(view, &keys, &columns, &rows, bucket)?;
        all.append(&batch)
    })?;
    Ok((schema, all))
}

fn projected(scan: &Scan, columns: &[&str]) -> Result<arrow::datatypes::SchemaRef, Error> {
    let schema = scan.schema();
    let places = columns.iter().map(|name| schema.index_of(name)).collect::<Result<Vec<_>, _>>();
    let projected = places.and_then(|places| schema.project(&places));
    projected.map(Into::into).map_err(|error| Error::unreadable("schema", error))
}

/// The rows of a batch that fall in a bucket; their order in the files is their order of acceptance.
fn rows_in(
    view: &View,
    keys: &[&str],
    columns: &[&str],
    rows: &Rows,
    bucket: Bucket,
) -> Result<ViewRows, Error> {
    let reading = Reading { rounding: Rounding::Up, zone: view.zone };
    let column = |name: &String| rows.batch.column_by_name(name).expect("it was asked for");
    let event_time = whole_times(reading, &view.event_time, column(&view.event_time))?;
    let known_time = match &view.known_time {
        Some(name) => reading.micros(name, column(name))?,
        None => event_time.clone(),
    };
    let count = rows.batch.num_rows();
    let op = match &view.op {
        Some(name) => tombstones(name, column(name))?,
        None => vec![false; count],
    };
    let places: Vec<usize> =
        columns.iter().filter_map(|name| rows.batch.schema().index_of(name).ok()).collect();
    let projected = rows.batch.project(&places).map_err(|error| Error::unreadable("batch", error))?;
    let frame: Frame = from_batch(&projected)?;
    let encoded = Keys::of(&frame, keys)?;
    let wanted =
        |row: &usize| encoded.get(*row).is_some() && encoded.bucket(*row, bucket.of) == bucket.number;
    let kept: Vec<u32> = (0..count).filter(wanted).map(|row| row as u32).collect();
    let seq = (0..count as i64).map(|row| rows.first.cast_signed() + row).collect();
    Ok(ViewRows { frame, event_time, known_time, seq, op }.take(&kept))
}
