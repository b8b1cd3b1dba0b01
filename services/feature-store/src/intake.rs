//! Taking rows in: sorted out, cut for every view of their source, written as parts and merged online, visible together.
//!
//! What needs no order is done before the project's ingest lock is taken; under it the batch gets its place in the order of
//! ingests, the part is written beside the online merge, and one commit makes both visible.
//!
//! A row is refused if nobody knows when it happened or was learned, if it was learned later than now, or if it happened
//! later than now and a view of latest values would serve it: such a row would hide the one that is true until then. Windows
//! and logs take rows of the future (a plan is known before it happens); they count when their time has come.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use domain::definitions::{Definitions, FeatureView, Object, Shape, Source, ViewVersion};
use domain::online::OnlineRows;
use frames::assemble::schema_of;
use frames::source_file::conform;
use frames::view::{DELETED, ViewRows, ViewSchema};
use frames::{Frame, NO_INTEGER, Values};
use serde::{Deserialize, Serialize};
use service_kit::catalogue::Catalogue;
use sqlx::PgConnection;

use crate::{Error, FeatureStore, parts};

/// Which stores take the rows: a history that online reads will never ask for goes offline only, and a replay of rows that
/// the offline store already has goes online only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum To {
    /// The online store.
    Online,
    /// The offline store.
    Offline,
    /// Both, visible together.
    #[default]
    OnlineAndOffline,
}

/// Rows on their way in.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    /// Where they come from.
    pub(crate) source: String,
    /// Where they go.
    pub(crate) to: To,
    /// Makes a repeated batch answer what the first one answered.
    pub(crate) idempotency_key: Option<String>,
    /// The rows.
    pub(crate) rows: Frame,
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Accepted {
    /// Rows that were taken.
    pub(crate) accepted: usize,
    /// Of those, rows that are kept offline only: a view serves a newer one of their entity already.
    pub(crate) rejected_stale: usize,
    /// Rows that were not taken, with their reasons in `rejected_rows`.
    pub(crate) rejected_invalid: usize,
    /// Rows of entities that were erased, from before that: they stay away.
    pub(crate) rejected_erased: usize,
    /// The first reason, if there is one.
    pub(crate) first_reason: Option<String>,
    /// The position of the batch in the order of ingests.
    pub(crate) seq: i64,
}

/// A batch, ready for its transaction.
struct Prepared {
    epoch: i64,
    good: usize,
    rejected: Vec<(i32, String)>,
    views: Vec<ViewBatch>,
}

/// The rows of one batch for one view.
struct ViewBatch {
    view: FeatureView,
    version: ViewVersion,
    schema: ViewSchema,
    rows: ViewRows,
    online: OnlineRows,
}

/// Takes a batch in.
pub(crate) async fn take_in(store: &FeatureStore, batch: Batch) -> Result<Accepted, Error> {
    let name = batch.source.clone();
    let answer = take_in_once(store, batch).await?;
    let count = |counter: &prometheus::IntCounterVec, how: &str, rows: usize| {
        counter.with_label_values(&[name.as_str(), how]).inc_by(rows as u64);
    };
    count(&store.metrics.rows, "accepted", answer.accepted);
    count(&store.metrics.rows, "rejected", answer.rejected_invalid);
    count(&store.metrics.not_served, "stale", answer.rejected_stale);
    count(&store.metrics.not_served, "erased", answer.rejected_erased);
    Ok(answer)
}

async fn take_in_once(store: &FeatureStore, batch: Batch) -> Result<Accepted, Error> {
    let project = store.project();
    let now = store.context.clock.now();
    let batch = std::sync::Arc::new(batch);
    let mut prepared = prepare(store, &batch, store.catalogue().await?, now).await?;
    let mut tx = store.context.db.begin().await?;
    storage::features::lock_ingest(&mut tx, project).await?;
    if let Some(key) = &batch.idempotency_key
        && let Some(earlier) = storage::features::earlier_answer(&mut tx, project, &batch.source, key).await?
    {
        return serde_json::from_value(earlier).map_err(|error| {
            Error::Storage(storage::Error::Unreadable { what: "answer", why: error.to_string() })
        });
    }
    let catalogue = store.catalogues.exact(&mut tx, project).await?;
    if catalogue.epoch != prepared.epoch {
        prepared = prepare(store, &batch, catalogue, now).await?; // the definitions moved on meanwhile
    }
    let seq = storage::features::next_seq(&mut tx, project).await?;
    let mut answer = Accepted {
        accepted: prepared.good,
        rejected_invalid: prepared.rejected.len(),
        first_reason: prepared.rejected.first().map(|(_, reason)| reason.clone()),
        seq,
        ..Accepted::default()
    };
    for view in prepared.views {
        view.take_in(store, &mut tx, batch.to, now, &mut answer).await?;
    }
    storage::features::keep_rejected(&mut tx, project, &batch.source, seq, &prepared.rejected, now).await?;
    if let Some(key) = &batch.idempotency_key {
        let stored = serde_json::json!(answer);
        storage::features::remember_batch(&mut tx, project, &batch.source, key, seq, &stored, now).await?;
    }
    tx.commit().await?;
    Ok(answer)
}

async fn prepare(
    store: &FeatureStore,
    batch: &std::sync::Arc<Batch>,
    catalogue: std::sync::Arc<Catalogue>,
    now: DateTime<Utc>,
) -> Result<Prepared, Error> {
    let source = store.source(&catalogue, &batch.source)?.clone();
    let batch = std::sync::Arc::clone(batch);
    tokio::task::spawn_blocking(move || prepared(&catalogue, &source, &batch, now)).await?
}

fn prepared(
    catalogue: &Catalogue,
    source: &Source,
    batch: &Batch,
    now: DateTime<Utc>,
) -> Result<Prepared, Error> {
    let definitions = &catalogue.definitions;
    let views: Vec<&FeatureView> = views_of(definitions, &source.name).collect();
    let serves_latest = batch.to != To::Offline && views.iter().any(|view| view.shape() == Shape::Latest);
    let (good, rejected) = sort_out(source, &batch.rows, serves_latest, now)?;
    let mut cuts = Vec::new();
    for view in views {
        let schema = schema_of(definitions, view)?;
        let version = version(catalogue, &view.name)?.clone();
        let rows = ViewRows::cut(&schema, source, &good, 0)?;
        if rows.rows() == 0 {
            continue;
        }
        let online = match batch.to {
            To::Offline => OnlineRows::default(),
            _ => rows.online(&schema, view, version.revision(), now.timestamp_micros())?,
        };
        cuts.push(ViewBatch { view: view.clone(), version, schema, rows, online });
    }
    Ok(Prepared { epoch: catalogue.epoch, good: good.rows(), rejected, views: cuts })
}

/// The newest version of a view.
pub(crate) fn version<'a>(catalogue: &'a Catalogue, view: &str) -> Result<&'a ViewVersion, Error> {
    catalogue.views.get(view).ok_or_else(|| {
        Error::Storage(storage::Error::Unreadable {
            what: "view version",
            why: format!("`{view}` has none; apply its definition again"),
        })
    })
}

/// The views that a source feeds.
pub(crate) fn views_of<'a>(
    definitions: &'a Definitions,
    source: &'a str,
) -> impl Iterator<Item = &'a FeatureView> {
    definitions.objects().filter_map(move |located| match &located.object {
        Object::FeatureView(view) if view.source == source => Some(view),
        _ => None,
    })
}

/// The rows that can be taken, as the source declares them, and what is wrong with the others.
fn sort_out(
    source: &Source,
    rows: &Frame,
    serves_latest: bool,
    now: DateTime<Utc>,
) -> Result<(Frame, Vec<(i32, String)>), Error> {
    let mut columns: Vec<(String, Values)> = source
        .columns
        .iter()
        .map(|(name, kind)| Ok((name.clone(), conform(name, rows.column(name)?.clone(), *kind)?)))
        .collect::<Result<_, frames::Error>>()?;
    if let Some(deleted) = rows.find(DELETED) {
        let deleted = conform(DELETED, deleted.clone(), domain::definitions::ValueType::Boolean)?;
        columns.push((DELETED.to_owned(), deleted));
    }
    let rows = Frame::new(rows.rows(), columns);
    let event_time = rows.times(&source.event_time)?;
    let known_time = rows.times(&source.known_time)?;
    let now = now.timestamp_micros();
    let reason = |row: usize| {
        if event_time[row] == NO_INTEGER {
            Some(format!("`{}` is null: nobody knows when it happened", source.event_time))
        } else if known_time[row] == NO_INTEGER {
            Some(format!("`{}` is null: nobody knows when it was learned", source.known_time))
        } else if known_time[row] > now {
            Some(format!(
                "`{}` lies in the future: nothing can be known before it is learned",
                source.known_time
            ))
        } else if serves_latest && event_time[row] > now {
            Some(format!(
                "`{}` lies in the future: it would hide the value that is true until then",
                source.event_time
            ))
        } else {
            None
        }
    };
    let rejected: Vec<(i32, String)> =
        (0..rows.rows()).filter_map(|row| Some((row as i32, reason(row)?))).collect();
    if rejected.is_empty() {
        return Ok((rows, rejected));
    }
    let bad: std::collections::HashSet<usize> = rejected.iter().map(|(row, _)| *row as usize).collect();
    let good = rows.filter(|row| !bad.contains(&row));
    Ok((good, rejected))
}

impl ViewBatch {
    async fn take_in(
        mut self,
        store: &FeatureStore,
        tx: &mut PgConnection,
        to: To,
        now: DateTime<Utc>,
        answer: &mut Accepted,
    ) -> Result<(), Error> {
        let erased = self.leave_out_erased(store, tx, now).await?;
        answer.rejected_erased = answer.rejected_erased.max(erased);
        if self.rows.rows() == 0 {
            return Ok(());
        }
        self.rows.seq.fill(answer.seq);
        self.online.set_seq(answer.seq);
        let rows = self.rows.rows();
        let written = match to {
            To::Online => None,
            // Runs beside the merge below.
            _ => Some(parts::begin(
                &store.context,
                &self.version,
                self.schema.clone(),
                self.rows.clone(),
                answer.seq,
            )),
        };
        if to != To::Offline {
            let taken = self.merge(tx, now).await? as usize;
            if self.view.shape() == Shape::Latest {
                answer.rejected_stale = answer.rejected_stale.max(rows - taken);
            }
        }
        if let Some(written) = written {
            let part = written.await??;
            parts::show(tx, &store.context, &part, now).await?;
        }
        Ok(())
    }

    /// Takes out rows of entities that were erased, as far as they happened before that.
    async fn leave_out_erased(
        &mut self,
        store: &FeatureStore,
        tx: &mut PgConnection,
        now: DateTime<Utc>,
    ) -> Result<usize, Error> {
        let (project, entity) = (store.project(), self.view.entity.as_str());
        if !storage::erasures::any(tx, project, entity).await? {
            return Ok(0);
        }
        let keys = self.rows.keys(&self.schema)?;
        let horizons: HashMap<Vec<u8>, i64> =
            storage::erasures::horizons(tx, project, entity, &keys.distinct()).await?;
        let gone = |row: usize| {
            let horizon = keys.get(row).and_then(|key| horizons.get(key));
            horizon.is_some_and(|horizon| self.rows.event_time[row] <= *horizon)
        };
        let kept: Vec<u32> = (0..keys.len()).filter(|row| !gone(*row)).map(|row| row as u32).collect();
        let erased = keys.len() - kept.len();
        if erased > 0 {
            self.rows = self.rows.take(&kept);
            if !self.online.is_empty() {
                let revision = self.version.revision();
                self.online = self.rows.online(&self.schema, &self.view, revision, now.timestamp_micros())?;
            }
        }
        Ok(erased)
    }

    async fn merge(&self, tx: &mut PgConnection, now: DateTime<Utc>) -> Result<u64, Error> {
        let (id, shape) = (self.version.id, self.view.shape());
        let taken = storage::online::merge(tx, id, shape, &self.online).await?;
        if let Some(memory) = self.view.memory().filter(|_| taken > 0) {
            storage::online::forget_staged(tx, id, now - memory.delta()).await?;
        }
        Ok(taken)
    }
}
