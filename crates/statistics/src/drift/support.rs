//! What a sample says about what it has not seen, and how much it says at all.

use crate::{Error, check};

/// n·(1−r₁)/(1+r₁), within [1, n]: how many independent rows a series with lag-1 correlation r₁ is worth.
///
/// A constant series, and one of fewer than three values, counts as it is.
/// ```
/// // Alternating values are negatively correlated: never more than n.
/// assert_eq!(statistics::drift::effective_sample_size(&[0.0, 1.0, 0.0, 1.0]).unwrap(), 4.0);
/// ```
/// # Errors
/// [`Error::TooFew`] without a value; [`Error::OutOfDomain`] for NaN and infinities.
/// # Source
/// Bayley & Hammersley (1946), "The effective number of independent observations in an autocorrelated time series".
pub fn effective_sample_size(series: &[f64]) -> Result<f64, Error> {
    check::at_least(1, series.len(), "values")?;
    check::finite(series, "values")?;
    let n = series.len() as f64;
    // Scaled by the greatest magnitude, so that squares neither overflow nor vanish.
    let scale = series.iter().fold(0.0, |scale: f64, x| scale.max(x.abs()));
    if series.len() < 3 || scale == 0.0 {
        return Ok(n);
    }
    let mean = series.iter().map(|x| x / scale).sum::<f64>() / n;
    let centred: Vec<f64> = series.iter().map(|x| x / scale - mean).collect();
    let variance: f64 = centred.iter().map(|x| x * x).sum();
    if series.iter().all(|x| *x == series[0]) || variance == 0.0 {
        return Ok(n);
    }
    let r1 = centred.windows(2).map(|pair| pair[0] * pair[1]).sum::<f64>() / variance;
    Ok((n * (1.0 - r1) / (1.0 + r1)).clamp(1.0, n))
}

/// Good–Turing: the share of rows expected in levels that the sample has not seen, (levels seen once)/n.
///
/// ```
/// assert_eq!(statistics::drift::unseen_mass(&[7, 1, 1, 1]).unwrap(), 0.3);
/// ```
/// # Errors
/// [`Error::TooFew`] if the counts sum to 0.
/// # Source
/// Good (1953), "The population frequencies of species and the estimation of population parameters".
pub fn unseen_mass(counts: &[u64]) -> Result<f64, Error> {
    let n = super::sum(counts);
    check::at_least(1, n as usize, "rows")?;
    Ok(counts.iter().filter(|&&count| count == 1).count() as f64 / n as f64)
}

/// The outcome of [`range_exceedance`].
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RangeTest {
    /// P(so many current values below the reference's least).
    pub p_below: f64,
    /// P(so many current values above the reference's greatest).
    pub p_above: f64,
    /// Both sides together: min(1, 2·min).
    pub p_value: f64,
}

/// Do more current values leave the reference's range than chance allows? Exact for exchangeable rows.
///
/// The k greatest of all n + m rows are all current with probability Πᵢ₌₀ᵏ⁻¹ (m−i)/(n+m−i); the same below.
/// Values equal to an end have not left, so ties are on the safe side.
/// ```
/// let test = statistics::drift::range_exceedance(10, 10, 0, 2).unwrap();
/// assert!((test.p_above - 10.0 / 20.0 * 9.0 / 19.0).abs() < 1e-15);
/// assert_eq!(test.p_below, 1.0);
/// ```
/// # Errors
/// [`Error::TooFew`] if a window is empty; [`Error::OutOfDomain`] if more values left than there are.
/// # Source
/// Rosenbaum (1954), "Tables for a nonparametric test of location": the count of exceedances.
pub fn range_exceedance(reference: u64, current: u64, below: u64, above: u64) -> Result<RangeTest, Error> {
    check::at_least(1, reference.min(current) as usize, "rows")?;
    let left = below.saturating_add(above);
    check::inside(left as f64, "the exceedances", "at most the current rows", left <= current)?;
    let (n, m) = (reference as f64, current as f64);
    let p = |k: u64| {
        let mut p = 1.0;
        for i in 0..k {
            p *= (m - i as f64) / (n + m - i as f64);
            if p == 0.0 {
                break;
            }
        }
        p
    };
    let (p_below, p_above): (f64, f64) = (p(below), p(above));
    Ok(RangeTest { p_below, p_above, p_value: (2.0 * p_below.min(p_above)).min(1.0) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Generator;

    #[test]
    fn an_autoregression_is_worth_the_rows_theory_says() {
        let mut generator = Generator::from_seed(2);
        let mut x = 0.0;
        let series: Vec<f64> = (0..50_000)
            .map(|_| {
                x = 0.8 * x + generator.uniform() - 0.5;
                x
            })
            .collect();
        let worth = effective_sample_size(&series).unwrap() / 50_000.0;
        assert!((worth - 0.2 / 1.8).abs() < 0.01, "{worth}");
    }

    #[test]
    fn the_scale_of_a_series_does_not_matter_and_a_constant_counts_in_full() {
        let series: Vec<f64> = (0..100).map(|i| f64::from(i * i % 17)).collect();
        let worth = effective_sample_size(&series).unwrap();
        for scale in [1e300, 1e-300] {
            let scaled: Vec<f64> = series.iter().map(|x| x * scale).collect();
            assert!((effective_sample_size(&scaled).unwrap() / worth - 1.0).abs() < 1e-9);
        }
        assert_eq!(effective_sample_size(&[0.1; 50]).unwrap(), 50.0);
    }
}
