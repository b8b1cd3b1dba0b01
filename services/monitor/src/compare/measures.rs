//! Measures that are reported under a name that states their definition, and judge nothing.

use statistics::drift::{
    EmptyBins, anderson_darling, chi_square, cramer_von_mises, energy_distance, epps_singleton, g_test,
    hellinger, jensen_shannon, kullback_leibler, l_infinity, mann_whitney, psi, total_variation,
    two_proportions, wasserstein,
};
use statistics::profile::{Beside, NumberProfile};

use super::ColumnReport;
use crate::Error;

/// Values of a column that the measures of single values are computed on, evenly taken; their names say so.
const SAMPLE: usize = 10_000;
/// What an empty share counts as.
const FLOOR: f64 = 1e-4;

/// Notes a measure. One without a value is left out.
pub(super) fn named(report: &mut ColumnReport, name: &str, value: f64) {
    if value.is_finite() {
        report.measures.insert(name.to_owned(), value);
    }
}

/// At most [`SAMPLE`] finite values, evenly taken.
pub(super) fn sample(values: &[f64]) -> Vec<f64> {
    let step = values.len().div_ceil(SAMPLE).max(1);
    values.iter().copied().step_by(step).filter(|value| value.is_finite()).collect()
}

/// Measures over ten groups of equally many reference values.
pub(super) fn of_bins(
    report: &mut ColumnReport,
    old: &NumberProfile,
    new: &NumberProfile,
) -> Result<(), Error> {
    let (r, c) = old.grouped(new, 10);
    of_counts(report, &r, &c, "_q10")
}

/// Measures over the levels that either side names, and the rest.
pub(super) fn of_levels(report: &mut ColumnReport, beside: &Beside<'_>) -> Result<(), Error> {
    let (r, c) = (&beside.reference, &beside.current);
    if let ([first, second, 0], [now_first, now_second, 0]) = (r.as_slice(), c.as_slice()) {
        // Of two levels, the share of the second by name has a test of its own.
        let found = two_proportions(*second, first + second, *now_second, now_first + now_second)?;
        named(report, "z_two_proportions", found.statistic);
        named(report, "z_two_proportions_p", found.p_value);
    }
    of_counts(report, r, c, "")
}

fn of_counts(report: &mut ColumnReport, r: &[u64], c: &[u64], over: &str) -> Result<(), Error> {
    let pearson = chi_square(r, c)?;
    let likelihood = g_test(r, c)?;
    let found = [
        (format!("total_variation{over}"), total_variation(r, c)?.distance),
        (format!("psi{over}_eps1e-4"), psi(r, c, EmptyBins::Floor(FLOOR))?),
        (format!("jensen_shannon_distance{over}_base2"), jensen_shannon(r, c)?),
        (format!("hellinger{over}"), hellinger(r, c)?),
        (format!("kullback_leibler{over}_eps1e-4_nats"), kullback_leibler(r, c, FLOOR)?),
        (format!("l_infinity{over}"), l_infinity(r, c)?),
        (format!("chi_square_two_sample{over}"), pearson.statistic),
        (format!("chi_square_two_sample{over}_p"), pearson.p_value),
        (format!("g_two_sample{over}"), likelihood.statistic),
        (format!("g_two_sample{over}_p"), likelihood.p_value),
    ];
    found.into_iter().for_each(|(name, value)| named(report, &name, value));
    Ok(())
}

/// Measures of single values, on samples if the columns are long.
pub(super) fn of_samples(report: &mut ColumnReport, r: &[f64], c: &[f64]) -> Result<(), Error> {
    if r.is_empty() || c.is_empty() {
        return Ok(());
    }
    let whole = (r.len() as u64) < SAMPLE as u64 && (c.len() as u64) < SAMPLE as u64;
    let on = if whole { String::new() } else { format!("_sample{SAMPLE}") };
    let moved = wasserstein(r, c)?;
    named(report, &format!("wasserstein{on}"), moved);
    if let Some(deviation) = report.measures.get("standard_deviation_reference").copied().filter(|d| *d > 0.0)
    {
        named(report, &format!("wasserstein_per_reference_deviation{on}"), moved / deviation);
    }
    named(report, &format!("energy_distance{on}"), energy_distance(r, c)?);
    let exact = statistics::drift::ks(r, c)?;
    named(report, &format!("ks_p{on}"), exact.p_value());
    type Test = fn(&[f64], &[f64]) -> Result<statistics::drift::Test, statistics::Error>;
    let tests: [(&str, Test); 4] = [
        ("mann_whitney_u", mann_whitney),
        ("cramer_von_mises", cramer_von_mises),
        ("anderson_darling_normalised", anderson_darling),
        ("epps_singleton", epps_singleton),
    ];
    for (name, test) in tests {
        // A test that needs more values than there are says nothing.
        if let Ok(found) = test(r, c) {
            named(report, &format!("{name}{on}"), found.statistic);
            named(report, &format!("{name}_p{on}"), found.p_value);
        }
    }
    Ok(())
}
