//! Ingest: rows of a source, as an Arrow IPC stream, become parts and online rows of every view that the source feeds.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use chrono::{DateTime, Utc};
use domain::definitions::{Definitions, FeatureView, Object, Shape, Source};
use frames::assemble::schema_of;
use frames::source_file::conform;
use frames::view::{ViewRows, ViewSchema};
use frames::{Frame, NO_INTEGER};
use serde::{Deserialize, Serialize};
use service_kit::Problem;
use sqlx::PgConnection;
use storage::features::OnlineRows;

use crate::parts::instant;
use crate::{Error, FeatureStore, parts};

/// The version of every view, until views have several.
pub(crate) const VIEW_VERSION: i32 = 1;

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Accepted {
    /// Rows that were taken.
    accepted: usize,
    /// Rows that were not, with their reasons in `rejected_rows`.
    rejected_invalid: usize,
    /// The first reason, if there is one.
    first_reason: Option<String>,
    /// The position of the batch in the order of ingests.
    seq: i64,
}

/// Which stores take the rows: a history that online reads will never ask for goes offline only, and a replay of rows that
/// the offline store already has goes online only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum To {
    /// The online store.
    Online,
    /// The offline store.
    Offline,
    /// Both, visible together.
    #[default]
    OnlineAndOffline,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {
    #[serde(default)]
    to: To,
}

#[tracing::instrument(name = "feature_store.ingest", skip_all, fields(source = %name))]
pub(crate) async fn ingest(
    State(store): State<FeatureStore>,
    Path(name): Path<String>,
    Query(options): Query<Options>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Accepted>, Problem> {
    let key = idempotency_key(&headers)?;
    let rows = tokio::task::spawn_blocking(move || frames::wire::read_stream(&body))
        .await
        .map_err(Error::from)??;
    let answer = take_in(&store, &name, options.to, key.as_deref(), rows).await?;
    let count = |how: &str, rows: usize| {
        store.metrics.rows.with_label_values(&[name.as_str(), how]).inc_by(rows as u64);
    };
    count("accepted", answer.accepted);
    count("rejected", answer.rejected_invalid);
    Ok(Json(answer))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Error> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    match value.to_str() {
        Ok(key) if (1..=255).contains(&key.len()) => Ok(Some(key.to_owned())),
        _ => Err(Error::BadRequest("`Idempotency-Key` must be 1 to 255 visible ASCII characters".to_owned())),
    }
}

async fn take_in(
    store: &FeatureStore,
    name: &str,
    to: To,
    key: Option<&str>,
    rows: Frame,
) -> Result<Accepted, Error> {
    let context = &store.context;
    let project = context.config.project.as_str();
    let mut tx = context.db.begin().await?;
    let definitions = storage::definitions::load(&mut tx, project).await?;
    let source = definitions.source(name).cloned().ok_or_else(|| Error::Undefined {
        kind: "source",
        name: name.to_owned(),
        project: project.to_owned(),
    })?;
    storage::features::lock_ingest(&mut tx, project).await?;
    if let Some(key) = key
        && let Some(earlier) = storage::features::earlier_answer(&mut tx, project, name, key).await?
    {
        return serde_json::from_value(earlier).map_err(|error| {
            Error::Storage(storage::Error::Unreadable { what: "answer", why: error.to_string() })
        });
    }
    let now = context.clock.now();
    let (good, rejected) = sort_out(&source, &rows, now)?;
    let seq = storage::features::next_seq(&mut tx).await?;
    for view in views_of(&definitions, name) {
        let schema = schema_of(&definitions, view)?;
        let cut = ViewRows::cut(&schema, &source, &good, seq)?;
        if cut.rows() > 0 {
            let view = ViewBatch { view, schema, rows: cut, seq, now };
            if to != To::Online {
                view.store_offline(&mut tx, store).await?;
            }
            if to != To::Offline {
                view.store_online(&mut tx, store).await?;
            }
        }
    }
    storage::features::keep_rejected(&mut tx, project, name, seq, &rejected, now).await?;
    let answer = Accepted {
        accepted: good.rows(),
        rejected_invalid: rejected.len(),
        first_reason: rejected.first().map(|(_, reason)| reason.clone()),
        seq,
    };
    if let Some(key) = key {
        let stored = serde_json::json!(answer);
        storage::features::remember_batch(&mut tx, project, name, key, seq, &stored, now).await?;
    }
    tx.commit().await?;
    Ok(answer)
}

fn views_of<'a>(definitions: &'a Definitions, source: &'a str) -> impl Iterator<Item = &'a FeatureView> {
    definitions.objects().filter_map(move |located| match &located.object {
        Object::FeatureView(view) if view.source == source => Some(view),
        _ => None,
    })
}

/// The rows that can be taken, as the source declares them, and what is wrong with the others.
fn sort_out(source: &Source, rows: &Frame, now: DateTime<Utc>) -> Result<(Frame, Vec<(i32, String)>), Error> {
    let columns = source
        .columns
        .iter()
        .map(|(name, kind)| Ok((name.clone(), conform(name, rows.column(name)?.clone(), *kind)?)))
        .collect::<Result<_, frames::Error>>()?;
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
        } else {
            None
        }
    };
    let reasons: Vec<Option<String>> = (0..rows.rows()).map(reason).collect();
    let good = rows.filter(|row| reasons[row].is_none());
    let rejected =
        reasons.into_iter().enumerate().filter_map(|(row, reason)| Some((row as i32, reason?))).collect();
    Ok((good, rejected))
}

/// The rows of one batch for one view.
struct ViewBatch<'a> {
    view: &'a FeatureView,
    schema: ViewSchema,
    rows: ViewRows,
    seq: i64,
    now: DateTime<Utc>,
}

impl ViewBatch<'_> {
    /// File first, row second: writes the part, then makes it visible in the caller's transaction.
    async fn store_offline(&self, tx: &mut PgConnection, store: &FeatureStore) -> Result<(), Error> {
        let batch = parts::Batch {
            view: &self.view.name,
            version: VIEW_VERSION,
            schema: &self.schema,
            rows: &self.rows,
        };
        parts::store(tx, &store.context, &batch, self.seq, self.now).await
    }

    /// Makes the rows that the online store needs visible in the caller's transaction.
    async fn store_online(&self, tx: &mut PgConnection, store: &FeatureStore) -> Result<(), Error> {
        let project = store.context.config.project.as_str();
        let online = online_rows(&self.rows, &self.schema, self.view, self.now)?;
        if online.is_empty() {
            return Ok(());
        }
        let view = &self.view.name;
        if self.view.shape() == Shape::Latest {
            storage::features::upsert_latest(tx, project, view, VIEW_VERSION, &online).await?;
        } else {
            storage::features::insert_events(tx, project, view, VIEW_VERSION, &online).await?;
        }
        Ok(())
    }
}

fn online_rows(
    rows: &ViewRows,
    schema: &ViewSchema,
    view: &FeatureView,
    now: DateTime<Utc>,
) -> Result<OnlineRows, frames::Error> {
    let places = rows.online_places(schema, view, now.timestamp_micros())?;
    let taken = rows.take(&places);
    let keys = taken.keys(schema)?;
    let mut online = OnlineRows::default();
    for (row, payload) in taken.payloads().into_iter().enumerate() {
        let key = keys.get(row).unwrap_or_default().to_vec();
        let (event, known) = (instant(taken.event_time[row]), instant(taken.known_time[row]));
        online.push(key, event, known, taken.seq[row], places[row] as i32, taken.op[row], payload);
    }
    Ok(online)
}
