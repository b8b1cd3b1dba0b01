//! The offline store's files: written first, made visible by their row in the manifest second.

use chrono::{DateTime, Utc};
use domain::definitions::ViewVersion;
use domain::ids::PartId;
use frames::parts::Selection;
use frames::store::Store;
use frames::view::{ViewRows, ViewSchema};
use service_kit::Context;
use sqlx::PgConnection;
use storage::parts::{Bucket, Part};
use tokio::task::JoinHandle;

use crate::{Error, compact, orphans};

/// Begins to write the rows that an ingest brings to a view; nobody sees the file until [`show`] commits its row.
pub(crate) fn begin(
    context: &Context,
    version: &ViewVersion,
    schema: ViewSchema,
    rows: ViewRows,
    seq: i64,
) -> JoinHandle<Result<Part, Error>> {
    let id = PartId::new();
    let (project, view) = (&context.config.project, &version.view);
    let path = format!("features/{project}/{view}/v{}/{seq:012}-{id}.parquet", version.version);
    let place = Place { view: view.clone(), version: version.version, bucket: None, level: 0 };
    let context = context.clone();
    tokio::spawn(async move { write(&context, id, path, schema, rows, place).await })
}

/// Makes a written part visible in the caller's transaction, and asks for a merge if there are many.
pub(crate) async fn show(
    tx: &mut PgConnection,
    context: &Context,
    part: &Part,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let project = context.config.project.as_str();
    publish(tx, context, project, part, now).await?;
    if storage::parts::unmerged(tx, project, &part.view).await? >= compact::UNMERGED_PARTS {
        compact::enqueue(tx, context, &part.view).await?;
    }
    Ok(())
}

/// Makes a written part visible in the caller's transaction, if it was [written in time](crate::orphans).
pub(crate) async fn publish(
    tx: &mut PgConnection,
    context: &Context,
    project: &str,
    part: &Part,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    orphans::in_time(context, part.id.made_at())?;
    Ok(storage::parts::publish(tx, project, part, now).await?)
}

/// All rows of these parts, as the view has them now.
pub(crate) fn read(store: &Store, schema: &ViewSchema, parts: &[Part]) -> Result<ViewRows, Error> {
    let parts: Vec<_> = parts.iter().map(readable).collect();
    Ok(frames::parts::read(store, schema, &parts, &Selection::up_to(i64::MAX))?)
}

/// Writes what takes a part's place: fewer rows of the same bucket and level.
pub(crate) async fn successor(
    context: &Context,
    version: &ViewVersion,
    old: &Part,
    schema: ViewSchema,
    rows: ViewRows,
) -> Result<Part, Error> {
    let id = PartId::new();
    let folder = old.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let path = format!("{folder}/{:012}-{id}.parquet", old.seq);
    let place = Place {
        view: version.view.clone(),
        version: version.version,
        bucket: Some(readable(old).bucket).filter(|_| old.bucket.is_some()),
        level: old.level,
    };
    write(context, id, path, schema, rows, place).await
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
