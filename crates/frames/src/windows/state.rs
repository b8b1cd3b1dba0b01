//! What a fold over the values of one column remembers.
//!
//! Mean and deviation follow Welford (1962), "Note on a method for calculating corrected sums of squares and products". The
//! number of different values is that of the k smallest hashes (Bar-Yossef et al. 2002, "Counting distinct elements in a data
//! stream"), with the unbiased estimate of Beyer et al. (2007), "On synopses for distinct-value estimation under multiset
//! operations". Percentiles are exact: a fold has all values at hand.

use std::collections::BTreeSet;

use domain::definitions::Aggregate;

/// How many hashes are kept: up to as many values are counted, past that the standard error is 1/√(k−2), 3.1 %.
const KEPT: usize = 1024;

/// What the outputs of a column need besides its moments.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Needs {
    pub(super) distinct: bool,
    percentiles: bool,
}

impl Needs {
    pub(super) fn add(&mut self, aggregate: Aggregate) {
        self.distinct |= aggregate == Aggregate::ApproxDistinct;
        self.percentiles |= matches!(aggregate, Aggregate::Percentile(_));
    }
}

/// What a fold over the values of one column, newest first, has seen so far.
#[derive(Clone, Debug)]
pub(super) struct State {
    count: u64,
    sum: f64,
    mean: f64,
    squares: f64,
    min: f64,
    max: f64,
    newest: f64,
    oldest: f64,
    smallest: Option<BTreeSet<u64>>,
    values: Option<Vec<f64>>,
}

impl State {
    pub(super) fn new(needs: Needs) -> Self {
        Self {
            count: 0,
            sum: 0.0,
            mean: 0.0,
            squares: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            newest: f64::NAN,
            oldest: f64::NAN,
            smallest: needs.distinct.then(BTreeSet::new),
            values: needs.percentiles.then(Vec::new),
        }
    }

    /// Takes the next older value and its hash; a null is skipped.
    pub(super) fn take(&mut self, value: f64, hash: impl FnOnce() -> u64) {
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
        if let Some(smallest) = &mut self.smallest {
            smallest.insert(hash());
            if smallest.len() > KEPT {
                smallest.pop_last();
            }
        }
        if let Some(values) = &mut self.values {
            values.push(value);
        }
    }

    /// The aggregate of what was taken. Percentiles put what was taken in order, which no other answer minds.
    pub(super) fn answer(&mut self, aggregate: Aggregate) -> f64 {
        match aggregate {
            Aggregate::Count => self.count as f64,
            Aggregate::ApproxDistinct => self.smallest.as_ref().map_or(f64::NAN, distinct),
            _ if self.count == 0 => f64::NAN,
            Aggregate::Sum => self.sum,
            Aggregate::Mean => self.mean,
            Aggregate::Min => self.min,
            Aggregate::Max => self.max,
            Aggregate::Std if self.count < 2 => f64::NAN,
            Aggregate::Std => (self.squares / (self.count - 1) as f64).sqrt(),
            Aggregate::Last => self.newest,
            Aggregate::First => self.oldest,
            Aggregate::Percentile(percent) => {
                self.values.as_mut().map_or(f64::NAN, |values| percentile(values, percent))
            }
            Aggregate::Age => f64::NAN, // answered from times, not from values
        }
    }
}

/// (k − 1) / U for the k-th smallest hash U as a share of all hashes; the number itself while fewer are kept.
fn distinct(smallest: &BTreeSet<u64>) -> f64 {
    match smallest.last() {
        Some(last) if smallest.len() == KEPT => {
            let share = (*last as f64 + 1.0) / 2f64.powi(64);
            ((KEPT - 1) as f64 / share).round()
        }
        _ => smallest.len() as f64,
    }
}

/// Linear between the two values around (n − 1) · percent / 100, counted from the smallest (Hyndman and Fan's type 7).
fn percentile(values: &mut [f64], percent: u8) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let rank = (values.len() - 1) as f64 * f64::from(percent) / 100.0;
    let (below, above) = (values[rank.floor() as usize], values[rank.ceil() as usize]);
    if below == above { below } else { below + (above - below) * rank.fract() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(aggregate: Aggregate, values: impl Iterator<Item = f64>) -> f64 {
        let mut needs = Needs::default();
        needs.add(aggregate);
        let mut state = State::new(needs);
        values.for_each(|value| state.take(value, || crate::keys::hash(&value.to_le_bytes())));
        state.answer(aggregate)
    }

    #[test]
    fn different_values_are_counted_and_past_a_thousand_estimated() {
        let of = |n: u32| state(Aggregate::ApproxDistinct, (0..3 * n).map(|at| f64::from(at % n)));
        assert_eq!((of(1), of(7), of(1000)), (1.0, 7.0, 1000.0));
        for n in [5_000, 100_000] {
            let off = of(n) / f64::from(n) - 1.0;
            assert!(off.abs() < 0.1, "{n} different values were off by {off}");
        }
        assert_eq!(state(Aggregate::ApproxDistinct, std::iter::empty()), 0.0);
    }

    #[test]
    fn percentiles_are_those_of_numpy() {
        let of = |percent| state(Aggregate::Percentile(percent), [4.0, 1.0, f64::NAN, 10.0, 2.0].into_iter());
        assert_eq!((of(50), of(25)), (3.0, 1.75)); // numpy.percentile([1, 2, 4, 10], …)
        assert!((of(90) - 8.2).abs() < 1e-12);
        assert!(state(Aggregate::Percentile(50), std::iter::empty()).is_nan());
        assert_eq!(
            state(Aggregate::Percentile(99), [f64::INFINITY, f64::INFINITY].into_iter()),
            f64::INFINITY
        );
    }
}
