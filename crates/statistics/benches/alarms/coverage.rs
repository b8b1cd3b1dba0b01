//! Do the stated 95 % intervals hold the true distance 95 times of 100?

use statistics::distributions::normal_cdf;
use statistics::profile::{ColumnProfile, Edges, LevelProfile, MOST_BINS, NumberProfile};
use statistics::rule::{Settings, Yardstick};

use crate::draws::Dice;

/// Values of a reference.
const REFERENCE: usize = 50_000;

/// A case with its true distance and the share of intervals that held it.
pub(crate) struct Covered {
    pub(crate) name: String,
    pub(crate) rows: usize,
    pub(crate) truth: f64,
    pub(crate) share: f64,
}

pub(crate) fn all(runs: usize, dice: &mut Dice) -> Vec<Covered> {
    let mut found = vec![];
    for rows in [500, 5_000] {
        for (mean, deviation, follow) in [
            (0.1, 1.0, 0.0),
            (0.25, 1.0, 0.0),
            (0.5, 1.0, 0.0),
            (0.0, 1.2, 0.0),
            (0.0, 1.5, 0.0),
            (0.25, 1.0, 0.5),
            (0.5, 1.0, 0.9),
        ] {
            found.push(numbers(mean, deviation, follow, rows, runs, dice));
        }
        for moved in [0.05, 0.1, 0.2] {
            found.push(levels(&[0.35, 0.25, 0.2, 0.12, 0.08], moved, rows, runs, dice));
        }
        let zipf: Vec<f64> = (1..=200).map(|rank| 1.0 / f64::from(rank)).collect();
        let sum: f64 = zipf.iter().sum();
        let zipf: Vec<f64> = zipf.into_iter().map(|weight| weight / sum).collect();
        found.push(levels(&zipf, 0.1, rows, runs, dice));
    }
    found
}

fn numbers(mean: f64, deviation: f64, follow: f64, rows: usize, runs: usize, dice: &mut Dice) -> Covered {
    let truth = (-4_000..4_000)
        .map(|step| f64::from(step) / 1_000.0)
        .map(|x| (normal_cdf(x) - normal_cdf((x - mean) / deviation)).abs())
        .fold(0.0, f64::max);
    let held = (0..runs).filter(|_| {
        let reference: Vec<f64> = (0..REFERENCE).map(|_| dice.normal()).collect();
        let edges = Edges::of(&reference, MOST_BINS).expect("there are values");
        let mut state = dice.normal();
        let fresh = (1.0 - follow * follow).sqrt();
        let window: Vec<f64> = (0..rows)
            .map(|_| {
                state = follow * state + fresh * dice.normal();
                mean + deviation * state
            })
            .collect();
        let profile = |values: &[f64]| {
            let mut profile = NumberProfile::new(edges.clone());
            profile.observe(values);
            ColumnProfile::Numbers(profile)
        };
        holds(profile(&reference), &profile(&window), truth)
    });
    let share = held.count() as f64 / runs as f64;
    let name = format!("normal, mean + {mean} sd, sd × {deviation}, rows follow each other by {follow}");
    Covered { name, rows, truth, share }
}

fn levels(shares: &[f64], moved: f64, rows: usize, runs: usize, dice: &mut Dice) -> Covered {
    let mut after = shares.to_vec();
    let last = after.len() - 1;
    after[0] -= moved;
    after[last] += moved;
    let names: Vec<String> = (0..shares.len()).map(|level| format!("L{level}")).collect();
    let named = |counts: Vec<u64>| names.iter().map(String::as_str).zip(counts).collect::<Vec<_>>();
    let held = (0..runs).filter(|_| {
        let reference = LevelProfile::of_reference(named(dice.multinomial(REFERENCE as u64, shares)), 0);
        let mut window = LevelProfile::like(&reference);
        named(dice.multinomial(rows as u64, &after))
            .into_iter()
            .for_each(|(name, count)| window.add(name, count));
        holds(ColumnProfile::Levels(reference), &ColumnProfile::Levels(window), moved)
    });
    let share = held.count() as f64 / runs as f64;
    Covered { name: format!("{} levels, {moved} moved", shares.len()), rows, truth: moved, share }
}

fn holds(reference: ColumnProfile, window: &ColumnProfile, truth: f64) -> bool {
    let yardstick = Yardstick::of(reference);
    let look = yardstick.look(window, 0, Settings::default()).expect("the kind is the same");
    let effect = look.judge().expect("the settings are some").effect.expect("there are values");
    effect.interval.contains(truth)
}
