//! Have the inputs and the scores moved away from what the model was trained on?
//!
//! The effect is the Kolmogorov–Smirnov distance (numbers) or the total variation (texts) between the window's rows and the
//! training rows that were kept with the version, with an interval at the monitor's level. The window counts as the
//! effective number of rows that its lag-1 correlation leaves; the reference is a random sample and counts in full. A column
//! drifts if the lower end exceeds `min_effect` and e-BH, over all columns of the window, keeps it.
//!
//! The reference spans whole seasons, a window does not: a column that has a season, such as a temperature, drifts whenever
//! its window is not a miniature of the training period. That is what the numbers say, and what this reports; whether it
//! matters is what labels and calibration say.

use std::collections::BTreeMap;

use domain::incident::Verdict;
use statistics::distributions::normal_quantile;
use statistics::drift::{Ks, TotalVariation, ks, total_variation};
use statistics::sequential::{e_bh, e_from_p};
use statistics::{Interval, wilson};
use storage::monitors::Finding;

use crate::Error;
use crate::samples::{Observed, Sample};

/// Of the columns called drifted in a window, at most this share is expected to be so by chance.
const FALSE_DISCOVERY_RATE: f64 = 0.05;

/// How many windows a trailing measure spans: evidence too thin for one window adds up over them.
pub(crate) const TRAILING: i32 = 14;

/// What a monitor asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The false-alarm level of an interval.
    pub(crate) alpha: f64,
    /// The smallest distance worth naming.
    pub(crate) min_effect: f64,
    /// Fewer rows give no verdict.
    pub(crate) min_rows: u64,
}

/// Samples by column; a column without one cannot be compared.
pub(crate) type Samples = BTreeMap<String, Sample>;

/// Compares a window, and the span it ends, with the reference. The reference names the columns.
pub(crate) fn judge(
    reference: &Samples,
    window: &Samples,
    trailing: &Samples,
    bounds: Bounds,
) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    for (column, reference) in reference {
        findings.push(match window.get(column) {
            Some(current) => missing(column, reference, current, bounds)?,
            None => absent(column),
        });
    }
    findings.extend(distances(reference, window, "", bounds)?);
    findings.extend(distances(reference, trailing, &format!("_{TRAILING}_windows"), bounds)?);
    Ok(findings)
}

/// The distances of all columns over one span; `suffix` names the span.
fn distances(
    reference: &Samples,
    current: &Samples,
    suffix: &str,
    bounds: Bounds,
) -> Result<Vec<Finding>, Error> {
    let pairs =
        reference.iter().filter_map(|(column, reference)| Some((column, reference, current.get(column)?)));
    let mut findings = pairs
        .map(|(column, reference, current)| distance(column, reference, current, suffix, bounds))
        .collect::<Result<Vec<_>, _>>()?;
    let e_values: Vec<f64> = findings.iter().map(|finding| finding.e_value.unwrap_or(0.0)).collect();
    for (finding, kept) in findings.iter_mut().zip(e_bh(&e_values, FALSE_DISCOVERY_RATE)?) {
        let beyond = finding.low.is_some_and(|low| low > bounds.min_effect);
        if finding.verdict == Verdict::Ok && beyond && kept {
            finding.verdict = Verdict::Drift;
        }
    }
    Ok(findings)
}

fn distance(
    column: &str,
    reference: &Sample,
    current: &Sample,
    suffix: &str,
    bounds: Bounds,
) -> Result<Finding, Error> {
    let (name, effect) = match (&reference.observed, &current.observed) {
        (Observed::Numbers(_), current) if current.len() == 0 => ("ks_distance", None),
        (Observed::Levels(_), current) if current.len() == 0 => ("total_variation", None),
        (Observed::Numbers(r), Observed::Numbers(c)) if !r.is_empty() => {
            ("ks_distance", Some(Effect::Ks(ks(r, c)?)))
        }
        (Observed::Levels(r), Observed::Levels(c)) if !r.is_empty() => {
            ("total_variation", Some(Effect::Variation(levels(r, c)?)))
        }
        (before, Observed::Numbers(_)) if before.len() == 0 => ("ks_distance", None),
        (before, Observed::Levels(_)) if before.len() == 0 => ("total_variation", None),
        _ => {
            return Ok(Finding {
                verdict: Verdict::Broken,
                ..blank(column, &format!("column_type{suffix}"), current)
            });
        }
    };
    let finding = blank(column, &format!("{name}{suffix}"), current);
    let Some(effect) = effect else { return Ok(finding) };
    let sizes = (reference.n_eff, current.n_eff);
    let interval = effect.interval(1.0 - bounds.alpha, sizes)?;
    let enough = current.observed.len() >= bounds.min_rows;
    Ok(Finding {
        effect: Some(effect.value()),
        low: Some(interval.low),
        high: Some(interval.high),
        n_eff: Some(current.n_eff),
        e_value: Some(effect.e_value(bounds.min_effect, sizes)?),
        verdict: if enough { Verdict::Ok } else { Verdict::InsufficientData },
        ..finding
    })
}

/// A distance with what its interval needs.
enum Effect {
    Ks(Ks),
    Variation(TotalVariation),
}

impl Effect {
    fn value(&self) -> f64 {
        match self {
            Self::Ks(ks) => ks.distance,
            Self::Variation(variation) => variation.distance,
        }
    }

    fn interval(&self, level: f64, (reference, current): (f64, f64)) -> Result<Interval, statistics::Error> {
        match self {
            Self::Ks(ks) => ks.interval(level, reference, current),
            Self::Variation(variation) => variation.interval(level, reference, current),
        }
    }

    /// Evidence that the true distance exceeds `least`: p is the level at which the interval's lower end is `least`,
    /// found by bisection since both intervals narrow as α grows; e = ½/√p.
    fn e_value(&self, least: f64, sizes: (f64, f64)) -> Result<f64, statistics::Error> {
        let (mut inside, mut outside) = (-300.0_f64, 0.0_f64); // log₁₀ p
        for _ in 0..40 {
            let middle = (inside + outside) / 2.0;
            let exceeds = self.low_at(10f64.powf(middle), sizes)? > least;
            if exceeds { outside = middle } else { inside = middle }
        }
        e_from_p(10f64.powf(outside), 0.5)
    }

    fn low_at(&self, alpha: f64, (n, m): (f64, f64)) -> Result<f64, statistics::Error> {
        let scale = (1.0 / n + 1.0 / m).sqrt();
        match self {
            Self::Ks(ks) => Ok(ks.distance - scale * ((4.0 / alpha).ln() / 2.0).sqrt()),
            Self::Variation(tv) => {
                let variance = |share: f64, n: f64| share * (1.0 - share) / n;
                let error = (variance(tv.grown_reference, n) + variance(tv.grown_current, m)).sqrt();
                Ok(tv.distance - tv.expected_by_chance(n, m) + normal_quantile(alpha / 2.0) * error)
            }
        }
    }
}

fn levels(
    reference: &BTreeMap<String, u64>,
    current: &BTreeMap<String, u64>,
) -> Result<TotalVariation, statistics::Error> {
    let mut both: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    reference.iter().for_each(|(level, count)| both.entry(level).or_default().0 = *count);
    current.iter().for_each(|(level, count)| both.entry(level).or_default().1 = *count);
    let (reference, current): (Vec<u64>, Vec<u64>) = both.into_values().unzip();
    total_variation(&reference, &current)
}

/// The change of the share of missing values, with Newcombe's interval. A column that was mostly there and is mostly missing
/// is broken; a smaller change can be drift.
fn missing(column: &str, reference: &Sample, current: &Sample, bounds: Bounds) -> Result<Finding, Error> {
    let finding = Finding { rows: current.rows, ..blank(column, "missing_share_change", current) };
    if current.rows == 0 || reference.rows == 0 {
        return Ok(finding);
    }
    let (before, now) = (reference.missing_share(), current.missing_share());
    let old = share_interval(bounds.alpha, before, reference.missing_n_eff)?;
    let new = share_interval(bounds.alpha, now, current.missing_n_eff)?;
    let change = now - before;
    let low = change - (now - new.low).hypot(old.high - before);
    let high = change + (new.high - now).hypot(before - old.low);
    let verdict = if current.rows < bounds.min_rows {
        Verdict::InsufficientData
    } else if before < 0.5 && new.low > 0.5 {
        Verdict::Broken
    } else if low > bounds.min_effect || high < -bounds.min_effect {
        Verdict::Drift
    } else {
        Verdict::Ok
    };
    Ok(Finding {
        effect: Some(change),
        low: Some(low),
        high: Some(high),
        current: Some(now),
        reference: Some(before),
        n_eff: Some(current.missing_n_eff),
        verdict,
        ..finding
    })
}

/// Wilson's interval of a share at level 1 − α: it depends on z²/n only, so the 95 % interval of fewer rows is it.
pub(crate) fn share_interval(alpha: f64, share: f64, n: f64) -> Result<Interval, statistics::Error> {
    let z = |alpha: f64| normal_quantile(1.0 - alpha / 2.0);
    let trials = n * (z(0.05) / z(alpha)).powi(2);
    wilson((share * trials).clamp(0.0, trials), trials)
}

fn absent(column: &str) -> Finding {
    let nothing = Sample {
        observed: Observed::Numbers(Vec::new()),
        rows: 0,
        missing: 0,
        n_eff: 0.0,
        missing_n_eff: 0.0,
    };
    Finding { verdict: Verdict::Broken, ..blank(column, "column_absent", &nothing) }
}

fn blank(column: &str, measure: &str, current: &Sample) -> Finding {
    Finding {
        kind: if column == crate::SCORE { "score" } else { "input" },
        column: column.to_owned(),
        measure: measure.to_owned(),
        effect: None,
        low: None,
        high: None,
        current: None,
        reference: None,
        rows: current.observed.len(),
        n_eff: None,
        e_value: None,
        verdict: Verdict::InsufficientData,
    }
}

#[cfg(test)]
mod tests {
    use domain::tabular::Column;
    use statistics::Generator;

    use super::*;

    const BOUNDS: Bounds = Bounds { alpha: 0.001, min_effect: 0.1, min_rows: 200 };

    fn numbers(seed: u64, rows: usize, shift: f64) -> Sample {
        let mut generator = Generator::from_seed(seed);
        let values = Column::Number((0..rows).map(|_| generator.uniform() + shift).collect());
        Sample::of_series(&values, &(0..rows).collect::<Vec<_>>())
    }

    fn one(sample: Sample) -> Samples {
        BTreeMap::from([("distance".to_owned(), sample)])
    }

    fn verdict(findings: &[Finding], measure: &str) -> Verdict {
        findings.iter().find(|finding| finding.measure == measure).unwrap().verdict
    }

    #[test]
    fn a_window_like_the_reference_is_ok() {
        let window = one(numbers(2, 900, 0.0));
        let findings = judge(&one(numbers(1, 5_000, 0.0)), &window, &window, BOUNDS).unwrap();
        assert!(findings.iter().all(|finding| finding.verdict == Verdict::Ok), "{findings:?}");
    }

    #[test]
    fn a_move_far_past_the_smallest_effect_is_drift_with_its_interval() {
        let window = one(numbers(2, 900, 0.3)); // uniforms shifted by 0.3 are 0.3 apart
        let findings = judge(&one(numbers(1, 5_000, 0.0)), &window, &window, BOUNDS).unwrap();
        assert_eq!(verdict(&findings, "ks_distance"), Verdict::Drift);
        let found = findings.iter().find(|finding| finding.measure == "ks_distance").unwrap();
        assert!(
            found.low.unwrap() > 0.1 && found.low.unwrap() < 0.3 && found.high.unwrap() > 0.3,
            "{found:?}"
        );
    }

    #[test]
    fn a_move_below_the_smallest_effect_is_ok_however_many_rows_show_it() {
        let window = one(numbers(2, 50_000, 0.05));
        let findings = judge(&one(numbers(1, 50_000, 0.0)), &window, &window, BOUNDS).unwrap();
        assert_eq!(verdict(&findings, "ks_distance"), Verdict::Ok);
    }

    #[test]
    fn what_one_window_cannot_show_adds_up_over_many() {
        let window = numbers(2, 300, 0.18);
        let mut trailing = window.clone();
        (3..16).for_each(|seed| assert!(trailing.merge(&numbers(seed, 300, 0.18))));
        let findings = judge(&one(numbers(1, 5_000, 0.0)), &one(window), &one(trailing), BOUNDS).unwrap();
        assert_eq!(verdict(&findings, "ks_distance"), Verdict::Ok);
        assert_eq!(verdict(&findings, "ks_distance_14_windows"), Verdict::Drift);
    }

    #[test]
    fn too_few_rows_give_no_verdict() {
        let window = one(numbers(2, 100, 5.0));
        let findings = judge(&one(numbers(1, 5_000, 0.0)), &window, &window, BOUNDS).unwrap();
        assert!(findings.iter().all(|finding| finding.verdict == Verdict::InsufficientData), "{findings:?}");
    }

    #[test]
    fn a_column_that_vanished_or_is_mostly_missing_is_broken() {
        let reference = one(numbers(1, 5_000, 0.0));
        let findings = judge(&reference, &Samples::new(), &Samples::new(), BOUNDS).unwrap();
        assert_eq!(verdict(&findings, "column_absent"), Verdict::Broken);

        let gone = Column::Number((0..900).map(|row| if row % 10 == 0 { 0.5 } else { f64::NAN }).collect());
        let window = one(Sample::of_series(&gone, &(0..900).collect::<Vec<_>>()));
        let findings = judge(&reference, &window, &window, BOUNDS).unwrap();
        assert_eq!(verdict(&findings, "missing_share_change"), Verdict::Broken);
    }

    #[test]
    fn a_number_that_became_a_text_is_broken() {
        let texts = Column::from_text((0..900).map(|_| Some("12")));
        let window = one(Sample::of_series(&texts, &(0..900).collect::<Vec<_>>()));
        let findings = judge(&one(numbers(1, 5_000, 0.0)), &window, &window, BOUNDS).unwrap();
        assert_eq!(verdict(&findings, "column_type"), Verdict::Broken);
    }

    #[test]
    fn levels_that_trade_shares_are_compared_by_total_variation() {
        let carriers = |aa: usize| {
            Column::from_text((0..1_000).map(|row| Some(if row * 7 % 1_000 < aa { "AA" } else { "UA" })))
        };
        let sample = |aa| Sample::of_independent(&carriers(aa), &(0..1_000).collect::<Vec<_>>());
        let findings = judge(&one(sample(500)), &one(sample(800)), &one(sample(800)), BOUNDS).unwrap();
        let found = findings.iter().find(|finding| finding.measure == "total_variation").unwrap();
        assert!((found.effect.unwrap() - 0.3).abs() < 1e-12);
        assert_eq!(found.verdict, Verdict::Drift);
    }

    #[test]
    fn the_share_interval_at_five_percent_is_wilsons() {
        assert_eq!(share_interval(0.05, 0.2, 100.0).unwrap(), wilson(20.0, 100.0).unwrap());
    }
}
