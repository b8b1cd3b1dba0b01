//! Is what was served what the offline store says? A sample of served values is logged to Arrow files, and recomputed by the
//! join that training sets use, under the knowledge that could be seen when they were served.
//!
//! Which entities are sampled depends on the hash of their key alone, so the same ones are followed over time and across
//! processes. A served value is compared as it was written, digit by digit, and so is its status.
//!
//! What a check costs does not grow with what is served or stored: a view gives it at most [`sampler::ANSWERS`] answers, and of a
//! large view it reads one bucket, row group by row group, and keeps the rows of sampled entities.

mod recompute;
mod sampler;

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use chrono::TimeDelta;
use domain::ids::ServedSampleId;
use serde_json::{Value, json};
use service_kit::Problem;
use storage::parity::{Parity, Sample};

pub(crate) use sampler::Sampler;

use crate::{Error, FeatureStore};

/// How often samples are written and recomputed.
const EVERY: Duration = Duration::from_secs(60);

/// Writes and checks samples until the context stops.
pub(crate) fn start(store: &FeatureStore) {
    let store = store.clone();
    store.context.tasks.clone().spawn(async move {
        loop {
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = store.context.stop.cancelled() => break,
            }
            if let Err(error) = check(&store).await {
                tracing::warn!(%error, "served samples could not be checked; they wait for the next time");
            }
        }
        if let Err(error) = flush(&store).await {
            tracing::warn!(%error, "served samples could not be written");
        }
    });
}

/// Writes and checks what is there now.
pub(crate) async fn check_now(State(store): State<FeatureStore>) -> Result<Json<Vec<Parity>>, Problem> {
    Ok(Json(check(&store).await?))
}

/// What the last day's recomputations found.
pub(crate) async fn show(State(store): State<FeatureStore>) -> Result<Json<Value>, Problem> {
    let mut conn = store.context.db.acquire().await.map_err(storage::Error::from)?;
    let since = store.context.clock.now() - TimeDelta::days(1);
    let features = storage::parity::since(&mut conn, store.project(), since).await?;
    Ok(Json(json!({ "since": since, "features": features })))
}

async fn check(store: &FeatureStore) -> Result<Vec<Parity>, Error> {
    flush(store).await?;
    let mut all = Vec::new();
    loop {
        let mut tx = store.context.db.begin().await?;
        let Some(sample) = storage::parity::take(&mut tx, store.project()).await? else { return Ok(all) };
        let now = store.context.clock.now();
        let found = recompute::recompute(store, &mut tx, &sample).await?;
        for parity in &found {
            storage::parity::record(&mut tx, store.project(), parity, now).await?;
        }
        storage::parity::checked(&mut tx, sample.id, now).await?;
        tx.commit().await?;
        store.remove_file(&sample.path).await;
        found.iter().for_each(|parity| publish(store, parity));
        all.extend(found);
    }
}

fn publish(store: &FeatureStore, parity: &Parity) {
    let count = |how: &str, values: i64| {
        let labels = [parity.view.as_str(), parity.feature.as_str(), how];
        store.metrics.parity.with_label_values(&labels).inc_by(values.max(0).cast_unsigned());
    };
    let wrong = parity.mismatched + parity.missing + parity.extra;
    count("equal", parity.compared - wrong);
    count("mismatch", parity.mismatched);
    count("missing", parity.missing);
    count("extra", parity.extra);
}

/// Writes what waits, one file a view version, and makes it known.
async fn flush(store: &FeatureStore) -> Result<(), Error> {
    for ((view, version), records) in store.sampler.drain() {
        let id = ServedSampleId::new();
        let path = format!("served/{}/{view}/v{version}/{id}.arrow", store.project());
        let (file, rows) = (store.context.data_dir.join(&path), records.len() as i64);
        let frame = sampler::to_frame(&records);
        let written =
            tokio::task::spawn_blocking(move || frames::files::write_arrow(&file, &frame)).await??;
        let sample = Sample { id, view, version, path, sha256: written.sha256, rows };
        let mut conn = store.context.db.acquire().await?;
        storage::parity::publish(&mut conn, store.project(), &sample, store.context.clock.now()).await?;
    }
    Ok(())
}
