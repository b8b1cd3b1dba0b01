//! Hosmer and Lemeshow's test of calibration.

use super::reliability::{Binning, reliability};
use crate::Error;
use crate::distributions::chi_square_sf;

/// The outcome of [`hosmer_lemeshow`].
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct HosmerLemeshow {
    /// X².
    pub statistic: f64,
    /// Non-empty bins.
    pub degrees: usize,
    /// P(χ² ≥ X²) with one degree of freedom a bin: right for rows that the model never saw.
    pub p_value: f64,
}

/// Hosmer–Lemeshow: X² = Σ (O − E)²/(E(1 − E/n)) over the bins, O events where E = Σp are expected.
///
/// The rows are taken as unseen, so X² has a degree of freedom a bin; on the rows of the fit two are lost. Its power depends
/// on the bins: [`super::spiegelhalter`] and [`super::slope_and_intercept`] do without. A bin of forecasts all 0 or all 1 in
/// which the impossible happened gives p = 0.
/// ```
/// use statistics::calibration::{Binning, hosmer_lemeshow};
/// let test = hosmer_lemeshow(&[0.5; 10], &[true; 10], Binning::EqualWidth(10)).unwrap();
/// assert!((test.statistic - 10.0).abs() < 1e-12 && test.degrees == 1);
/// ```
/// # Errors
/// As [`super::reliability`].
/// # Source
/// Hosmer & Lemeshow (1980), "Goodness of fit tests for the multiple logistic regression model".
pub fn hosmer_lemeshow(
    probabilities: &[f64],
    labels: &[bool],
    binning: Binning,
) -> Result<HosmerLemeshow, Error> {
    let bins = reliability(probabilities, labels, binning)?;
    let part = |bin: &super::Bin| {
        let count = bin.count as f64;
        let gap = count * (bin.rate - bin.forecast);
        let variance = count * bin.forecast * (1.0 - bin.forecast);
        match (gap == 0.0, variance > 0.0) {
            (true, _) => 0.0,
            (false, true) => gap * gap / variance,
            (false, false) => f64::MAX,
        }
    };
    let statistic = bins.iter().map(part).sum::<f64>().min(f64::MAX);
    Ok(HosmerLemeshow { statistic, degrees: bins.len(), p_value: chi_square_sf(statistic, bins.len()) })
}
