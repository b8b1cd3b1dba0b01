//! Parts of a population in which probabilities promise too much or too little, however many parts are looked at.
//!
//! Parts may overlap and may have been thought up after seeing the inputs, but not after seeing the outcomes: all that were
//! looked at must be given, not only those that look bad.

use crate::sequential::bh_adjusted;
use crate::{Error, Interval, check};

/// What is summed over the rows of a part.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sums {
    /// How many rows it has.
    pub rows: u64,
    /// The sum of their probabilities.
    pub promised: f64,
    /// How many of them came true.
    pub events: u64,
}

impl Sums {
    /// Adds a row.
    pub fn add(&mut self, probability: f64, outcome: bool) {
        self.rows += 1;
        self.promised += probability;
        self.events += u64::from(outcome);
    }
}

/// How far a part's mean probability lies from the share of its rows that came true.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gap {
    /// How many rows the part has.
    pub rows: u64,
    /// How many independent rows they are worth.
    pub n_eff: f64,
    /// Their mean probability.
    pub promised: f64,
    /// The share of them that came true.
    pub rate: f64,
    /// Where `promised − rate` lies; over the parts that are called real, a share of at most α of these misses it.
    pub interval: Interval,
    /// The smallest α at which the part would be called real; valid under any dependence between parts.
    pub adjusted_p: f64,
    /// The gap exceeds the smallest worth naming, at level α.
    pub is_real: bool,
}

impl Gap {
    /// Above 0 the probabilities promise too much.
    pub fn size(&self) -> f64 {
        self.promised - self.rate
    }
}

/// Judges every part: is |mean probability − P(outcome)| greater than `least`?
///
/// p = min(1, 2·exp(−n·KL(rate ‖ bound))) with bound = promised ± least on the side of the rate, n = rows·`worth`, and
/// KL(a ‖ b) = a·ln(a/b) + (1−a)·ln((1−a)/(1−b)): Hoeffding's bound, true at every n and for rows of unlike probability.
/// Benjamini & Yekutieli's step makes them `adjusted_p`, so that among the parts called real an expected share of at most α is
/// not. An interval holds each q with n·KL(rate ‖ q) ≤ ln(2/α′), α′ = α·R/(K·(1 + ½ + … + 1/K)) for R real ones among K parts.
/// ```
/// use statistics::segments::{Sums, gaps};
/// let fine = Sums { rows: 1_000, promised: 200.0, events: 210 };
/// let bad = Sums { rows: 1_000, promised: 200.0, events: 400 };
/// let judged = gaps(&[fine, bad], 1.0, 0.03, 0.001).unwrap();
/// assert!(!judged[0].is_real && judged[1].is_real && judged[1].interval.high < -0.03);
/// ```
/// # Errors
/// [`Error::OutOfDomain`] unless 0 < `worth` ≤ 1, 0 ≤ `least` < 1, 0 < `alpha` < 1, and each part has rows, no more events than
/// rows and a sum of probabilities between 0 and its rows.
/// # Source
/// Hoeffding (1963), "Probability inequalities for sums of bounded random variables", theorem 1; Benjamini & Yekutieli (2001),
/// "The control of the false discovery rate in multiple testing under dependency" and (2005) "False discovery
/// rate-adjusted multiple confidence intervals".
pub fn gaps(parts: &[Sums], worth: f64, least: f64, alpha: f64) -> Result<Vec<Gap>, Error> {
    check::inside(worth, "worth", "in (0, 1]", worth > 0.0 && worth <= 1.0)?;
    check::inside(least, "least", "in [0, 1)", (0.0..1.0).contains(&least))?;
    check::inside(alpha, "alpha", "in (0, 1)", alpha > 0.0 && alpha < 1.0)?;
    parts.iter().try_for_each(check_part)?;
    let harmonic: f64 = (1..=parts.len()).map(|k| 1.0 / k as f64).sum();
    let p_values: Vec<f64> = parts.iter().map(|part| p_value(part, worth, least)).collect();
    let adjusted: Vec<f64> = bh_adjusted(&p_values)?.into_iter().map(|p| (p * harmonic).min(1.0)).collect();
    let real = adjusted.iter().filter(|&&p| p <= alpha).count().max(1);
    let level = alpha * real as f64 / (parts.len().max(1) as f64 * harmonic.max(1.0));
    let judged = |(part, adjusted_p): (&Sums, f64)| {
        let (promised, rate) = shares(part);
        let n_eff = part.rows as f64 * worth;
        let around = rates_near(rate, (2.0 / level).ln() / n_eff);
        let interval = Interval { low: promised - around.high, high: promised - around.low };
        Gap { rows: part.rows, n_eff, promised, rate, interval, adjusted_p, is_real: adjusted_p <= alpha }
    };
    Ok(parts.iter().zip(adjusted).map(judged).collect())
}

fn check_part(part: &Sums) -> Result<(), Error> {
    let rows = part.rows as f64;
    check::inside(rows, "a part's rows", "at least 1", part.rows > 0)?;
    check::inside(part.events as f64, "a part's events", "at most its rows", part.events <= part.rows)?;
    let slack = rows * 1e-9; // of sums of many probabilities that are 1
    let holds = part.promised >= 0.0 && part.promised <= rows + slack;
    check::inside(part.promised, "a part's sum of probabilities", "between 0 and its rows", holds)
}

/// The mean probability and the rate.
fn shares(part: &Sums) -> (f64, f64) {
    let rows = part.rows as f64;
    ((part.promised / rows).min(1.0), part.events as f64 / rows)
}

fn p_value(part: &Sums, worth: f64, least: f64) -> f64 {
    let (promised, rate) = shares(part);
    let bound = if rate > promised { (promised + least).min(1.0) } else { (promised - least).max(0.0) };
    if (rate - promised).abs() <= least {
        return 1.0;
    }
    (2.0 * (-(part.rows as f64) * worth * divergence(rate, bound)).exp()).min(1.0)
}

/// KL(a ‖ b) of two coins; ∞ where b rules out what a allows.
fn divergence(a: f64, b: f64) -> f64 {
    let term = |x: f64, y: f64| if x == 0.0 { 0.0 } else { x * (x / y).ln() };
    (term(a, b) + term(1.0 - a, 1.0 - b)).max(0.0)
}

/// All q with KL(rate ‖ q) ≤ `most`: it grows away from the rate on both sides, so each end is found by halving.
fn rates_near(rate: f64, most: f64) -> Interval {
    let end = |mut inside: f64, mut outside: f64| {
        if divergence(rate, outside) <= most {
            return outside;
        }
        for _ in 0..60 {
            let middle = f64::midpoint(inside, outside);
            if divergence(rate, middle) <= most { inside = middle } else { outside = middle }
        }
        outside
    };
    Interval { low: end(rate, 0.0), high: end(rate, 1.0) }
}

/// The indices of the `k` worst parts: those least likely to be chance first, and the greater gap first among equals.
pub fn worst(judged: &[Gap], k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..judged.len()).collect();
    let size = |index: usize| judged[index].size().abs();
    order.sort_by(|&a, &b| {
        let by_chance = judged[a].adjusted_p.total_cmp(&judged[b].adjusted_p);
        by_chance.then_with(|| size(b).total_cmp(&size(a))).then(a.cmp(&b))
    });
    order.truncate(k);
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Generator;

    /// `parts` parts of `rows` rows of unlike probability, whose outcomes come true `shift` more often than promised.
    fn drawn(generator: &mut Generator, parts: usize, rows: usize, shift: f64) -> Vec<Sums> {
        let part = |_| {
            let mut sums = Sums::default();
            for _ in 0..rows {
                let promised = 0.1 + 0.3 * generator.uniform();
                sums.add(promised, generator.uniform() < promised + shift);
            }
            sums
        };
        (0..parts).map(part).collect()
    }

    #[test]
    fn calibrated_parts_are_seldom_called_real_however_many_there_are() {
        let mut generator = Generator::from_seed(1);
        let of_one = |generator: &mut Generator| {
            gaps(&drawn(generator, 200, 300, 0.0), 1.0, 0.0, 0.05).unwrap().iter().any(|gap| gap.is_real)
        };
        let false_alarms = (0..200).filter(|_| of_one(&mut generator)).count();
        assert!(false_alarms <= 10, "{false_alarms} of 200"); // 5 % is what was asked for
    }

    #[test]
    fn a_gap_no_greater_than_the_smallest_worth_naming_is_not_called_real() {
        let mut generator = Generator::from_seed(2);
        let parts = drawn(&mut generator, 100, 5_000, 0.03);
        assert!(gaps(&parts, 1.0, 0.03, 0.05).unwrap().iter().filter(|gap| gap.is_real).count() <= 1);
    }

    #[test]
    fn one_bad_part_among_hundreds_is_found_and_its_interval_holds_its_gap() {
        let mut generator = Generator::from_seed(3);
        let mut parts = drawn(&mut generator, 299, 500, 0.0);
        parts.extend(drawn(&mut generator, 1, 500, 0.25));
        let judged = gaps(&parts, 1.0, 0.03, 0.001).unwrap();
        let real: Vec<usize> = (0..300).filter(|&part| judged[part].is_real).collect();
        assert_eq!((real, worst(&judged, 1)), (vec![299], vec![299]));
        assert!(judged[299].interval.contains(-0.25) && judged[299].interval.high < -0.03);
    }

    #[test]
    fn intervals_hold_their_gap_at_least_as_often_as_they_say() {
        let mut generator = Generator::from_seed(4);
        let held = (0..2_000)
            .filter(|_| {
                let part = drawn(&mut generator, 1, 120, 0.1);
                gaps(&part, 1.0, 0.0, 0.05).unwrap()[0].interval.contains(-0.1)
            })
            .count();
        assert!(held >= 1_900, "{held} of 2000");
    }

    #[test]
    fn rows_that_resemble_each_other_count_for_less() {
        let part = [Sums { rows: 400, promised: 80.0, events: 120 }];
        let (alone, alike) = (gaps(&part, 1.0, 0.0, 0.01).unwrap(), gaps(&part, 0.25, 0.0, 0.01).unwrap());
        assert!(alone[0].is_real && !alike[0].is_real);
        assert!(alike[0].interval.low < alone[0].interval.low);
    }

    #[test]
    fn certain_probabilities_empty_lists_and_nonsense_are_met() {
        assert_eq!(gaps(&[], 1.0, 0.1, 0.1).unwrap(), []);
        let sure = [
            Sums { rows: 5, promised: 5.0, events: 5 },
            Sums { rows: 5, promised: 0.0, events: 0 },
            Sums { rows: 1, promised: 1.0, events: 0 },
        ];
        let judged = gaps(&sure, 1.0, 0.0, 0.05).unwrap();
        assert_eq!(judged.iter().map(|gap| gap.is_real).collect::<Vec<_>>(), [false, false, true]);
        assert_eq!(judged[2].adjusted_p, 0.0);
        for nonsense in [
            Sums::default(),
            Sums { rows: 1, promised: 0.5, events: 2 },
            Sums { rows: 1, promised: f64::NAN, events: 1 },
            Sums { rows: 1, promised: 1.5, events: 1 },
        ] {
            assert!(gaps(&[nonsense], 1.0, 0.0, 0.05).is_err(), "{nonsense:?}");
        }
        for (worth, least, alpha) in [(0.0, 0.0, 0.1), (1.5, 0.0, 0.1), (1.0, 1.0, 0.1), (1.0, 0.0, 0.0)] {
            assert!(gaps(&sure, worth, least, alpha).is_err(), "{worth} {least} {alpha}");
        }
    }
}
