//! Have the inputs and the scores moved away from what the model was trained on?
//!
//! Every column is held against the profile of the training rows by [`statistics::rule`], the rule that `foretime monitor
//! compare` uses: one window by what its shares could be at most by chance, and all windows together by what was won betting
//! that the column moved. Among the columns of a window Benjamini and Hochberg's procedure keeps the share of false
//! verdicts; among the columns' evidence e-BH does, under any dependence.
//!
//! The reference spans whole seasons, a window does not: unless the monitor names a season, a column that has one, such as a
//! temperature, drifts whenever its window is not a miniature of the training period. That is what the numbers say, and what
//! this reports; whether it matters is what labels and calibration say.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use domain::definitions::{Monitor, Threshold};
use domain::incident::Verdict;
use domain::reading;
use rayon::prelude::*;
use statistics::distributions::normal_quantile;
use statistics::profile::ColumnProfile;
use statistics::rule::{Cause, Evidence, Judgement, Look, Settings, Shown, Yardstick, kept};
use statistics::sequential::bh_adjusted;
use statistics::{Interval, wilson};
use storage::monitors::Finding;

use crate::profiles::{Hours, Profiles, Served};
use crate::reference::{self, Reference};
use crate::{Error, embedding};

/// Of the columns called drifted in a window, at most this share is expected to be so by chance.
const FALSE_DISCOVERY_RATE: f64 = 0.05;

/// Columns that one thread judges at least: fewer are not worth another's while.
const COLUMNS_A_TASK: usize = 100;

/// How many windows a trailing measure spans.
pub(crate) const TRAILING: i32 = 14;

/// A window of served rows, and what came before it.
pub(crate) struct Window<'a> {
    /// Its columns.
    pub(crate) columns: &'a BTreeMap<String, Served>,
    /// The columns over the trailing span that it ends.
    pub(crate) trailing: &'a Profiles,
    /// Its place in the season.
    pub(crate) slot: usize,
}

/// What was won so far by betting that columns moved.
pub(crate) type Evidences = BTreeMap<String, Evidence>;

/// Judges the window of a monitor that begins at `start`, from the hours of a version.
pub(crate) fn judge_hours(
    reference: &Reference,
    hours: &Hours,
    start: DateTime<Utc>,
    monitor: &Monitor,
    evidence: Option<&mut Evidences>,
) -> Result<Vec<Finding>, Error> {
    let length = monitor.window.delta();
    let end = start + length;
    let (columns, trailing) = (hours.over(start, end)?, hours.known_over(end - length * TRAILING, end)?);
    let slot = reference::slot(start, length, reference.season.slots);
    let window = Window { columns: &columns, trailing: &trailing, slot };
    let mut findings = judge(&reference.yardsticks, &window, evidence, settings(monitor))?;
    findings.extend(by_thresholds(&reference.yardsticks, &columns, &monitor.thresholds)?);
    Ok(findings)
}

/// What a monitor calls drift.
fn settings(monitor: &Monitor) -> Settings {
    Settings { alpha: monitor.alpha, min_effect: monitor.min_effect, min_rows: monitor.min_rows }
}

/// The measures that the monitor has bounds of its own on.
fn by_thresholds(
    yardsticks: &BTreeMap<String, Option<Yardstick>>,
    columns: &BTreeMap<String, Served>,
    thresholds: &[Threshold],
) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    for (name, yardstick) in yardsticks {
        let own = || thresholds.iter().filter(|own| own.column.as_ref().is_none_or(|column| column == name));
        let (Some(yardstick), Some(served)) = (yardstick, columns.get(name)) else { continue };
        let Some(profile) = served.profile.as_ref().filter(|_| own().next().is_some()) else { continue };
        let measures = crate::compare::measures_of(yardstick.whole(), profile)?;
        for threshold in own() {
            let Some(&value) = measures.get(&threshold.measure) else { continue };
            findings.push(Finding {
                effect: Some(value),
                verdict: if threshold.is_beyond(value) { Verdict::Drift } else { Verdict::Ok },
                ..blank(name, &format!("{}_threshold", threshold.measure), served.rows)
            });
        }
    }
    Ok(findings)
}

/// Judges a window. `evidence` takes it, unless it was judged before: then it is `None`, and what adds up over windows is not
/// judged again.
pub(crate) fn judge(
    yardsticks: &BTreeMap<String, Option<Yardstick>>,
    window: &Window<'_>,
    mut evidence: Option<&mut Evidences>,
    settings: Settings,
) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    let mut asked: Vec<Asked<'_>> = Vec::new();
    for (name, yardstick) in yardsticks {
        match (window.columns.get(name), yardstick) {
            (None, Some(yardstick)) if reading::is_reading(name) => {
                findings.push(blank(name, measure(yardstick), 0)); // nobody looked
            }
            (None, _) => findings.push(broken(name, "column_absent", 0)),
            (Some(served), None) => findings.push(blank(name, "ks_distance", served.rows)),
            (Some(served), Some(yardstick)) => {
                let evidence = evidence.as_deref_mut().map(|all| all.remove(name).unwrap_or_default());
                asked.push(Asked { name, yardstick, served, evidence });
            }
        }
    }
    let held =
        asked.into_par_iter().with_min_len(COLUMNS_A_TASK).map(|asked| asked.held(window.slot, settings));
    let mut columns: Vec<Column<'_>> = Vec::new();
    for held in held.collect::<Result<Vec<Held<'_>>, Error>>()? {
        if let (Some(all), Some(own)) = (evidence.as_deref_mut(), held.evidence) {
            all.insert(held.name.to_owned(), own);
        }
        match held.column {
            Ok(column) => columns.push(column),
            Err(of_another_type) => findings.push(of_another_type),
        }
    }
    findings.extend(alone(&columns, settings)?);
    findings.extend(embedding::discrepancy(&columns, settings)?);
    if evidence.is_some() {
        findings.extend(together(&columns, window.trailing, settings)?);
    }
    Ok(findings)
}

/// A column to be held against its yardstick, with what was won so far.
struct Asked<'a> {
    name: &'a str,
    yardstick: &'a Yardstick,
    served: &'a Served,
    evidence: Option<Evidence>,
}

/// What became of it.
struct Held<'a> {
    name: &'a str,
    column: Result<Column<'a>, Finding>,
    evidence: Option<Evidence>,
}

impl<'a> Asked<'a> {
    fn held(self, slot: usize, settings: Settings) -> Result<Held<'a>, Error> {
        let Self { name, yardstick, served, mut evidence } = self;
        let look = served.profile.as_ref().and_then(|own| yardstick.look(own, slot, settings));
        let Some(look) = look else {
            return Ok(Held { name, column: Err(broken(name, "column_type", served.rows)), evidence });
        };
        let won = evidence.as_mut().map(|own| {
            own.take(&look);
            let log_e = own.log_e(&look);
            let leans = || own.cause(&look).is_some_and(|cause| look.leans_to(cause));
            Won { log_e, borne_out: log_e > 0.0 && leans() }
        });
        let column = Column { name, yardstick, judgement: look.judge()?, look, won };
        Ok(Held { name, column: Ok(column), evidence })
    }
}

/// A column that can be compared.
pub(crate) struct Column<'a> {
    pub(crate) name: &'a str,
    pub(crate) yardstick: &'a Yardstick,
    pub(crate) look: Look<'a>,
    judgement: Judgement,
    pub(crate) won: Option<Won>,
}

/// What bets on a column came to, and whether the window itself leans the same way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Won {
    pub(crate) log_e: f64,
    pub(crate) borne_out: bool,
}

/// What the window says alone: a finding for its distance and one for missing values, and one for each other cause that shows.
fn alone(columns: &[Column<'_>], settings: Settings) -> Result<Vec<Finding>, Error> {
    let p_values: Vec<f64> = columns.iter().map(|column| column.judgement.p_value).collect();
    let mut findings = Vec::new();
    for (column, adjusted) in columns.iter().zip(bh_adjusted(&p_values)?) {
        let enough = column.judgement.verdict != statistics::rule::Verdict::InsufficientData;
        let holds = |shown: &Shown| {
            let all = column.judgement.causes.len() as f64;
            enough && adjusted <= FALSE_DISCOVERY_RATE && shown.p_value * all <= settings.alpha
        };
        findings.push(distance(column, "", holds));
        for shown in &column.judgement.causes {
            if shown.cause == Cause::Missing {
                findings.push(missing(column, shown, holds(shown), settings)?);
            } else if holds(shown) && !matches!(shown.cause, Cause::Location | Cause::Levels) {
                findings.push(share(column, shown));
            }
        }
    }
    Ok(findings)
}

/// The column's distance; `holds` says which causes are no chance.
fn distance(column: &Column<'_>, suffix: &str, holds: impl Fn(&Shown) -> bool) -> Finding {
    let judgement = &column.judgement;
    let moved = |shown: &Shown| matches!(shown.cause, Cause::Location | Cause::Levels) && holds(shown);
    let verdict = match judgement.verdict {
        statistics::rule::Verdict::InsufficientData => Verdict::InsufficientData,
        _ if judgement.effect.is_none() => Verdict::InsufficientData,
        _ if judgement.causes.iter().any(moved) => Verdict::Drift,
        _ => Verdict::Ok,
    };
    Finding {
        effect: judgement.effect.map(|effect| effect.value),
        low: judgement.effect.map(|effect| effect.interval.low),
        high: judgement.effect.map(|effect| effect.interval.high),
        n_eff: Some(column.look.effective()),
        verdict,
        ..blank(column.name, &format!("{}{suffix}", measure(column.yardstick)), column.look.values())
    }
}

fn measure(yardstick: &Yardstick) -> &'static str {
    match yardstick.whole() {
        ColumnProfile::Numbers(_) => "ks_distance",
        ColumnProfile::Levels(_) => "total_variation",
    }
}

/// The change of the share of a question that shows a cause.
fn share(column: &Column<'_>, shown: &Shown) -> Finding {
    let measure = format!("{}_share_change", shown.cause.as_str().replace(' ', "_"));
    let error = (shown.now * (1.0 - shown.now) / column.look.effective().max(1.0)).sqrt();
    let change = shown.now - shown.before;
    Finding {
        effect: Some(change),
        low: Some(change - 1.96 * error),
        high: Some(change + 1.96 * error),
        current: Some(shown.now),
        reference: Some(shown.before),
        n_eff: Some(column.look.effective()),
        verdict: Verdict::Drift,
        ..blank(column.name, &measure, column.look.values())
    }
}

/// The change of the share of missing values, with Newcombe's interval.
fn missing(column: &Column<'_>, shown: &Shown, holds: bool, settings: Settings) -> Result<Finding, Error> {
    let rows = column.look.rows();
    let finding = blank(column.name, "missing_share_change", rows);
    let whole = column.yardstick.whole().rows() as f64;
    if rows == 0 || whole == 0.0 {
        return Ok(finding);
    }
    let old = share_interval(0.05, shown.before, whole)?;
    let new = share_interval(0.05, shown.now, rows as f64)?;
    let change = shown.now - shown.before;
    let verdict = match column.judgement.verdict {
        statistics::rule::Verdict::Broken => Verdict::Broken,
        _ if rows < settings.min_rows => Verdict::InsufficientData,
        _ if holds => Verdict::Drift,
        _ => Verdict::Ok,
    };
    Ok(Finding {
        effect: Some(change),
        low: Some(change - (shown.now - new.low).hypot(old.high - shown.before)),
        high: Some(change + (new.high - shown.now).hypot(shown.before - old.low)),
        current: Some(shown.now),
        reference: Some(shown.before),
        n_eff: Some(rows as f64),
        verdict,
        ..finding
    })
}

/// What the windows say together: the distance over the trailing span, with the evidence of all windows, which decides.
fn together(columns: &[Column<'_>], trailing: &Profiles, settings: Settings) -> Result<Vec<Finding>, Error> {
    let mut log_e: Vec<f64> =
        columns.iter().map(|column| column.won.as_ref().map_or(0.0, |won| won.log_e)).collect();
    let vectors = embedding::won(columns);
    log_e.extend(vectors.map(|won| won.log_e));
    let mut kept = kept(&log_e, settings.alpha)?;
    let mut findings = Vec::new();
    if let Some(won) = vectors {
        let kept = kept.pop().unwrap_or_default();
        findings.extend(embedding::over_span(columns, trailing, settings, (won, kept))?);
    }
    let of_span =
        |(column, kept): (&Column<'_>, bool)| over_span(column, trailing.get(column.name), kept, settings);
    let spans = columns.par_iter().zip(kept).with_min_len(COLUMNS_A_TASK).map(of_span);
    let spans: Vec<Option<Finding>> = spans.collect::<Result<_, Error>>()?;
    findings.extend(spans.into_iter().flatten());
    Ok(findings)
}

/// The distance over the trailing span of a column whose evidence holds among all columns, or does not.
fn over_span(
    column: &Column<'_>,
    span: Option<&ColumnProfile>,
    kept: bool,
    settings: Settings,
) -> Result<Option<Finding>, Error> {
    let (Some(span), Some(won)) = (span, &column.won) else { return Ok(None) };
    let Some(look) = column.yardstick.look(span, 0, settings) else { return Ok(None) };
    let judgement = look.judge()?;
    let span = Column { name: column.name, yardstick: column.yardstick, look, judgement, won: None };
    let found = distance(&span, &format!("_{TRAILING}_windows"), |_| kept && won.borne_out);
    let verdict = match found.verdict {
        Verdict::InsufficientData => Verdict::InsufficientData,
        _ if kept && won.borne_out => Verdict::Drift,
        _ => Verdict::Ok,
    };
    Ok(Some(Finding { e_value: Some(won.log_e.min(690.0).exp()), verdict, ..found }))
}

/// Wilson's interval of a share at level 1 − α: it depends on z²/n only, so the 95 % interval of fewer rows is it.
pub(crate) fn share_interval(alpha: f64, share: f64, n: f64) -> Result<Interval, statistics::Error> {
    let z = |alpha: f64| normal_quantile(1.0 - alpha / 2.0);
    let trials = n * (z(0.05) / z(alpha)).powi(2);
    wilson((share * trials).clamp(0.0, trials), trials)
}

fn broken(column: &str, measure: &str, rows: u64) -> Finding {
    Finding { verdict: Verdict::Broken, ..blank(column, measure, rows) }
}

pub(crate) fn blank(column: &str, measure: &str, rows: u64) -> Finding {
    Finding {
        kind: match column {
            crate::SCORE => "score",
            column if reading::is_reading(column) => "history",
            _ => "input",
        },
        column: column.to_owned(),
        measure: measure.to_owned(),
        effect: None,
        low: None,
        high: None,
        current: None,
        reference: None,
        rows,
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
    use crate::profiles::{of_reference, of_rows};

    const SETTINGS: Settings = Settings { alpha: 0.001, min_effect: 0.1, min_rows: 200 };

    fn numbers(seed: u64, rows: usize, shift: f64) -> Column {
        let mut generator = Generator::from_seed(seed);
        Column::Number((0..rows).map(|_| generator.uniform() + shift).collect())
    }

    fn rows_of(column: &Column) -> usize {
        match column {
            Column::Number(numbers) => numbers.len(),
            Column::Category { codes, .. } => codes.len(),
        }
    }

    struct Watched {
        reference: ColumnProfile,
        yardsticks: BTreeMap<String, Option<Yardstick>>,
        evidence: Evidences,
    }

    impl Watched {
        fn by(reference: &Column) -> Self {
            let reference = of_reference(reference).unwrap().unwrap();
            let yardstick = Some(Yardstick::of(reference.clone()));
            let yardsticks = BTreeMap::from([("distance".to_owned(), yardstick)]);
            Self { reference, yardsticks, evidence: Evidences::new() }
        }

        fn judge(&mut self, column: &Column) -> Vec<Finding> {
            let order: Vec<usize> = (0..rows_of(column)).collect();
            let profile = of_rows(column, &order, &self.reference);
            let trailing: Profiles =
                profile.iter().map(|profile| ("distance".to_owned(), profile.clone())).collect();
            let served = Served { rows: order.len() as u64, profile };
            let columns = BTreeMap::from([("distance".to_owned(), served)]);
            let window = Window { columns: &columns, trailing: &trailing, slot: 0 };
            judge(&self.yardsticks, &window, Some(&mut self.evidence), SETTINGS).unwrap()
        }
    }

    fn verdict(findings: &[Finding], measure: &str) -> Verdict {
        findings.iter().find(|finding| finding.measure == measure).unwrap().verdict
    }

    #[test]
    fn a_window_like_the_reference_is_ok() {
        let findings = Watched::by(&numbers(1, 5_000, 0.0)).judge(&numbers(2, 900, 0.0));
        assert!(findings.iter().all(|finding| finding.verdict == Verdict::Ok), "{findings:?}");
    }

    #[test]
    fn a_move_far_past_the_smallest_effect_is_drift_with_its_interval() {
        let findings = Watched::by(&numbers(1, 5_000, 0.0)).judge(&numbers(2, 900, 0.3)); // 0.3 apart
        assert_eq!(verdict(&findings, "ks_distance"), Verdict::Drift);
        let found = findings.iter().find(|finding| finding.measure == "ks_distance").unwrap();
        assert!(
            found.low.unwrap() > 0.1 && found.low.unwrap() < 0.3 && found.high.unwrap() > 0.3,
            "{found:?}"
        );
    }

    #[test]
    fn a_move_below_the_smallest_effect_is_ok_however_many_rows_show_it() {
        let mut watched = Watched::by(&numbers(1, 50_000, 0.0));
        for seed in 2..10 {
            let findings = watched.judge(&numbers(seed, 50_000, 0.005)); // 0.5 % lie beyond the range
            assert!(findings.iter().all(|finding| finding.verdict == Verdict::Ok), "{findings:?}");
        }
    }

    #[test]
    fn what_one_window_cannot_show_adds_up_over_many() {
        let mut watched = Watched::by(&bent(1, 20_000, 1.0));
        let mut seen = Vec::new();
        for seed in 2..16 {
            let findings = watched.judge(&bent(seed, 250, 1.55)); // KS 0.16
            seen.push((verdict(&findings, "ks_distance"), verdict(&findings, "ks_distance_14_windows")));
        }
        assert!(seen.iter().all(|(alone, _)| *alone == Verdict::Ok), "{seen:?}");
        assert_eq!((seen[0].1, seen[13].1), (Verdict::Ok, Verdict::Drift), "{seen:?}");
    }

    /// Powers of uniform values.
    fn bent(seed: u64, rows: usize, power: f64) -> Column {
        let mut generator = Generator::from_seed(seed);
        Column::Number((0..rows).map(|_| generator.uniform().powf(power)).collect())
    }

    #[test]
    fn too_few_rows_give_no_verdict() {
        let findings = Watched::by(&numbers(1, 5_000, 0.0)).judge(&numbers(2, 100, 5.0));
        assert!(findings.iter().all(|finding| finding.verdict == Verdict::InsufficientData), "{findings:?}");
    }

    #[test]
    fn a_column_that_vanished_or_is_mostly_missing_is_broken() {
        let mut watched = Watched::by(&numbers(1, 5_000, 0.0));
        let none = (BTreeMap::new(), Profiles::new());
        let window = Window { columns: &none.0, trailing: &none.1, slot: 0 };
        let findings = judge(&watched.yardsticks, &window, None, SETTINGS).unwrap();
        assert_eq!(verdict(&findings, "column_absent"), Verdict::Broken);

        let gone = (0..900).map(|row| if row % 10 == 0 { 0.5 } else { f64::NAN });
        let findings = watched.judge(&Column::Number(gone.collect()));
        assert_eq!(verdict(&findings, "missing_share_change"), Verdict::Broken);
    }

    #[test]
    fn a_number_that_became_a_text_is_broken() {
        let texts = Column::from_text((0..900).map(|_| Some("12")));
        let findings = Watched::by(&numbers(1, 5_000, 0.0)).judge(&texts);
        assert_eq!(verdict(&findings, "column_type"), Verdict::Broken);
    }

    #[test]
    fn levels_that_trade_shares_are_compared_by_total_variation_and_new_ones_are_told() {
        let carriers = |aa: usize, other: &str| {
            let name = |row: usize| Some(if row * 619 % 1_000 < aa { "AA" } else { other });
            Column::from_text((0..1_000).map(name))
        };
        let mut watched = Watched::by(&carriers(500, "UA"));
        let findings = watched.judge(&carriers(800, "UA"));
        let found = findings.iter().find(|finding| finding.measure == "total_variation").unwrap();
        assert!((found.effect.unwrap() - 0.3).abs() < 1e-12);
        assert_eq!(found.verdict, Verdict::Drift);
        let findings = watched.judge(&carriers(500, "ZZ"));
        assert_eq!(verdict(&findings, "unseen_levels_share_change"), Verdict::Drift);
    }

    #[test]
    fn a_bound_of_ones_own_on_a_named_measure_is_held_to() {
        let mut watched = Watched::by(&numbers(1, 5_000, 0.0));
        let column = numbers(2, 900, 0.3);
        watched.judge(&column);
        let profile = of_rows(&column, &(0..900).collect::<Vec<_>>(), &watched.reference);
        let columns = BTreeMap::from([("distance".to_owned(), Served { rows: 900, profile })]);
        let threshold = |measure: &str, above| Threshold {
            measure: measure.to_owned(),
            column: None,
            above: Some(above),
            below: None,
        };
        let asked = [
            threshold("psi_q10_eps1e-4", 0.2),
            threshold("mean_current", 2.0),
            threshold("total_variation", 0.0),
        ];
        let found = by_thresholds(&watched.yardsticks, &columns, &asked).unwrap();
        assert_eq!(found.len(), 2, "numbers have no `total_variation`: {found:?}");
        assert_eq!(verdict(&found, "psi_q10_eps1e-4_threshold"), Verdict::Drift);
        assert_eq!(verdict(&found, "mean_current_threshold"), Verdict::Ok);
    }

    #[test]
    fn every_measure_that_a_threshold_may_be_on_is_one_of_a_profile() {
        let order: Vec<usize> = (0..900).collect();
        let texts = Column::from_text((0..900).map(|row| Some(if row % 3 == 0 { "AA" } else { "UA" })));
        let mut known: Vec<String> = Vec::new();
        for column in [numbers(1, 900, 0.0), texts] {
            let reference = of_reference(&column).unwrap().unwrap();
            let window = of_rows(&column, &order, &reference).unwrap();
            known.extend(crate::compare::measures_of(&reference, &window).unwrap().into_keys());
        }
        let unknown: Vec<&&str> =
            Threshold::MEASURES.iter().filter(|name| !known.contains(&(**name).to_owned())).collect();
        assert!(unknown.is_empty(), "{unknown:?} of {known:?}");
    }

    #[test]
    fn the_share_interval_at_five_percent_is_wilsons() {
        assert_eq!(share_interval(0.05, 0.2, 100.0).unwrap(), wilson(20.0, 100.0).unwrap());
    }
}
