//! How far a current window has moved from a reference, and whether chance explains it.
//!
//! Effects come with an interval and are separate from p-values: with enough rows every p-value is small.
//! Not here: the verdict, which weighs both against a minimum effect (`domain`, `monitor`).
//! A missing value is a category or a test of its own, so NaN is refused rather than dropped.

mod bins;
mod categories;
mod domain;
mod features;
mod ks;
mod multivariate;
mod ranks;
mod shape;
mod support;
mod wasserstein;

pub use bins::{EmptyBins, count_into, psi, psi_q10, quantile_edges};
pub use categories::{
    ChiSquare, TotalVariation, chi_square, g_test, hellinger, jensen_shannon, kullback_leibler, l_infinity,
    total_variation, two_proportions,
};
pub use domain::domain_classifier;
pub use features::{FeatureMmd, FourierFeatures, Moments, median_distance, mmd_by_features};
pub use ks::{Ks, ks, ks_binned};
pub(crate) use ks::{cumulated, distance_binned};
pub use multivariate::{Mmd, Reconstruction, mmd, mmd_linear};
pub use ranks::{Test, anderson_darling, cramer_von_mises, mann_whitney};
pub use shape::{energy_distance, epps_singleton};
pub use support::{RangeTest, effective_sample_size, range_exceedance, unseen_mass};
pub use wasserstein::wasserstein;

use crate::{Error, check};

/// The sums of two count vectors over the same bins, both positive.
fn totals(reference: &[u64], current: &[u64]) -> Result<(f64, f64), Error> {
    check::same_length(reference.len(), current.len())?;
    let (n, m) = (sum(reference), sum(current));
    check::at_least(1, n.min(m) as usize, "rows")?;
    Ok((n as f64, m as f64))
}

/// Σ counts, at most the greatest integer.
fn sum(counts: &[u64]) -> u64 {
    counts.iter().fold(0, |sum: u64, &count| sum.saturating_add(count))
}

/// Pairs of shares of the same bin.
fn shares<'a>(
    reference: &'a [u64],
    current: &'a [u64],
) -> Result<impl Iterator<Item = (f64, f64)> + Clone + 'a, Error> {
    let (n, m) = totals(reference, current)?;
    Ok(reference.iter().zip(current).map(move |(&r, &c)| (r as f64 / n, c as f64 / m)))
}
