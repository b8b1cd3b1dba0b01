//! How well a model does where no outcome is known yet, if its probabilities mean what they say.
//!
//! Each row counts as an event with its probability: what is computed is the expectation of the metric's parts. The
//! probabilities must be calibrated; where they are not, the estimate is wrong by as much. Blind to a change of
//! P(outcome | inputs): later, when labels come, compare.

use crate::calibrators::{logit, sigmoid};
use crate::ridge::{Design, fit};
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
    Ok(Estimate { value, band: band_of(&mut drawn, value) })
}

/// Where 95 % of draws lie, and the value.
fn band_of(drawn: &mut [f64], value: f64) -> Interval {
    drawn.sort_unstable_by(f64::total_cmp);
    match drawn.is_empty() {
        true => Interval { low: value, high: value },
        false => Interval {
            low: crate::resampling::quantile_of_sorted(drawn, 0.025).min(value),
            high: crate::resampling::quantile_of_sorted(drawn, 0.975).max(value),
        },
    }
}

/// Rows whose outcomes are known, each with the density ratio of the rows to be judged: see [`crate::shift::density_ratio`].
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// What was said of each.
    pub probabilities: &'a [f64],
    /// What came true.
    pub outcomes: &'a [bool],
    /// How much commoner rows like it are among those to be judged.
    pub weights: &'a [f64],
}

/// Draws of known rows behind the band of an estimate under shift: each is a regression.
const REDRAWS: usize = 50;

/// Confidence-based estimation where the mix of rows has moved: what probabilities are worth is learned anew from known rows,
/// each counting as much as rows like it do now, and the metric of `probabilities` is what that lets expect.
///
/// Probabilities can be true of all rows together and false of each kind of them; once one kind has become common, [`estimate`]
/// is off by what they are false. The map from what is said to what comes true is Platt's, logit q = a·logit p + b, weighted: on
/// the few rows that weights can leave, a map without a form would find an order in noise. Its uncertainty is in the band: each draw
/// learns it from known rows drawn anew. Blind to a change of P(outcome | inputs), as every estimate without outcomes.
///
/// ```
/// use statistics::{Generator, estimated::{Known, Metric, estimate_under_shift}};
/// // of what is called 0.5 half comes true, but of the kind of rows that there are now (of weight 2) nine in ten
/// let outcomes: Vec<bool> = (0..2_000).map(|row| if row < 1_000 { row % 10 > 0 } else { row % 10 == 0 }).collect();
/// let weights: Vec<f64> = (0..2_000).map(|row| if row < 1_000 { 2.0 } else { 0.0 }).collect();
/// let known = Known { probabilities: &[0.5; 2_000], outcomes: &outcomes, weights: &weights };
/// let found = estimate_under_shift(Metric::Accuracy(0.5), known, &[0.5], &mut Generator::from_seed(1)).unwrap();
/// assert!((found.value - 0.9).abs() < 1e-6);
/// ```
/// # Errors
/// [`Error::TooFew`] with less than two known rows or without one to be judged; [`Error::LengthMismatch`];
/// [`Error::OutOfDomain`] for probabilities outside [0, 1] and weights that are negative or not finite; [`Error::Undefined`]
/// if all weights are 0, or the AUC has no expectation.
/// # Source
/// Białek, Kuberski, Perrakis & Bifet (NannyML), "Estimating model performance under covariate shift without labels" (2024),
/// whose PAPE weights a calibrator the same.
pub fn estimate_under_shift(
    metric: Metric,
    known: Known<'_>,
    probabilities: &[f64],
    generator: &mut Generator,
) -> Result<Estimate, Error> {
    check::forecasts(known.probabilities, known.outcomes)?;
    check::same_length(known.outcomes.len(), known.weights.len())?;
    check::all(known.weights, "weights", "at least 0 and finite", |w| w >= 0.0 && w.is_finite())?;
    check::at_least(1, probabilities.len(), "rows")?;
    check::all(probabilities, "probabilities", "in [0, 1]", |p| (0.0..=1.0).contains(&p))?;
    if known.weights.iter().all(|weight| *weight == 0.0) {
        return Err(Error::Undefined { what: "the map from what is said to what comes true" });
    }
    let said: Vec<f64> = known.probabilities.iter().map(|p| logit(*p)).collect();
    let rows = Design { numbers: &said, dense: 1, ones: &[], hot: 0, levels: 0, rows: said.len() };
    let targets: Vec<f64> = known.outcomes.iter().map(|outcome| f64::from(u8::from(*outcome))).collect();
    let now: Vec<f64> = probabilities.iter().map(|p| logit(*p)).collect();
    let chances = |weights: &[f64]| -> Result<Vec<f64>, Error> {
        let map = fit(&rows, &targets, weights, FIRM)?;
        Ok(now.iter().map(|said| sigmoid(map[0] * said + map[1])).collect())
    };
    let (even, order) = (vec![1.0; probabilities.len()], descending(probabilities));
    let of = |chances: &[f64]| expectation(metric, probabilities, &even, &order, &|row| chances[row]);
    let value = of(&chances(known.weights)?).ok_or(Error::Undefined { what: "the metric" })?;
    let mut drawn = Vec::with_capacity(REDRAWS * 4);
    for _ in 0..REDRAWS {
        let mut weights = vec![0.0; said.len()];
        for _ in 0..said.len() {
            let row = generator.below(said.len());
            weights[row] += known.weights[row];
        }
        let chances = chances(&weights)?;
        for _ in 0..DRAWS / REDRAWS {
            let outcomes: Vec<f64> =
                chances.iter().map(|&p| f64::from(u8::from(generator.uniform() < p))).collect();
            drawn.extend(of(&outcomes));
        }
    }
    Ok(Estimate { value, band: band_of(&mut drawn, value) })
}

/// So little is the slope of a map held back: it only keeps a slope finite where outcomes are separated.
const FIRM: f64 = 1e-6;

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

    /// Rows of two kinds, a share of them of the second: all are told apart by `score`, of which half is so of the first kind and nothing of the second.
    fn two_kinds(
        generator: &mut Generator,
        rows: usize,
        second: f64,
    ) -> (Vec<Vec<u16>>, Vec<f64>, Vec<bool>) {
        let mut all = (vec![], vec![], vec![]);
        for _ in 0..rows {
            let is_second = generator.uniform() < second;
            let p = 0.1 + 0.8 * generator.uniform();
            let truth = if is_second { 0.5 } else { p };
            all.0.push(vec![u16::from(is_second)]);
            all.1.push(p);
            all.2.push(generator.uniform() < truth);
        }
        all
    }

    #[test]
    fn under_a_shift_of_the_mix_the_weighted_estimate_is_near_what_comes_true_and_the_plain_one_is_not() {
        let mut generator = Generator::from_seed(11);
        let (old, said, came) = two_kinds(&mut generator, 4_000, 0.2);
        let (new, now, to_come) = two_kinds(&mut generator, 4_000, 0.8);
        let ratio = crate::shift::density_ratio(&old, &new, &[2]).unwrap();
        assert!(ratio.effective > 500.0, "{}", ratio.effective);
        let known = Known { probabilities: &said, outcomes: &came, weights: &ratio.weights };
        for metric in [Metric::Auc, Metric::Brier, Metric::Accuracy(0.5)] {
            let outcomes: Vec<f64> = to_come.iter().map(|&outcome| f64::from(u8::from(outcome))).collect();
            let truth =
                expectation(metric, &now, &vec![1.0; now.len()], &descending(&now), &|row| outcomes[row]);
            let truth = truth.unwrap();
            let plain = estimate(metric, &now, None, &mut generator).unwrap();
            let weighted = estimate_under_shift(metric, known, &now, &mut generator).unwrap();
            assert!((plain.value - truth).abs() > 0.07, "{metric:?}: {plain:?} {truth}");
            assert!((weighted.value - truth).abs() < 0.05, "{metric:?}: {weighted:?} {truth}");
            assert!(!plain.band.contains(truth), "{metric:?}: {plain:?} {truth}");
        }
    }

    #[test]
    fn without_a_shift_both_estimates_agree() {
        let mut generator = Generator::from_seed(12);
        let (_, said, came) = two_kinds(&mut generator, 4_000, 0.0);
        let (_, now, _) = two_kinds(&mut generator, 4_000, 0.0);
        let known = Known { probabilities: &said, outcomes: &came, weights: &vec![1.0; said.len()] };
        let plain = estimate(Metric::Auc, &now, None, &mut generator).unwrap();
        let weighted = estimate_under_shift(Metric::Auc, known, &now, &mut generator).unwrap();
        assert!((plain.value - weighted.value).abs() < 0.02, "{plain:?} {weighted:?}");
        let nothing = Known { weights: &vec![0.0; said.len()], ..known };
        assert!(estimate_under_shift(Metric::Auc, nothing, &now, &mut generator).is_err());
    }

    #[test]
    fn certainty_has_no_ranking() {
        let mut generator = Generator::from_seed(5);
        let refusal = estimate(Metric::Auc, &[1.0, 1.0], None, &mut generator).unwrap_err();
        assert_eq!(refusal, Error::Undefined { what: "the metric" });
    }
}
