//! Ranges that hold a true value with a stated confidence.

use crate::{Error, check, distributions::normal_quantile};

/// A closed range; `low <= high`.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Interval {
    /// True if `value` lies between the ends or on one.
    pub fn contains(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// The normal interval around an estimate within [0, 1], cut off there.
    pub(crate) fn around_share(estimate: f64, standard_error: f64, z: f64) -> Self {
        Self { low: (estimate - z * standard_error).max(0.0), high: (estimate + z * standard_error).min(1.0) }
    }
}

/// z such that the standard normal lies within ±z with probability `level`.
pub(crate) fn two_sided_z(level: f64) -> Result<f64, Error> {
    check::inside(level, "a confidence level", "in (0, 1)", level > 0.0 && level < 1.0)?;
    Ok(-normal_quantile((1.0 - level) / 2.0))
}

/// Wilson's 95 % interval for a share of `successes` among `trials`; both may be effective numbers.
///
/// (p + z²/2n ± z·√(p(1−p)/n + z²/4n²)) / (1 + z²/n), with p = successes/trials, z = Φ⁻¹(0.975).
/// ```
/// let band = statistics::wilson(0.0, 10.0).unwrap();
/// assert_eq!(band.low, 0.0);
/// assert!((band.high - 3.8415 / 13.8415).abs() < 1e-4); // z²/(n + z²)
/// ```
/// # Errors
/// [`Error::OutOfDomain`] unless trials > 0 and 0 ≤ successes ≤ trials.
/// # Source
/// Wilson (1927), "Probable inference, the law of succession, and statistical inference".
pub fn wilson(successes: f64, trials: f64) -> Result<Interval, Error> {
    check::inside(trials, "trials", "positive and finite", trials > 0.0 && trials.is_finite())?;
    check::inside(successes, "successes", "between 0 and trials", (0.0..=trials).contains(&successes))?;
    let z2 = two_sided_z(0.95)?.powi(2);
    let p = successes / trials;
    let scale = 1.0 + z2 / trials;
    let middle = (p + z2 / (2.0 * trials)) / scale;
    let half = (z2 * (p * (1.0 - p) / trials + z2 / (4.0 * trials * trials))).sqrt() / scale;
    // The ends are exact where the share is: rounding must not leave a tiny gap.
    let low = if successes == 0.0 { 0.0 } else { (middle - half).max(0.0) };
    let high = if successes == trials { 1.0 } else { (middle + half).min(1.0) };
    Ok(Interval { low, high })
}
