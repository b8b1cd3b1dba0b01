//! Feature columns as a model sees them: plain vectors, without files or frames.
//!
//! `frames` makes these from Arrow files; `boosting` and `gpt` learn from them. Every column of a [`Table`] has the same
//! number of rows, and a [`History`] holds one run of past events a row.

use std::sync::Arc;

use crate::{Fault, Remedy};

/// The code of a category that is missing.
pub const MISSING: u32 = u32::MAX;

/// One column of values.
#[derive(Clone, Debug, PartialEq)]
pub enum Column {
    /// Numbers; NaN is "missing".
    Number(Vec<f64>),
    /// Categories: `codes[row]` is an index into `levels`, or [`MISSING`].
    Category {
        /// One code a row.
        codes: Vec<u32>,
        /// The distinct values, in any order.
        levels: Arc<[String]>,
    },
}

impl Column {
    /// The number of rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Number(values) => values.len(),
            Self::Category { codes, .. } => codes.len(),
        }
    }

    /// True without a row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows at `indices`, in that order.
    ///
    /// # Panics
    /// If an index is not a row.
    pub fn take(&self, indices: &[usize]) -> Self {
        match self {
            Self::Number(values) => Self::Number(indices.iter().map(|&i| values[i]).collect()),
            Self::Category { codes, levels } => Self::Category {
                codes: indices.iter().map(|&i| codes[i]).collect(),
                levels: Arc::clone(levels),
            },
        }
    }

    /// The category of a row; `None` if it is missing or the column holds numbers.
    pub fn category(&self, row: usize) -> Option<&str> {
        match self {
            Self::Category { codes, levels } => levels.get(codes[row] as usize).map(String::as_str),
            Self::Number(_) => None,
        }
    }

    /// The rows of several columns, one after the other; `None` if they do not hold the same kind of value.
    pub fn concat(columns: &[&Self]) -> Option<Self> {
        if columns.iter().all(|column| matches!(column, Self::Category { .. })) {
            let texts = columns.iter().flat_map(|column| (0..column.len()).map(|row| column.category(row)));
            return Some(Self::from_text(texts));
        }
        let numbers = columns.iter().map(|column| match column {
            Self::Number(values) => Some(values.as_slice()),
            Self::Category { .. } => None,
        });
        Some(Self::Number(numbers.collect::<Option<Vec<_>>>()?.concat()))
    }

    /// A category column from text; levels are numbered in order of first appearance.
    pub fn from_text<'a>(values: impl IntoIterator<Item = Option<&'a str>>) -> Self {
        let mut known = std::collections::HashMap::new();
        let mut levels = Vec::new();
        let codes = values
            .into_iter()
            .map(|value| match value {
                None => MISSING,
                Some(text) => *known.entry(text).or_insert_with(|| {
                    levels.push(text.to_owned());
                    levels.len() as u32 - 1
                }),
            })
            .collect();
        Self::Category { codes, levels: levels.into() }
    }
}

/// Columns did not fit together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column `{name}` has {found} rows where the table has {expected}")]
pub struct RaggedTable {
    name: String,
    found: usize,
    expected: usize,
}

impl Fault for RaggedTable {
    fn remedy(&self) -> Remedy {
        Remedy::ReportBug
    }
    fn code(&self) -> &'static str {
        "ragged-table"
    }
}

/// Named columns of one length.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Table {
    rows: usize,
    columns: Vec<(String, Column)>,
}

impl Table {
    /// A table of these columns.
    ///
    /// # Errors
    /// [`RaggedTable`] if a column has another number of rows than `rows`.
    pub fn new(rows: usize, columns: Vec<(String, Column)>) -> Result<Self, RaggedTable> {
        match columns.iter().find(|(_, column)| column.len() != rows) {
            Some((name, column)) => {
                Err(RaggedTable { name: name.clone(), found: column.len(), expected: rows })
            }
            None => Ok(Self { rows, columns }),
        }
    }

    /// The rows of several tables, one after the other, under the first one's columns; `None` if one lacks a column or holds
    /// another kind of value there.
    pub fn concat(tables: &[&Self]) -> Option<Self> {
        let first = tables.first()?;
        if tables.len() == 1 {
            return Some((*first).clone());
        }
        let column = |(name, _): &(String, Column)| {
            let parts = tables.iter().map(|table| table.column(name)).collect::<Option<Vec<_>>>()?;
            Some((name.clone(), Column::concat(&parts)?))
        };
        let columns = first.columns.iter().map(column).collect::<Option<_>>()?;
        Some(Self { rows: tables.iter().map(|table| table.rows).sum(), columns })
    }

    /// The same table with more columns after its own.
    ///
    /// # Errors
    /// [`RaggedTable`] if one of them has another number of rows.
    pub fn with(&self, more: impl IntoIterator<Item = (String, Column)>) -> Result<Self, RaggedTable> {
        Self::new(self.rows, self.columns.iter().cloned().chain(more).collect())
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The columns with their names, in order.
    pub fn columns(&self) -> &[(String, Column)] {
        &self.columns
    }

    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|(known, _)| known == name).map(|(_, column)| column)
    }

    /// The rows at `indices`, in that order.
    ///
    /// # Panics
    /// If an index is not a row.
    pub fn take(&self, indices: &[usize]) -> Self {
        let columns =
            self.columns.iter().map(|(name, column)| (name.clone(), column.take(indices))).collect();
        Self { rows: indices.len(), columns }
    }
}

/// One run of past events a row, oldest first, stored end to end.
///
/// Row `i` owns the events `offsets[i]..offsets[i + 1]` of `times` and of every column.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// `rows + 1` positions, rising from 0.
    pub offsets: Vec<usize>,
    /// Event times in microseconds.
    pub times: Vec<i64>,
    /// The events' fields.
    pub fields: Table,
}

impl History {
    /// No event for so many rows.
    pub fn none(rows: usize) -> Self {
        Self { offsets: vec![0; rows + 1], times: vec![], fields: Table::default() }
    }

    /// The rows of several histories, one after the other; `None` if their fields differ.
    pub fn concat(histories: &[&Self]) -> Option<Self> {
        let mut offsets = vec![0];
        for history in histories {
            let (before, first) = (*offsets.last()?, *history.offsets.first()?);
            offsets.extend(history.offsets[1..].iter().map(|offset| before + offset - first));
        }
        let fields: Vec<&Table> = histories.iter().map(|history| &history.fields).collect();
        let times = histories.iter().flat_map(|history| history.times.iter().copied()).collect();
        Some(Self { offsets, times, fields: Table::concat(&fields)? })
    }

    /// The number of rows (not of events).
    pub fn rows(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// The positions of a row's events.
    pub fn events(&self, row: usize) -> std::ops::Range<usize> {
        self.offsets[row]..self.offsets[row + 1]
    }

    /// The positions of a row's events that have happened by `cutoff`, in microseconds.
    pub fn seen(&self, row: usize, cutoff: i64) -> std::ops::Range<usize> {
        let events = self.events(row);
        let seen = self.times[events.clone()].partition_point(|&time| time <= cutoff);
        events.start..events.start + seen
    }

    /// Microseconds from the latest event that a row has seen to `cutoff`; `None` if it has seen none.
    pub fn age(&self, row: usize, cutoff: i64) -> Option<i64> {
        self.seen(row, cutoff).next_back().map(|latest| cutoff - self.times[latest])
    }

    /// The histories of the rows at `indices`, in that order.
    ///
    /// # Panics
    /// If an index is not a row.
    pub fn take(&self, indices: &[usize]) -> Self {
        let mut offsets = Vec::with_capacity(indices.len() + 1);
        offsets.push(0);
        let mut events = Vec::new();
        for &row in indices {
            events.extend(self.events(row));
            offsets.push(events.len());
        }
        let times = events.iter().map(|&event| self.times[event]).collect();
        Self { offsets, times, fields: self.fields.take(&events) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_of_another_length_is_refused_by_name() {
        let refusal = Table::new(2, vec![("delay".into(), Column::Number(vec![1.0]))]).unwrap_err();
        assert_eq!(refusal.to_string(), "column `delay` has 1 rows where the table has 2");
    }

    #[test]
    fn taking_rows_of_a_history_keeps_each_rows_own_events() {
        let fields = Table::new(3, vec![("x".into(), Column::Number(vec![1.0, 2.0, 3.0]))]).unwrap();
        let history = History { offsets: vec![0, 2, 2, 3], times: vec![10, 20, 30], fields };
        let taken = history.take(&[2, 0]);
        assert_eq!(taken.offsets, [0, 1, 3]);
        assert_eq!(taken.times, [30, 10, 20]);
    }

    #[test]
    fn a_row_has_seen_what_had_happened_by_its_cutoff() {
        let history = History { times: vec![10, 20, 20, 40], ..History::none(3) };
        let history = History { offsets: vec![0, 4, 4], ..history };
        for (cutoff, seen, age) in [(9, 0, None), (10, 1, Some(0)), (39, 3, Some(19)), (50, 4, Some(10))] {
            assert_eq!((history.seen(0, cutoff), history.age(0, cutoff)), (0..seen, age), "{cutoff}");
        }
        assert_eq!((history.seen(1, 50), history.age(1, 50)), (4..4, None));
    }

    #[test]
    fn tables_and_histories_of_several_requests_are_one_after_the_other() {
        let table = |codes: &[Option<&str>]| {
            let carriers = Column::from_text(codes.iter().copied());
            let numbers = Column::Number(vec![codes.len() as f64; codes.len()]);
            Table::new(codes.len(), vec![("c".into(), carriers), ("n".into(), numbers)]).unwrap()
        };
        let (first, second) = (table(&[Some("UA"), None]), table(&[Some("AA"), Some("UA"), Some("B6")]));
        let both = Table::concat(&[&first, &second]).unwrap();
        let seen: Vec<_> = (0..5).map(|row| both.column("c").unwrap().category(row)).collect();
        assert_eq!(seen, [Some("UA"), None, Some("AA"), Some("UA"), Some("B6")]);
        assert_eq!(both.take(&[2, 3, 4]).column("n"), second.column("n"));
        let other = Table::new(1, vec![("c".into(), Column::Number(vec![1.0]))]).unwrap();
        assert_eq!(Table::concat(&[&first, &other]), None);
        let history = |offsets: Vec<usize>, fields: &Table| History {
            times: (0..fields.rows() as i64).collect(),
            offsets,
            fields: fields.clone(),
        };
        let joined =
            History::concat(&[&history(vec![0, 2], &first), &history(vec![0, 0, 3], &second)]).unwrap();
        assert_eq!(joined.offsets, [0, 2, 2, 5]);
        assert_eq!(joined.take(&[2]).times, [0, 1, 2]);
    }

    #[test]
    fn missing_text_has_no_level() {
        let column = Column::from_text([Some("UA"), None, Some("UA")]);
        assert_eq!(
            column,
            Column::Category { codes: vec![0, MISSING, 0], levels: vec!["UA".to_owned()].into() }
        );
    }
}
