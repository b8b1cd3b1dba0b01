//! Letting go of online events that no window reaches any more, and of files that nobody names. A merge lets go of events of
//! the keys that it touches; this does it for those that nothing touches again.

use std::time::Duration;

use crate::{Error, FeatureStore, orphans};

/// How often all event tables and folders are looked through.
const EVERY: Duration = Duration::from_secs(3_600);

/// Sweeps until the context stops.
pub(crate) fn start(store: &FeatureStore) {
    let store = store.clone();
    store.context.tasks.clone().spawn(async move {
        loop {
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = store.context.stop.cancelled() => return,
            }
            match sweep(&store).await {
                Ok(0) => {}
                Ok(rows) => tracing::info!(rows, "let go of online events that no window reaches"),
                Err(error) => {
                    tracing::warn!(%error, "online events could not be swept; the next hour tries again");
                }
            }
            if let Err(error) = orphans::collect(&store.context).await {
                tracing::warn!(%error, "files that no row names could not be removed; the next hour tries again");
            }
        }
    });
}

/// Takes away what is past the longest window of each view; answers how many rows that were.
pub(crate) async fn sweep(store: &FeatureStore) -> Result<u64, Error> {
    let catalogue = store.catalogue().await?;
    let now = store.context.clock.now();
    let mut conn = store.context.db.acquire().await?;
    let mut rows = 0;
    for version in catalogue.views.values() {
        let Some(memory) = version.layout.memory else { continue };
        let horizon = now - chrono::TimeDelta::microseconds(memory);
        rows += storage::online::forget(&mut conn, version.id, horizon).await?;
    }
    Ok(rows)
}
