//! The offline store's files: written first, made visible by their row in the manifest second.

use chrono::{DateTime, Utc};
use domain::ids::PartId;
use frames::store::Store;
use frames::view::{ViewRows, ViewSchema};
use service_kit::Context;
use sqlx::PgConnection;
use storage::parts::{Bucket, Part};

use crate::{Error, compact};

/// The rows that one ingest brings to one view.
pub(crate) struct Batch<'a> {
    /// The view.
    pub(crate) view: &'a str,
    /// Its version.
    pub(crate) version: i32,
    /// Its columns.
    pub(crate) schema: &'a ViewSchema,
    /// The rows; there is at least one.
    pub(crate) rows: &'a ViewRows,
}

/// File first, row second: writes the part, then makes it visible in the caller's transaction.
pub(crate) async fn store(
    tx: &mut PgConnection,
    context: &Context,
    batch: &Batch<'_>,
    seq: i64,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let project = context.config.project.as_str();
    let id = PartId::new();
    let path = format!("features/{project}/{}/v{}/{seq:012}-{id}.parquet", batch.view, batch.version);
    let (rows, schema) = (batch.rows.clone(), batch.schema.clone());
    let place = Place { view: batch.view.to_owned(), version: batch.version, bucket: None, level: 0 };
    let part = write(context, id, path, schema, rows, place).await?;
    storage::parts::publish(tx, project, &part, now).await?;
    if storage::parts::unmerged(tx, project, batch.view).await? >= compact::UNMERGED_PARTS {
        compact::enqueue(tx, context, batch.view).await?;
    }
    Ok(())
}

/// Where a part stands among the parts of its view.
pub(crate) struct Place {
    pub(crate) view: String,
    pub(crate) version: i32,
    pub(crate) bucket: Option<frames::parts::Bucket>,
    pub(crate) level: i32,
}

/// Writes a part's file; answers the row that would make it visible.
pub(crate) async fn write(
    context: &Context,
    id: PartId,
    path: String,
    schema: ViewSchema,
    rows: ViewRows,
    place: Place,
) -> Result<Part, Error> {
    let store = store_of(context)?;
    let schema_hash = frames::parts::schema_hash(&schema);
    let file = path.clone();
    let written =
        tokio::task::spawn_blocking(move || frames::parts::write(&store, &file, &schema, &rows)).await??;
    Ok(Part {
        id,
        view: place.view,
        view_version: place.version,
        format: frames::parts::FORMAT,
        bucket: place.bucket.map(|bucket| Bucket { number: bucket.number as i32, of: bucket.of as i32 }),
        level: place.level,
        min_seq: written.seqs.0,
        seq: written.seqs.1,
        path,
        sha256: written.sha256,
        size_bytes: written.bytes as i64,
        rows: written.rows as i64,
        min_event_time: instant(written.events.0),
        max_event_time: instant(written.events.1),
        min_known_time: Some(instant(written.known.0)),
        max_known_time: instant(written.known.1),
        schema_hash: Some(schema_hash),
    })
}

/// Where parts and training sets lie.
pub(crate) fn store_of(context: &Context) -> Result<Store, Error> {
    Ok(Store::at(context.config.offline.url.as_deref(), &context.data_dir)?)
}

/// A row of the manifest as the reader of files wants it.
pub(crate) fn readable(part: &Part) -> frames::parts::Part {
    frames::parts::Part {
        path: part.path.clone(),
        bucket: part.bucket.map_or(frames::parts::Bucket::ALL, |bucket| frames::parts::Bucket {
            number: bucket.number as u32,
            of: bucket.of as u32,
        }),
        seqs: (part.min_seq, part.seq),
        events: (part.min_event_time.timestamp_micros(), part.max_event_time.timestamp_micros()),
        min_known: part.min_known_time.map(|known| known.timestamp_micros()),
    }
}

/// Microseconds as an instant; what no calendar holds is the last one.
pub(crate) fn instant(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap_or(DateTime::<Utc>::MAX_UTC)
}
