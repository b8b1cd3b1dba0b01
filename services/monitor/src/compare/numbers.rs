//! Columns of numbers.

use frames::column_file::{ColumnFile, Numbers};
use statistics::drift::{range_exceedance, total_variation};
use statistics::profile::{Edges, MOST_BINS, NumberProfile};

use super::measures::{self, named};
use super::{Asked, Bounds, ColumnReport, ColumnVerdict, Share, missing, noted, weigh};
use crate::Error;

/// Values that bin edges are learned from: quantiles of so many are good to 0.2 %.
const EDGE_VALUES: usize = 1 << 16;
/// Groups of equally many reference values that show how values are spread.
const GROUPS: usize = 20;
/// Bars of a plot.
const BARS: usize = 30;

/// Judges a column of numbers.
pub(super) fn judge(
    mut report: ColumnReport,
    reference: &ColumnFile,
    current: &ColumnFile,
    bounds: Bounds,
) -> Result<ColumnReport, Error> {
    let before = reference.numbers(&report.name)?;
    let Some(edges) = edges(&before.values)? else {
        return Ok(unknown(report, "the reference holds no finite number"));
    };
    let old = profile(&before, &edges);
    let sample = measures::sample(&before.values);
    drop(before); // the memory of one column at a time
    let now = current.numbers(&report.name)?;
    let new = profile(&now, &edges);
    let asked = missing(&mut report, (old.missing(), old.rows()), (new.missing(), new.rows()), bounds)?;
    moments(&mut report, &old, &new);
    if old.values() < bounds.min_rows || new.values() < bounds.min_rows {
        let said = format!(
            "{} values beside {} of the reference: at least {} on each side are needed",
            new.values(),
            old.values(),
            bounds.min_rows
        );
        if old.values() > 0 && new.values() > 0 {
            effect(&mut report, &old, &new)?;
        }
        return Ok(unknown(report, &said));
    }
    let mut tests = effect(&mut report, &old, &new)?.tests(&old, &new, bounds)?;
    tests.push(asked);
    weigh(&mut report, tests, bounds);
    measures::of_bins(&mut report, &old, &new)?;
    measures::of_samples(&mut report, &sample, &measures::sample(&now.values))?;
    report.shares = shares(&old, &new);
    Ok(report)
}

/// A number for people: six digits, with an exponent if it is huge or tiny.
fn written(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || (1e-4..1e9).contains(&size) { format!("{value:.6}") } else { format!("{value:.5e}") }
}

/// Describes a column of times: they move by nature, so nothing is judged.
pub(super) fn describe(
    mut report: ColumnReport,
    reference: &ColumnFile,
    current: &ColumnFile,
) -> Result<ColumnReport, Error> {
    for (file, side) in [(reference, "reference"), (current, "current")] {
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

fn unknown(report: ColumnReport, why: &str) -> ColumnReport {
    ColumnReport { verdict: ColumnVerdict::InsufficientData, ..noted(report, "too few values", why) }
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

fn profile(numbers: &Numbers, edges: &Edges) -> NumberProfile {
    let mut profile = NumberProfile::new(edges.clone());
    profile.observe(&numbers.values);
    profile.observe_nulls(numbers.nulls);
    profile
}

/// The distance that is the column's effect, noted in the report.
struct Effect(statistics::drift::Ks);

fn effect(report: &mut ColumnReport, old: &NumberProfile, new: &NumberProfile) -> Result<Effect, Error> {
    let ks = old.ks(new)?;
    let interval = ks.interval(0.95, old.effective(), new.effective())?;
    report.effect = Some(ks.distance);
    (report.effect_low, report.effect_high) = (Some(interval.low), Some(interval.high));
    Ok(Effect(ks))
}

impl Effect {
    fn tests(self, old: &NumberProfile, new: &NumberProfile, bounds: Bounds) -> Result<Vec<Asked>, Error> {
        let Self(ks) = self;
        let (n, m) = (old.effective(), new.effective());
        let location = Asked {
            name: "location",
            p_value: ks.p_exceeds(bounds.min_effect, n, m)?,
            evidence: format!(
                "{:.1} % of the values lie at or below {}, {:.1} % did",
                ks.below_current * 100.0,
                written(ks.location),
                ks.below_reference * 100.0
            ),
        };
        let (before, now) = old.grouped(new, GROUPS);
        let spread = total_variation(&before, &now)?;
        let spread = Asked {
            name: "spread",
            p_value: spread.p_exceeds(bounds.min_effect, n, m)?,
            evidence: format!(
                "{:.1} % of the values would have to move among {GROUPS} groups that held equally many",
                spread.distance * 100.0
            ),
        };
        Ok(vec![location, spread, range(old, new)?])
    }
}

/// More values beyond the reference's range than chance allows. Values that follow each other count once.
fn range(old: &NumberProfile, new: &NumberProfile) -> Result<Asked, Error> {
    // An infinity is nothing new where the reference held some.
    let new_to = |old: u64, new: u64| if old > 0 { 0 } else { new };
    let below = new_to(old.beyond().0, new.beyond().0);
    let above = new_to(old.beyond().1, new.beyond().1);
    let thinned = |count: u64| (count as f64 * new.effective() / new.values() as f64).round() as u64;
    let sizes = (old.values(), thinned(new.values()).max(1));
    let (few_below, few_above) = (thinned(below).min(sizes.1), thinned(above));
    let few_above = few_above.min(sizes.1 - few_below);
    let found = range_exceedance(sizes.0, sizes.1, few_below, few_above)?;
    let (least, greatest) = old.edges().range();
    let evidence = format!(
        "{below} values lie below {} and {above} above {}, the reference's ends",
        written(least),
        written(greatest)
    );
    Ok(Asked { name: "range", p_value: found.p_value, evidence })
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
