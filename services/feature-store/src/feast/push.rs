//! Feast's writing paths: pushes, writes to the online store, and moving history into it.

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Json, response::IntoResponse, response::Response};
use chrono::{DateTime, NaiveDateTime, Utc};
use domain::definitions::{Source, ValueType};
use frames::{Frame, Values};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::failure::{FeastBody, FeastError};
use crate::intake::{Batch, To, take_in, version};
use crate::{Error, FeatureStore, materialize};

/// Rows as columns; further keys are Feast's own and mean nothing here.
#[derive(Deserialize)]
pub(crate) struct Push {
    push_source_name: String,
    df: Map<String, Value>,
    #[serde(default)]
    to: PushTo,
}

/// Where a push goes; Feast's default is the online store alone.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PushTo {
    #[default]
    Online,
    Offline,
    OnlineAndOffline,
}

pub(crate) async fn push(
    State(store): State<FeatureStore>,
    FeastBody(push): FeastBody<Push>,
) -> Result<StatusCode, FeastError> {
    let to = match push.to {
        PushTo::Online => To::Online,
        PushTo::Offline => To::Offline,
        PushTo::OnlineAndOffline => To::OnlineAndOffline,
    };
    let catalogue = store.catalogue().await?;
    let source = store.source(&catalogue, &push.push_source_name)?;
    write(&store, source, &push.df, to).await?;
    Ok(StatusCode::OK)
}

/// Rows of one view, as columns.
#[derive(Deserialize)]
pub(crate) struct Write {
    feature_view_name: String,
    df: Map<String, Value>,
}

pub(crate) async fn write_to_online_store(
    State(store): State<FeatureStore>,
    FeastBody(request): FeastBody<Write>,
) -> Result<Json<Value>, FeastError> {
    let catalogue = store.catalogue().await?;
    let view = store.view(&catalogue, &request.feature_view_name)?;
    let source = store.source(&catalogue, &view.source)?;
    write(&store, source, &request.df, To::Online).await?;
    Ok(Json(Value::Null))
}

async fn write(store: &FeatureStore, source: &Source, df: &Map<String, Value>, to: To) -> Result<(), Error> {
    let rows = to_frame(source, df, store.context.clock.now())?;
    let batch = Batch { source: source.name.clone(), to, idempotency_key: None, rows };
    let answer = take_in(store, batch).await?;
    match answer.first_reason {
        Some(reason) => Err(Error::BadRequest(format!(
            "{} of {} rows were refused: {reason}",
            answer.rejected_invalid,
            answer.rejected_invalid + answer.accepted
        ))),
        None => Ok(()),
    }
}

/// A source's columns out of Feast's: the event time may be called `event_timestamp`, the time of knowledge `created`; where
/// that is missing or null a row is known from now on. A column that the source lacks is left out, as Feast does.
fn to_frame(source: &Source, df: &Map<String, Value>, now: DateTime<Utc>) -> Result<Frame, Error> {
    let mut rows = None;
    let mut columns = Vec::new();
    for (name, kind) in &source.columns {
        let feasts = match name {
            name if *name == source.event_time => Some("event_timestamp"),
            name if *name == source.known_time => Some("created"),
            _ => None,
        };
        let list = df.get(name).or_else(|| feasts.and_then(|feasts| df.get(feasts)));
        let list = list.map(|list| {
            list.as_array()
                .ok_or_else(|| Error::BadRequest(format!("`df.{name}` must be a list, one value a row")))
        });
        let Some(list) = list.transpose()? else {
            if *name != source.known_time || source.known_time == source.event_time {
                return Err(Error::BadRequest(format!("`df` lacks the column `{name}`")));
            }
            continue;
        };
        if *rows.get_or_insert(list.len()) != list.len() {
            return Err(Error::BadRequest("the lists of `df` must have the same length".to_owned()));
        }
        columns.push((name.clone(), column(name, *kind, list)?));
    }
    let mut frame = Frame::new(rows.unwrap_or_default(), columns);
    fill_known(source, &mut frame, now);
    Ok(frame)
}

fn fill_known(source: &Source, frame: &mut Frame, now: DateTime<Utc>) {
    if source.known_time == source.event_time {
        return;
    }
    let now = now.timestamp_micros();
    let known = match frame.find(&source.known_time) {
        Some(Values::Time(times)) => {
            times.iter().map(|time| if *time == frames::NO_INTEGER { now } else { *time }).collect()
        }
        _ => vec![now; frame.rows()],
    };
    frame.set(source.known_time.clone(), Values::Time(known));
}

fn column(name: &str, kind: ValueType, list: &[Value]) -> Result<Values, Error> {
    if kind != ValueType::Time {
        return Ok(frames::rows::column(name, kind, list.iter())?);
    }
    let zoned: Vec<Value> = list
        .iter()
        .map(|value| match value.as_str().and_then(instant) {
            Some(time) => Value::from(time.to_rfc3339()),
            None => value.clone(),
        })
        .collect();
    Ok(frames::rows::column(name, kind, zoned.iter())?)
}

/// An instant as Feast and pandas write it; without a zone it is UTC.
fn instant(text: &str) -> Option<DateTime<Utc>> {
    let text = text.trim().replacen(' ', "T", 1);
    let zoned = text.parse::<DateTime<Utc>>().ok();
    zoned.or_else(|| text.parse::<NaiveDateTime>().ok().map(|naive| naive.and_utc()))
}

/// Which history to move into the online store.
#[derive(Deserialize)]
pub(crate) struct Materialize {
    start_ts: Option<String>,
    end_ts: Option<String>,
    feature_views: Option<Vec<String>>,
    /// Take everything that happened until now.
    #[serde(default)]
    disable_event_timestamp: bool,
}

pub(crate) async fn materialize(
    State(store): State<FeatureStore>,
    FeastBody(request): FeastBody<Materialize>,
) -> Result<Response, FeastError> {
    let now = store.context.clock.now();
    let between = if request.disable_event_timestamp {
        (DateTime::<Utc>::MIN_UTC, now)
    } else {
        (moment("start_ts", request.start_ts.as_deref())?, moment("end_ts", request.end_ts.as_deref())?)
    };
    fill(&store, request.feature_views, between).await
}

/// Until when to move history into the online store.
#[derive(Deserialize)]
pub(crate) struct MaterializeIncremental {
    end_ts: String,
    feature_views: Option<Vec<String>>,
}

/// Moves all history up to a moment. Feast begins where it ended last and so loses what arrived late; here the guard of the
/// online store makes it safe to look at all of it.
pub(crate) async fn materialize_incremental(
    State(store): State<FeatureStore>,
    FeastBody(request): FeastBody<MaterializeIncremental>,
) -> Result<Response, FeastError> {
    let until = moment("end_ts", Some(&request.end_ts))?;
    fill(&store, request.feature_views, (DateTime::<Utc>::MIN_UTC, until)).await
}

fn moment(name: &str, text: Option<&str>) -> Result<DateTime<Utc>, Error> {
    text.and_then(instant).ok_or_else(|| {
        Error::BadRequest(format!("`{name}` must be an instant, such as 2026-11-24T00:00:00Z"))
    })
}

async fn fill(
    store: &FeatureStore,
    views: Option<Vec<String>>,
    between: (DateTime<Utc>, DateTime<Utc>),
) -> Result<Response, FeastError> {
    let mut tx = store.context.db.begin().await?;
    storage::features::lock_ingest(&mut tx, store.project()).await?;
    let catalogue = store.catalogues.exact(&mut tx, store.project()).await?;
    let all = || catalogue.definitions.names("feature_view").into_iter().map(str::to_owned).collect();
    for name in views.unwrap_or_else(all) {
        store.view(&catalogue, &name)?;
        let version = version(&catalogue, &name)?;
        let now = store.context.clock.now();
        materialize::fill(store, &mut tx, &catalogue.definitions, version, Some(between), now).await?;
    }
    tx.commit().await?;
    Ok(Json(Value::Null).into_response())
}
