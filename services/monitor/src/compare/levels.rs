//! Columns of levels: texts and truth values.

use std::collections::HashMap;

use frames::column_file::ColumnFile;
use statistics::drift::total_variation;
use statistics::profile::{Beside, LevelProfile};

use super::measures::{self, named};
use super::{Asked, Bounds, ColumnReport, ColumnVerdict, Share, missing, noted, weigh};
use crate::Error;

/// Distinct levels of a reference that are counted one by one; what comes later is counted together.
const MOST_COUNTED: usize = 100_000;
/// Longer texts are told apart by their beginning: a column of documents is no column of levels.
const LONGEST: usize = 256;
/// Levels that a report shows.
const SHOWN: usize = 20;

/// Judges a column of levels.
pub(super) fn judge(
    mut report: ColumnReport,
    reference: &ColumnFile,
    current: &ColumnFile,
    bounds: Bounds,
) -> Result<ColumnReport, Error> {
    let (old, order) = of_reference(reference, &report.name)?;
    let mut new = LevelProfile::like(&old);
    current.levels(&report.name, |level| match level {
        Some(level) => new.observe(level),
        None => new.observe_nulls(1),
    })?;
    let asked = missing(&mut report, (old.nulls, old.rows()), (new.nulls, new.rows()), bounds)?;
    named(&mut report, "effective_rows_reference", order);
    named(&mut report, "effective_rows_current", new.effective());
    if old.values() == 0 || new.values() == 0 {
        return Ok(unknown(report, "one side holds no value"));
    }
    let beside = old.beside(&new)?;
    let sizes = (order, new.effective());
    let moved = total_variation(&beside.reference, &beside.current)?;
    let interval = moved.interval(0.95, sizes.0, sizes.1)?;
    report.effect = Some(moved.distance);
    (report.effect_low, report.effect_high) = (Some(interval.low), Some(interval.high));
    report.shares = shares(&beside);
    if old.values() < bounds.min_rows || new.values() < bounds.min_rows {
        let said = format!("{} values beside {} of the reference", new.values(), old.values());
        return Ok(unknown(report, &said));
    }
    let levels = Asked {
        name: "levels",
        p_value: moved.p_exceeds(bounds.min_effect, sizes.0, sizes.1)?,
        evidence: said(&beside),
    };
    let unseen = unseen(&mut report, &old, &new, sizes)?;
    weigh(&mut report, vec![levels, unseen, asked], bounds);
    measures::of_levels(&mut report, &beside)?;
    Ok(report)
}

fn unknown(report: ColumnReport, why: &str) -> ColumnReport {
    ColumnReport { verdict: ColumnVerdict::InsufficientData, ..noted(report, "too few values", why) }
}

/// The profile of a whole reference, and how many independent values it is worth.
fn of_reference(file: &ColumnFile, column: &str) -> Result<(LevelProfile, f64), Error> {
    let mut counts: HashMap<String, u64> = HashMap::new();
    let mut order = LevelProfile::default();
    let (mut rest, mut nulls) = (0, 0);
    file.levels(column, |level| {
        let Some(level) = level else {
            nulls += 1;
            return;
        };
        order.observe(level);
        let level = beginning(level);
        if let Some(count) = counts.get_mut(level) {
            *count += 1;
        } else if counts.len() < MOST_COUNTED {
            counts.insert(level.to_owned(), 1);
        } else {
            rest += 1;
        }
    })?;
    let mut profile =
        LevelProfile::of_reference(counts.iter().map(|(level, count)| (level.as_str(), *count)), nulls);
    profile.other += rest;
    Ok((profile, order.effective()))
}

fn beginning(level: &str) -> &str {
    let mut end = level.len().min(LONGEST);
    while !level.is_char_boundary(end) {
        end -= 1;
    }
    &level[..end]
}

/// Levels that the reference never saw, beyond the share that its own single levels lead one to expect.
///
/// Binomial: P(so many or more) were the share of new levels at most Good and Turing's, by the normal law with Wilson's
/// allowance for the reference's own uncertainty.
fn unseen(
    report: &mut ColumnReport,
    old: &LevelProfile,
    new: &LevelProfile,
    sizes: (f64, f64),
) -> Result<Asked, Error> {
    let known = old.levels();
    let seen: u64 = known.iter().map(|(level, _)| new.count(level)).sum();
    // Of a reference with more levels than are named, an unnamed level may well have been seen.
    let other = old.other as f64 / old.values() as f64;
    let unnamed = new.values() - seen;
    let share = (unnamed as f64 / new.values() as f64 - other).max(0.0);
    let expected = old.singletons() as f64 / old.values() as f64;
    named(report, "unseen_share_current", share);
    named(report, "unseen_share_expected_good_turing", expected);
    let vanished = known.iter().filter(|(level, count)| *count > 0 && new.count(level) == 0).count();
    named(report, "vanished_levels", vanished as f64);
    let trials = sizes.1;
    let most = statistics::wilson((expected + other).min(1.0) * sizes.0, sizes.0)?.high;
    let gap = share + other - most;
    let error = (most * (1.0 - most) / trials).sqrt();
    let p_value = match gap > 0.0 {
        false => 1.0,
        // At least five rows, or a single new level would be called a change of the law.
        true if (share * trials) < 5.0 => 1.0,
        true => statistics::distributions::normal_sf(gap / error.max(1.0 / trials)),
    };
    let evidence = format!(
        "{:.2} % of the values are of levels that the reference never saw, {:.2} % were to be expected",
        share * 100.0,
        expected * 100.0
    );
    Ok(Asked { name: "unseen levels", p_value, evidence })
}

/// The level that moved most, in words.
fn said(beside: &Beside<'_>) -> String {
    let (n, m) = totals(beside);
    let share = |place: usize| (beside.reference[place] as f64 / n, beside.current[place] as f64 / m);
    let moved = (0..beside.reference.len()).max_by(|&one, &other| {
        let gap = |place: usize| (share(place).1 - share(place).0).abs();
        gap(one).total_cmp(&gap(other))
    });
    let Some(place) = moved else { return String::new() };
    let name = beside.names.get(place).map_or("the rest", |name| *name);
    let (before, now) = share(place);
    format!("`{name}` went from {:.2} % to {:.2} % of the values", before * 100.0, now * 100.0)
}

fn totals(beside: &Beside<'_>) -> (f64, f64) {
    (beside.reference.iter().sum::<u64>() as f64, beside.current.iter().sum::<u64>() as f64)
}

/// The shares of the levels that matter most on either side.
fn shares(beside: &Beside<'_>) -> Vec<Share> {
    let (n, m) = totals(beside);
    let named = beside.names.iter().map(|name| (*name).to_owned()).chain(["(others)".to_owned()]);
    let mut shares: Vec<Share> = named
        .zip(beside.reference.iter().zip(&beside.current))
        .map(|(label, (&r, &c))| Share { label, reference: r as f64 / n, current: c as f64 / m })
        .filter(|share| share.reference > 0.0 || share.current > 0.0)
        .collect();
    shares.sort_by(|one, other| {
        let weight = |share: &Share| share.reference.max(share.current);
        weight(other).total_cmp(&weight(one))
    });
    shares.truncate(SHOWN);
    shares
}
