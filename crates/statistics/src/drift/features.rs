//! Kernel mean embeddings by random features: what a window keeps of its vectors is a few means, so windows merge.

use crate::distributions::normal_quantile;
use crate::{Error, Generator, Interval, check};

/// Cosines of random projections, whose inner products are about those of the kernel k(x, y) = exp(−‖x − y‖²/(2σ²)).
///
/// zⱼ(x) = cos(ωⱼ·x/σ + φⱼ), ωⱼ ~ N(0, I), φⱼ ~ U(0, 2π): E 2·zⱼ(x)·zⱼ(y) = k(x, y). Width, σ, number and seed fix them.
/// # Source
/// Rahimi & Recht (2007), "Random features for large-scale kernel machines".
#[derive(Clone, Debug, PartialEq)]
pub struct FourierFeatures {
    /// `[features][width]`, divided by σ.
    frequencies: Vec<Vec<f64>>,
    phases: Vec<f64>,
}

impl FourierFeatures {
    /// So many features of vectors of that width.
    ///
    /// ```
    /// let features = statistics::drift::FourierFeatures::new(3, 2_000, 1.0, 7).unwrap();
    /// let (x, y) = (features.of(&[0.0, 0.0, 0.0]), features.of(&[1.0, 0.0, 0.0]));
    /// let kernel = x.iter().zip(&y).map(|(x, y)| 2.0 * x * y).sum::<f64>() / 2_000.0;
    /// assert!((kernel - (-0.5f64).exp()).abs() < 0.05);
    /// ```
    /// # Errors
    /// [`Error::OutOfDomain`] unless σ is positive and finite; [`Error::TooFew`] without width or features.
    pub fn new(width: usize, features: usize, sigma: f64, seed: u64) -> Result<Self, Error> {
        check::at_least(1, width, "columns")?;
        check::at_least(1, features, "features")?;
        check::inside(sigma, "sigma", "positive and finite", sigma > 0.0 && sigma.is_finite())?;
        let mut generator = Generator::from_seed(seed);
        let mut normal = || normal_quantile(generator.uniform().clamp(1e-12, 1.0 - 1e-12)) / sigma;
        let frequencies = (0..features).map(|_| (0..width).map(|_| normal()).collect()).collect();
        let phases = (0..features).map(|_| generator.uniform() * std::f64::consts::TAU).collect();
        Ok(Self { frequencies, phases })
    }

    /// The features of a vector, each in [−1, 1]. Numbers that it has beyond the width, or lacks, count as 0.
    pub fn of(&self, vector: &[f32]) -> Vec<f64> {
        let along = |frequencies: &[f64]| -> f64 {
            frequencies.iter().zip(vector).map(|(frequency, x)| frequency * f64::from(*x)).sum()
        };
        self.frequencies.iter().zip(&self.phases).map(|(f, phase)| (along(f) + phase).cos()).collect()
    }
}

/// The median distance of neighbouring vectors, the usual width of the kernel; 1 if they are all the same.
///
/// # Source
/// Gretton et al. (2012), "A kernel two-sample test", section 8.
pub fn median_distance(vectors: &[Vec<f32>]) -> f64 {
    let squared = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
    let mut distances: Vec<f64> =
        vectors.windows(2).map(|pair| squared(&pair[0], &pair[1]).sqrt()).filter(|d| d.is_finite()).collect();
    distances.sort_unstable_by(f64::total_cmp);
    let median = distances.get(distances.len() / 2).copied().unwrap_or_default();
    if median > 0.0 { median } else { 1.0 }
}

/// What a sample says of one feature.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moments {
    /// Its mean.
    pub mean: f64,
    /// Its standard deviation.
    pub deviation: f64,
    /// How many independent vectors it rests on.
    pub size: f64,
}

/// A discrepancy of kernel means by random features.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FeatureMmd {
    /// √ of the unbiased squared discrepancy, 0 if that is negative.
    pub value: f64,
    /// Where the discrepancy of the laws lies, as the features show it.
    pub interval: Interval,
}

/// The maximum mean discrepancy of two samples from the moments of their features.
///
/// MMD² = (2/D)·Σⱼ (Δⱼ² − sⱼ²), Δⱼ the difference of the means of feature j and sⱼ its standard error: linear in rows, and from
/// sums that merge. The interval adds up intervals of the features that hold together at 1 − `alpha` by Bonferroni, so it is
/// wide rather than narrow, whatever the features' correlation.
/// ```
/// use statistics::drift::{Moments, mmd_by_features};
/// let at = |mean: f64| Moments { mean, deviation: 0.5, size: 1e6 };
/// let found = mmd_by_features(&[at(0.0), at(0.0)], &[at(0.3), at(0.4)], 0.05).unwrap();
/// assert!((found.value - 0.5).abs() < 1e-3 && found.interval.low > 0.49);
/// ```
/// # Errors
/// [`Error::LengthMismatch`]; [`Error::TooFew`] without a feature; [`Error::OutOfDomain`] for moments that are not finite, sizes
/// that are not positive, and unless 0 < alpha < 1.
/// # Source
/// Gretton et al. (2012), "A kernel two-sample test"; Chwialkowski et al. (2015), "Fast two-sample testing with analytic
/// representations of probability measures".
pub fn mmd_by_features(reference: &[Moments], current: &[Moments], alpha: f64) -> Result<FeatureMmd, Error> {
    check::same_length(reference.len(), current.len())?;
    check::at_least(1, reference.len(), "features")?;
    check::inside(alpha, "alpha", "in (0, 1)", alpha > 0.0 && alpha < 1.0)?;
    let count = reference.len() as f64;
    let z = -normal_quantile(alpha / (2.0 * count));
    let (mut squared, mut low, mut high) = (0.0, 0.0, 0.0);
    for (one, other) in reference.iter().zip(current) {
        check::sizes(one.size, other.size)?;
        check::finite(&[one.mean, one.deviation, other.mean, other.deviation], "moments")?;
        let error = (one.deviation.powi(2) / one.size + other.deviation.powi(2) / other.size).sqrt();
        let gap = (one.mean - other.mean).abs();
        squared += gap * gap - error * error;
        low += (gap - z * error).max(0.0).powi(2);
        high += (gap + z * error).powi(2);
    }
    let root = |sum: f64| (2.0 * sum.max(0.0) / count).sqrt();
    Ok(FeatureMmd { value: root(squared), interval: Interval { low: root(low), high: root(high) } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vectors(seed: u64, rows: usize, shift: f32) -> Vec<Vec<f32>> {
        let mut generator = Generator::from_seed(seed);
        let mut normal = || normal_quantile(generator.uniform().clamp(1e-12, 1.0 - 1e-12)) as f32;
        (0..rows).map(|_| (0..4).map(|_| normal() + shift).collect()).collect()
    }

    fn moments(features: &FourierFeatures, rows: &[Vec<f32>]) -> Vec<Moments> {
        let all: Vec<Vec<f64>> = rows.iter().map(|row| features.of(row)).collect();
        let of = |place: usize| {
            let size = all.len() as f64;
            let mean = all.iter().map(|row| row[place]).sum::<f64>() / size;
            let squares = all.iter().map(|row| (row[place] - mean).powi(2)).sum::<f64>();
            Moments { mean, deviation: (squares / (size - 1.0)).sqrt(), size }
        };
        (0..all[0].len()).map(of).collect()
    }

    #[test]
    fn many_features_tell_the_discrepancy_of_the_kernel() {
        let (one, other) = (vectors(1, 600, 0.0), vectors(2, 600, 0.5));
        let sigma = median_distance(&one);
        let features = FourierFeatures::new(4, 3_000, sigma, 3).unwrap();
        let found = mmd_by_features(&moments(&features, &one), &moments(&features, &other), 0.05).unwrap();
        let wide = |rows: &[Vec<f32>]| -> Vec<Vec<f64>> {
            rows.iter().map(|row| row.iter().map(|x| f64::from(*x)).collect()).collect()
        };
        let exact = crate::drift::mmd(&wide(&one), &wide(&other), sigma).unwrap().sqrt();
        assert!((found.value - exact).abs() < 0.02, "{found:?} {exact}");
    }

    #[test]
    fn few_features_hardly_ever_call_the_same_law_another_and_see_a_moved_one() {
        let features = FourierFeatures::new(4, 8, 2.8, 3).unwrap();
        let reference = moments(&features, &vectors(1, 4_000, 0.0));
        let low = |seed: u64, shift: f32| {
            let window = moments(&features, &vectors(seed, 500, shift));
            mmd_by_features(&reference, &window, 0.01).unwrap().interval.low
        };
        assert!((10..210).filter(|seed| low(*seed, 0.0) > 0.0).count() <= 6);
        assert!((10..30).all(|seed| low(seed, 0.7) > 0.1));
    }

    #[test]
    fn what_is_no_sample_is_refused() {
        let at = |size: f64| Moments { mean: 0.0, deviation: 0.5, size };
        assert!(mmd_by_features(&[at(1.0)], &[at(0.0)], 0.05).is_err());
        assert!(mmd_by_features(&[at(1.0)], &[], 0.05).is_err());
        assert!(mmd_by_features(&[], &[], 0.05).is_err());
        assert!(mmd_by_features(&[at(9.0)], &[at(9.0)], 0.0).is_err());
        assert!(FourierFeatures::new(0, 8, 1.0, 1).is_err() && FourierFeatures::new(2, 8, 0.0, 1).is_err());
        assert_eq!(median_distance(&[]), 1.0);
    }
}
