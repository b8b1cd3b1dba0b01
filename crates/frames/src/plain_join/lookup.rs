//! The first pass over a view: keys and times only, to find the row that every label may see.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};

use super::{Looks, View, whole_times};
use crate::Error;
use crate::contest::{AsOf, Claim, Contest, NO_GROUP, Won};
use crate::frame::NO_INTEGER;
use crate::key_index::{KeyIndex, kind_of, normal};
use crate::moments::{Reading, Rounding};
use crate::scan::{Rows, Scan};

/// What the first pass found.
pub(super) struct Found {
    /// What each label won.
    pub(super) won: Vec<Won>,
    /// The latest event of the view.
    pub(super) watermark: i64,
}

/// Refuses keys that could never agree.
pub(super) fn check_keys(spine: &Scan, view: &View, scan: &Scan) -> Result<(), Error> {
    for key in &view.keys {
        let asked = kind_of(&key.label, &spine.kind(&key.label)?).map_err(Error::in_file(spine.name()))?;
        let there = kind_of(&key.view, &scan.kind(&key.view)?).map_err(Error::in_file(scan.name()))?;
        if asked != there {
            return Err(Error::Join(format!(
                "key `{}` holds {} in `{}` and {} in `{}`, so that no row could match; convert one of them",
                key.view,
                plural(&asked),
                spine.name(),
                plural(&there),
                scan.name(),
            )));
        }
    }
    Ok(())
}

fn plural(kind: &DataType) -> String {
    match kind {
        DataType::Int64 => "integers".to_owned(),
        DataType::Utf8 => "texts".to_owned(),
        other => format!("{other} values"),
    }
}

/// Finds the row that every label may see.
pub(super) fn winners(view: &View, scan: &Scan, labels: &RecordBatch, looks: &Looks) -> Result<Found, Error> {
    let keys = view
        .keys
        .iter()
        .map(|key| normal(&key.label, labels.column_by_name(&key.label).expect("keys were checked")))
        .collect::<Result<Vec<ArrayRef>, Error>>()?;
    let (index, groups) = KeyIndex::of_labels(&keys, labels.num_rows())?;
    let as_of = match &looks.as_of {
        _ if looks.off => AsOf::Off,
        Some(moments) => AsOf::Moments(moments),
        None => AsOf::Cutoff,
    };
    let mut contest = Contest::new(&groups, &looks.cutoff, as_of, view.rule);
    drop(groups);
    let mut watermark = i64::MIN;
    let columns = Columns::of(view);
    scan.read(&columns.names, |rows| offer(view, &columns, &rows, &index, &mut contest, &mut watermark))?;
    Ok(Found { won: contest.settle(labels.num_rows()), watermark })
}

/// The columns that the first pass reads, and where each lies.
struct Columns<'a> {
    names: Vec<&'a str>,
    known_time: Option<usize>,
    seq: Option<usize>,
    op: Option<usize>,
}

impl<'a> Columns<'a> {
    fn of(view: &'a View) -> Self {
        let mut names: Vec<&str> = view.keys.iter().map(|key| key.view.as_str()).collect();
        names.push(&view.event_time);
        let mut place = |name: &'a Option<String>| {
            name.as_deref().map(|name| {
                names.push(name);
                names.len() - 1
            })
        };
        let (known_time, seq, op) = (place(&view.known_time), place(&view.seq), place(&view.op));
        Self { names, known_time, seq, op }
    }
}

fn offer(
    view: &View,
    columns: &Columns<'_>,
    rows: &Rows,
    index: &KeyIndex,
    contest: &mut Contest,
    watermark: &mut i64,
) -> Result<(), Error> {
    let reading = Reading { rounding: Rounding::Up, zone: view.zone };
    let batch = &rows.batch;
    let keys = view
        .keys
        .iter()
        .zip(batch.columns())
        .map(|(key, column)| normal(&key.view, column))
        .collect::<Result<Vec<_>, Error>>()?;
    let groups = index.look_up(&keys, batch.num_rows())?;
    let events = whole_times(reading, &view.event_time, batch.column(view.keys.len()))?;
    let known = match (columns.known_time, &view.known_time) {
        (Some(place), Some(name)) => Some(reading.micros(name, batch.column(place))?),
        _ => None,
    };
    let seqs = columns.seq.map(|place| seqs(columns.names[place], batch.column(place))).transpose()?;
    let tombstones =
        columns.op.map(|place| tombstones(columns.names[place], batch.column(place))).transpose()?;
    for (row, (&group, &event)) in groups.iter().zip(&events).enumerate() {
        *watermark = (*watermark).max(event);
        if group == NO_GROUP {
            continue;
        }
        let known = known.as_ref().map_or(event, |known| known[row]);
        let seq = seqs.as_ref().map_or(0, |seqs| seqs[row]);
        let tombstone = tombstones.as_ref().is_some_and(|tombstones| tombstones[row]);
        contest.offer(group, Claim::new(event, known, seq, rows.first + row as u64, tombstone));
    }
    Ok(())
}

fn seqs(name: &str, column: &ArrayRef) -> Result<Vec<i64>, Error> {
    let seqs = match kind_of(name, column.data_type()) {
        Ok(DataType::Int64) => normal(name, column)?,
        _ => return Err(other_type(name, column, "integers")),
    };
    Ok(seqs.as_primitive::<Int64Type>().iter().map(|seq| seq.unwrap_or(NO_INTEGER)).collect())
}

/// Whether each row takes its entity away: `true`, `1`, `tombstone` or `delete` do; `false`, `0`, `put` and null do not.
pub(super) fn tombstones(name: &str, column: &ArrayRef) -> Result<Vec<bool>, Error> {
    let texts = match column.data_type() {
        DataType::Boolean => {
            return Ok(column.as_boolean().iter().map(|op| op == Some(true)).collect());
        }
        kind if kind.is_integer() || kind_of(name, kind).is_ok_and(|kind| kind == DataType::Utf8) => {
            cast(column, &DataType::Utf8).map_err(|_| other_type(name, column, "operations"))?
        }
        _ => return Err(other_type(name, column, "booleans, 0 and 1, or `put` and `tombstone`")),
    };
    let texts = texts.as_string::<i32>();
    texts
        .iter()
        .map(|op| match op.map(str::to_ascii_lowercase).as_deref() {
            None | Some("" | "0" | "put" | "false") => Ok(false),
            Some("1" | "tombstone" | "delete" | "true") => Ok(true),
            Some(other) => Err(Error::WrongType {
                column: name.to_owned(),
                found: format!("`{other}`"),
                expected: "`put` or `tombstone`".to_owned(),
            }),
        })
        .collect()
}

fn other_type(name: &str, column: &ArrayRef, expected: &str) -> Error {
    Error::WrongType {
        column: name.to_owned(),
        found: format!("{} values", column.data_type()),
        expected: expected.to_owned(),
    }
}
