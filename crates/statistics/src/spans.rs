//! How well a model ranks over a span of blocks, such as days.
//!
//! Two things move the area under the ROC curve (AUC) of a span and are no loss. The rows of a day go right and wrong together, so
//! a span of 14 days is worth 14 of something and not its thousands of rows. And a span is a smaller mix than a year: where
//! every day is calm, nothing sets one row apart from the next, and the best model's area falls. So the error here is of
//! blocks, and beside the area stands what the probabilities themselves let expect of this mix of rows; what is left of the
//! area once that is taken off ([`Ranked::gap`]) is the model's own doing.

use crate::distributions::student_quantile;
use crate::{Error, Interval, check};

/// How well a model ranked over a span.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Ranked {
    /// The area under the ROC curve.
    pub auc: f64,
    /// The area that the probabilities let expect of these rows, were they true.
    pub expected: f64,
    /// The standard error of `auc` over blocks; infinite for less than two.
    pub auc_error: f64,
    /// The standard error of `auc − expected` over blocks; infinite for less than two.
    pub gap_error: f64,
    /// How many blocks there are.
    pub blocks: u32,
}

impl Ranked {
    /// What the area came to beyond what the probabilities let expect: below 0, the model knows less than it says.
    pub fn gap(&self) -> f64 {
        self.auc - self.expected
    }

    /// The two-sided interval of the area at level 1 − `alpha`, by Student's law with as many degrees as blocks less one.
    pub fn auc_interval(&self, alpha: f64) -> Interval {
        self.around(self.auc, self.auc_error, alpha)
    }

    /// The two-sided interval of the gap at level 1 − `alpha`.
    pub fn gap_interval(&self, alpha: f64) -> Interval {
        self.around(self.gap(), self.gap_error, alpha)
    }

    fn around(&self, value: f64, error: f64, alpha: f64) -> Interval {
        let reach = match error {
            0.0 => 0.0,
            error => error * student_quantile(1.0 - alpha / 2.0, self.blocks.saturating_sub(1)),
        };
        Interval { low: value - reach, high: value + reach }
    }
}

/// Rows in the order of their probabilities, by block.
#[derive(Clone, Debug)]
pub struct Blocks {
    /// Probability, outcome, block; the highest probability first.
    rows: Vec<(f64, bool, u32)>,
    blocks: u32,
}

/// What rows add up to, of which each is partly an event.
#[derive(Clone, Copy, Default)]
struct Area {
    events: f64,
    others: f64,
    pairs: f64,
    tied_events: f64,
    tied_others: f64,
}

impl Area {
    fn add(&mut self, event: f64) {
        self.tied_events += event;
        self.tied_others += 1.0 - event;
    }

    /// The next rows have a lower probability.
    fn step_down(&mut self) {
        self.pairs += self.tied_others * (self.events + self.tied_events / 2.0);
        self.events += self.tied_events;
        self.others += self.tied_others;
        (self.tied_events, self.tied_others) = (0.0, 0.0);
    }

    fn value(mut self) -> Option<f64> {
        self.step_down();
        (self.events > 0.0 && self.others > 0.0).then(|| self.pairs / (self.events * self.others))
    }
}

impl Blocks {
    /// Sorts rows; `blocks` names the block of each, in the order of time.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`]; [`Error::TooFew`] without a row; [`Error::OutOfDomain`] for what is no probability.
    pub fn of(probabilities: &[f64], outcomes: &[bool], blocks: &[i64]) -> Result<Self, Error> {
        check::forecasts(probabilities, outcomes)?;
        check::same_length(blocks.len(), outcomes.len())?;
        let mut names = blocks.to_vec();
        names.sort_unstable();
        names.dedup();
        let number = |name: &i64| names.partition_point(|other| other < name) as u32;
        let mut rows: Vec<(f64, bool, u32)> = probabilities
            .iter()
            .zip(outcomes)
            .zip(blocks)
            .map(|((&probability, &outcome), block)| (probability, outcome, number(block)))
            .collect();
        rows.sort_by(|a, b| b.0.total_cmp(&a.0));
        Ok(Self { rows, blocks: names.len() as u32 })
    }

    /// How many blocks there are.
    pub fn len(&self) -> u32 {
        self.blocks
    }

    /// Whether there is no block: never, for there is a row.
    pub fn is_empty(&self) -> bool {
        self.blocks == 0
    }

    /// The area over all rows, what the probabilities let expect of it, and the errors of both by leaving out a block at a time:
    /// SE² = (B − 1)/B · Σ_b (θ₋_b − θ̄)². O(N·B) after sorting.
    ///
    /// ```
    /// use statistics::spans::Blocks;
    /// let p = [0.8, 0.2, 0.8, 0.2];
    /// let found = Blocks::of(&p, &[true, false, true, false], &[1, 1, 2, 2]).unwrap().ranked().unwrap();
    /// assert_eq!(found.auc, 1.0);
    /// // of two events and two others in expectation: 1.6·1.6 pairs in order, 0.4·0.4 not, and half of the 2·1.6·0.4 ties
    /// assert!((found.expected - 0.8).abs() < 1e-12);
    /// assert_eq!(found.auc_error, 0.0); // either day alone says the same
    /// ```
    /// # Errors
    /// [`Error::OneClass`] if all outcomes are the same, [`Error::Undefined`] if the probabilities are all 0 or all 1.
    /// # Source
    /// The delete-one-group jackknife: Efron & Stein (1981), "The jackknife estimate of variance". The area that probabilities
    /// let expect, as a correction for the mix of rows: van Klaveren et al. (2016), "A new concordance measure for risk
    /// prediction models in external validation settings".
    pub fn ranked(&self) -> Result<Ranked, Error> {
        let whole = self.areas(|_| true);
        let auc = whole.0.value().ok_or(Error::OneClass)?;
        let expected = whole.1.value().ok_or(Error::Undefined { what: "the expected area" })?;
        let without = (0..self.blocks).map(|block| {
            let (found, expected) = self.areas(|other| other != block);
            // Without this block there is one outcome only: it decides everything, so nothing is known.
            found.value().zip(expected.value())
        });
        let without: Option<Vec<(f64, f64)>> = without.collect();
        let (auc_error, gap_error) = match without {
            Some(left) if left.len() > 1 => (
                jackknife(&left.iter().map(|(found, _)| *found).collect::<Vec<_>>()),
                jackknife(&left.iter().map(|(found, expected)| found - expected).collect::<Vec<_>>()),
            ),
            _ => (f64::INFINITY, f64::INFINITY),
        };
        Ok(Ranked { auc, expected, auc_error, gap_error, blocks: self.blocks })
    }

    /// The areas of the spans of `length` blocks as they followed one another, at most `most` of them, evenly spread; the last ones
    /// go on at the beginning. Spans of one outcome have none.
    ///
    /// ```
    /// use statistics::spans::Blocks;
    /// let labels = [true, false, false, true, true, false];
    /// let days = Blocks::of(&[0.8, 0.2, 0.8, 0.2, 0.8, 0.2], &labels, &[1, 1, 2, 2, 3, 3]).unwrap();
    /// assert_eq!(days.areas_of_spans(1, 10), [1.0, 0.0, 1.0]);
    /// assert_eq!(days.areas_of_spans(2, 10), [0.5, 0.5, 1.0]);
    /// ```
    pub fn areas_of_spans(&self, length: u32, most: u32) -> Vec<f64> {
        let starts = self.blocks.min(most);
        let length = length.min(self.blocks);
        let area = |start: u32| {
            let first = (u64::from(start) * u64::from(self.blocks) / u64::from(starts)) as u32;
            let inside = |block: u32| (block + self.blocks - first) % self.blocks < length;
            self.areas(inside).0.value()
        };
        (0..starts).filter_map(area).collect()
    }

    /// By outcomes, and by probabilities in their place, over the rows of these blocks.
    fn areas(&self, takes: impl Fn(u32) -> bool) -> (Area, Area) {
        let takes: Vec<bool> = (0..self.blocks).map(takes).collect();
        let (mut found, mut expected, mut last) = (Area::default(), Area::default(), f64::NAN);
        for &(probability, outcome, block) in &self.rows {
            if !takes[block as usize] {
                continue;
            }
            if probability != last {
                found.step_down();
                expected.step_down();
                last = probability;
            }
            found.add(f64::from(u8::from(outcome)));
            expected.add(probability);
        }
        (found, expected)
    }
}

fn jackknife(without: &[f64]) -> f64 {
    let count = without.len() as f64;
    let mean = without.iter().sum::<f64>() / count;
    let sum: f64 = without.iter().map(|value| (value - mean).powi(2)).sum();
    ((count - 1.0) / count * sum).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Generator;
    use crate::estimated::{Metric, expected};
    use crate::ranking::auc;

    /// `days` of `rows` with probabilities around each day's level, and outcomes that come true as they say.
    fn days(seed: u64, days: usize, rows: usize, spread: f64) -> (Vec<f64>, Vec<bool>, Vec<i64>) {
        let mut generator = Generator::from_seed(seed);
        let mut all = (vec![], vec![], vec![]);
        for day in 0..days {
            let level = generator.uniform() * 2.0 - 2.0;
            for _ in 0..rows {
                let logit = level + spread * (generator.uniform() - 0.5);
                let probability = 1.0 / (1.0 + (-logit).exp());
                all.0.push(probability);
                all.1.push(generator.uniform() < probability);
                all.2.push(day as i64);
            }
        }
        all
    }

    #[test]
    fn the_areas_are_those_of_their_definitions() {
        let (p, y, day) = days(1, 9, 200, 3.0);
        let found = Blocks::of(&p, &y, &day).unwrap().ranked().unwrap();
        assert!((found.auc - auc(&p, &y).unwrap().value).abs() < 1e-12);
        assert!((found.expected - expected(Metric::Auc, &p).unwrap()).abs() < 1e-12);
    }

    #[test]
    fn the_interval_of_the_gap_holds_zero_as_often_as_it_says_where_probabilities_are_true() {
        let holds = (0..300).filter(|&seed| {
            let (p, y, day) = days(seed, 14, 60, 3.0);
            Blocks::of(&p, &y, &day).unwrap().ranked().unwrap().gap_interval(0.05).contains(0.0)
        });
        let held = holds.count();
        assert!((273..=297).contains(&held), "{held} of 300 at 95 %");
    }

    #[test]
    fn a_mix_without_contrast_lowers_the_area_and_what_is_expected_alike() {
        let ranked = |spread: f64| {
            let (p, y, day) = days(7, 14, 2_000, spread);
            Blocks::of(&p, &y, &day).unwrap().ranked().unwrap()
        };
        let (wide, narrow) = (ranked(4.0), ranked(0.5));
        assert!(wide.auc - narrow.auc > 0.05, "{wide:?} {narrow:?}");
        assert!(wide.gap().abs() < 0.01 && narrow.gap().abs() < 0.01, "{wide:?} {narrow:?}");
    }

    #[test]
    fn a_block_or_a_class_too_few_is_no_certainty() {
        let one = Blocks::of(&[0.9, 0.1], &[true, false], &[3, 3]).unwrap().ranked().unwrap();
        assert_eq!((one.auc_error, one.auc_interval(0.05).high), (f64::INFINITY, f64::INFINITY));
        let needed =
            Blocks::of(&[0.9, 0.1, 0.2], &[true, false, false], &[3, 3, 4]).unwrap().ranked().unwrap();
        assert_eq!(needed.gap_error, f64::INFINITY, "without the first block nothing came true");
        let refused =
            |labels: &[bool]| Blocks::of(&[0.9, 0.1], labels, &[1, 2]).unwrap().ranked().unwrap_err();
        assert_eq!(refused(&[true, true]), Error::OneClass);
        assert!(Blocks::of(&[], &[], &[]).is_err() && Blocks::of(&[f64::NAN], &[true], &[1]).is_err());
        let sure = Blocks::of(&[1.0, 1.0], &[true, false], &[1, 2]).unwrap().ranked();
        assert_eq!(sure.unwrap_err(), Error::Undefined { what: "the expected area" });
    }
}
