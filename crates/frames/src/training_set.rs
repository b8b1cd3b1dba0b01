//! Training sets: immutable Arrow files of a point-in-time join, with a manifest that shows what is in them.

use std::collections::BTreeMap;
use std::path::Path;

use domain::definitions::{Dataset, Definitions, Format, Object, Source, ValueType};
use domain::split::Window;
use domain::tabular::{History, Table};
use domain::{Cutoff, LabelTime};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::Error;
use crate::as_of::Status;
use crate::assemble::{Assembled, Looks, Needed, assemble_by_bucket, needed, schema_of, status_rates, table};
use crate::describe::{Description, describe};
use crate::evaluate::evaluate;
use crate::files::{Written, read_arrow, read_table, verify};
use crate::frame::{Frame, NO_INTEGER, Values};
use crate::history;
use crate::keys::Keys;
use crate::parts::Selection;
use crate::store::Store;
use crate::view::ViewRows;

/// A training set in memory.
#[derive(Clone, Debug)]
pub struct TrainingSet {
    /// Names each row: the spine's key columns, joined by `|`.
    pub rows: Vec<String>,
    /// When the event was to happen, in microseconds.
    pub event_times: Vec<i64>,
    /// When each question was asked.
    pub cutoffs: Vec<i64>,
    /// The outcomes.
    pub labels: Vec<bool>,
    /// When each outcome became known.
    pub label_times: Vec<i64>,
    /// The features as models see them.
    pub table: Table,
    /// The histories, if the dataset has an event stream.
    pub history: Option<History>,
}

/// What a training set holds, stored beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Rows of the spine that had a label.
    pub rows_in: u64,
    /// Rows of the file.
    pub rows_out: u64,
    /// Values whose moment of knowledge lies after their row's cutoff. Nothing from the future means 0.
    pub leaked_values: u64,
    /// Leaked values by view, with the number of values that were looked at.
    pub leak_audit: BTreeMap<String, LeakAudit>,
    /// Share of rows with each status, by view.
    pub status_rates: BTreeMap<String, BTreeMap<String, f64>>,
    /// Rows, base rate and feature statistics by window of the split.
    pub windows: BTreeMap<Window, WindowStatistics>,
    /// Feature names and types, in order.
    pub schema: Vec<(String, String)>,
    /// Hash of the schema.
    pub schema_fingerprint: String,
    /// Hash of the rows that the spine's source had, if it is no view.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spine_sha256: Option<String>,
}

/// The leak audit of one view.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeakAudit {
    /// Answers that rested on a stored row.
    pub values: u64,
    /// Those that were learned after the cutoff.
    pub leaked: u64,
}

/// What one window of the split holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WindowStatistics {
    /// Its rows.
    pub rows: u64,
    /// The share whose outcome came true.
    pub base_rate: f64,
    /// Share of missing values by feature.
    pub missing: BTreeMap<String, f64>,
    /// Mean by numeric feature, over what is not missing.
    pub mean: BTreeMap<String, f64>,
    /// What each feature holds; sets of old do not say.
    #[serde(default)]
    pub features: BTreeMap<String, Description>,
    /// Share of the window's rows with each status, by view; sets of old do not say.
    #[serde(default)]
    pub status_rates: BTreeMap<String, BTreeMap<String, f64>>,
}

/// A training set made, not yet written.
#[derive(Debug)]
pub struct Built {
    frame: Frame,
    history: Option<History>,
    /// What it holds.
    pub manifest: Manifest,
}

/// Where a training set's rows come from.
pub trait Rows {
    /// What reading can fail with.
    type Error: From<Error>;

    /// Into how many buckets a view is cut.
    fn buckets(&self, view: &str) -> u32;

    /// The rows of a view that are wanted, and perhaps others.
    ///
    /// # Errors
    /// If they cannot be read.
    fn read(&mut self, needed: &Needed<'_>, wanted: &Selection) -> Result<ViewRows, Self::Error>;

    /// The rows of the spine, if it is no view but a source.
    fn spine(&mut self) -> Option<ForeignSpine> {
        None
    }
}

/// The rows of a source that a dataset starts from, as they were when they were read.
#[derive(Clone, Debug)]
pub struct ForeignSpine {
    rows: Frame,
    sha256: String,
}

impl ForeignSpine {
    /// Holds rows of a source, with a hash of all that they say.
    ///
    /// # Errors
    /// [`Error::Unreadable`] if they cannot be encoded, which they can.
    pub fn of(rows: Frame) -> Result<Self, Error> {
        let sha256 = hex::encode(Sha256::digest(crate::wire::write_stream(&rows)?));
        Ok(Self { rows, sha256 })
    }

    /// As rows of a view: what comes first was first. A row that nobody says the time of is refused; one whose outcome has no
    /// time is not known yet.
    fn as_view(&self, source: &Source) -> Result<ViewRows, Error> {
        let event_time = self.rows.times(&source.event_time)?.to_vec();
        if let Some(row) = event_time.iter().position(|time| *time == NO_INTEGER) {
            let why =
                format!("`{}` is null in row {} of source `{}`", source.event_time, row + 1, source.name);
            return Err(Error::unreadable("spine", why));
        }
        let unknown = |time: &i64| if *time == NO_INTEGER { i64::MAX } else { *time };
        Ok(ViewRows {
            known_time: self.rows.times(&source.known_time)?.iter().map(unknown).collect(),
            seq: (0..self.rows.rows() as i64).collect(),
            op: vec![false; self.rows.rows()],
            frame: self.rows.clone(),
            event_time,
        })
    }
}

/// Builds the training set of `dataset` from what the views hold: spine rows whose outcome was known by `as_of`, each
/// looking from its own cutoff, bucket by bucket.
///
/// # Errors
/// What `rows` said, or an error that names the column that does not fit.
pub fn build<R: Rows>(
    definitions: &Definitions,
    dataset: &Dataset,
    as_of: i64,
    rows: &mut R,
) -> Result<Built, R::Error> {
    let spine = Spine::read(definitions, dataset, as_of, rows)?;
    let looks = Looks { spine: &spine.frame, cutoffs: &spine.cutoffs, as_of: &spine.cutoffs };
    let buckets: std::collections::HashMap<String, u32> = needed(definitions, dataset)?
        .into_iter()
        .map(|needed| (needed.view.name.clone(), rows.buckets(&needed.view.name)))
        .collect();
    let buckets_of = |needed: &Needed<'_>| buckets.get(&needed.view.name).copied().unwrap_or(1);
    let mut assembled = assemble_by_bucket(definitions, dataset, &looks, buckets_of, |needed, wanted| {
        rows.read(needed, wanted)
    })?;
    assembled.features = assembled.features.in_order_of_appearance();
    let manifest = manifest(dataset, &spine, &assembled);
    let mut columns = vec![
        ("__row".to_owned(), Values::text(spine.names.iter().map(Some))),
        ("__event_time".to_owned(), Values::Time(spine.event_times.clone())),
        ("__cutoff".to_owned(), Values::Time(spine.cutoffs.clone())),
        ("__label".to_owned(), Values::Boolean(spine.labels.iter().copied().map(Some).collect())),
        ("__label_time".to_owned(), Values::Time(spine.label_times.clone())),
    ];
    for joined in &assembled.joined {
        let statuses = joined.statuses.iter().map(|status| f64::from(*status as i8)).collect();
        columns.push((format!("__status__{}", joined.view), Values::Number(statuses)));
    }
    columns.extend(assembled.features.columns().iter().cloned());
    let frame = Frame::new(spine.names.len(), columns);
    Ok(Built { frame, history: assembled.history, manifest })
}

/// The rows of a dataset before anything is joined.
struct Spine {
    frame: Frame,
    names: Vec<String>,
    event_times: Vec<i64>,
    cutoffs: Vec<i64>,
    labels: Vec<bool>,
    label_times: Vec<i64>,
    sha256: Option<String>,
}

impl Spine {
    fn read<R: Rows>(
        definitions: &Definitions,
        dataset: &Dataset,
        as_of: i64,
        source: &mut R,
    ) -> Result<Self, R::Error> {
        let spine = &dataset.spine;
        let from = spine.from.map_or(i64::MIN, Cutoff::micros);
        let until = spine.until.map_or(i64::MAX, Cutoff::micros);
        let wanted = Selection { events: (from, until), max_known: as_of, ..Selection::up_to(i64::MAX) };
        let (rows, keys, sha256) = spine_rows(definitions, spine, &wanted, source)?;
        let all = with_time(&rows.frame, &rows.event_time);
        let labels = truths("label", &dataset.label, &all)?;
        let taken = spine
            .filter
            .as_deref()
            .map(|condition| truths("spine's `where`", condition, &all))
            .transpose()?;
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let names = row_names(&rows.frame, &keys)?;
        let mut kept: Vec<u32> = (0..rows.rows() as u32)
            .filter(|&row| {
                let row = row as usize;
                let within = (from..until).contains(&rows.event_time[row]);
                let taken = taken.as_ref().is_none_or(|taken| taken[row] == Some(true));
                within && taken && rows.known_time[row] <= as_of && labels[row].is_some() && !rows.op[row]
            })
            .collect();
        kept.sort_by(|&a, &b| {
            let (a, b) = (a as usize, b as usize);
            (rows.event_time[a], &names[a], rows.seq[a]).cmp(&(rows.event_time[b], &names[b], rows.seq[b]))
        });
        let taken = rows.take(&kept);
        let horizon = dataset.horizon.micros();
        Ok(Self {
            names: kept.iter().map(|&row| names[row as usize].clone()).collect(),
            labels: kept.iter().map(|&row| labels[row as usize] == Some(true)).collect(),
            cutoffs: taken.event_time.iter().map(|time| time - horizon).collect(),
            frame: with_time(&taken.frame, &taken.event_time),
            event_times: taken.event_time,
            label_times: taken.known_time,
            sha256,
        })
    }
}

/// The rows of a spine, the columns that name them, and the hash of what they say if they are no view's.
fn spine_rows<R: Rows>(
    definitions: &Definitions,
    spine: &domain::definitions::Spine,
    wanted: &Selection,
    rows: &mut R,
) -> Result<(ViewRows, Vec<String>, Option<String>), R::Error> {
    let missing = || Error::unreadable("definitions", format!("there is no spine `{}`", spine.name()));
    if let Some(source) = &spine.source {
        let source = definitions.source(source).ok_or_else(missing)?;
        let foreign = rows.spine().ok_or_else(missing)?;
        return Ok((foreign.as_view(source)?, spine.keys.clone(), Some(foreign.sha256)));
    }
    let view = definitions.feature_view(spine.name()).ok_or_else(missing)?;
    let needed = Needed { view, schema: schema_of(definitions, view)? };
    let keys = needed.schema.keys.iter().map(|(name, _)| name.clone()).collect();
    Ok((rows.read(&needed, wanted)?, keys, None))
}

fn truths(what: &'static str, condition: &str, frame: &Frame) -> Result<Vec<Option<bool>>, Error> {
    match evaluate(condition, frame)? {
        Values::Boolean(truths) => Ok(truths),
        _ => Err(Error::unreadable(what, "it is neither true nor false")),
    }
}

fn with_time(frame: &Frame, event_time: &[i64]) -> Frame {
    let mut frame = frame.clone();
    frame.set("event_time", Values::Time(event_time.to_vec()));
    frame
}

/// Names rows by their keys, joined by `|`.
///
/// # Errors
/// [`Error::MissingColumn`].
pub fn row_names(frame: &Frame, keys: &[&str]) -> Result<Vec<String>, Error> {
    Keys::of(frame, keys)?; // refuses what cannot be a key
    let columns = keys.iter().map(|name| frame.column(name)).collect::<Result<Vec<_>, _>>()?;
    let part = |values: &Values, row: usize| match values {
        Values::Integer(values) => values[row].to_string(),
        other => other.text_at(row).unwrap_or_default().to_owned(),
    };
    Ok((0..frame.rows())
        .map(|row| columns.iter().map(|values| part(values, row)).collect::<Vec<_>>().join("|"))
        .collect())
}

fn manifest(dataset: &Dataset, spine: &Spine, assembled: &Assembled) -> Manifest {
    let leak_audit: BTreeMap<String, LeakAudit> = assembled
        .joined
        .iter()
        .map(|joined| {
            let mut audit = LeakAudit::default();
            for (known, cutoff) in joined.known_times.iter().zip(&spine.cutoffs) {
                audit.values += u64::from(known.is_some());
                audit.leaked += u64::from(known.is_some_and(|known| known > *cutoff));
            }
            (joined.view.clone(), audit)
        })
        .collect();
    let everywhere: Vec<u32> = (0..spine.names.len() as u32).collect();
    let status_rates = named_rates(status_rates(&assembled.joined, &everywhere));
    let schema: Vec<(String, String)> =
        assembled.features.schema().into_iter().map(|(name, kind)| (name, kind.to_string())).collect();
    Manifest {
        rows_in: spine.names.len() as u64,
        rows_out: assembled.features.rows() as u64,
        leaked_values: leak_audit.values().map(|audit| audit.leaked).sum(),
        leak_audit,
        status_rates,
        windows: window_statistics(dataset, spine, assembled),
        schema_fingerprint: schema_fingerprint(&assembled.features.schema()),
        schema,
        spine_sha256: spine.sha256.clone(),
    }
}

/// A hash of columns' names and types, in order.
pub fn schema_fingerprint(schema: &[(String, ValueType)]) -> String {
    let named: Vec<(&str, String)> =
        schema.iter().map(|(name, kind)| (name.as_str(), kind.to_string())).collect();
    hash(&json!(named))
}

fn named_rates(rates: BTreeMap<String, BTreeMap<Status, f64>>) -> BTreeMap<String, BTreeMap<String, f64>> {
    let named = |rates: BTreeMap<Status, f64>| {
        rates.into_iter().map(|(status, rate)| (status.name().to_owned(), rate)).collect()
    };
    rates.into_iter().map(|(view, rates)| (view, named(rates))).collect()
}

fn window_statistics(
    dataset: &Dataset,
    spine: &Spine,
    assembled: &Assembled,
) -> BTreeMap<Window, WindowStatistics> {
    let mut places: BTreeMap<Window, Vec<u32>> = BTreeMap::new();
    for row in 0..spine.names.len() {
        let moments =
            (Cutoff::from_micros(spine.cutoffs[row]), LabelTime::from_micros(spine.label_times[row]));
        if let (Some(cutoff), Some(label_time)) = moments {
            places.entry(dataset.split.window(cutoff, label_time)).or_default().push(row as u32);
        }
    }
    places.into_iter().map(|(window, places)| (window, statistics(spine, assembled, &places))).collect()
}

fn statistics(spine: &Spine, assembled: &Assembled, places: &[u32]) -> WindowStatistics {
    let features = &assembled.features;
    let rows = places.len() as f64;
    let late = places.iter().filter(|&&row| spine.labels[row as usize]).count();
    let mut statistics =
        WindowStatistics { rows: places.len() as u64, base_rate: late as f64 / rows, ..Default::default() };
    for (name, values) in features.columns() {
        let missing = places.iter().filter(|&&row| values.is_null(row as usize)).count();
        statistics.missing.insert(name.clone(), missing as f64 / rows);
        statistics.features.insert(name.clone(), describe(values, places));
        if let Values::Number(numbers) = values {
            let known = || places.iter().map(|&row| numbers[row as usize]).filter(|number| !number.is_nan());
            if known().next().is_some() {
                statistics.mean.insert(name.clone(), known().sum::<f64>() / known().count() as f64);
            }
        }
    }
    statistics.status_rates = named_rates(status_rates(&assembled.joined, places));
    statistics
}

/// Hash of a dataset's definition and of everything it refers to: what its spine's source has included.
pub fn spec_hash(definitions: &Definitions, dataset: &Dataset, spine: Option<&ForeignSpine>) -> String {
    let referred: Vec<Value> = definitions
        .objects()
        .filter(|located| match &located.object {
            Object::FeatureView(view) => {
                Some(&view.name) == dataset.spine.view.as_ref() || dataset.views.contains(&view.name)
            }
            Object::EventStream(stream) => dataset.history.as_ref() == Some(&stream.name),
            Object::Entity(_) | Object::Source(_) => true,
            _ => false,
        })
        .map(|located| located.object.body())
        .collect();
    let mut spec = json!({ "format": 1, "dataset": dataset, "refers_to": referred });
    if let Some(spine) = spine {
        spec["spine"] = json!(spine.sha256);
    }
    hash(&spec)
}

fn hash(value: &Value) -> String {
    hex::encode(Sha256::digest(value.to_string().as_bytes()))
}

impl Built {
    /// Writes the files: the rows, and beside them the histories, as Arrow, if there are any.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn write(
        &self,
        store: &Store,
        format: Format,
        path: &str,
        history_path: &str,
    ) -> Result<(Written, Option<Written>), Error> {
        let written = match format {
            Format::Arrow => store.write_arrow(path, &self.frame)?,
            Format::Parquet => store.write_parquet(path, &self.frame)?,
        };
        let histories = match &self.history {
            Some(events) => {
                let events = history::to_frame(events).in_order_of_appearance();
                Some(store.write_arrow(history_path, &events)?)
            }
            None => None,
        };
        Ok((written, histories))
    }
}

/// Reads a training set, after its hashes were checked.
///
/// # Errors
/// [`Error::Altered`] if a file is not the one that was written.
pub fn read(
    path: &Path,
    sha256: &str,
    histories: Option<(&Path, &str)>,
    manifest: &Manifest,
) -> Result<TrainingSet, Error> {
    verify(path, sha256)?;
    let frame = read_table(path)?;
    let history = match histories {
        Some((path, sha256)) => {
            verify(path, sha256)?;
            Some(history::from_frame(&read_arrow(path)?, frame.rows())?)
        }
        None => None,
    };
    let names: Vec<&str> = manifest.schema.iter().map(|(name, _)| name.as_str()).collect();
    let Values::Boolean(labels) = frame.column("__label")? else {
        return Err(Error::unreadable("training set", "its labels are not booleans"));
    };
    let row = frame.column("__row")?;
    Ok(TrainingSet {
        rows: (0..frame.rows()).map(|at| row.text_at(at).unwrap_or_default().to_owned()).collect(),
        event_times: frame.times("__event_time")?.to_vec(),
        cutoffs: frame.times("__cutoff")?.to_vec(),
        labels: labels.iter().map(|label| *label == Some(true)).collect(),
        label_times: frame.times("__label_time")?.to_vec(),
        table: table(&frame.select(&names)?)?,
        history,
    })
}
