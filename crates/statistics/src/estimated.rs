//! How well a model does where no outcome is known yet, if its probabilities mean what they say.
//!
//! Each row counts as an event with its probability: what is computed is the expectation of the metric's parts. The
//! probabilities must be calibrated; where they are not, the estimate is wrong by as much. Blind to a change of
//! P(outcome | inputs): later, when labels come, compare.

use crate::{Error, Generator, Interval, check};

/// A metric estimated without outcomes.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Estimate {
    /// The expected value.
    pub value: f64,
    /// Where 95 % of outcomes would put the metric, were the probabilities true.
    pub band: Interval,
}

/// A metric that can be expected from probabilities.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// The area under the ROC curve.
    Auc,
    /// The share of rows on the right side of this threshold.
    Accuracy(f64),
    /// The mean squared error of the probabilities.
    Brier,
    /// The mean negative log-likelihood, in nats.
    LogLoss,
}

/// Draws of outcomes behind a band.
const DRAWS: usize = 200;

/// Confidence-based performance estimation (CBPE) of a metric, by weight 1 for every row.
///
/// ```
/// use statistics::{Generator, estimated::{Metric, estimate}};
/// let p = [0.9, 0.8, 0.2, 0.1];
/// let found = estimate(Metric::Accuracy(0.5), &p, None, &mut Generator::from_seed(1)).unwrap();
/// assert!((found.value - 0.85).abs() < 1e-12); // mean of p above and 1 − p below the threshold
/// ```
///
/// With weights wᵢ — the density ratio of the rows to be judged over the rows at hand — the same on another mix of rows
/// (PAPE's importance weighting).
/// # Errors
/// [`Error::TooFew`] without a row; [`Error::OutOfDomain`] for probabilities outside [0, 1] and weights that are negative or
/// not finite; [`Error::LengthMismatch`]; [`Error::Undefined`] if the AUC has no expectation (all 0 or all 1).
/// # Source
/// Garcia, Bieńkowski et al. (NannyML), "Estimating model performance under covariate shift without labels" (2024).
pub fn estimate(
    metric: Metric,
    probabilities: &[f64],
    weights: Option<&[f64]>,
    generator: &mut Generator,
) -> Result<Estimate, Error> {
    check::at_least(1, probabilities.len(), "rows")?;
    check::all(probabilities, "probabilities", "in [0, 1]", |p| (0.0..=1.0).contains(&p))?;
    let even;
    let weights = match weights {
        Some(weights) => weights,
        None => {
            even = vec![1.0; probabilities.len()];
            &even
        }
    };
    check::same_length(probabilities.len(), weights.len())?;
    check::all(weights, "weights", "at least 0 and finite", |w| w >= 0.0 && w.is_finite())?;
    let order = descending(probabilities);
    let of = |chance: &dyn Fn(usize) -> f64| expectation(metric, probabilities, weights, &order, chance);
    let value = of(&|row| probabilities[row]).ok_or(Error::Undefined { what: "the metric" })?;
    let mut drawn: Vec<f64> = (0..DRAWS)
        .filter_map(|_| {
            let outcomes: Vec<f64> =
                probabilities.iter().map(|&p| f64::from(u8::from(generator.uniform() < p))).collect();
            of(&|row| outcomes[row])
        })
        .collect();
    drawn.sort_unstable_by(f64::total_cmp);
    let band = match drawn.is_empty() {
        true => Interval { low: value, high: value },
        false => Interval {
            low: crate::resampling::quantile_of_sorted(&drawn, 0.025).min(value),
            high: crate::resampling::quantile_of_sorted(&drawn, 0.975).max(value),
        },
    };
    Ok(Estimate { value, band })
}

/// The value of [`estimate`] alone, without the draws behind its band.
///
/// # Errors
/// As [`estimate`].
pub fn expected(metric: Metric, probabilities: &[f64]) -> Result<f64, Error> {
    check::at_least(1, probabilities.len(), "rows")?;
    check::all(probabilities, "probabilities", "in [0, 1]", |p| (0.0..=1.0).contains(&p))?;
    let (even, order) = (vec![1.0; probabilities.len()], descending(probabilities));
    expectation(metric, probabilities, &even, &order, &|row| probabilities[row])
        .ok_or(Error::Undefined { what: "the metric" })
}

fn descending(probabilities: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
    order
}

/// The metric if row i is an event with chance `chance(i)`; `None` if it has no value.
fn expectation(
    metric: Metric,
    p: &[f64],
    weights: &[f64],
    order: &[usize],
    chance: &dyn Fn(usize) -> f64,
) -> Option<f64> {
    let mean = |score: &dyn Fn(usize, f64) -> f64| {
        let total: f64 = weights.iter().sum();
        let sum: f64 = (0..p.len()).map(|row| weights[row] * score(row, chance(row))).sum();
        (total > 0.0).then(|| sum / total)
    };
    match metric {
        Metric::Auc => area(p, weights, order, chance),
        Metric::Accuracy(threshold) => {
            mean(&|row, event| if p[row] >= threshold { event } else { 1.0 - event })
        }
        Metric::Brier => mean(&|row, event| event * (1.0 - p[row]).powi(2) + (1.0 - event) * p[row].powi(2)),
        Metric::LogLoss => mean(&|row, event| {
            let clipped = p[row].clamp(f64::EPSILON, 1.0 - f64::EPSILON);
            -(event * clipped.ln() + (1.0 - event) * (1.0 - clipped).ln())
        }),
    }
}

/// Σ over pairs of an event above a non-event, ties counting ½, over all pairs; each row is part event, part non-event.
fn area(p: &[f64], weights: &[f64], order: &[usize], chance: &dyn Fn(usize) -> f64) -> Option<f64> {
    let (mut events, mut others, mut pairs) = (0.0, 0.0, 0.0);
    for tie in order.chunk_by(|&a, &b| p[a] == p[b]) {
        let up: f64 = tie.iter().map(|&row| weights[row] * chance(row)).sum();
        let down: f64 = tie.iter().map(|&row| weights[row] * (1.0 - chance(row))).sum();
        pairs += down * (events + up / 2.0);
        events += up;
        others += down;
    }
    (events > 0.0 && others > 0.0).then(|| pairs / (events * others))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ranking::auc;

    #[test]
    fn the_estimate_is_what_true_probabilities_turn_out_to_give() {
        let mut generator = Generator::from_seed(5);
        let p: Vec<f64> = (0..4_000).map(|_| generator.uniform()).collect();
        let found = estimate(Metric::Auc, &p, None, &mut generator).unwrap();
        assert_eq!(expected(Metric::Auc, &p).unwrap(), found.value);
        let inside = (0..200)
            .filter(|_| {
                let labels: Vec<bool> = p.iter().map(|&p| generator.uniform() < p).collect();
                found.band.contains(auc(&p, &labels).unwrap().value)
            })
            .count();
        assert!((180..=200).contains(&inside), "{inside} of 200 within {found:?}");
    }

    #[test]
    fn weights_move_the_estimate_to_the_rows_they_stand_for() {
        let mut generator = Generator::from_seed(5);
        let p = [0.9, 0.5];
        let heavy = estimate(Metric::Accuracy(0.5), &p, Some(&[3.0, 1.0]), &mut generator).unwrap();
        assert!((heavy.value - (3.0 * 0.9 + 0.5) / 4.0).abs() < 1e-12);
    }

    #[test]
    fn certainty_has_no_ranking() {
        let mut generator = Generator::from_seed(5);
        let refusal = estimate(Metric::Auc, &[1.0, 1.0], None, &mut generator).unwrap_err();
        assert_eq!(refusal, Error::Undefined { what: "the metric" });
    }
}
