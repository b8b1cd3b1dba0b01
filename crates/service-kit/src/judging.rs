//! Judging a model's probabilities: the same scores wherever a model was trained, over a whole window and by month.

use std::collections::BTreeMap;

use chrono::DateTime;
use domain::evaluation::{Interval, ReliabilityBin, Scores};
use statistics::calibration::{Binning, ece, ece_null_band, reliability, slope_and_intercept};
use statistics::ranking::{auc, average_precision};
use statistics::scoring::{brier, log_loss};
use statistics::{Error, Generator};

/// Bins of every expected calibration error that we report.
const BINS: usize = 15;
/// The fewest rows that make a month worth scoring.
const MONTH_ROWS: usize = 100;
/// Repetitions behind a null band.
const REPETITIONS: usize = 200;

/// Scores of probabilities against outcomes.
///
/// # Errors
/// [`Error`] without a row, or if a probability is none.
pub fn scores(probabilities: &[f64], labels: &[bool]) -> Result<Scores, Error> {
    let ranked = auc(probabilities, labels).ok();
    let line = slope_and_intercept(probabilities, labels).ok();
    let mut generator = Generator::from_seed(labels.len() as u64);
    let binning = Binning::EqualWidth(BINS);
    let positives = labels.iter().filter(|label| **label).count();
    Ok(Scores {
        rows: labels.len() as u64,
        base_rate: positives as f64 / labels.len().max(1) as f64,
        auc: ranked.map(|auc| Interval { value: auc.value, low: auc.interval.low, high: auc.interval.high }),
        average_precision: average_precision(probabilities, labels).ok(),
        log_loss: log_loss(probabilities, labels)?,
        brier: brier(probabilities, labels)?,
        ece: ece(probabilities, labels, binning)?,
        ece_null_high: ece_null_band(probabilities, binning, REPETITIONS, &mut generator)?.limit,
        slope: line.as_ref().map(|line| line.slope.value),
        intercept: line.as_ref().map(|line| line.intercept.value),
    })
}

/// Scores by calendar month of the cutoff (UTC). A month with fewer than [`MONTH_ROWS`] rows says nothing and is left out.
///
/// # Errors
/// [`Error`] if a probability is none.
pub fn by_month(
    probabilities: &[f64],
    labels: &[bool],
    cutoffs: &[i64],
) -> Result<BTreeMap<String, Scores>, Error> {
    let mut months: BTreeMap<String, (Vec<f64>, Vec<bool>)> = BTreeMap::new();
    for (row, cutoff) in cutoffs.iter().enumerate() {
        let month = DateTime::from_timestamp_micros(*cutoff).unwrap_or_default().format("%Y-%m").to_string();
        let (p, y) = months.entry(month).or_default();
        p.push(probabilities[row]);
        y.push(labels[row]);
    }
    let worth_scoring = months.into_iter().filter(|(_, (p, _))| p.len() >= MONTH_ROWS);
    worth_scoring.map(|(month, (p, y))| Ok((month, scores(&p, &y)?))).collect()
}

/// The reliability diagram.
///
/// # Errors
/// [`Error`] without a row, or if a probability is none.
pub fn diagram(probabilities: &[f64], labels: &[bool]) -> Result<Vec<ReliabilityBin>, Error> {
    let bins = reliability(probabilities, labels, Binning::EqualWidth(BINS))?;
    Ok(bins
        .into_iter()
        .map(|bin| ReliabilityBin {
            predicted: bin.forecast,
            observed: Interval { value: bin.rate, low: bin.band.low, high: bin.band.high },
            rows: bin.count as u64,
        })
        .collect())
}
