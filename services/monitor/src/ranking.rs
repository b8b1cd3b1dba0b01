//! Does the model still rank outcomes as it did when it was judged?
//!
//! What it promised is its own test: later rows that it never learned from, in blocks as long as the monitor's (a day at most).
//! An area under the ROC curve over two months is no promise for two weeks: a span of calm days offers little to tell apart, and the
//! days of a span go right and wrong together. So two questions are asked of the trailing span, each with an error over blocks:
//!
//! - `auc_14_windows`: is the area below what spans of this many blocks had in the test, by more than chance?
//! - `auc_less_estimate_14_windows`: did the area fall further below what the probabilities let expect of these very rows than it
//!   did in the test? That leaves the mix of rows out, and finds a smaller loss.
//!
//! Either is lost performance, if it is beyond the smallest change that the monitor calls one. What calm weather does to the area is
//! neither, and is shown: as the estimate before labels, and as the area beside its reference.

use std::collections::BTreeMap;
use std::sync::Mutex;

use chrono::TimeDelta;
use domain::incident::Verdict;
use frames::judged::Judged;
use statistics::Interval;
use statistics::distributions::normal_quantile;
use statistics::estimated::{Metric, expected};
use statistics::ranking::auc;
use statistics::spans::{Blocks, Ranked};
use storage::monitors::Finding;
use storage::predictions::Scored;

use crate::Error;
use crate::outcomes::{Bounds, Expected};

/// The longest block: rows of different days are on their own.
const LONGEST: TimeDelta = TimeDelta::days(1);
/// Fewer blocks say nothing of how blocks differ.
const LEAST_BLOCKS: u32 = 4;
/// Spans of the test that are looked at, at most.
const SPANS: u32 = 200;

/// What the version showed of later rows when it was judged, in blocks.
#[derive(Debug)]
pub(crate) struct Test {
    blocks: Blocks,
    length: TimeDelta,
    /// How many of them make a window.
    a_window: u32,
    /// The area of the whole test less what its probabilities let expect.
    gap: f64,
    /// By how many blocks a span has: the least area that is no loss, once somebody asked.
    least: Mutex<BTreeMap<u32, f64>>,
}

impl Test {
    /// The test of a version, for a monitor whose windows are this long; `None` if it ranks nothing.
    pub(crate) fn of(judged: &Judged, window: TimeDelta) -> Option<Self> {
        let length = window.min(LONGEST);
        let numbers: Vec<i64> = judged.cutoffs.iter().map(|&cutoff| block(cutoff, length)).collect();
        let blocks = Blocks::of(&judged.probabilities, &judged.labels, &numbers).ok()?;
        let found = auc(&judged.probabilities, &judged.labels).ok()?;
        let gap = found.value - expected(Metric::Auc, &judged.probabilities).ok()?;
        let a_window = u32::try_from(window.num_seconds() / length.num_seconds().max(1)).unwrap_or(u32::MAX);
        Some(Self { blocks, length, a_window: a_window.max(1), gap, least: Mutex::default() })
    }

    /// Below this, fewer than a share `alpha` of the test's spans of so many blocks would lie, if areas of spans are normal.
    fn least_area(&self, blocks: u32, alpha: f64) -> f64 {
        let mut known = self.least.lock().expect("no holder of this lock can panic");
        *known.entry(blocks).or_insert_with(|| {
            let areas = self.blocks.areas_of_spans(blocks, SPANS);
            let count = areas.len() as f64;
            if count < 2.0 {
                return f64::INFINITY; // then only the smallest change counts
            }
            let mean = areas.iter().sum::<f64>() / count;
            let variance = areas.iter().map(|area| (area - mean).powi(2)).sum::<f64>() / (count - 1.0);
            mean + normal_quantile(alpha) * variance.sqrt()
        })
    }
}

fn block(micros: i64, length: TimeDelta) -> i64 {
    micros.div_euclid(length.num_microseconds().unwrap_or(i64::MAX).max(1))
}

impl Expected {
    /// The least area of a span of so many blocks that is no loss: none of the model's, and none worth the name.
    fn least(&self, blocks: u32, bounds: Bounds) -> Option<f64> {
        let (promised, low) = self.auc?;
        let least = self.test.as_ref().map_or(low, |test| test.least_area(blocks, bounds.alpha));
        Some(least.min(promised - bounds.min_rate_change))
    }

    /// The same of one window.
    pub(crate) fn least_of_a_window(&self, bounds: Bounds) -> Option<f64> {
        self.least(self.test.as_ref().map_or(1, |test| test.a_window), bounds)
    }
}

/// Judges the ranking of a trailing span, whose findings are like `blank` but for their measure.
pub(crate) fn judge(
    trailing: &[Scored],
    expected: &Expected,
    bounds: Bounds,
    blank: impl Fn(&str) -> Finding,
) -> Result<[Finding; 2], Error> {
    let (area, gap) = (blank("auc"), blank("auc_less_estimate"));
    let (Some((promised, _)), false) = (expected.auc, trailing.is_empty()) else {
        return Ok([area, gap]);
    };
    let length = expected.test.as_ref().map_or(LONGEST, |test| test.length);
    let numbers: Vec<i64> = trailing.iter().map(|row| block(row.cutoff.timestamp_micros(), length)).collect();
    let probabilities: Vec<f64> = trailing.iter().map(|row| row.probability).collect();
    let outcomes: Vec<bool> = trailing.iter().map(|row| row.outcome).collect();
    let Ok(found) = Blocks::of(&probabilities, &outcomes, &numbers)?.ranked() else {
        return Ok([area, gap]); // one class: nothing to rank
    };
    let enough = trailing.len() as u64 >= bounds.min_rows && found.blocks >= LEAST_BLOCKS;
    let verdict = |lost: bool| match lost {
        _ if !enough => Verdict::InsufficientData,
        true => Verdict::Drift,
        false => Verdict::Ok,
    };
    let own = found.auc_interval(bounds.alpha);
    let least = expected.least(found.blocks, bounds).unwrap_or(promised);
    let area = Finding {
        effect: Some(found.auc - promised),
        low: finite(own.low - promised),
        high: finite(own.high - promised),
        current: Some(found.auc),
        reference: Some(promised),
        n_eff: Some(f64::from(found.blocks)),
        verdict: verdict(own.high < least),
        ..area
    };
    let usual = expected.test.as_ref().map_or(0.0, |test| test.gap);
    Ok([area, beside_the_estimate(&found, usual, bounds, verdict, gap)])
}

/// `usual` is what the version's test fell short by.
fn beside_the_estimate(
    found: &Ranked,
    usual: f64,
    bounds: Bounds,
    verdict: impl Fn(bool) -> Verdict,
    blank: Finding,
) -> Finding {
    let Interval { low, high } = found.gap_interval(bounds.alpha);
    Finding {
        effect: Some(found.gap() - usual),
        low: finite(low - usual),
        high: finite(high - usual),
        current: Some(found.auc),
        reference: Some(found.expected + usual),
        n_eff: Some(f64::from(found.blocks)),
        verdict: verdict(high - usual < -bounds.min_rate_change),
        ..blank
    }
}

fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chrono::{DateTime, Utc};
    use domain::ids::PredictionId;
    use statistics::Generator;

    use super::*;
    use crate::drift::blank;

    const BOUNDS: Bounds = Bounds { alpha: 0.001, min_rate_change: 0.03, min_rows: 200 };
    const DAY: i64 = 86_400_000_000;

    /// Days of 400 rows, each day around a level of its own; `contrast` is how far rows of a day differ, and `knows` how much of
    /// what a model says (in logits) is so.
    fn days(seed: u64, count: i64, contrast: f64, knows: f64) -> Judged {
        let mut generator = Generator::from_seed(seed);
        let mut judged = Judged::default();
        let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
        for day in 0..count {
            let level = contrast * (generator.uniform() - 0.5) - 1.0;
            for row in 0..400 {
                let own = contrast * (generator.uniform() - 0.5);
                judged.cutoffs.push(day * DAY + row * 1_000_000);
                judged.probabilities.push(logistic(level + own));
                judged.labels.push(generator.uniform() < logistic(-1.0 + knows * (level + 1.0 + own)));
            }
        }
        judged
    }

    fn scored(judged: &Judged) -> Vec<Scored> {
        let row = |row: usize| Scored {
            prediction: PredictionId::new(),
            cutoff: DateTime::<Utc>::from_timestamp_micros(judged.cutoffs[row]).unwrap(),
            probability: judged.probabilities[row],
            outcome: judged.labels[row],
        };
        (0..judged.labels.len()).map(row).collect()
    }

    fn verdicts(trailing: &Judged) -> [Verdict; 2] {
        let tested = days(1, 60, 4.0, 1.0);
        let auc = auc(&tested.probabilities, &tested.labels).unwrap();
        let expected = Expected {
            rate: 0.3,
            auc: Some((auc.value, auc.interval.low)),
            test: Test::of(&tested, TimeDelta::days(1)).map(Arc::new),
        };
        let blank = |measure: &str| Finding { kind: "performance", ..blank("", measure, 0) };
        judge(&scored(trailing), &expected, BOUNDS, blank).unwrap().map(|finding| finding.verdict)
    }

    #[test]
    fn spans_like_those_of_the_test_are_no_loss() {
        for seed in 10..40 {
            assert_eq!(verdicts(&days(seed, 14, 4.0, 1.0)), [Verdict::Ok; 2], "{seed}");
        }
    }

    #[test]
    fn calmer_days_are_not_held_against_the_model_and_a_model_that_knows_less_is_found() {
        let calm = days(3, 14, 3.0, 1.0);
        let area = |judged: &Judged| auc(&judged.probabilities, &judged.labels).unwrap().interval;
        let (now, promised) = (area(&calm), area(&days(1, 60, 4.0, 1.0)));
        assert!(now.high < promised.low, "a fixed bound would have paged: {now:?} {promised:?}");
        assert_eq!(verdicts(&calm), [Verdict::Ok; 2]);
        assert_eq!(verdicts(&days(3, 14, 4.0, 0.4)), [Verdict::Drift; 2]);
        assert_eq!(verdicts(&days(3, 14, 3.0, 0.4))[1], Verdict::Drift);
    }

    #[test]
    fn scores_that_tell_nothing_apart_any_more_are_a_loss_even_if_they_are_true_to_their_word() {
        assert_eq!(verdicts(&days(5, 14, 0.3, 1.0)), [Verdict::Drift, Verdict::Ok]);
    }

    #[test]
    fn few_days_say_nothing() {
        assert_eq!(verdicts(&days(5, 3, 4.0, 0.0)), [Verdict::InsufficientData; 2]);
        assert_eq!(verdicts(&Judged::default()), [Verdict::InsufficientData; 2]);
    }
}
