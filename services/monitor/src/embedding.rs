//! How far the vectors of the histories that a GPT read lie from the reference's: the maximum mean discrepancy, by the random
//! features that are kept of them.
//!
//! Each feature is a column that is judged like any other. Here they are taken together. With a season the reference's vectors
//! of all hours are no yardstick for those of one: then the discrepancy is shown, and the features' own verdicts stand.

use domain::incident::Verdict;
use domain::reading::{EMBEDDING, is_embedding};
use statistics::drift::{Moments, mmd_by_features};
use statistics::profile::{ColumnProfile, NumberProfile};
use statistics::rule::Settings;
use storage::monitors::Finding;

use crate::Error;
use crate::drift::{Column, TRAILING, Won, blank};
use crate::profiles::Profiles;

/// The discrepancy of a window's vectors; `None` if the version has no features of vectors, or none was looked at.
pub(crate) fn discrepancy(columns: &[Column<'_>], settings: Settings) -> Result<Option<Finding>, Error> {
    let Some((found, seasonal)) = found(columns, "mmd", |column| Some(column.look.window()), settings)?
    else {
        return Ok(None);
    };
    let beyond = found.beyond && !seasonal;
    let enough = found.finding.verdict != Verdict::InsufficientData;
    let verdict = if enough && beyond { Verdict::Drift } else { found.finding.verdict };
    Ok(Some(Finding { verdict, ..found.finding }))
}

/// What bets on the features came to together: the mean of their e-values is one, however they hang together.
///
/// # Source
/// Vovk & Wang (2021), "E-values: calibration, combination and applications".
pub(crate) fn won(columns: &[Column<'_>]) -> Option<Won> {
    let won: Vec<Won> = features(columns).filter_map(|column| column.won).collect();
    let greatest = won.iter().map(|won| won.log_e).fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = won.iter().map(|won| (won.log_e - greatest).exp()).sum();
    let log_e = greatest + (sum / won.len() as f64).ln();
    (!won.is_empty()).then(|| Won { log_e, borne_out: won.iter().any(|won| won.borne_out) })
}

/// The discrepancy over the trailing span, with the evidence of all windows, which decides.
pub(crate) fn over_span(
    columns: &[Column<'_>],
    trailing: &Profiles,
    settings: Settings,
    (won, kept): (Won, bool),
) -> Result<Option<Finding>, Error> {
    let measure = format!("mmd_{TRAILING}_windows");
    let found = found(columns, &measure, |column| trailing.get(column.name), settings)?;
    Ok(found.map(|(found, _)| {
        let verdict = match found.finding.verdict {
            Verdict::InsufficientData => Verdict::InsufficientData,
            _ if kept && won.borne_out => Verdict::Drift,
            _ => Verdict::Ok,
        };
        Finding { e_value: Some(won.log_e.min(690.0).exp()), verdict, ..found.finding }
    }))
}

fn features<'a, 'b>(columns: &'b [Column<'a>]) -> impl Iterator<Item = &'b Column<'a>> {
    columns.iter().filter(|column| is_embedding(column.name))
}

struct Found {
    finding: Finding,
    /// Whether the discrepancy surely lies beyond the smallest effect.
    beyond: bool,
}

/// The discrepancy of some profiles of the features from their references', and whether those have a season.
fn found<'a>(
    columns: &'a [Column<'a>],
    measure: &str,
    profile: impl Fn(&'a Column<'a>) -> Option<&'a ColumnProfile>,
    settings: Settings,
) -> Result<Option<(Found, bool)>, Error> {
    let (mut reference, mut current) = (Vec::new(), Vec::new());
    let (mut rows, mut seasonal) = (u64::MAX, false);
    for column in features(columns) {
        let sides = (column.yardstick.whole(), profile(column));
        let (ColumnProfile::Numbers(before), Some(ColumnProfile::Numbers(now))) = sides else { continue };
        reference.extend(moments(before, before.values() as f64));
        current.extend(moments(now, now.effective()));
        rows = rows.min(now.values());
        seasonal |= column.yardstick.has_season();
    }
    if rows == u64::MAX {
        return Ok(None);
    }
    let nothing = blank(EMBEDDING, measure, rows);
    if current.is_empty() || reference.len() != current.len() {
        return Ok(Some((Found { finding: nothing, beyond: false }, seasonal)));
    }
    let shown = mmd_by_features(&reference, &current, 0.05)?;
    let surely = mmd_by_features(&reference, &current, settings.alpha)?.interval.low;
    let enough = rows >= settings.min_rows;
    let finding = Finding {
        effect: Some(shown.value),
        low: Some(shown.interval.low),
        high: Some(shown.interval.high),
        n_eff: current.iter().map(|moments| moments.size).min_by(f64::total_cmp),
        verdict: if enough { Verdict::Ok } else { Verdict::InsufficientData },
        ..nothing
    };
    Ok(Some((Found { finding, beyond: surely > settings.min_effect }, seasonal)))
}

/// None of less than two values.
fn moments(profile: &NumberProfile, size: f64) -> Option<Moments> {
    Some(Moments { mean: profile.mean()?, deviation: profile.deviation()?, size })
}
