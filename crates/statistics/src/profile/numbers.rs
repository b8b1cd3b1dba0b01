//! Numbers in bins between the quantiles of a reference.

use std::hint::select_unpredictable;
use std::sync::Arc;

use super::bytes::{Reader, Writer, checksum};
use crate::drift::{Ks, ks_binned};
use crate::{Error, check};

/// The most bins of a profile: 512 counts are 4 KB.
pub const MOST_BINS: usize = 512;

/// Where bins end: rising, distinct, finite. Bin i holds the values in (edge[i−1], edge[i]].
///
/// The first edge is below the least and the last is the greatest value of the reference, so that the outer two bins hold
/// what lies beyond it.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
#[serde(into = "Vec<f64>", try_from = "Vec<f64>")]
pub struct Edges(Arc<[f64]>);

/// Profiles of one reference share its edges: they need not be looked at one by one.
impl PartialEq for Edges {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl From<Edges> for Vec<f64> {
    fn from(edges: Edges) -> Self {
        edges.0.to_vec()
    }
}

impl TryFrom<Vec<f64>> for Edges {
    type Error = Error;

    fn try_from(edges: Vec<f64>) -> Result<Self, Error> {
        check::at_least(1, edges.len(), "edges")?;
        check::finite(&edges, "edges")?;
        if edges.len() >= MOST_BINS {
            return Err(Error::OutOfDomain {
                what: "the number of edges",
                value: edges.len() as f64,
                domain: "below the most bins of a profile",
            });
        }
        match edges.windows(2).find(|pair| pair[0] >= pair[1]) {
            Some(pair) => Err(Error::OutOfDomain { what: "edges", value: pair[1], domain: "rising" }),
            None => Ok(Self(edges.into())),
        }
    }
}

impl Edges {
    /// Edges at the quantiles of a reference; fewer than `bins` if it has few distinct values. Infinities lie beyond.
    ///
    /// ```
    /// let edges = statistics::profile::Edges::of(&[1.0, 2.0, 3.0, 4.0], 4).unwrap();
    /// assert_eq!(edges.bins(), 6); // below 1 · 1 · 2 · 3 · 4 · above 4
    /// ```
    /// # Errors
    /// [`Error::TooFew`] without a finite value or a bin; [`Error::OutOfDomain`] for NaN.
    pub fn of(reference: &[f64], bins: usize) -> Result<Self, Error> {
        check::no_nan(reference, "values")?;
        check::at_least(1, bins, "bins")?;
        let mut sorted: Vec<f64> = reference.iter().copied().filter(|value| value.is_finite()).collect();
        check::at_least(1, sorted.len(), "finite values")?;
        sorted.sort_unstable_by(f64::total_cmp);
        let bins = bins.min(MOST_BINS - 2);
        let last = sorted.len() - 1;
        let mut edges = vec![below(sorted[0])];
        for bin in 1..=bins {
            let edge = sorted[(bin * sorted.len() / bins).saturating_sub(1).min(last)] + 0.0; // −0 is 0
            if edge > edges[edges.len() - 1] {
                edges.push(edge);
            }
        }
        Ok(Self(edges.into()))
    }

    /// How many bins, the two outer ones included.
    pub fn bins(&self) -> usize {
        self.0.len() + 1
    }

    /// The least and the greatest value of the reference.
    pub fn range(&self) -> (f64, f64) {
        (self.0.get(1).copied().unwrap_or(self.0[0]), self.0[self.0.len() - 1])
    }

    /// The edges.
    pub fn as_slice(&self) -> &[f64] {
        &self.0
    }

    /// The bins of values: how many edges lie below each. Searches go side by side, so that none waits for another's memory.
    fn bins_of(&self, values: &[f64], bins: &mut [u16]) {
        let (blocks, rest) = values.as_chunks::<LANES>();
        let (bins, bins_of_rest) = bins.split_at_mut(blocks.len() * LANES);
        for (block, bins) in blocks.iter().zip(bins.as_chunks_mut::<LANES>().0) {
            *bins = self.search(block);
        }
        for (value, bin) in rest.iter().zip(bins_of_rest) {
            [*bin] = self.search(&[*value]);
        }
    }

    /// A binary search without branches, for it runs once a cell.
    fn search<const N: usize>(&self, values: &[f64; N]) -> [u16; N] {
        let edges = &self.0[..];
        let (mut base, mut size) = ([0; N], edges.len());
        while size > 1 {
            let half = size / 2;
            for (base, value) in base.iter_mut().zip(values) {
                *base += select_unpredictable(edges[*base + half - 1] < *value, half, 0);
            }
            size -= half;
        }
        std::array::from_fn(|lane| (base[lane] + usize::from(edges[base[lane]] < values[lane])) as u16)
    }
}

/// Values whose bins are searched for side by side.
const LANES: usize = 4;
/// Values that are taken at a time: a power of two, so that a division by it loses nothing.
const BLOCK: usize = 64;

/// The next number below, of −MAX itself.
fn below(value: f64) -> f64 {
    if value > f64::MIN { (value + 0.0).next_down() } else { value }
}

/// What is kept of a column of numbers.
///
/// Size: 8 bytes a bin and some 200 more; the edges are the reference's.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct NumberProfile {
    format: u32,
    edges: Edges,
    counts: Vec<u64>,
    /// Rows without a value.
    pub nulls: u64,
    /// Values that are no number.
    pub nans: u64,
    /// Values that are +∞ or −∞.
    pub infinities: u64,
    finite: u64,
    mean: f64,
    squares: f64,
    range: Option<(f64, f64)>,
    /// Products of neighbours' bins, for the correlation of a value with the one before.
    lag: Lag,
}

/// Sums over neighbouring values' bins: bins are ranks, so the correlation is robust.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
struct Lag {
    previous: Option<u32>,
    pairs: u64,
    sum: u64,
    squares: u64,
    products: u64,
    values: u64,
}

impl Lag {
    /// Takes the bins of at most [`BLOCK`] values.
    fn note(&mut self, bins: &[u16]) {
        let (Some(first), Some(last)) = (bins.first(), bins.last()) else { return };
        let product = |one: u16, other: u16| u32::from(one) * u32::from(other);
        self.values += bins.len() as u64;
        self.sum += u64::from(bins.iter().map(|bin| u32::from(*bin)).sum::<u32>());
        self.squares += u64::from(bins.iter().map(|bin| product(*bin, *bin)).sum::<u32>());
        self.products +=
            u64::from(bins.iter().zip(&bins[1..]).map(|(one, next)| product(*one, *next)).sum::<u32>());
        self.pairs += bins.len() as u64 - 1;
        if let Some(previous) = self.previous {
            self.pairs += 1;
            self.products += u64::from(previous) * u64::from(*first);
        }
        self.previous = Some(u32::from(*last));
    }

    fn merge(&mut self, later: &Self) {
        self.previous = later.previous.or(self.previous);
        self.pairs += later.pairs;
        self.sum += later.sum;
        self.squares += later.squares;
        self.products += later.products;
        self.values += later.values;
    }

    /// Pearson's correlation of neighbours, in [0, 1): a negative one counts as none.
    fn correlation(&self) -> f64 {
        if self.pairs < 2 {
            return 0.0;
        }
        let mean = self.sum as f64 / self.values as f64;
        let variance = self.squares as f64 / self.values as f64 - mean * mean;
        let covariance = self.products as f64 / self.pairs as f64 - mean * mean;
        if variance > 1e-9 { (covariance / variance).clamp(0.0, 0.999) } else { 0.0 }
    }
}

/// How many finite values there are, their mean, the sum of squares about it, the least and the greatest.
#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    finite: u64,
    mean: f64,
    squares: f64,
    range: Option<(f64, f64)>,
}

impl Moments {
    /// Of at most [`BLOCK`] finite values, by two passes: the mean from the first value on, a constant's being exact.
    fn of(values: &[f64]) -> Self {
        let Some(&first) = values.first() else { return Self::default() };
        let part = 1.0 / BLOCK as f64; // a sum of parts exceeds no number that its values do not
        let mean = first + sum(values, |value| (value - first) * part) * (BLOCK as f64 / values.len() as f64);
        let squares = sum(values, |value| (value - mean) * (value - mean));
        let least = values.iter().fold(first, |least, &value| if value < least { value } else { least });
        let greatest = values.iter().fold(first, |most, &value| if value > most { value } else { most });
        Self { finite: values.len() as u64, mean, squares, range: Some((least, greatest)) }
    }
}

/// A sum in four, so that no addition waits for the one before.
fn sum(values: &[f64], of: impl Fn(f64) -> f64) -> f64 {
    let (fours, rest) = values.as_chunks::<4>();
    let mut sums = [0.0; 4];
    for four in fours {
        sums.iter_mut().zip(four).for_each(|(sum, value)| *sum += of(*value));
    }
    sums.into_iter().sum::<f64>() + rest.iter().map(|value| of(*value)).sum::<f64>()
}

impl NumberProfile {
    /// An empty profile over these edges.
    pub fn new(edges: Edges) -> Self {
        Self {
            format: 1,
            counts: vec![0; edges.bins()],
            edges,
            nulls: 0,
            nans: 0,
            infinities: 0,
            finite: 0,
            mean: 0.0,
            squares: 0.0,
            range: None,
            lag: Lag::default(),
        }
    }

    /// A profile of counts alone: of rows whose values and order are not known.
    ///
    /// ```
    /// use statistics::profile::{Edges, NumberProfile};
    /// let edges = Edges::of(&[1.0, 2.0], 2).unwrap();
    /// assert_eq!(NumberProfile::of_counts(edges, vec![0, 3, 4, 1], 2).unwrap().rows(), 10);
    /// ```
    /// # Errors
    /// [`Error::LengthMismatch`] if there are not as many counts as bins.
    pub fn of_counts(edges: Edges, counts: Vec<u64>, nulls: u64) -> Result<Self, Error> {
        check::same_length(edges.bins(), counts.len())?;
        let finite = counts.iter().sum();
        Ok(Self { counts, nulls, finite, ..Self::new(edges) })
    }

    /// Takes values in the order of time; NaN counts as such.
    pub fn observe(&mut self, values: &[f64]) {
        let mut numbers = Vec::new();
        for block in values.chunks(BLOCK) {
            let nans = block.iter().filter(|value| value.is_nan()).count();
            if nans == 0 {
                self.take(block);
                continue;
            }
            self.nans += nans as u64;
            numbers.clear();
            numbers.extend(block.iter().copied().filter(|value| !value.is_nan()));
            self.take(&numbers);
        }
    }

    /// Takes at most [`BLOCK`] numbers.
    fn take(&mut self, numbers: &[f64]) {
        let mut bins = [0; BLOCK];
        let bins = &mut bins[..numbers.len()];
        self.edges.bins_of(numbers, bins);
        bins.iter().for_each(|bin| self.counts[usize::from(*bin)] += 1);
        self.lag.note(bins);
        let infinities = numbers.iter().filter(|number| number.is_infinite()).count();
        if infinities == 0 {
            self.add_moments(&Moments::of(numbers));
        } else {
            self.infinities += infinities as u64;
            let finite: Vec<f64> = numbers.iter().copied().filter(|number| number.is_finite()).collect();
            self.add_moments(&Moments::of(&finite));
        }
    }

    /// # Source
    /// Chan, Golub & LeVeque (1983), "Algorithms for computing the sample variance".
    fn add_moments(&mut self, later: &Moments) {
        let (n, m) = (self.finite as f64, later.finite as f64);
        if later.finite == 0 {
            return;
        }
        self.range = match (self.range, later.range) {
            (Some(own), Some(new)) => Some((own.0.min(new.0), own.1.max(new.1))),
            (own, new) => own.or(new),
        };
        self.finite += later.finite;
        if n == 0.0 {
            (self.mean, self.squares) = (later.mean, later.squares);
            return;
        }
        let (gap, weight) = (later.mean - self.mean, m / (n + m));
        self.mean += gap * weight;
        self.squares += later.squares + gap * gap * n * weight;
    }

    /// Takes rows without a value.
    pub fn observe_nulls(&mut self, rows: u64) {
        self.nulls += rows;
    }

    /// Adds a profile of later rows.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] if its edges are others.
    pub fn merge(&mut self, later: &Self) -> Result<(), Error> {
        if self.edges != later.edges {
            return Err(Error::LengthMismatch { left: self.edges.bins(), right: later.edges.bins() });
        }
        self.counts.iter_mut().zip(&later.counts).for_each(|(own, new)| *own += new);
        self.nulls += later.nulls;
        self.nans += later.nans;
        self.infinities += later.infinities;
        self.add_moments(&Moments {
            finite: later.finite,
            mean: later.mean,
            squares: later.squares,
            range: later.range,
        });
        self.lag.merge(&later.lag);
        Ok(())
    }

    pub(super) fn write(&self, to: &mut Writer) {
        to.whole(checksum(self.edges.as_slice()));
        to.whole(self.counts.len() as u64);
        self.counts.iter().for_each(|count| to.whole(*count));
        [self.nulls, self.nans, self.infinities, self.finite].into_iter().for_each(|count| to.whole(count));
        to.number(self.mean);
        to.number(self.squares);
        to.whole(u64::from(self.range.is_some()));
        let (least, greatest) = self.range.unwrap_or_default();
        to.number(least);
        to.number(greatest);
        to.whole(self.lag.previous.map_or(0, |bin| u64::from(bin) + 1));
        let lag = &self.lag;
        [lag.pairs, lag.sum, lag.squares, lag.products, lag.values].into_iter().for_each(|sum| to.whole(sum));
    }

    /// Reads a profile over these edges.
    pub(super) fn read(from: &mut Reader<'_>, edges: &Edges) -> Result<Self, Error> {
        let of_others = Error::LengthMismatch { left: edges.bins(), right: 0 };
        if from.whole()? != checksum(edges.as_slice()) || from.length()? != edges.bins() {
            return Err(of_others);
        }
        let mut profile = Self::new(edges.clone());
        for count in &mut profile.counts {
            *count = from.whole()?;
        }
        profile.nulls = from.whole()?;
        profile.nans = from.whole()?;
        profile.infinities = from.whole()?;
        profile.finite = from.whole()?;
        profile.mean = from.number()?;
        profile.squares = from.number()?;
        let has_range = from.whole()? == 1;
        let range = (from.number()?, from.number()?);
        profile.range = has_range.then_some(range);
        profile.lag.previous = from.whole()?.checked_sub(1).map(|bin| bin as u32);
        for sum in [
            &mut profile.lag.pairs,
            &mut profile.lag.sum,
            &mut profile.lag.squares,
            &mut profile.lag.products,
            &mut profile.lag.values,
        ] {
            *sum = from.whole()?;
        }
        Ok(profile)
    }

    /// Rows seen.
    pub fn rows(&self) -> u64 {
        self.values() + self.nulls + self.nans
    }

    /// Values that are numbers, infinities included.
    pub fn values(&self) -> u64 {
        self.finite + self.infinities
    }

    /// Rows without a number.
    pub fn missing(&self) -> u64 {
        self.nulls + self.nans
    }

    /// How many independent values the values are worth: n(1 − r)/(1 + r), r the correlation of neighbouring ranks.
    pub fn effective(&self) -> f64 {
        let r = self.lag.correlation();
        (self.values() as f64 * (1.0 - r) / (1.0 + r)).max((self.values() > 0).into())
    }

    /// The counts of the bins.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// The edges of the bins.
    pub fn edges(&self) -> &Edges {
        &self.edges
    }

    /// How many values lie below and above the reference's range.
    pub fn beyond(&self) -> (u64, u64) {
        (self.counts[0], self.counts[self.counts.len() - 1])
    }

    /// The mean of the finite values; `None` without one, or if it is beyond the greatest number.
    pub fn mean(&self) -> Option<f64> {
        (self.range.is_some() && self.mean.is_finite()).then_some(self.mean)
    }

    /// The standard deviation of the finite values (divisor n − 1); `None` for less than two.
    pub fn deviation(&self) -> Option<f64> {
        let known = self.finite > 1 && self.range.is_some();
        let variance = known.then(|| self.squares / (self.finite - 1) as f64)?;
        (variance.is_finite() && self.mean.is_finite()).then(|| variance.max(0.0).sqrt())
    }

    /// The least and the greatest finite value.
    pub fn range(&self) -> Option<(f64, f64)> {
        self.range
    }

    /// The quantile at `q`, to the width of a bin: linear within bins, cut to the values seen. `None` without a finite value.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let (least, greatest) = self.range()?;
        let wanted = q.clamp(0.0, 1.0) * self.values() as f64;
        let edges = self.edges.as_slice();
        let mut before = 0.0;
        for (bin, &count) in self.counts.iter().enumerate() {
            let count = count as f64;
            if before + count >= wanted && count > 0.0 {
                let low = if bin == 0 { least } else { edges[bin - 1].max(least) };
                let high = edges.get(bin).map_or(greatest, |edge| edge.min(greatest));
                return Some(low + (high - low) * ((wanted - before) / count).clamp(0.0, 1.0));
            }
            before += count;
        }
        Some(greatest)
    }

    /// The Kolmogorov–Smirnov distance to the values of another profile over the same edges, to the width of a bin.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] for other edges; [`Error::TooFew`] if a profile has no value.
    pub fn ks(&self, current: &Self) -> Result<Ks, Error> {
        if self.edges != current.edges {
            return Err(Error::LengthMismatch { left: self.edges.bins(), right: current.edges.bins() });
        }
        ks_binned(self.edges.as_slice(), &self.counts, &current.counts)
    }

    /// The counts of `groups` groups of neighbouring bins that hold about equally many of this profile's values, for both.
    pub fn grouped(&self, current: &Self, groups: usize) -> (Vec<u64>, Vec<u64>) {
        let total = self.values().max(1);
        let (mut own, mut other) = (vec![0; groups], vec![0; groups]);
        let mut before = 0;
        for (&mine, &theirs) in self.counts.iter().zip(&current.counts) {
            let middle = before + mine / 2;
            let group = ((middle as u128 * groups as u128 / u128::from(total)) as usize).min(groups - 1);
            own[group] += mine;
            other[group] += theirs;
            before += mine;
        }
        (own, other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Generator;
    use crate::drift::ks;

    fn uniform(seed: u64, rows: usize, shift: f64) -> Vec<f64> {
        let mut generator = Generator::from_seed(seed);
        (0..rows).map(|_| generator.uniform() + shift).collect()
    }

    fn profile(edges: &Edges, values: &[f64]) -> NumberProfile {
        let mut profile = NumberProfile::new(edges.clone());
        profile.observe(values);
        profile
    }

    #[test]
    fn a_bin_holds_what_lies_above_one_edge_and_up_to_the_next() {
        let edges = Edges::of(&[1.0, 2.0, 3.0, 4.0], 4).unwrap();
        let profile =
            profile(&edges, &[0.5, 1.0, 1.5, 2.0, 4.0, 4.5, f64::INFINITY, f64::NEG_INFINITY, f64::NAN]);
        assert_eq!(profile.counts(), [2, 1, 2, 0, 1, 2]);
        assert_eq!((profile.nans, profile.infinities, profile.values(), profile.beyond()), (1, 2, 8, (2, 2)));
    }

    #[test]
    fn the_distance_from_bins_is_close_to_that_of_the_values() {
        let (reference, current) = (uniform(1, 20_000, 0.0), uniform(2, 5_000, 0.1));
        let edges = Edges::of(&reference, 500).unwrap();
        let found = profile(&edges, &reference).ks(&profile(&edges, &current)).unwrap().distance;
        let exact = ks(&reference, &current).unwrap().distance;
        assert!(found <= exact + 1e-12 && exact - found < 0.004, "{found} {exact}");
    }

    #[test]
    fn windows_merge_into_the_span_they_cover() {
        let values = uniform(1, 1_000, 0.0);
        let edges = Edges::of(&values, 50).unwrap();
        let mut merged = profile(&edges, &values[..300]);
        merged.merge(&profile(&edges, &values[300..])).unwrap();
        let whole = profile(&edges, &values);
        assert_eq!((merged.counts(), merged.values()), (whole.counts(), whole.values()));
        assert!((merged.mean().unwrap() - whole.mean().unwrap()).abs() < 1e-12);
        assert!((merged.deviation().unwrap() - whole.deviation().unwrap()).abs() < 1e-12);
        assert!((merged.effective() - whole.effective()).abs() < 5.0);
    }

    #[test]
    fn many_values_at_once_make_the_profile_that_they_make_one_by_one() {
        let values = uniform(1, 1_000, 0.0);
        let edges = Edges::of(&values, 50).unwrap();
        let mut mixed: Vec<f64> = uniform(2, 500, 0.3);
        (mixed[7], mixed[70], mixed[300], mixed[301]) =
            (f64::NAN, f64::INFINITY, f64::NAN, f64::NEG_INFINITY);
        let whole = profile(&edges, &mixed);
        let mut single = NumberProfile::new(edges);
        mixed.iter().for_each(|value| single.observe(&[*value]));
        assert_eq!((whole.counts(), whole.lag, whole.range()), (single.counts(), single.lag, single.range()));
        assert_eq!((whole.nans, whole.infinities, whole.values()), (2, 2, 498));
        assert!((whole.mean().unwrap() - single.mean().unwrap()).abs() < 1e-12);
        assert!((whole.deviation().unwrap() - single.deviation().unwrap()).abs() < 1e-12);
    }

    #[test]
    fn moments_of_constants_are_exact_and_those_of_the_greatest_numbers_are_finite() {
        let edges = Edges::of(&[0.1, f64::MAX], 2).unwrap();
        let constant = profile(&edges, &[0.1; 100]);
        assert_eq!((constant.mean(), constant.deviation()), (Some(0.1), Some(0.0)));
        let mut greatest = profile(&edges, &[f64::MAX; 100]);
        greatest.merge(&profile(&edges, &[f64::MAX; 10])).unwrap();
        assert_eq!((greatest.mean(), greatest.deviation()), (Some(f64::MAX), Some(0.0)));
    }

    #[test]
    fn values_that_follow_each_other_are_worth_less() {
        let slow: Vec<f64> = (0..1_000).map(|row| f64::from(row / 20)).collect();
        let edges = Edges::of(&slow, 50).unwrap();
        assert!(profile(&edges, &slow).effective() < 50.0);
        let values = uniform(1, 1_000, 0.0);
        assert!(profile(&Edges::of(&values, 50).unwrap(), &values).effective() > 900.0);
    }

    #[test]
    fn a_profile_fits_its_bound() {
        let values = uniform(1, 100_000, 0.0);
        let edges = Edges::of(&values, 10_000).unwrap();
        assert_eq!(edges.bins(), MOST_BINS);
        let bytes = serde_json::to_vec(&profile(&edges, &values)).unwrap().len();
        assert!(bytes < 32 << 10, "{bytes}");
    }

    #[test]
    fn ends_of_the_number_line_have_bins() {
        let edges = Edges::of(&[f64::MIN, f64::MAX, -0.0], 3).unwrap();
        let profile = profile(&edges, &[f64::MIN, 0.0, -0.0, f64::MAX]);
        assert_eq!(profile.values(), 4);
        assert_eq!(profile.counts().iter().sum::<u64>(), 4);
        assert!(Edges::of(&[f64::NAN], 3).is_err() && Edges::of(&[f64::INFINITY], 3).is_err());
        let edges = |count: u32| Edges::try_from((0..count).map(f64::from).collect::<Vec<_>>());
        assert!(edges(511).is_ok() && edges(512).is_err());
    }

    #[test]
    fn quantiles_are_those_of_the_values_to_the_width_of_a_bin() {
        let values = uniform(1, 10_000, 0.0);
        let profile = profile(&Edges::of(&values, 200).unwrap(), &values);
        for q in [0.01, 0.5, 0.9] {
            assert!((profile.quantile(q).unwrap() - q).abs() < 0.02, "{q}");
        }
    }
}
