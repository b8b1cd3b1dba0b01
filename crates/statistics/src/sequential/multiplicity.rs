//! Many tests at once: which to reject so that few rejections are false.

use crate::{Error, check};

/// Benjamini–Hochberg: rejects the k smallest p-values, k the greatest with p₍ₖ₎ ≤ αk/K.
///
/// The expected share of false rejections is at most α for independent (or positively dependent) tests.
/// ```
/// let rejected = statistics::sequential::bh(&[0.01, 0.9, 0.03], 0.05).unwrap();
/// assert_eq!(rejected, [true, false, true]);
/// ```
/// # Errors
/// [`Error::OutOfDomain`] unless every p-value and α lie in [0, 1].
/// # Source
/// Benjamini & Hochberg (1995), "Controlling the false discovery rate".
pub fn bh(p_values: &[f64], alpha: f64) -> Result<Vec<bool>, Error> {
    check::inside(alpha, "alpha", "in [0, 1]", (0.0..=1.0).contains(&alpha))?;
    Ok(bh_adjusted(p_values)?.into_iter().map(|adjusted| adjusted <= alpha).collect())
}

/// The least α at which [`bh`] rejects each: min over l ≥ k of K·p₍ₗ₎/l, at most 1.
///
/// ```
/// let adjusted = statistics::sequential::bh_adjusted(&[0.01, 0.9, 0.03]).unwrap();
/// assert!((adjusted[0] - 0.03).abs() < 1e-15 && (adjusted[2] - 0.045).abs() < 1e-15);
/// ```
/// # Errors
/// [`Error::OutOfDomain`] unless every p-value lies in [0, 1].
pub fn bh_adjusted(p_values: &[f64]) -> Result<Vec<f64>, Error> {
    check::all(p_values, "p-values", "in [0, 1]", |p| (0.0..=1.0).contains(&p))?;
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut adjusted = vec![1.0; p_values.len()];
    let mut least: f64 = 1.0;
    for (rank, &test) in order.iter().enumerate().rev() {
        least = least.min(p_values[test] * p_values.len() as f64 / (rank + 1) as f64);
        adjusted[test] = least;
    }
    Ok(adjusted)
}

/// Benjamini–Yekutieli: [`bh`] at α/(1 + ½ + … + 1/K). Valid under any dependence.
///
/// ```
/// let rejected = statistics::sequential::by(&[0.01, 0.9, 0.03], 0.05).unwrap();
/// assert_eq!(rejected, [false, false, false]); // 0.01·3·(1 + ½ + ⅓) > 0.05
/// ```
/// # Errors
/// As [`bh`].
/// # Source
/// Benjamini & Yekutieli (2001), "The control of the false discovery rate in multiple testing under dependency".
pub fn by(p_values: &[f64], alpha: f64) -> Result<Vec<bool>, Error> {
    let harmonic: f64 = (1..=p_values.len()).map(|k| 1.0 / k as f64).sum();
    check::inside(alpha, "alpha", "in [0, 1]", (0.0..=1.0).contains(&alpha))?;
    Ok(bh_adjusted(p_values)?.into_iter().map(|adjusted| adjusted * harmonic <= alpha).collect())
}

/// Holm: rejects the smallest p-values while p₍ₖ₎ ≤ α/(K − k + 1). P(any false rejection) ≤ α, under any dependence.
///
/// ```
/// let rejected = statistics::sequential::holm(&[0.01, 0.9, 0.03], 0.05).unwrap();
/// assert_eq!(rejected, [true, false, false]);
/// ```
/// # Errors
/// As [`bh`].
/// # Source
/// Holm (1979), "A simple sequentially rejective multiple test procedure".
pub fn holm(p_values: &[f64], alpha: f64) -> Result<Vec<bool>, Error> {
    check::all(p_values, "p-values", "in [0, 1]", |p| (0.0..=1.0).contains(&p))?;
    check::inside(alpha, "alpha", "in [0, 1]", (0.0..=1.0).contains(&alpha))?;
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut rejected = vec![false; p_values.len()];
    for (rank, &test) in order.iter().enumerate() {
        if p_values[test] * (p_values.len() - rank) as f64 > alpha {
            break;
        }
        rejected[test] = true;
    }
    Ok(rejected)
}

/// e-BH: rejects the k greatest e-values, k the greatest with e₍ₖ₎ ≥ K/(αk). Valid under any dependence.
///
/// ```
/// let rejected = statistics::sequential::e_bh(&[100.0, 0.5, 35.0], 0.05).unwrap();
/// assert_eq!(rejected, [true, false, true]); // 35 ≥ 3/(0.05·2) = 30
/// ```
/// # Errors
/// [`Error::OutOfDomain`] for a negative e-value, NaN, or α outside (0, 1].
/// # Source
/// Wang & Ramdas (2022), "False discovery rate control with e-values".
pub fn e_bh(e_values: &[f64], alpha: f64) -> Result<Vec<bool>, Error> {
    check::all(e_values, "e-values", "at least 0", |e| e >= 0.0)?;
    check::inside(alpha, "alpha", "in (0, 1]", alpha > 0.0 && alpha <= 1.0)?;
    let mut descending = e_values.to_vec();
    descending.sort_unstable_by(|a, b| b.total_cmp(a));
    let needed = |rank: usize| e_values.len() as f64 / (alpha * (rank + 1) as f64);
    let last = (0..descending.len()).rev().find(|&rank| descending[rank] >= needed(rank));
    let limit = last.map_or(f64::NAN, |rank| descending[rank]);
    Ok(e_values.iter().map(|&e| e >= limit).collect())
}

/// The e-value κ·p^(κ−1) of a p-value, κ in (0, 1); p = 0 gives ∞.
///
/// ```
/// assert_eq!(statistics::sequential::e_from_p(0.0025, 0.5).unwrap(), 10.0); // ½/√p
/// ```
/// # Errors
/// [`Error::OutOfDomain`] unless 0 ≤ p ≤ 1 and 0 < κ < 1.
/// # Source
/// Vovk & Wang (2021), "E-values: calibration, combination and applications".
pub fn e_from_p(p: f64, kappa: f64) -> Result<f64, Error> {
    check::inside(p, "a p-value", "in [0, 1]", (0.0..=1.0).contains(&p))?;
    check::inside(kappa, "kappa", "in (0, 1)", kappa > 0.0 && kappa < 1.0)?;
    Ok(kappa * p.powf(kappa - 1.0))
}
