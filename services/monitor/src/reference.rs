//! What a version is compared with: the training rows kept with it, as profiles that are kept too, its training rate, and what
//! it showed when registered.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use domain::definitions::Monitor;
use domain::evaluation::Evaluation;
use domain::reading;
use domain::tabular::Table;
use frames::Frame;
use frames::assemble::table;
use frames::files::read_arrow;
use frames::judged::Judged;
use service_kit::Context;
use sqlx::PgConnection;
use statistics::profile::ColumnProfile;
use statistics::rule::{Season, Yardstick};
use storage::predictions::ServedWindow;
use storage::profiles::{ReferenceProfiles, Version};

use crate::outcomes::Expected;
use crate::profiles::{self, Profiles};
use crate::ranking::Test;
use crate::shifted::Tested;
use crate::{Error, SCORE};

/// Columns of a reference or a log that say which row it is, and are not inputs.
const NOT_INPUTS: [&str; 4] = ["row", "prediction_id", "cutoff", "label"];

/// What a version is compared with.
#[derive(Debug)]
pub(crate) struct Reference {
    /// All columns of the training rows.
    pub(crate) profiles: Profiles,
    /// The watched ones, ready to hold windows against; without a value in the reference, a column has none.
    pub(crate) yardsticks: BTreeMap<String, Option<Yardstick>>,
    /// How many windows make a season; 1 without one.
    pub(crate) season: Season,
    /// What outcomes are compared with.
    pub(crate) expected: Expected,
    /// Rows of the version's test with their inputs, if they were kept.
    pub(crate) tested: Option<Tested>,
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
    let of = Version { project: project.to_owned(), registered_model: monitor.model.clone(), version };
    let profiles = kept(context, &of, &evaluation.reference_path).await?;
    let watched = watched_columns(profiles.keys(), monitor, version)?;
    let path = context.data_dir.join(&evaluation.reference_path);
    let (wanted, monitor) = (profiles, monitor.clone());
    let auc = evaluation.overall.auc.map(|auc| (auc.value, auc.low));
    let judged = (context.data_dir.join(&evaluation.predictions_path), evaluation.predictions_sha256);
    let rate = evaluation.reference_rate;
    let make = move || {
        let (season, yardsticks) = yardsticks(&path, &wanted, &watched, &monitor)?;
        let expected = Expected { rate, auc, test: test(&judged, monitor.window.delta())? };
        let profiles: Profiles =
            wanted.into_iter().filter_map(|(name, profile)| Some((name, profile?))).collect();
        let inputs = watched.iter().filter(|name| *name != SCORE && !reading::is_reading(name));
        let tested = Tested::read(&judged.0, inputs, &profiles)?;
        Ok(Arc::new(Reference { profiles, yardsticks, season, expected, tested }))
    };
    tokio::task::spawn_blocking(make).await?
}

/// The profiles of a reference's columns, `None` of those without a value: as they were kept, or made of its rows and kept.
pub(crate) async fn kept(
    context: &Context,
    of: &Version,
    path: &str,
) -> Result<BTreeMap<String, Option<ColumnProfile>>, Error> {
    let mut tx = context.db.begin().await?;
    storage::profiles::lock(&mut tx, of).await?;
    let found = storage::profiles::reference(&mut tx, of).await?.filter(|found| found.made_of == path);
    if let Some(profiles) = found.and_then(|found| serde_json::from_value(found.columns).ok()) {
        return Ok(profiles);
    }
    let file = context.data_dir.join(path);
    let made = tokio::task::spawn_blocking(move || of_file(&file)).await??;
    let columns = serde_json::to_value(&made).expect("profiles hold no map with odd keys");
    let reference = ReferenceProfiles { made_of: path.to_owned(), columns };
    storage::profiles::keep_reference(&mut tx, of, &reference, context.clock.now()).await?;
    tx.commit().await?;
    // As they will be read back: windows are counted over these bins.
    Ok(serde_json::from_value(reference.columns).expect("what was written can be read"))
}

fn of_file(file: &Path) -> Result<BTreeMap<String, Option<ColumnProfile>>, Error> {
    let mut made = BTreeMap::new();
    for rows in frames_of(file)? {
        let rows: Table = table(&rows)?;
        let inputs = rows.columns().iter().filter(|(name, _)| !NOT_INPUTS.contains(&name.as_str()));
        for (name, column) in inputs {
            made.insert(name.clone(), profiles::of_reference(column)?);
        }
    }
    Ok(made)
}

/// The rows of a reference, and what a GPT made of later rows' histories if the version has one.
fn frames_of(file: &Path) -> Result<Vec<Frame>, Error> {
    let read = file.with_file_name(reading::REFERENCE_FILE);
    let mut frames = vec![read_arrow(file)?];
    if read.exists() {
        frames.push(read_arrow(&read)?);
    }
    Ok(frames)
}

/// The rows that a version was judged on, by their file and its hash; `None` if the file is gone, or ranks nothing.
fn test((path, sha256): &(PathBuf, String), window: TimeDelta) -> Result<Option<Arc<Test>>, Error> {
    if !path.is_file() {
        return Ok(None);
    }
    Ok(Test::of(&Judged::read(path, sha256)?, window).map(Arc::new))
}

type Yardsticks = BTreeMap<String, Option<Yardstick>>;

fn yardsticks(
    file: &Path,
    profiles: &BTreeMap<String, Option<ColumnProfile>>,
    watched: &[String],
    monitor: &Monitor,
) -> Result<(Season, Yardsticks), Error> {
    let wanted = || watched.iter().map(|name| (name.clone(), profiles.get(name).cloned().flatten()));
    let Some(season) = monitor.season else {
        let plain = wanted().map(|(name, profile)| (name, profile.map(Yardstick::of)));
        return Ok((Season { slots: 1 }, plain.collect()));
    };
    let length = monitor.window.delta();
    let slots = (season.delta().num_seconds() / length.num_seconds().max(1)).max(1) as usize;
    let frames = frames_of(file)?.into_iter().map(|rows| Ok((by_window(&rows, length)?, table(&rows)?)));
    let frames: Vec<_> = frames.collect::<Result<_, Error>>()?;
    let seasonal = wanted().map(|(name, whole)| {
        let seen = frames.iter().find_map(|(windows, seen)| Some((windows, seen.column(&name)?)));
        let made = whole.zip(seen).map(|(whole, (windows, column))| {
            let parts: Vec<_> = windows
                .iter()
                .filter_map(|(start, order)| Some((*start, profiles::of_rows(column, order, &whole)?)))
                .collect();
            let placed = parts.iter().map(|(start, part)| (day(*start), slot(*start, length, slots), part));
            Yardstick::with_season(whole.clone(), Season { slots }, placed)
        });
        (name, made)
    });
    Ok((Season { slots }, seasonal.collect()))
}

fn day(start: DateTime<Utc>) -> i64 {
    start.timestamp().div_euclid(86_400)
}

/// The place of a window in its season, windows counted from 1970.
pub(crate) fn slot(start: DateTime<Utc>, window: TimeDelta, slots: usize) -> usize {
    let number = start.timestamp().div_euclid(window.num_seconds().max(1));
    number.rem_euclid(slots.max(1) as i64) as usize
}

/// The rows of each window, windows counted from 1970.
fn by_window(rows: &Frame, window: TimeDelta) -> Result<BTreeMap<DateTime<Utc>, Vec<usize>>, Error> {
    let length = window.num_microseconds().unwrap_or(i64::MAX);
    let mut windows: BTreeMap<DateTime<Utc>, Vec<usize>> = BTreeMap::new();
    for (row, cutoff) in rows.times("cutoff")?.iter().enumerate() {
        if let Some(start) = DateTime::from_timestamp_micros(cutoff.div_euclid(length) * length) {
            windows.entry(start).or_default().push(row);
        }
    }
    Ok(windows)
}

pub(crate) async fn evaluation(
    conn: &mut PgConnection,
    project: &str,
    model: &str,
    version: i32,
) -> Result<Evaluation, Error> {
    let none = || Error::NoReference { model: model.to_owned(), version };
    let found =
        storage::models::find_version(conn, project, model, version).await?.filter(|found| found.made_by_run);
    let run = found.and_then(|found| found.run_id).ok_or_else(none)?;
    let found = storage::model_evidence::find(conn, project, &run).await?;
    // What was trained elsewhere is judged here by what it foretold, and brings no rows.
    found.filter(|evaluation| !evaluation.reference_path.is_empty()).ok_or_else(none)
}

/// The columns that the monitor names, or all but the ignored ones; and the score.
fn watched_columns<'a>(
    known: impl Iterator<Item = &'a String>,
    monitor: &Monitor,
    version: i32,
) -> Result<Vec<String>, Error> {
    let inputs: Vec<String> = known.filter(|name| *name != SCORE).cloned().collect();
    let mut named = monitor.columns.iter().chain(&monitor.ignore).chain(&monitor.segments);
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
