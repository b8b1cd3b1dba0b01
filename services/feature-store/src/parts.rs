//! The offline store's files: the part of one ingest, written before the row that makes it visible.

use chrono::{DateTime, Utc};
use domain::ids::PartId;
use frames::view::{ViewRows, ViewSchema};
use service_kit::Context;
use sqlx::PgConnection;
use storage::parts::Part;

use crate::Error;

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
    let file = context.data_dir.join(&path);
    let (rows, schema) = (batch.rows.clone(), batch.schema.clone());
    let written = tokio::task::spawn_blocking(move || rows.write_part(&schema, &file)).await??;
    let at = |micros: Option<&i64>| instant(micros.copied().unwrap_or_default());
    let part = Part {
        id,
        view: batch.view.to_owned(),
        view_version: batch.version,
        format: 1,
        bucket: None,
        level: 0,
        min_seq: seq,
        seq,
        path,
        sha256: written.sha256,
        size_bytes: written.bytes as i64,
        rows: batch.rows.rows() as i64,
        min_event_time: at(batch.rows.event_time.iter().min()),
        max_event_time: at(batch.rows.event_time.iter().max()),
        min_known_time: Some(at(batch.rows.known_time.iter().min())),
        max_known_time: at(batch.rows.known_time.iter().max()),
        schema_hash: None,
    };
    storage::parts::publish(tx, project, &part, now).await?;
    Ok(())
}

/// Microseconds as an instant; what no calendar holds is the last one.
pub(crate) fn instant(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap_or(DateTime::<Utc>::MAX_UTC)
}
