//! What the peers' default measures would tell of a whole model, at a rate of false alarms like the rule's.
//!
//! A column alarms when its measure exceeds a threshold of its own: what 999 of 1,000 quiet hours stay below, times a factor
//! for all columns, the least with which quiet months open at most [`ALLOWED`] incidents each. Incidents open and close as the
//! rule's do. At their own thresholds the peers alarm far more often.

use statistics::profile::ColumnProfile;

use crate::draws::Dice;
use crate::model::{Hour, Incident, Month, Watched, Watcher, watch};
use crate::peers;
use crate::world::Shift;

/// False incidents a month.
const ALLOWED: f64 = 0.2;
/// Quiet hours by which thresholds are set, for each model.
const QUIET: usize = 4 * MONTH;
/// Hours of a month.
const MONTH: usize = 720;
/// How much more each factor is than the one before.
const STEP: f64 = 1.02;

/// Whose default measures, for numbers and for levels.
///
/// # Source
/// Evidently 0.7: Wasserstein's and Jensen–Shannon's distance above 1,000 rows of the reference. NannyML 0.13: Jensen–Shannon's
/// for both.
#[derive(Clone, Copy)]
pub(crate) enum Peer {
    Evidently,
    NannyMl,
}

impl Peer {
    pub(crate) const ALL: [(&'static str, Self); 2] =
        [("Evidently", Self::Evidently), ("NannyML", Self::NannyMl)];

    fn of(self, watched: &Watched, window: &ColumnProfile) -> f64 {
        let numbers = matches!(window, ColumnProfile::Numbers(_));
        let name = match self {
            Self::Evidently if numbers => "Wasserstein, within the range",
            _ => "Jensen–Shannon",
        };
        let measures = peers::of(watched, window);
        measures.iter().find(|(measure, _)| *measure == name).expect("each kind has it").1
    }
}

/// A peer's measures with a threshold for each column of a model.
#[derive(Clone)]
pub(crate) struct Thresholds {
    peer: Peer,
    by_column: Vec<f64>,
}

impl Watcher for Thresholds {
    fn hour(&mut self, all: &[Watched], windows: &[ColumnProfile], _now: usize) -> Hour {
        let ratio = |((watched, window), threshold): ((&Watched, &ColumnProfile), &f64)| {
            self.peer.of(watched, window) / threshold.max(1e-12)
        };
        let weights: Vec<f64> = all.iter().zip(windows).zip(&self.by_column).map(ratio).collect();
        let drifted: Vec<bool> = weights.iter().map(|weight| *weight > 1.0).collect();
        Hour { bad: drifted.contains(&true), weights, drifted }
    }
}

/// Notes what a peer measures, and alarms of nothing.
struct Notes {
    peer: Peer,
    hours: Vec<Vec<f64>>,
}

impl Watcher for Notes {
    fn hour(&mut self, all: &[Watched], windows: &[ColumnProfile], _now: usize) -> Hour {
        let measured: Vec<f64> =
            all.iter().zip(windows).map(|(watched, window)| self.peer.of(watched, window)).collect();
        let drifted = vec![false; measured.len()];
        self.hours.push(measured.clone());
        Hour { bad: false, weights: measured, drifted }
    }
}

/// A peer's thresholds for each of some models, and how many incidents a quiet month has with them.
pub(crate) fn thresholds(
    peer: Peer,
    mean: u64,
    models: &mut [Vec<Watched>],
    dice: &mut Dice,
) -> (Vec<Thresholds>, f64) {
    let quiet: Vec<Vec<Vec<f64>>> = models
        .iter_mut()
        .map(|model| {
            let mut notes = Notes { peer, hours: vec![] };
            watch(model, QUIET, mean, &|_, _| Shift::default(), &mut notes, dice);
            notes.hours
        })
        .collect();
    let bases: Vec<Vec<f64>> = quiet.iter().map(|hours| rarely_exceeded(hours)).collect();
    let months = (models.len() * QUIET / MONTH) as f64;
    let mut factor = 1.0;
    loop {
        let incidents: usize =
            quiet.iter().zip(&bases).map(|(hours, base)| incidents(hours, base, factor)).sum();
        let monthly = incidents as f64 / months;
        if monthly <= ALLOWED {
            let scaled = |base: &Vec<f64>| base.iter().map(|least| least * factor).collect();
            let of = |base| Thresholds { peer, by_column: scaled(base) };
            return (bases.iter().map(of).collect(), monthly);
        }
        factor *= STEP;
    }
}

/// By column, what 999 of 1,000 hours stay below.
fn rarely_exceeded(hours: &[Vec<f64>]) -> Vec<f64> {
    let columns = hours.first().map_or(0, Vec::len);
    let of = |column: usize| {
        let mut values: Vec<f64> = hours.iter().map(|hour| hour[column]).collect();
        values.sort_unstable_by(f64::total_cmp);
        values[values.len() - 1 - values.len() / 1_000]
    };
    (0..columns).map(of).collect()
}

fn incidents(hours: &[Vec<f64>], base: &[f64], factor: f64) -> usize {
    let (mut incident, mut month) = (Incident::default(), Month::default());
    for (number, hour) in hours.iter().enumerate() {
        let bad = hour.iter().zip(base).any(|(measured, base)| *measured > base * factor);
        incident.after(bad, number, &mut month);
    }
    month.opened.len() - month.again
}
