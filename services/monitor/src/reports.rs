//! `/v1/reports`: what was found in each window, in short and in full; and the references that windows are held against.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, Query, State};
use chrono::{DateTime, TimeDelta, Utc};
use domain::incident::Verdict;
use serde::{Deserialize, Serialize};
use service_kit::{Context, Problem};
use statistics::Generator;
use statistics::profile::ColumnProfile;
use statistics::resampling::greatest_to_come;
use storage::monitors::WindowRow;
use storage::profiles::Version;

use crate::{profiles, reference};

/// How much time an answer spans unless the question says.
const SPAN: TimeDelta = TimeDelta::days(30);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    monitor: String,
    from: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
}

/// A window in short.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Report {
    monitor: String,
    registered_model: String,
    version: i32,
    window_start: DateTime<Utc>,
    window_end: DateTime<Utc>,
    judged_at: DateTime<Utc>,
    /// The worst verdict of any measure.
    verdict: Verdict,
    /// How many measures came to each verdict.
    measures: BTreeMap<String, usize>,
    /// Columns with a measure that drifted or is broken.
    columns: Vec<String>,
}

/// Answers windows in short, newest first.
pub(crate) async fn list(
    State(context): State<Context>,
    Query(asked): Query<Asked>,
) -> Result<Json<Vec<Report>>, Problem> {
    let until = asked.until.unwrap_or_else(|| context.clock.now());
    let rows = found(&context, &asked.monitor, asked.from.unwrap_or(until - SPAN), until).await?;
    let mut reports: Vec<Report> =
        rows.chunk_by(is_same_window).map(|rows| in_short(&asked.monitor, rows)).collect();
    reports.reverse();
    Ok(Json(reports))
}

/// A window in full.
#[derive(Debug, Serialize)]
pub(crate) struct Whole {
    #[serde(flatten)]
    report: Report,
    findings: Vec<WindowRow>,
}

/// Answers one window in full: one report for each version that served in it.
pub(crate) async fn show(
    State(context): State<Context>,
    Path((monitor, start)): Path<(String, DateTime<Utc>)>,
) -> Result<Json<Vec<Whole>>, Problem> {
    let rows = found(&context, &monitor, start, start + TimeDelta::microseconds(1)).await?;
    if rows.is_empty() {
        let what = format!("a judged window of monitor `{monitor}` that begins at {}", start.to_rfc3339());
        return Err(storage::Error::not_found(what).into());
    }
    let whole = |rows: &[WindowRow]| Whole { report: in_short(&monitor, rows), findings: rows.to_vec() };
    Ok(Json(rows.chunk_by(is_same_window).map(whole).collect()))
}

async fn found(
    context: &Context,
    monitor: &str,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<Vec<WindowRow>, storage::Error> {
    crate::named(&crate::http::load(context).await?, monitor)?;
    let mut conn = context.db.acquire().await?;
    storage::monitors::windows(&mut conn, &context.config.project, monitor, from, until).await
}

fn is_same_window(one: &WindowRow, other: &WindowRow) -> bool {
    (one.window_start, one.version) == (other.window_start, other.version)
}

/// A window's rows, at least one, in short.
fn in_short(monitor: &str, rows: &[WindowRow]) -> Report {
    let mut measures: BTreeMap<String, usize> = BTreeMap::new();
    rows.iter().for_each(|row| *measures.entry(row.verdict.clone()).or_default() += 1);
    let bad = |row: &&WindowRow| row.verdict == "drift" || row.verdict == "broken";
    let mut columns: Vec<String> =
        rows.iter().filter(bad).map(|row| row.column.clone()).filter(|column| !column.is_empty()).collect();
    columns.dedup();
    let worst = [Verdict::Broken, Verdict::Drift, Verdict::Ok]
        .into_iter()
        .find(|verdict| measures.contains_key(verdict.as_str()))
        .unwrap_or(Verdict::InsufficientData);
    Report {
        monitor: monitor.to_owned(),
        registered_model: rows[0].registered_model.clone(),
        version: rows[0].version,
        window_start: rows[0].window_start,
        window_end: rows[0].window_end,
        judged_at: rows.iter().map(|row| row.judged_at).max().unwrap_or(rows[0].judged_at),
        verdict: worst,
        measures,
        columns,
    }
}

/// A version's reference.
#[derive(Debug, Serialize)]
pub(crate) struct ReferenceAnswer {
    registered_model: String,
    version: i32,
    /// By column; none of a column without a value.
    columns: BTreeMap<String, Option<ColumnProfile>>,
}

/// Answers the profiles that a version's windows are held against; they are made if they are not kept yet.
pub(crate) async fn reference(
    State(context): State<Context>,
    Path((model, version)): Path<(String, i32)>,
) -> Result<Json<ReferenceAnswer>, Problem> {
    let project = context.config.project.clone();
    let mut conn = context.db.acquire().await.map_err(storage::Error::from)?;
    let evaluation = reference::evaluation(&mut conn, &project, &model, version).await?;
    drop(conn);
    let of = Version { project, registered_model: model.clone(), version };
    let columns = reference::kept(&context, &of, &evaluation.reference_path).await?;
    Ok(Json(ReferenceAnswer { registered_model: model, version, columns }))
}

/// A column over a span.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profiled {
    from: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
}

/// What a version was served.
#[derive(Debug, Serialize)]
pub(crate) struct ProfileAnswer {
    from: DateTime<Utc>,
    until: DateTime<Utc>,
    /// By column: what is known of its rows, merged over the span.
    columns: BTreeMap<String, ColumnProfile>,
}

/// Answers the profiles of a version's served rows over a span of hours: a merge, no rows are read.
pub(crate) async fn profile(
    State(context): State<Context>,
    Path((model, version)): Path<(String, i32)>,
    Query(asked): Query<Profiled>,
) -> Result<Json<ProfileAnswer>, Problem> {
    let until = asked.until.unwrap_or_else(|| context.clock.now());
    let from = asked.from.unwrap_or(until - TimeDelta::days(1));
    let project = context.config.project.clone();
    let mut conn = context.db.acquire().await.map_err(storage::Error::from)?;
    let evaluation = reference::evaluation(&mut conn, &project, &model, version).await?;
    drop(conn);
    let of = Version { project, registered_model: model, version };
    let references = reference::kept(&context, &of, &evaluation.reference_path).await?;
    let references = references.into_iter().filter_map(|(name, profile)| Some((name, profile?))).collect();
    let columns = profiles::over(&context, &of, &references, from, until).await?;
    Ok(Json(ProfileAnswer { from, until, columns }))
}

/// Windows of a block that history is drawn in, how many windows a threshold is to hold for, and how surely.
const BLOCK: usize = 7;
const HORIZON: usize = 30;
const LEVEL: f64 = 0.95;

/// What history says about a column's smallest effect.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Learned {
    column: String,
    /// Judged windows with an effect.
    windows: usize,
    /// The greatest of their effects.
    greatest: f64,
    /// The smallest effect that thirty more such windows stay within, nineteen times of twenty; `None` of too few windows.
    min_effect: Option<f64>,
    /// How many windows are needed to say.
    needed: usize,
}

/// Answers smallest effects learned from the effects of past windows, by block bootstrap. Nothing is changed.
pub(crate) async fn learned(
    State(context): State<Context>,
    Path(monitor): Path<String>,
    Query(asked): Query<Profiled>,
) -> Result<Json<Vec<Learned>>, Problem> {
    let until = asked.until.unwrap_or_else(|| context.clock.now());
    let rows = found(&context, &monitor, asked.from.unwrap_or(until - SPAN * 3), until).await?;
    let mut effects: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for row in rows {
        if let (Some(effect), "ks_distance" | "total_variation") = (row.effect, row.measure.as_str()) {
            effects.entry(row.column).or_default().push(effect);
        }
    }
    let learn = || effects.into_iter().map(|(column, effects)| learn(column, &effects)).collect();
    Ok(Json(learn()))
}

fn learn(column: String, effects: &[f64]) -> Learned {
    let mut generator = Generator::from_seed(effects.len() as u64);
    let min_effect = match effects.len() >= HORIZON {
        true => greatest_to_come(effects, BLOCK, HORIZON, LEVEL, &mut generator).ok(),
        false => None,
    };
    let greatest = effects.iter().copied().fold(0.0, f64::max);
    Learned { column, windows: effects.len(), greatest, min_effect, needed: HORIZON }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_effect_is_learned_from_enough_windows_only() {
        let effects: Vec<f64> = (0..60).map(|window| 0.05 + 0.001 * f64::from(window % 11)).collect();
        let learned = learn("distance".to_owned(), &effects);
        assert_eq!((learned.windows, learned.min_effect), (60, Some(learned.greatest)), "{learned:?}");
        let few = learn("distance".to_owned(), &effects[..12]);
        assert_eq!((few.min_effect, few.needed), (None, 30));
    }
}
