//! From a spine to features: joins, histories and expressions, by the same steps offline and online.
//!
//! Offline the spine is every event of a log and each row looks from its own cutoff; online it is the rows of a request and
//! all look from now. What differs is only where the views' rows come from.

use std::collections::BTreeMap;

use domain::definitions::{Dataset, Definitions, FeatureView, Shape, ValueType};
use domain::tabular::{Column, History, Table};

use crate::Error;
use crate::as_of::{Answer, Rule, Status, latest};
use crate::evaluate::evaluate;
use crate::frame::{Frame, Values};
use crate::groups::{Groups, Question};
use crate::history::{appended, as_column, last_k};
use crate::keys::Keys;
use crate::parts::{Bucket, Selection};
use crate::view::{ViewRows, ViewSchema};
use crate::windows::Plan;

/// What was joined from one view.
#[derive(Clone, Debug)]
pub struct Joined {
    /// The view.
    pub view: String,
    /// What became of each row's question.
    pub statuses: Vec<Status>,
    /// When the newest value behind each answer was learned.
    pub known_times: Vec<Option<i64>>,
}

/// A spine with everything that its dataset asks for.
#[derive(Clone, Debug)]
pub struct Assembled {
    /// The model's inputs, in a fixed order: expressions by name, then joined features by view.
    pub features: Frame,
    /// What was joined, by view.
    pub joined: Vec<Joined>,
    /// The histories, if the dataset has an event stream.
    pub history: Option<History>,
}

impl Assembled {
    /// The features as models see them.
    ///
    /// # Errors
    /// [`Error::Unreadable`] if the columns do not fit together, which they do.
    pub fn table(&self) -> Result<Table, Error> {
        table(&self.features)
    }
}

/// A frame as models see it.
///
/// # Errors
/// [`Error::Unreadable`] if the columns do not fit together, which they do.
pub fn table(frame: &Frame) -> Result<Table, Error> {
    let columns = frame.columns().iter().flat_map(|(name, values)| columns_of(name, values)).collect();
    Table::new(frame.rows(), columns).map_err(|error| Error::unreadable("frame", error))
}

/// A column as models see it: of a vector one column a place, `name[0]`, `name[1]`, ….
fn columns_of(name: &str, values: &Values) -> Vec<(String, Column)> {
    match (values, values.kind()) {
        (Values::Exact(vectors), ValueType::Vector(length)) => (0..usize::from(length))
            .map(|place| (format!("{name}[{place}]"), Column::Number(vectors.elements(place))))
            .collect(),
        _ => vec![(name.to_owned(), as_column(values))],
    }
}

/// A view of a dataset, ready to be joined.
#[derive(Clone, Debug)]
pub struct Needed<'a> {
    /// The view.
    pub view: &'a FeatureView,
    /// Its columns.
    pub schema: ViewSchema,
}

/// The views that a dataset joins: first those with features, last the one with histories.
///
/// # Errors
/// [`Error::Unreadable`] if the definitions were never checked.
pub fn needed<'a>(definitions: &'a Definitions, dataset: &Dataset) -> Result<Vec<Needed<'a>>, Error> {
    let stream = match &dataset.history {
        Some(name) => Some(definitions.event_stream(name).ok_or_else(|| unchecked("event stream", name))?),
        None => None,
    };
    dataset
        .views
        .iter()
        .chain(stream.map(|stream| &stream.view))
        .map(|name| {
            let view = definitions.feature_view(name).ok_or_else(|| unchecked("view", name))?;
            Ok(Needed { view, schema: schema_of(definitions, view)? })
        })
        .collect()
}

/// The columns of a view.
///
/// # Errors
/// [`Error::Unreadable`] if the definitions were never checked.
pub fn schema_of(definitions: &Definitions, view: &FeatureView) -> Result<ViewSchema, Error> {
    let entity = definitions.entity(&view.entity).ok_or_else(|| unchecked("entity", &view.entity))?;
    let source = definitions.source(&view.source).ok_or_else(|| unchecked("source", &view.source))?;
    Ok(ViewSchema::of(view, entity, source))
}

fn unchecked(kind: &str, name: &str) -> Error {
    Error::unreadable("definitions", format!("there is no {kind} `{name}`"))
}

/// Joins everything that `dataset` asks for to `spine`, whose columns include `event_time`. `rows_of` fetches the rows of
/// one view at a time, given the keys that the spine asks for.
///
/// # Errors
/// What `rows_of` said, or an error that names the column that does not fit.
pub fn assemble<E: From<Error>>(
    definitions: &Definitions,
    dataset: &Dataset,
    spine: &Frame,
    cutoffs: &[i64],
    as_of: &[i64],
    mut rows_of: impl FnMut(&Needed<'_>, &Keys) -> Result<ViewRows, E>,
) -> Result<Assembled, E> {
    let looks = Looks { spine, cutoffs, as_of };
    assemble_with(definitions, dataset, &looks, |needed| {
        let asked = Keys::of(spine, &needed.schema.key_names())?;
        let rows = rows_of(needed, &asked)?;
        let all: Vec<u32> = (0..spine.rows() as u32).collect();
        Ok(join_rows(needed, &rows, &asked, &looks, &all)?)
    })
}

/// As [`assemble`], but bucket by bucket, so that only one bucket of one view is in memory: `buckets_of` says into how many
/// a view is cut, and `rows_of` fetches the rows that a selection wants.
///
/// # Errors
/// What `rows_of` said, or an error that names the column that does not fit.
pub fn assemble_by_bucket<E: From<Error>>(
    definitions: &Definitions,
    dataset: &Dataset,
    looks: &Looks<'_>,
    buckets_of: impl Fn(&Needed<'_>) -> u32,
    mut rows_of: impl FnMut(&Needed<'_>, &Selection) -> Result<ViewRows, E>,
) -> Result<Assembled, E> {
    assemble_with(definitions, dataset, looks, |needed| {
        let asked = Keys::of(looks.spine, &needed.schema.key_names())?;
        let of = buckets_of(needed);
        let mut places: Vec<Vec<u32>> = vec![Vec::new(); of as usize];
        for row in 0..looks.spine.rows() {
            places[asked.bucket(row, of) as usize].push(row as u32);
        }
        let mut pieces = Vec::new();
        for (number, places) in
            places.into_iter().enumerate().filter(|(_, places)| of == 1 || !places.is_empty())
        {
            let wanted = looks.wanted(needed.view, Bucket { number: number as u32, of });
            let rows = rows_of(needed, &wanted)?;
            pieces.push((join_rows(needed, &rows, &asked, looks, &places)?, places));
        }
        Ok(put_together(needed, pieces, looks.spine.rows())?)
    })
}

/// Who asks: a spine, and from when each of its rows looks. Times are in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Looks<'a> {
    /// The rows; `event_time` is one of their columns.
    pub spine: &'a Frame,
    /// Nothing that happened later counts.
    pub cutoffs: &'a [i64],
    /// Nothing that was learned later counts.
    pub as_of: &'a [i64],
}

impl Looks<'_> {
    /// What of a view's bucket could matter to any row: events up to the last cutoff, and no older than the view remembers
    /// before the first; knowledge up to the last moment. A value that is too old still says that it expired, so `max_age`
    /// lets nothing out.
    fn wanted(&self, view: &FeatureView, bucket: Bucket) -> Selection {
        let last = |times: &[i64]| times.iter().copied().max().unwrap_or(i64::MIN);
        let first = self.cutoffs.iter().copied().min().unwrap_or(i64::MIN);
        let since = view.memory().map_or(i64::MIN, |memory| first.saturating_sub(memory.micros()));
        Selection {
            bucket,
            max_seq: i64::MAX,
            events: (since, last(self.cutoffs)),
            max_known: last(self.as_of),
        }
    }
}

fn assemble_with<E: From<Error>>(
    definitions: &Definitions,
    dataset: &Dataset,
    looks: &Looks<'_>,
    mut join: impl FnMut(&Needed<'_>) -> Result<JoinResult, E>,
) -> Result<Assembled, E> {
    let mut all = looks.spine.clone();
    all.set("cutoff", Values::Time(looks.cutoffs.to_vec()));
    let mut joined = Vec::new();
    let mut history = None;
    let mut names = Vec::new();
    for needed in needed(definitions, dataset)? {
        let (features, record, events) = join(&needed)?;
        for (name, values) in features {
            names.push(name.clone());
            all.set(name, values);
        }
        joined.push(record);
        history = events.or(history);
    }
    let features = model_inputs(dataset, &all, &names)?;
    Ok(Assembled { features, joined, history })
}

/// What `rows` answer to the spine's rows at `places`, in that order.
fn join_rows(
    needed: &Needed<'_>,
    rows: &ViewRows,
    asked: &Keys,
    looks: &Looks<'_>,
    places: &[u32],
) -> Result<JoinResult, Error> {
    let keys = rows.keys(&needed.schema)?;
    let groups = Groups::new(&keys, rows.moments());
    let questions: Vec<Question<'_>> = places
        .iter()
        .map(|&row| row as usize)
        .map(|row| Question { key: asked.get(row), cutoff: looks.cutoffs[row], as_of: looks.as_of[row] })
        .collect();
    join(needed, &groups, rows, &questions)
}

/// The answers of all buckets in the order of the spine. Without any bucket, because the spine is empty, there are none.
fn put_together(
    needed: &Needed<'_>,
    pieces: Vec<(JoinResult, Vec<u32>)>,
    rows: usize,
) -> Result<JoinResult, Error> {
    let mut order = vec![0u32; rows];
    let mut all: Option<JoinResult> = None;
    let mut next = 0;
    for (piece, places) in pieces {
        for place in places {
            order[place as usize] = next;
            next += 1;
        }
        match &mut all {
            None => all = Some(piece),
            Some((columns, joined, history)) => {
                for ((_, values), (_, more)) in columns.iter_mut().zip(&piece.0) {
                    values.append(more);
                }
                joined.statuses.extend(piece.1.statuses);
                joined.known_times.extend(piece.1.known_times);
                if let (Some(history), Some(more)) = (history.as_mut(), piece.2.as_ref()) {
                    *history = appended(history, more)?;
                }
            }
        }
    }
    let Some((columns, joined, history)) = all else {
        let nobody = Looks { spine: &Frame::default(), cutoffs: &[], as_of: &[] };
        return join_rows(needed, &ViewRows::empty(&needed.schema), &Keys::default(), &nobody, &[]);
    };
    let columns = columns.into_iter().map(|(name, values)| (name, values.take(&order))).collect();
    let order: Vec<usize> = order.into_iter().map(|place| place as usize).collect();
    let joined = Joined {
        view: joined.view,
        statuses: order.iter().map(|&place| joined.statuses[place]).collect(),
        known_times: order.iter().map(|&place| joined.known_times[place]).collect(),
    };
    Ok((columns, joined, history.map(|history| history.take(&order))))
}

type JoinResult = (Vec<(String, Values)>, Joined, Option<History>);

fn join(
    needed: &Needed<'_>,
    groups: &Groups<'_>,
    rows: &ViewRows,
    questions: &[Question<'_>],
) -> Result<JoinResult, Error> {
    let view = needed.view;
    let exclusive = view.boundary == domain::definitions::Boundary::Exclusive;
    let name = |feature: &str| format!("{}__{feature}", view.name);
    let present = |known: &Option<i64>| if known.is_some() { Status::Present } else { Status::NotFound };
    if let (Shape::LastK, Some(last)) = (view.shape(), &view.last_k) {
        let (history, known_times) = last_k(groups, &rows.frame, questions, last, exclusive)?;
        let statuses = known_times.iter().map(present).collect();
        return Ok((vec![], Joined { view: view.name.clone(), statuses, known_times }, Some(history)));
    }
    if view.shape() == Shape::Windows {
        let (features, known_times) = Plan::of(view).answer(groups, &rows.frame, questions)?;
        let features =
            features.columns().iter().map(|(feature, values)| (name(feature), values.clone())).collect();
        let statuses = known_times.iter().map(present).collect();
        return Ok((features, Joined { view: view.name.clone(), statuses, known_times }, None));
    }
    let rule = Rule { exclusive, max_age: view.max_age.map(domain::Horizon::micros) };
    let answers = latest(groups, questions, rule);
    let places: Vec<u32> = answers.iter().map(|answer| answer.row.unwrap_or(u32::MAX)).collect();
    let features: Vec<(String, Values)> = view
        .features
        .iter()
        .map(|feature| Ok((name(feature), rows.frame.column(feature)?.take(&places))))
        .collect::<Result<_, Error>>()?;
    let all_null = |row: usize| features.iter().all(|(_, values)| values.is_null(row));
    let status = |(row, answer): (usize, &Answer)| match answer.status {
        Status::Present if !features.is_empty() && all_null(row) => Status::Null,
        status => status,
    };
    let statuses = answers.iter().enumerate().map(status).collect();
    let known_times = answers.iter().map(|answer| answer.known_time).collect();
    Ok((features, Joined { view: view.name.clone(), statuses, known_times }, None))
}

fn model_inputs(dataset: &Dataset, all: &Frame, joined: &[String]) -> Result<Frame, Error> {
    let mut columns = Vec::new();
    for (name, expression) in &dataset.features {
        columns.push((name.clone(), evaluate(expression, all)?));
    }
    for name in joined.iter().filter(|name| !dataset.hidden.contains(name)) {
        columns.push((name.clone(), all.column(name)?.clone()));
    }
    Ok(Frame::new(all.rows(), columns))
}

/// The share of the rows at `places` with each status, by view.
pub fn status_rates(joined: &[Joined], places: &[u32]) -> BTreeMap<String, BTreeMap<Status, f64>> {
    joined
        .iter()
        .map(|joined| {
            let mut counts: BTreeMap<Status, u32> = BTreeMap::new();
            for &row in places {
                *counts.entry(joined.statuses[row as usize]).or_default() += 1;
            }
            let share = |count: u32| f64::from(count) / places.len().max(1) as f64;
            let rates = counts.into_iter().map(|(status, count)| (status, share(count))).collect();
            (joined.view.clone(), rates)
        })
        .collect()
}

/// A table of model inputs as a frame, so that it can lie in a file.
pub fn frame_of(table: &Table) -> Frame {
    let columns = table
        .columns()
        .iter()
        .map(|(name, column)| {
            let values = match column {
                domain::tabular::Column::Number(values) => Values::Number(values.clone()),
                domain::tabular::Column::Category { codes, levels } => {
                    Values::Text(codes.clone(), std::sync::Arc::clone(levels))
                }
            };
            (name.clone(), values)
        })
        .collect();
    Frame::new(table.rows(), columns)
}
