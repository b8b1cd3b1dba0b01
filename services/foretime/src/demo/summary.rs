//! What was found, put together: the report's files and the table at the end.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use domain::evaluation::Interval;
use frames::training_set::Manifest;
use reqwest::Method;
use serde_json::Value;
use statistics::ranking::auc;

use super::progress::Steps;
use super::replay::{Replayed, Served};
use super::study::Registered;
use super::{Span, Stage};
use crate::Failure;
use crate::report::{Day, IncidentReport, Lineage, Optimism, Report, Retraining, html};

/// The parts of a run.
pub(super) struct Findings {
    pub(super) optimism: Optimism,
    pub(super) manifest: Manifest,
    pub(super) training_set: String,
    pub(super) models: Vec<Registered>,
    pub(super) replayed: Replayed,
    pub(super) delivered: Vec<Value>,
}

pub(super) async fn report(
    stage: &Stage<'_>,
    findings: Findings,
    steps: &Steps,
    began: Instant,
) -> Result<Report, Failure> {
    let windows = windows(stage).await?;
    let incidents = incidents(stage).await?;
    let champion = findings.models.iter().find(|model| model.report.gate.passed);
    let champion =
        champion.ok_or_else(|| Failure("no model passed the gate, so nothing could serve".to_owned()))?;
    Ok(Report {
        rows_in: findings.manifest.rows_in,
        rows_out: findings.manifest.rows_out,
        leaked_values: findings.manifest.leaked_values,
        champion: format!("late-arrival v{}", champion.report.version),
        lineage: lineage(stage, champion, &findings.training_set).await?,
        optimism: findings.optimism,
        notifications_delivered: findings.delivered.len() as u64,
        retraining: retraining(stage, &incidents).await?,
        days: days(&findings.replayed.served, &windows),
        drift_by_month: drift_by_month(&windows),
        models: findings.models.into_iter().map(|model| model.report).collect(),
        incidents,
        steps: steps.done.clone(),
        quick: stage.options.quick,
        seconds: began.elapsed().as_secs_f64(),
        peak_rss_mb: peak_rss_mb(),
    })
}

/// Everything that the monitor found in the replay.
async fn windows(stage: &Stage<'_>) -> Result<Vec<Value>, Failure> {
    let Span { from, until } = stage.span;
    let (from, until) = (from.format("%FT%TZ"), until.format("%FT%TZ"));
    let path = format!("/v1/monitors/late_arrival/windows?from={from}&until={until}");
    let answer = stage.client.json(Method::GET, &path, None).await?;
    Ok(answer.as_array().cloned().unwrap_or_default())
}

async fn incidents(stage: &Stage<'_>) -> Result<Vec<IncidentReport>, Failure> {
    let answer = stage.client.json(Method::GET, "/v1/incidents", None).await?;
    let text = |incident: &Value, key: &str| incident[key].as_str().unwrap_or_default().to_owned();
    let mut incidents: Vec<IncidentReport> = answer
        .as_array()
        .into_iter()
        .flatten()
        .map(|incident| IncidentReport {
            id: text(incident, "id"),
            cause: text(incident, "cause"),
            severity: text(incident, "severity"),
            state: text(incident, "state"),
            summary: text(incident, "summary"),
            first_seen: text(incident, "first_seen"),
            resolved_at: incident["resolved_at"].as_str().map(str::to_owned),
        })
        .collect();
    incidents.sort_by(|a, b| a.first_seen.cmp(&b.first_seen));
    Ok(incidents)
}

/// The latest retraining that an incident asked for, and what became of it.
async fn retraining(stage: &Stage<'_>, incidents: &[IncidentReport]) -> Result<Retraining, Failure> {
    let mut conn = stage.context.db.acquire().await.map_err(storage::Error::from)?;
    let jobs = storage::jobs::latest(&mut conn, &stage.context.config.project, 10_000).await?;
    drop(conn);
    let of_incident = |job: &&storage::jobs::JobRow| {
        job.kind == gpt_worker::TRAIN_JOB && job.payload["reason"]["incident"].is_string()
    };
    let Some(trained) = jobs.iter().find(of_incident) else {
        return Ok(Retraining {
            triggered_by: "no incident asked for a retraining".to_owned(),
            ..Retraining::default()
        });
    };
    let incident = trained.payload["reason"]["incident"].as_str().unwrap_or_default();
    let promoted = jobs.iter().rev().find(|job| {
        job.kind == registry::JOB_KIND
            && job.payload["reason"].as_str().is_some_and(|why| why.contains(incident))
    });
    let known = incidents.iter().find(|known| known.id == incident);
    Ok(Retraining {
        triggered_by: known
            .map_or_else(|| incident.to_owned(), |known| format!("incident {} ({})", known.id, known.cause)),
        gate: promoted.map_or_else(|| failure_of(trained), gate_of),
        version: promoted.and_then(|job| job.payload["version"].as_i64()).map(|version| version as i32),
        outcome: known.map_or_else(String::new, outcome_of),
    })
}

fn failure_of(job: &storage::jobs::JobRow) -> String {
    format!("the training did not end well: {}", job.failure.as_deref().unwrap_or("it never ended"))
}

fn gate_of(job: &storage::jobs::JobRow) -> String {
    let outcome = job.outcome.clone().unwrap_or_default();
    let verdict = outcome.get("verdict").unwrap_or(&outcome).clone();
    match serde_json::from_value::<domain::gate::Verdict>(verdict) {
        Ok(verdict) if verdict.passed => "passed: the new version serves".to_owned(),
        Ok(verdict) => format!("refused: {}", verdict.reasons()),
        Err(_) => job.failure.clone().unwrap_or_else(|| outcome.to_string()),
    }
}

fn outcome_of(incident: &IncidentReport) -> String {
    match &incident.resolved_at {
        Some(at) => format!("the incident resolved at {at}"),
        None => format!(
            "the incident is still {} when the replay ends: what moved had not come back for long enough",
            incident.state
        ),
    }
}

async fn lineage(stage: &Stage<'_>, champion: &Registered, training_set: &str) -> Result<Lineage, Failure> {
    let row = stage.client.json(Method::GET, &format!("/v1/training-sets/{training_set}"), None).await?;
    let freshness = stage.client.json(Method::GET, "/v1/freshness", None).await?;
    let views = freshness
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|view| Some((view["view"].as_str()?.to_owned(), view["parts"].as_i64()?)))
        .collect();
    Ok(Lineage {
        model_version: format!("late-arrival v{}", champion.report.version),
        run_id: champion.run_id.clone(),
        training_set: training_set.to_owned(),
        sha256: row["sha256"].as_str().unwrap_or_default().to_owned(),
        max_seq: row["max_seq"].as_i64().unwrap_or_default(),
        views,
    })
}

fn days(served: &[Served], windows: &[Value]) -> Vec<Day> {
    let mut by_day: BTreeMap<&str, Vec<&Served>> = BTreeMap::new();
    for prediction in served {
        by_day.entry(&prediction.day).or_default().push(prediction);
    }
    by_day.into_iter().map(|(day, served)| one_day(day, &served, windows)).collect()
}

fn one_day(day: &str, served: &[&Served], windows: &[Value]) -> Day {
    let (probabilities, labels): (Vec<f64>, Vec<bool>) =
        served.iter().filter_map(|served| Some((served.probability, served.late?))).unzip();
    let late = labels.iter().filter(|late| **late).count();
    let drifted = windows.iter().filter(|window| {
        window["kind"] == "input"
            && window["verdict"] == "drift"
            && window["window_start"].as_str().is_some_and(|start| start.starts_with(day))
    });
    let columns: std::collections::BTreeSet<&str> =
        drifted.filter_map(|window| window["column"].as_str()).collect();
    Day {
        day: day.to_owned(),
        predictions: served.len() as u64,
        mean_probability: served.iter().map(|served| served.probability).sum::<f64>() / served.len() as f64,
        late_rate: (!labels.is_empty()).then(|| late as f64 / labels.len() as f64),
        auc: auc(&probabilities, &labels).ok().map(|auc| Interval {
            value: auc.value,
            low: auc.interval.low,
            high: auc.interval.high,
        }),
        drifted_columns: columns.len() as u64,
        version: served.last().map_or(0, |served| served.version),
    }
}

/// Share of windows by input column and month that were called `drift`.
fn drift_by_month(windows: &[Value]) -> BTreeMap<String, BTreeMap<String, f64>> {
    let mut counts: BTreeMap<String, BTreeMap<String, (u64, u64)>> = BTreeMap::new();
    for window in windows.iter().filter(|window| window["kind"] == "input") {
        let (Some(column), Some(start)) = (window["column"].as_str(), window["window_start"].as_str()) else {
            continue;
        };
        let month = start.get(..7).unwrap_or(start).to_owned();
        let count = counts.entry(column.to_owned()).or_default().entry(month).or_default();
        count.0 += u64::from(window["verdict"] == "drift");
        count.1 += 1;
    }
    let share = |(drifted, all): (u64, u64)| drifted as f64 / all as f64;
    counts
        .into_iter()
        .map(|(column, months)| {
            (column, months.into_iter().map(|(month, count)| (month, share(count))).collect())
        })
        .collect()
}

/// The most memory this process held, as the kernel counts it.
fn peak_rss_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kilobytes.unwrap_or_default() / 1024.0
}

pub(super) fn write(folder: &Path, report: &Report) -> Result<(), Failure> {
    let json = serde_json::to_vec_pretty(report).map_err(|error| Failure(error.to_string()))?;
    frames::files::write_bytes(&folder.join("report.json"), &json)?;
    frames::files::write_bytes(&folder.join("report.html"), html(report).as_bytes())?;
    Ok(())
}

pub(super) fn print(report: &Report, folder: &Path, kept: bool) {
    println!("\n{:<14} {:>7} {:>16} {:>8} {:>7}  gate", "model", "AUC", "95 % interval", "log-loss", "ECE");
    for model in &report.models {
        let gate = if model.gate.passed { "passed" } else { "refused" };
        let interval = format!("[{:.3}, {:.3}]", model.auc_low, model.auc_high);
        println!(
            "{:<14} {:>7.4} {interval:>16} {:>8.4} {:>7.4}  {gate}",
            model.name, model.auc, model.log_loss, model.ece
        );
    }
    for incident in &report.incidents {
        println!(
            "incident: {} ({}, {}) since {}: {}",
            incident.cause, incident.severity, incident.state, incident.first_seen, incident.summary
        );
    }
    let retraining = &report.retraining;
    if retraining.gate.is_empty() {
        println!("retraining: {}", retraining.triggered_by);
    } else {
        println!(
            "retraining: by {}; gate: {}; {}",
            retraining.triggered_by, retraining.gate, retraining.outcome
        );
    }
    println!(
        "{} messages delivered, {:.0} s, {:.0} MB at most",
        report.notifications_delivered, report.seconds, report.peak_rss_mb
    );
    println!("report: {}", folder.join("report.html").display());
    if !kept {
        println!("everything was stopped; `foretime demo --keep` leaves it running to look around");
    }
}
