//! What the measures of Evidently and NannyML would see in one window, at the same rate of false alarms.
//!
//! The measures are this library's, by the peers' definitions, against the whole reference, as the peers compare. Their
//! thresholds are set so that one of a thousand quiet windows alarms: at their own they alarm far more often.

use statistics::drift::{EmptyBins, jensen_shannon, ks_binned, l_infinity, psi};
use statistics::profile::{ColumnProfile, LevelProfile, NumberProfile};

use crate::draws::Dice;
use crate::model::Watched;
use crate::world::{HISTORY, Shift, WEEK};

/// Quiet windows that a threshold is set by.
const QUIET: usize = 2_000;

/// The measures by name, with what a window gives.
pub(crate) type Measures = Vec<(&'static str, f64)>;

fn of_numbers(reference: &NumberProfile, window: &NumberProfile) -> Measures {
    let edges = reference.edges().as_slice();
    let (r, c) = (reference.counts(), window.counts());
    let (n, m) = (reference.values() as f64, window.values() as f64);
    let (mut below, mut wasserstein) = (0.0, 0.0);
    for (bin, pair) in edges.windows(2).enumerate() {
        below += r[bin] as f64 / n - c[bin] as f64 / m;
        wasserstein += f64::abs(below) * (pair[1] - pair[0]);
    }
    let grouped = reference.grouped(window, 20);
    vec![
        ("KS distance", ks_binned(edges, r, c).expect("the bins are the same").distance),
        ("Wasserstein, within the range", wasserstein),
        ("Jensen–Shannon", jensen_shannon(&grouped.0, &grouped.1).expect("there are values")),
        ("PSI", psi(&grouped.0, &grouped.1, EmptyBins::Floor(1e-4)).expect("there are values")),
    ]
}

fn of_levels(reference: &LevelProfile, window: &LevelProfile) -> Measures {
    let beside = reference.beside(window).expect("there are values");
    let (r, c) = (&beside.reference, &beside.current);
    let n: f64 = r.iter().sum::<u64>() as f64;
    let m: f64 = c.iter().sum::<u64>() as f64;
    // Evidently's chi-square holds the reference for the truth; a level that it lacks makes it infinite.
    let goodness = r.iter().zip(c).filter(|(r, c)| **r > 0 || **c > 0).map(|(&r, &c)| {
        let expected = r as f64 / n * m;
        (c as f64 - expected).powi(2) / expected.max(1e-9)
    });
    vec![
        ("chi-square", goodness.sum()),
        ("Jensen–Shannon", jensen_shannon(r, c).expect("there are values")),
        ("L∞", l_infinity(r, c).expect("there are values")),
        ("PSI", psi(r, c, EmptyBins::Floor(1e-4)).expect("there are values")),
    ]
}

fn measures(watched: &mut Watched, rows: u64, shift: Shift, dice: &mut Dice) -> Measures {
    let hour = HISTORY * 24 + (dice.uniform() * WEEK as f64) as usize;
    let window = watched.column.hour(hour, rows, shift, dice);
    of(watched, &window)
}

/// What each measure says of a window.
pub(crate) fn of(watched: &Watched, window: &ColumnProfile) -> Measures {
    match (watched.yardstick.whole(), window) {
        (ColumnProfile::Numbers(reference), ColumnProfile::Numbers(window)) => of_numbers(reference, window),
        (ColumnProfile::Levels(reference), ColumnProfile::Levels(window)) => of_levels(reference, window),
        _ => unreachable!("a column keeps its kind"),
    }
}

/// The power of each measure for each of the shifts.
pub(crate) fn power(
    worlds: &mut [Watched],
    rows: u64,
    shifts: &[Shift],
    runs: usize,
    dice: &mut Dice,
) -> Vec<(&'static str, Vec<f64>)> {
    let worlds_count = worlds.len();
    let quiet: Vec<Measures> = (0..QUIET)
        .map(|run| measures(&mut worlds[run % worlds_count], rows, Shift::default(), dice))
        .collect();
    let mut found: Vec<(&'static str, Vec<f64>)> = quiet[0].iter().map(|(name, _)| (*name, vec![])).collect();
    let thresholds: Vec<f64> = (0..found.len())
        .map(|measure| {
            let mut values: Vec<f64> = quiet.iter().map(|window| window[measure].1).collect();
            values.sort_unstable_by(f64::total_cmp);
            values[QUIET - 1 - QUIET / 1_000]
        })
        .collect();
    for &shift in shifts {
        let mut alarms = vec![0; found.len()];
        for run in 0..runs {
            let window = measures(&mut worlds[run % worlds_count], rows, shift, dice);
            for (measure, alarm) in alarms.iter_mut().enumerate() {
                *alarm += usize::from(window[measure].1 > thresholds[measure]);
            }
        }
        found.iter_mut().zip(alarms).for_each(|(found, alarm)| found.1.push(alarm as f64 / runs as f64));
    }
    found
}
