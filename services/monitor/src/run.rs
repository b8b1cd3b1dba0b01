//! A run of a monitor: judges every window that has ended and was not judged, and those whose labels have come since.
//!
//! One transaction a window: its findings, what the watches make of them, and the messages that follow appear together.
//! A run may be repeated or run twice at once: what is judged is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use domain::definitions::{Definitions, Monitor};
use domain::incident::{Cause, Verdict};
use serde::Serialize;
use service_kit::Context;
use sqlx::PgConnection;
use storage::monitors::{Finding, JudgedWindow, WindowKey};
use storage::predictions::ServedWindow;

use crate::Error;
use crate::delivery::courier::Outbox;
use crate::drift::{self, TRAILING};
use crate::incidents::{BY_INPUTS, BY_LABELS, Judged};
use crate::metrics::Metrics;
use crate::outcomes::{self, Step};
use crate::reference::{self, Reference};
use crate::served::Served;
use crate::telling::Teller;

/// Labels are judged once this share of a window's predictions has one, or once the window is this old.
const MATURE_SHARE: f64 = 0.95;
const MATURE_AGE: TimeDelta = TimeDelta::days(2);
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

/// Judges what has ended by `until`.
pub(crate) async fn run(
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
        let new: Vec<&ServedWindow> = windows
            .iter()
            .filter(|served| {
                !self.judged.get(&(served.start, served.version)).is_some_and(|judged| judged.by_inputs)
            })
            .collect();
        for batch in new.chunks(BATCH) {
            let served = Arc::new(self.read(reference, batch).await?);
            for window in batch {
                let findings = self.drift(reference, &served, window).await?;
                self.save(window, &findings, BY_INPUTS).await?;
            }
        }
        Ok(new.len())
    }

    /// The rows of a batch of windows and of the trailing span before them; reading is work for another thread.
    async fn read(&self, reference: &Arc<Reference>, batch: &[&ServedWindow]) -> Result<Served, Error> {
        let (Some(first), Some(last)) = (batch.first(), batch.last()) else { return Ok(Served::default()) };
        let window = self.monitor.window.delta();
        let span = (first.start - window * (TRAILING - 1), last.start + window);
        let mut conn = self.context.db.acquire().await?;
        let (project, model) = (&self.project, &self.monitor.model);
        let logs =
            storage::predictions::logs(&mut conn, project, model, first.version, span.0, span.1).await?;
        drop(conn);
        let (data_dir, reference) = (self.context.data_dir.clone(), Arc::clone(reference));
        let read = move || Served::read(&data_dir, &logs, &reference.columns(), window, span);
        tokio::task::spawn_blocking(read).await?
    }

    async fn drift(
        &self,
        reference: &Arc<Reference>,
        served: &Arc<Served>,
        window: &ServedWindow,
    ) -> Result<Vec<Finding>, Error> {
        let bounds = drift::Bounds {
            alpha: self.monitor.alpha,
            min_effect: self.monitor.min_effect,
            min_rows: self.monitor.min_rows,
        };
        let (reference, served) = (Arc::clone(reference), Arc::clone(served));
        let (start, length) = (window.start, self.monitor.window.delta());
        let judge = move || {
            drift::judge(
                &reference.samples,
                &served.window(start),
                &served.trailing(start + length, length),
                bounds,
            )
        };
        tokio::task::spawn_blocking(judge).await?
    }

    async fn judge_labels(
        &self,
        reference: &Reference,
        windows: &[ServedWindow],
        until: DateTime<Utc>,
    ) -> Result<usize, Error> {
        let length = self.monitor.window.delta();
        let due = to_judge_by_labels(windows, &self.judged, length, until);
        for window in &due {
            let findings = self.outcomes(reference, window).await?;
            self.save(window, &findings, BY_LABELS).await?;
        }
        Ok(due.len())
    }

    async fn outcomes(&self, reference: &Reference, window: &ServedWindow) -> Result<Vec<Finding>, Error> {
        let (project, model, version) = (&self.project, &self.monitor.model, window.version);
        let length = self.monitor.window.delta();
        let (start, end) = (window.start, window.start + length);
        let mut conn = self.context.db.acquire().await?;
        let from = end - length * TRAILING;
        let trailing = storage::predictions::scored(&mut conn, project, model, version, from, end).await?;
        let rates =
            storage::monitors::label_rates(&mut conn, project, &self.monitor.name, model, version, start)
                .await?;
        drop(conn);
        let earlier: Vec<Step> = rates.into_iter().map(|(rate, n_eff)| Step { rate, n_eff }).collect();
        let bounds = outcomes::Bounds {
            alpha: self.monitor.alpha,
            min_rate_change: self.monitor.min_rate_change,
            min_rows: self.monitor.min_rows,
        };
        let expected = reference.expected;
        let judge = move || {
            let own = trailing.partition_point(|row| row.cutoff < start);
            outcomes::judge(&trailing[own..], &trailing, &earlier, expected, bounds)
        };
        tokio::task::spawn_blocking(judge).await?
    }

    async fn save(
        &self,
        window: &ServedWindow,
        findings: &[Finding],
        causes: [Cause; 2],
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
            let gauge = match finding.measure.as_str() {
                "ks_distance" | "total_variation" => {
                    self.metrics.drift_effect.with_label_values(&[monitor, &finding.column])
                }
                "rate_change" => self.metrics.label_rate.with_label_values(&[monitor]),
                measure if measure.starts_with("ece") && measure.ends_with("_windows") => {
                    self.metrics.calibration_error.with_label_values(&[monitor])
                }
                _ => continue,
            };
            let shown = if finding.measure == "rate_change" { finding.current } else { finding.effect };
            if let Some(value) = shown.filter(|_| finding.verdict != Verdict::InsufficientData) {
                gauge.set(value);
            }
        }
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
