//! Two files compared column by column, without a server: what moved, by how much, and whether that is drift.
//!
//! A column of numbers is judged by the Kolmogorov–Smirnov distance (where the values lie), by the total variation over
//! twenty groups of equally many reference values (how they are spread), by how many values leave the reference's range, and
//! by missing values; a column of levels by total variation, by levels that the reference never saw (beyond what Good and
//! Turing expect) and by missing values. Each is a test of "at most the smallest effect worth naming", at a level shared
//! among the tests of a column and with the rows' effective number; across columns Benjamini and Hochberg's procedure keeps
//! the share of false verdicts. The measures beside them have names that state their definitions, and judge nothing.

mod levels;
mod measures;
mod numbers;
mod page;
mod plots;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use frames::column_file::{ColumnFile, ColumnKind};
use serde::Serialize;
use statistics::sequential::bh_adjusted;

use crate::Error;

pub use page::page;

/// What to call drift.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bounds {
    /// The chance that a column which did not move is called drifted.
    pub alpha: f64,
    /// The smallest distance worth naming, in [0, 1].
    pub min_effect: f64,
    /// Fewer values, on either side, give no verdict.
    pub min_rows: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { alpha: 0.001, min_effect: 0.01, min_rows: 30 }
    }
}

/// What became of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum ColumnVerdict {
    /// It did not move by more than the smallest effect, as far as the rows show.
    #[serde(rename = "ok")]
    Ok,
    /// There are too few values to tell.
    #[serde(rename = "insufficient data")]
    InsufficientData,
    /// It moved.
    #[serde(rename = "drift")]
    Drift,
    /// It is not the column it was: absent, or of another type.
    #[serde(rename = "broken")]
    Broken,
}

/// One test that a verdict rests on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cause {
    /// `location`, `spread`, `range`, `missing`, `levels`, `unseen levels`, or what is broken.
    pub name: String,
    /// P(so much, or more, were the true effect at most the smallest one worth naming).
    pub p_value: Option<f64>,
    /// The numbers, for people.
    pub evidence: String,
}

/// What was found about a column.
#[derive(Clone, Debug, Serialize)]
pub struct ColumnReport {
    /// The column.
    pub name: String,
    /// `number`, `category`, `time` or `other`.
    pub kind: &'static str,
    /// Rows of the reference, missing values included.
    pub rows_reference: u64,
    /// Rows of the current file, missing values included.
    pub rows_current: u64,
    /// What became of it.
    pub verdict: ColumnVerdict,
    /// The tests that speak for the verdict; without drift none.
    pub causes: Vec<Cause>,
    /// Kolmogorov–Smirnov distance of numbers, total variation of levels.
    pub effect: Option<f64>,
    /// The lower end of its 95 % interval.
    pub effect_low: Option<f64>,
    /// The upper end.
    pub effect_high: Option<f64>,
    /// Named measures: a name states its definition.
    pub measures: BTreeMap<String, f64>,
    /// Shares of the values, reference beside current, by bin or level.
    pub shares: Vec<Share>,
    #[serde(skip)]
    p_value: f64,
}

/// The share of values in one bin or of one level.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Share {
    /// The bin's upper edge, or the level.
    pub label: String,
    /// Of the reference.
    pub reference: f64,
    /// Of the current file.
    pub current: f64,
}

/// What was found about two files.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The format of this report.
    pub format: u32,
    /// What was asked.
    pub bounds: Bounds,
    /// Rows of the reference file.
    pub rows_reference: u64,
    /// Rows of the current file.
    pub rows_current: u64,
    /// The worst of the columns' verdicts.
    pub verdict: ColumnVerdict,
    /// The columns: the reference's in its order, then those that are new.
    pub columns: Vec<ColumnReport>,
}

/// Compares two Parquet files; columns are read one at a time by `threads` threads.
///
/// # Errors
/// [`Error`] if a file cannot be read.
pub fn compare(reference: &Path, current: &Path, bounds: Bounds, threads: usize) -> Result<Report, Error> {
    let (reference, current) = (ColumnFile::open(reference)?, ColumnFile::open(current)?);
    let old = reference.columns().iter().map(|(name, _)| name.clone());
    let new = current.columns().iter().map(|(name, _)| name.clone());
    let new = new.filter(|name| reference.kind(name).is_none());
    let names: Vec<String> = old.chain(new).collect();
    let mut columns = in_parallel(&names, threads, |name| column(&reference, &current, name, bounds))?;
    decide(&mut columns, bounds)?;
    Ok(Report {
        format: 1,
        bounds,
        rows_reference: reference.rows(),
        rows_current: current.rows(),
        verdict: columns.iter().map(|column| column.verdict).max().unwrap_or(ColumnVerdict::Ok),
        columns,
    })
}

/// The results of `work` on every name, in order.
fn in_parallel<T: Send>(
    names: &[String],
    threads: usize,
    work: impl Fn(&str) -> Result<T, Error> + Sync,
) -> Result<Vec<T>, Error> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let mut done: Vec<(usize, Result<T, Error>)> = std::thread::scope(|scope| {
        let run = || {
            let mut done = Vec::new();
            loop {
                let place = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let Some(name) = names.get(place) else { return done };
                done.push((place, work(name)));
            }
        };
        let workers: Vec<_> = (0..threads.clamp(1, names.len().max(1))).map(|_| scope.spawn(run)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("comparing does not panic")).collect()
    });
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, result)| result).collect()
}

fn column(
    reference: &ColumnFile,
    current: &ColumnFile,
    name: &str,
    bounds: Bounds,
) -> Result<ColumnReport, Error> {
    let (before, now) = (reference.kind(name), current.kind(name));
    let kind = before.or(now).map_or("other", kind_name);
    let blank = ColumnReport {
        name: name.to_owned(),
        kind,
        rows_reference: if before.is_some() { reference.rows() } else { 0 },
        rows_current: if now.is_some() { current.rows() } else { 0 },
        verdict: ColumnVerdict::Ok,
        causes: vec![],
        effect: None,
        effect_low: None,
        effect_high: None,
        measures: BTreeMap::new(),
        shares: vec![],
        p_value: 1.0,
    };
    match (before, now) {
        (Some(_), None) => Ok(broken(blank, "absent", "the current file has no such column")),
        (None, _) => Ok(noted(blank, "new", "the reference has no such column")),
        (Some(before), Some(now)) if before != now => {
            let evidence = format!("it held {}s and now holds {}s", kind_name(before), kind_name(now));
            Ok(broken(blank, "type", &evidence))
        }
        (Some(ColumnKind::Number), _) => numbers::judge(blank, reference, current, bounds),
        (Some(ColumnKind::Category), _) => levels::judge(blank, reference, current, bounds),
        (Some(ColumnKind::Time), _) => numbers::describe(blank, reference, current),
        (Some(ColumnKind::Other), _) => Ok(noted(blank, "type", "values of this type are not compared")),
    }
}

fn kind_name(kind: ColumnKind) -> &'static str {
    match kind {
        ColumnKind::Number => "number",
        ColumnKind::Category => "category",
        ColumnKind::Time => "time",
        ColumnKind::Other => "other",
    }
}

fn broken(report: ColumnReport, name: &str, evidence: &str) -> ColumnReport {
    ColumnReport { verdict: ColumnVerdict::Broken, ..noted(report, name, evidence) }
}

fn noted(mut report: ColumnReport, name: &str, evidence: &str) -> ColumnReport {
    report.causes.push(Cause { name: name.to_owned(), p_value: None, evidence: evidence.to_owned() });
    report
}

/// A test of a column, before all columns are looked at together.
struct Asked {
    name: &'static str,
    p_value: f64,
    evidence: String,
}

/// Keeps the tests that speak for drift, and the column's own p-value: Bonferroni's over its tests.
fn weigh(report: &mut ColumnReport, asked: Vec<Asked>, bounds: Bounds) {
    let tests = asked.len().max(1) as f64;
    report.p_value = asked.iter().map(|test| test.p_value * tests).fold(1.0, f64::min);
    for test in asked {
        report.measures.insert(format!("p_{}", test.name.replace(' ', "_")), test.p_value);
        if test.p_value * tests <= bounds.alpha {
            let (name, p_value) = (test.name.to_owned(), Some(test.p_value));
            report.causes.push(Cause { name, p_value, evidence: test.evidence });
        }
    }
}

/// Of the columns called drifted, at most this share is expected to be so by chance.
const FALSE_DISCOVERY_RATE: f64 = 0.05;

/// A column drifts if its own test says so and all columns together do not take that for chance.
fn decide(columns: &mut [ColumnReport], bounds: Bounds) -> Result<(), Error> {
    let p_values: Vec<f64> = columns.iter().map(|column| column.p_value).collect();
    for (column, adjusted) in columns.iter_mut().zip(bh_adjusted(&p_values)?) {
        if column.verdict == ColumnVerdict::Ok
            && column.p_value <= bounds.alpha
            && adjusted <= FALSE_DISCOVERY_RATE
        {
            column.verdict = ColumnVerdict::Drift;
        }
    }
    Ok(())
}

/// The change of the share of missing values, as a test and as measures.
fn missing(
    report: &mut ColumnReport,
    before: (u64, u64),
    now: (u64, u64),
    bounds: Bounds,
) -> Result<Asked, Error> {
    let share = |(missing, rows): (u64, u64)| missing as f64 / rows.max(1) as f64;
    let (old, new) = (share(before), share(now));
    report.measures.insert("missing_share_reference".to_owned(), old);
    report.measures.insert("missing_share_current".to_owned(), new);
    let counts = |(missing, rows): (u64, u64)| [missing, rows - missing];
    let p_value = match (before.1, now.1) {
        (0, _) | (_, 0) => 1.0,
        _ => {
            let moved = statistics::drift::total_variation(&counts(before), &counts(now))?;
            moved.p_exceeds(bounds.min_effect, before.1 as f64, now.1 as f64)?
        }
    };
    let evidence = format!("missing values went from {:.2} % to {:.2} %", old * 100.0, new * 100.0);
    Ok(Asked { name: "missing", p_value, evidence })
}
