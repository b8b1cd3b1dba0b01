//! Collecting: contents that nothing has named for a while are removed, and so are uploads that nobody finished.

use std::path::Path;
use std::time::Duration;

use chrono::TimeDelta;
use serde_json::json;
use service_kit::Context;
use service_kit::jobs::{Failure, Job, Outcome};
use storage::jobs::NewJob;
use storage::tracking::artifacts;
use tokio::fs;

use super::{Blobs, incoming};

/// Names the job; never renamed.
pub(crate) const KIND: &str = "collect-artifacts";

/// How many contents are removed in one transaction.
const AT_ONCE: i64 = 100;

/// How often the collector comes by.
const EVERY: Duration = Duration::from_secs(60 * 60);

/// Sees to it that the collector comes by until the context stops.
pub(crate) fn schedule(context: &Context) {
    let context = context.clone();
    context.tasks.clone().spawn(async move {
        loop {
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = context.stop.cancelled() => return,
            }
            if let Err(error) = enqueue(&context).await {
                tracing::warn!(%error, "the collection of artifacts could not be enqueued");
            }
        }
    });
}

/// Enqueues a collection, of all projects: contents belong to none. Of several processes that do, one job comes.
pub(crate) async fn enqueue(context: &Context) -> Result<(), storage::Error> {
    let job = NewJob {
        project: context.config.project.clone(),
        kind: KIND.to_owned(),
        payload: json!({}),
        dedup_key: Some(KIND.to_owned()),
        priority: -1,
        max_attempts: 5,
    };
    storage::jobs::enqueue(&mut *context.db.acquire().await?, &job).await?;
    Ok(())
}

/// Works on a collection.
pub(crate) async fn work(context: Context, job: Job) -> Result<Outcome, Failure> {
    let grace = TimeDelta::seconds(
        context.config.artifacts.keep_unreferenced_seconds.try_into().unwrap_or(i64::MAX / 1_000),
    );
    let blobs = Blobs::of(&context).map_err(|error| Failure::passing(error.to_string()))?;
    let before = context.clock.now() - grace;
    let mut removed = 0;
    while !job.cancelled.is_cancelled() {
        let mut tx = context.db.begin().await.map_err(storage::Error::from)?;
        let contents = artifacts::hold_unreferenced(&mut tx, before, AT_ONCE).await?;
        if contents.is_empty() {
            break;
        }
        for sha256 in &contents {
            blobs.remove(sha256).await.map_err(|error| Failure::passing(format!("{sha256}: {error}")))?;
        }
        artifacts::forget(&mut tx, &contents).await?;
        tx.commit().await.map_err(storage::Error::from)?;
        removed += contents.len();
    }
    let abandoned = abandoned(&incoming::folder(&context.data_dir), grace.to_std().unwrap_or_default()).await;
    let answer = json!({ "contents": removed, "abandoned_uploads": abandoned });
    Ok(Outcome { answer, next: vec![] })
}

/// Removes what has lain in the folder of arrivals for longer than `age` by the file system's own time.
async fn abandoned(folder: &Path, age: Duration) -> usize {
    let mut removed = 0;
    let Ok(mut entries) = fs::read_dir(folder).await else { return 0 };
    while let Ok(Some(entry)) = entries.next_entry().await {
        let Ok(metadata) = entry.metadata().await else { continue };
        let old = metadata.modified().is_ok_and(|time| time.elapsed().is_ok_and(|elapsed| elapsed > age));
        if old {
            let gone = if metadata.is_dir() {
                fs::remove_dir_all(entry.path()).await
            } else {
                fs::remove_file(entry.path()).await
            };
            removed += usize::from(gone.is_ok());
        }
    }
    removed
}
