//! What a version is compared with: the training rows kept with it, its training rate, and what it showed when registered.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use domain::definitions::Monitor;
use domain::evaluation::Evaluation;
use domain::tabular::Table;
use frames::assemble::table;
use frames::files::read_arrow;
use service_kit::Context;
use sqlx::PgConnection;
use storage::predictions::ServedWindow;

use crate::drift::Samples;
use crate::outcomes::Expected;
use crate::samples::Sample;
use crate::{Error, SCORE};

/// Columns of a reference or a log that say which row it is, and are not inputs.
const NOT_INPUTS: [&str; 4] = ["row", "prediction_id", "cutoff", "label"];

/// What a version is compared with.
#[derive(Debug)]
pub(crate) struct Reference {
    /// The watched columns of the training rows.
    pub(crate) samples: Samples,
    /// What outcomes are compared with.
    pub(crate) expected: Expected,
}

impl Reference {
    /// The watched columns.
    pub(crate) fn columns(&self) -> Vec<String> {
        self.samples.keys().cloned().collect()
    }
}

/// The reference of a version.
pub(crate) async fn load(
    context: &Context,
    project: &str,
    monitor: &Monitor,
    version: i32,
) -> Result<Arc<Reference>, Error> {
    let mut conn = context.db.acquire().await?;
    let evaluation = evaluation(&mut conn, project, &monitor.model, version).await?;
    drop(conn);
    let path = context.data_dir.join(&evaluation.reference_path);
    let rows = tokio::task::spawn_blocking(move || table(&read_arrow(&path)?)).await??;
    let watched = watched_columns(&rows, monitor, version)?;
    let all: Vec<usize> = (0..rows.rows()).collect();
    let found = rows.columns().iter().filter(|(name, _)| watched.contains(name));
    let samples = found.map(|(name, column)| (name.clone(), Sample::of_independent(column, &all).sorted()));
    let auc = evaluation.overall.auc.map(|auc| (auc.value, auc.low));
    let expected = Expected { rate: evaluation.reference_rate, auc };
    Ok(Arc::new(Reference { samples: samples.collect(), expected }))
}

async fn evaluation(
    conn: &mut PgConnection,
    project: &str,
    model: &str,
    version: i32,
) -> Result<Evaluation, Error> {
    let none = || Error::NoReference { model: model.to_owned(), version };
    let found =
        storage::models::find_version(conn, project, model, version).await?.filter(|found| found.made_by_run);
    let run = found.and_then(|found| found.run_id).ok_or_else(none)?;
    storage::model_evidence::find(conn, project, &run).await?.ok_or_else(none)
}

/// The columns that the monitor names, or all but the ignored ones; and the score.
fn watched_columns(rows: &Table, monitor: &Monitor, version: i32) -> Result<Vec<String>, Error> {
    let inputs: Vec<String> = rows
        .columns()
        .iter()
        .map(|(name, _)| name.clone())
        .filter(|name| name != SCORE && !NOT_INPUTS.contains(&name.as_str()))
        .collect();
    let mut named = monitor.columns.iter().chain(&monitor.ignore);
    if let Some(unknown) = named.find(|column| !inputs.contains(column)) {
        return Err(Error::UnknownColumn {
            monitor: monitor.name.clone(),
            column: unknown.clone(),
            version,
            known: inputs,
        });
    }
    let mut watched = if monitor.columns.is_empty() { inputs } else { monitor.columns.clone() };
    watched.retain(|column| !monitor.ignore.contains(column));
    watched.push(SCORE.to_owned());
    Ok(watched)
}

/// Of the windows by version, those of the version that the monitor's alias pointed at when the window ended.
pub(crate) async fn watched(
    conn: &mut PgConnection,
    project: &str,
    monitor: &Monitor,
    windows: Vec<ServedWindow>,
) -> Result<Vec<ServedWindow>, Error> {
    let history = storage::models::history::after(conn, project, &monitor.model, 0, i64::MAX).await?;
    let moves = history.iter().filter(|entry| entry.alias == monitor.alias && entry.outcome != "refused");
    let moves: Vec<_> = moves.map(|entry| (entry.at, entry.to_version)).collect();
    Ok(of_alias(windows, &moves, monitor.window.delta()))
}

/// A window that ended before the alias first moved is watched under the version it moved to then.
fn of_alias(
    windows: Vec<ServedWindow>,
    moves: &[(DateTime<Utc>, Option<i32>)],
    length: TimeDelta,
) -> Vec<ServedWindow> {
    let version_at = |at: DateTime<Utc>| {
        let moved = moves.iter().rev().find(|(since, _)| *since < at).or(moves.first());
        moved.and_then(|(_, version)| *version)
    };
    windows.into_iter().filter(|window| version_at(window.start + length) == Some(window.version)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(day: i64) -> DateTime<Utc> {
        "2013-11-01T00:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::days(day)
    }

    #[test]
    fn a_window_is_watched_under_the_version_that_was_champion_when_it_ended() {
        let window =
            |start, version| ServedWindow { start: day(start), version, predictions: 1, labelled: 0 };
        let windows = vec![window(0, 1), window(1, 1), window(1, 2), window(2, 1), window(2, 2)];
        let moves = [(day(0), Some(1)), (day(2), Some(2))];
        let watched = of_alias(windows, &moves, TimeDelta::days(1));
        assert_eq!(watched, [window(0, 1), window(1, 1), window(2, 2)]);
    }

    #[test]
    fn without_an_alias_nothing_is_watched() {
        let window = ServedWindow { start: day(0), version: 1, predictions: 1, labelled: 0 };
        assert!(of_alias(vec![window], &[], TimeDelta::days(1)).is_empty());
    }
}
