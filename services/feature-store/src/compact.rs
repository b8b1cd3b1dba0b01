//! Merging parts: many small ones become few, cut by bucket and sorted; every version stays until its view's retention.
//!
//! A merge writes its files, then one transaction takes the old rows out of the manifest and puts the new ones in: killed
//! anywhere, it leaves the manifest as it was or as it shall be, and at worst files that nobody lists, which
//! [`crate::orphans`] collects. Replaced files stay on disk until no lease of a reader is older than their replacement.
//!
//! Levels: what ingests wrote is level 0 and of every bucket; eight parts of one level and bucket make one of the next. A job merges
//! what was there when it began: whoever ingests all the time keeps no merge from ending, and no level from its turn.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::definitions::{FeatureView, Object, Shape};
use domain::ids::{JobId, PartId};
use frames::parts::{Bucket, Kept, Selection, buckets_for};
use frames::view::{ViewRows, ViewSchema};
use serde::{Deserialize, Serialize};
use serde_json::json;
use service_kit::Context;
use service_kit::jobs::{Failure, Job, Outcome};
use sqlx::PgConnection;
use storage::jobs::NewJob;
use storage::parts::Part;

use crate::Error;
use crate::parts::{Place, publish, readable, store_of, write};

/// The job kind that merges the parts of a view.
pub const JOB_KIND: &str = "compact-view";
/// The job kind that lets go of a view's old versions.
pub const RETAIN_KIND: &str = "retain-view";

/// So many parts of one level and bucket are merged; as many unmerged ones start a job.
const FAN_IN: usize = 8;
/// An ingest that makes it so many unmerged parts enqueues a merge.
pub(crate) const UNMERGED_PARTS: i64 = FAN_IN as i64;
/// Memory for the rows that one merge takes in, unless a single pair needs more: merges run beside ingests and reads.
const BYTES_AT_ONCE: i64 = 64 << 20;
/// Retention is looked at so often.
const RETENTION_EVERY: Duration = Duration::from_secs(6 * 3600);

/// Which view to merge.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ViewJob {
    project: String,
    view: String,
}

/// What was done to the parts of a view.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Done {
    /// Parts that were replaced.
    pub replaced: usize,
    /// Parts that took their place.
    pub written: usize,
    /// Versions that were let go.
    pub rows_dropped: i64,
    /// Files that were removed, because nobody reads them any more.
    pub removed: usize,
}

/// Enqueues a merge of a view, unless one waits already.
pub(crate) async fn enqueue(
    conn: &mut PgConnection,
    context: &Context,
    view: &str,
) -> Result<JobId, storage::Error> {
    let job = job(JOB_KIND, &context.config.project, view);
    storage::jobs::enqueue(conn, &job).await
}

fn job(kind: &str, project: &str, view: &str) -> NewJob {
    NewJob {
        project: project.to_owned(),
        kind: kind.to_owned(),
        payload: json!(ViewJob { project: project.to_owned(), view: view.to_owned() }),
        dedup_key: Some(view.to_owned()),
        priority: -1, // training sets do not wait for it
        max_attempts: 5,
    }
}

/// Handles a merge; lets old versions go afterwards, if the view has a retention.
pub(crate) async fn run(context: Context, job: Job) -> Result<Outcome, Failure> {
    let ViewJob { project, view } = job.payload()?;
    let done = compact_view(&context, &project, &view).await?;
    let definitions = load(&context, &project).await?;
    let retains = definitions.feature_view(&view).is_some_and(|view| view.retention.is_some());
    let next = retains.then(|| self::job(RETAIN_KIND, &project, &view));
    Ok(Outcome { answer: json!(done), next: next.into_iter().collect() })
}

/// Handles a retention.
pub(crate) async fn run_retention(context: Context, job: Job) -> Result<Outcome, Failure> {
    let ViewJob { project, view } = job.payload()?;
    let done = retain_view(&context, &project, &view).await?;
    Ok(Outcome { answer: json!(done), next: vec![] })
}

/// Enqueues the retention of every view that has one, now and from time to time: a view that gets no rows grows old too.
pub(crate) async fn watch_retention(context: Context) {
    let mut ticks = tokio::time::interval(RETENTION_EVERY);
    loop {
        tokio::select! {
            () = context.stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if let Err(error) = enqueue_retention(&context).await {
            tracing::warn!(%error, "the retention of views could not be enqueued; it is tried again later");
        }
    }
}

async fn enqueue_retention(context: &Context) -> Result<(), Error> {
    let project = &context.config.project;
    let definitions = load(context, project).await?;
    let retained = definitions.objects().filter_map(|located| match &located.object {
        Object::FeatureView(view) if view.retention.is_some() => Some(view.name.as_str()),
        _ => None,
    });
    let mut conn = context.db.acquire().await?;
    for view in retained {
        let job = job(RETAIN_KIND, project, view);
        storage::jobs::enqueue(&mut conn, &job).await?;
    }
    Ok(())
}

async fn load(context: &Context, project: &str) -> Result<domain::definitions::Definitions, Error> {
    let mut conn = context.db.acquire().await?;
    Ok(storage::definitions::load(&mut conn, project).await?)
}

/// Merges the parts that a view has now until no merge is due, then removes the files that nobody reads any more.
///
/// # Errors
/// If a part cannot be read or written, or another merge came between.
pub async fn compact_view(context: &Context, project: &str, view: &str) -> Result<Done, Error> {
    let definitions = load(context, project).await?;
    let schema = schema(&definitions, view, project)?;
    let mut done = Done::default();
    let mut parts = live(context, project, view).await?;
    let until = latest(&parts);
    while let Some(merge) = due(&parts, until, BYTES_AT_ONCE / schema.row_bytes()) {
        let inputs: Vec<Part> = merge.inputs.iter().map(|&place| parts[place].clone()).collect();
        rewrite(context, project, &schema, &inputs, &merge, None, &mut done).await?;
        parts = live(context, project, view).await?;
    }
    done.removed = sweep(context, project).await?;
    Ok(done)
}

/// Lets go of a view's versions that are past its retention, bucket by bucket. The newest of a key among the parts that are merged is
/// kept even if rows that came meanwhile are newer.
///
/// # Errors
/// As [`compact_view`].
pub async fn retain_view(context: &Context, project: &str, view: &str) -> Result<Done, Error> {
    let definitions = load(context, project).await?;
    let schema = schema(&definitions, view, project)?;
    let Some(kept) = definitions.feature_view(view).and_then(|view| kept(view, context.clock.now())) else {
        return Ok(Done::default());
    };
    let until = latest(&live(context, project, view).await?);
    let mut done = compact_view(context, project, view).await?;
    let mut parts = live(context, project, view).await?;
    parts.retain(|part| part.level > 0 || part.seq <= until); // what came meanwhile lies across all buckets: the next time's
    for (version, inputs) in by_version(&parts) {
        let of = buckets_of(&inputs);
        for number in 0..of {
            let bucket = Bucket { number, of };
            let inputs: Vec<Part> =
                inputs.iter().filter(|part| readable(part).bucket.meets(bucket)).cloned().collect();
            let old = inputs.iter().any(|part| part.min_event_time.timestamp_micros() < kept.since);
            let whole = inputs.iter().all(|part| readable(part).bucket.within(bucket));
            if old && whole {
                let level = inputs.iter().map(|part| part.level).max().unwrap_or(1);
                let merge = Merge { inputs: vec![], version, level, of };
                rewrite(context, project, &schema, &inputs, &merge, Some(kept), &mut done).await?;
            }
        }
    }
    done.removed += sweep(context, project).await?;
    Ok(done)
}

/// What of a view is kept at `now`; `None` if it is all kept. A window that is longer than the retention keeps its rows.
fn kept(view: &FeatureView, now: DateTime<Utc>) -> Option<Kept> {
    let retention = view.retention?.micros().max(view.memory().map_or(0, domain::Horizon::micros));
    let now = now.timestamp_micros();
    let newest_since = view.max_age.map_or(i64::MIN, |oldest| now.saturating_sub(oldest.micros()));
    Some(Kept {
        since: now.saturating_sub(retention),
        newest_since: (view.shape() == Shape::Latest).then_some(newest_since),
    })
}

fn schema(
    definitions: &domain::definitions::Definitions,
    view: &str,
    project: &str,
) -> Result<ViewSchema, Error> {
    let undefined = || Error::undefined(definitions, "feature_view", view, project);
    let declared = definitions.feature_view(view).ok_or_else(undefined)?;
    Ok(frames::assemble::schema_of(definitions, declared)?)
}

async fn live(context: &Context, project: &str, view: &str) -> Result<Vec<Part>, Error> {
    let mut conn = context.db.acquire().await?;
    Ok(storage::parts::of_view(&mut conn, project, view, i64::MAX).await?)
}

/// Which parts become one a bucket.
#[derive(Debug, PartialEq, Eq)]
struct Merge {
    /// Their places in the list.
    inputs: Vec<usize>,
    version: i32,
    /// The level of what is written.
    level: i32,
    /// Into how many buckets it is cut.
    of: u32,
}

/// The number of the last ingest into these parts.
fn latest(parts: &[Part]) -> i64 {
    parts.iter().map(|part| part.seq).max().unwrap_or_default()
}

/// The next merge that is due: unmerged parts of ingests `until` one first, then parts of fewer buckets than the view should have, then
/// full levels. It takes in `most` rows.
fn due(parts: &[Part], until: i64, most: i64) -> Option<Merge> {
    by_version(parts).into_iter().find_map(|(version, of_version)| {
        let of = buckets_of(&of_version);
        let place = |part: &Part| parts.iter().position(|other| other.id == part.id);
        let merge = |inputs: Vec<&Part>, level: i32| Merge {
            inputs: at_once(&inputs, most).into_iter().filter_map(place).collect(),
            version,
            level,
            of,
        };
        let unmerged: Vec<&Part> =
            of_version.iter().filter(|part| part.level == 0 && part.seq <= until).collect();
        if unmerged.len() > 1 || (of > 1 && !unmerged.is_empty()) {
            return Some(merge(unmerged, 1));
        }
        let mut levels: BTreeMap<(i32, Option<i32>, i32), Vec<&Part>> = BTreeMap::new();
        for part in of_version.iter().filter(|part| part.level > 0) {
            let bucket = readable(part).bucket;
            if bucket.of < of {
                return Some(merge(vec![part], part.level));
            }
            levels.entry((part.level, Some(bucket.number as i32), bucket.of as i32)).or_default().push(part);
        }
        let full = levels.into_iter().find(|(_, parts)| parts.len() >= FAN_IN);
        full.map(|((level, ..), parts)| merge(parts, level + 1))
    })
}

/// As many of these parts as hold `most` rows, but two at least if there are two.
fn at_once<'a>(parts: &[&'a Part], most: i64) -> Vec<&'a Part> {
    let mut rows = 0;
    let fits = |part: &&&Part| {
        rows += part.rows;
        rows <= most
    };
    let count = parts.iter().take_while(fits).count().max(2).min(parts.len());
    parts[..count].to_vec()
}

fn by_version(parts: &[Part]) -> BTreeMap<i32, Vec<Part>> {
    let mut versions: BTreeMap<i32, Vec<Part>> = BTreeMap::new();
    for part in parts {
        versions.entry(part.view_version).or_default().push(part.clone());
    }
    versions
}

/// Into how many buckets these parts should be cut: by their rows, but never fewer than they were already.
fn buckets_of(parts: &[Part]) -> u32 {
    let cut = parts.iter().map(|part| readable(part).bucket.of).max().unwrap_or(1);
    buckets_for(parts.iter().map(|part| part.rows).sum()).max(cut)
}

/// Reads `inputs`, writes their rows anew, and swaps one for the other. With `kept`, the inputs hold all rows of their keys,
/// and nothing happens if no row would go.
async fn rewrite(
    context: &Context,
    project: &str,
    schema: &ViewSchema,
    inputs: &[Part],
    merge: &Merge,
    kept: Option<Kept>,
    done: &mut Done,
) -> Result<(), Error> {
    let Some(view) = inputs.first().map(|part| part.view.clone()) else { return Ok(()) };
    let files: Vec<_> = inputs.iter().map(readable).collect();
    let (store, schema, of) = (store_of(context)?, schema.clone(), merge.of);
    let (schema, pieces, dropped) = tokio::task::spawn_blocking(move || -> Result<_, Error> {
        let schema = frames::parts::widest(&store, &schema, &files)?;
        let (pieces, dropped) = match kept {
            Some(kept) => {
                let all = frames::parts::read(&store, &schema, &files, &Selection::up_to(i64::MAX))?;
                let rows = frames::parts::drop_old(&schema, &all, kept)?;
                (frames::parts::cut(&schema, &rows, of)?, all.rows() - rows.rows())
            }
            None => (frames::parts::read_cut(&store, &schema, &files, of)?, 0),
        };
        Ok((schema, pieces, dropped as i64))
    })
    .await??;
    if kept.is_some() && dropped == 0 {
        return Ok(());
    }
    let outputs = write_all(context, project, &view, &schema, pieces, merge).await?;
    swap(context, project, inputs, &outputs).await?;
    tracing::info!(view, replaced = inputs.len(), written = outputs.len(), dropped, "merged parts");
    done.replaced += inputs.len();
    done.written += outputs.len();
    done.rows_dropped += dropped;
    Ok(())
}

async fn write_all(
    context: &Context,
    project: &str,
    view: &str,
    schema: &ViewSchema,
    pieces: Vec<(Bucket, ViewRows)>,
    merge: &Merge,
) -> Result<Vec<Part>, Error> {
    let mut outputs = Vec::with_capacity(pieces.len());
    for (bucket, rows) in pieces {
        let id = PartId::new();
        let folder = format!("features/{project}/{view}/v{}", merge.version);
        let path = format!("{folder}/{:03}-of-{:03}/l{}-{id}.parquet", bucket.number, bucket.of, merge.level);
        let place =
            Place { view: view.to_owned(), version: merge.version, bucket: Some(bucket), level: merge.level };
        outputs.push(write(context, id, path, schema.clone(), rows, place).await?);
    }
    Ok(outputs)
}

/// Old rows out, new rows in, at once.
async fn swap(context: &Context, project: &str, inputs: &[Part], outputs: &[Part]) -> Result<(), Error> {
    let now = context.clock.now();
    let ids: Vec<PartId> = inputs.iter().map(|part| part.id).collect();
    let mut tx = context.db.begin().await?;
    storage::parts::lock(&mut tx, project, true).await?;
    storage::parts::replace(&mut tx, &ids, now).await?;
    for part in outputs {
        publish(&mut tx, context, project, part, now).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// Removes the files of replaced parts that no reader's lease keeps; answers how many.
async fn sweep(context: &Context, project: &str) -> Result<usize, Error> {
    let mut conn = context.db.acquire().await?;
    let removable = storage::parts::removable(&mut conn, project, context.machine_clock.now()).await?;
    for (id, path) in &removable {
        let (store, path) = (store_of(context)?, path.clone());
        tokio::task::spawn_blocking(move || store.remove(&path)).await??;
        storage::parts::removed(&mut conn, *id, context.clock.now()).await?;
    }
    Ok(removable.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: i64 = 4_000_000;

    fn part(level: i32, bucket: Option<(i32, i32)>, rows: i64) -> Part {
        let at = DateTime::<Utc>::UNIX_EPOCH;
        Part {
            id: PartId::new(),
            view: "v".into(),
            view_version: 1,
            format: 2,
            bucket: bucket.map(|(number, of)| storage::parts::Bucket { number, of }),
            level,
            min_seq: 1,
            seq: 1,
            path: String::new(),
            sha256: String::new(),
            size_bytes: 1,
            rows,
            min_event_time: at,
            max_event_time: at,
            min_known_time: None,
            max_known_time: at,
            schema_hash: None,
        }
    }

    #[test]
    fn unmerged_parts_are_merged_first_and_one_alone_is_left() {
        assert_eq!(due(&[part(0, None, 10)], 1, MOST), None);
        let merge = due(&[part(0, None, 10), part(1, Some((0, 1)), 10), part(0, None, 10)], 1, MOST).unwrap();
        assert_eq!(merge, Merge { inputs: vec![0, 2], version: 1, level: 1, of: 1 });
    }

    /// Each merge takes so long that somebody ingests meanwhile, and the view has sixteen buckets.
    #[test]
    fn while_somebody_ingests_all_the_time_each_job_ends_and_parts_stay_few() {
        let mut parts = vec![part(3, Some((0, 16)), 900_000)];
        let mut ingested = 1;
        let mut ingest = |parts: &mut Vec<Part>| {
            ingested += 1;
            parts.push(Part { seq: ingested, min_seq: ingested, ..part(0, None, 40) });
        };
        for job in 0..200 {
            (0..UNMERGED_PARTS).for_each(|_| ingest(&mut parts));
            let until = latest(&parts);
            let mut merges = 0;
            while let Some(merge) = due(&parts, until, MOST) {
                let (level, of, seq) = (merge.level, merge.of, until);
                let bucket = parts[merge.inputs[0]].bucket.map(|bucket| bucket.number);
                let rows: i64 = merge.inputs.iter().map(|place| parts[*place].rows).sum();
                let buckets = bucket.map_or(0..of as i32, |own| own..own + 1);
                let written = buckets.clone().map(|own| Part {
                    seq,
                    ..part(level, Some((own, of as i32)), rows / buckets.len() as i64)
                });
                let written: Vec<Part> = written.collect();
                let mut place = 0;
                parts.retain(|_| {
                    place += 1;
                    !merge.inputs.contains(&(place - 1))
                });
                parts.extend(written);
                ingest(&mut parts);
                merges += 1;
                assert!(merges < 200, "job {job} does not end");
            }
            assert!(parts.len() < 16 * FAN_IN * 4, "{} parts after job {job}", parts.len());
        }
    }

    #[test]
    fn a_full_level_of_one_bucket_moves_up() {
        let mut parts: Vec<Part> = (0..7).map(|_| part(1, Some((3, 16)), 10)).collect();
        parts.push(part(1, Some((4, 16)), 10));
        assert_eq!(due(&parts, 1, MOST), None);
        parts.push(part(1, Some((3, 16)), 10));
        let merge = due(&parts, 1, MOST).unwrap();
        assert_eq!((merge.inputs.len(), merge.level, merge.of), (8, 2, 16));
    }

    #[test]
    fn a_view_that_grew_is_cut_anew() {
        let parts = [part(1, Some((0, 1)), 900_000), part(1, Some((0, 1)), 900_000)];
        assert_eq!(due(&parts, 1, MOST).unwrap(), Merge { inputs: vec![0], version: 1, level: 1, of: 16 });
    }

    #[test]
    fn a_merge_takes_in_no_more_than_fits() {
        let parts: Vec<Part> = (0..5).map(|_| part(0, None, 1_500_000)).collect();
        assert_eq!(due(&parts, 1, MOST).unwrap().inputs.len(), 2);
    }
}
