//! What a column holds, in a few numbers: what a training set's manifest says of each feature.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::frame::{NO_INTEGER, Values};

/// The shares of which quantiles are given.
pub const QUANTILES: [f64; 9] = [0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99];
/// How many levels of a text are listed, the most frequent first.
const TOP: usize = 20;

/// One column over some rows. Times are in microseconds since 1970, booleans 0 and 1.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// The rows.
    pub count: u64,
    /// Those without a value.
    pub nulls: u64,
    /// The mean; none without a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean: Option<f64>,
    /// The sample standard deviation; none under two numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub std: Option<f64>,
    /// The smallest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The largest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// The values at [`QUANTILES`], each one that occurs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quantiles: Vec<f64>,
    /// The most frequent levels and their counts, by count and then by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top: Vec<(String, u64)>,
}

/// Describes a column over the rows at `places`.
pub fn describe(values: &Values, places: &[u32]) -> Description {
    let rows = places.iter().map(|&row| row as usize);
    let integer = |value: i64| (value != NO_INTEGER).then_some(value as f64);
    match values {
        Values::Number(numbers) => {
            of_numbers(rows.map(|row| Some(numbers[row]).filter(|value| !value.is_nan())))
        }
        Values::Integer(integers) | Values::Time(integers) => {
            of_numbers(rows.map(|row| integer(integers[row])))
        }
        Values::Boolean(truths) => {
            of_numbers(rows.map(|row| truths[row].map(|value| f64::from(u8::from(value)))))
        }
        Values::Exact(values) => match values.numbers() {
            Some(numbers) => of_numbers(rows.map(|row| Some(numbers[row]).filter(|value| !value.is_nan()))),
            None => {
                let nulls = places.iter().filter(|&&row| values.get(row as usize).is_none()).count();
                Description { count: places.len() as u64, nulls: nulls as u64, ..Description::default() }
            }
        },
        Values::Text(..) => of_texts(rows.map(|row| values.text_at(row))),
    }
}

/// Mean and deviation by Welford (1962).
fn of_numbers(values: impl Iterator<Item = Option<f64>>) -> Description {
    let mut known = Vec::new();
    let (mut count, mut mean, mut squares) = (0, 0.0, 0.0);
    for value in values {
        count += 1;
        if let Some(value) = value {
            known.push(value);
            let before: f64 = value - mean;
            mean += before / known.len() as f64;
            squares += before * (value - mean);
        }
    }
    known.sort_unstable_by(f64::total_cmp);
    let some = !known.is_empty();
    let at = |share: &f64| known[((known.len() - 1) as f64 * share).round() as usize];
    Description {
        count,
        nulls: count - known.len() as u64,
        mean: some.then_some(mean),
        std: (known.len() > 1).then(|| (squares / (known.len() - 1) as f64).sqrt()),
        min: known.first().copied(),
        max: known.last().copied(),
        quantiles: if some { QUANTILES.iter().map(at).collect() } else { vec![] },
        top: vec![],
    }
}

fn of_texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> Description {
    let mut described = Description::default();
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for value in values {
        described.count += 1;
        match value {
            Some(level) => *counts.entry(level).or_default() += 1,
            None => described.nulls += 1,
        }
    }
    let mut levels: Vec<(&str, u64)> = counts.into_iter().collect();
    levels.sort_by_key(|(level, count)| (std::cmp::Reverse(*count), *level));
    described.top = levels.into_iter().take(TOP).map(|(level, count)| (level.to_owned(), count)).collect();
    described
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_described_by_what_can_be_checked_by_hand() {
        let values = Values::Number(vec![4.0, f64::NAN, 1.0, 3.0, 2.0, 100.0]);
        let described = describe(&values, &[0, 1, 2, 3, 4]);
        assert_eq!((described.count, described.nulls), (5, 1));
        assert_eq!((described.mean, described.min, described.max), (Some(2.5), Some(1.0), Some(4.0)));
        assert!((described.std.unwrap() - (5.0_f64 / 3.0).sqrt()).abs() < 1e-12);
        assert_eq!((described.quantiles[0], described.quantiles[8]), (1.0, 4.0));
    }

    #[test]
    fn texts_are_described_by_their_most_frequent_levels() {
        let described =
            describe(&Values::text([Some("b"), Some("a"), None, Some("b"), Some("c")]), &[0, 1, 2, 3, 4]);
        assert_eq!(described.nulls, 1);
        assert_eq!(described.top, [("b".to_owned(), 2), ("a".to_owned(), 1), ("c".to_owned(), 1)]);
        assert_eq!(described.mean, None);
    }

    #[test]
    fn nothing_is_described_as_nothing() {
        let described = describe(&Values::Number(vec![f64::NAN]), &[0]);
        assert_eq!(described, Description { count: 1, nulls: 1, ..Description::default() });
    }
}
