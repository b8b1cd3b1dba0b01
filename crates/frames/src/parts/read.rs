//! Reading parts: the rows of one bucket, within some times, up to a seq, and of the columns only what the view has.

use std::collections::HashSet;

use arrow::array::RecordBatch;
use domain::expression::{Binary, Bound, Constant};

use super::{Bucket, EVENT_TIME, FORMAT, FORMAT_KEY, KNOWN_TIME, OP, SEQ};
use crate::Error;
use crate::exact;
use crate::frame::{Frame, Values};
use crate::keys::Keys;
use crate::scan::Scan;
use crate::source_file::conform;
use crate::store::Store;
use crate::view::{ViewRows, ViewSchema};
use crate::wire::{from_batch, from_batch_as};

/// A file of the manifest. Times are in microseconds.
#[derive(Clone, Debug)]
pub struct Part {
    /// Where it lies in its store.
    pub path: String,
    /// Which keys it holds.
    pub bucket: Bucket,
    /// The first ingest and the last one.
    pub seqs: (i64, i64),
    /// The first event and the last one.
    pub events: (i64, i64),
    /// The first moment of knowledge, if it was noted.
    pub min_known: Option<i64>,
}

impl Part {
    /// A file of which nothing is known but its path.
    pub fn unlisted(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            bucket: Bucket::ALL,
            seqs: (i64::MIN, i64::MAX),
            events: (i64::MIN, i64::MAX),
            min_known: None,
        }
    }
}

/// The columns of a view with those that its parts have besides: what was once stored is not lost when it is merged.
///
/// # Errors
/// [`Error::File`], [`Error::Objects`], or [`Error::WrongType`] if a part holds what no view could have.
pub fn widest(store: &Store, schema: &ViewSchema, parts: &[Part]) -> Result<ViewSchema, Error> {
    let mut widest = schema.clone();
    for part in parts {
        let scan = Scan::of(&part.path, store.open(&part.path)?)?;
        let there = scan.schema();
        let empty = from_batch(&RecordBatch::new_empty(there.clone()))?;
        for ((name, values), field) in empty
            .columns()
            .iter()
            .zip(there.fields())
            .filter(|((name, _), _)| ![EVENT_TIME, KNOWN_TIME, SEQ, OP].contains(&name.as_str()))
        {
            if !widest.keys.iter().chain(&widest.values).any(|(known, _)| known == name) {
                let exact = exact::kind_of(field.data_type());
                widest.values.push((name.clone(), exact.unwrap_or(values.kind())));
            }
        }
    }
    Ok(widest)
}

/// Which rows are wanted. Times are in microseconds, and both ends count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Keys of this bucket.
    pub bucket: Bucket,
    /// What was ingested up to here.
    pub max_seq: i64,
    /// What happened within.
    pub events: (i64, i64),
    /// What was learned up to here.
    pub max_known: i64,
}

impl Selection {
    /// Everything up to a seq.
    pub fn up_to(max_seq: i64) -> Self {
        Self { bucket: Bucket::ALL, max_seq, events: (i64::MIN, i64::MAX), max_known: i64::MAX }
    }

    /// Whether a part could hold a wanted row, by what the manifest says of it.
    pub fn wants(&self, part: &Part) -> bool {
        part.bucket.meets(self.bucket)
            && part.seqs.0 <= self.max_seq
            && part.events.0 <= self.events.1
            && part.events.1 >= self.events.0
            && part.min_known.is_none_or(|known| known <= self.max_known)
    }
}

impl Selection {
    /// What its ends say of columns: row groups outside of them are not read.
    fn bounds(&self) -> Vec<Bound> {
        let bound =
            |column: &str, operator, constant| Bound { column: column.to_owned(), operator, constant };
        vec![
            bound(EVENT_TIME, Binary::GreaterOrEqual, Constant::Time(self.events.0)),
            bound(EVENT_TIME, Binary::LessOrEqual, Constant::Time(self.events.1)),
            bound(KNOWN_TIME, Binary::LessOrEqual, Constant::Time(self.max_known)),
            bound(SEQ, Binary::LessOrEqual, Constant::Number(self.max_seq as f64)),
        ]
    }
}

/// The wanted rows of these parts. A column that a part lacks, because it was added later, is null; integers are widened
/// where the view has numbers now.
///
/// # Errors
/// [`Error::File`] or [`Error::Objects`]; [`Error::Unreadable`] if a part is of a format that is not known here.
pub fn read(
    store: &Store,
    schema: &ViewSchema,
    parts: &[Part],
    wanted: &Selection,
) -> Result<ViewRows, Error> {
    read_of(store, schema, parts, wanted, None)
}

/// As [`read`], of these keys only. In memory are their rows and what is read at a time.
///
/// # Errors
/// As [`read`].
pub fn read_keys(
    store: &Store,
    schema: &ViewSchema,
    parts: &[Part],
    wanted: &Selection,
    of_keys: &HashSet<Vec<u8>>,
) -> Result<ViewRows, Error> {
    read_of(store, schema, parts, wanted, Some(of_keys))
}

fn read_of(
    store: &Store,
    schema: &ViewSchema,
    parts: &[Part],
    wanted: &Selection,
    of_keys: Option<&HashSet<Vec<u8>>>,
) -> Result<ViewRows, Error> {
    let mut all = ViewRows::empty(schema);
    for part in parts.iter().filter(|part| wanted.wants(part)) {
        read_part(store, schema, part, (wanted, of_keys), &mut all).map_err(Error::in_file(&part.path))?;
    }
    Ok(all)
}

fn read_part(
    store: &Store,
    schema: &ViewSchema,
    part: &Part,
    (wanted, of_keys): (&Selection, Option<&HashSet<Vec<u8>>>),
    all: &mut ViewRows,
) -> Result<(), Error> {
    let scan = Scan::of(&part.path, store.open(&part.path)?)?;
    refuse_unknown_format(&scan)?;
    let there = scan.schema();
    let mut columns = vec![EVENT_TIME, KNOWN_TIME, SEQ, OP];
    let known = |name: &str| there.field_with_name(name).is_ok();
    columns.extend(schema.keys.iter().map(|(name, _)| name.as_str()));
    columns.extend(schema.values.iter().map(|(name, _)| name.as_str()).filter(|name| known(name)));
    let some_keys = of_keys.is_some() || !part.bucket.within(wanted.bucket);
    let keys = some_keys.then(|| schema.key_names());
    scan.read_within(&columns, &wanted.bounds(), |rows| {
        let frame = from_batch_as(&rows.batch, &schema.values)?;
        let rows = as_rows(schema, &frame)?;
        let keys = keys.as_ref().map(|names| Keys::of(&frame, names)).transpose()?;
        let keep = |row: usize| {
            rows.seq[row] <= wanted.max_seq
                && rows.known_time[row] <= wanted.max_known
                && (wanted.events.0..=wanted.events.1).contains(&rows.event_time[row])
                && keys.as_ref().is_none_or(|keys| {
                    keys.bucket(row, wanted.bucket.of) == wanted.bucket.number
                        && of_keys.is_none_or(|of| keys.get(row).is_some_and(|key| of.contains(key)))
                })
        };
        let kept: Vec<u32> = (0..rows.rows()).filter(|&row| keep(row)).map(|row| row as u32).collect();
        if kept.len() == rows.rows() { all.append(&rows) } else { all.append(&rows.take(&kept)) }
    })
}

fn refuse_unknown_format(scan: &Scan) -> Result<(), Error> {
    let format = scan.metadata(FORMAT_KEY).unwrap_or_else(|| "1".to_owned());
    match format.parse::<i32>() {
        Ok(1..=FORMAT) => Ok(()),
        _ => Err(Error::unreadable(
            "part",
            format!(
                "it is of format {format}, and this program knows formats up to {FORMAT}; use a newer one"
            ),
        )),
    }
}

fn as_rows(schema: &ViewSchema, frame: &Frame) -> Result<ViewRows, Error> {
    let Values::Integer(seq) = frame.column(SEQ)? else {
        return Err(Error::unreadable("part", "its `__seq` column holds no integers"));
    };
    let Values::Boolean(op) = frame.column(OP)? else {
        return Err(Error::unreadable("part", "its `__op` column holds no booleans"));
    };
    let columns = schema
        .keys
        .iter()
        .chain(&schema.values)
        .map(|(name, kind)| match frame.find(name) {
            Some(values) => Ok((name.clone(), conform(name, values.clone(), *kind)?)),
            None => Ok((name.clone(), Values::nulls(*kind, frame.rows()))),
        })
        .collect::<Result<_, Error>>()?;
    Ok(ViewRows {
        frame: Frame::new(frame.rows(), columns),
        event_time: frame.times(EVENT_TIME)?.to_vec(),
        known_time: frame.times(KNOWN_TIME)?.to_vec(),
        seq: seq.clone(),
        op: op.iter().map(|op| *op == Some(true)).collect(),
    })
}
