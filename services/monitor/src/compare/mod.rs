//! Two files compared column by column, without a server: what moved, by how much, and whether that is drift.
//!
//! The verdict is that of [`statistics::rule`], the same that monitors give; across columns Benjamini and Hochberg's
//! procedure keeps the share of false verdicts. The measures beside it have names that state their definitions, and judge
//! nothing. The reference may be a file of rows or the profiles that were kept of one.

mod levels;
mod measures;
mod numbers;
mod page;
mod plots;
mod reference;
#[cfg(test)]
mod tests;
mod together;

use std::collections::BTreeMap;
use std::path::Path;

use frames::column_file::{ColumnFile, ColumnKind};
use serde::Serialize;
use statistics::profile::ColumnProfile;
use statistics::rule::{Shown, Yardstick};
use statistics::sequential::bh_adjusted;

use crate::Error;

pub use page::page;
pub use reference::{Reference, ReferenceColumn};
pub use statistics::rule::{Settings as Bounds, Verdict as ColumnVerdict};
pub use together::Together;

/// One test that a verdict rests on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cause {
    /// `location`, `spread`, `shape`, `range`, `missing`, `levels`, `unseen levels`, or what is broken.
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
    /// The columns of numbers taken together, if that was asked for and there is something to see.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub together: Option<Together>,
}

/// Compares a Parquet file with another, or with the kept profiles of one; columns are read one at a time by `threads`
/// threads.
///
/// # Errors
/// [`Error`] if a file cannot be read.
pub fn compare(reference: &Path, current: &Path, bounds: Bounds, threads: usize) -> Result<Report, Error> {
    let current = ColumnFile::open(current)?;
    let source = Source::open(reference)?;
    let old = source.names();
    let new = current.columns().iter().map(|(name, _)| name.clone());
    let known: std::collections::HashSet<&String> = old.iter().collect();
    let new: Vec<String> = new.filter(|name| !known.contains(name)).collect();
    let names: Vec<String> = old.into_iter().chain(new).collect();
    let mut columns = in_parallel(&names, threads, |name| column(&source, &current, name, bounds))?;
    decide(&mut columns, bounds)?;
    Ok(Report {
        format: 1,
        bounds,
        rows_reference: source.rows(),
        rows_current: current.rows(),
        verdict: columns.iter().map(|column| column.verdict).max().unwrap_or(ColumnVerdict::Ok),
        columns,
        together: None,
    })
}

/// Where the reference's columns come from.
enum Source {
    Rows(ColumnFile),
    Kept(Reference),
}

impl Source {
    fn open(path: &Path) -> Result<Self, Error> {
        if path.exists() && !reference::is_parquet(path) {
            return Ok(Self::Kept(Reference::read(path, 1)?));
        }
        Ok(Self::Rows(ColumnFile::open(path)?))
    }

    fn names(&self) -> Vec<String> {
        match self {
            Self::Rows(file) => file.columns().iter().map(|(name, _)| name.clone()).collect(),
            Self::Kept(kept) => kept.columns.iter().map(|column| column.name.clone()).collect(),
        }
    }

    fn rows(&self) -> u64 {
        match self {
            Self::Rows(file) => file.rows(),
            Self::Kept(kept) => kept.rows,
        }
    }

    fn file(&self) -> Option<&ColumnFile> {
        match self {
            Self::Rows(file) => Some(file),
            Self::Kept(_) => None,
        }
    }

    fn kind(&self, name: &str) -> Option<&str> {
        match self {
            Self::Rows(file) => file.kind(name).map(kind_name),
            Self::Kept(kept) => {
                kept.columns.iter().find(|column| column.name == name).map(|column| &*column.kind)
            }
        }
    }

    fn column(&self, name: &str) -> Result<ReferenceColumn, Error> {
        match self {
            Self::Rows(file) => ReferenceColumn::of(file, name),
            Self::Kept(kept) => {
                let found = kept.columns.iter().find(|column| column.name == name);
                Ok(found.expect("it was asked for by a name of this reference").clone())
            }
        }
    }
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

fn column(source: &Source, current: &ColumnFile, name: &str, bounds: Bounds) -> Result<ColumnReport, Error> {
    let (before, now) = (source.kind(name), current.kind(name).map(kind_name));
    let kind = KINDS.into_iter().find(|kind| Some(*kind) == before.or(now)).unwrap_or("other");
    let blank = ColumnReport {
        rows_reference: if before.is_some() { source.rows() } else { 0 },
        rows_current: if now.is_some() { current.rows() } else { 0 },
        ..blank(name, kind)
    };
    match (before, now) {
        (Some(_), None) => Ok(broken(blank, "absent", "the current file has no such column")),
        (None, _) => Ok(noted(blank, "new", "the reference has no such column")),
        (Some(before), Some(now)) if before != now => {
            let evidence = format!("it held {before}s and now holds {now}s");
            Ok(broken(blank, "type", &evidence))
        }
        (Some("time"), _) => numbers::times(blank, source.file(), current),
        (Some("other"), _) => Ok(noted(blank, "type", "values of this type are not compared")),
        _ => judge(blank, source.column(name)?, current, bounds),
    }
}

fn judge(
    mut report: ColumnReport,
    reference: ReferenceColumn,
    current: &ColumnFile,
    bounds: Bounds,
) -> Result<ColumnReport, Error> {
    let Some(old) = reference.profile else {
        return Ok(unknown(report, "the reference holds no finite number"));
    };
    let (new, sample) = match &old {
        ColumnProfile::Numbers(old) => numbers::current(current, &report.name, old)?,
        ColumnProfile::Levels(old) => (levels::current(current, &report.name, old)?, vec![]),
    };
    measure(&mut report, (&old, reference.worth, &reference.sample), (&new, &sample))?;
    by_rule(report, &Yardstick::worth(old, reference.worth), &new, bounds)
}

/// The named measures that two profiles of a column give.
pub(crate) fn measures_of(old: &ColumnProfile, new: &ColumnProfile) -> Result<BTreeMap<String, f64>, Error> {
    let mut report = blank("", "other");
    measure(&mut report, (old, 1.0, &[]), (new, &[]))?;
    Ok(report.measures)
}

/// Notes the measures and the shares of a reference, with what its values are worth, beside a current column.
fn measure(
    report: &mut ColumnReport,
    (old, worth, sample): (&ColumnProfile, f64, &[f64]),
    (new, new_sample): (&ColumnProfile, &[f64]),
) -> Result<(), Error> {
    for (profile, side) in [(old, "reference"), (new, "current")] {
        let share = profile.missing() as f64 / profile.rows().max(1) as f64;
        report.measures.insert(format!("missing_share_{side}"), share);
    }
    match (old, new) {
        (ColumnProfile::Numbers(old), ColumnProfile::Numbers(new)) => {
            numbers::describe(report, old, new, (sample, new_sample))
        }
        (ColumnProfile::Levels(old), ColumnProfile::Levels(new)) => levels::describe(report, old, new, worth),
        _ => Ok(()),
    }
}

/// The verdict of the rule, with its causes in words.
fn by_rule(
    mut report: ColumnReport,
    yardstick: &Yardstick,
    window: &ColumnProfile,
    bounds: Bounds,
) -> Result<ColumnReport, Error> {
    let Some(look) = yardstick.look(window, 0, bounds) else {
        return Ok(broken(report, "type", "the column is of another kind than its reference"));
    };
    let found = look.judge()?;
    (report.verdict, report.p_value) = (found.verdict, found.p_value);
    if let Some(effect) = found.effect {
        report.effect = Some(effect.value);
        (report.effect_low, report.effect_high) = (Some(effect.interval.low), Some(effect.interval.high));
    }
    if let Some(needed) = found.needed {
        let (now, before) = (window.values(), yardstick.whole().values());
        let said = format!(
            "{now} values beside {before} of the reference: at least {needed} on each side are needed"
        );
        return Ok(unknown(report, &said));
    }
    if window.values() == 0 {
        return Ok(unknown(report, "the current file holds no value of this column"));
    }
    for shown in &found.causes {
        report.measures.insert(format!("p_{}", shown.cause.as_str().replace(' ', "_")), shown.p_value);
        if shown.p_value * found.causes.len() as f64 <= bounds.alpha {
            report.causes.push(cause(yardstick, shown));
        }
    }
    if report.verdict == ColumnVerdict::Drift {
        report.verdict = ColumnVerdict::Ok; // until all columns together agree
    }
    Ok(report)
}

fn cause(yardstick: &Yardstick, shown: &Shown) -> Cause {
    let of = if shown.cause == statistics::rule::Cause::Missing { "rows" } else { "values" };
    let (now, before) = (shown.now * 100.0, shown.before * 100.0);
    let evidence = format!(
        "{now:.2} % of the {of} are {}, where {before:.2} % were",
        yardstick.in_words(shown.question)
    );
    Cause { name: shown.cause.as_str().to_owned(), p_value: Some(shown.p_value), evidence }
}

fn blank(name: &str, kind: &'static str) -> ColumnReport {
    ColumnReport {
        name: name.to_owned(),
        kind,
        rows_reference: 0,
        rows_current: 0,
        verdict: ColumnVerdict::Ok,
        causes: vec![],
        effect: None,
        effect_low: None,
        effect_high: None,
        measures: BTreeMap::new(),
        shares: vec![],
        p_value: 1.0,
    }
}

fn unknown(report: ColumnReport, why: &str) -> ColumnReport {
    ColumnReport { verdict: ColumnVerdict::InsufficientData, ..noted(report, "too few values", why) }
}

/// What columns are called.
const KINDS: [&str; 4] = ["number", "category", "time", "other"];

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
