//! The rows that a version served, read back from its logs, as samples of windows and of spans of windows.

use std::collections::BTreeMap;
use std::path::PathBuf;

use chrono::{DateTime, TimeDelta, Utc};
use frames::Frame;
use frames::assemble::table;
use frames::files::{read_arrow, verify};
use storage::predictions::Log;

use crate::Error;
use crate::drift::{Samples, TRAILING};
use crate::samples::Sample;

/// Samples of windows, by when they begin.
#[derive(Debug, Default)]
pub(crate) struct Served(BTreeMap<DateTime<Utc>, Samples>);

impl Served {
    /// Reads the files; only `columns` are kept, and windows of length `window` in `[from, until)`.
    pub(crate) fn read(
        data_dir: &std::path::Path,
        logs: &[Log],
        columns: &[String],
        window: TimeDelta,
        (from, until): (DateTime<Utc>, DateTime<Utc>),
    ) -> Result<Self, Error> {
        let mut windows: BTreeMap<DateTime<Utc>, Frame> = BTreeMap::new();
        for log in logs {
            let path: PathBuf = data_dir.join(&log.path);
            verify(&path, &log.sha256)?;
            let rows = read_arrow(&path)?;
            for (start, indices) in by_window(rows.times("cutoff")?, window, from, until) {
                let part = rows.take(&indices);
                match windows.get_mut(&start) {
                    Some(whole) => whole.append(&part)?,
                    None => drop(windows.insert(start, part)),
                }
            }
        }
        let samples = windows.into_iter().map(|(start, rows)| Ok((start, samples(&rows, columns)?)));
        samples.collect::<Result<_, Error>>().map(Self)
    }

    /// The samples of the window that begins at `start`.
    pub(crate) fn window(&self, start: DateTime<Utc>) -> Samples {
        self.0.get(&start).cloned().unwrap_or_default()
    }

    /// The samples of the windows before `end`, merged over the trailing span. A window in which a column had another type
    /// is left out for that column.
    pub(crate) fn trailing(&self, end: DateTime<Utc>, window: TimeDelta) -> Samples {
        let mut merged = Samples::new();
        for (_, samples) in self.0.range(end - window * TRAILING..end).rev() {
            for (column, sample) in samples {
                match merged.get_mut(column) {
                    Some(whole) => drop(whole.merge(sample)),
                    None => drop(merged.insert(column.clone(), sample.clone())),
                }
            }
        }
        merged
    }
}

/// The rows of each window, windows counted from 1970.
fn by_window(
    cutoffs: &[i64],
    window: TimeDelta,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
) -> BTreeMap<DateTime<Utc>, Vec<u32>> {
    let length = window.num_microseconds().unwrap_or(i64::MAX);
    let wanted = from.timestamp_micros()..until.timestamp_micros();
    let mut rows: BTreeMap<DateTime<Utc>, Vec<u32>> = BTreeMap::new();
    for (row, cutoff) in cutoffs.iter().enumerate().filter(|(_, cutoff)| wanted.contains(cutoff)) {
        let start = cutoff.div_euclid(length) * length;
        if let Some(start) = DateTime::from_timestamp_micros(start) {
            rows.entry(start).or_default().push(row as u32);
        }
    }
    rows
}

/// The columns as models see them, which is how references hold them.
fn samples(rows: &Frame, columns: &[String]) -> Result<Samples, Error> {
    let cutoffs = rows.times("cutoff")?;
    let mut order: Vec<usize> = (0..rows.rows()).collect();
    order.sort_by_key(|&row| cutoffs[row]);
    let seen = table(rows)?;
    let found = seen.columns().iter().filter(|(name, _)| columns.contains(name));
    Ok(found.map(|(name, column)| (name.clone(), Sample::of_series(column, &order))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cutoff_belongs_to_the_window_that_begins_at_or_before_it() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let cutoffs = ["2013-11-01T00:00:00Z", "2013-11-01T23:59:59.999999Z", "2013-11-02T00:00:00Z"];
        let micros: Vec<i64> = cutoffs.iter().map(|text| at(text).timestamp_micros()).collect();
        let rows =
            by_window(&micros, TimeDelta::days(1), at("2013-11-01T00:00:00Z"), at("2013-11-03T00:00:00Z"));
        assert_eq!(rows[&at("2013-11-01T00:00:00Z")], [0, 1]);
        assert_eq!(rows[&at("2013-11-02T00:00:00Z")], [2]);
    }
}
