//! Online features at this moment: of a dataset, or by a list of references. And how fresh the views are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use domain::definitions::{Dataset, Definitions};
use frames::exact::Exact;
use frames::online::{asks, features, spine};
use frames::payload::Cell;
use frames::rows::{from_json, to_json, write_cell, write_time};
use frames::served::{Answer, Plan};
use frames::{Frame, Values};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use service_kit::catalogue::Catalogue;
use service_kit::{JsonBody, Problem};
use storage::parts::Freshness;

use crate::{Error, FeatureStore};

/// Rows in one request, at most.
pub(crate) const MAX_ROWS: usize = 10_000;

/// The rows that are asked about: spine columns and `event_time`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DatasetRequest {
    rows: Vec<Map<String, Value>>,
}

pub(crate) async fn dataset_online(
    State(store): State<FeatureStore>,
    Path(name): Path<String>,
    JsonBody(request): JsonBody<DatasetRequest>,
) -> Result<Json<Value>, Problem> {
    bounded(request.rows.len())?;
    let catalogue = store.catalogue().await?;
    let (definitions, views) = (&catalogue.definitions, &catalogue.views);
    let dataset = dataset(definitions, &name, store.project())?;
    let columns = domain::definitions::spine_columns(definitions, dataset);
    let spine = spine(definitions, dataset, &from_json(&request.rows, &columns)?)?;
    let now = store.context.clock.now();
    let micros = now.timestamp_micros();
    let fetched = store.reader.fetch(asks(definitions, views, dataset, &spine, micros)?).await?;
    let assembled = features(definitions, views, dataset, &spine, micros, &fetched)?;
    let statuses: HashMap<&str, _> =
        assembled.joined.iter().map(|joined| (joined.view.as_str(), &joined.statuses)).collect();
    Ok(Json(json!({ "cutoff": now, "rows": to_json(&assembled.features), "statuses": statuses })))
}

/// Features by reference.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FeaturesRequest {
    /// `view:feature`, in the order of the answer.
    features: Vec<String>,
    /// One object an entity: the key columns of all views.
    entities: Vec<Map<String, Value>>,
    /// Name features `view__feature` instead of `feature`.
    #[serde(default)]
    full_feature_names: bool,
    /// Add `__status` and `__event_timestamp`, objects by feature.
    #[serde(default)]
    include_metadata: bool,
}

pub(crate) async fn features_online(
    State(store): State<FeatureStore>,
    headers: HeaderMap,
    JsonBody(request): JsonBody<FeaturesRequest>,
) -> Result<Response, Problem> {
    bounded(request.entities.len())?;
    let catalogue = store.catalogue().await?;
    let plan = store.plans.of(&catalogue, &request.features)?;
    let names = names(&plan, request.full_feature_names)?;
    let entities = frames::rows::pushed(&request.entities, plan.keys())?;
    let asked = Asked { plan: &plan, entities: &entities };
    let arrow = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|accept| accept.contains("application/vnd.apache.arrow.stream"));
    if arrow {
        let bytes = asked.answer(&store, |answer, _| as_arrow(&entities, &names, answer)).await?;
        return Ok(([(header::CONTENT_TYPE, "application/vnd.apache.arrow.stream")], bytes).into_response());
    }
    let metadata = request.include_metadata;
    let bytes =
        asked.answer(&store, |answer, now| as_rows(&request.entities, &names, answer, metadata, now)).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], bytes).into_response())
}

/// A plan and the entities that it is asked about.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// The features.
    pub(crate) plan: &'a Plan,
    /// The key columns.
    pub(crate) entities: &'a Frame,
}

impl Asked<'_> {
    /// Fetches the rows and lets `write` make the answer of them, at the moment that it gets in microseconds.
    pub(crate) async fn answer<T>(
        &self,
        store: &FeatureStore,
        write: impl FnOnce(&Answer<'_>, i64) -> Result<T, frames::Error>,
    ) -> Result<T, Error> {
        let keys = self.plan.encode(self.entities)?;
        let now = store.context.clock.now().timestamp_micros();
        let fetched = store.reader.fetch(self.plan.asks(&keys, now)).await?;
        let answer = self.plan.answer(&keys, &fetched, now)?;
        store.sampler.look(self.plan, &keys, &answer, now, fetched.seq);
        Ok(write(&answer, now)?)
    }
}

pub(crate) fn bounded(rows: usize) -> Result<(), Error> {
    if rows <= MAX_ROWS {
        return Ok(());
    }
    Err(Error::TooMany { what: "rows", most: MAX_ROWS })
}

/// The features' names in an answer. Without the views in front two of them must not be the same.
fn names(plan: &Plan, full: bool) -> Result<Vec<String>, Error> {
    let names: Vec<String> = plan
        .features()
        .map(|(view, feature)| if full { format!("{view}__{feature}") } else { feature.to_owned() })
        .collect();
    let mut seen = std::collections::HashSet::new();
    if let Some(twice) = names.iter().find(|name| !seen.insert(name.as_str())) {
        return Err(Error::BadRequest(format!(
            "`{twice}` is asked for twice; set `full_feature_names` to tell views apart, and name each feature once"
        )));
    }
    Ok(names)
}

fn as_rows(
    entities: &[Map<String, Value>],
    names: &[String],
    answer: &Answer<'_>,
    metadata: bool,
    now: i64,
) -> Result<Vec<u8>, frames::Error> {
    let quoted: Vec<String> = names.iter().map(|name| format!("{}:", Value::from(name.as_str()))).collect();
    let mut out = Vec::with_capacity(64 + entities.len() * names.len() * 24);
    out.extend_from_slice(b"{\"cutoff\":");
    write_time(&mut out, now);
    out.extend_from_slice(b",\"rows\":[");
    for row in 0..answer.rows() {
        out.extend_from_slice(if row == 0 { b"{" } else { b",{" });
        for (at, name) in quoted.iter().enumerate() {
            separate(&mut out, at);
            out.extend_from_slice(name.as_bytes());
            write_cell(&mut out, answer.served(at, row)?.value);
        }
        if metadata {
            write_metadata(&mut out, &quoted, answer, row)?;
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
    Ok(out)
}

fn write_metadata(
    out: &mut Vec<u8>,
    quoted: &[String],
    answer: &Answer<'_>,
    row: usize,
) -> Result<(), frames::Error> {
    out.extend_from_slice(b",\"__status\":{");
    for (at, name) in quoted.iter().enumerate() {
        separate(out, at);
        out.extend_from_slice(name.as_bytes());
        out.push(b'"');
        out.extend_from_slice(answer.served(at, row)?.status.name().as_bytes());
        out.push(b'"');
    }
    out.extend_from_slice(b"},\"__event_timestamp\":{");
    for (at, name) in quoted.iter().enumerate() {
        separate(out, at);
        out.extend_from_slice(name.as_bytes());
        match answer.served(at, row)?.event_time {
            Some(time) => write_time(out, time),
            None => out.extend_from_slice(b"null"),
        }
    }
    out.push(b'}');
    Ok(())
}

/// A comma before everything but the first.
pub(crate) fn separate(out: &mut Vec<u8>, at: usize) {
    if at > 0 {
        out.push(b',');
    }
}

/// Entities and features as columns, then `__status` and `__event_timestamp` of each.
fn as_arrow(entities: &Frame, names: &[String], answer: &Answer<'_>) -> Result<Vec<u8>, frames::Error> {
    let mut frame = entities.clone();
    for (at, name) in names.iter().enumerate() {
        let served = (0..answer.rows()).map(|row| answer.served(at, row)).collect::<Result<Vec<_>, _>>()?;
        frame.set(name.clone(), column(&served.iter().map(|served| served.value).collect::<Vec<_>>()));
        frame.set(
            format!("{name}__status"),
            Values::text(served.iter().map(|served| Some(served.status.name()))),
        );
        let times = served.iter().map(|served| served.event_time.unwrap_or(frames::NO_INTEGER)).collect();
        frame.set(format!("{name}__event_timestamp"), Values::Time(times));
    }
    frames::wire::write_stream(&frame)
}

/// Values of one type as a column; one without any value is a column of null numbers.
pub(crate) fn column(cells: &[Cell<'_>]) -> Values {
    let integers = |pick: fn(&Cell<'_>) -> Option<i64>| {
        cells.iter().map(|cell| pick(cell).unwrap_or(frames::NO_INTEGER)).collect()
    };
    match cells.iter().find(|cell| **cell != Cell::Null) {
        Some(Cell::Integer(_)) => Values::Integer(integers(|cell| match cell {
            Cell::Integer(value) => Some(*value),
            _ => None,
        })),
        Some(Cell::Time(_)) => Values::Time(integers(|cell| match cell {
            Cell::Time(value) => Some(*value),
            _ => None,
        })),
        Some(Cell::Text(_)) => Values::text(cells.iter().map(|cell| match cell {
            Cell::Text(text) => Some(*text),
            _ => None,
        })),
        Some(Cell::Boolean(_)) => Values::Boolean(
            cells
                .iter()
                .map(|cell| match cell {
                    Cell::Boolean(value) => Some(*value),
                    _ => None,
                })
                .collect(),
        ),
        Some(Cell::Exact(kind, _)) => {
            let mut values = Exact::new(*kind);
            for cell in cells {
                match cell {
                    Cell::Exact(_, bytes) => values.push(Some(bytes)),
                    _ => values.push(None),
                }
            }
            Values::Exact(values)
        }
        Some(Cell::Number(_) | Cell::Null) | None => Values::Number(
            cells
                .iter()
                .map(|cell| match cell {
                    Cell::Number(value) => *value,
                    _ => f64::NAN,
                })
                .collect(),
        ),
    }
}

/// The dataset of that name.
pub(crate) fn dataset<'a>(
    definitions: &'a Definitions,
    name: &str,
    project: &str,
) -> Result<&'a Dataset, Error> {
    definitions.dataset(name).ok_or_else(|| Error::undefined(definitions, "dataset", name, project))
}

pub(crate) async fn freshness(State(store): State<FeatureStore>) -> Result<Json<Vec<Freshness>>, Problem> {
    let mut conn = store.context.db.acquire().await.map_err(storage::Error::from)?;
    Ok(Json(storage::parts::freshness(&mut conn, store.project()).await?))
}

/// Plans by their lists of references, as long as the definitions are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plans(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    epoch: i64,
    plans: HashMap<Vec<String>, Arc<Plan>>,
}

/// Plans that are kept, at most; past that all are made anew, as they are asked for.
const MAX_PLANS: usize = 1_000;

impl Plans {
    /// The plan of a list of references.
    pub(crate) fn of(&self, catalogue: &Catalogue, references: &[String]) -> Result<Arc<Plan>, Error> {
        let mut known = self.0.lock().expect("no holder of this lock can panic");
        if known.epoch != catalogue.epoch || known.plans.len() > MAX_PLANS {
            known.plans.clear();
            known.epoch = catalogue.epoch;
        }
        if let Some(plan) = known.plans.get(references) {
            return Ok(Arc::clone(plan));
        }
        if references.is_empty() {
            return Err(Error::BadRequest("`features` names no feature".to_owned()));
        }
        let plan = Arc::new(Plan::of(&catalogue.definitions, &catalogue.views, references)?);
        known.plans.insert(references.to_vec(), Arc::clone(&plan));
        Ok(plan)
    }
}
