//! Bins of the reference, and the population stability index over them.

use super::ks::sorted;
use super::totals;
use crate::resampling::quantile_of_sorted;
use crate::{Error, check};

/// The inner edges of `bins` bins with about equally much of the reference in each: `[≤ bins − 1]`, rising.
///
/// The i/bins quantiles with linear interpolation; equal ones count once, so a constant has one edge.
/// ```
/// let edges = statistics::drift::quantile_edges(&[1.0, 2.0, 3.0, 4.0, 5.0], 4).unwrap();
/// assert_eq!(edges, [2.0, 3.0, 4.0]);
/// ```
/// # Errors
/// [`Error::TooFew`] without a value or bin; [`Error::OutOfDomain`] for NaN.
pub fn quantile_edges(reference: &[f64], bins: usize) -> Result<Vec<f64>, Error> {
    check::at_least(1, bins, "bins")?;
    let sorted = sorted(reference)?;
    let mut edges: Vec<f64> =
        (1..bins).map(|i| quantile_of_sorted(&sorted, i as f64 / bins as f64)).collect();
    edges.dedup();
    Ok(edges)
}

/// How many values fall into (−∞, e₀], (e₀, e₁], …, (eₖ, ∞): shape `[edges + 1]`.
///
/// ```
/// let counts = statistics::drift::count_into(&[2.0, 3.0], &[1.0, 2.0, 2.5, 9.0]).unwrap();
/// assert_eq!(counts, [2, 1, 1]);
/// ```
/// # Errors
/// [`Error::OutOfDomain`] for NaN.
pub fn count_into(edges: &[f64], values: &[f64]) -> Result<Vec<u64>, Error> {
    check::no_nan(values, "values")?;
    let mut counts = vec![0; edges.len() + 1];
    for &value in values {
        counts[edges.partition_point(|&edge| edge < value)] += 1;
    }
    Ok(counts)
}

/// What stands in for an empty bin, whose logarithm would be infinite.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmptyBins {
    /// Half a pseudo-count in every bin of both windows.
    HalfCount,
    /// This share in place of a share of 0; the others stay as they are.
    Floor(f64),
}

/// Population stability index of `current` against `reference`, in nats (0 = identical).
///
/// PSI = Σᵢ (cᵢ − rᵢ)·ln(cᵢ/rᵢ), where rᵢ, cᵢ are the shares of bin i. Bins empty on both sides are left out.
/// ```
/// use statistics::drift::{EmptyBins, psi};
/// let index = psi(&[50, 50], &[25, 75], EmptyBins::Floor(1e-4)).unwrap();
/// assert!((index - 0.25 * 3f64.ln()).abs() < 1e-15);
/// ```
/// # Errors
/// [`Error::LengthMismatch`]; [`Error::TooFew`] if a sum is 0; [`Error::OutOfDomain`] unless 0 < floor ≤ 1.
/// # Source
/// Kullback & Leibler (1951), "On information and sufficiency": the divergence J(1, 2).
pub fn psi(reference: &[u64], current: &[u64], empty: EmptyBins) -> Result<f64, Error> {
    let (n, m) = totals(reference, current)?;
    if let EmptyBins::Floor(floor) = empty {
        check::inside(floor, "the floor", "in (0, 1]", floor > 0.0 && floor <= 1.0)?;
    }
    let used: Vec<(f64, f64)> = reference
        .iter()
        .zip(current)
        .filter(|(r, c)| **r > 0 || **c > 0)
        .map(|(&r, &c)| (r as f64, c as f64))
        .collect();
    let pseudo = used.len() as f64 / 2.0;
    let share = |count: f64, total: f64| match empty {
        EmptyBins::HalfCount => (count + 0.5) / (total + pseudo),
        EmptyBins::Floor(floor) if count == 0.0 => floor,
        EmptyBins::Floor(_) => count / total,
    };
    Ok(used.into_iter().map(|(r, c)| (share(r, n), share(c, m))).map(|(r, c)| (c - r) * (c / r).ln()).sum())
}

/// `psi_q10`: [`psi`] over the reference's deciles with half a pseudo-count a bin.
///
/// ```
/// let reference: Vec<f64> = (0..100).map(f64::from).collect();
/// assert_eq!(statistics::drift::psi_q10(&reference, &reference).unwrap(), 0.0);
/// ```
/// # Errors
/// [`Error::TooFew`] without a value; [`Error::OutOfDomain`] for NaN.
pub fn psi_q10(reference: &[f64], current: &[f64]) -> Result<f64, Error> {
    let edges = quantile_edges(reference, 10)?;
    psi(&count_into(&edges, reference)?, &count_into(&edges, current)?, EmptyBins::HalfCount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_that_moves_up_is_drift_and_one_that_stays_is_none() {
        assert_eq!(psi_q10(&[3.25; 200], &[3.25; 150]).unwrap(), 0.0);
        assert!(psi_q10(&[3.25; 200], &[3.5; 150]).unwrap() > 1.0);
    }

    #[test]
    fn infinite_values_have_bins_of_their_own() {
        let values = [f64::NEG_INFINITY, f64::NEG_INFINITY, 0.0, f64::INFINITY];
        let edges = quantile_edges(&values, 4).unwrap();
        assert!(edges.iter().all(|edge| !edge.is_nan()) && edges.is_sorted());
        assert_eq!(count_into(&edges, &values).unwrap().iter().sum::<u64>(), 4);
    }
}
