//! How far the features have moved since a version's training: its training rows against rows served later.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use domain::evaluation::{Evaluation, Interval};
use domain::gate::Drift;
use domain::tabular::{Column, Table};
use frames::Frame;
use frames::assemble::table;
use frames::files::{read_arrow, verify};
use service_kit::Context;
use sqlx::PgConnection;
use statistics::drift::{effective_sample_size, ks, total_variation};
use storage::predictions::{self, Log};

use super::Ask;
use crate::Error;

/// Fewer served rows than this show nothing.
const NEEDED_ROWS: u64 = 500;
/// Files of served rows that are read, the newest first.
const MOST_FILES: i64 = 50;
/// The intervals' level.
const LEVEL: f64 = 0.95;
/// Columns of a reference or a log that are not inputs.
const NOT_INPUTS: [&str; 5] = ["row", "prediction_id", "cutoff", "label", "probability"];

/// Compares the rows kept with a version with what any version of its model was asked since.
pub(super) async fn since(
    context: &Context,
    conn: &mut PgConnection,
    ask: &Ask<'_>,
    evaluation: &Evaluation,
) -> Result<Drift, Error> {
    if evaluation.reference_path.is_empty() {
        return Ok(Drift::Unknown { rows: 0, needed: NEEDED_ROWS }); // trained elsewhere, on rows that nobody kept here
    }
    let from = evaluation.evaluated_through.0;
    let logs = predictions::newest_logs(conn, ask.project, ask.model, from, MOST_FILES).await?;
    let reference = context.data_dir.join(&evaluation.reference_path);
    let data_dir = context.data_dir.clone();
    let after = from.timestamp_micros();
    let compared = tokio::task::spawn_blocking(move || compare(&reference, &data_dir, &logs, after));
    Ok(compared
        .await
        .map_err(|error| Error::Unreadable(format!("the comparison ended early: {error}")))??)
}

fn compare(reference: &Path, data_dir: &Path, logs: &[Log], after: i64) -> Result<Drift, frames::Error> {
    let served = served_rows(data_dir, logs, after)?;
    let rows = served.as_ref().map_or(0, |served| served.rows() as u64);
    let Some(served) = served.filter(|_| rows >= NEEDED_ROWS) else {
        return Ok(Drift::Unknown { rows, needed: NEEDED_ROWS });
    };
    let (reference, served) = (table(&read_arrow(reference)?)?, table(&served)?);
    let inputs = reference.columns().iter().filter(|(name, _)| !NOT_INPUTS.contains(&name.as_str()));
    let moved = inputs.filter_map(|(name, column)| Some((name, effect(column, &served, name)?)));
    let worst = moved.max_by(|(_, one), (_, other)| one.low.total_cmp(&other.low));
    Ok(match worst {
        Some((column, effect)) => Drift::Worst { column: column.clone(), effect, rows },
        None => Drift::Unknown { rows: 0, needed: NEEDED_ROWS },
    })
}

/// The rows of the files that were asked about after the evaluation, in the order of time.
fn served_rows(data_dir: &Path, logs: &[Log], after: i64) -> Result<Option<Frame>, frames::Error> {
    let mut all: Option<Frame> = None;
    for log in logs {
        let path = data_dir.join(&log.path);
        verify(&path, &log.sha256)?;
        let rows = read_arrow(&path)?;
        let cutoffs = rows.times("cutoff")?.to_vec();
        let later = rows.filter(|row| cutoffs[row] > after);
        match &mut all {
            Some(all) => all.append(&later)?,
            None => all = Some(later),
        }
    }
    let Some(all) = all else { return Ok(None) };
    let cutoffs = all.times("cutoff")?;
    let mut order: Vec<u32> = (0..all.rows() as u32).collect();
    order.sort_by_key(|&row| cutoffs[row as usize]);
    Ok(Some(all.take(&order)))
}

/// How far one column moved; `None` if it cannot be told.
fn effect(reference: &Column, served: &Table, name: &str) -> Option<Interval> {
    let (_, served) = served.columns().iter().find(|(column, _)| column == name)?;
    match (reference, served) {
        (Column::Number(reference), Column::Number(served)) => {
            let there = |numbers: &[f64]| -> Vec<f64> {
                numbers.iter().copied().filter(|number| !number.is_nan()).collect()
            };
            let (reference, served) = (there(reference), there(served));
            let found = ks(&reference, &served).ok()?;
            let worth = effective_sample_size(&served).ok()?;
            let interval = found.interval(LEVEL, reference.len() as f64, worth).ok()?;
            Some(Interval { value: found.distance, low: interval.low, high: interval.high })
        }
        (Column::Category { .. }, Column::Category { .. }) => {
            let (before, now) = counts(reference, served);
            let found = total_variation(&before, &now).ok()?;
            let sizes = (before.iter().sum::<u64>() as f64, now.iter().sum::<u64>() as f64);
            let interval = found.interval(LEVEL, sizes.0, sizes.1).ok()?;
            Some(Interval { value: found.distance, low: interval.low, high: interval.high })
        }
        _ => None,
    }
}

/// How often each level occurs in either column; missing values are left out.
fn counts(reference: &Column, served: &Column) -> (Vec<u64>, Vec<u64>) {
    let (before, now) = (levels(reference), levels(served));
    let names: BTreeSet<&str> = before.keys().chain(now.keys()).copied().collect();
    let pick = |counts: &BTreeMap<&str, u64>| -> Vec<u64> {
        names.iter().map(|name| counts.get(name).copied().unwrap_or_default()).collect()
    };
    (pick(&before), pick(&now))
}

fn levels(column: &Column) -> BTreeMap<&str, u64> {
    let mut counts = BTreeMap::new();
    if let Column::Category { codes, .. } = column {
        for row in 0..codes.len() {
            if let Some(level) = column.category(row) {
                *counts.entry(level).or_default() += 1;
            }
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use frames::Values;
    use frames::files::write_arrow;

    fn file(folder: &Path, name: &str, rows: usize, fare: impl Fn(usize) -> f64, carrier: &str) -> Log {
        let columns = vec![
            ("cutoff".to_owned(), Values::Time((0..rows as i64).map(|row| 1_000 + row).collect())),
            ("fare".to_owned(), Values::Number((0..rows).map(fare).collect())),
            ("carrier".to_owned(), Values::text((0..rows).map(|_| Some(carrier)))),
        ];
        let written = write_arrow(&folder.join(name), &Frame::new(rows, columns)).unwrap();
        Log { path: name.to_owned(), sha256: written.sha256 }
    }

    fn noise(row: usize) -> f64 {
        (row * 7_919 % 1_009) as f64 / 1_009.0
    }

    #[test]
    fn the_feature_that_moved_most_surely_is_named() {
        let folder = tempfile::tempdir().unwrap();
        file(folder.path(), "reference.arrow", 5_000, noise, "AA");
        let log = file(folder.path(), "log.arrow", 2_000, |row| noise(row) + 0.5, "AA");
        let found = compare(&folder.path().join("reference.arrow"), folder.path(), &[log], 0).unwrap();
        let Drift::Worst { column, effect, rows } = found else { panic!("{found:?}") };
        assert_eq!((column.as_str(), rows), ("fare", 2_000));
        assert!(effect.low > 0.3 && effect.value < 0.6, "{effect:?}");
    }

    #[test]
    fn another_level_is_drift_too_and_rows_of_the_evaluation_do_not_count() {
        let folder = tempfile::tempdir().unwrap();
        file(folder.path(), "reference.arrow", 5_000, noise, "AA");
        let log = file(folder.path(), "log.arrow", 2_000, noise, "UA");
        let reference = folder.path().join("reference.arrow");
        let found = compare(&reference, folder.path(), std::slice::from_ref(&log), 0).unwrap();
        assert!(matches!(&found, Drift::Worst { column, .. } if column == "carrier"), "{found:?}");
        let later = compare(&reference, folder.path(), &[log], 2_600).unwrap();
        assert_eq!(later, Drift::Unknown { rows: 399, needed: NEEDED_ROWS });
    }
}
