//! Weak calibration: too extreme or too timid (slope), too high or too low (intercept), and one overall test.

use crate::distributions::normal_sf;
use crate::interval::two_sided_z;
use crate::logistic::{Problem, logit};
use crate::{Error, Interval, check};

/// An estimate with its standard error.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Estimate {
    /// The estimate.
    pub value: f64,
    /// Its standard error, from the Fisher information.
    pub standard_error: f64,
}

impl Estimate {
    /// value ± z·standard error, covering the truth with probability `level`.
    ///
    /// # Errors
    /// [`Error::OutOfDomain`] unless `level` lies in (0, 1).
    pub fn interval(&self, level: f64) -> Result<Interval, Error> {
        let half = two_sided_z(level)? * self.standard_error;
        Ok(Interval { low: self.value - half, high: self.value + half })
    }
}

/// logit P(y) = intercept + slope · logit p.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct CalibrationLine {
    /// 1 if calibrated; below 1 the forecasts are too extreme, above 1 too timid.
    pub slope: Estimate,
    /// 0 if calibrated.
    pub intercept: Estimate,
}

/// Cox's calibration slope and intercept: the logistic regression of the labels on logit p.
///
/// Probabilities are clipped to [10⁻⁶, 1−10⁻⁶].
/// ```
/// // Two forecasts, each with a share of events of exactly the forecast: slope 1, intercept 0.
/// let p = [0.2, 0.2, 0.2, 0.2, 0.2, 0.8, 0.8, 0.8, 0.8, 0.8];
/// let y = [true, false, false, false, false, true, true, true, true, false];
/// let line = statistics::calibration::slope_and_intercept(&p, &y).unwrap();
/// assert!((line.slope.value - 1.0).abs() < 1e-9 && line.intercept.value.abs() < 1e-9);
/// ```
/// # Errors
/// [`Error::OneClass`]; [`Error::Constant`] if all forecasts are equal; [`Error::Separated`]; and those of
/// [`crate::scoring::log_loss`].
/// # Source
/// Cox (1958), "Two further applications of a model for binary regression".
pub fn slope_and_intercept(probabilities: &[f64], labels: &[bool]) -> Result<CalibrationLine, Error> {
    check::forecasts(probabilities, labels)?;
    check::both_classes(labels)?;
    let features: Vec<[f64; 2]> = probabilities.iter().map(|&p| [1.0, logit(p)]).collect();
    let fit = Problem { features: &features, offsets: None, targets: &as_targets(labels), what: "slope" }
        .solve()?;
    let estimate = |k: usize| Estimate { value: fit.coefficients[k], standard_error: fit.standard_errors[k] };
    Ok(CalibrationLine { slope: estimate(1), intercept: estimate(0) })
}

/// Calibration-in-the-large: the a in logit P(y) = a + logit p. Above 0 the forecasts are too low.
///
/// ```
/// // Forecast ½, three of four happen: a = logit ¾ = ln 3.
/// let a = statistics::calibration::in_the_large(&[0.5; 4], &[true, true, true, false]).unwrap();
/// assert!((a.value - 3f64.ln()).abs() < 1e-9);
/// ```
/// # Errors
/// [`Error::OneClass`], and those of [`crate::scoring::log_loss`].
pub fn in_the_large(probabilities: &[f64], labels: &[bool]) -> Result<Estimate, Error> {
    check::forecasts(probabilities, labels)?;
    check::both_classes(labels)?;
    let offsets: Vec<f64> = probabilities.iter().map(|&p| logit(p)).collect();
    let problem = Problem {
        features: &vec![[1.0]; labels.len()],
        offsets: Some(&offsets),
        targets: &as_targets(labels),
        what: "intercept",
    };
    let fit = problem.solve()?;
    Ok(Estimate { value: fit.coefficients[0], standard_error: fit.standard_errors[0] })
}

/// The outcome of [`spiegelhalter`].
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Spiegelhalter {
    /// Standard normal if the forecasts are calibrated.
    pub z: f64,
    /// Two-sided.
    pub p_value: f64,
}

/// z = Σ (yᵢ−pᵢ)(1−2pᵢ) / √(Σ (1−2pᵢ)² pᵢ(1−pᵢ)): is the Brier score what calibrated forecasts would get?
///
/// Forecasts of only 0, ½ and 1 have no variance here: z is then 0, or ±∞ if a certainty was wrong.
/// ```
/// let test = statistics::calibration::spiegelhalter(&[0.2], &[true]).unwrap();
/// assert!((test.z - 2.0).abs() < 1e-12); // 0.8 · 0.6 / (0.6 · 0.4)
/// ```
/// # Errors
/// Those of [`crate::scoring::log_loss`].
/// # Source
/// Spiegelhalter (1986), "Probabilistic prediction in patient management and clinical trials".
pub fn spiegelhalter(probabilities: &[f64], labels: &[bool]) -> Result<Spiegelhalter, Error> {
    check::forecasts(probabilities, labels)?;
    let (mut excess, mut variance) = (0.0, 0.0);
    for (p, target) in probabilities.iter().zip(as_targets(labels)) {
        let weight = 1.0 - 2.0 * p;
        excess += (target - p) * weight;
        variance += weight * weight * p * (1.0 - p);
    }
    let z = if excess == 0.0 { 0.0 } else { excess / variance.sqrt() };
    Ok(Spiegelhalter { z, p_value: (2.0 * normal_sf(z.abs())).min(1.0) })
}

fn as_targets(labels: &[bool]) -> Vec<f64> {
    labels.iter().map(|&label| f64::from(u8::from(label))).collect()
}
