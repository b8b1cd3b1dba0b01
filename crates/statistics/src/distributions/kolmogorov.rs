//! The distribution of the greatest gap between two distribution functions.
//!
//! Three tails: the limit law, one sample of finite size, and two samples exactly.

use super::gamma::ln_gamma;
use std::f64::consts::PI;

/// P(K > t) for Kolmogorov's limit law: the law of √n·D as n → ∞.
///
/// 2·Σₖ₌₁ (−1)ᵏ⁻¹ exp(−2k²t²); t ≤ 0 and NaN give 1.
/// ```
/// assert!((statistics::distributions::kolmogorov_sf(1.3580986) - 0.05).abs() < 1e-7);
/// ```
/// # Source
/// Kolmogorov (1933), "Sulla determinazione empirica di una legge di distribuzione".
pub fn kolmogorov_sf(t: f64) -> f64 {
    if t.is_nan() || t <= 0.0 {
        return 1.0;
    }
    if t < 1.0 {
        // The theta-transformed series: the alternating one converges too slowly here.
        let terms = (1..=20).map(|k| (-f64::from(2 * k - 1).powi(2) * PI * PI / (8.0 * t * t)).exp());
        return 1.0 - (2.0 * PI).sqrt() / t * terms.sum::<f64>();
    }
    let term = |k: i32| (-2.0 * f64::from(k * k) * t * t).exp();
    2.0 * (1..=10).map(|k| if k % 2 == 1 { term(k) } else { -term(k) }).sum::<f64>()
}

/// P(D ≥ d) for the gap D between a distribution function and the empirical one of `n` draws from it.
///
/// With n ← round(n₁n₂/(n₁+n₂)) this is the usual large-sample p-value of two samples. d ≤ 0, NaN and n = 0
/// give 1; d ≥ 1 gives 0. Exact (Durbin's matrix, or twice the one-sided tail where that is exact to double
/// precision), else Pelz and Good’s expansion, whose error is below 2e−6 for n > 140.
/// ```
/// // One draw u: D = max(u, 1 − u), so P(D ≥ 0.75) = 0.5.
/// assert!((statistics::distributions::kolmogorov_finite_sf(0.75, 1) - 0.5).abs() < 1e-14);
/// ```
/// # Source
/// Simard & L'Ecuyer (2011), "Computing the two-sided Kolmogorov–Smirnov distribution".
pub fn kolmogorov_finite_sf(d: f64, n: u64) -> f64 {
    let size = n as f64;
    if d.is_nan() || n == 0 || size * d <= 0.5 {
        return 1.0;
    }
    if d >= 1.0 {
        return 0.0;
    }
    let squared = size * d * d;
    let tail_is_one_sided = squared >= if n <= 140 { 4.0 } else { 2.2 };
    if d >= 0.5 || tail_is_one_sided {
        return (2.0 * one_sided_sf(d, size)).min(1.0);
    }
    let body = if n <= 140 || (n <= 100_000 && size * d.powf(1.5) <= 1.4) {
        durbin_cdf(d, n)
    } else {
        pelz_good_cdf(d, size)
    };
    (1.0 - body).clamp(0.0, 1.0)
}

/// P(D⁺ ≥ d) = d·Σⱼ C(n,j) (d + j/n)ʲ⁻¹ (1 − d − j/n)ⁿ⁻ʲ for 0 ≤ j ≤ n(1−d) (Birnbaum & Tingey 1951).
fn one_sided_sf(d: f64, n: f64) -> f64 {
    if n > 100_000.0 {
        // Maag & Dicaire (1971): the error is of order 1/n.
        return (-(6.0 * n * d + 1.0).powi(2) / (18.0 * n)).exp();
    }
    let ln_n = ln_gamma(n + 1.0);
    let last = (n * (1.0 - d)).floor() as u64;
    let terms = (0..=last).map(|j| {
        let j = j as f64;
        let rest = 1.0 - d - j / n;
        if rest <= 0.0 {
            return if j == n { d * (d + 1.0).powf(n - 1.0) } else { 0.0 };
        }
        let ln_choose = ln_n - ln_gamma(j + 1.0) - ln_gamma(n - j + 1.0);
        (ln_choose + (j - 1.0) * (d + j / n).ln() + (n - j) * rest.ln()).exp() * d
    });
    terms.sum::<f64>().min(1.0)
}

/// P(D < d) by Durbin's matrix (Marsaglia, Tsang & Wang 2003, "Evaluating Kolmogorov's distribution").
fn durbin_cdf(d: f64, n: u64) -> f64 {
    let size = n as f64;
    let k = (size * d).ceil();
    let h = k - size * d;
    let m = 2 * k as usize - 1;
    let mut matrix = durbin_matrix(m, h);
    // Each entry of the product carries a factor n!/nⁿ, spread over the multiplications to stay in range.
    let mut power: Option<Vec<f64>> = None;
    let mut exponent = n;
    let (mut scale, mut power_scale) = (0.0, 0.0);
    while exponent > 0 {
        if exponent & 1 == 1 {
            power = Some(power.map_or_else(|| matrix.clone(), |p| multiply(&p, &matrix, m)));
            power_scale += scale;
        }
        exponent >>= 1;
        if exponent > 0 {
            matrix = multiply(&matrix, &matrix, m);
            let centre = matrix[(m / 2) * m + m / 2].max(f64::MIN_POSITIVE);
            matrix.iter_mut().for_each(|entry| *entry /= centre);
            scale = 2.0 * scale + centre.ln();
        }
    }
    let middle = (k as usize - 1) * m + k as usize - 1;
    let entry = power.map_or(0.0, |p| p[middle]);
    (entry.ln() + power_scale + ln_gamma(size + 1.0) - size * size.ln()).exp().min(1.0)
}

fn durbin_matrix(m: usize, h: f64) -> Vec<f64> {
    let mut matrix = vec![0.0; m * m];
    for row in 0..m {
        for column in 0..m.min(row + 2) {
            matrix[row * m + column] = 1.0;
        }
    }
    for i in 0..m {
        matrix[i * m] -= h.powi(i as i32 + 1);
        matrix[(m - 1) * m + i] -= h.powi((m - i) as i32);
    }
    matrix[(m - 1) * m] += (2.0 * h - 1.0).max(0.0).powi(m as i32);
    for row in 0..m {
        for column in 0..m.min(row + 1) {
            let factorial = ln_gamma((row - column + 2) as f64).exp();
            matrix[row * m + column] /= factorial;
        }
    }
    matrix
}

fn multiply(left: &[f64], right: &[f64], m: usize) -> Vec<f64> {
    let mut product = vec![0.0; m * m];
    for i in 0..m {
        for k in 0..m {
            let factor = left[i * m + k];
            for j in 0..m {
                product[i * m + j] += factor * right[k * m + j];
            }
        }
    }
    product
}

/// P(D < d) by Pelz & Good (1976): K₀(z) + K₁(z)/√n + K₂(z)/n + K₃(z)/n^{3/2}, z = d√n, for z > 0.05.
fn pelz_good_cdf(d: f64, n: f64) -> f64 {
    let z = d * n.sqrt();
    let (z2, pi2) = (z * z, PI * PI);
    if z < 0.05 {
        return 0.0;
    }
    let mut sums = [0.0; 4];
    let last = (16.0 * z / PI).ceil() as i32;
    for k in 1..=last {
        let odd = f64::from(2 * k - 1).powi(2);
        let weight = (-pi2 * odd / (8.0 * z2)).exp();
        let (o2, o3) = (odd * odd, odd * odd * odd);
        let third = -30.0 * z.powi(6) - 90.0 * z.powi(8)
            + pi2 * (135.0 * z.powi(4) - 96.0 * z.powi(6)) / 4.0 * odd
            + pi2 * pi2 * (212.0 * z.powi(4) - 60.0 * z2) / 16.0 * o2
            + pi2.powi(3) * (5.0 - 30.0 * z2) / 64.0 * o3;
        let second = 6.0 * z.powi(6)
            + 2.0 * z.powi(4)
            + (2.0 * z.powi(4) - 5.0 * z2) * pi2 / 4.0 * odd
            + pi2 * pi2 * (1.0 - 2.0 * z2) / 16.0 * o2;
        for (sum, term) in sums.iter_mut().zip([1.0, pi2 / 4.0 * odd - z2, second, third]) {
            *sum += weight * term;
        }
    }
    let root = (2.0 * PI).sqrt();
    let divisors = [z, 6.0 * z.powi(4), 72.0 * z.powi(7), 6480.0 * z.powi(10)];
    let mut parts: [f64; 4] = std::array::from_fn(|i| sums[i] * root / divisors[i]);
    for k in 1..=last {
        let square = f64::from(k).powi(2);
        let weight = (-pi2 * square / (2.0 * z2)).exp();
        parts[2] -= square * weight * pi2 * root / (36.0 * z.powi(3));
        parts[3] += (3.0 * z2 - pi2 * square) * square * weight * pi2 * root / (216.0 * z.powi(6));
    }
    (parts[0] + parts[1] / n.sqrt() + parts[2] / n + parts[3] / n.powf(1.5)).clamp(0.0, 1.0)
}

/// P(D ≥ d) exactly for two samples of `first` and `second` draws without ties; O(first · second).
///
/// The share of the C(n+m, n) orderings whose distribution functions are at some point `d` apart. With ties
/// the true p-value is smaller, so this one is on the safe side. An empty sample gives 1.
/// ```
/// // Of the 6 orderings of two and two draws, only aabb and bbaa are 1 apart.
/// let p = statistics::distributions::kolmogorov_two_sample_sf(1.0, 2, 2);
/// assert!((p - 2.0 / 6.0).abs() < 1e-15);
/// ```
/// # Source
/// Hodges (1958), "The significance probability of the Smirnov two-sample test"; the recursion over the
/// probability of having been outside keeps small p-values exact (Viehmann 2021, arXiv:2102.08037).
pub fn kolmogorov_two_sample_sf(d: f64, first: usize, second: usize) -> f64 {
    if first == 0 || second == 0 || d.is_nan() {
        return 1.0;
    }
    // |i/first − j/second| ≥ d in whole numbers: D is a multiple of 1/lcm, so round to the nearest.
    let step = gcd(first, second) as f64;
    let limit = ((d * first as f64 / step) * second as f64).round() * step;
    if limit <= 0.0 {
        return 1.0;
    }
    let outside = |i: usize, j: usize| (i as f64 * second as f64 - j as f64 * first as f64).abs() >= limit;
    let mut row: Vec<f64> = vec![0.0; second + 1];
    for i in 0..=first {
        for j in 0..=second {
            row[j] = match (i, j) {
                _ if outside(i, j) => 1.0,
                (0, 0) => 0.0,
                (0, _) => row[j - 1],
                (_, 0) => row[j],
                _ => (row[j] * i as f64 + row[j - 1] * j as f64) / (i + j) as f64,
            };
        }
    }
    row[second].min(1.0)
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finite_tails_are_those_of_scipy_in_every_regime() {
        // scipy.stats.kstwo.sf(d, n)
        for (d, n, expected) in SCIPY {
            let found = kolmogorov_finite_sf(d, n);
            assert!((found / expected - 1.0).abs() < 1e-8, "{d} {n}: {found} {expected}");
        }
    }

    const SCIPY: [(f64, u64, f64); 11] = [
        (0.3, 3, 0.8862222222222222),
        (0.2, 10, 0.7487190399999999),
        (0.05, 100, 0.9532159710635725),
        (0.18, 100, 0.002630049845461421),
        (0.4, 100, 5.947617451361663e-15),
        (0.7, 9, 6.058470997658576e-05),
        (0.05, 500, 0.15866260223815387),
        (0.04, 1000, 0.07933956059000224),
        (0.1, 1000, 3.703687096817711e-09),
        (0.002, 100_000, 0.8178408363081542),
        (0.25, 5000, 8.022409757134907e-276),
    ];

    #[test]
    fn the_expansion_agrees_with_the_exact_matrix() {
        for (d, n) in [(0.03, 141), (0.08, 141), (0.12, 141), (0.02, 500), (0.06, 500), (0.03, 2000)] {
            let (expansion, exact) = (pelz_good_cdf(d, n as f64), durbin_cdf(d, n));
            assert!((expansion - exact).abs() < 2e-6, "{d} {n}: {expansion} {exact}");
        }
    }

    #[test]
    fn both_series_of_the_limit_law_meet() {
        assert!((kolmogorov_sf(1.0 - 1e-12) - kolmogorov_sf(1.0)).abs() < 1e-10);
        assert!((kolmogorov_sf(1.0) - 0.269_999_671_677_355_4).abs() < 1e-12);
        assert_eq!(kolmogorov_sf(0.01), 1.0);
    }
}
