//! A run of a monitor: judges every window that has ended and was not judged, and those whose labels have come since.
//!
//! One transaction a window: its findings, what the watches make of them, and the messages that follow appear together.
//! A run may be repeated or run twice at once: what is judged is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use domain::definitions::{Definitions, Monitor};
use domain::incident::{Cause, Verdict};
use domain::reading;
use serde::Serialize;
use service_kit::Context;
use sqlx::PgConnection;
use storage::monitors::{Finding, JudgedWindow, WindowKey, WindowRow};
use storage::predictions::ServedWindow;
use storage::profiles::Version;

use crate::Error;
use crate::delivery::courier::Outbox;
use crate::drift::{self, Evidences, TRAILING};
use crate::incidents::{BY_INPUTS, BY_LABELS, Judged};
use crate::metrics::Metrics;
use crate::outcomes::{self, Step};
use crate::profiles::{self, Hours};
use crate::reference::{self, Reference};
use crate::segments;
use crate::shifted;
use crate::telling::Teller;

/// Labels are judged once this share of a window's predictions has one, or once the window is this old.
const MATURE_SHARE: f64 = 0.95;
const MATURE_AGE: TimeDelta = TimeDelta::days(2);
/// The shortest time there is here.
const MOMENT: TimeDelta = TimeDelta::microseconds(1);
/// Windows whose rows are held at once, besides the trailing span before them.
const BATCH: usize = 31;

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Summary {
    /// Windows judged by their inputs.
    pub(crate) windows: usize,
    /// Windows judged by their labels, for the first time or again.
    pub(crate) labelled_windows: usize,
    /// Versions that served and cannot be judged: they came without an evaluation of this platform.
    pub(crate) versions_without_reference: usize,
}

/// Judges what has ended by `until`, and shows that it did.
pub(crate) async fn run(
    context: &Context,
    metrics: &Metrics,
    project: &str,
    monitor: &str,
    until: DateTime<Utc>,
) -> Result<Summary, Error> {
    let begun = context.clock.now();
    let done = judge_ended(context, metrics, project, monitor, until).await;
    let now = context.clock.now();
    let seconds = (now - begun).as_seconds_f64().max(0.0);
    metrics.run_seconds.with_label_values(&[monitor]).observe(seconds);
    let outcome = if done.is_ok() { "succeeded" } else { "failed" };
    metrics.runs.with_label_values(&[monitor, outcome]).inc();
    if done.is_ok() {
        metrics.last_success.with_label_values(&[monitor]).set(now.timestamp_millis() as f64 / 1e3);
    }
    done
}

async fn judge_ended(
    context: &Context,
    metrics: &Metrics,
    project: &str,
    monitor: &str,
    until: DateTime<Utc>,
) -> Result<Summary, Error> {
    let mut conn = context.db.acquire().await?;
    let definitions = storage::definitions::load(&mut conn, project).await?;
    let monitor = crate::named(&definitions, monitor)?;
    let (project, name, model) = (project.to_owned(), monitor.name.clone(), monitor.model.clone());
    let served =
        storage::predictions::windows(&mut conn, &project, &model, monitor.window.delta(), until).await?;
    let watched = reference::watched(&mut conn, &project, monitor, served).await?;
    let judged = storage::monitors::judged(&mut conn, &project, &name, &model).await?;
    drop(conn);
    let run =
        Run { context, metrics, definitions: &definitions, monitor, project, judged: by_window(judged) };
    metrics.window_seconds.with_label_values(&[&name]).set(monitor.window.delta().num_seconds() as f64);
    run.show_labels(&watched).await?;
    let mut summary = Summary::default();
    for (version, windows) in by_version(watched) {
        let reference = match reference::load(context, &run.project, monitor, version).await {
            Err(error @ Error::NoReference { .. }) => {
                tracing::warn!(monitor = monitor.name, %error, "a version is not watched");
                summary.versions_without_reference += 1;
                continue;
            }
            found => found?,
        };
        summary.windows += run.judge_inputs(&reference, &windows).await?;
        summary.labelled_windows += run.judge_labels(&reference, &windows, until).await?;
    }
    run.tell_what_was_held_back().await?;
    run.count_incidents().await?;
    Outbox::of(context).ring();
    Ok(summary)
}

fn by_window(judged: Vec<JudgedWindow>) -> BTreeMap<(DateTime<Utc>, i32), JudgedWindow> {
    judged.into_iter().map(|window| ((window.start, window.version), window)).collect()
}

/// Versions in the order in which they first served.
fn by_version(windows: Vec<ServedWindow>) -> Vec<(i32, Vec<ServedWindow>)> {
    let mut versions: Vec<(i32, Vec<ServedWindow>)> = Vec::new();
    for window in windows {
        match versions.iter_mut().find(|(version, _)| *version == window.version) {
            Some((_, windows)) => windows.push(window),
            None => versions.push((window.version, vec![window])),
        }
    }
    versions
}

/// The windows whose labels are to be judged: from the first that matured or changed on, since later ones rest on it.
fn to_judge_by_labels<'a>(
    windows: &'a [ServedWindow],
    judged: &BTreeMap<(DateTime<Utc>, i32), JudgedWindow>,
    window: TimeDelta,
    until: DateTime<Utc>,
) -> Vec<&'a ServedWindow> {
    let mature = |served: &ServedWindow| {
        let share = served.labelled as f64 / served.predictions.max(1) as f64;
        share >= MATURE_SHARE || served.start + window + MATURE_AGE <= until
    };
    let changed = |served: &ServedWindow| {
        judged.get(&(served.start, served.version)).and_then(|judged| judged.by_labels)
            != Some(served.labelled)
    };
    windows.iter().filter(|served| mature(served)).skip_while(|served| !changed(served)).collect()
}

struct Run<'a> {
    context: &'a Context,
    metrics: &'a Metrics,
    definitions: &'a Definitions,
    monitor: &'a Monitor,
    project: String,
    judged: BTreeMap<(DateTime<Utc>, i32), JudgedWindow>,
}

impl Run<'_> {
    async fn judge_inputs(
        &self,
        reference: &Arc<Reference>,
        windows: &[ServedWindow],
    ) -> Result<usize, Error> {
        let Some(of) = windows.first().map(|window| self.version(window.version)) else { return Ok(0) };
        let rows = profiles::catch_up(self.context, &of, &reference.profiles).await?;
        self.metrics.rows.with_label_values(&[&self.monitor.name]).inc_by(rows);
        let due: Vec<&ServedWindow> = windows.iter().filter(|window| self.is_due(window)).collect();
        for batch in due.chunks(BATCH) {
            let hours = Arc::new(self.read(reference, &of, batch).await?);
            for window in batch {
                self.judge_window(reference, &of, &hours, window).await?;
            }
        }
        profiles::tidy(self.context, &of, &reference.profiles).await?;
        Ok(due.len())
    }

    fn version(&self, version: i32) -> Version {
        Version { project: self.project.clone(), registered_model: self.monitor.model.clone(), version }
    }

    /// Whether a window was not judged by its inputs, or by fewer rows than it holds now.
    fn is_due(&self, window: &ServedWindow) -> bool {
        let judged = self.judged.get(&(window.start, window.version)).filter(|judged| judged.by_inputs);
        judged.is_none_or(|judged| judged.input_rows.is_some_and(|rows| rows < window.predictions))
    }

    /// The profiles of a batch of windows and of the trailing span before them.
    async fn read(
        &self,
        reference: &Arc<Reference>,
        of: &Version,
        batch: &[&ServedWindow],
    ) -> Result<Hours, Error> {
        let (Some(first), Some(last)) = (batch.first(), batch.last()) else { return Ok(Hours::default()) };
        let window = self.monitor.window.delta();
        let mut conn = self.context.db.acquire().await?;
        let (from, until) = (first.start - window * (TRAILING - 1), last.start + window);
        let parts = storage::profiles::parts(&mut conn, of, from, until).await?;
        drop(conn);
        let reference = Arc::clone(reference);
        tokio::task::spawn_blocking(move || Hours::of(parts, &reference.profiles)).await?
    }

    async fn judge_window(
        &self,
        reference: &Arc<Reference>,
        of: &Version,
        hours: &Arc<Hours>,
        window: &ServedWindow,
    ) -> Result<(), Error> {
        let start = window.start;
        let mut conn = self.context.db.acquire().await?;
        let won = storage::profiles::evidence(&mut conn, of, &self.monitor.name).await?;
        let (project, model, end) = (&of.project, &of.registered_model, start + self.monitor.window.delta());
        let answered =
            storage::predictions::probabilities(&mut conn, project, model, of.version, start, end).await?;
        let logs = match &reference.tested {
            Some(_) => storage::predictions::logs(&mut conn, project, model, of.version, start, end).await?,
            None => Vec::new(),
        };
        drop(conn);
        // What adds up over windows takes each once, in their order.
        let is_next = won.iter().all(|(_, through, _)| *through <= start);
        let known =
            won.into_iter().filter_map(|(column, _, won)| Some((column, serde_json::from_value(won).ok()?)));
        let mut evidence: Option<Evidences> = is_next.then(|| known.collect());
        let (reference, hours) = (Arc::clone(reference), Arc::clone(hours));
        let (monitor, bounds) = (self.monitor.clone(), self.outcome_bounds());
        let (data_dir, span) =
            (self.context.data_dir.clone(), start.timestamp_micros()..end.timestamp_micros());
        let judge = move || {
            let mut findings = drift::judge_hours(&reference, &hours, start, &monitor, evidence.as_mut())?;
            let expected = &reference.expected;
            findings.push(outcomes::estimated(&answered, expected, bounds));
            if let Some(tested) = &reference.tested {
                findings.push(shifted::estimated(tested, &data_dir, &logs, span, expected, bounds)?);
            }
            Ok::<_, Error>((findings, evidence))
        };
        let (findings, evidence) = tokio::task::spawn_blocking(judge).await??;
        self.save(window, &findings, BY_INPUTS, evidence).await
    }

    async fn judge_labels(
        &self,
        reference: &Arc<Reference>,
        windows: &[ServedWindow],
        until: DateTime<Utc>,
    ) -> Result<usize, Error> {
        let length = self.monitor.window.delta();
        let due = to_judge_by_labels(windows, &self.judged, length, until);
        for window in &due {
            let findings = self.outcomes(reference, window).await?;
            self.save(window, &findings, BY_LABELS, None).await?;
        }
        Ok(due.len())
    }

    async fn outcomes(
        &self,
        reference: &Arc<Reference>,
        window: &ServedWindow,
    ) -> Result<Vec<Finding>, Error> {
        let (project, model, version) = (&self.project, &self.monitor.model, window.version);
        let length = self.monitor.window.delta();
        let (start, end) = (window.start, window.start + length);
        let mut conn = self.context.db.acquire().await?;
        let from = end - length * TRAILING;
        let trailing = storage::predictions::scored(&mut conn, project, model, version, from, end).await?;
        let rates =
            storage::monitors::label_rates(&mut conn, project, &self.monitor.name, model, version, start)
                .await?;
        let found =
            storage::monitors::windows(&mut conn, project, &self.monitor.name, start, start + MOMENT).await?;
        let estimated: Vec<WindowRow> = found.into_iter().filter(|row| row.version == version).collect();
        let parted = self.segments(reference);
        let logs = match parted.is_nothing() {
            true => Vec::new(),
            false => storage::predictions::logs(&mut conn, project, model, version, from, end).await?,
        };
        drop(conn);
        let earlier: Vec<Step> = rates.into_iter().map(|(rate, n_eff)| Step { rate, n_eff }).collect();
        let bounds = self.outcome_bounds();
        let (reference, data_dir) = (Arc::clone(reference), self.context.data_dir.clone());
        let judge = move || {
            let own = trailing.partition_point(|row| row.cutoff < start);
            let mut findings =
                outcomes::judge(&trailing[own..], &trailing, &earlier, &reference.expected, bounds)?;
            findings.extend(shifted::against_estimate(&trailing[own..], &estimated, bounds));
            if !parted.is_nothing() {
                let worth = outcomes::worth_of_a_row(&trailing);
                let span = segments::Span { scored: &trailing, start, worth };
                findings.extend(segments::judge(
                    &data_dir,
                    &logs,
                    span,
                    &parted,
                    &reference.profiles,
                    bounds,
                )?);
            }
            Ok(findings)
        };
        tokio::task::spawn_blocking(judge).await?
    }

    /// Which columns part the rows: those declared, and for the search the watched ones.
    fn segments(&self, reference: &Reference) -> segments::Wanted {
        let is_input = |name: &&String| *name != crate::SCORE && !reading::is_reading(name);
        let watched = reference.yardsticks.keys().filter(is_input);
        segments::Wanted {
            declared: self.monitor.segments.clone(),
            searched: watched.cloned().collect(),
            worst: self.monitor.worst_segments as usize,
        }
    }

    fn outcome_bounds(&self) -> outcomes::Bounds {
        outcomes::Bounds {
            alpha: self.monitor.alpha,
            min_rate_change: self.monitor.min_rate_change,
            min_rows: self.monitor.min_rows,
        }
    }

    async fn save(
        &self,
        window: &ServedWindow,
        findings: &[Finding],
        causes: &[Cause],
        evidence: Option<Evidences>,
    ) -> Result<(), Error> {
        let key = WindowKey {
            project: self.project.clone(),
            monitor: self.monitor.name.clone(),
            registered_model: self.monitor.model.clone(),
            version: window.version,
            start: window.start,
            end: window.start + self.monitor.window.delta(),
        };
        let now = self.context.clock.now();
        let mut tx = self.context.db.begin().await?;
        storage::monitors::lock(&mut tx, &key.project, &key.monitor).await?;
        storage::monitors::save(&mut tx, &key, findings, now).await?;
        if let Some(evidence) = evidence {
            let stored = |(column, won): (String, _)| Some((column, serde_json::to_value(won).ok()?));
            let evidence: Vec<(String, serde_json::Value)> =
                evidence.into_iter().filter_map(stored).collect();
            let of = self.version(window.version);
            storage::profiles::save_evidence(&mut tx, &of, &key.monitor, key.end, &evidence).await?;
        }
        let judged =
            Judged { definitions: self.definitions, monitor: self.monitor, key: &key, findings, now };
        judged.watch(&mut tx, causes).await?;
        tx.commit().await?;
        self.show(findings);
        Ok(())
    }

    fn show(&self, findings: &[Finding]) {
        let monitor = self.monitor.name.as_str();
        for finding in findings {
            self.metrics.windows.with_label_values(&[monitor, finding.verdict.as_str()]).inc();
            if finding.verdict != Verdict::InsufficientData {
                self.show_one(monitor, finding);
            }
        }
    }

    fn show_one(&self, monitor: &str, finding: &Finding) {
        if !finding.column.is_empty() && !matches!(finding.kind, "input" | "score" | "history") {
            return; // of a segment: too many for gauges
        }
        let (metrics, column) = (self.metrics, finding.column.as_str());
        let set = |gauge: prometheus::Gauge, value: Option<f64>| {
            value.into_iter().for_each(|value| gauge.set(value));
        };
        match finding.measure.as_str() {
            "ks_distance" | "total_variation" | "mmd" => {
                set(metrics.drift_effect.with_label_values(&[monitor, column]), finding.effect);
            }
            "missing_share_change" => {
                set(metrics.missing.with_label_values(&[monitor, column]), finding.current);
            }
            "rate_change" => set(metrics.label_rate.with_label_values(&[monitor]), finding.current),
            "auc_estimated" | "auc_estimated_weighted" => {
                let gauges = match finding.measure.as_str() {
                    "auc_estimated" => &metrics.estimated_auc,
                    _ => &metrics.estimated_auc_weighted,
                };
                let promised = finding.reference.unwrap_or_default();
                for (bound, gap) in
                    [("low", finding.low), ("estimate", finding.effect), ("high", finding.high)]
                {
                    set(gauges.with_label_values(&[monitor, bound]), gap.map(|gap| promised + gap));
                }
            }
            "auc_less_estimate" => {
                set(metrics.estimate_error.with_label_values(&[monitor, "plain"]), finding.effect);
            }
            "auc_less_estimate_weighted" => {
                set(metrics.estimate_error.with_label_values(&[monitor, "weighted"]), finding.effect);
            }
            "auc_14_windows" => {
                set(metrics.realised_auc.with_label_values(&[monitor]), finding.current);
            }
            measure if measure.starts_with("ece") && measure.ends_with("_windows") => {
                set(metrics.calibration_error.with_label_values(&[monitor]), finding.effect);
            }
            _ => {
                let evidence = metrics.drift_evidence.with_label_values(&[monitor, column]);
                set(evidence, finding.e_value.filter(|_| !column.is_empty()).map(f64::ln));
            }
        }
    }

    /// Shows how many labels have come, and how soon.
    async fn show_labels(&self, windows: &[ServedWindow]) -> Result<(), Error> {
        let name = self.monitor.name.as_str();
        let (labelled, predictions) = windows.iter().fold((0, 0), |(labelled, predictions), window| {
            (labelled + window.labelled, predictions + window.predictions)
        });
        if predictions > 0 {
            let share = labelled as f64 / predictions as f64;
            self.metrics.label_coverage.with_label_values(&[name]).set(share);
        }
        let mut conn = self.context.db.acquire().await?;
        let since = self.context.clock.now() - TimeDelta::days(30);
        let lag =
            storage::predictions::label_lag(&mut conn, &self.project, &self.monitor.model, since).await?;
        if let Some((median, late)) = lag {
            self.metrics.label_lag.with_label_values(&[name, "0.5"]).set(median);
            self.metrics.label_lag.with_label_values(&[name, "0.95"]).set(late);
        }
        Ok(())
    }

    async fn tell_what_was_held_back(&self) -> Result<(), Error> {
        let (definitions, monitor, project) = (self.definitions, self.monitor, self.project.as_str());
        let mut tx = self.context.db.begin().await?;
        storage::monitors::lock(&mut tx, project, &monitor.name).await?;
        let teller = Teller { definitions, monitor, project, now: self.context.clock.now() };
        teller.digest(&mut tx).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn count_incidents(&self) -> Result<(), Error> {
        let mut conn: sqlx::pool::PoolConnection<sqlx::Postgres> = self.context.db.acquire().await?;
        count_incidents(&mut conn, self.metrics, &self.project).await
    }
}

async fn count_incidents(conn: &mut PgConnection, metrics: &Metrics, project: &str) -> Result<(), Error> {
    let counts = storage::incidents::counts(conn, project).await?;
    metrics.incidents.reset();
    for (monitor, state, incidents) in counts {
        metrics.incidents.with_label_values(&[&monitor, &state]).set(incidents);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(day: i64) -> DateTime<Utc> {
        "2013-11-01T00:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::days(day)
    }

    fn window(start: i64, labelled: i64) -> ServedWindow {
        ServedWindow { start: day(start), version: 1, predictions: 100, labelled }
    }

    fn due(windows: &[ServedWindow], judged: &[(i64, i64)], until: DateTime<Utc>) -> Vec<DateTime<Utc>> {
        let judged = judged
            .iter()
            .map(|&(start, labels)| JudgedWindow {
                start: day(start),
                version: 1,
                by_inputs: true,
                input_rows: Some(100),
                by_labels: Some(labels),
            })
            .collect();
        let due = to_judge_by_labels(windows, &by_window(judged), TimeDelta::days(1), until);
        due.into_iter().map(|window| window.start).collect()
    }

    #[test]
    fn labels_are_judged_once_nearly_all_are_there_or_the_window_is_old() {
        let windows = [window(0, 40), window(1, 40), window(2, 96)];
        assert_eq!(due(&windows, &[], day(3)), [day(0), day(2)]);
    }

    #[test]
    fn a_window_whose_labels_all_were_judged_is_left_alone() {
        assert!(due(&[window(0, 96)], &[(0, 96)], day(5)).is_empty());
    }

    #[test]
    fn late_labels_open_their_window_and_the_later_ones_again() {
        let windows = [window(0, 96), window(1, 97), window(2, 96)];
        assert_eq!(due(&windows, &[(0, 96), (1, 96), (2, 96)], day(5)), [day(1), day(2)]);
    }
}
