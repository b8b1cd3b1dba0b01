//! The distributions behind p-values and intervals.
//!
//! Tails are computed as tails, not as one minus the body, so a p-value of 1e−80 is 1e−80.

mod cramer;
mod gamma;
mod kolmogorov;
mod quantile;
mod student;

pub use cramer::cramer_von_mises_sf;
pub use gamma::chi_square_sf;
pub use kolmogorov::{kolmogorov_finite_sf, kolmogorov_sf, kolmogorov_two_sample_sf};
pub use student::{student_cdf, student_quantile};

/// P(Z > z) for a standard normal Z; NaN gives 1.
///
/// ```
/// assert!((statistics::distributions::normal_sf(1.959963984540054) - 0.025).abs() < 1e-15);
/// ```
/// # Source
/// P(Z > z) = ½·erfc(z/√2).
pub fn normal_sf(z: f64) -> f64 {
    if z.is_nan() { 1.0 } else { 0.5 * libm::erfc(z * std::f64::consts::FRAC_1_SQRT_2) }
}

/// Φ(z) = P(Z ≤ z) for a standard normal Z; NaN gives 1.
///
/// ```
/// assert_eq!(statistics::distributions::normal_cdf(0.0), 0.5);
/// ```
pub fn normal_cdf(z: f64) -> f64 {
    normal_sf(-z)
}

/// Φ⁻¹(p): the z with P(Z ≤ z) = p; p ≤ 0 gives −∞, p ≥ 1 gives +∞, NaN gives 0.
///
/// ```
/// assert!((statistics::distributions::normal_quantile(0.975) - 1.959963984540054).abs() < 1e-13);
/// ```
/// # Source
/// Wichura (1988), "Algorithm AS 241: the percentage points of the normal distribution", its routine of sixteen digits.
pub fn normal_quantile(p: f64) -> f64 {
    if p.is_nan() || p == 0.5 {
        return 0.0;
    }
    if p <= 0.0 || p >= 1.0 {
        return if p <= 0.0 { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    quantile::within(p)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_normal_tail_keeps_its_precision_far_out() {
        // scipy.stats.norm.sf
        for (z, expected) in
            [(1.0, 0.15865525393145707), (5.0, 2.866515718791933e-07), (20.0, 2.7536241186062337e-89)]
        {
            assert!((normal_sf(z) / expected - 1.0).abs() < 1e-12, "{z}");
        }
    }

    #[test]
    fn the_quantile_undoes_the_distribution() {
        for p in [1e-300, 1e-20, 1e-6, 0.1, 0.49, 0.5, 0.7, 0.999, 1.0 - 1e-12] {
            let z = normal_quantile(p);
            assert!((normal_cdf(z) / p - 1.0).abs() < 1e-11, "{p} {z}");
        }
        assert_eq!((normal_quantile(0.0), normal_quantile(1.0)), (f64::NEG_INFINITY, f64::INFINITY));
    }
}
