//! The earth mover's distance in one dimension.

use super::ks::sorted;
use crate::{Error, check};

/// Wasserstein-1 distance: ∫|F(x) − G(x)|dx, in the unit of the values. O(N log N).
///
/// A result beyond the greatest finite number is that number.
/// ```
/// assert_eq!(statistics::drift::wasserstein(&[0.0, 1.0], &[5.0, 6.0]).unwrap(), 5.0);
/// ```
/// # Errors
/// [`Error::TooFew`] if a sample is empty; [`Error::OutOfDomain`] for NaN and infinities.
/// # Source
/// Vallender (1974), "Calculation of the Wasserstein distance between probability distributions on the line".
pub fn wasserstein(reference: &[f64], current: &[f64]) -> Result<f64, Error> {
    check::finite(reference, "values")?;
    check::finite(current, "values")?;
    let (reference, current) = (sorted(reference)?, sorted(current)?);
    let (mut i, mut j) = (0, 0);
    let mut half_area = 0.0;
    let mut previous = reference[0].min(current[0]);
    while i < reference.len() || j < current.len() {
        let next = match (reference.get(i), current.get(j)) {
            (Some(r), Some(c)) => r.min(*c),
            (Some(v), None) | (None, Some(v)) => *v,
            (None, None) => previous,
        };
        let gap = i as f64 / reference.len() as f64 - j as f64 / current.len() as f64;
        // Halves, so that the width of the widest span stays finite.
        half_area += gap.abs() * (next / 2.0 - previous / 2.0);
        i += reference[i..].iter().take_while(|&&r| r <= next).count();
        j += current[j..].iter().take_while(|&&c| c <= next).count();
        previous = next;
    }
    Ok((half_area * 2.0).min(f64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_the_number_line_are_a_finite_distance_apart() {
        assert_eq!(wasserstein(&[f64::MIN], &[f64::MAX]).unwrap(), f64::MAX);
        assert!(matches!(wasserstein(&[f64::INFINITY], &[0.0]).unwrap_err(), Error::OutOfDomain { .. }));
    }
}
