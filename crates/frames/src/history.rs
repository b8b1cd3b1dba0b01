//! The latest events of a key as a sequence: what a GPT reads.

use std::sync::Arc;

use domain::definitions::LastK;
use domain::tabular::{Column, History, Table};
use rayon::prelude::*;

use crate::Error;
use crate::frame::{Frame, Values};
use crate::groups::{Groups, Question};

/// Answers all questions: for each the latest `last.count` known events, not older than `last.over`, oldest first; and when
/// the newest of them was learned.
///
/// # Errors
/// [`Error::MissingColumn`] if the rows lack a column of the view.
pub fn last_k(
    groups: &Groups<'_>,
    rows: &Frame,
    questions: &[Question<'_>],
    last: &LastK,
    exclusive: bool,
) -> Result<(History, Vec<Option<i64>>), Error> {
    let found: Vec<Vec<usize>> = questions
        .par_iter()
        .with_min_len(256)
        .map(|question| positions(groups, question, last, exclusive))
        .collect();
    let known = found.iter().map(|events| events.iter().map(|&p| groups.known_time(p)).max()).collect();
    let mut offsets = Vec::with_capacity(questions.len() + 1);
    offsets.push(0);
    let mut taken: Vec<u32> = Vec::new();
    let mut times = Vec::new();
    for events in &found {
        taken.extend(events.iter().map(|&position| groups.row(position) as u32));
        times.extend(events.iter().map(|&position| groups.event_time(position)));
        offsets.push(taken.len());
    }
    let fields = last
        .columns
        .iter()
        .map(|name| Ok((name.clone(), as_column(&rows.column(name)?.take(&taken)))))
        .collect::<Result<Vec<_>, Error>>()?;
    let fields = Table::new(taken.len(), fields).map_err(|error| Error::unreadable("history", error))?;
    Ok((History { offsets, times, fields }, known))
}

fn positions(groups: &Groups<'_>, question: &Question<'_>, last: &LastK, exclusive: bool) -> Vec<usize> {
    let mut positions: Vec<usize> = groups
        .happened(question, exclusive)
        .rev()
        .take_while(|&position| {
            question.cutoff.saturating_sub(groups.event_time(position)) <= last.over.micros()
        })
        .filter(|&position| groups.known(position, question))
        .take_while(|&position| !groups.is_tombstone(position))
        .take(last.count)
        .collect();
    positions.reverse();
    positions
}

/// A column as models see it: times become hours since 1970, booleans 0 and 1.
pub(crate) fn as_column(values: &Values) -> Column {
    let integer = |value: &i64| if *value == crate::NO_INTEGER { f64::NAN } else { *value as f64 };
    match values {
        Values::Number(values) => Column::Number(values.clone()),
        Values::Integer(values) => Column::Number(values.iter().map(integer).collect()),
        Values::Time(values) => Column::Number(values.iter().map(|value| integer(value) / 3.6e9).collect()),
        Values::Boolean(values) => Column::Number(
            values.iter().map(|value| value.map_or(f64::NAN, |v| f64::from(u8::from(v)))).collect(),
        ),
        Values::Text(codes, levels) => Column::Category { codes: codes.clone(), levels: Arc::clone(levels) },
        // a vector has no one number; `table` makes a column of each of its places
        Values::Exact(values) => {
            Column::Number(values.numbers().unwrap_or_else(|| vec![f64::NAN; values.len()]))
        }
    }
}

/// One history after another, of the same fields.
///
/// # Errors
/// [`Error::WrongType`] if the fields differ.
pub(crate) fn appended(history: &History, more: &History) -> Result<History, Error> {
    let mut all = to_frame(history);
    let rows = history.rows();
    let mut shifted = to_frame(more);
    if let Values::Integer(owners) = shifted.column("row")? {
        let owners = owners.iter().map(|owner| owner + rows as i64).collect();
        shifted.set("row", Values::Integer(owners));
    }
    all.append(&shifted)?;
    from_frame(&all, rows + more.rows())
}

/// A history in a frame's clothes, so that it can lie in a file: one row an event, with the row it belongs to.
pub(crate) fn to_frame(history: &History) -> Frame {
    let events = history.times.len();
    let owners = (0..history.rows()).flat_map(|row| history.events(row).map(move |_| row as i64)).collect();
    let mut columns = vec![
        ("row".to_owned(), Values::Integer(owners)),
        ("event_time".to_owned(), Values::Time(history.times.clone())),
    ];
    for (name, column) in history.fields.columns() {
        let values = match column {
            Column::Number(values) => Values::Number(values.clone()),
            Column::Category { codes, levels } => Values::Text(codes.clone(), Arc::clone(levels)),
        };
        columns.push((name.clone(), values));
    }
    Frame::new(events, columns)
}

/// The history that [`to_frame`] wrote, for `rows` rows.
///
/// # Errors
/// [`Error::Unreadable`] if the owners are not in order.
pub(crate) fn from_frame(frame: &Frame, rows: usize) -> Result<History, Error> {
    let Values::Integer(owners) = frame.column("row")? else {
        return Err(Error::unreadable("history", "its `row` column holds no integers"));
    };
    if owners.windows(2).any(|pair| pair[0] > pair[1])
        || owners.last().is_some_and(|last| *last >= rows as i64)
    {
        return Err(Error::unreadable("history", "its events are not in the order of their rows"));
    }
    let offsets = (0..=rows as i64).map(|row| owners.partition_point(|owner| *owner < row)).collect();
    let times = frame.times("event_time")?.to_vec();
    let fields = frame
        .columns()
        .iter()
        .filter(|(name, _)| name != "row" && name != "event_time")
        .map(|(name, values)| (name.clone(), as_column(values)))
        .collect();
    let fields = Table::new(frame.rows(), fields).map_err(|error| Error::unreadable("history", error))?;
    Ok(History { offsets, times, fields })
}

#[cfg(test)]
mod tests {
    use domain::Horizon;

    use super::*;
    use crate::groups::Moments;
    use crate::keys::Keys;

    #[test]
    fn the_latest_known_events_come_oldest_first_and_survive_a_frame() {
        let rows = Frame::new(
            4,
            vec![
                ("k".into(), Values::Integer(vec![1, 1, 1, 1])),
                ("x".into(), Values::Number(vec![1.0, 2.0, 3.0, 4.0])),
            ],
        );
        let keys = Keys::of(&rows, &["k"]).unwrap();
        let (event_time, known_time) = ([10, 20, 30, 40], [10, 20, 99, 40]);
        let moments =
            Moments { event_time: &event_time, known_time: &known_time, seq: &[0; 4], op: &[false; 4] };
        let groups = Groups::new(&keys, moments);
        let last = LastK { count: 2, over: Horizon::seconds(1), columns: vec!["x".into()] };
        let key = keys.get(0);
        let questions = [
            Question { key, cutoff: 45, as_of: 45 },
            Question { key: None, cutoff: 45, as_of: 45 },
            Question { key, cutoff: 25, as_of: 25 },
        ];
        let (history, known) = last_k(&groups, &rows, &questions, &last, false).unwrap();
        assert_eq!(history.offsets, [0, 2, 2, 4]);
        assert_eq!(history.times, [20, 40, 10, 20]); // the event of 30 was not yet known
        assert_eq!(known, [Some(40), None, Some(20)]);
        assert_eq!(from_frame(&to_frame(&history), 3).unwrap(), history);
    }
}
