//! One column over some rows, reduced to what comparisons need. Samples of windows merge into samples of longer spans.

use std::collections::BTreeMap;

use domain::tabular::Column;
use statistics::drift::effective_sample_size;

/// One column over some rows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    /// The values that are there.
    pub(crate) observed: Observed,
    /// How many rows, missing values included.
    pub(crate) rows: u64,
    /// How many values are missing.
    pub(crate) missing: u64,
    /// How many independent rows the values are worth.
    pub(crate) n_eff: f64,
    /// How many independent rows the pattern of missing values is worth.
    pub(crate) missing_n_eff: f64,
}

/// Values that are there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Observed {
    /// Numbers, in the order of the rows.
    Numbers(Vec<f64>),
    /// How often each level occurs.
    Levels(BTreeMap<String, u64>),
}

impl Sample {
    /// The rows of `order`, which is by time: neighbours that resemble each other count for less.
    pub(crate) fn of_series(column: &Column, order: &[usize]) -> Self {
        let mut sample = Self::of_independent(column, order);
        let gaps: Vec<f64> = order.iter().map(|&row| f64::from(u8::from(is_missing(column, row)))).collect();
        sample.missing_n_eff = worth(&gaps);
        sample.n_eff = match &sample.observed {
            Observed::Numbers(numbers) => worth(numbers),
            Observed::Levels(levels) => worth(&most_common_level(column, order, levels)),
        };
        sample
    }

    /// The rows of `order`, drawn independently of each other, as a reference is.
    pub(crate) fn of_independent(column: &Column, order: &[usize]) -> Self {
        let observed = match column {
            Column::Number(numbers) => {
                let numbers = order.iter().map(|&row| numbers[row]);
                Observed::Numbers(numbers.filter(|number| !number.is_nan()).collect())
            }
            Column::Category { codes, levels } => Observed::Levels(count(codes, levels, order)),
        };
        let (rows, there) = (order.len() as u64, observed.len());
        Self { observed, rows, missing: rows - there, n_eff: there as f64, missing_n_eff: rows as f64 }
    }

    /// The same sample with its numbers in ascending order, which makes comparing with it cheap.
    pub(crate) fn sorted(mut self) -> Self {
        if let Observed::Numbers(numbers) = &mut self.observed {
            numbers.sort_unstable_by(f64::total_cmp);
        }
        self
    }

    /// Adds the rows of another sample of the same column; false if it holds another type. Without a value, a column has
    /// no type yet.
    pub(crate) fn merge(&mut self, other: &Self) -> bool {
        if self.observed.len() == 0 {
            self.observed = other.observed.empty();
        }
        match (&mut self.observed, &other.observed) {
            (Observed::Numbers(own), Observed::Numbers(new)) => own.extend_from_slice(new),
            (Observed::Levels(own), Observed::Levels(new)) => {
                new.iter().for_each(|(level, count)| *own.entry(level.clone()).or_default() += count);
            }
            _ => return false,
        }
        self.rows += other.rows;
        self.missing += other.missing;
        self.n_eff += other.n_eff;
        self.missing_n_eff += other.missing_n_eff;
        true
    }

    /// The share of missing values.
    pub(crate) fn missing_share(&self) -> f64 {
        self.missing as f64 / self.rows.max(1) as f64
    }
}

impl Observed {
    /// How many values.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Numbers(numbers) => numbers.len() as u64,
            Self::Levels(levels) => levels.values().sum(),
        }
    }

    /// No value of this type.
    fn empty(&self) -> Self {
        match self {
            Self::Numbers(_) => Self::Numbers(Vec::new()),
            Self::Levels(_) => Self::Levels(BTreeMap::new()),
        }
    }
}

fn is_missing(column: &Column, row: usize) -> bool {
    match column {
        Column::Number(numbers) => numbers[row].is_nan(),
        Column::Category { .. } => column.category(row).is_none(),
    }
}

fn count(codes: &[u32], levels: &[String], order: &[usize]) -> BTreeMap<String, u64> {
    let mut counts = vec![0; levels.len()];
    for &row in order {
        if let Some(count) = counts.get_mut(codes[row] as usize) {
            *count += 1; // a missing value has no level
        }
    }
    levels.iter().cloned().zip(counts).filter(|(_, count)| *count > 0).collect()
}

/// 1 where the most common level occurs, 0 where another does: texts have no lag-1 correlation of their own.
fn most_common_level(column: &Column, order: &[usize], levels: &BTreeMap<String, u64>) -> Vec<f64> {
    let common = levels.iter().max_by_key(|(_, count)| **count).map(|(level, _)| level.as_str());
    let there = order.iter().filter_map(|&row| column.category(row));
    there.map(|level| f64::from(u8::from(Some(level) == common))).collect()
}

/// How many independent values a series is worth; values without a size count as they are.
pub(crate) fn worth(series: &[f64]) -> f64 {
    effective_sample_size(series).unwrap_or(series.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_repeat_their_neighbours_are_worth_less() {
        let series = Column::Number((0..100).map(|row| f64::from(row / 10)).collect());
        let order: Vec<usize> = (0..100).collect();
        assert!(Sample::of_series(&series, &order).n_eff < 10.0);
        assert_eq!(Sample::of_independent(&series, &order).n_eff, 100.0);
    }

    #[test]
    fn missing_values_are_counted_and_not_compared() {
        let texts = Column::from_text([Some("AA"), None, Some("UA"), Some("AA")]);
        let sample = Sample::of_series(&texts, &[0, 1, 2, 3]);
        assert_eq!((sample.missing, sample.missing_share(), sample.observed.len()), (1, 0.25, 3));
    }

    #[test]
    fn windows_merge_into_the_span_they_cover() {
        let texts = Column::from_text([Some("AA"), Some("UA"), Some("AA")]);
        let mut merged = Sample::of_independent(&texts, &[0, 1]);
        assert!(merged.merge(&Sample::of_independent(&texts, &[2])));
        assert_eq!(merged, Sample::of_independent(&texts, &[0, 1, 2]));
        assert!(!merged.merge(&Sample::of_independent(&Column::Number(vec![1.0]), &[0])));
    }

    #[test]
    fn a_window_without_a_value_takes_the_type_of_the_others() {
        let nothing = Column::Number(vec![f64::NAN]);
        let mut merged = Sample::of_independent(&nothing, &[0]);
        assert!(merged.merge(&Sample::of_independent(&Column::from_text([Some("AA")]), &[0])));
        assert_eq!((merged.rows, merged.missing, merged.observed.len()), (2, 1, 1));
    }
}
