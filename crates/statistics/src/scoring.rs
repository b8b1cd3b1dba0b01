//! Proper scores of probability forecasts: smaller is better.

use crate::{Error, check};

/// Mean negative log-likelihood in nats; probabilities are clipped to [ε, 1−ε] with ε = 2⁻⁵².
///
/// −1/n·Σᵢ (yᵢ ln pᵢ + (1−yᵢ) ln(1−pᵢ)).
/// ```
/// let loss = statistics::scoring::log_loss(&[0.5, 0.5], &[true, false]).unwrap();
/// assert!((loss - std::f64::consts::LN_2).abs() < 1e-15);
/// ```
/// # Errors
/// [`Error::LengthMismatch`]; [`Error::TooFew`] without a row; [`Error::OutOfDomain`] outside [0, 1].
/// # Source
/// Good (1952), "Rational decisions"; the clipping is scikit-learn's.
pub fn log_loss(probabilities: &[f64], labels: &[bool]) -> Result<f64, Error> {
    Ok(mean(&log_losses(probabilities, labels)?))
}

/// Mean squared error of the probabilities: 1/n·Σᵢ (pᵢ − yᵢ)².
///
/// ```
/// let score = statistics::scoring::brier(&[0.8, 0.4], &[true, false]).unwrap();
/// assert!((score - 0.1).abs() < 1e-15); // (0.04 + 0.16) / 2
/// ```
/// # Errors
/// As [`log_loss`].
/// # Source
/// Brier (1950), "Verification of forecasts expressed in terms of probability".
pub fn brier(probabilities: &[f64], labels: &[bool]) -> Result<f64, Error> {
    Ok(mean(&squared_errors(probabilities, labels)?))
}

/// The loss of each row, of which [`log_loss`] is the mean; for [`crate::resampling::mean_by_counts`].
///
/// # Errors
/// As [`log_loss`].
pub fn log_losses(probabilities: &[f64], labels: &[bool]) -> Result<Vec<f64>, Error> {
    check::forecasts(probabilities, labels)?;
    let loss = |(&p, &label): (&f64, &bool)| {
        let right: f64 = if label { p } else { 1.0 - p };
        -right.clamp(f64::EPSILON, 1.0 - f64::EPSILON).ln()
    };
    Ok(probabilities.iter().zip(labels).map(loss).collect())
}

/// The squared error of each row, of which [`brier`] is the mean.
///
/// # Errors
/// As [`log_loss`].
pub fn squared_errors(probabilities: &[f64], labels: &[bool]) -> Result<Vec<f64>, Error> {
    check::forecasts(probabilities, labels)?;
    Ok(probabilities
        .iter()
        .zip(labels)
        .map(|(&p, &label)| (p - f64::from(u8::from(label))).powi(2))
        .collect())
}

fn mean(losses: &[f64]) -> f64 {
    losses.iter().sum::<f64>() / losses.len() as f64
}
