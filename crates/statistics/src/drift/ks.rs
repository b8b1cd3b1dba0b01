//! The Kolmogorov–Smirnov distance: the drift effect of numbers.

use crate::distributions::{kolmogorov_finite_sf, kolmogorov_two_sample_sf};
use crate::interval::two_sided_z;
use crate::{Error, Interval, check};

/// Up to this product of the sizes the p-value is exact; beyond, it is so to a few percent of itself.
const EXACT_LIMIT: usize = 1_000_000;

/// The greatest gap between two empirical distribution functions F (reference) and G (current).
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Ks {
    /// D = sup |F − G|.
    pub distance: f64,
    /// The least value at which the gap is D; the least value of all if D = 0.
    pub location: f64,
    /// F there.
    pub below_reference: f64,
    /// G there.
    pub below_current: f64,
    /// The number of reference values.
    pub reference: usize,
    /// The number of current values.
    pub current: usize,
}

impl Ks {
    /// P(D or more) if both samples are independent draws from one continuous law; with ties an upper bound.
    ///
    /// Exact up to 10⁶ pairs, else [`Self::p_value_effective`] with the sizes as they are.
    pub fn p_value(&self) -> f64 {
        if self.reference.saturating_mul(self.current) <= EXACT_LIMIT {
            kolmogorov_two_sample_sf(self.distance, self.reference, self.current)
        } else {
            self.p_value_effective(self.reference as f64, self.current as f64)
        }
    }

    /// The large-sample p-value with other sizes, as [`super::effective_sample_size`] gives them.
    ///
    /// The law of the one-sample statistic with round(nm/(n+m)) rows; 1 if that is 0 rows.
    pub fn p_value_effective(&self, reference: f64, current: f64) -> f64 {
        let rows = (reference * current / (reference + current)).round_ties_even();
        kolmogorov_finite_sf(self.distance, if rows > 0.0 { rows as u64 } else { 0 })
    }

    /// An interval for the distance between the two laws themselves, given (effective) sizes n and m.
    ///
    /// With s = √(1/n + 1/m), α = 1 − `level`: from D − s·√(ln(4/α)/2) to D + s·Φ⁻¹(1−α/2)/2, cut to [0, 1].
    /// The low end allows for the luck of the widest of many gaps, whose bound is Kolmogorov's; the high end
    /// only for the error at the true location. On the safe side when one location stands out.
    /// # Errors
    /// [`Error::OutOfDomain`] unless 0 < level < 1 and both sizes are positive.
    /// # Source
    /// Massart (1990), "The tight constant in the Dvoretzky–Kiefer–Wolfowitz inequality", in its two-sample form.
    pub fn interval(&self, level: f64, reference: f64, current: f64) -> Result<Interval, Error> {
        let z = two_sided_z(level)?;
        check::sizes(reference, current)?;
        let scale = (1.0 / reference + 1.0 / current).sqrt();
        Ok(Interval {
            low: (self.distance - scale * ((4.0 / (1.0 - level)).ln() / 2.0).sqrt()).max(0.0),
            high: (self.distance + scale * z / 2.0).min(1.0),
        })
    }
}

impl Ks {
    /// P(so great a distance or greater) were the distance of the laws at most `least`: the level at which
    /// [`Self::interval`]'s low end is `least`.
    ///
    /// min(1, 4·exp(−2·((D − least)/s)²)), s = √(1/n + 1/m); 1 if D ≤ least.
    /// # Errors
    /// [`Error::OutOfDomain`] unless both sizes are positive.
    pub fn p_exceeds(&self, least: f64, reference: f64, current: f64) -> Result<f64, Error> {
        check::sizes(reference, current)?;
        let excess = (self.distance - least).max(0.0) / (1.0 / reference + 1.0 / current).sqrt();
        Ok((4.0 * (-2.0 * excess * excess).exp()).min(1.0))
    }
}

/// D = sup |F − G| of two samples; infinities are values like others, −0 = 0. O(N log N).
///
/// ```
/// let ks = statistics::drift::ks(&[1.0, 2.0, 3.0, 4.0], &[3.0, 4.0, 5.0, 6.0]).unwrap();
/// assert_eq!((ks.distance, ks.location), (0.5, 2.0)); // half of the reference lies at or below 2
/// ```
/// # Errors
/// [`Error::TooFew`] if a sample is empty; [`Error::OutOfDomain`] for NaN.
/// # Source
/// Smirnov (1939), "On the estimation of the discrepancy between empirical curves of distribution".
pub fn ks(reference: &[f64], current: &[f64]) -> Result<Ks, Error> {
    let (reference, current) = (sorted(reference)?, sorted(current)?);
    let (mut i, mut j) = (0, 0);
    let steps = std::iter::from_fn(|| {
        let value = match (reference.get(i), current.get(j)) {
            (Some(r), Some(c)) => r.min(*c),
            (Some(v), None) | (None, Some(v)) => *v,
            (None, None) => return None,
        };
        i += reference[i..].iter().take_while(|&&r| r <= value).count();
        j += current[j..].iter().take_while(|&&c| c <= value).count();
        Some((value, i, j))
    });
    Ok(widest(steps, reference.len(), current.len()))
}

/// D over the bins that `edges` separate: at most the D of the samples, so its p-value is on the safe side.
///
/// `edges` rise, shape `[bins − 1]`; the counts have shape `[bins]`; bin i holds the values in
/// (edges[i−1], edges[i]].
/// ```
/// let ks = statistics::drift::ks_binned(&[10.0, 20.0], &[5, 3, 2], &[1, 3, 6]).unwrap();
/// assert!((ks.distance - 0.4).abs() < 1e-15 && ks.location == 10.0);
/// ```
/// # Errors
/// [`Error::LengthMismatch`]; [`Error::TooFew`] if a sum is 0; [`Error::OutOfDomain`] for a NaN edge.
pub fn ks_binned(edges: &[f64], reference: &[u64], current: &[u64]) -> Result<Ks, Error> {
    super::totals(reference, current)?;
    check::same_length(edges.len() + 1, reference.len())?;
    check::no_nan(edges, "edges")?;
    let (all_reference, all_current) = (super::sum(reference), super::sum(current));
    let (m, n) = (all_reference as f64, all_current as f64);
    let (bin, i, j) = widest_bin(reference, current, all_reference, all_current);
    let (below_reference, below_current) = (i as f64 / m, j as f64 / n);
    Ok(Ks {
        distance: (below_reference - below_current).abs(),
        location: edges.get(bin).copied().unwrap_or(f64::INFINITY),
        below_reference,
        below_current,
        reference: all_reference as usize,
        current: all_current as usize,
    })
}

/// How many of these counts lie in each bin or before it.
pub(crate) fn cumulated(counts: &[u64]) -> Vec<f64> {
    let sums = counts.iter().scan(0_u64, |sum, count| {
        *sum = sum.saturating_add(*count);
        Some(*sum as f64)
    });
    sums.collect()
}

/// Bins that are looked at together.
const TOGETHER: usize = 64;

/// The D of [`ks_binned`] alone, of bins whose edges are known to be some and whose sums are known; 0 if a sum is 0. The reference
/// is given by [`cumulated`]: windows by the thousand are held against it.
pub(crate) fn distance_binned((below, m): (&[f64], u64), (current, n): (&[u64], u64)) -> f64 {
    if m == 0 || n == 0 {
        return 0.0;
    }
    let gap = Gap { m: m as f64, n: n as f64 };
    if gap.n >= WHOLE {
        return gap.slowly(below, current);
    }
    let mut sums = [0; TOGETHER];
    let (mut widest, mut at, mut before) = (-1.0, (0, 0), 0);
    for (chunk, (below, counts)) in below.chunks(TOGETHER).zip(current.chunks(TOGETHER)).enumerate() {
        let end = cumulate(&mut sums, counts, before);
        let most = gap.widest(below, &sums);
        if most > widest {
            (widest, at) = (most, (chunk * TOGETHER, before));
        }
        before = end;
    }
    let (begin, before) = at;
    cumulate(&mut sums, &current[begin..], before);
    let first = below[begin..].iter().zip(&sums).find(|(i, j)| gap.width(**i, float(**j)) == widest);
    first.map_or(0.0, |(i, j)| (i / gap.m - float(*j) / gap.n).abs())
}

/// How many values lie in each bin or before it, `before` of them before all; how many do in the end.
fn cumulate(sums: &mut [u64; TOGETHER], counts: &[u64], before: u64) -> u64 {
    sums.iter_mut().zip(counts).fold(before, |so_far, (sum, count)| {
        *sum = so_far.wrapping_add(*count);
        *sum
    })
}

/// The gap between i of m and j of n, times m·n: |i·n − j·m|, which needs no division.
struct Gap {
    m: f64,
    n: f64,
}

impl Gap {
    fn width(&self, i: f64, j: f64) -> f64 {
        (i * self.n - j * self.m).abs()
    }

    /// The distance at the first of the widest gaps, bin by bin, whatever the counts.
    fn slowly(&self, below: &[f64], current: &[u64]) -> f64 {
        let (mut widest, mut distance) = (-1.0, 0.0);
        for (i, j) in below.iter().zip(cumulated(current)) {
            let width = self.width(*i, j);
            if width > widest {
                (widest, distance) = (width, (i / self.m - j / self.n).abs());
            }
        }
        distance
    }

    /// The widest, by four bins at a time.
    fn widest(&self, below: &[f64], sums: &[u64; TOGETHER]) -> f64 {
        let (fours, rest) = below.as_chunks::<4>();
        let mut most = [0.0_f64; 4];
        for (below, sums) in fours.iter().zip(sums.as_chunks::<4>().0) {
            for (most, (i, j)) in most.iter_mut().zip(below.iter().zip(sums)) {
                let width = self.width(*i, float(*j));
                *most = if width > *most { width } else { *most };
            }
        }
        let rest = rest.iter().zip(&sums[fours.len() * 4..]).map(|(i, j)| self.width(*i, float(*j)));
        most.into_iter().chain(rest).fold(0.0, f64::max)
    }
}

/// 2⁵² as a number, whose last 52 bits are a whole number's.
const WHOLE: f64 = 4_503_599_627_370_496.0;

/// A whole number below 2⁵² as a floating one: in a way that two are computed at once.
fn float(whole: u64) -> f64 {
    f64::from_bits((whole & (WHOLE as u64 - 1)) | WHOLE.to_bits()) - WHOLE
}

/// The first bin after which |i/m − j/n| is widest, with i and j there: where |i·n − j·m| is, which needs no division.
fn widest_bin(reference: &[u64], current: &[u64], m: u64, n: u64) -> (usize, u64, u64) {
    match (i64::try_from(m), i64::try_from(n)) {
        (Ok(m), Ok(n)) if m.checked_mul(n).is_some_and(|most| most < EXACT) => {
            // whole numbers: no product is rounded
            let gap = |i: u64, j: u64| (i.cast_signed() * n - j.cast_signed() * m).abs();
            first_widest(reference, current, -1, gap)
        }
        _ => {
            let (m, n) = (m as f64, n as f64);
            first_widest(reference, current, -1.0, |i, j| (i as f64 * n - j as f64 * m).abs())
        }
    }
}

/// 2⁵³: below it, whole numbers and floating ones say the same.
const EXACT: i64 = 1 << 53;

fn first_widest<T: PartialOrd>(
    reference: &[u64],
    current: &[u64],
    least: T,
    gap: impl Fn(u64, u64) -> T,
) -> (usize, u64, u64) {
    let (mut widest, mut found) = (least, (0, 0, 0));
    let (mut i, mut j) = (0_u64, 0_u64);
    for (bin, (&r, &c)) in reference.iter().zip(current).enumerate() {
        (i, j) = (i.saturating_add(r), j.saturating_add(c));
        let gap = gap(i, j);
        if gap > widest {
            (widest, found) = (gap, (bin, i, j));
        }
    }
    found
}

/// The step (value, how many of each sample are at or below) with the widest gap.
fn widest(steps: impl Iterator<Item = (f64, usize, usize)>, reference: usize, current: usize) -> Ks {
    let mut widest: Option<Ks> = None;
    for (location, i, j) in steps {
        let (f, g) = (i as f64 / reference as f64, j as f64 / current as f64);
        let distance = (f - g).abs();
        if widest.is_none_or(|ks| distance > ks.distance) {
            widest =
                Some(Ks { distance, location, below_reference: f, below_current: g, reference, current });
        }
    }
    widest.expect("both samples hold a value, so there is a step")
}

pub(super) fn sorted(values: &[f64]) -> Result<Vec<f64>, Error> {
    check::at_least(1, values.len(), "values")?;
    check::no_nan(values, "values")?;
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    Ok(sorted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Generator;

    #[test]
    fn the_distance_alone_is_that_of_the_test_for_small_and_for_huge_counts() {
        let mut generator = Generator::from_seed(4);
        let bins = [50, TOGETHER, TOGETHER + 1, 500, 8 * TOGETHER];
        for (bins, times) in
            bins.into_iter().flat_map(|bins| [1, 1 << 20, 1 << 40, 1 << 50].map(|times| (bins, times)))
        {
            let mut counts = || (0..bins).map(|_| generator.below(9) as u64 * times).collect::<Vec<u64>>();
            let (one, other) = (counts(), counts());
            let edges: Vec<f64> = (1..bins).map(|edge| edge as f64).collect();
            let whole = ks_binned(&edges, &one, &other).unwrap();
            let summed = |counts: &[u64]| counts.iter().sum::<u64>();
            assert_eq!(
                distance_binned((&cumulated(&one), summed(&one)), (&other, summed(&other))),
                whole.distance
            );
            let shares = |counts: &[u64], bins: usize| {
                counts[..bins].iter().sum::<u64>() as f64 / counts.iter().sum::<u64>() as f64
            };
            let slow = (1..=bins).map(|bins| (shares(&one, bins) - shares(&other, bins)).abs());
            assert!((slow.fold(0.0, f64::max) - whole.distance).abs() < 1e-12, "{bins} {times}");
        }
        assert_eq!(distance_binned((&[0.0, 0.0], 0), (&[1, 2], 3)), 0.0);
    }

    fn uniform(generator: &mut Generator, n: usize, shift: f64) -> Vec<f64> {
        (0..n).map(|_| generator.uniform() + shift).collect()
    }

    #[test]
    fn the_interval_covers_the_true_distance_at_least_as_often_as_it_says() {
        // Uniforms shifted by s are s apart.
        let mut generator = Generator::from_seed(11);
        for shift in [0.0, 0.05, 0.1, 0.3] {
            let covered = (0..400)
                .filter(|_| {
                    let a = uniform(&mut generator, 500, 0.0);
                    let b = uniform(&mut generator, 400, shift);
                    ks(&a, &b).unwrap().interval(0.95, 500.0, 400.0).unwrap().contains(shift)
                })
                .count();
            assert!(covered >= 380, "{shift}: {covered} of 400");
        }
    }

    #[test]
    fn a_sample_without_a_value_or_with_a_nan_has_no_distance() {
        assert_eq!(ks(&[], &[1.0]).unwrap_err(), Error::TooFew { what: "values", needed: 1, found: 0 });
        assert!(matches!(ks(&[f64::NAN], &[1.0]).unwrap_err(), Error::OutOfDomain { .. }));
    }

    #[test]
    fn binning_at_every_value_loses_nothing() {
        let (a, b) = ([1.0, 2.0, 2.0, 5.0], [2.0, 3.0, 5.0]);
        let binned = ks_binned(&[1.0, 2.0, 3.0], &[1, 2, 0, 1], &[0, 1, 1, 1]).unwrap();
        assert_eq!(ks(&a, &b).unwrap().distance, binned.distance);
    }
}
