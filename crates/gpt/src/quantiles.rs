//! Quantiles of training values: where bins begin, and how a number becomes a normal score.

/// Values looked at; more are thinned evenly.
const SAMPLE: usize = 200_000;

/// The finite values in rising order, thinned to at most [`SAMPLE`].
pub(crate) fn sorted_sample(values: impl Iterator<Item = f64> + Clone) -> Vec<f64> {
    let finite = values.filter(|value| value.is_finite());
    let stride = finite.clone().count().div_ceil(SAMPLE).max(1);
    let mut sample: Vec<f64> = finite.step_by(stride).collect();
    sample.sort_unstable_by(f64::total_cmp);
    sample
}

/// The distinct values that cut `sorted` into at most `bins` parts of about equal size.
///
/// A value x belongs to bin `edges.partition_point(|edge| *edge <= x)`.
pub(crate) fn edges(sorted: &[f64], bins: usize) -> Vec<f64> {
    let mut edges: Vec<f64> =
        (1..bins).filter_map(|bin| sorted.get(bin * sorted.len() / bins).copied()).collect();
    edges.dedup();
    if edges.first() == sorted.first() && !edges.is_empty() {
        edges.remove(0);
    }
    edges
}

/// The bin of a value.
pub(crate) fn bin(edges: &[f64], value: f64) -> usize {
    edges.partition_point(|edge| *edge <= value)
}

/// Φ⁻¹(p), for 0 < p < 1, to 1.2·10⁻⁹ relative.
///
/// # Source
/// Acklam (2003), "An algorithm for computing the inverse normal cumulative distribution function".
pub(crate) fn normal_score(p: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969683028665376e1,
        2.209460984245205e2,
        -2.759285104469687e2,
        1.38357751867269e2,
        -3.066479806614716e1,
        2.506628277459239,
    ];
    const B: [f64; 6] = [
        -5.447609879822406e1,
        1.615858368580409e2,
        -1.556989798598866e2,
        6.680131188771972e1,
        -1.328068155288572e1,
        1.0,
    ];
    const C: [f64; 6] = [
        -7.784894002430293e-3,
        -3.223964580411365e-1,
        -2.400758277161838,
        -2.549732539343734,
        4.374664141464968,
        2.938163982698783,
    ];
    const D: [f64; 5] =
        [7.784695709041462e-3, 3.224671290700398e-1, 2.445134137142996, 3.754408661907416, 1.0];
    let polynomial = |coefficients: &[f64], x: f64| coefficients.iter().fold(0.0, |sum, c| sum * x + c);
    let tail = |p: f64| {
        let q = (-2.0 * p.ln()).sqrt();
        polynomial(&C, q) / polynomial(&D, q)
    };
    if p < 0.02425 {
        tail(p)
    } else if p > 1.0 - 0.02425 {
        -tail(1.0 - p)
    } else {
        let q = p - 0.5;
        polynomial(&A, q * q) * q / polynomial(&B, q * q)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_of_even_values_are_of_even_size_and_a_heavy_value_has_one_bin() {
        let sorted: Vec<f64> = (0..100).map(f64::from).collect();
        assert_eq!(edges(&sorted, 4), [25.0, 50.0, 75.0]);
        let heavy = sorted_sample((0..100).map(|i| if i < 80 { 0.0 } else { f64::from(i) }));
        assert_eq!(edges(&heavy, 5), [80.0]);
        assert_eq!((bin(&[80.0], 0.0), bin(&[80.0], 80.0)), (0, 1));
    }

    #[test]
    fn the_normal_score_of_known_probabilities_is_the_table_value() {
        for (p, score) in [(0.5, 0.0), (0.975, 1.959963984540054), (0.001, -3.090232306167813)] {
            assert!((normal_score(p) - score).abs() < 1e-8, "{p}: {}", normal_score(p));
        }
    }
}
