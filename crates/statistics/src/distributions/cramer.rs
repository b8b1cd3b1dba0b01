//! The limiting law of the Cramér–von Mises criterion.

use super::gamma::ln_gamma;

/// Where the tail is below e⁻⁹⁰.
const BEYOND: f64 = 20.0;

/// P(ω² > x) for the limiting law of the Cramér–von Mises criterion; x ≤ 0 gives 1. Absolute error about 1e−15.
///
/// 1 − F(x), F(x) = 1/(π^{3/2}√x) · Σₖ Γ(k+½)/k! · √(4k+1) · e^{−q}·K_{¼}(q), q = (4k+1)²/(16x).
/// ```
/// let tail = statistics::distributions::cramer_von_mises_sf(0.46136);
/// assert!((tail - 0.05).abs() < 1e-5);
/// ```
/// # Source
/// Csörgő & Faraway (1996), "The exact and asymptotic distributions of Cramér–von Mises statistics", eq. 1.3.
pub fn cramer_von_mises_sf(x: f64) -> f64 {
    if x.is_nan() || x <= 0.0 {
        return 1.0;
    }
    if x > BEYOND {
        return 0.0;
    }
    let mut body = 0.0;
    for k in 0..1_000 {
        let k = f64::from(k);
        let odd = 4.0 * k + 1.0;
        let q = odd * odd / (16.0 * x);
        let weight = (ln_gamma(k + 0.5) - ln_gamma(k + 1.0)).exp() * odd.sqrt();
        let term = weight * scaled_bessel(q);
        body += term;
        if term < 1e-18 * body || term == 0.0 {
            break;
        }
    }
    (1.0 - body / (std::f64::consts::PI.powf(1.5) * x.sqrt())).clamp(0.0, 1.0)
}

/// e^{−q}·K_{¼}(q) = ∫₀^∞ exp(−q(1 + cosh t))·cosh(t/4) dt, by the trapezoidal rule, which converges exponentially here.
fn scaled_bessel(q: f64) -> f64 {
    const STEP: f64 = 0.1;
    let mut sum = 0.5 * (-2.0 * q).exp();
    for step in 1..1_000 {
        let t = STEP * f64::from(step);
        let term = (-q * (1.0 + t.cosh())).exp() * (t / 4.0).cosh();
        sum += term;
        if term < 1e-19 * sum || term == 0.0 {
            break;
        }
    }
    sum * STEP
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_has_the_tabulated_points() {
        for (x, tail) in [(0.34730, 0.1), (0.46136, 0.05), (0.74346, 0.01), (1.16786, 0.001)] {
            assert!((cramer_von_mises_sf(x) / tail - 1.0).abs() < 2e-4, "{x}");
        }
        assert_eq!(cramer_von_mises_sf(0.0), 1.0);
        assert!(cramer_von_mises_sf(1e-3) > 1.0 - 1e-12 && cramer_von_mises_sf(1e6) < 1e-9);
    }
}
