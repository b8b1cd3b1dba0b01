//! Trailing windows: aggregates over the rows of a key with `cutoff − over < event_time ≤ cutoff` that were known.
//!
//! The fold runs from the newest row to the oldest, so that one pass serves all spans of a view: each span is a prefix.
//! Mean and deviation follow Welford (1962), "Note on a method for calculating corrected sums of squares and products".

use domain::definitions::{Aggregate, FeatureView, window_feature};
use rayon::prelude::*;

use crate::Error;
use crate::frame::{Frame, Values};
use crate::groups::{Groups, Question};

/// What a fold over the values of one column has seen so far.
#[derive(Clone, Copy, Debug)]
struct State {
    count: u64,
    sum: f64,
    mean: f64,
    squares: f64,
    min: f64,
    max: f64,
    newest: f64,
    oldest: f64,
}

impl State {
    const EMPTY: Self = Self {
        count: 0,
        sum: 0.0,
        mean: 0.0,
        squares: 0.0,
        min: f64::INFINITY,
        max: f64::NEG_INFINITY,
        newest: f64::NAN,
        oldest: f64::NAN,
    };

    /// Takes the next older value; a null is skipped.
    fn take(&mut self, value: f64) {
        if value.is_nan() {
            return;
        }
        if self.count == 0 {
            self.newest = value;
        }
        self.count += 1;
        self.sum += value;
        let before = value - self.mean;
        self.mean += before / self.count as f64;
        self.squares += before * (value - self.mean);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.oldest = value;
    }

    fn answer(&self, aggregate: Aggregate) -> f64 {
        match aggregate {
            Aggregate::Count => self.count as f64,
            _ if self.count == 0 => f64::NAN,
            Aggregate::Sum => self.sum,
            Aggregate::Mean => self.mean,
            Aggregate::Min => self.min,
            Aggregate::Max => self.max,
            Aggregate::Std if self.count < 2 => f64::NAN,
            Aggregate::Std => (self.squares / (self.count - 1) as f64).sqrt(),
            Aggregate::Last => self.newest,
            Aggregate::First => self.oldest,
            Aggregate::Age => f64::NAN, // answered from times, not from values
        }
    }
}

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
    columns: Vec<String>,
    spans: Vec<i64>, // microseconds, shortest first
    outputs: Vec<Output>,
    exclusive: bool,
}

impl Plan {
    /// The plan of a view.
    pub fn of(view: &FeatureView) -> Self {
        let columns = view.columns();
        let mut spans: Vec<i64> =
            view.windows.iter().flat_map(|window| window.over.iter().map(|over| over.micros())).collect();
        spans.sort_unstable();
        spans.dedup();
        let mut outputs = Vec::new();
        for window in &view.windows {
            for over in &window.over {
                for &aggregate in &window.aggregates {
                    let column =
                        window.column.as_ref().and_then(|name| columns.iter().position(|c| c == name));
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
        let columns: Vec<Vec<f64>> = self
            .columns
            .iter()
            .map(|name| as_numbers(rows.column(name)?, name))
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
        columns: &[Vec<f64>],
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
    columns: &'a [Vec<f64>],
    states: Vec<State>,
    rows: u64,
    newest_age: Option<i64>,
    known: Option<i64>,
    span: usize,
    answers: Vec<f64>,
}

impl<'a> Fold<'a> {
    fn new(plan: &'a Plan, columns: &'a [Vec<f64>]) -> Self {
        Self {
            plan,
            columns,
            states: vec![State::EMPTY; columns.len()],
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
            state.take(column[row]);
        }
    }
}

fn as_numbers(values: &Values, name: &str) -> Result<Vec<f64>, Error> {
    match values {
        Values::Number(values) => Ok(values.clone()),
        Values::Integer(values) => Ok(values
            .iter()
            .map(|value| if *value == crate::NO_INTEGER { f64::NAN } else { *value as f64 })
            .collect()),
        Values::Exact(values) if values.kind().is_numeric() => Ok(values.numbers().unwrap_or_default()),
        other => Err(crate::frame::wrong_type(name, other, domain::definitions::ValueType::Number)),
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
