//! `/get-online-features`: entities as columns in, one object a column out.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use domain::definitions::Definitions;
use frames::Frame;
use frames::rows::{write_cell, write_time};
use frames::served::{Answer, Plan, Served, ValueStatus};
use serde::Deserialize;
use serde_json::{Map, Value};
use service_kit::catalogue::Catalogue;

use super::failure::{FeastBody, FeastError};
use crate::online::{Asked, bounded, dataset, separate};
use crate::{Error, FeatureStore};

/// What is asked; further keys are Feast's own and mean nothing here.
#[derive(Deserialize)]
pub(crate) struct Request {
    #[serde(default)]
    features: Vec<String>,
    feature_service: Option<String>,
    entities: Map<String, Value>,
    #[serde(default)]
    full_feature_names: bool,
    #[serde(default)]
    include_feature_view_version_metadata: bool,
}

pub(crate) async fn get_online_features(
    State(store): State<FeatureStore>,
    FeastBody(request): FeastBody<Request>,
) -> Result<Response, FeastError> {
    let catalogue = store.catalogue().await?;
    let plan = plan(&store, &catalogue, &request)?;
    let entities = entities(&plan, &request.entities)?;
    bounded(entities.rows())?;
    let asked = Asked { plan: &plan, entities: &entities };
    let bytes = asked.answer(&store, |answer, _| written(&request, &plan, answer)).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], bytes).into_response())
}

fn plan(store: &FeatureStore, catalogue: &Catalogue, request: &Request) -> Result<Arc<Plan>, Error> {
    let plan = match &request.feature_service {
        Some(service) => {
            store.plans.of(catalogue, &features_of(&catalogue.definitions, service, store.project())?)?
        }
        None => store.plans.of(catalogue, &request.features)?,
    };
    if !request.full_feature_names {
        let mut seen = std::collections::HashSet::new();
        if let Some((_, twice)) = plan.features().find(|(_, feature)| !seen.insert(*feature)) {
            return Err(Error::BadRequest(format!(
                "feature name collision: two views give `{twice}`; set full_feature_names=True to tell them apart"
            )));
        }
    }
    Ok(plan)
}

/// The joined features of a dataset, as references.
fn features_of(definitions: &Definitions, service: &str, project: &str) -> Result<Vec<String>, Error> {
    let dataset = dataset(definitions, service, project)?;
    let mut references = Vec::new();
    for name in &dataset.views {
        let Some(view) = definitions.feature_view(name) else { continue };
        let Some(source) = definitions.source(&view.source) else { continue };
        let shown = |feature: &String| !dataset.hidden.contains(&format!("{name}__{feature}"));
        references.extend(
            view.outputs(source)
                .into_iter()
                .map(|(feature, _)| feature)
                .filter(shown)
                .map(|feature| format!("{name}:{feature}")),
        );
    }
    Ok(references)
}

/// The key columns of a request.
fn entities(plan: &Plan, entities: &Map<String, Value>) -> Result<Frame, Error> {
    let mut rows = None;
    let mut columns = Vec::new();
    for (name, kind) in plan.keys() {
        let values = entities.get(name).ok_or_else(|| {
            Error::BadRequest(format!(
                "the request lacks the join key `{name}` that the features are found by"
            ))
        })?;
        let values = values.as_array().ok_or_else(|| {
            Error::BadRequest(format!("`entities.{name}` must be a list, one value an entity"))
        })?;
        if *rows.get_or_insert(values.len()) != values.len() {
            return Err(Error::BadRequest("the lists of `entities` must have the same length".to_owned()));
        }
        columns.push((name.clone(), frames::rows::column(name, *kind, values.iter())?));
    }
    Ok(Frame::new(rows.unwrap_or_default(), columns))
}

fn written(request: &Request, plan: &Plan, answer: &Answer<'_>) -> Result<Vec<u8>, frames::Error> {
    let features = plan.features().len();
    let mut out = Vec::with_capacity(256 + features * (64 + answer.rows() * 56));
    out.extend_from_slice(b"{\"metadata\":{\"feature_names\":[");
    for (at, name) in request.entities.keys().enumerate() {
        separate(&mut out, at);
        quoted(&mut out, name);
    }
    for (at, (view, feature)) in plan.features().enumerate() {
        separate(&mut out, at + request.entities.len());
        match request.full_feature_names {
            true => quoted(&mut out, &format!("{view}__{feature}")),
            false => quoted(&mut out, feature),
        }
    }
    out.push(b']');
    if request.include_feature_view_version_metadata {
        write_versions(&mut out, plan);
    }
    out.extend_from_slice(b"},\"results\":[");
    for (at, values) in request.entities.values().enumerate() {
        separate(&mut out, at);
        write_entity(&mut out, values);
    }
    let mut beside = Beside::new(answer.rows());
    for feature in 0..features {
        separate(&mut out, feature + request.entities.len());
        write_feature(&mut out, answer, feature, &mut beside)?;
    }
    out.extend_from_slice(b"]}");
    Ok(out)
}

fn quoted(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("writing to memory cannot fail");
}

fn write_versions(out: &mut Vec<u8>, plan: &Plan) {
    out.extend_from_slice(b",\"feature_view_metadata\":[");
    for (at, (view, version)) in plan.views().enumerate() {
        separate(out, at);
        out.extend_from_slice(b"{\"name\":");
        quoted(out, view);
        out.extend_from_slice(format!(",\"version\":{version}}}").as_bytes());
    }
    out.push(b']');
}

/// What was asked about, given back; Feast says of it that it is present since 1970.
fn write_entity(out: &mut Vec<u8>, values: &Value) {
    let count = values.as_array().map_or(0, Vec::len);
    out.extend_from_slice(b"{\"values\":");
    serde_json::to_writer(&mut *out, values).expect("writing to memory cannot fail");
    out.extend_from_slice(b",\"statuses\":[");
    for at in 0..count {
        separate(out, at);
        out.extend_from_slice(b"\"PRESENT\"");
    }
    out.extend_from_slice(b"],\"event_timestamps\":[");
    for at in 0..count {
        separate(out, at);
        out.extend_from_slice(NEVER);
    }
    out.extend_from_slice(b"]}");
}

const NEVER: &[u8] = b"\"1970-01-01T00:00:00Z\"";

/// Statuses and times of one feature, as they are written. The next feature of a view mostly has the same ones: they are written anew
/// only if one differs.
struct Beside {
    statuses: Vec<ValueStatus>,
    times: Vec<Option<i64>>,
    written_statuses: Vec<u8>,
    written_times: Vec<u8>,
}

impl Beside {
    /// Of a feature that is not found for any entity.
    fn new(rows: usize) -> Self {
        let mut beside = Self {
            statuses: vec![ValueStatus::NotFound; rows],
            times: vec![None; rows],
            written_statuses: vec![],
            written_times: vec![],
        };
        beside.write_statuses();
        beside.write_times();
        beside
    }

    fn write_statuses(&mut self) {
        self.written_statuses.clear();
        for (row, status) in self.statuses.iter().enumerate() {
            separate(&mut self.written_statuses, row);
            self.written_statuses.extend_from_slice(match status {
                ValueStatus::Present => b"\"PRESENT\"",
                ValueStatus::Null => b"\"NULL_VALUE\"",
                ValueStatus::Expired => b"\"OUTSIDE_MAX_AGE\"",
                ValueStatus::NotFound | ValueStatus::Deleted => b"\"NOT_FOUND\"",
            });
        }
    }

    fn write_times(&mut self) {
        self.written_times.clear();
        for (row, time) in self.times.iter().enumerate() {
            separate(&mut self.written_times, row);
            match time {
                Some(time) => write_time(&mut self.written_times, *time),
                None => self.written_times.extend_from_slice(NEVER),
            }
        }
    }
}

fn write_feature(
    out: &mut Vec<u8>,
    answer: &Answer<'_>,
    feature: usize,
    beside: &mut Beside,
) -> Result<(), frames::Error> {
    let (mut other_statuses, mut other_times) = (false, false);
    out.extend_from_slice(b"{\"values\":[");
    answer.each(feature, |row, Served { status, value, event_time }| {
        separate(out, row);
        write_cell(out, value);
        other_statuses |= std::mem::replace(&mut beside.statuses[row], status) != status;
        other_times |= std::mem::replace(&mut beside.times[row], event_time) != event_time;
    })?;
    if other_statuses {
        beside.write_statuses();
    }
    if other_times {
        beside.write_times();
    }
    out.extend_from_slice(b"],\"statuses\":[");
    out.extend_from_slice(&beside.written_statuses);
    out.extend_from_slice(b"],\"event_timestamps\":[");
    out.extend_from_slice(&beside.written_times);
    out.extend_from_slice(b"]}");
    Ok(())
}
