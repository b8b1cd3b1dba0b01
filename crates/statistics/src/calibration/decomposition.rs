//! What the Brier score is made of.

use super::reliability::{Binning, reliability};
use crate::Error;
use crate::scoring::brier;

/// The parts of the Brier score: `reliability − resolution + uncertainty + within` is the score, exactly.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct BrierParts {
    /// Σ n_b/n·(mean forecast − share of events)²: miscalibration, smaller is better.
    pub reliability: f64,
    /// Σ n_b/n·(share of events − base rate)²: how far the bins lie apart, greater is better.
    pub resolution: f64,
    /// base rate·(1 − base rate): what the best constant forecast scores.
    pub uncertainty: f64,
    /// What the bins hide: variance of the forecasts within bins less twice their covariance with the outcomes.
    pub within: f64,
}

/// Murphy's decomposition over bins, with the within-bin part that makes it exact.
///
/// ```
/// use statistics::calibration::{Binning, brier_decomposition};
/// let parts = brier_decomposition(&[0.2, 0.2, 0.9, 0.9], &[false, true, true, true], Binning::EqualWidth(10)).unwrap();
/// assert!((parts.reliability - (0.3f64.powi(2) + 0.1f64.powi(2)) / 2.0).abs() < 1e-15);
/// assert!((parts.resolution - 0.0625).abs() < 1e-15 && parts.within.abs() < 1e-15);
/// ```
/// # Errors
/// As [`super::reliability`].
/// # Source
/// Murphy (1973), "A new vector partition of the probability score"; within-bin terms: Stephenson, Coelho & Jolliffe (2008).
pub fn brier_decomposition(
    probabilities: &[f64],
    labels: &[bool],
    binning: Binning,
) -> Result<BrierParts, Error> {
    let bins = reliability(probabilities, labels, binning)?;
    let n = labels.len() as f64;
    let base = labels.iter().filter(|&&label| label).count() as f64 / n;
    let sum = |part: fn(&super::Bin, f64) -> f64| {
        bins.iter().map(|bin| bin.count as f64 / n * part(bin, base)).sum::<f64>()
    };
    let reliability = sum(|bin, _| (bin.forecast - bin.rate).powi(2));
    let resolution = sum(|bin, base| (bin.rate - base).powi(2));
    let uncertainty = base * (1.0 - base);
    let within = brier(probabilities, labels)? - (reliability - resolution + uncertainty);
    Ok(BrierParts { reliability, resolution, uncertainty, within })
}
