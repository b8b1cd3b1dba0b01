//! What a rule would have done: stored profiles judged again with other settings, and shown to fresh watches.
//!
//! Inputs are judged anew, evidence and all, by the rule that judges windows. Labels keep their stored intervals, which are
//! held against another bound if one is asked. Nothing is changed and nobody is told.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use chrono::{DateTime, TimeDelta, Utc};
use domain::definitions::{Definitions, Monitor};
use domain::incident::{Cause, Change, Severity, Verdict, Watch};
use serde::{Deserialize, Serialize};
use service_kit::{Context, JsonBody, Problem};
use storage::monitors::{Finding, WindowKey, WindowRow};
use storage::predictions::ServedWindow;
use storage::profiles::Version;

use crate::Error;
use crate::drift::{self, Evidences, TRAILING};
use crate::incidents::{BY_INPUTS, BY_LABELS, Judged};
use crate::profiles::Hours;
use crate::reference::{self, Reference};

/// How far back a backtest looks unless it is told.
const SPAN: TimeDelta = TimeDelta::days(30);

/// A rule to try; what is absent is as the monitor has it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    from: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
    alpha: Option<f64>,
    min_effect: Option<f64>,
    min_rows: Option<u64>,
    min_rate_change: Option<f64>,
    recovery_windows: Option<u32>,
}

/// An incident that would have been.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Would {
    cause: Cause,
    severity: Severity,
    summary: String,
    since: DateTime<Utc>,
    opened_at: DateTime<Utc>,
    reopened: u32,
    resolved_at: Option<DateTime<Utc>>,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    from: DateTime<Utc>,
    until: DateTime<Utc>,
    windows: usize,
    incidents: Vec<Would>,
}

/// What would have been found by inputs in the windows that begin then.
type ByInputs = Vec<(DateTime<Utc>, Vec<Finding>)>;

/// A window and what would have been found in it.
type Found = (WindowKey, Vec<Finding>);

pub(crate) async fn backtest(
    State(context): State<Context>,
    Path(name): Path<String>,
    JsonBody(rule): JsonBody<Rule>,
) -> Result<Json<Answer>, Problem> {
    let definitions = crate::http::load(&context).await?;
    let monitor = tried(crate::named(&definitions, &name)?, &rule);
    let until = rule.until.unwrap_or_else(|| context.clock.now());
    let from = rule.from.unwrap_or(until - SPAN);
    let mut found = by_inputs(&context, &monitor, from, until).await?;
    by_labels(&context, &monitor, &rule, &mut found).await?;
    let windows: Vec<Found> = found.into_values().collect();
    let causes = BY_INPUTS.iter().chain(BY_LABELS);
    let incidents = causes.flat_map(|&cause| replay(&definitions, &monitor, &windows, cause)).collect();
    Ok(Json(Answer { from, until, windows: windows.len(), incidents }))
}

fn tried(monitor: &Monitor, rule: &Rule) -> Monitor {
    Monitor {
        alpha: rule.alpha.unwrap_or(monitor.alpha),
        min_effect: rule.min_effect.unwrap_or(monitor.min_effect),
        min_rows: rule.min_rows.unwrap_or(monitor.min_rows),
        min_rate_change: rule.min_rate_change.unwrap_or(monitor.min_rate_change),
        recovery_windows: rule.recovery_windows.unwrap_or(monitor.recovery_windows),
        ..monitor.clone()
    }
}

/// The windows by time and version, judged by their inputs.
async fn by_inputs(
    context: &Context,
    monitor: &Monitor,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<BTreeMap<(DateTime<Utc>, i32), Found>, Error> {
    let project = &context.config.project;
    let length = monitor.window.delta();
    let mut conn = context.db.acquire().await?;
    let served = storage::predictions::windows(&mut conn, project, &monitor.model, length, until).await?;
    let served: Vec<ServedWindow> = served.into_iter().filter(|window| window.start >= from).collect();
    let watched = reference::watched(&mut conn, project, monitor, served).await?;
    let mut found = BTreeMap::new();
    let mut versions: BTreeMap<i32, Vec<DateTime<Utc>>> = BTreeMap::new();
    watched.iter().for_each(|window| versions.entry(window.version).or_default().push(window.start));
    for (version, starts) in versions {
        let reference = match reference::load(context, project, monitor, version).await {
            Err(Error::NoReference { .. }) => continue,
            loaded => loaded?,
        };
        let of = Version { project: project.clone(), registered_model: monitor.model.clone(), version };
        let begin = from - length * TRAILING;
        let parts = storage::profiles::parts(&mut conn, &of, begin, until).await?;
        let judged = {
            let monitor = monitor.clone();
            let judge = move || judge(&reference, parts, &starts, &monitor);
            tokio::task::spawn_blocking(judge).await??
        };
        found.extend(judged.into_iter().map(|(start, findings)| {
            let key = WindowKey {
                project: project.clone(),
                monitor: monitor.name.clone(),
                registered_model: monitor.model.clone(),
                version,
                start,
                end: start + length,
            };
            ((start, version), (key, findings))
        }));
    }
    Ok(found)
}

fn judge(
    reference: &Reference,
    parts: Vec<storage::profiles::Part>,
    starts: &[DateTime<Utc>],
    monitor: &Monitor,
) -> Result<ByInputs, Error> {
    let hours = Hours::of(parts, &reference.profiles)?;
    let mut evidence = Evidences::new();
    let judge = |&start: &DateTime<Utc>| {
        let findings = drift::judge_hours(reference, &hours, start, monitor, Some(&mut evidence))?;
        Ok((start, findings))
    };
    starts.iter().map(judge).collect()
}

/// Adds what was found by labels, with the verdicts of the rule.
async fn by_labels(
    context: &Context,
    monitor: &Monitor,
    rule: &Rule,
    found: &mut BTreeMap<(DateTime<Utc>, i32), Found>,
) -> Result<(), Error> {
    let (Some(first), Some(last)) = (found.keys().next(), found.keys().next_back()) else { return Ok(()) };
    let (from, until) = (first.0, last.0 + monitor.window.delta());
    let mut conn = context.db.acquire().await?;
    let project = &context.config.project;
    for row in storage::monitors::windows(&mut conn, project, &monitor.name, from, until).await? {
        if let Some((_, findings)) = found.get_mut(&(row.window_start, row.version)) {
            findings.extend(of_labels(&row, rule));
        }
    }
    Ok(())
}

/// A stored finding about labels; `None` if it is about inputs, or a word of another program.
fn of_labels(row: &WindowRow, rule: &Rule) -> Option<Finding> {
    let kind = ["label", "calibration", "performance"].into_iter().find(|kind| *kind == row.kind)?;
    let stored: Verdict = row.verdict.parse().ok()?;
    let verdict = match (rule.min_rate_change, stored) {
        (Some(bound), Verdict::Ok | Verdict::Drift) if kind != "performance" => {
            let beyond = row.low.is_some_and(|low| low > bound) || row.high.is_some_and(|high| high < -bound);
            if beyond { Verdict::Drift } else { Verdict::Ok }
        }
        _ => stored,
    };
    Some(Finding {
        kind,
        column: row.column.clone(),
        measure: row.measure.clone(),
        effect: row.effect,
        low: row.low,
        high: row.high,
        current: row.current_value,
        reference: row.reference_value,
        rows: row.rows.max(0).cast_unsigned(),
        n_eff: row.n_eff,
        e_value: row.e_value,
        verdict,
    })
}

fn replay(definitions: &Definitions, monitor: &Monitor, windows: &[Found], cause: Cause) -> Vec<Would> {
    let mut incidents: Vec<Would> = Vec::new();
    let mut watch = Watch::default();
    for (key, findings) in windows {
        let judged = Judged { definitions, monitor, key, findings, now: key.end };
        let look = judged.look(cause, watch.is_open());
        let (next, change) = watch.after(look, key.start, key.end, judged.patience(cause));
        watch = next;
        match (change, incidents.last_mut()) {
            (Some(Change::Opened), _) => {
                let since = watch.since.unwrap_or(key.start);
                incidents.push(Would {
                    cause,
                    severity: judged.severity(cause),
                    summary: judged.summary(cause, since),
                    since,
                    opened_at: key.end,
                    reopened: 0,
                    resolved_at: None,
                });
            }
            (Some(Change::Reopened), Some(last)) => {
                last.reopened += 1;
                last.resolved_at = None;
            }
            (Some(Change::Resolved), Some(last)) => last.resolved_at = Some(key.end),
            _ => {}
        }
    }
    incidents
}
