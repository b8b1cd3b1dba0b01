//! Two-sample measures of the whole law: energy distance and the empirical characteristic functions.

use super::ks::sorted;
use super::ranks::Test;
use crate::distributions::chi_square_sf;
use crate::linear::Symmetric;
use crate::{Error, check};

/// Energy distance in one dimension: √(2·∫(F(x) − G(x))²dx), in the root of the values' unit. O(N log N).
///
/// A result beyond the greatest finite number is that number.
/// ```
/// let distance = statistics::drift::energy_distance(&[0.0], &[2.0]).unwrap();
/// assert_eq!(distance, 2.0);
/// ```
/// # Errors
/// [`Error::TooFew`] if a sample is empty; [`Error::OutOfDomain`] for NaN and infinities.
/// # Source
/// Székely & Rizzo (2013), "Energy statistics: a class of statistics based on distances".
pub fn energy_distance(reference: &[f64], current: &[f64]) -> Result<f64, Error> {
    check::finite(reference, "values")?;
    check::finite(current, "values")?;
    let (reference, current) = (sorted(reference)?, sorted(current)?);
    let (mut i, mut j, mut half) = (0, 0, 0.0);
    let mut previous = reference[0].min(current[0]);
    while i < reference.len() || j < current.len() {
        let next = match (reference.get(i), current.get(j)) {
            (Some(r), Some(c)) => r.min(*c),
            (Some(v), None) | (None, Some(v)) => *v,
            (None, None) => previous,
        };
        let gap = i as f64 / reference.len() as f64 - j as f64 / current.len() as f64;
        half += gap * gap * (next / 2.0 - previous / 2.0); // halves, so that the widest span stays finite
        i += reference[i..].iter().take_while(|&&r| r <= next).count();
        j += current[j..].iter().take_while(|&&c| c <= next).count();
        previous = next;
    }
    Ok((half.sqrt() * 2.0).min(f64::MAX))
}

/// Where the characteristic functions are compared, in units of the pooled half interquartile range.
const AT: [f64; 2] = [0.4, 0.8];

/// Epps–Singleton: compares the characteristic functions at two points; χ² with 4 degrees of freedom (fewer if the points
/// tell the same). Good for discrete and for continuous values.
///
/// p = 1 if the middle half of the pooled values is one number: there is no scale.
/// ```
/// let x: Vec<f64> = (0..100).map(|i| f64::from(i % 10)).collect();
/// assert!(statistics::drift::epps_singleton(&x, &x).unwrap().p_value > 0.99);
/// ```
/// # Errors
/// [`Error::TooFew`] for samples of less than 5 values; [`Error::OutOfDomain`] for NaN and infinities.
/// # Source
/// Epps & Singleton (1986), "An omnibus test for the two-sample problem using the empirical characteristic function"; the
/// correction for small samples is Goerg & Kaiser's (2009).
pub fn epps_singleton(reference: &[f64], current: &[f64]) -> Result<Test, Error> {
    check::finite(reference, "values")?;
    check::finite(current, "values")?;
    check::at_least(5, reference.len().min(current.len()), "values")?;
    let pooled = sorted(&[reference, current].concat())?;
    let quartile = |q| crate::resampling::quantile_of_sorted(&pooled, q);
    let scale = (quartile(0.75) - quartile(0.25)) / 2.0;
    if scale == 0.0 || !scale.is_finite() {
        return Ok(Test { statistic: 0.0, p_value: 1.0 });
    }
    let waves = |values: &[f64]| -> Vec<Vec<f64>> {
        let angles = |x: &f64| AT.map(|t| t * x / scale);
        values
            .iter()
            .map(|x| angles(x).map(f64::cos).into_iter().chain(angles(x).map(f64::sin)).collect())
            .collect()
    };
    let (n, m) = (reference.len() as f64, current.len() as f64);
    let ((one, mean), (other, other_mean)) =
        (Symmetric::covariance(&waves(reference), 4), Symmetric::covariance(&waves(current), 4));
    let mut covariance = Symmetric::zeros(4);
    for row in 0..4 {
        for column in 0..=row {
            covariance.set(row, column, (n + m) * (one.at(row, column) / n + other.at(row, column) / m));
        }
    }
    let gap: Vec<f64> = mean.iter().zip(&other_mean).map(|(a, b)| a - b).collect();
    let (form, rank) = pseudo_form(&covariance, &gap);
    let correction = if n.max(m) < 25.0 {
        1.0 / (1.0 + (n + m).powf(-0.45) + 10.1 * (n.powf(-1.7) + m.powf(-1.7)))
    } else {
        1.0
    };
    let statistic = (n + m) * form * correction;
    let statistic = if statistic.is_finite() { statistic } else { f64::MAX };
    Ok(Test { statistic, p_value: if rank == 0 { 1.0 } else { chi_square_sf(statistic, rank) } })
}

/// gᵀ·A⁺·g and the rank of A, with directions of no variance left out.
fn pseudo_form(a: &Symmetric, g: &[f64]) -> (f64, usize) {
    let eigen = a.eigen();
    let least = eigen.first().map_or(0.0, |(greatest, _)| greatest.max(0.0) * 1e-15 * a.size() as f64);
    let strong = eigen.iter().filter(|(value, _)| *value > least);
    let terms = strong.map(|(value, vector)| {
        let along: f64 = vector.iter().zip(g).map(|(a, b)| a * b).sum();
        along * along / value
    });
    let terms: Vec<f64> = terms.collect();
    (terms.iter().sum(), terms.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_without_a_middle_has_no_scale() {
        let flat = [vec![1.0; 50], vec![9.0]].concat();
        assert_eq!(epps_singleton(&flat, &flat).unwrap().p_value, 1.0);
    }

    #[test]
    fn another_shape_at_the_same_mean_is_seen() {
        let narrow: Vec<f64> = (0..200).map(|i| f64::from(i % 20) - 9.5).collect();
        let wide: Vec<f64> = narrow.iter().map(|x| x * 2.0).collect();
        assert!(epps_singleton(&narrow, &wide).unwrap().p_value < 1e-6);
        assert!(energy_distance(&narrow, &wide).unwrap() > 0.5);
    }
}
