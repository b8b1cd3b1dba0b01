//! Two-sample tests that look only at the order of the values.

use super::ks::sorted;
use crate::distributions::{cramer_von_mises_sf, normal_sf};
use crate::{Error, check};

/// A statistic and what chance makes of it.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Test {
    /// The statistic, as its function defines it.
    pub statistic: f64,
    /// P(a statistic as extreme or more) if both samples follow one law.
    pub p_value: f64,
}

/// Ranks of the pooled sample: of both samples in ascending order the mean rank, and the sizes of the ties.
struct Pooled {
    reference: Vec<f64>,
    current: Vec<f64>,
    /// For each distinct value: how many in the reference, how many in the current sample.
    counts: Vec<(f64, f64)>,
}

impl Pooled {
    fn of(reference: &[f64], current: &[f64]) -> Result<Self, Error> {
        let (reference, current) = (sorted(reference)?, sorted(current)?);
        let (mut i, mut j) = (0, 0);
        let mut counts = Vec::new();
        while i < reference.len() || j < current.len() {
            let value = match (reference.get(i), current.get(j)) {
                (Some(r), Some(c)) => r.min(*c),
                (Some(v), None) | (None, Some(v)) => *v,
                (None, None) => break,
            };
            let (from, to) = (i, j);
            i += reference[i..].iter().take_while(|&&r| r <= value).count();
            j += current[j..].iter().take_while(|&&c| c <= value).count();
            counts.push(((i - from) as f64, (j - to) as f64));
        }
        Ok(Self { reference, current, counts })
    }

    fn sizes(&self) -> (f64, f64) {
        (self.reference.len() as f64, self.current.len() as f64)
    }

    fn is_constant(&self) -> bool {
        self.counts.len() == 1
    }
}

/// Mann–Whitney U of the reference, two-sided: U = #{r > c} + ½·#{r = c}; by the normal law with ties and continuity.
///
/// p = 1 if all values are equal.
/// ```
/// let test = statistics::drift::mann_whitney(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]).unwrap();
/// assert_eq!(test.statistic, 0.0);
/// ```
/// # Errors
/// [`Error::TooFew`] if a sample is empty; [`Error::OutOfDomain`] for NaN.
/// # Source
/// Mann & Whitney (1947), "On a test of whether one of two random variables is stochastically larger than the other".
pub fn mann_whitney(reference: &[f64], current: &[f64]) -> Result<Test, Error> {
    let pooled = Pooled::of(reference, current)?;
    let (n, m) = pooled.sizes();
    let (mut below, mut u, mut ties) = (0.0, 0.0, 0.0);
    for &(r, c) in &pooled.counts {
        u += r * (below + c / 2.0);
        below += c;
        ties += (r + c).powi(3) - (r + c);
    }
    let total = n + m;
    let variance = n * m / 12.0 * (total + 1.0 - ties / (total * (total - 1.0)));
    let excess = u.max(n * m - u) - n * m / 2.0 - 0.5;
    let p_value = if pooled.is_constant() || variance <= 0.0 {
        1.0
    } else {
        (2.0 * normal_sf(excess / variance.sqrt())).min(1.0)
    };
    Ok(Test { statistic: u, p_value })
}

/// Two-sample Cramér–von Mises: T = nm/(n+m)² · Σ over the pooled sample of (F − G)², by midranks; asymptotic p-value.
///
/// Ties leave T exact and the p-value approximate; p = 1 if all values are equal.
/// ```
/// let test = statistics::drift::cramer_von_mises(&[0.0, 1.0, 2.0], &[0.5, 1.5, 2.5]).unwrap();
/// assert!(test.p_value > 0.5);
/// ```
/// # Errors
/// [`Error::TooFew`] for samples of less than 2 values; [`Error::OutOfDomain`] for NaN.
/// # Source
/// Anderson (1962), "On the distribution of the two-sample Cramér–von Mises criterion".
pub fn cramer_von_mises(reference: &[f64], current: &[f64]) -> Result<Test, Error> {
    check::at_least(2, reference.len().min(current.len()), "values")?;
    let pooled = Pooled::of(reference, current)?;
    let (n, m) = pooled.sizes();
    let total = n + m;
    let (mut sum, mut before, mut of_reference, mut of_current) = (0.0, 0.0, 0.0, 0.0);
    for &(r, c) in &pooled.counts {
        let rank = before + (r + c + 1.0) / 2.0;
        let squares =
            |count: f64, seen: f64| (1..=count as u64).map(move |k| (rank - seen - k as f64).powi(2));
        sum += n * squares(r, of_reference).sum::<f64>() + m * squares(c, of_current).sum::<f64>();
        (before, of_reference, of_current) = (before + r + c, of_reference + r, of_current + c);
    }
    let statistic = sum / (n * m * total) - (4.0 * n * m - 1.0) / (6.0 * total);
    if pooled.is_constant() {
        return Ok(Test { statistic: 0.0, p_value: 1.0 });
    }
    let expected = (1.0 + 1.0 / total) / 6.0;
    let variance = (total + 1.0) * (4.0 * n * m * total - 3.0 * (n * n + m * m) - 2.0 * n * m)
        / (45.0 * total * total * 4.0 * n * m);
    let standard = 1.0 / 6.0 + (statistic - expected) / (45.0 * variance).sqrt();
    let p_value = if standard < 0.003 { 1.0 } else { cramer_von_mises_sf(standard) };
    Ok(Test { statistic, p_value })
}

/// Two-sample Anderson–Darling with midranks: the standardised (A² − E)/σ, greater is further apart.
///
/// The p-value is interpolated between tabulated points and lies in [0.001, 0.25]: an end means "or beyond". 1 if all
/// values are equal.
/// ```
/// let near: Vec<f64> = (0..50).map(f64::from).collect();
/// let far: Vec<f64> = (0..50).map(|x| f64::from(x) + 40.0).collect();
/// assert_eq!(statistics::drift::anderson_darling(&near, &far).unwrap().p_value, 0.001);
/// ```
/// # Errors
/// [`Error::TooFew`] for samples of less than 2 values; [`Error::OutOfDomain`] for NaN.
/// # Source
/// Scholz & Stephens (1987), "K-sample Anderson–Darling tests"; the table is theirs for two samples.
pub fn anderson_darling(reference: &[f64], current: &[f64]) -> Result<Test, Error> {
    check::at_least(2, reference.len().min(current.len()), "values")?;
    let pooled = Pooled::of(reference, current)?;
    if pooled.is_constant() {
        return Ok(Test { statistic: 0.0, p_value: 1.0 });
    }
    let (n, m) = pooled.sizes();
    let total = n + m;
    let criterion = |size: f64, pick: fn(&(f64, f64)) -> f64| {
        let (mut below, mut own, mut sum) = (0.0, 0.0, 0.0);
        for tie in &pooled.counts {
            let all = tie.0 + tie.1;
            let (middle, own_middle) = (below + all / 2.0, own + pick(tie) / 2.0);
            sum += all / total * (total * own_middle - middle * size).powi(2)
                / (middle * (total - middle) - total * all / 4.0);
            below += all;
            own += pick(tie);
        }
        sum / size
    };
    let a2 = (criterion(n, |tie| tie.0) + criterion(m, |tie| tie.1)) * (total - 1.0) / total;
    let statistic = (a2 - 1.0) / anderson_variance(n, m).sqrt();
    Ok(Test { statistic, p_value: anderson_p(statistic) })
}

/// The variance of A² for two samples.
fn anderson_variance(n: f64, m: f64) -> f64 {
    let total = n + m;
    let whole = total as u64;
    let h_each = 1.0 / n + 1.0 / m;
    let h: f64 = (1..whole).map(|i| 1.0 / i as f64).sum();
    // Σ over i < j < N of 1/((N − i)·j), by running sums.
    let mut tail = 0.0;
    let mut g = 0.0;
    for i in (1..whole.saturating_sub(1)).rev() {
        tail += 1.0 / (i + 1) as f64;
        g += tail / (whole - i) as f64;
    }
    let k: f64 = 2.0;
    let a = (4.0 * g - 6.0) * (k - 1.0) + (10.0 - 6.0 * g) * h_each;
    let b =
        (2.0 * g - 4.0) * k * k + 8.0 * h * k + (2.0 * g - 14.0 * h - 4.0) * h_each - 8.0 * h + 4.0 * g - 6.0;
    let c = (6.0 * h + 2.0 * g - 2.0) * k * k
        + (4.0 * h - 4.0 * g + 6.0) * k
        + (2.0 * h - 6.0) * h_each
        + 4.0 * h;
    let d = (2.0 * h + 6.0) * k * k - 4.0 * h * k;
    (a * total.powi(3) + b * total * total + c * total + d)
        / ((total - 1.0) * (total - 2.0) * (total - 3.0)).max(1.0)
}

/// A quadratic through the logarithms of tabulated levels.
fn anderson_p(statistic: f64) -> f64 {
    const LEVELS: [f64; 7] = [0.25, 0.1, 0.05, 0.025, 0.01, 0.005, 0.001];
    // b₀ + b₁ + b₂ of the paper's table 2: its b₀ + b₁/√(k−1) + b₂/(k−1) with k = 2.
    const CRITICAL: [f64; 7] = [
        0.675 - 0.245 - 0.105,
        1.281 + 0.25 - 0.305,
        1.645 + 0.678 - 0.362,
        1.96 + 1.149 - 0.391,
        2.326 + 1.822 - 0.396,
        2.573 + 2.364 - 0.345,
        3.085 + 3.615 - 0.154,
    ];
    if statistic <= CRITICAL[0] {
        return LEVELS[0];
    }
    if statistic >= CRITICAL[6] {
        return LEVELS[6];
    }
    quadratic_fit(&CRITICAL, &LEVELS.map(f64::ln)).map_or(LEVELS[0], |[a, b, c]| {
        (a * statistic * statistic + b * statistic + c).exp().clamp(LEVELS[6], LEVELS[0])
    })
}

/// The least-squares parabola through points.
fn quadratic_fit(x: &[f64], y: &[f64]) -> Option<[f64; 3]> {
    let mut normal = crate::linear::Symmetric::zeros(3);
    let mut right = [0.0; 3];
    for (&x, &y) in x.iter().zip(y) {
        let powers = [x * x, x, 1.0];
        normal.add_outer(&powers, 1.0);
        right.iter_mut().zip(powers).for_each(|(sum, power)| *sum += power * y);
    }
    let found = normal.solve(&right)?;
    Some([found[0], found[1], found[2]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_tell_nothing() {
        let (one, other) = (vec![3.0; 50], vec![3.0; 40]);
        for test in [mann_whitney, cramer_von_mises, anderson_darling] {
            assert_eq!(test(&one, &other).unwrap().p_value, 1.0);
        }
    }

    #[test]
    fn single_values_are_too_few() {
        assert_eq!(
            cramer_von_mises(&[1.0], &[2.0]).unwrap_err(),
            Error::TooFew { what: "values", needed: 2, found: 1 }
        );
        assert!(anderson_darling(&[1.0], &[2.0, 3.0]).is_err());
    }
}
