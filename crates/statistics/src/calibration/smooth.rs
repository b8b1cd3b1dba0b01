//! Calibration error without bins: residuals smoothed by a kernel.

use crate::{Error, check};

/// Points of the grid that stands for [0, 1], at least.
const LEAST_POINTS: usize = 2_000;
/// Bisections of the width.
const BISECTIONS: usize = 10;
/// Widths below this are not told apart.
const LEAST_WIDTH: f64 = 1e-3;

/// The smooth calibration error and the width it chose.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct SmoothEce {
    /// The error, in [0, 1].
    pub value: f64,
    /// The width of the kernel: the least at which it is not below the error.
    pub width: f64,
}

/// Smooth ECE at a fixed width σ: ∫₀¹ |1/n·Σᵢ K(t, pᵢ)(pᵢ − yᵢ)| dt, K a Gaussian of width σ reflected at 0 and 1.
///
/// On a grid of at least 2,000 points, finer than σ/20.
/// ```
/// let error = statistics::calibration::smooth_ece_at(&[0.5; 4], &[true; 4], 0.05).unwrap();
/// assert!((error - 0.5).abs() < 1e-3);
/// ```
/// # Errors
/// Those of [`crate::scoring::log_loss`]; [`Error::OutOfDomain`] unless 0 < σ ≤ 1.
/// # Source
/// Błasiok & Nakkiran (2023), "Smooth ECE: principled reliability diagrams via kernel smoothing".
pub fn smooth_ece_at(probabilities: &[f64], labels: &[bool], width: f64) -> Result<f64, Error> {
    check::forecasts(probabilities, labels)?;
    check::inside(width, "a width", "in (0, 1]", width > 0.0 && width <= 1.0)?;
    let points = LEAST_POINTS.max((20.0 / width).ceil() as usize) + 1;
    let residuals = on_grid(probabilities, labels, points);
    let smoothed = smooth(&residuals, width);
    Ok(smoothed.iter().map(|value| value.abs()).sum::<f64>() / labels.len() as f64)
}

/// Smooth ECE: at the least width σ (to 2⁻¹⁰) that is not below its own error.
///
/// Unlike [`super::ece`] it changes little when forecasts change little, and has no bins to choose.
/// ```
/// let found = statistics::calibration::smooth_ece(&[0.1, 0.9], &[false, true]).unwrap();
/// assert!(found.value < 0.15);
/// ```
/// # Errors
/// Those of [`crate::scoring::log_loss`].
/// # Source
/// Błasiok & Nakkiran (2023).
pub fn smooth_ece(probabilities: &[f64], labels: &[bool]) -> Result<SmoothEce, Error> {
    let (mut enough, mut too_narrow) = (1.0, 0.0);
    for _ in 0..BISECTIONS {
        let middle: f64 = (enough + too_narrow) / 2.0;
        if middle < LEAST_WIDTH || middle < smooth_ece_at(probabilities, labels, middle)? {
            too_narrow = middle;
        } else {
            enough = middle;
        }
    }
    // The search ends on the narrow side, as the definition's authors' does.
    let width = if too_narrow > 0.0 { too_narrow } else { enough };
    Ok(SmoothEce { value: smooth_ece_at(probabilities, labels, width)?, width })
}

/// Each residual p − y, shared between its two neighbours on the grid.
fn on_grid(probabilities: &[f64], labels: &[bool], points: usize) -> Vec<f64> {
    let mut grid = vec![0.0; points];
    for (&p, &label) in probabilities.iter().zip(labels) {
        let residual = p - f64::from(u8::from(label));
        let place = p * (points - 1) as f64;
        let left = (place as usize).min(points - 2);
        let right_share = place - left as f64;
        grid[left] += residual * (1.0 - right_share);
        grid[left + 1] += residual * right_share;
    }
    grid
}

/// The grid convolved with a Gaussian that is reflected at both ends; each point's mass stays 1.
fn smooth(grid: &[f64], width: f64) -> Vec<f64> {
    let last = (grid.len() - 1) as i64;
    let reach = ((6.0 * width * last as f64).ceil() as i64).min(4 * last);
    let kernel: Vec<f64> =
        (0..=reach).map(|step| (-0.5 * (step as f64 / (width * last as f64)).powi(2)).exp()).collect();
    let total = kernel[0] + 2.0 * kernel[1..].iter().sum::<f64>();
    let reflected = |place: i64| {
        let place = place.rem_euclid(2 * last);
        (if place > last { 2 * last - place } else { place }) as usize
    };
    let mut smoothed = vec![0.0; grid.len()];
    for (place, &value) in grid.iter().enumerate().filter(|(_, value)| **value != 0.0) {
        let share = value / total;
        smoothed[place] += share * kernel[0];
        for (step, weight) in (1..).zip(&kernel[1..]) {
            smoothed[reflected(place as i64 + step)] += share * weight;
            smoothed[reflected(place as i64 - step)] += share * weight;
        }
    }
    smoothed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_smoothed_keeps_its_mass() {
        let mut grid = vec![0.0; 101];
        (grid[0], grid[70]) = (1.0, 2.0);
        for width in [0.01, 0.1, 1.0] {
            assert!((smooth(&grid, width).iter().sum::<f64>() - 3.0).abs() < 1e-12, "{width}");
        }
    }

    #[test]
    fn calibrated_neighbours_cancel_and_bias_stays() {
        let p = vec![0.5; 1_000];
        let labels: Vec<bool> = (0..1_000).map(|row| row % 2 == 0).collect();
        assert!(smooth_ece(&p, &labels).unwrap().value < 1e-9);
        let late: Vec<bool> = (0..1_000).map(|row| row % 5 == 0).collect();
        assert!((smooth_ece(&p, &late).unwrap().value - 0.3).abs() < 0.01);
    }
}
