//! From the offline store into the online one: rows of a view's parts, merged under the guard that ingest uses, so that it
//! may run at any time and twice.

use chrono::{DateTime, Utc};
use domain::definitions::{Definitions, Shape, ViewVersion};
use frames::assemble::schema_of;
use frames::view::ViewRows;
use serde::Deserialize;
use serde_json::json;
use service_kit::jobs::{Failure, Job, Outcome};
use sqlx::PgConnection;

use crate::parts::{self, store_of};
use crate::{Error, FeatureStore};

/// The job kind that brings a view's parts into its online table.
pub(crate) const JOB_KIND: &str = "materialize-view";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ViewJob {
    project: String,
    view: String,
}

/// Handles one job.
pub(crate) async fn run(store: FeatureStore, job: Job) -> Result<Outcome, Failure> {
    let ViewJob { project, view } = job.payload()?;
    if project != store.project() {
        return Err(Failure::last(format!("this process serves `{}`, not `{project}`", store.project())));
    }
    let taken = all_of(&store, &view).await?;
    Ok(Outcome { answer: json!({ "view": view, "rows": taken }), next: vec![] })
}

async fn all_of(store: &FeatureStore, view: &str) -> Result<u64, Error> {
    let mut tx = store.context.db.begin().await?;
    storage::features::lock_ingest(&mut tx, store.project()).await?;
    let catalogue = store.catalogues.exact(&mut tx, store.project()).await?;
    store.view(&catalogue, view)?;
    let version = crate::intake::version(&catalogue, view)?;
    let now = store.context.clock.now();
    let taken = fill(store, &mut tx, &catalogue.definitions, version, None, now).await?;
    tx.commit().await?;
    Ok(taken)
}

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
