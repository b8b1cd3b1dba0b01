//! The cumulative sum chart.

use super::Signal;
use crate::{Error, check};

/// Two-sided CUSUM of standardised deviations from a known mean: S⁺ = max(0, S⁺ + z − k), S⁻ = max(0, S⁻ − z − k), drift at
/// S > h.
///
/// With k = ½ and h = 5 a move by one standard deviation is found after about 10 values, and a stream that does not move
/// raises an alarm every 465 values on average.
/// ```
/// use statistics::sequential::detectors::{Cusum, Signal};
/// let mut cusum = Cusum::new(10.0, 2.0, 0.5, 5.0).unwrap();
/// let drift = (0..100).find(|i| cusum.observe(if *i < 50 { 10.0 } else { 13.0 }).unwrap() == Signal::Drift);
/// assert_eq!(drift, Some(55)); // six times 1.5 − 0.5 is more than 5
/// ```
/// # Source
/// Page (1954), "Continuous inspection schemes"; run lengths: Montgomery, "Introduction to Statistical Quality Control".
#[derive(Clone, Debug)]
pub struct Cusum {
    mean: f64,
    deviation: f64,
    slack: f64,
    threshold: f64,
    above: f64,
    below: f64,
}

impl Cusum {
    /// A chart around `mean` in units of `deviation`, with slack k and threshold h.
    ///
    /// # Errors
    /// [`Error::OutOfDomain`] unless the mean is finite, the deviation and h are positive, and k is at least 0.
    pub fn new(mean: f64, deviation: f64, slack: f64, threshold: f64) -> Result<Self, Error> {
        check::finite(&[mean], "a mean")?;
        check::inside(deviation, "a deviation", "positive", deviation > 0.0 && deviation.is_finite())?;
        check::inside(slack, "slack", "at least 0", slack >= 0.0 && slack.is_finite())?;
        check::inside(threshold, "threshold", "positive", threshold > 0.0 && threshold.is_finite())?;
        Ok(Self { mean, deviation, slack, threshold, above: 0.0, below: 0.0 })
    }

    /// Takes a value. After [`Signal::Drift`] both sums are 0.
    ///
    /// # Errors
    /// [`Error::OutOfDomain`] for a value that is not finite.
    pub fn observe(&mut self, x: f64) -> Result<Signal, Error> {
        check::finite(&[x], "values")?;
        let z = (x / self.deviation - self.mean / self.deviation).clamp(f64::MIN, f64::MAX);
        self.above = (self.above + z - self.slack).max(0.0);
        self.below = (self.below - z - self.slack).max(0.0);
        if self.above.max(self.below) <= self.threshold {
            return Ok(Signal::Stable);
        }
        (self.above, self.below) = (0.0, 0.0);
        Ok(Signal::Drift)
    }
}
