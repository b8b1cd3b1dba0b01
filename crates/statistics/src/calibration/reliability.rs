//! The reliability diagram and the expected calibration error over its bins.

use crate::{Error, Generator, Interval, check, wilson};

/// How forecasts are grouped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Binning {
    /// So many bins of equal width over [0, 1]. A forecast on an inner edge goes up, 1 into the last bin:
    /// bin = min(⌊p·n⌋, n−1).
    EqualWidth(usize),
    /// So many bins of about equally many rows. Equal forecasts stay together, in the bin of their middle
    /// rank, so the order of the rows does not matter.
    EqualMass(usize),
}

impl Binning {
    /// The bin of each forecast.
    fn assign(self, probabilities: &[f64]) -> Result<Vec<usize>, Error> {
        match self {
            Self::EqualWidth(bins) => {
                check::at_least(1, bins, "bins")?;
                let bin = |p: &f64| ((p * bins as f64) as usize).min(bins - 1);
                Ok(probabilities.iter().map(bin).collect())
            }
            Self::EqualMass(bins) => {
                check::at_least(1, bins, "bins")?;
                Ok(by_rank(probabilities, bins))
            }
        }
    }

    fn len(self) -> usize {
        match self {
            Self::EqualWidth(bins) | Self::EqualMass(bins) => bins,
        }
    }
}

fn by_rank(probabilities: &[f64], bins: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    order.sort_unstable_by(|&a, &b| probabilities[a].total_cmp(&probabilities[b]));
    let mut assigned = vec![0; probabilities.len()];
    let mut before = 0;
    for tie in order.chunk_by(|&a, &b| probabilities[a] == probabilities[b]) {
        // (before + (len − 1)/2)·bins/n in whole numbers.
        let bin = (2 * before + tie.len() - 1) * bins / (2 * probabilities.len());
        tie.iter().for_each(|&row| assigned[row] = bin);
        before += tie.len();
    }
    assigned
}

/// One non-empty bin of the reliability diagram.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Bin {
    /// The least forecast in the bin.
    pub lowest: f64,
    /// The greatest forecast in the bin.
    pub highest: f64,
    /// The number of rows.
    pub count: usize,
    /// The mean forecast.
    pub forecast: f64,
    /// The share of events.
    pub rate: f64,
    /// Wilson's 95 % interval of the share.
    pub band: Interval,
}

/// The non-empty bins of the reliability diagram, from the lowest forecast up.
///
/// ```
/// use statistics::calibration::{Binning, reliability};
/// let bins = reliability(&[0.1, 0.3, 0.9], &[false, true, true], Binning::EqualWidth(2)).unwrap();
/// assert_eq!((bins[0].count, bins[0].rate, bins[0].forecast), (2, 0.5, 0.2));
/// assert_eq!((bins[1].count, bins[1].rate), (1, 1.0));
/// ```
/// # Errors
/// [`Error::TooFew`] without a bin, and those of [`crate::scoring::log_loss`].
/// # Source
/// Bröcker & Smith (2007), "Increasing the reliability of reliability diagrams".
pub fn reliability(probabilities: &[f64], labels: &[bool], binning: Binning) -> Result<Vec<Bin>, Error> {
    check::forecasts(probabilities, labels)?;
    let mut rows = vec![Vec::new(); binning.len()];
    for (row, bin) in binning.assign(probabilities)?.into_iter().enumerate() {
        rows[bin].push(row);
    }
    rows.iter().filter(|rows| !rows.is_empty()).map(|rows| bin(probabilities, labels, rows)).collect()
}

fn bin(probabilities: &[f64], labels: &[bool], rows: &[usize]) -> Result<Bin, Error> {
    let forecasts = rows.iter().map(|&row| probabilities[row]);
    let events = rows.iter().filter(|&&row| labels[row]).count() as f64;
    let count = rows.len() as f64;
    Ok(Bin {
        lowest: forecasts.clone().fold(f64::INFINITY, f64::min),
        highest: forecasts.clone().fold(f64::NEG_INFINITY, f64::max),
        count: rows.len(),
        forecast: forecasts.sum::<f64>() / count,
        rate: events / count,
        band: wilson(events, count)?,
    })
}

/// Expected calibration error: Σ_b n_b/n · |share of events − mean forecast| over the bins.
///
/// Positive even when perfectly calibrated: read it beside [`ece_null_band`].
/// ```
/// use statistics::calibration::{Binning, ece};
/// let error = ece(&[0.2, 0.2, 0.9], &[false, true, true], Binning::EqualWidth(10)).unwrap();
/// assert!((error - (2.0 * 0.3 + 0.1) / 3.0).abs() < 1e-15);
/// ```
/// # Errors
/// As [`reliability`].
/// # Source
/// Naeini, Cooper & Hauskrecht (2015), "Obtaining well calibrated probabilities using Bayesian binning".
pub fn ece(probabilities: &[f64], labels: &[bool], binning: Binning) -> Result<f64, Error> {
    check::forecasts(probabilities, labels)?;
    let bins = binning.assign(probabilities)?;
    Ok(weighted_gap(probabilities, &bins, binning.len(), |row| labels[row]))
}

/// Average calibration error: the mean over non-empty bins of |share of events − mean forecast|, each bin counting the same.
///
/// With [`Binning::EqualWidth`] it is netcal's; the literature's has bins of equal mass: name the binning beside the number.
/// ```
/// use statistics::calibration::{Binning, ace};
/// let error = ace(&[0.2, 0.2, 0.9], &[false, true, true], Binning::EqualWidth(10)).unwrap();
/// assert!((error - 0.2).abs() < 1e-15); // (0.3 + 0.1) / 2
/// ```
/// # Errors
/// As [`reliability`].
/// # Source
/// Neumann, Zisserman & Vedaldi (2018), "Relaxed softmax".
pub fn ace(probabilities: &[f64], labels: &[bool], binning: Binning) -> Result<f64, Error> {
    let bins = reliability(probabilities, labels, binning)?;
    Ok(bins.iter().map(|bin| (bin.rate - bin.forecast).abs()).sum::<f64>() / bins.len() as f64)
}

/// Maximum calibration error: the greatest gap of a bin. A bin of one row decides it: read the counts too.
///
/// ```
/// use statistics::calibration::{Binning, mce};
/// let error = mce(&[0.2, 0.2, 0.9], &[false, true, true], Binning::EqualWidth(10)).unwrap();
/// assert!((error - 0.3).abs() < 1e-15);
/// ```
/// # Errors
/// As [`reliability`].
/// # Source
/// Naeini, Cooper & Hauskrecht (2015).
pub fn mce(probabilities: &[f64], labels: &[bool], binning: Binning) -> Result<f64, Error> {
    let bins = reliability(probabilities, labels, binning)?;
    Ok(bins.iter().map(|bin| (bin.rate - bin.forecast).abs()).fold(0.0, f64::max))
}

/// Σ_b |Σ_{i∈b} (yᵢ − pᵢ)| / n.
fn weighted_gap(p: &[f64], bins: &[usize], len: usize, mut event: impl FnMut(usize) -> bool) -> f64 {
    let mut gaps = vec![0.0; len];
    for (row, &bin) in bins.iter().enumerate() {
        gaps[bin] += f64::from(u8::from(event(row))) - p[row];
    }
    gaps.iter().map(|gap: &f64| gap.abs()).sum::<f64>() / p.len() as f64
}

/// What the expected calibration error of these forecasts would be, were they perfectly calibrated.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct NullBand {
    /// The mean under calibration: the bias of the measure.
    pub mean: f64,
    /// The 95 % quantile: an error above it speaks against calibration at the 5 % level.
    pub limit: f64,
}

/// Simulates yᵢ ~ Bernoulli(pᵢ) `repetitions` times and takes the error of each.
///
/// ```
/// use statistics::{Generator, calibration::{Binning, ece_null_band}};
/// // One forecast of ½: the error is ½ whatever happens.
/// let band = ece_null_band(&[0.5], Binning::EqualWidth(10), 200, &mut Generator::from_seed(1)).unwrap();
/// assert_eq!((band.mean, band.limit), (0.5, 0.5));
/// ```
/// # Errors
/// [`Error::TooFew`] with fewer than 20 repetitions, and as [`reliability`].
/// # Source
/// Bröcker & Smith (2007): consistency resampling.
pub fn ece_null_band(
    probabilities: &[f64],
    binning: Binning,
    repetitions: usize,
    generator: &mut Generator,
) -> Result<NullBand, Error> {
    check::at_least(1, probabilities.len(), "rows")?;
    check::all(probabilities, "probabilities", "in [0, 1]", |p| (0.0..=1.0).contains(&p))?;
    check::at_least(20, repetitions, "repetitions")?;
    let bins = binning.assign(probabilities)?;
    let mut draw =
        || weighted_gap(probabilities, &bins, binning.len(), |row| generator.uniform() < probabilities[row]);
    let mut errors: Vec<f64> = (0..repetitions).map(|_| draw()).collect();
    errors.sort_unstable_by(f64::total_cmp);
    let mean = errors.iter().sum::<f64>() / repetitions as f64;
    Ok(NullBand { mean, limit: crate::resampling::quantile_of_sorted(&errors, 0.95) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_forecasts_share_a_bin_of_equal_mass() {
        assert_eq!(by_rank(&[0.1, 0.2, 0.2, 0.2, 0.9, 0.95], 3), [0, 1, 1, 1, 2, 2]);
        assert_eq!(by_rank(&[0.5; 4], 4), [1; 4]);
    }

    #[test]
    fn a_calibrated_forecast_exceeds_its_null_band_about_one_time_in_twenty() {
        let mut generator = Generator::from_seed(3);
        let p: Vec<f64> = (0..500).map(|_| generator.uniform()).collect();
        let band = ece_null_band(&p, Binning::EqualWidth(15), 400, &mut generator).unwrap();
        let exceeded = (0..1000)
            .filter(|_| {
                let y: Vec<bool> = p.iter().map(|&p| generator.uniform() < p).collect();
                ece(&p, &y, Binning::EqualWidth(15)).unwrap() > band.limit
            })
            .count();
        assert!((20..=90).contains(&exceeded), "{exceeded} of 1000");
    }
}
