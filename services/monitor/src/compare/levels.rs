//! Columns of levels: texts and truth values.

use std::collections::HashMap;

use frames::column_file::ColumnFile;
use statistics::profile::{Beside, ColumnProfile, LevelProfile};

use super::measures::{self, named};
use super::{ColumnReport, Share};
use crate::Error;

/// Distinct levels of a reference that are counted one by one; what comes later is counted together.
const MOST_COUNTED: usize = 100_000;
/// Longer texts are told apart by their beginning: a column of documents is no column of levels.
const LONGEST: usize = 256;
/// Levels that a report shows.
const SHOWN: usize = 20;

/// The profile of a whole reference column, and how much of an independent value its values are worth.
pub(super) fn reference(file: &ColumnFile, column: &str) -> Result<(ColumnProfile, f64), Error> {
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
    let worth = order.effective() / profile.values().max(1) as f64;
    Ok((ColumnProfile::Levels(profile), worth))
}

/// The profile of a current column over the reference's levels.
pub(super) fn current(
    file: &ColumnFile,
    column: &str,
    reference: &LevelProfile,
) -> Result<ColumnProfile, Error> {
    let mut new = LevelProfile::like(reference);
    file.levels(column, |level| match level {
        Some(level) => new.observe(level),
        None => new.observe_nulls(1),
    })?;
    Ok(ColumnProfile::Levels(new))
}

/// What is told of levels beside the verdict.
pub(super) fn describe(
    report: &mut ColumnReport,
    old: &LevelProfile,
    new: &LevelProfile,
    worth: f64,
) -> Result<(), Error> {
    named(report, "effective_rows_reference", old.values() as f64 * worth);
    named(report, "effective_rows_current", new.effective());
    if old.values() == 0 || new.values() == 0 {
        return Ok(());
    }
    let beside = old.beside(new)?;
    let seen = new.known_to(old);
    // Of a reference with more levels than are named, an unnamed level may well have been seen.
    let other = old.other as f64 / old.values() as f64;
    let unnamed = (new.values() - seen) as f64 / new.values() as f64;
    named(report, "unseen_share_current", (unnamed - other).max(0.0));
    named(report, "unseen_share_expected_good_turing", old.singletons() as f64 / old.values() as f64);
    let known = old.levels();
    let vanished = known.iter().filter(|(level, count)| *count > 0 && new.count(level) == 0).count();
    named(report, "vanished_levels", vanished as f64);
    measures::of_levels(report, &beside)?;
    report.shares = shares(&beside);
    Ok(())
}

fn beginning(level: &str) -> &str {
    let mut end = level.len().min(LONGEST);
    while !level.is_char_boundary(end) {
        end -= 1;
    }
    &level[..end]
}

/// The shares of the levels that matter most on either side.
fn shares(beside: &Beside<'_>) -> Vec<Share> {
    let (n, m) = (beside.reference.iter().sum::<u64>() as f64, beside.current.iter().sum::<u64>() as f64);
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
