//! Student's law, for whole degrees of freedom.

use std::f64::consts::{FRAC_2_PI, FRAC_PI_2};

use super::normal_cdf;

/// From here on the normal law differs by less than 10⁻⁵.
const MANY: u32 = 20_000;

/// P(T ≤ t) of Student's law with `degrees` ≥ 1 of freedom (0 counts as 1), by its finite sum; NaN gives 1.
///
/// ```
/// use statistics::distributions::student_cdf;
/// assert!((student_cdf(1.0, 1) - 0.75).abs() < 1e-15); // Cauchy's: ½ + atan(1)/π
/// ```
/// # Source
/// Abramowitz & Stegun (1964), "Handbook of mathematical functions", 26.7.3 and 26.7.4.
pub fn student_cdf(t: f64, degrees: u32) -> f64 {
    if degrees > MANY || t.is_nan() {
        return normal_cdf(t);
    }
    let degrees = degrees.max(1);
    0.5 + within((t / f64::from(degrees).sqrt()).atan(), degrees) / 2.0
}

/// The t with P(T ≤ t) = `p`; p ≤ 0 gives −∞, p ≥ 1 gives +∞, NaN gives 0.
///
/// ```
/// use statistics::distributions::student_quantile;
/// assert!((student_quantile(0.975, 13) - 2.160_368_656).abs() < 1e-8);
/// ```
pub fn student_quantile(p: f64, degrees: u32) -> f64 {
    if degrees > MANY || p <= 0.0 || p >= 1.0 || p == 0.5 || p.is_nan() {
        return super::normal_quantile(p);
    }
    let degrees = degrees.max(1);
    let wanted = 2.0 * (p - 0.5).abs();
    let (mut low, mut high) = (0.0, FRAC_PI_2);
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if within(middle, degrees) < wanted { low = middle } else { high = middle }
    }
    (p - 0.5).signum() * f64::midpoint(low, high).tan() * f64::from(degrees).sqrt()
}

/// P(|T| ≤ √ν·tan θ), odd in θ.
fn within(angle: f64, degrees: u32) -> f64 {
    let (sine, cosine) = angle.sin_cos();
    let even = degrees.is_multiple_of(2);
    // 1 + ½cos² + ½·¾cos⁴ + … up to cos^(ν−2), or cos + ⅔cos³ + … up to cos^(ν−2)
    let (mut term, mut sum) = if even { (1.0, 1.0) } else { (cosine, cosine) };
    let mut power = if even { 2 } else { 3 };
    while power + 2 <= degrees {
        term *= cosine * cosine * f64::from(power - 1) / f64::from(power);
        sum += term;
        power += 2;
    }
    match (even, degrees) {
        (true, _) => sine * sum,
        (false, 1) => FRAC_2_PI * angle,
        (false, _) => FRAC_2_PI * (angle + sine * sum),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        let tables = [
            (0.975, 1, 12.706_204_736),
            (0.9995, 2, 31.599_054_576),
            (0.99, 3, 4.540_702_859),
            (0.999, 5, 5.893_429_531),
            (0.999, 13, 3.851_982_391),
            (0.95, 30, 1.697_260_887),
            (0.975, 1_000, 1.962_339_081),
        ];
        for (p, degrees, wanted) in tables {
            let found = student_quantile(p, degrees);
            assert!((found - wanted).abs() < 1e-7 * wanted, "{p} with {degrees}: {found}");
            assert!((student_quantile(1.0 - p, degrees) + found).abs() < 1e-7 * wanted);
            assert!((student_cdf(found, degrees) - p).abs() < 1e-12);
        }
    }

    #[test]
    fn the_ends_and_many_degrees_are_the_normal_law_s() {
        assert_eq!(student_quantile(1.0, 3), f64::INFINITY);
        assert_eq!(student_quantile(0.0, 3), f64::NEG_INFINITY);
        assert_eq!((student_quantile(f64::NAN, 3), student_cdf(f64::NAN, 3)), (0.0, 1.0));
        assert_eq!(student_quantile(0.5, 3), 0.0);
        let (last, beyond) = (student_quantile(0.999, MANY), student_quantile(0.999, MANY + 1));
        assert!((last - beyond).abs() < 1e-3, "{last} and {beyond}");
        assert_eq!(student_cdf(f64::INFINITY, 7), 1.0);
    }
}
