//! From the offline store into the online one: rows of a view's parts, merged under the guard that ingest uses, so that it
//! may run at any time and twice.

use chrono::{DateTime, Utc};
use domain::definitions::{Definitions, Shape, ViewVersion};
use frames::assemble::schema_of;
use frames::view::ViewRows;
use sqlx::PgConnection;

use crate::parts::{self, store_of};
use crate::{Error, FeatureStore};

/// Merges what a view's parts hold into its online table, as far as it happened in `between`; answers how many rows the table
/// took. The caller holds the project's ingest lock.
pub(crate) async fn fill(
    store: &FeatureStore,
    tx: &mut PgConnection,
    definitions: &Definitions,
    version: &ViewVersion,
    between: Option<(DateTime<Utc>, DateTime<Utc>)>,
    now: DateTime<Utc>,
) -> Result<u64, Error> {
    let Some(view) = definitions.feature_view(&version.view).filter(|view| view.shape() != Shape::Log) else {
        return Ok(0);
    };
    let schema = schema_of(definitions, view)?;
    let listed = storage::parts::of_view(tx, store.project(), &version.view, i64::MAX).await?;
    let mut taken = 0;
    for part in listed {
        if between.is_some_and(|(from, to)| part.max_event_time < from || part.min_event_time > to) {
            continue;
        }
        let (place, schema, view) = (store_of(&store.context)?, schema.clone(), view.clone());
        let revision = version.revision();
        let online = tokio::task::spawn_blocking(move || {
            let rows = within(&parts::read(&place, &schema, &[part])?, between, now);
            Ok::<_, Error>(rows.online(&schema, &view, revision, now.timestamp_micros())?)
        })
        .await??;
        taken += storage::online::merge(tx, version.id, version.layout.shape, &online).await?;
    }
    Ok(taken)
}

/// The rows that happened in `between`, and not after now.
fn within(rows: &ViewRows, between: Option<(DateTime<Utc>, DateTime<Utc>)>, now: DateTime<Utc>) -> ViewRows {
    let (from, to) =
        between.map_or((i64::MIN, i64::MAX), |(from, to)| (from.timestamp_micros(), to.timestamp_micros()));
    let to = to.min(now.timestamp_micros());
    let kept: Vec<u32> = (0..rows.rows())
        .filter(|&row| (from..=to).contains(&rows.event_time[row]))
        .map(|row| row as u32)
        .collect();
    rows.take(&kept)
}
