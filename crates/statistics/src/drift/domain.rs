//! Whether a classifier can tell current rows from reference rows: if it can, something moved, whatever it is.

use super::multivariate::{shuffled, width};
use crate::linear::Symmetric;
use crate::ranking::{Auc, auc};
use crate::{Error, Generator};

/// Random waves per model: enough for interactions of a few columns, cheap enough for a window.
const FEATURES: usize = 200;
/// Folds of the cross-fitting.
const FOLDS: usize = 5;
/// Ridge penalty, as a share of the rows.
const PENALTY: f64 = 1e-3;

/// Tells current from reference rows by ridge regression on random Fourier features, each row scored by a model that did
/// not see it (5 folds); the AUC of the scores: 0.5 is not at all. O(n·200²).
///
/// Columns are scaled by the reference's interquartile range first. Detects moves of single columns and of how they go
/// together.
/// ```
/// let rows = |slope: f64| (0..300).map(|i| {
///     let x = f64::from(i * 37 % 101) / 50.0 - 1.0;
///     vec![x, slope * x + f64::from(i * 53 % 97) / 400.0]
/// }).collect::<Vec<_>>();
/// let mut generator = statistics::Generator::from_seed(1);
/// let found = statistics::drift::domain_classifier(&rows(1.0), &rows(-1.0), &mut generator).unwrap();
/// assert!(found.interval.low > 0.6); // each column alone looks the same
/// ```
/// # Errors
/// [`Error::TooFew`] for samples of less than 20 rows; [`Error::LengthMismatch`]; [`Error::OutOfDomain`] for values that are
/// not finite.
/// # Source
/// Rahimi & Recht (2007), "Random features for large-scale kernel machines"; as a drift test Lopez-Paz & Oquab (2017),
/// "Revisiting classifier two-sample tests".
pub fn domain_classifier(
    reference: &[Vec<f64>],
    current: &[Vec<f64>],
    generator: &mut Generator,
) -> Result<Auc, Error> {
    let width = width(reference, current, 20)?;
    let waves = Waves::draw(reference, width, generator);
    let rows: Vec<Vec<f64>> = reference.iter().chain(current).map(|row| waves.of(row)).collect();
    let labels: Vec<bool> = (0..rows.len()).map(|row| row >= reference.len()).collect();
    let scores = cross_fitted(&rows, &labels, generator);
    auc(&scores, &labels)
}

/// x ↦ √(2/D)·cos(Wx + b), which approximates a Gaussian kernel.
struct Waves {
    centre: Vec<f64>,
    scale: Vec<f64>,
    directions: Vec<Vec<f64>>,
    phases: Vec<f64>,
}

impl Waves {
    fn draw(reference: &[Vec<f64>], width: usize, generator: &mut Generator) -> Self {
        let (mut centre, mut scale) = (Vec::new(), Vec::new());
        for column in 0..width {
            let mut values: Vec<f64> = reference.iter().map(|row| row[column]).collect();
            values.sort_unstable_by(f64::total_cmp);
            let at = |q| crate::resampling::quantile_of_sorted(&values, q);
            let spread = (at(0.75) - at(0.25)) / 1.35; // that of a normal law with standard deviation 1
            centre.push(at(0.5));
            scale.push(if spread > 0.0 && spread.is_finite() { spread } else { 1.0 });
        }
        let reach = (width as f64).sqrt().max(1.0);
        let direction = |generator: &mut Generator| -> Vec<f64> {
            (0..width)
                .map(|_| crate::distributions::normal_quantile(generator.uniform().max(1e-12)) / reach)
                .collect()
        };
        let directions = (0..FEATURES).map(|_| direction(generator)).collect();
        let phases = (0..FEATURES).map(|_| generator.uniform() * std::f64::consts::TAU).collect();
        Self { centre, scale, directions, phases }
    }

    /// The waves at a row, and a constant.
    fn of(&self, row: &[f64]) -> Vec<f64> {
        let standard: Vec<f64> = row
            .iter()
            .zip(&self.centre)
            .zip(&self.scale)
            .map(|((x, centre), scale)| (x - centre) / scale)
            .collect();
        let wave = |(direction, phase): (&Vec<f64>, &f64)| {
            let angle: f64 = direction.iter().zip(&standard).map(|(w, x)| w * x).sum();
            (angle + phase).cos()
        };
        let mut waves: Vec<f64> = self.directions.iter().zip(&self.phases).map(wave).collect();
        waves.push(1.0);
        waves
    }
}

/// The score of each row by a model that learned from the other folds.
fn cross_fitted(rows: &[Vec<f64>], labels: &[bool], generator: &mut Generator) -> Vec<f64> {
    let order = shuffled(rows.len(), generator);
    let mut scores = vec![0.0; rows.len()];
    for fold in 0..FOLDS {
        let held = |place: usize| place % FOLDS == fold;
        let seen = order.iter().enumerate().filter(|(place, _)| !held(*place)).map(|(_, &row)| row);
        let weights = ridge(rows, labels, seen);
        for (_, &row) in order.iter().enumerate().filter(|(place, _)| held(*place)) {
            scores[row] = rows[row].iter().zip(&weights).map(|(x, w)| x * w).sum();
        }
    }
    scores
}

/// Ridge regression of the labels (±1) on the waves.
fn ridge(rows: &[Vec<f64>], labels: &[bool], seen: impl Iterator<Item = usize>) -> Vec<f64> {
    let width = FEATURES + 1;
    let mut normal = Symmetric::zeros(width);
    let mut right = vec![0.0; width];
    let mut count = 0.0;
    for row in seen {
        let sign = if labels[row] { 1.0 } else { -1.0 };
        normal.add_outer(&rows[row], 1.0);
        right.iter_mut().zip(&rows[row]).for_each(|(sum, x)| *sum += sign * x);
        count += 1.0;
    }
    for place in 0..width {
        normal.set(place, place, normal.at(place, place) + PENALTY * count + 1e-9);
    }
    normal.solve(&right).unwrap_or_else(|| vec![0.0; width])
}
