//! Is what was served what the offline store says? A sample of served values is logged to Arrow files, and recomputed by the
//! join that training sets use, under the knowledge that could be seen when they were served.
//!
//! Which entities are sampled depends on the hash of their key alone, so the same ones are followed over time and across
//! processes. A served value is compared as it was written, digit by digit, and so is its status.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use chrono::TimeDelta;
use domain::ids::ServedSampleId;
use domain::online::{Fetched, OnlineRows};
use frames::keys::Keys;
use frames::rows::write_cell;
use frames::served::{Answer, Plan};
use frames::view::{ViewRows, ViewSchema};
use frames::{Frame, Values};
use serde_json::{Value, json};
use service_kit::Problem;
use storage::parity::{Parity, Sample};

use crate::parts::{self, store_of};
use crate::{Error, FeatureStore};

/// Sampled values that wait in memory, at most; past that new ones are left out until the file is written.
const WAITING: usize = 100_000;

/// How often samples are written and recomputed.
const EVERY: Duration = Duration::from_secs(60);

/// One served value.
#[derive(Clone, Debug)]
struct Record {
    key: Vec<u8>,
    served_at: i64,
    seq: i64,
    feature: String,
    status: &'static str,
    value: String,
}

/// What was sampled and not yet written, by view and version.
type Waiting = HashMap<(String, i32), Vec<Record>>;

/// Looks at answers as they leave.
#[derive(Clone, Debug)]
pub(crate) struct Sampler {
    one_in: u64,
    waiting: Arc<Mutex<Waiting>>,
}

impl Sampler {
    /// Samples one entity in `one_in`; none if it is 0.
    pub(crate) fn new(one_in: u64) -> Self {
        Self { one_in, waiting: Arc::default() }
    }

    /// Keeps the answer's values of the entities that are followed.
    pub(crate) fn look(&self, plan: &Plan, keys: &[Keys], answer: &Answer<'_>, now: i64, seq: i64) {
        if self.one_in == 0 {
            return;
        }
        for (part, ((view, version), keys)) in plan.views().zip(keys).enumerate() {
            for row in (0..keys.len()).filter(|row| keys.get(*row).is_some_and(|key| self.follows(key))) {
                let records = plan.of_part(part).filter_map(|(feature, name)| {
                    let served = answer.served(feature, row).ok()?;
                    let mut value = Vec::new();
                    write_cell(&mut value, served.value);
                    Some(Record {
                        key: keys.get(row).unwrap_or_default().to_vec(),
                        served_at: now,
                        seq,
                        feature: name.to_owned(),
                        status: served.status.name(),
                        value: String::from_utf8(value).unwrap_or_default(),
                    })
                });
                let mut waiting = self.waiting.lock().expect("no holder of this lock can panic");
                let waiting = waiting.entry((view.to_owned(), version)).or_default();
                if waiting.len() < WAITING {
                    waiting.extend(records);
                }
            }
        }
    }

    fn follows(&self, key: &[u8]) -> bool {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        hasher.finish().is_multiple_of(self.one_in)
    }

    /// Drops what waits of these views.
    pub(crate) fn forget(&self, views: &[String]) {
        self.waiting
            .lock()
            .expect("no holder of this lock can panic")
            .retain(|(view, _), _| !views.contains(view));
    }

    fn drain(&self) -> Waiting {
        std::mem::take(&mut *self.waiting.lock().expect("no holder of this lock can panic"))
    }
}

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
        let found = recompute(store, &mut tx, &sample).await?;
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
        let frame = to_frame(&records);
        let written =
            tokio::task::spawn_blocking(move || frames::files::write_arrow(&file, &frame)).await??;
        let sample = Sample { id, view, version, path, sha256: written.sha256, rows };
        let mut conn = store.context.db.acquire().await?;
        storage::parity::publish(&mut conn, store.project(), &sample, store.context.clock.now()).await?;
    }
    Ok(())
}

fn to_frame(records: &[Record]) -> Frame {
    let text = |read: fn(&Record) -> &str| Values::text(records.iter().map(|record| Some(read(record))));
    let columns = vec![
        ("key".to_owned(), Values::text(records.iter().map(|record| Some(hex::encode(&record.key))))),
        ("served_at".to_owned(), Values::Time(records.iter().map(|record| record.served_at).collect())),
        ("seq".to_owned(), Values::Integer(records.iter().map(|record| record.seq).collect())),
        ("feature".to_owned(), text(|record| &record.feature)),
        ("status".to_owned(), text(|record| record.status)),
        ("value".to_owned(), text(|record| &record.value)),
    ];
    Frame::new(records.len(), columns)
}

/// Compares a sample with what the offline store says of the same moments.
async fn recompute(
    store: &FeatureStore,
    tx: &mut sqlx::PgConnection,
    sample: &Sample,
) -> Result<Vec<Parity>, Error> {
    let catalogue = store.catalogues.exact(tx, store.project()).await?;
    let current = catalogue.views.get(&sample.view).is_some_and(|known| known.version == sample.version);
    if !current {
        return Ok(vec![]); // a version that no longer serves
    }
    let listed = storage::parts::of_view(tx, store.project(), &sample.view, i64::MAX).await?;
    let data_dir = store.context.data_dir.clone();
    let (file, hash) = (data_dir.join(&sample.path), sample.sha256.clone());
    let place = store_of(&store.context)?;
    let view = sample.view.clone();
    tokio::task::spawn_blocking(move || {
        frames::files::verify(&file, &hash)?;
        let served = frames::files::read_arrow(&file)?;
        let schema = schema_of(&catalogue, &view)?;
        let rows = parts::read(&place, &schema, &listed)?;
        compare(&catalogue, &view, &schema, &served, &rows)
    })
    .await?
}

fn schema_of(catalogue: &service_kit::catalogue::Catalogue, view: &str) -> Result<ViewSchema, Error> {
    let definition = catalogue.definitions.feature_view(view).ok_or_else(|| gone(view))?;
    Ok(frames::assemble::schema_of(&catalogue.definitions, definition)?)
}

fn compare(
    catalogue: &service_kit::catalogue::Catalogue,
    view: &str,
    schema: &ViewSchema,
    served: &Frame,
    rows: &ViewRows,
) -> Result<Vec<Parity>, Error> {
    let definition = catalogue.definitions.feature_view(view).ok_or_else(|| gone(view))?;
    let version = catalogue.views.get(view).ok_or_else(|| gone(view))?;
    let keys = rows.keys(schema)?;
    let mut found: HashMap<String, Parity> = HashMap::new();
    for (key, moments) in grouped(served)? {
        // All versions of this entity that the offline store holds, as the online store would hold them.
        let own: Vec<u32> =
            (0..rows.rows()).filter(|row| keys.get(*row) == Some(&key[..])).map(|row| row as u32).collect();
        let own = rows.take(&own);
        for ((served_at, seq), values) in moments {
            let then = known_then(&own, served_at, seq);
            let online = then.online(schema, definition, version.revision(), served_at)?;
            let fetched = Fetched { rows: HashMap::from([(version.id, sorted(online))]), seq };
            recheck(catalogue, view, &key, served_at, &fetched, &values, &mut found)?;
        }
    }
    let mut found: Vec<Parity> = found.into_values().collect();
    found.sort_by(|a, b| a.feature.cmp(&b.feature));
    Ok(found)
}

fn gone(view: &str) -> Error {
    Error::BadRequest(format!("view `{view}` is no longer defined"))
}

fn sorted(mut rows: OnlineRows) -> OnlineRows {
    rows.sort();
    rows
}

/// `(feature, status, value)` as served.
type Told = Vec<(String, String, String)>;

/// What was served of one entity, by the moment and the newest ingest that could be seen.
type Moments = HashMap<(i64, i64), Told>;

/// Served values by key, then by moment and knowledge.
fn grouped(served: &Frame) -> Result<HashMap<Vec<u8>, Moments>, Error> {
    let text = |name: &str, row: usize| -> Result<String, frames::Error> {
        Ok(served.column(name)?.text_at(row).unwrap_or_default().to_owned())
    };
    let times = served.times("served_at")?;
    let Values::Integer(seqs) = served.column("seq")? else { return Ok(HashMap::new()) };
    let mut all: HashMap<Vec<u8>, Moments> = HashMap::new();
    for row in 0..served.rows() {
        let key = hex::decode(text("key", row)?).unwrap_or_default();
        let value = (text("feature", row)?, text("status", row)?, text("value", row)?);
        all.entry(key).or_default().entry((times[row], seqs[row])).or_default().push(value);
    }
    Ok(all)
}

/// What had been ingested up to a place in the order of ingests, had happened, and was known.
fn known_then(rows: &ViewRows, moment: i64, seq: i64) -> ViewRows {
    let kept: Vec<u32> = (0..rows.rows())
        .filter(|&row| {
            rows.seq[row] <= seq && rows.event_time[row] <= moment && rows.known_time[row] <= moment
        })
        .map(|row| row as u32)
        .collect();
    rows.take(&kept)
}

fn recheck(
    catalogue: &service_kit::catalogue::Catalogue,
    view: &str,
    key: &[u8],
    served_at: i64,
    offline: &Fetched,
    values: &Told,
    found: &mut HashMap<String, Parity>,
) -> Result<(), Error> {
    let references: Vec<String> = values.iter().map(|(feature, ..)| format!("{view}:{feature}")).collect();
    let Ok(plan) = Plan::of(&catalogue.definitions, &catalogue.views, &references) else { return Ok(()) };
    let keys = [Keys::encoded([key])];
    let answer = plan.answer(&keys, offline, served_at)?;
    for (at, (feature, status, value)) in values.iter().enumerate() {
        let now = answer.served(at, 0)?;
        let mut expected = Vec::new();
        write_cell(&mut expected, now.value);
        let parity = found.entry(feature.clone()).or_insert_with(|| Parity {
            view: view.to_owned(),
            feature: feature.clone(),
            ..Parity::default()
        });
        parity.compared += 1;
        match (value.as_str(), expected.as_slice()) {
            (served, offline) if served.as_bytes() == offline && status == now.status.name() => {}
            ("null", offline) if offline != b"null" => parity.missing += 1,
            (served, b"null") if served != "null" => parity.extra += 1,
            _ => parity.mismatched += 1,
        }
    }
    Ok(())
}
