//! Whether several columns together have moved: kernel mean embeddings and principal components.
//!
//! Samples are rows of equal length; NaN and infinities are refused, so missing values are the caller's to fill.

use crate::distributions::normal_sf;
use crate::linear::Symmetric;
use crate::{Error, Generator, check};

/// The columns of both samples, which must agree and be finite.
pub(super) fn width(reference: &[Vec<f64>], current: &[Vec<f64>], needed: usize) -> Result<usize, Error> {
    check::at_least(needed, reference.len().min(current.len()), "rows")?;
    let width = reference[0].len();
    check::at_least(1, width, "columns")?;
    for row in reference.iter().chain(current) {
        check::same_length(width, row.len())?;
        check::finite(row, "values")?;
    }
    Ok(width)
}

fn squared_distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// The squared maximum mean discrepancy with kernel exp(−‖x−y‖²/(2σ²)), unbiased: may be slightly negative. O(n²).
///
/// ```
/// let (a, b) = (vec![vec![0.0], vec![1.0]], vec![vec![10.0], vec![11.0]]);
/// assert!(statistics::drift::mmd(&a, &b, 1.0).unwrap() > 0.5);
/// ```
/// # Errors
/// [`Error::TooFew`] for samples of less than 2 rows; [`Error::LengthMismatch`]; [`Error::OutOfDomain`] for values that are
/// not finite and σ that is not positive.
/// # Source
/// Gretton et al. (2012), "A kernel two-sample test", eq. 3.
pub fn mmd(reference: &[Vec<f64>], current: &[Vec<f64>], sigma: f64) -> Result<f64, Error> {
    width(reference, current, 2)?;
    check::inside(sigma, "sigma", "positive and finite", sigma > 0.0 && sigma.is_finite())?;
    let kernel = |a: &[f64], b: &[f64]| (-squared_distance(a, b) / (2.0 * sigma * sigma)).exp();
    let within = |rows: &[Vec<f64>]| {
        let n = rows.len() as f64;
        let pairs = rows.iter().enumerate().flat_map(|(i, a)| rows[..i].iter().map(move |b| (a, b)));
        2.0 * pairs.map(|(a, b)| kernel(a, b)).sum::<f64>() / (n * (n - 1.0))
    };
    let across: f64 =
        reference.iter().flat_map(|a| current.iter().map(move |b| (a, b))).map(|(a, b)| kernel(a, b)).sum();
    let pairs = reference.len() as f64 * current.len() as f64;
    Ok(within(reference) + within(current) - 2.0 * across / pairs)
}

/// The outcome of [`mmd_linear`].
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Mmd {
    /// The squared discrepancy, unbiased: may be slightly negative.
    pub squared: f64,
    /// The width of the kernel: the median distance of neighbouring rows of the reference.
    pub sigma: f64,
    /// P(a discrepancy as great or greater) if both samples follow one law, by the normal law.
    pub p_value: f64,
}

/// The squared maximum mean discrepancy by independent pairs, in linear time.
///
/// h = k(x₁,x₂) + k(y₁,y₂) − k(x₁,y₂) − k(x₂,y₁) averaged over disjoint pairs; its central limit theorem gives the p-value.
/// Rows are taken in a random order, so that a slow drift within a sample does not pass for independence.
/// ```
/// let rows = |shift: f64| (0..200).map(|i| vec![f64::from(i * 7 % 31) / 31.0 + shift]).collect::<Vec<_>>();
/// let mut generator = statistics::Generator::from_seed(1);
/// assert!(statistics::drift::mmd_linear(&rows(0.0), &rows(1.0), &mut generator).unwrap().p_value < 1e-6);
/// ```
/// # Errors
/// As [`mmd`]; [`Error::TooFew`] for samples of less than 8 rows.
/// # Source
/// Gretton et al. (2012), "A kernel two-sample test", section 6.
pub fn mmd_linear(
    reference: &[Vec<f64>],
    current: &[Vec<f64>],
    generator: &mut Generator,
) -> Result<Mmd, Error> {
    width(reference, current, 8)?;
    let (x, y) = (shuffled(reference.len(), generator), shuffled(current.len(), generator));
    let mut distances: Vec<f64> = x
        .chunks_exact(2)
        .map(|pair| squared_distance(&reference[pair[0]], &reference[pair[1]]).sqrt())
        .collect();
    distances.sort_unstable_by(f64::total_cmp);
    let median = crate::resampling::quantile_of_sorted(&distances, 0.5);
    let sigma = if median > 0.0 && median.is_finite() { median } else { 1.0 };
    let kernel = |a: &[f64], b: &[f64]| (-squared_distance(a, b) / (2.0 * sigma * sigma)).exp();
    let terms: Vec<f64> = x
        .chunks_exact(2)
        .zip(y.chunks_exact(2))
        .map(|(x, y)| {
            let (x1, x2, y1, y2) = (&reference[x[0]], &reference[x[1]], &current[y[0]], &current[y[1]]);
            kernel(x1, x2) + kernel(y1, y2) - kernel(x1, y2) - kernel(x2, y1)
        })
        .collect();
    let pairs = terms.len() as f64;
    let squared = terms.iter().sum::<f64>() / pairs;
    let variance = terms.iter().map(|h| (h - squared).powi(2)).sum::<f64>() / (pairs - 1.0);
    let p_value = if variance > 0.0 { normal_sf(squared / (variance / pairs).sqrt()) } else { 1.0 };
    Ok(Mmd { squared, sigma, p_value })
}

/// The numbers below `count` in a random order.
pub(super) fn shuffled(count: usize, generator: &mut Generator) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        order.swap(last, generator.below(last + 1));
    }
    order
}

/// Principal components of a reference, to see whether later rows still lie in their span.
///
/// Columns are standardised; the components kept are the first that together hold `share` of the variance.
#[derive(Clone, Debug, PartialEq)]
pub struct Reconstruction {
    mean: Vec<f64>,
    scale: Vec<f64>,
    components: Vec<Vec<f64>>,
}

impl Reconstruction {
    /// Finds the components. A constant column is left unscaled.
    ///
    /// ```
    /// let line: Vec<Vec<f64>> = (0..50).map(|i| vec![f64::from(i), 2.0 * f64::from(i)]).collect();
    /// let found = statistics::drift::Reconstruction::fit(&line, 0.65).unwrap();
    /// assert!(found.error(&line).unwrap() < 1e-9); // one component tells both columns
    /// assert!(found.error(&[vec![0.0, 98.0]]).unwrap() > 1.0); // off the line
    /// ```
    /// # Errors
    /// [`Error::TooFew`] for less than 2 rows; [`Error::LengthMismatch`]; [`Error::OutOfDomain`] for values that are not
    /// finite and a share outside (0, 1].
    /// # Source
    /// NannyML's reconstruction error (its default share is 0.65).
    pub fn fit(reference: &[Vec<f64>], share: f64) -> Result<Self, Error> {
        let width = width(reference, reference, 2)?;
        check::inside(share, "share", "in (0, 1]", share > 0.0 && share <= 1.0)?;
        let (covariance, mean) = Symmetric::covariance(reference, width);
        let scale: Vec<f64> = (0..width)
            .map(|column| covariance.at(column, column).sqrt())
            .map(|deviation| if deviation > 0.0 && deviation.is_finite() { deviation } else { 1.0 })
            .collect();
        let mut correlation = Symmetric::zeros(width);
        for row in 0..width {
            for column in 0..=row {
                correlation.set(row, column, covariance.at(row, column) / (scale[row] * scale[column]));
            }
        }
        let eigen = correlation.eigen();
        let total: f64 = eigen.iter().map(|(value, _)| value.max(0.0)).sum();
        let mut held = 0.0;
        let mut components = Vec::new();
        for (value, vector) in eigen {
            if held > share * total {
                break;
            }
            held += value.max(0.0);
            components.push(vector);
        }
        Ok(Self { mean, scale, components })
    }

    /// The mean Euclidean distance of rows from their image in the components, in standardised units.
    ///
    /// # Errors
    /// [`Error::TooFew`] without a row; [`Error::LengthMismatch`]; [`Error::OutOfDomain`].
    pub fn error(&self, rows: &[Vec<f64>]) -> Result<f64, Error> {
        check::at_least(1, rows.len(), "rows")?;
        let mut sum = 0.0;
        for row in rows {
            check::same_length(self.mean.len(), row.len())?;
            check::finite(row, "values")?;
            sum += self.row_error(row);
        }
        Ok(sum / rows.len() as f64)
    }

    fn row_error(&self, row: &[f64]) -> f64 {
        let standard: Vec<f64> = row
            .iter()
            .zip(&self.mean)
            .zip(&self.scale)
            .map(|((x, mean), scale)| (x - mean) / scale)
            .collect();
        let mut rest = standard.clone();
        for component in &self.components {
            let along: f64 = component.iter().zip(&standard).map(|(a, b)| a * b).sum();
            rest.iter_mut().zip(component).for_each(|(rest, a)| *rest -= along * a);
        }
        rest.iter().map(|rest| rest * rest).sum::<f64>().sqrt()
    }
}
