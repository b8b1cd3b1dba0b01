//! Columns of numbers.

use frames::column_file::{ColumnFile, Numbers};
use statistics::profile::{ColumnProfile, Edges, MOST_BINS, NumberProfile};

use super::measures::{self, named};
use super::{ColumnReport, Share, noted};
use crate::Error;

/// Values that bin edges are learned from: quantiles of so many are good to 0.2 %.
const EDGE_VALUES: usize = 1 << 16;
/// Bars of a plot.
const BARS: usize = 30;

/// The profile of a whole reference column, how much of an independent value its values are worth, and a sample of them.
/// Without a finite number there is none.
pub(super) fn reference(
    file: &ColumnFile,
    name: &str,
) -> Result<Option<(ColumnProfile, f64, Vec<f64>)>, Error> {
    let numbers = file.numbers(name)?;
    let Some(edges) = edges(&numbers.values)? else { return Ok(None) };
    let profile = profile(&numbers, edges);
    let worth = profile.effective() / profile.values().max(1) as f64;
    Ok(Some((ColumnProfile::Numbers(profile), worth, measures::sample(&numbers.values))))
}

/// The profile of a current column over the reference's bins, and a sample of its values.
pub(super) fn current(
    file: &ColumnFile,
    name: &str,
    reference: &NumberProfile,
) -> Result<(ColumnProfile, Vec<f64>), Error> {
    let numbers = file.numbers(name)?;
    let profile = profile(&numbers, reference.edges().clone());
    Ok((ColumnProfile::Numbers(profile), measures::sample(&numbers.values)))
}

/// What is told of numbers beside the verdict.
pub(super) fn describe(
    report: &mut ColumnReport,
    old: &NumberProfile,
    new: &NumberProfile,
    samples: (&[f64], &[f64]),
) -> Result<(), Error> {
    moments(report, old, new);
    if old.values() == 0 || new.values() == 0 {
        return Ok(());
    }
    measures::of_bins(report, old, new)?;
    measures::of_samples(report, samples.0, samples.1)?;
    report.shares = shares(old, new);
    Ok(())
}

/// A number for people: six digits, with an exponent if it is huge or tiny.
fn written(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || (1e-4..1e9).contains(&size) { format!("{value:.6}") } else { format!("{value:.5e}") }
}

/// Describes a column of times: they move by nature, so nothing is judged.
pub(super) fn times(
    mut report: ColumnReport,
    reference: Option<&ColumnFile>,
    current: &ColumnFile,
) -> Result<ColumnReport, Error> {
    let files = reference.map(|file| (file, "reference")).into_iter().chain([(current, "current")]);
    for (file, side) in files {
        let Numbers { values, nulls } = file.numbers(&report.name)?;
        let range = values.iter().fold(None, |range: Option<(f64, f64)>, &value| {
            let (least, greatest) = range.unwrap_or((value, value));
            Some((least.min(value), greatest.max(value)))
        });
        if let Some((least, greatest)) = range {
            named(&mut report, &format!("least_{side}_microseconds"), least);
            named(&mut report, &format!("greatest_{side}_microseconds"), greatest);
        }
        let share = nulls as f64 / file.rows().max(1) as f64;
        named(&mut report, &format!("missing_share_{side}"), share);
    }
    Ok(noted(report, "time", "times move by nature: nothing is judged"))
}

/// Edges at the quantiles of a sample, and at the ends of all.
fn edges(values: &[f64]) -> Result<Option<Edges>, Error> {
    let finite = || values.iter().copied().filter(|value| value.is_finite());
    let Some(least) = finite().reduce(f64::min) else { return Ok(None) };
    let greatest = finite().fold(least, f64::max);
    let step = (values.len() / EDGE_VALUES).max(1);
    let mut sample: Vec<f64> =
        values.iter().copied().step_by(step).filter(|value| value.is_finite()).collect();
    sample.extend([least, greatest]);
    Ok(Some(Edges::of(&sample, MOST_BINS)?))
}

fn profile(numbers: &Numbers, edges: Edges) -> NumberProfile {
    let mut profile = NumberProfile::new(edges);
    profile.observe(&numbers.values);
    profile.observe_nulls(numbers.nulls);
    profile
}

fn moments(report: &mut ColumnReport, old: &NumberProfile, new: &NumberProfile) {
    for (profile, side) in [(old, "reference"), (new, "current")] {
        let range = profile.range();
        let found = [
            ("mean", profile.mean()),
            ("standard_deviation", profile.deviation()),
            ("least", range.map(|range| range.0)),
            ("greatest", range.map(|range| range.1)),
            ("median_binned", profile.quantile(0.5)),
            ("effective_rows", Some(profile.effective())),
            ("infinities", Some(profile.infinities as f64)),
        ];
        for (name, value) in found {
            if let Some(value) = value {
                named(report, &format!("{name}_{side}"), value);
            }
        }
    }
}

/// Shares between neighbouring bins that hold about equally much of both.
fn shares(old: &NumberProfile, new: &NumberProfile) -> Vec<Share> {
    let edges = old.edges().as_slice();
    let (n, m) = (old.values().max(1) as f64, new.values().max(1) as f64);
    let wanted = 1.0 / BARS as f64;
    let mut shares = Vec::new();
    let (mut before, mut now) = (0.0, 0.0);
    for (bin, (&r, &c)) in old.counts().iter().zip(new.counts()).enumerate() {
        before += r as f64 / n;
        now += c as f64 / m;
        let last = bin == edges.len();
        if f64::max(before, now) >= wanted || last || bin + 1 == edges.len() {
            let label = edges.get(bin).map_or_else(|| "above".to_owned(), |edge| written(*edge));
            shares.push(Share { label, reference: before, current: now });
            (before, now) = (0.0, 0.0);
        }
    }
    shares
}
