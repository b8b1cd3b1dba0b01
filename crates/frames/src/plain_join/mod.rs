//! The point-in-time join of plain files, without definitions, a server or a database.
//!
//! Labels stay in memory, features are streamed twice: first keys and times only, to find for every label the row it may see
//! ([`crate::contest`]); then the chosen features of those rows alone. A file's row order is its order of acceptance. Rows
//! out = label rows in, in their order, whatever the views hold. Columns keep their types; only dictionaries are written out.
//!
//! A label's status in a view is `NULL` if its row was found but all features asked of it are null: what is known is that
//! nothing is known. With one null feature among others it is `PRESENT`, and the column shows the null.

mod gather;
mod lookup;
mod output;
mod pack;
mod settings;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use chrono_tz::Tz;

use crate::Error;
use crate::as_of::{Rule, Status};
use crate::frame::NO_INTEGER;
use crate::moments::{Reading, Rounding};
use crate::scan::Scan;
use gather::Gathered;
use output::Output;
pub use pack::pack;
pub use settings::zone;

/// How many labels are joined at once: what bounds the memory of a join. More are joined piece by piece, in their order.
const LABELS_AT_ONCE: usize = 4_000_000;

/// From when a label looks at what was known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Knowledge {
    /// From its cutoff.
    #[default]
    Cutoff,
    /// From the end of all days: corrections that came later count.
    Off,
    /// From the time in a column of the labels.
    Column(String),
}

/// A key: the label column and the view column that must agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPair {
    /// The column of the labels.
    pub label: String,
    /// The column of the view.
    pub view: String,
}

/// Files with features and how their rows are read.
#[derive(Clone, Debug)]
pub struct View {
    /// What its columns are prefixed with in the output.
    pub name: String,
    /// A Parquet, Arrow or CSV file, or a pattern with `*`; a path, or `s3://bucket/key`.
    pub path: String,
    /// What labels and rows must agree in; with none, every row is about every label.
    pub keys: Vec<KeyPair>,
    /// The column that says when a row happened.
    pub event_time: String,
    /// The column that says when a row was learned; without one, when it happened.
    pub known_time: Option<String>,
    /// The column of integers that says in which order rows were accepted; without one, the order in the files.
    pub seq: Option<String>,
    /// The column that says whether a row takes its entity away.
    pub op: Option<String>,
    /// The zone of times that name none; without one, such times are refused.
    pub zone: Option<Tz>,
    /// The columns to join; all that are neither keys nor times, if not said.
    pub features: Option<Vec<String>>,
    /// What of it counts.
    pub rule: Rule,
}

/// What is joined to the labels.
#[derive(Clone, Debug)]
pub struct Options {
    /// The label column after which nothing may be seen.
    pub cutoff: String,
    /// From when labels look at what was known.
    pub knowledge: Knowledge,
    /// The zone of label times that name none; without one, such times are refused.
    pub zone: Option<Tz>,
    /// The files with features.
    pub views: Vec<View>,
}

/// What a join did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The labels read.
    pub rows_in: usize,
    /// The rows written.
    pub rows_out: usize,
    /// What was found in each view, in the order asked.
    pub views: Vec<ViewReport>,
}

/// What was found in one view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ViewReport {
    /// The view.
    pub view: String,
    /// How many labels got which status.
    pub statuses: BTreeMap<Status, usize>,
    /// How many labels lie after everything that the view knows of, which may mean that its file is old.
    pub labels_after_watermark: usize,
}

/// Joins `options.views` to the labels and writes the label columns, then `view__feature…` and `view__status` of each view.
/// The name of `out` says what is written: Arrow IPC (`.arrow`), CSV (`.csv`), or else Parquet.
///
/// # Errors
/// An error that names the file and the column that does not fit; nothing is written then.
pub fn join(labels: &str, options: &Options, out: &Path) -> Result<Report, Error> {
    join_in_pieces(labels, options, out, LABELS_AT_ONCE)
}

/// [`join`] with at most so many labels at once, and a batch more.
///
/// # Errors
/// As [`join`].
pub fn join_in_pieces(labels: &str, options: &Options, out: &Path, at_once: usize) -> Result<Report, Error> {
    let spine = Scan::open(labels, &label_texts(options))?;
    let joins =
        options.views.iter().map(|view| Join::new(view, &spine)).collect::<Result<Vec<_>, Error>>()?;
    let schema = output_schema(&spine.schema(), &joins)?;
    let mut report = Report { rows_in: 0, rows_out: 0, views: joins.iter().map(Join::report).collect() };
    Output::write(out, &schema, |output| {
        let mut pieces = Pieces { at_once, waiting: Vec::new(), rows: 0 };
        let columns: Vec<String> = spine.schema().fields().iter().map(|field| field.name().clone()).collect();
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        let mut join_piece = |piece: RecordBatch| {
            report.rows_in += piece.num_rows();
            let written = write_piece(&spine, options, &joins, &piece, output, &mut report.views)?;
            report.rows_out += written;
            Ok(())
        };
        spine.read(&columns, |rows| pieces.add(rows.batch, &mut join_piece))?;
        pieces.finish(&mut join_piece)
    })?;
    assert_eq!(report.rows_in, report.rows_out, "a join never loses or doubles a label");
    Ok(report)
}

/// The label columns that are times or knows a CSV file no better.
fn label_texts(options: &Options) -> Vec<&str> {
    let known = match &options.knowledge {
        Knowledge::Column(name) => Some(name.as_str()),
        Knowledge::Cutoff | Knowledge::Off => None,
    };
    known.into_iter().chain([options.cutoff.as_str()]).collect()
}

/// Label batches waiting to be joined together.
struct Pieces {
    at_once: usize,
    waiting: Vec<RecordBatch>,
    rows: usize,
}

impl Pieces {
    fn add(
        &mut self,
        batch: RecordBatch,
        join: &mut impl FnMut(RecordBatch) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.rows += batch.num_rows();
        self.waiting.push(batch);
        if self.rows >= self.at_once { self.finish(join) } else { Ok(()) }
    }

    fn finish(&mut self, join: &mut impl FnMut(RecordBatch) -> Result<(), Error>) -> Result<(), Error> {
        let waiting = std::mem::take(&mut self.waiting);
        self.rows = 0;
        let Some(first) = waiting.first() else { return Ok(()) };
        let piece = concat_batches(&first.schema(), &waiting);
        drop(waiting);
        join(piece.map_err(|error| Error::unreadable("labels", error))?)
    }
}

/// A view, opened and found to fit the labels.
struct Join<'a> {
    view: &'a View,
    scan: Scan,
    /// Names and output types.
    features: Vec<(String, DataType)>,
}

impl<'a> Join<'a> {
    fn new(view: &'a View, spine: &Scan) -> Result<Self, Error> {
        let join = Self::open(view)?;
        lookup::check_keys(spine, view, &join.scan)?;
        Ok(join)
    }

    fn open(view: &'a View) -> Result<Self, Error> {
        let times: Vec<&str> = [Some(&view.event_time), view.known_time.as_ref()]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect();
        let scan = Scan::open(&view.path, &times)?;
        let features = features(view, &scan)?;
        Ok(Self { view, scan, features })
    }

    fn report(&self) -> ViewReport {
        let statuses = Status::ALL.into_iter().map(|status| (status, 0)).collect();
        ViewReport { view: self.view.name.clone(), statuses, labels_after_watermark: 0 }
    }
}

/// The chosen features and the types they are written in.
fn features(view: &View, scan: &Scan) -> Result<Vec<(String, DataType)>, Error> {
    let roles: HashSet<&str> = view
        .keys
        .iter()
        .map(|key| &key.view)
        .chain([&view.event_time])
        .chain([&view.known_time, &view.seq, &view.op].into_iter().flatten())
        .map(String::as_str)
        .collect();
    let names = match &view.features {
        Some(names) => names.clone(),
        None => {
            let schema = scan.schema();
            let all = schema.fields().iter().map(|field| field.name().clone());
            all.filter(|name| !roles.contains(name.as_str())).collect()
        }
    };
    names.into_iter().map(|name| Ok((name.clone(), gather::written_type(&scan.kind(&name)?)))).collect()
}

fn output_schema(labels: &Schema, joins: &[Join<'_>]) -> Result<SchemaRef, Error> {
    let mut fields: Vec<Field> = labels.fields().iter().map(|field| field.as_ref().clone()).collect();
    for join in joins {
        let name = &join.view.name;
        let joined = join
            .features
            .iter()
            .map(|(feature, kind)| Field::new(format!("{name}__{feature}"), kind.clone(), true));
        fields.extend(joined);
        fields.push(Field::new(format!("{name}__status"), DataType::Utf8, false));
    }
    let mut seen = HashSet::new();
    match fields.iter().find(|field| !seen.insert(field.name().as_str())) {
        None => Ok(SchemaRef::new(Schema::new(fields))),
        Some(field) => Err(Error::Join(format!(
            "the output would have two columns `{}`; give the view another name, or rename the column",
            field.name()
        ))),
    }
}

/// Joins all views to some labels and writes them; answers how many.
fn write_piece(
    spine: &Scan,
    options: &Options,
    joins: &[Join<'_>],
    labels: &RecordBatch,
    output: &mut Output<'_>,
    reports: &mut [ViewReport],
) -> Result<usize, Error> {
    let looks = Looks::of(spine, labels, options)?;
    let mut joined = Vec::with_capacity(joins.len());
    for (join, report) in joins.iter().zip(reports.iter_mut()) {
        let found = lookup::winners(join.view, &join.scan, labels, &looks)
            .map_err(Error::in_file(join.scan.name()))?;
        report.labels_after_watermark +=
            looks.cutoff.iter().filter(|&&cutoff| cutoff > found.watermark).count();
        let gathered =
            Gathered::of(&join.scan, &join.features, &found.won).map_err(Error::in_file(join.scan.name()))?;
        joined.push(gathered);
    }
    let mut written = 0;
    for start in (0..labels.num_rows()).step_by(output::CHUNK) {
        let length = output::CHUNK.min(labels.num_rows() - start);
        let mut columns: Vec<ArrayRef> = labels.slice(start, length).columns().to_vec();
        for (gathered, report) in joined.iter().zip(reports.iter_mut()) {
            gathered.columns(start..start + length, &mut columns, &mut report.statuses)?;
        }
        output.add(columns)?;
        written += length;
    }
    Ok(written)
}

/// From when each label looks.
struct Looks {
    cutoff: Vec<i64>,
    /// `None` from the cutoff or the end of all days.
    as_of: Option<Vec<i64>>,
    off: bool,
}

impl Looks {
    fn of(spine: &Scan, labels: &RecordBatch, options: &Options) -> Result<Self, Error> {
        let reading = Reading { rounding: Rounding::Down, zone: options.zone };
        let times = |name: &str| {
            spine.kind(name)?;
            let column = labels.column_by_name(name).expect("the scan has it");
            whole_times(reading, name, column).map_err(Error::in_file(spine.name()))
        };
        let as_of = match &options.knowledge {
            Knowledge::Column(name) => Some(times(name)?),
            Knowledge::Cutoff | Knowledge::Off => None,
        };
        Ok(Self { cutoff: times(&options.cutoff)?, as_of, off: options.knowledge == Knowledge::Off })
    }
}

/// The times of a column that must know them all.
fn whole_times(reading: Reading, name: &str, column: &ArrayRef) -> Result<Vec<i64>, Error> {
    let times = reading.micros(name, column)?;
    match times.iter().filter(|time| **time == NO_INTEGER).count() {
        0 => Ok(times),
        nulls => Err(Error::Join(format!(
            "column `{name}` is null in {nulls} of {} rows, and without a time they have no place in the join; leave \
             these rows out",
            times.len()
        ))),
    }
}

#[cfg(test)]
mod tests;
