//! How well scores order the events before the non-events. Any increasing map of the scores leaves these alone.

use crate::interval::two_sided_z;
use crate::{Error, Interval, check, wilson};

/// The area under the ROC curve with its uncertainty.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Auc {
    /// P(score of an event > score of a non-event), ties counting ½.
    pub value: f64,
    /// DeLong's standard error; `None` with fewer than two labels of a class.
    pub standard_error: Option<f64>,
    /// The 95 % interval; [0, 1] where there is no standard error.
    pub interval: Interval,
    /// The number of events.
    pub positives: usize,
    /// The number of non-events.
    pub negatives: usize,
}

/// The events and non-events that share one score.
#[derive(Clone, Copy)]
struct Tie {
    positives: f64,
    negatives: f64,
}

/// AUC = 1/(mn)·Σᵢⱼ [xᵢ > yⱼ] + ½[xᵢ = yⱼ] over m events x and n non-events y; O(N log N).
///
/// Var = S₁₀/m + S₀₁/n, the sample variances of each event's share of non-events below it, and of each
/// non-event's share of events above it. The interval is AUC ± 1.96·SE cut at 0 and 1; under perfect
/// separation, where SE is 0 for want of evidence, it is Wilson's with min(m, n) trials.
/// ```
/// let auc = statistics::ranking::auc(&[0.1, 0.4, 0.35, 0.8], &[false, false, true, true]).unwrap();
/// assert_eq!(auc.value, 0.75); // 3 of the 4 pairs are in order
/// ```
/// # Errors
/// [`Error::LengthMismatch`]; [`Error::OutOfDomain`] for NaN; [`Error::OneClass`]; [`Error::TooFew`] if empty.
/// # Source
/// DeLong, DeLong & Clarke-Pearson (1988), "Comparing the areas under two or more correlated ROC curves".
pub fn auc(scores: &[f64], labels: &[bool]) -> Result<Auc, Error> {
    let order = ascending(scores, labels)?;
    let (positives, negatives) = check::both_classes(labels)?;
    let ties = ties(scores, labels, &order);
    let (m, n) = (positives as f64, negatives as f64);
    let value = area(&ties, m, n);
    let standard_error = (positives > 1 && negatives > 1).then(|| delong(&ties, value, m, n).sqrt());
    let interval = match standard_error {
        None => Interval { low: 0.0, high: 1.0 },
        Some(0.0) => wilson(value * m.min(n), m.min(n))?,
        Some(error) => Interval::around_share(value, error, two_sided_z(0.95)?),
    };
    Ok(Auc { value, standard_error, interval, positives, negatives })
}

/// The AUC as a function of how often each row counts; sorts once, then each call is O(n).
///
/// `None` while one class has no counted row, or for counts of another number of rows. Give it to [`crate::resampling`].
/// ```
/// let auc = statistics::ranking::auc_by_counts(&[0.1, 0.3, 0.2], &[false, false, true]).unwrap();
/// assert_eq!(auc(&[1, 1, 1]), Some(0.5));
/// assert_eq!(auc(&[3, 1, 1]), Some(0.75));
/// assert_eq!(auc(&[1, 1, 0]), None);
/// ```
/// # Errors
/// As [`auc`].
pub fn auc_by_counts(
    scores: &[f64],
    labels: &[bool],
) -> Result<impl Fn(&[u32]) -> Option<f64> + Send + Sync + use<>, Error> {
    let order = ascending(scores, labels)?;
    check::both_classes(labels)?;
    // Rows in score order: where each came from, its label, and whether it opens a new score.
    let sorted: Vec<(usize, bool, bool)> = (0..order.len())
        .map(|k| (order[k], labels[order[k]], k == 0 || scores[order[k]] != scores[order[k - 1]]))
        .collect();
    Ok(move |counts: &[u32]| {
        if counts.len() != sorted.len() {
            return None;
        }
        let (mut area, mut below, mut above) = (0.0, 0.0, 0.0);
        let mut tie = Tie { positives: 0.0, negatives: 0.0 };
        for &(row, label, opens) in &sorted {
            if opens {
                area += tie.positives * (below + tie.negatives / 2.0);
                below += tie.negatives;
                above += tie.positives;
                tie = Tie { positives: 0.0, negatives: 0.0 };
            }
            let weight = f64::from(counts[row]);
            *(if label { &mut tie.positives } else { &mut tie.negatives }) += weight;
        }
        area += tie.positives * (below + tie.negatives / 2.0);
        let pairs = (below + tie.negatives) * (above + tie.positives);
        (pairs > 0.0).then(|| area / pairs)
    })
}

/// Σₖ (Rₖ − Rₖ₋₁)·Pₖ over the distinct scores from the highest down, with recall R and precision P.
///
/// ```
/// let ap = statistics::ranking::average_precision(&[0.9, 0.8, 0.7], &[true, false, true]).unwrap();
/// assert!((ap - (0.5 * 1.0 + 0.5 * 2.0 / 3.0)).abs() < 1e-15);
/// ```
/// # Errors
/// As [`auc`], but only the events must be present: [`Error::OneClass`] if there is none.
/// # Source
/// Without interpolation, as scikit-learn; Davis & Goadrich (2006) say why not to interpolate.
pub fn average_precision(scores: &[f64], labels: &[bool]) -> Result<f64, Error> {
    let order = ascending(scores, labels)?;
    let positives = labels.iter().filter(|&&label| label).count() as f64;
    if positives == 0.0 {
        return Err(Error::OneClass);
    }
    let (mut found, mut seen, mut sum) = (0.0, 0.0, 0.0);
    for tie in ties(scores, labels, &order).iter().rev() {
        found += tie.positives;
        seen += tie.positives + tie.negatives;
        sum += tie.positives / positives * (found / seen);
    }
    Ok(sum)
}

fn ascending(scores: &[f64], labels: &[bool]) -> Result<Vec<usize>, Error> {
    check::same_length(scores.len(), labels.len())?;
    check::at_least(1, scores.len(), "rows")?;
    check::no_nan(scores, "scores")?;
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_unstable_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    Ok(order)
}

fn ties(scores: &[f64], labels: &[bool], order: &[usize]) -> Vec<Tie> {
    order
        .chunk_by(|&a, &b| scores[a] == scores[b])
        .map(|rows| {
            rows.iter().fold(Tie { positives: 0.0, negatives: 0.0 }, |mut tie, &row| {
                *(if labels[row] { &mut tie.positives } else { &mut tie.negatives }) += 1.0;
                tie
            })
        })
        .collect()
}

fn area(ties: &[Tie], m: f64, n: f64) -> f64 {
    let mut below = 0.0;
    let pairs = ties.iter().map(|tie| {
        let pairs = tie.positives * (below + tie.negatives / 2.0);
        below += tie.negatives;
        pairs
    });
    pairs.sum::<f64>() / (m * n)
}

/// DeLong's variance of the area.
fn delong(ties: &[Tie], value: f64, m: f64, n: f64) -> f64 {
    let (mut below, mut above) = (0.0, m);
    let (mut events, mut others) = (0.0, 0.0);
    for tie in ties {
        above -= tie.positives;
        events += tie.positives * ((below + tie.negatives / 2.0) / n - value).powi(2);
        others += tie.negatives * ((above + tie.positives / 2.0) / m - value).powi(2);
        below += tie.negatives;
    }
    events / ((m - 1.0) * m) + others / ((n - 1.0) * n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delong_error_is_that_of_the_definition() {
        let (scores, labels) = ([1.0, 2.0, 3.0, 2.0, 3.0, 5.0], [false, false, false, true, true, true]);
        let found = auc(&scores, &labels).unwrap();
        // Placements: events 0.5, 2.5/3… written out by hand over the nine pairs.
        let v10 = [1.5 / 3.0, 2.5 / 3.0, 1.0];
        let v01 = [1.0, 2.5 / 3.0, 1.5 / 3.0];
        let mean = v10.iter().sum::<f64>() / 3.0;
        let spread = |v: [f64; 3]| v.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 2.0;
        assert!((found.value - mean).abs() < 1e-15);
        assert!((found.standard_error.unwrap() - ((spread(v10) + spread(v01)) / 3.0).sqrt()).abs() < 1e-15);
    }

    #[test]
    fn perfect_separation_of_few_rows_is_not_certainty() {
        let found = auc(&[0.1, 0.2, 0.8, 0.9], &[false, false, true, true]).unwrap();
        assert_eq!((found.value, found.standard_error), (1.0, Some(0.0)));
        assert!(found.interval.low < 0.5 && found.interval.high == 1.0);
    }

    #[test]
    fn infinite_scores_and_signed_zeros_only_order() {
        let found = auc(&[f64::NEG_INFINITY, -0.0, 0.0, f64::INFINITY], &[false, false, true, true]).unwrap();
        assert_eq!(found.value, 0.875);
        assert_eq!(
            auc(&[f64::NAN], &[true]).unwrap_err().to_string(),
            "scores must be a number, but one is NaN"
        );
        assert_eq!(auc(&[0.1, 0.2], &[true, true]).unwrap_err(), Error::OneClass);
    }
}
