//! Files that no row names: what an ingest, a merge, an erasure or a training set had written when it was killed.
//!
//! Of a file that nobody names nothing says whether its writer is dead or slow. But its name holds an id, and the id says when
//! the writing began. So a writer may only show what it [began in time](in_time), and a file is taken away when it is twice as
//! old as that: whoever still writes it could not show it any more. What bears no id of ours is left alone.

use chrono::{DateTime, TimeDelta, Utc};
use service_kit::Context;

use crate::parts::store_of;
use crate::{Error, metrics};

/// Where files that rows name lie.
const FOLDERS: [&str; 2] = ["features", "training-sets"];

/// Refuses to show a file whose writing began so long ago that it may be taken for one that nobody needs.
///
/// # Errors
/// [`Error::TooSlow`].
pub(crate) fn in_time(context: &Context, began: Option<DateTime<Utc>>) -> Result<(), Error> {
    let limit = keep(context) / 2;
    let late = began.is_none_or(|began| context.machine_clock.now() - began > limit);
    if late { Err(Error::TooSlow { minutes: limit.num_minutes() }) } else { Ok(()) }
}

/// How long a file that no row names is kept.
fn keep(context: &Context) -> TimeDelta {
    let seconds = context.config.offline.keep_unlisted_seconds;
    TimeDelta::try_seconds(seconds.try_into().unwrap_or(i64::MAX)).unwrap_or(TimeDelta::MAX)
}

/// Removes the project's files that no row names and no writer can show any more; answers how many.
///
/// # Errors
/// If the files cannot be listed or removed, or the database refuses.
pub async fn collect(context: &Context) -> Result<usize, Error> {
    let mut removed = 0;
    for folder in FOLDERS {
        let old = old_files(context, folder).await?;
        let mut conn = context.db.acquire().await?;
        // Listed first and compared second: what was shown in between is named by now.
        let orphans = storage::parts::unlisted(&mut conn, &old).await?;
        drop(conn);
        for path in &orphans {
            let (store, file) = (store_of(context)?, path.clone());
            tokio::task::spawn_blocking(move || store.remove(&file)).await??;
            tracing::info!(path, "removed a file that no row names");
        }
        metrics::Metrics::of(context).orphans.with_label_values(&[folder]).inc_by(orphans.len() as u64);
        removed += orphans.len();
    }
    Ok(removed)
}

/// The files that are so old that, if no row names them, none ever will.
async fn old_files(context: &Context, folder: &str) -> Result<Vec<String>, Error> {
    let (store, under) = (store_of(context)?, format!("{folder}/{}", context.config.project));
    let listed = tokio::task::spawn_blocking(move || store.list(&under)).await??;
    let now = context.machine_clock.now();
    let keep = keep(context);
    let is_old = |path: &String| began(path).is_some_and(|began| now - began > keep);
    Ok(listed.into_iter().filter(is_old).collect())
}

/// When the writing of a file began: what the id in its name says. Also of a name that a file had while it was written.
fn began(path: &str) -> Option<DateTime<Utc>> {
    const ID: usize = 36;
    let name = path.rsplit('/').next()?;
    let id = (0..name.len().checked_sub(ID)? + 1).find_map(|at| name.get(at..at + ID)?.parse().ok());
    id.and_then(|id: domain::ids::PartId| id.made_at())
}

#[cfg(test)]
mod tests {
    use domain::ids::PartId;

    use super::*;

    #[test]
    fn a_name_says_when_its_file_was_begun_and_a_foreign_name_says_nothing() {
        let id = PartId::new();
        let names = [
            format!("features/p/v/v1/000000000012-{id}.parquet"),
            format!("features/p/v/v1/003-of-016/l1-{id}.parquet"),
            format!("features/p/v/v1/003-of-016/.l1-{id}.parquet.4711.tmp"),
            format!("training-sets/p/d/{id}.history.arrow"),
        ];
        for name in names {
            assert_eq!(began(&name), id.made_at(), "{name}");
        }
        assert!(id.made_at().is_some());
        for name in ["features/p/v/v1/mine.parquet", "f/6ba7b810-9dad-41d1-80b4-00c04fd430c8.parquet", ""] {
            assert_eq!(began(name), None, "{name}");
        }
    }
}
