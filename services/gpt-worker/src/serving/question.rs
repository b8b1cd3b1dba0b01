//! From a request's rows to what a model reads: features of this moment from the online store, those that the row brings
//! itself over them, and its history.

use chrono::{DateTime, Utc};
use domain::definitions::{Dataset, Definitions, LastK, ValueType};
use domain::online::Fetched;
use domain::tabular::History;
use domain::words::did_you_mean;
use frames::assemble::{Assembled, table};
use frames::online::{asks, features, spine};
use frames::rows::{column, from_json};
use frames::training_set::schema_fingerprint;
use frames::{Frame, NO_INTEGER, Values};
use serde_json::{Map, Value};
use service_kit::catalogue::Catalogue;

use super::engine::Owned;
use super::{Serving, Statuses};
use crate::{Error, Worker};

/// The member of a row that holds its events.
const HISTORY: &str = "history";

/// Rows, ready for a model.
#[derive(Debug)]
pub(crate) struct Question {
    /// What the model reads.
    pub(crate) asked: Owned,
    /// The same, to be logged.
    pub(crate) features: Frame,
    /// What became of each row's question to each view.
    pub(crate) statuses: Statuses,
    /// The moment that all rows ask from.
    pub(crate) now: DateTime<Utc>,
}

/// What a row may bring.
#[derive(Debug)]
pub(crate) struct Columns {
    /// What names and describes the row.
    pub(crate) spine: Vec<(String, ValueType)>,
    /// What the model reads.
    pub(crate) features: Vec<(String, ValueType)>,
    /// What an event of its history holds, if there are histories.
    pub(crate) events: Option<Vec<(String, ValueType)>>,
}

impl Columns {
    /// What a dataset's rows may bring.
    pub(crate) fn of(catalogue: &Catalogue, dataset: &Dataset) -> Result<Self, Error> {
        let (definitions, views) = (&catalogue.definitions, &catalogue.views);
        let mut columns = domain::definitions::spine_columns(definitions, dataset);
        columns.push(("event_time".to_owned(), ValueType::Time));
        let nobody = spine(definitions, dataset, &Frame::empty(&columns))?;
        let assembled = features(definitions, views, dataset, &nobody, 0, &Fetched::default())?;
        let events = last_k(definitions, dataset).map(|(last, kinds)| {
            last.columns.iter().filter_map(|name| Some((name.clone(), kinds(name)?))).collect()
        });
        Ok(Self { spine: columns, features: assembled.features.schema(), events })
    }

    /// The type of a column that a row may bring; what names the row comes first.
    pub(crate) fn kind(&self, name: &str) -> Option<ValueType> {
        let known = self.spine.iter().chain(&self.features).find(|(known, _)| known == name);
        known.map(|(_, kind)| *kind)
    }

    fn check(&self, rows: &[Map<String, Value>]) -> Result<(), Error> {
        let fits = |key: &str| self.kind(key).is_some() || (key == HISTORY && self.events.is_some());
        let Some(key) = rows.iter().flat_map(Map::keys).find(|key| !fits(key)) else { return Ok(()) };
        let known = self.spine.iter().chain(&self.features).map(|(name, _)| name.as_str());
        Err(Error::BadRequest(format!(
            "a row brings `{key}`, which the model's dataset does not know{}",
            did_you_mean(key, known)
        )))
    }

    fn is_spine(&self, name: &str) -> bool {
        self.spine.iter().any(|(known, _)| known == name)
    }
}

/// The `last_k` of a dataset's histories, and the types of its columns.
fn last_k<'a>(
    definitions: &'a Definitions,
    dataset: &Dataset,
) -> Option<(&'a LastK, impl Fn(&str) -> Option<ValueType> + use<'a>)> {
    let stream = definitions.event_stream(dataset.history.as_deref()?)?;
    let view = definitions.feature_view(&stream.view)?;
    let source = definitions.source(&view.source)?;
    Some((view.last_k.as_ref()?, |name: &str| source.columns.get(name).copied()))
}

impl Worker {
    /// What a version's dataset lets rows bring.
    ///
    /// # Errors
    /// [`Error::Undefined`] if the dataset is gone, [`Error::Schema`] if it gives other features than the model knows.
    pub(crate) async fn columns(&self, serving: &Serving) -> Result<Columns, Error> {
        let catalogue = self.catalogues.now(self.project()).await?;
        let columns = Columns::of(&catalogue, dataset(&catalogue, serving)?)?;
        serving.servable.check_schema(&schema_fingerprint(&columns.features))?;
        Ok(columns)
    }

    /// Rows, ready for a version.
    ///
    /// # Errors
    /// As [`Worker::columns`]; or what a row brings does not fit; or the online store is busy.
    pub(crate) async fn question(
        &self,
        serving: &Serving,
        rows: &[Map<String, Value>],
    ) -> Result<Question, Error> {
        let catalogue = self.catalogues.now(self.project()).await?;
        let dataset = dataset(&catalogue, serving)?;
        let columns = Columns::of(&catalogue, dataset)?;
        serving.servable.check_schema(&schema_fingerprint(&columns.features))?;
        columns.check(rows)?;
        let (definitions, views) = (&catalogue.definitions, &catalogue.views);
        let given = from_json(&named(rows, |key| columns.is_spine(key)), &columns.spine)?;
        let spine = spine(definitions, dataset, &given)?;
        let now = self.context.clock.now();
        let micros = now.timestamp_micros();
        let asks = asks(definitions, views, dataset, &spine, micros)?;
        let fetched = if asks.iter().all(|ask| ask.keys.is_empty()) {
            std::sync::Arc::new(Fetched::default())
        } else {
            self.reader.fetch(asks).await?
        };
        let mut assembled = features(definitions, views, dataset, &spine, micros, &fetched)?;
        override_features(&mut assembled.features, &columns, rows)?;
        let history = histories(&assembled, &columns, rows)?;
        let statuses = assembled.joined.iter().map(|joined| (joined.view.clone(), joined.statuses.clone()));
        let table = table(&assembled.features)?;
        Ok(Question {
            statuses: Statuses(statuses.collect()),
            asked: Owned { table, history, cutoffs: vec![micros; rows.len()] },
            features: assembled.features,
            now,
        })
    }
}

fn dataset<'a>(catalogue: &'a Catalogue, serving: &Serving) -> Result<&'a Dataset, Error> {
    let name = &serving.servable.card.dataset;
    let found = catalogue.definitions.dataset(name);
    found.ok_or_else(|| Error::Undefined { kind: "dataset", name: name.clone() })
}

/// The members of rows whose names are wanted.
fn named(rows: &[Map<String, Value>], wanted: impl Fn(&str) -> bool) -> Vec<Map<String, Value>> {
    let part = |row: &Map<String, Value>| {
        row.iter().filter(|(key, _)| wanted(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    rows.iter().map(part).collect()
}

/// Puts the features that rows bring in the place of those that were fetched.
fn override_features(frame: &mut Frame, columns: &Columns, rows: &[Map<String, Value>]) -> Result<(), Error> {
    for (name, kind) in columns.features.iter().filter(|(name, _)| !columns.is_spine(name)) {
        if !rows.iter().any(|row| row.contains_key(name)) {
            continue;
        }
        let brought = column(name, *kind, rows.iter().map(|row| row.get(name).unwrap_or(&Value::Null)))?;
        let mut both = frame.column(name)?.clone();
        both.append(&brought);
        let own = |(at, row): (usize, &Map<String, Value>)| {
            at + if row.contains_key(name) { rows.len() } else { 0 }
        };
        let places: Vec<u32> = rows.iter().enumerate().map(|row| own(row) as u32).collect();
        frame.set(name.clone(), both.take(&places));
    }
    Ok(())
}

/// The histories that were fetched, or those that rows bring.
fn histories(
    assembled: &Assembled,
    columns: &Columns,
    rows: &[Map<String, Value>],
) -> Result<Option<History>, Error> {
    let (Some(fetched), Some(kinds)) = (&assembled.history, &columns.events) else { return Ok(None) };
    if !rows.iter().any(|row| row.contains_key(HISTORY)) {
        return Ok(Some(fetched.clone()));
    }
    let brought = brought(kinds, rows)?;
    let both = History::concat(&[fetched, &brought])
        .ok_or_else(|| Error::BadRequest("the events do not hold what the event stream reads".to_owned()))?;
    let own =
        |(at, row): (usize, &Map<String, Value>)| at + if row.contains_key(HISTORY) { rows.len() } else { 0 };
    let places: Vec<usize> = rows.iter().enumerate().map(own).collect();
    Ok(Some(both.take(&places)))
}

/// The events that rows bring, oldest first.
fn brought(kinds: &[(String, ValueType)], rows: &[Map<String, Value>]) -> Result<History, Error> {
    let (mut offsets, mut events) = (vec![0], Vec::new());
    for row in rows {
        events.extend(events_of(row)?);
        offsets.push(events.len());
    }
    let frame = from_json(&events, kinds)?;
    let times = frame.times("event_time")?;
    if let Some(row) = times.iter().position(|time| *time == NO_INTEGER) {
        return Err(Error::BadRequest(format!("event {row} of `history` has no `event_time`")));
    }
    let mut order: Vec<u32> = (0..times.len() as u32).collect();
    for range in offsets.windows(2) {
        order[range[0]..range[1]].sort_by_key(|&event| times[event as usize]);
    }
    let sorted = frame.take(&order);
    let names: Vec<&String> = kinds.iter().map(|(name, _)| name).collect();
    let fields = table(&sorted.select(&names)?)?;
    let Values::Time(times) = sorted.column("event_time")?.clone() else {
        return Err(Error::BadRequest("`event_time` of an event is a time".to_owned()));
    };
    Ok(History { offsets, times, fields })
}

fn events_of(row: &Map<String, Value>) -> Result<Vec<Map<String, Value>>, Error> {
    let refused = || {
        Error::BadRequest(
            "`history` is a list of events, each an object with `event_time` and the stream's columns".into(),
        )
    };
    match row.get(HISTORY) {
        None | Some(Value::Null) => Ok(vec![]),
        Some(Value::Array(events)) => {
            events.iter().map(|event| event.as_object().cloned().ok_or_else(refused)).collect()
        }
        Some(_) => Err(refused()),
    }
}
