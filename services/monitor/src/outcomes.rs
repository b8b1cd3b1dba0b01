//! Do outcomes still come true as often as in training, and as often as the probabilities say?
//!
//! Judged over the labelled predictions of a matured window, and over the trailing span that it ends. Outcomes count as the
//! effective number of rows that their lag-1 correlation leaves. Incidents follow the trailing measures: one stormy day moves
//! a day's rate, not what the model should be held to.
//!
//! The label rate is tested by two e-CUSUMs, for a rate above `reference + min_rate_change` and one below
//! `reference − min_rate_change`. Their state is the sequence of stored windows, so a window that is judged again by late
//! labels leaves nothing stale behind. The effective number of rows knows how an hour resembles the next, not how a day
//! does: a calm month is a changed rate here, which is what a model of that month has to cope with.

use std::sync::Arc;

use domain::incident::Verdict;
use statistics::Generator;
use statistics::calibration::{Binning, ece, ece_null_band};
use statistics::drift::effective_sample_size;
use statistics::estimated::{Metric, estimate};
use statistics::ranking::auc;
use statistics::sequential::{Direction, ECusum};
use storage::monitors::Finding;
use storage::predictions::Scored;

use crate::drift::{TRAILING, share_interval};
use crate::{Error, ranking};

/// The bins of the expected calibration error.
const BINS: Binning = Binning::EqualWidth(15);
/// Simulations behind its null band.
const REPETITIONS: usize = 200;

/// What a monitor asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The false-alarm level.
    pub(crate) alpha: f64,
    /// The smallest change of the label rate, calibration error and loss of AUC worth an incident.
    pub(crate) min_rate_change: f64,
    /// Fewer rows give no verdict.
    pub(crate) min_rows: u64,
}

/// What the version showed when it was registered.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    /// The share of training rows whose outcome came true.
    pub(crate) rate: f64,
    /// Its area under the ROC curve on later data: the estimate and the lower end of its interval.
    pub(crate) auc: Option<(f64, f64)>,
    /// The rows of that test, if they are at hand.
    pub(crate) test: Option<Arc<ranking::Test>>,
}

/// A window as the e-CUSUMs take it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Step {
    /// The share of outcomes that came true.
    pub(crate) rate: f64,
    /// How many independent rows that share is worth.
    pub(crate) n_eff: f64,
}

/// How many independent values a series is worth; values without a size count as they are.
fn worth(series: &[f64]) -> f64 {
    effective_sample_size(series).unwrap_or(series.len() as f64)
}

/// How many independent rows one of these is worth, in (0, 1].
pub(crate) fn worth_of_a_row(scored: &[Scored]) -> f64 {
    match scored.len() {
        0 => 1.0,
        rows => (Rows::of(scored).n_eff / rows as f64).clamp(f64::MIN_POSITIVE, 1.0),
    }
}

/// Labelled predictions in the order of their cutoffs.
struct Rows {
    probabilities: Vec<f64>,
    outcomes: Vec<bool>,
    n_eff: f64,
}

impl Rows {
    fn of(scored: &[Scored]) -> Self {
        let outcomes: Vec<bool> = scored.iter().map(|row| row.outcome).collect();
        let series: Vec<f64> = outcomes.iter().map(|outcome| f64::from(u8::from(*outcome))).collect();
        Self {
            probabilities: scored.iter().map(|row| row.probability).collect(),
            outcomes,
            n_eff: worth(&series),
        }
    }

    fn len(&self) -> u64 {
        self.outcomes.len() as u64
    }

    fn rate(&self) -> f64 {
        self.outcomes.iter().filter(|outcome| **outcome).count() as f64 / self.outcomes.len() as f64
    }

    fn mean_probability(&self) -> f64 {
        self.probabilities.iter().sum::<f64>() / self.probabilities.len() as f64
    }
}

/// Judges a window; `earlier` are the windows before it, oldest first, and `trailing` ends with it.
pub(crate) fn judge(
    window: &[Scored],
    trailing: &[Scored],
    earlier: &[Step],
    expected: &Expected,
    bounds: Bounds,
) -> Result<Vec<Finding>, Error> {
    let scored = trailing;
    let (window, trailing) = (Rows::of(window), Rows::of(trailing));
    if window.len() == 0 {
        return Ok(vec![blank("label", "rate_change", &window)]);
    }
    let this = Step { rate: window.rate(), n_eff: window.n_eff };
    let evidence = evidence(&earlier.iter().chain([&this]), expected.rate, bounds)?;
    let suffix = format!("_{TRAILING}_windows");
    let mut long_rate = rate(&trailing, &suffix, expected, bounds)?;
    long_rate.e_value = Some(evidence);
    if evidence < 1.0 / bounds.alpha && long_rate.verdict == Verdict::Drift {
        long_rate.verdict = Verdict::Ok;
    }
    let blank = |measure: &str| blank("performance", &format!("{measure}{suffix}"), &trailing);
    let [area, beside_estimate] = ranking::judge(scored, expected, bounds, blank)?;
    Ok(vec![
        rate(&window, "", expected, bounds)?,
        long_rate,
        gap(&window, "", bounds)?,
        gap(&trailing, &suffix, bounds)?,
        error(&window, "", bounds)?,
        error(&trailing, &suffix, bounds)?,
        area,
        beside_estimate,
        against_estimate(&window, bounds)?,
    ])
}

/// How well the model ranks if its probabilities mean what they say: what can be said of a window before its labels come.
///
/// Confidence-based: with a band where 95 % of outcomes would put the area. Blind to a change of P(outcome | inputs).
pub(crate) fn estimated(probabilities: &[f64], expected: &Expected, bounds: Bounds) -> Finding {
    let rows =
        Rows { probabilities: probabilities.to_vec(), outcomes: vec![], n_eff: probabilities.len() as f64 };
    let finding =
        Finding { rows: probabilities.len() as u64, ..blank("performance", "auc_estimated", &rows) };
    let seed = probabilities.len() as u64;
    let estimate = estimate(Metric::Auc, probabilities, None, &mut Generator::from_seed(seed));
    let least = expected.least_of_a_window(bounds);
    let (Ok(found), Some((promised, _)), Some(least)) = (estimate, expected.auc, least) else {
        return finding;
    };
    let verdict = match () {
        () if finding.rows < bounds.min_rows => Verdict::InsufficientData,
        () if found.band.high < least => Verdict::Drift,
        () => Verdict::Ok,
    };
    Finding {
        effect: Some(found.value - promised),
        low: Some(found.band.low - promised),
        high: Some(found.band.high - promised),
        current: Some(found.value),
        reference: Some(promised),
        verdict,
        ..finding
    }
}

/// What the labels made of the estimate: below its band, the model knows less about outcomes than it believes.
fn against_estimate(rows: &Rows, bounds: Bounds) -> Result<Finding, Error> {
    let finding = blank("performance", "auc_less_estimate", rows);
    let estimate = estimate(Metric::Auc, &rows.probabilities, None, &mut Generator::from_seed(rows.len()));
    let (Ok(found), Ok(estimate)) = (auc(&rows.probabilities, &rows.outcomes), estimate) else {
        return Ok(finding); // one class, or probabilities of 0 and 1 alone
    };
    let verdict = match () {
        () if rows.len() < bounds.min_rows => Verdict::InsufficientData,
        () if found.value < estimate.band.low => Verdict::Drift,
        () => Verdict::Ok,
    };
    Ok(Finding {
        effect: Some(found.value - estimate.value),
        low: Some(found.value - estimate.band.high),
        high: Some(found.value - estimate.band.low),
        current: Some(found.value),
        reference: Some(estimate.value),
        verdict,
        ..finding
    })
}

/// The mean of both e-CUSUMs after these windows: alarm at 1/α.
fn evidence<'a>(
    steps: &(impl Iterator<Item = &'a Step> + Clone),
    reference: f64,
    bounds: Bounds,
) -> Result<f64, statistics::Error> {
    let above = one_sided(steps.clone(), reference + bounds.min_rate_change, Direction::Rise, bounds.alpha)?;
    let below = one_sided(steps.clone(), reference - bounds.min_rate_change, Direction::Fall, bounds.alpha)?;
    Ok(((above + below) / 2.0).min(1e300))
}

/// The evidence for a rate beyond `bound`. After an alarm, the first window on this side of the bound starts it anew, so that
/// a change that is over does not speak for ever.
fn one_sided<'a>(
    steps: impl Iterator<Item = &'a Step>,
    bound: f64,
    direction: Direction,
    alpha: f64,
) -> Result<f64, statistics::Error> {
    if bound <= 0.0 || bound >= 1.0 {
        return Ok(1.0); // nothing lies beyond: no evidence either way
    }
    let mut process = ECusum::new(bound, direction)?;
    for step in steps {
        let within = if direction == Direction::Rise { step.rate <= bound } else { step.rate >= bound };
        if within && process.log_e() >= -alpha.ln() {
            process = ECusum::new(bound, direction)?;
        }
        let trials = step.n_eff.round() as u64;
        process.observe_counts(((step.rate * step.n_eff).round() as u64).min(trials), trials)?;
    }
    Ok(process.log_e().exp())
}

/// The label rate less the reference rate.
fn rate(rows: &Rows, suffix: &str, expected: &Expected, bounds: Bounds) -> Result<Finding, Error> {
    let interval = share_interval(bounds.alpha, rows.rate(), rows.n_eff)?;
    let (low, high) = (interval.low - expected.rate, interval.high - expected.rate);
    Ok(Finding {
        effect: Some(rows.rate() - expected.rate),
        low: Some(low),
        high: Some(high),
        current: Some(rows.rate()),
        reference: Some(expected.rate),
        verdict: beyond(rows, low, high, bounds),
        ..blank("label", &format!("rate_change{suffix}"), rows)
    })
}

/// The mean probability less the label rate: above 0 the model promises too much.
fn gap(rows: &Rows, suffix: &str, bounds: Bounds) -> Result<Finding, Error> {
    let interval = share_interval(bounds.alpha, rows.rate(), rows.n_eff)?;
    let promised = rows.mean_probability();
    let (low, high) = (promised - interval.high, promised - interval.low);
    Ok(Finding {
        effect: Some(promised - rows.rate()),
        low: Some(low),
        high: Some(high),
        current: Some(promised),
        reference: Some(rows.rate()),
        verdict: beyond(rows, low, high, bounds),
        ..blank("calibration", &format!("probability_less_rate{suffix}"), rows)
    })
}

/// The expected calibration error; its lower end is what remains after what chance gives calibrated probabilities.
fn error(rows: &Rows, suffix: &str, bounds: Bounds) -> Result<Finding, Error> {
    let found = ece(&rows.probabilities, &rows.outcomes, BINS)?;
    let mut generator = Generator::from_seed(rows.len());
    let band = ece_null_band(&rows.probabilities, BINS, REPETITIONS, &mut generator)?;
    let excess = (found - band.limit).max(0.0);
    Ok(Finding {
        effect: Some(found),
        low: Some(excess),
        reference: Some(band.limit),
        verdict: beyond(rows, excess, f64::INFINITY, bounds),
        ..blank("calibration", &format!("ece_15_bins{suffix}"), rows)
    })
}

fn beyond(rows: &Rows, low: f64, high: f64, bounds: Bounds) -> Verdict {
    if rows.len() < bounds.min_rows {
        Verdict::InsufficientData
    } else if low > bounds.min_rate_change || high < -bounds.min_rate_change {
        Verdict::Drift
    } else {
        Verdict::Ok
    }
}

/// Nothing is known yet of a measure of ranking.
pub(crate) fn unranked(measure: &str) -> Finding {
    blank("performance", measure, &Rows::of(&[]))
}

fn blank(kind: &'static str, measure: &str, rows: &Rows) -> Finding {
    Finding {
        kind,
        column: String::new(),
        measure: measure.to_owned(),
        effect: None,
        low: None,
        high: None,
        current: None,
        reference: None,
        rows: rows.len(),
        n_eff: Some(rows.n_eff),
        e_value: None,
        verdict: Verdict::InsufficientData,
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta, Utc};
    use domain::ids::PredictionId;

    use super::*;

    const BOUNDS: Bounds = Bounds { alpha: 0.001, min_rate_change: 0.03, min_rows: 200 };
    const EXPECTED: &Expected = &Expected { rate: 0.25, auc: None, test: None };

    /// `rows` predictions of `promised` whose outcomes come true with probability `rate`.
    fn day(seed: u64, rows: usize, promised: f64, rate: f64) -> Vec<Scored> {
        let start: DateTime<Utc> = "2013-11-01T00:00:00Z".parse().unwrap();
        let mut generator = Generator::from_seed(seed);
        let row = |i: usize| Scored {
            prediction: PredictionId::new(),
            cutoff: start + TimeDelta::minutes(i as i64),
            probability: promised,
            outcome: generator.uniform() < rate,
        };
        (0..rows).map(row).collect()
    }

    fn verdict(findings: &[Finding], measure: &str) -> Verdict {
        findings.iter().find(|finding| finding.measure == measure).unwrap().verdict
    }

    #[test]
    fn outcomes_as_promised_are_ok() {
        let rows = day(1, 2_000, 0.25, 0.25);
        let findings = judge(&rows, &rows, &[], EXPECTED, BOUNDS).unwrap();
        for measure in ["rate_change", "rate_change_14_windows", "probability_less_rate", "ece_15_bins"] {
            assert_eq!(verdict(&findings, measure), Verdict::Ok, "{measure}");
        }
    }

    #[test]
    fn one_bad_day_among_good_ones_moves_the_day_and_not_the_trailing_rate() {
        let mut trailing: Vec<Scored> = (0..13).flat_map(|seed| day(seed, 900, 0.25, 0.24)).collect();
        let storm = day(99, 900, 0.25, 0.6);
        trailing.extend(&storm);
        let findings = judge(&storm, &trailing, &[], EXPECTED, BOUNDS).unwrap();
        assert_eq!(verdict(&findings, "rate_change"), Verdict::Drift);
        assert_eq!(verdict(&findings, "rate_change_14_windows"), Verdict::Ok);
    }

    #[test]
    fn a_lasting_change_of_the_rate_is_drift_and_of_calibration_too_if_the_model_does_not_follow() {
        let trailing: Vec<Scored> = (0..14).flat_map(|seed| day(seed, 900, 0.25, 0.35)).collect();
        let earlier = vec![Step { rate: 0.35, n_eff: 900.0 }; 13];
        let last = &trailing[13 * 900..];
        let findings = judge(last, &trailing, &earlier, EXPECTED, BOUNDS).unwrap();
        for measure in
            ["rate_change_14_windows", "probability_less_rate_14_windows", "ece_15_bins_14_windows"]
        {
            assert_eq!(verdict(&findings, measure), Verdict::Drift, "{measure}");
        }
    }

    #[test]
    fn a_change_below_the_smallest_worth_naming_gathers_no_evidence() {
        let steps = vec![Step { rate: 0.27, n_eff: 900.0 }; 200];
        assert!(evidence(&steps.iter(), 0.25, BOUNDS).unwrap() < 1.0);
        let steps = vec![Step { rate: 0.32, n_eff: 900.0 }; 20];
        assert!(evidence(&steps.iter(), 0.25, BOUNDS).unwrap() > 1_000.0);
    }

    #[test]
    fn evidence_of_a_change_that_is_over_does_not_last() {
        let mut steps = vec![Step { rate: 0.15, n_eff: 900.0 }; 60];
        assert!(evidence(&steps.iter(), 0.25, BOUNDS).unwrap() > 1_000.0);
        steps.push(Step { rate: 0.25, n_eff: 900.0 });
        assert!(evidence(&steps.iter(), 0.25, BOUNDS).unwrap() < 1_000.0);
    }

    #[test]
    fn performance_is_estimated_without_labels_and_the_labels_say_how_wrong_that_was() {
        let mut generator = Generator::from_seed(3);
        let probabilities: Vec<f64> = (0..3_000).map(|_| generator.uniform()).collect();
        let promised = |auc: f64| Expected { rate: 0.5, auc: Some((auc, auc - 0.02)), test: None };
        let fair = estimated(&probabilities, &promised(0.83), BOUNDS);
        assert_eq!(fair.verdict, Verdict::Ok, "uniform probabilities rank at 5/6: {fair:?}");
        assert!((fair.current.unwrap() - 5.0 / 6.0).abs() < 0.01, "{fair:?}");
        assert_eq!(estimated(&probabilities, &promised(0.95), BOUNDS).verdict, Verdict::Drift);
        assert_eq!(estimated(&[], &promised(0.9), BOUNDS).verdict, Verdict::InsufficientData);

        let start: DateTime<Utc> = "2013-11-01T00:00:00Z".parse().unwrap();
        let mut scored = |knows: bool| -> Vec<Scored> {
            let row = |&probability: &f64| Scored {
                prediction: PredictionId::new(),
                cutoff: start,
                probability,
                outcome: generator.uniform() < if knows { probability } else { 0.5 },
            };
            probabilities.iter().map(row).collect()
        };
        let (true_to_word, not) = (Rows::of(&scored(true)), Rows::of(&scored(false)));
        assert_eq!(against_estimate(&true_to_word, BOUNDS).unwrap().verdict, Verdict::Ok);
        assert_eq!(against_estimate(&not, BOUNDS).unwrap().verdict, Verdict::Drift);
    }

    #[test]
    fn a_window_without_labels_says_nothing() {
        let findings = judge(&[], &[], &[], EXPECTED, BOUNDS).unwrap();
        assert_eq!(findings[0].verdict, Verdict::InsufficientData);
    }
}
