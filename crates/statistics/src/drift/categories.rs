//! Distances and a test between two vectors of counts over the same categories or bins.

use super::ranks::Test;
use super::{shares, totals};
use crate::distributions::{chi_square_sf, normal_sf};
use crate::interval::two_sided_z;
use crate::{Error, Interval, check};

/// The outcome of [`chi_square`].
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ChiSquare {
    /// X².
    pub statistic: f64,
    /// Non-empty categories less one.
    pub degrees: usize,
    /// P(χ² ≥ X²).
    pub p_value: f64,
}

/// Pearson's two-sample test: X² = Σ (observed − expected)²/expected over both rows, without Yates' correction.
///
/// Categories empty on both sides are left out; a single category gives X² = 0, p = 1. The reference is a
/// sample like the current window, not the truth.
/// ```
/// let test = statistics::drift::chi_square(&[30, 10], &[20, 20]).unwrap();
/// assert!((test.statistic - 16.0 / 3.0).abs() < 1e-12); // 2·(5²/25 + 5²/15)
/// ```
/// # Errors
/// [`Error::LengthMismatch`]; [`Error::TooFew`] if a sum is 0.
/// # Source
/// Pearson (1911), "On the probability that two independent distributions of frequency are really samples…".
pub fn chi_square(reference: &[u64], current: &[u64]) -> Result<ChiSquare, Error> {
    let (n, m) = totals(reference, current)?;
    let mut statistic = 0.0;
    let mut categories = 0;
    for (&r, &c) in reference.iter().zip(current).filter(|(r, c)| **r > 0 || **c > 0) {
        let (r, c) = (r as f64, c as f64);
        // Both rows at once: (rm − cn)² / (nm(r + c)).
        statistic += (r * m - c * n).powi(2) / (n * m * (r + c));
        categories += 1;
    }
    let degrees = categories - 1;
    Ok(ChiSquare { statistic, degrees, p_value: chi_square_sf(statistic, degrees) })
}

/// The likelihood-ratio test: G = 2·Σ observed·ln(observed/expected) over both rows; χ² like [`chi_square`].
///
/// ```
/// let test = statistics::drift::g_test(&[30, 10], &[20, 20]).unwrap();
/// assert!((test.statistic - 5.4121).abs() < 1e-3);
/// ```
/// # Errors
/// As [`chi_square`].
/// # Source
/// Woolf (1957), "The log likelihood ratio test (the G-test)".
pub fn g_test(reference: &[u64], current: &[u64]) -> Result<ChiSquare, Error> {
    let (n, m) = totals(reference, current)?;
    let mut statistic = 0.0;
    let mut categories = 0;
    for (&r, &c) in reference.iter().zip(current).filter(|(r, c)| **r > 0 || **c > 0) {
        let (r, c) = (r as f64, c as f64);
        let part = |observed: f64, size: f64| {
            let expected = (r + c) * size / (n + m);
            if observed > 0.0 { observed * (observed / expected).ln() } else { 0.0 }
        };
        statistic += 2.0 * (part(r, n) + part(c, m));
        categories += 1;
    }
    let degrees = categories - 1;
    let statistic = statistic.max(0.0); // rounding of identical samples
    Ok(ChiSquare { statistic, degrees, p_value: chi_square_sf(statistic, degrees) })
}

/// The z test of two shares: z = (c/m − r/n)/√(p(1−p)(1/n + 1/m)), p pooled; two-sided p-value.
///
/// p = 1 if the pooled share is 0 or 1.
/// ```
/// let test = statistics::drift::two_proportions(30, 40, 20, 40).unwrap();
/// assert!((test.statistic + 2.3094).abs() < 1e-4);
/// ```
/// # Errors
/// [`Error::TooFew`] without a trial on a side; [`Error::OutOfDomain`] if successes exceed trials.
/// # Source
/// Pearson's X² for a 2×2 table, signed.
pub fn two_proportions(
    reference: u64,
    reference_trials: u64,
    current: u64,
    current_trials: u64,
) -> Result<Test, Error> {
    check::at_least(1, reference_trials.min(current_trials) as usize, "trials")?;
    for (successes, trials) in [(reference, reference_trials), (current, current_trials)] {
        check::inside(successes as f64, "successes", "at most the trials", successes <= trials)?;
    }
    let (n, m) = (reference_trials as f64, current_trials as f64);
    let pooled = (reference as f64 + current as f64) / (n + m);
    let error = (pooled * (1.0 - pooled) * (1.0 / n + 1.0 / m)).sqrt();
    if error == 0.0 {
        return Ok(Test { statistic: 0.0, p_value: 1.0 });
    }
    let z = (current as f64 / m - reference as f64 / n) / error;
    Ok(Test { statistic: z, p_value: (2.0 * normal_sf(z.abs())).min(1.0) })
}

/// L∞: the greatest difference of the share of one category, in [0, 1].
///
/// ```
/// assert_eq!(statistics::drift::l_infinity(&[2, 2], &[3, 1]).unwrap(), 0.25);
/// ```
/// # Errors
/// [`Error::LengthMismatch`]; [`Error::TooFew`] if a sum is 0.
pub fn l_infinity(reference: &[u64], current: &[u64]) -> Result<f64, Error> {
    Ok(shares(reference, current)?.map(|(r, c)| (c - r).abs()).fold(0.0, f64::max))
}

/// Kullback–Leibler divergence of the current shares from the reference's: Σ cᵢ·ln(cᵢ/rᵢ), in nats.
///
/// ∞ has no place in a report, so empty shares count as `floor` (see [`EmptyBins::Floor`](super::EmptyBins)), without
/// scaling anew.
/// ```
/// let divergence = statistics::drift::kullback_leibler(&[1, 1], &[3, 1], 1e-4).unwrap();
/// assert!((divergence - 0.1308).abs() < 1e-4);
/// ```
/// # Errors
/// [`Error::LengthMismatch`]; [`Error::TooFew`] if a sum is 0; [`Error::OutOfDomain`] unless 0 < floor < 1.
/// # Source
/// Kullback & Leibler (1951), "On information and sufficiency".
pub fn kullback_leibler(reference: &[u64], current: &[u64], floor: f64) -> Result<f64, Error> {
    check::inside(floor, "floor", "in (0, 1)", floor > 0.0 && floor < 1.0)?;
    let kept = shares(reference, current)?.filter(|(r, c)| *r > 0.0 || *c > 0.0);
    let lifted = |share: f64| if share == 0.0 { floor } else { share };
    Ok(kept.map(|(r, c)| lifted(c) * (lifted(c) / lifted(r)).ln()).sum::<f64>().max(0.0))
}

/// Total variation between two vectors of counts, with what its interval needs.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct TotalVariation {
    /// ½·Σ|cᵢ − rᵢ|: the share of rows that would have to change category.
    pub distance: f64,
    /// The reference share of the categories that grew.
    pub grown_reference: f64,
    /// The current share of the categories that grew.
    pub grown_current: f64,
    /// Under no drift the distance is expected to be `roughness`·√(1/n + 1/m).
    pub roughness: f64,
}

impl TotalVariation {
    /// The distance that sampling alone is expected to give with (effective) sizes n and m.
    pub fn expected_by_chance(&self, reference: f64, current: f64) -> f64 {
        self.roughness * (1.0 / reference + 1.0 / current).sqrt()
    }

    /// P(so great a distance or greater) were the distance of the laws at most `least`: the level at which
    /// [`Self::interval`]'s low end is `least`.
    ///
    /// # Errors
    /// [`Error::OutOfDomain`] unless both sizes are positive.
    pub fn p_exceeds(&self, least: f64, reference: f64, current: f64) -> Result<f64, Error> {
        check::sizes(reference, current)?;
        let error = self.standard_error(reference, current);
        let excess = self.distance - self.expected_by_chance(reference, current) - least;
        Ok(match (excess > 0.0, error > 0.0) {
            (false, _) => 1.0,
            // Disjoint or identical within the grown categories: as if one more row on each side had spoken against it.
            (true, false) => (-excess * reference.min(current)).exp().min(1.0),
            (true, true) => (2.0 * normal_sf(excess / error)).min(1.0),
        })
    }

    fn standard_error(&self, reference: f64, current: f64) -> f64 {
        let variance = |share: f64, n: f64| share * (1.0 - share) / n;
        (variance(self.grown_reference, reference) + variance(self.grown_current, current)).sqrt()
    }

    /// An interval for the distance between the two laws themselves, given (effective) sizes n and m.
    ///
    /// TV = C(A) − R(A) with A the categories that grew, so TV ± z·√(R(1−R)/n + C(1−C)/m); the low end is
    /// lowered further by the distance expected by chance, since |·| only adds. On the safe side when many
    /// categories moved; cut to [0, 1].
    /// # Errors
    /// [`Error::OutOfDomain`] unless 0 < level < 1 and both sizes are positive.
    /// # Source
    /// Delta method; the bias is Σ E|N(0, sᵢ)|/2 = Σ sᵢ/√(2π) with sᵢ² = πᵢ(1−πᵢ)(1/n+1/m), π pooled.
    pub fn interval(&self, level: f64, reference: f64, current: f64) -> Result<Interval, Error> {
        let z = two_sided_z(level)?;
        check::sizes(reference, current)?;
        let error = self.standard_error(reference, current);
        let mut interval = Interval::around_share(self.distance, error, z);
        interval.low = (interval.low - self.expected_by_chance(reference, current)).max(0.0);
        Ok(interval)
    }
}

/// ½·Σ|cᵢ − rᵢ| between the shares of two vectors of counts.
///
/// ```
/// let tv = statistics::drift::total_variation(&[50, 50, 0], &[40, 50, 10]).unwrap();
/// assert!((tv.distance - 0.1).abs() < 1e-15);
/// ```
/// # Errors
/// [`Error::LengthMismatch`]; [`Error::TooFew`] if a sum is 0.
pub fn total_variation(reference: &[u64], current: &[u64]) -> Result<TotalVariation, Error> {
    let (n, m) = totals(reference, current)?;
    let mut result =
        TotalVariation { distance: 0.0, grown_reference: 0.0, grown_current: 0.0, roughness: 0.0 };
    for ((r, c), (&i, &j)) in shares(reference, current)?.zip(reference.iter().zip(current)) {
        result.distance += (c - r).abs() / 2.0;
        if c > r {
            result.grown_reference += r;
            result.grown_current += c;
        }
        let pooled = (i as f64 + j as f64) / (n + m);
        result.roughness += (pooled * (1.0 - pooled) / std::f64::consts::TAU).max(0.0).sqrt();
    }
    result.distance = result.distance.min(1.0);
    Ok(result)
}

/// Jensen–Shannon distance to base 2: √(½·KL(r‖h) + ½·KL(c‖h)), h = (r+c)/2; between 0 and 1.
///
/// ```
/// assert_eq!(statistics::drift::jensen_shannon(&[5, 0], &[0, 8]).unwrap(), 1.0);
/// ```
/// # Errors
/// [`Error::LengthMismatch`]; [`Error::TooFew`] if a sum is 0.
/// # Source
/// Endres & Schindelin (2003), "A new metric for probability distributions".
pub fn jensen_shannon(reference: &[u64], current: &[u64]) -> Result<f64, Error> {
    let term = |p: f64, half: f64| if p > 0.0 { p * (p / half).log2() } else { 0.0 };
    let divergence: f64 =
        shares(reference, current)?.map(|(r, c)| term(r, (r + c) / 2.0) + term(c, (r + c) / 2.0)).sum();
    Ok((divergence / 2.0).clamp(0.0, 1.0).sqrt())
}

/// Hellinger distance: √(½·Σ(√rᵢ − √cᵢ)²), between 0 and 1.
///
/// ```
/// assert_eq!(statistics::drift::hellinger(&[1, 0], &[0, 3]).unwrap(), 1.0);
/// ```
/// # Errors
/// [`Error::LengthMismatch`]; [`Error::TooFew`] if a sum is 0.
pub fn hellinger(reference: &[u64], current: &[u64]) -> Result<f64, Error> {
    let sum: f64 = shares(reference, current)?.map(|(r, c)| (r.sqrt() - c.sqrt()).powi(2)).sum();
    Ok((sum / 2.0).clamp(0.0, 1.0).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Generator;

    fn draw(generator: &mut Generator, n: usize, shares: &[f64]) -> Vec<u64> {
        let mut counts = vec![0; shares.len()];
        for _ in 0..n {
            let mut u = generator.uniform();
            let hit = shares.iter().position(|share| {
                u -= share;
                u < 0.0
            });
            counts[hit.unwrap_or(shares.len() - 1)] += 1;
        }
        counts
    }

    #[test]
    fn the_interval_covers_the_true_distance_at_least_as_often_as_it_says() {
        let mut generator = Generator::from_seed(5);
        let before = [0.4, 0.3, 0.2, 0.1];
        for moved in [0.0, 0.02, 0.1] {
            let after = [0.4 - moved, 0.3, 0.2, 0.1 + moved];
            let covered = (0..400)
                .filter(|_| {
                    let (r, c) = (draw(&mut generator, 800, &before), draw(&mut generator, 600, &after));
                    let tv = total_variation(&r, &c).unwrap();
                    tv.interval(0.95, 800.0, 600.0).unwrap().contains(moved)
                })
                .count();
            assert!(covered >= 380, "{moved}: {covered} of 400");
        }
    }

    #[test]
    fn nothing_in_a_window_is_insufficient_data() {
        let refusal = total_variation(&[3, 4], &[0, 0]).unwrap_err();
        assert_eq!(refusal.to_string(), "0 rows given where at least 1 are needed");
        assert_eq!(chi_square(&[1], &[1, 2]).unwrap_err(), Error::LengthMismatch { left: 1, right: 2 });
    }
}
