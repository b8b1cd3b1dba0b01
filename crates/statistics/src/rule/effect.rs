//! How far a column moved, with an interval.

use super::yardstick::Claim;
use super::{Cause, Look};
use crate::distributions::normal_sf;
use crate::drift::distance_binned;
use crate::interval::two_sided_z;
use crate::profile::ColumnProfile;
use crate::{Error, Interval};

/// A distance between the reference and a window.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Effect {
    /// Kolmogorov–Smirnov distance of numbers (at the reference's deciles, if it has a season), total variation of levels.
    pub value: f64,
    /// Where the distance of the laws lies.
    pub interval: Interval,
}

/// Φ⁻¹(0.975), which every window asks for.
const Z_OF_95: f64 = 1.959_963_984_540_053_6;

/// The distance of a window, with the interval at `level`.
///
/// # Errors
/// [`Error`] unless 0 < level < 1 and both sides hold a value.
pub fn effect(look: &Look<'_>, level: f64) -> Result<Effect, Error> {
    let z = if level == 0.95 { Z_OF_95 } else { two_sided_z(level)? };
    match &look.yardstick.whole {
        ColumnProfile::Numbers(_) => Ok(location(look, z)),
        ColumnProfile::Levels(_) => Ok(variation(look, z)),
    }
}

/// D by all bins if the reference has them for the season, else by the deciles; its interval by the deciles: the widest of
/// few gaps is not much wider than chance makes it, while that of five hundred is.
fn location(look: &Look<'_>, z: f64) -> Effect {
    let surer = surer(look);
    // The widest gaps upwards and downwards; of equal ones the last.
    let (mut up, mut down): (Option<&Claim>, Option<&Claim>) = (None, None);
    for claim in look.claims.iter().take_while(|claim| claim.cause == Cause::Location) {
        let widest = if claim.share > claim.expected { &mut up } else { &mut down };
        if widest.is_none_or(|widest| claim.gap() >= widest.gap()) {
            *widest = Some(claim);
        }
    }
    let (gap, other, error) = match (up, down) {
        (Some(up), Some(down)) if up.gap() > down.gap() => (up.gap(), down.gap(), up.error_if(surer)),
        (up, Some(down)) => (down.gap(), up.map_or(-1.0, Claim::gap), down.error_if(surer)),
        (Some(up), None) => (up.gap(), -1.0, up.error_if(surer)),
        (None, None) => (0.0, -1.0, 0.0),
    };
    let value = match (look.seasonal, &look.yardstick.whole, look.window) {
        (false, ColumnProfile::Numbers(reference), ColumnProfile::Numbers(window)) => {
            distance_binned((&look.yardstick.below, reference.values()), (window.counts(), window.values()))
        }
        _ => gap,
    };
    Effect { value, interval: around(gap - luck_of_two(gap - other, error), z * error, value) }
}

/// What the variance of a window's share is less than its independent values make it, as a part of p(1 − p): 1/n − 1/n′.
///
/// n is what the values are worth whatever the law by which they follow each other; n′ what the answers are worth where it is the
/// normal one, whose signs are correlated by (2/π)·asin ρ: values/(1 + 2·Σₖ (2/π)·asin ρᵏ).
/// # Source
/// Sheppard (1899), "On the application of the theory of error to cases of normal distribution and normal correlation"; the
/// correction of the correlation for few values: Kendall (1954), "Note on bias in the estimation of autocorrelation".
fn surer(look: &Look<'_>) -> f64 {
    let (values, worth) = (look.answers.values as f64, look.worth);
    if worth >= 1.0 || worth <= 0.0 || values == 0.0 {
        return 0.0;
    }
    let ranks = (1.0 - worth) / (1.0 + worth);
    let ranks = (ranks + (1.0 + 3.0 * ranks) / values).min(0.999);
    1.0 / (values * worth) - signs_inflation(2.0 * (std::f64::consts::PI * ranks / 6.0).sin()) / values
}

/// 1 + 2·Σₖ (2/π)·asin ρᵏ over all k from 1 on, by asin's series, each of whose terms adds up to a geometric one.
fn signs_inflation(correlation: f64) -> f64 {
    const ASIN: [f64; 6] = [1.0, 1.0 / 6.0, 3.0 / 40.0, 15.0 / 336.0, 105.0 / 3456.0, 945.0 / 42_240.0];
    let (mut power, square) = (correlation, correlation * correlation);
    let mut sum = 0.0;
    for factor in ASIN {
        sum += factor * power / (1.0 - power);
        power *= square;
    }
    1.0 + sum * 4.0 / std::f64::consts::PI
}

/// What the greater of two gaps with this error owes to chance: θ·(φ(t) − t·Φ(−t)), θ = √2·error, t = difference/θ.
fn luck_of_two(difference: f64, error: f64) -> f64 {
    let spread = error * std::f64::consts::SQRT_2;
    if spread > 0.0 { spread * excess(difference / spread) } else { 0.0 }
}

/// E max(0, Z − t) of a standard normal Z: φ(t) − t·Φ(−t).
fn excess(t: f64) -> f64 {
    (-t * t / 2.0).exp() / std::f64::consts::TAU.sqrt() - t * normal_sf(t)
}

/// The total variation over the levels that are asked about.
fn variation(look: &Look<'_>, z: f64) -> Effect {
    let asked = || look.claims.iter().filter(|claim| claim.cause == Cause::Levels);
    let value = (asked().map(Claim::gap).sum::<f64>() / 2.0).min(1.0);
    let mut grown = (0.0, 0.0, 0.0);
    let (mut by_chance, mut noise) = (0.0, 0.0);
    for claim in asked() {
        if claim.share > claim.expected {
            grown = (grown.0 + claim.share, grown.1 + claim.expected, claim.size);
        }
        let luck = claim.by_chance();
        by_chance += luck / 2.0;
        noise += luck * luck / 8.0; // what taking luck off adds to the variance, about
    }
    let error = (grown.0 * (1.0 - grown.0) / grown.2.max(1.0) + noise).max(0.0).sqrt();
    Effect { value, interval: around(value - by_chance, z * error, value) }
}

fn around(middle: f64, half: f64, value: f64) -> Interval {
    Interval { low: (middle - half).clamp(0.0, value), high: (middle + half).clamp(value, 1.0) }
}

impl Claim {
    fn gap(&self) -> f64 {
        (self.share - self.expected).abs()
    }

    fn standard_error(&self) -> f64 {
        self.error_if(0.0)
    }

    /// The standard error if the inverse of the size is less by so much; less than one value is one, and no surer.
    fn error_if(&self, surer: f64) -> f64 {
        let pooled = (self.share + self.expected) / 2.0;
        let inverse = if self.size > 1.0 { 1.0 / self.size - surer } else { 1.0 };
        (pooled * (1.0 - pooled) * inverse).max(0.0).sqrt()
    }

    /// What |share − expected| owes to chance: nothing on average where it is large, all of it where the shares of the laws
    /// are the same. With t = gap/s: s·√(8/π)·exp(−3t²/2), whose mean over a standard normal t is that of |t|.
    fn by_chance(&self) -> f64 {
        let error = self.standard_error();
        let t = if error > 0.0 { self.gap() / error } else { return 0.0 };
        error * (8.0 / std::f64::consts::PI).sqrt() * (-1.5 * t * t).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_that_follow_each_other_are_worth_as_many_as_the_slow_sum_says() {
        for correlation in [0.0_f64, 0.01, 0.3, 0.5, 0.9, 0.97] {
            let slow: f64 = (1..5_000).map(|k| correlation.powi(k).asin()).sum();
            let slow = 1.0 + slow * 4.0 / std::f64::consts::PI;
            let quick = signs_inflation(correlation);
            assert!((0.98..=1.0 + 1e-9).contains(&(quick / slow)), "{correlation}: {quick} {slow}");
        }
    }

    #[test]
    fn a_share_that_rests_on_less_than_a_value_has_an_error() {
        let claim = |size| Claim { cause: Cause::Location, share: 0.5, expected: 0.5, size, bound: 0.0 };
        assert_eq!(claim(0.25).error_if(3.0), 0.5);
        assert_eq!(claim(4.0).error_if(0.0), 0.25);
        assert!((claim(4.0).error_if(0.09) - 0.2).abs() < 1e-12);
    }

    #[test]
    fn the_quantile_that_is_known_by_heart_is_the_computed_one() {
        assert_eq!(Z_OF_95, two_sided_z(0.95).unwrap());
    }
}
