//! Trailing windows: aggregates over the rows of a key with `cutoff − over < event_time ≤ cutoff` that were known.
//!
//! The fold runs from the newest row to the oldest, so that one pass serves all spans of a view: each span is a prefix.
//! What a fold remembers of a column is in [`state`].

mod state;

use domain::definitions::{Aggregate, FeatureView, window_feature};
use rayon::prelude::*;

use crate::Error;
use crate::frame::{Frame, NO_INTEGER, Values};
use crate::groups::{Groups, Question};
use crate::keys::hash;
use crate::payload::Cell;
use state::{Needs, State};

/// One output column: which column's state, which aggregate, over how long.
#[derive(Clone, Debug)]
struct Output {
    name: String,
    column: Option<usize>,
    aggregate: Aggregate,
    span: usize,
}

/// The windows of a view, made ready for a fold.
#[derive(Debug)]
pub struct Plan {
    columns: Vec<(String, Needs)>,
    spans: Vec<i64>, // microseconds, shortest first
    outputs: Vec<Output>,
    exclusive: bool,
}

impl Plan {
    /// The plan of a view.
    pub fn of(view: &FeatureView) -> Self {
        let mut columns: Vec<(String, Needs)> =
            view.columns().into_iter().map(|name| (name, Needs::default())).collect();
        let mut spans: Vec<i64> =
            view.windows.iter().flat_map(|window| window.over.iter().map(|over| over.micros())).collect();
        spans.sort_unstable();
        spans.dedup();
        let mut outputs = Vec::new();
        for window in &view.windows {
            for over in &window.over {
                for &aggregate in &window.aggregates {
                    let column =
                        window.column.as_ref().and_then(|name| columns.iter().position(|(c, _)| c == name));
                    if let Some(column) = column {
                        columns[column].1.add(aggregate);
                    }
                    let span = spans.iter().position(|span| *span == over.micros()).unwrap_or_default();
                    let name = window_feature(window.column.as_deref(), aggregate, *over);
                    outputs.push(Output { name, column, aggregate, span });
                }
            }
        }
        let exclusive = view.boundary == domain::definitions::Boundary::Exclusive;
        Self { columns, spans, outputs, exclusive }
    }

    /// The names of its features, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.outputs.iter().map(|output| output.name.as_str())
    }

    /// Answers all questions: one frame of features, in the questions' order, and when the newest row behind each answer
    /// was learned (for the leak audit).
    ///
    /// # Errors
    /// [`Error::MissingColumn`] if the rows lack a column of the view.
    pub fn answer(
        &self,
        groups: &Groups<'_>,
        rows: &Frame,
        questions: &[Question<'_>],
    ) -> Result<(Frame, Vec<Option<i64>>), Error> {
        let columns: Vec<Column> = self
            .columns
            .iter()
            .map(|(name, needs)| Ok(Column::of(rows.column(name)?, *needs)))
            .collect::<Result<_, Error>>()?;
        let answers: Vec<(Vec<f64>, Option<i64>)> = questions
            .par_iter()
            .with_min_len(256)
            .map(|question| self.fold(groups, &columns, question))
            .collect();
        let features = self
            .outputs
            .iter()
            .enumerate()
            .map(|(at, output)| {
                let values = answers.iter().map(|(values, _)| values[at]).collect();
                (output.name.clone(), Values::Number(values))
            })
            .collect();
        let known = answers.into_iter().map(|(_, known)| known).collect();
        Ok((Frame::new(questions.len(), features), known))
    }

    fn fold(
        &self,
        groups: &Groups<'_>,
        columns: &[Column],
        question: &Question<'_>,
    ) -> (Vec<f64>, Option<i64>) {
        let mut fold = Fold::new(self, columns);
        for position in groups.happened(question, self.exclusive).rev() {
            let age = question.cutoff.saturating_sub(groups.event_time(position));
            fold.close_spans(age);
            if fold.span == self.spans.len() {
                break;
            }
            if !groups.known(position, question) {
                continue;
            }
            if groups.is_tombstone(position) {
                break;
            }
            fold.take(groups.row(position), age, groups.known_time(position));
        }
        fold.close_spans(i64::MAX);
        (fold.answers, fold.known)
    }
}

/// A fold in progress over the rows of one question, newest first.
struct Fold<'a> {
    plan: &'a Plan,
    columns: &'a [Column],
    states: Vec<State>,
    rows: u64,
    newest_age: Option<i64>,
    known: Option<i64>,
    span: usize,
    answers: Vec<f64>,
}

impl<'a> Fold<'a> {
    fn new(plan: &'a Plan, columns: &'a [Column]) -> Self {
        Self {
            plan,
            columns,
            states: plan.columns.iter().map(|(_, needs)| State::new(*needs)).collect(),
            rows: 0,
            newest_age: None,
            known: None,
            span: 0,
            answers: vec![f64::NAN; plan.outputs.len()],
        }
    }

    /// Answers the spans that end before a row of this age.
    fn close_spans(&mut self, age: i64) {
        while self.span < self.plan.spans.len() && age >= self.plan.spans[self.span] {
            for (answer, output) in self.answers.iter_mut().zip(&self.plan.outputs) {
                if output.span == self.span {
                    *answer = match (output.aggregate, output.column) {
                        (Aggregate::Age, _) => self.newest_age.map_or(f64::NAN, |age| age as f64 / 1e6),
                        (Aggregate::Count, None) => self.rows as f64,
                        (aggregate, Some(column)) => self.states[column].answer(aggregate),
                        (_, None) => f64::NAN,
                    };
                }
            }
            self.span += 1;
        }
    }

    fn take(&mut self, row: usize, age: i64, known: i64) {
        self.rows += 1;
        self.newest_age.get_or_insert(age);
        self.known = self.known.max(Some(known));
        for (state, column) in self.states.iter_mut().zip(self.columns) {
            state.take(column.numbers[row], || column.hashes[row]);
        }
    }
}

/// A column as folds read it.
struct Column {
    /// Null is NaN; of a column that holds no numbers, every value is 1.
    numbers: Vec<f64>,
    /// What tells values apart; empty unless somebody counts different ones.
    hashes: Vec<u64>,
}

impl Column {
    fn of(values: &Values, needs: Needs) -> Self {
        let rows = 0..values.len();
        let numbers = match values {
            Values::Number(values) => values.clone(),
            Values::Exact(exact) if exact.kind().is_numeric() => exact.numbers().unwrap_or_default(),
            Values::Integer(values) => values
                .iter()
                .map(|value| if *value == NO_INTEGER { f64::NAN } else { *value as f64 })
                .collect(),
            other => rows.clone().map(|row| if other.is_null(row) { f64::NAN } else { 1.0 }).collect(),
        };
        let hashes =
            if needs.distinct { rows.map(|row| hash_of(Cell::of(values, row))).collect() } else { vec![] };
        Self { numbers, hashes }
    }
}

fn hash_of(cell: Cell<'_>) -> u64 {
    match cell {
        Cell::Null => 0,                                           // never counted
        Cell::Number(value) => hash(&(value + 0.0).to_le_bytes()), // both zeros are one value
        Cell::Integer(value) | Cell::Time(value) => hash(&value.to_le_bytes()),
        Cell::Text(text) => hash(text.as_bytes()),
        Cell::Boolean(value) => hash(&[u8::from(value)]),
        Cell::Exact(_, bytes) => hash(bytes),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::groups::Moments;
    use crate::keys::Keys;

    fn view() -> FeatureView {
        serde_json::from_value(serde_json::json!({
            "name": "v", "entity": "k", "source": "s",
            "windows": [
                { "column": "x", "aggregates": ["count", "sum", "mean", "min", "max", "std", "last", "first"], "over": ["3s", "10s"] },
                { "aggregates": ["count", "age"], "over": ["10s"] },
            ],
        }))
        .unwrap()
    }

    /// The definition of one window, read row by row: `(event, known, value)`.
    fn oracle(rows: &[(i64, i64, f64)], cutoff: i64, as_of: i64, over: i64) -> Vec<f64> {
        let mut seen: Vec<_> = rows
            .iter()
            .filter(|(event, known, _)| *event <= cutoff && *event > cutoff - over && *known <= as_of)
            .collect();
        seen.sort_by_key(|(event, known, _)| (*event, *known));
        let values: Vec<f64> =
            seen.iter().map(|(_, _, value)| *value).filter(|value| !value.is_nan()).collect();
        if values.is_empty() {
            return vec![0.0, f64::NAN, f64::NAN, f64::NAN, f64::NAN, f64::NAN, f64::NAN, f64::NAN];
        }
        let n = values.len() as f64;
        let sum: f64 = values.iter().sum();
        let squares: f64 = values.iter().map(|value| (value - sum / n).powi(2)).sum();
        let std = if n > 1.0 { (squares / (n - 1.0)).sqrt() } else { f64::NAN };
        let min = values.iter().copied().fold(f64::INFINITY, f64::min);
        let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        vec![n, sum, sum / n, min, max, std, values[values.len() - 1], values[0]]
    }

    fn close(a: f64, b: f64) -> bool {
        (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-9 * (1.0 + b.abs())
    }

    proptest! {
        #[test]
        fn windows_agree_with_their_definition(
            times in prop::collection::vec((0i64..20, 0i64..5, prop::option::of(-100i32..100)), 0..30),
            cutoff in 0i64..25,
            lag in 0i64..5,
        ) {
            // distinct event times, so that "last" has one answer
            let mut seen = std::collections::HashSet::new();
            let rows: Vec<(i64, i64, f64)> = times.iter().filter(|(event, ..)| seen.insert(*event))
                .map(|(event, late, value)| (event * 1_000_000, (event + late) * 1_000_000, value.map_or(f64::NAN, f64::from)))
                .collect();
            let frame = Frame::new(rows.len(), vec![
                ("k".into(), Values::Integer(vec![1; rows.len()])),
                ("x".into(), Values::Number(rows.iter().map(|row| row.2).collect())),
            ]);
            let keys = Keys::of(&frame, &["k"]).unwrap();
            let (event_time, known_time): (Vec<i64>, Vec<i64>) = rows.iter().map(|row| (row.0, row.1)).unzip();
            let (seq, op) = (vec![0; rows.len()], vec![false; rows.len()]);
            let groups = Groups::new(&keys, Moments { event_time: &event_time, known_time: &known_time, seq: &seq, op: &op });
            let asked = Keys::of(&Frame::new(1, vec![("k".into(), Values::Integer(vec![1]))]), &["k"]).unwrap();
            let (cutoff, as_of) = (cutoff * 1_000_000, (cutoff - lag) * 1_000_000);
            let question = Question { key: asked.get(0), cutoff, as_of };
            let (answer, known) = Plan::of(&view()).answer(&groups, &frame, &[question]).unwrap();
            prop_assert!(known[0].is_none_or(|known| known <= as_of));
            for (over, at) in [(3_000_000, 0), (10_000_000, 8)] {
                for (expected, (name, values)) in oracle(&rows, cutoff, as_of, over).iter().zip(&answer.columns()[at..]) {
                    let Values::Number(values) = values else { unreachable!() };
                    prop_assert!(close(values[0], *expected), "{}: {} is not {}", name, values[0], expected);
                }
            }
        }
    }
}
