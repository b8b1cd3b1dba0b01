//! How fast profiles are made and judged: `cargo bench -p statistics --bench profiles`.
//!
//! Cells a second of one core, for numbers and for levels; and the verdicts on a thousand columns of numbers over a day of hourly
//! windows: of the day as a whole (24 profiles merged, one look), and of every hour with its evidence (24,000 looks), by one thread and
//! shared out over all, as monitors do.

use std::hint::black_box;
use std::time::Instant;

use rayon::prelude::*;
use statistics::Generator;
use statistics::distributions::normal_quantile;
use statistics::profile::{ColumnProfile, Edges, LevelProfile, MOST_BINS, NumberProfile};
use statistics::rule::{Evidence, Settings, Yardstick};

const CELLS: usize = 1_000_000;
const COLUMNS: usize = 1_000;
const HOURS: usize = 24;
/// Rows of an hourly window.
const ROWS: usize = 500;

fn normal(generator: &mut Generator) -> f64 {
    normal_quantile(generator.uniform().clamp(1e-12, 1.0 - 1e-12))
}

/// The least seconds of `rounds` rounds.
fn fastest(rounds: usize, mut work: impl FnMut()) -> f64 {
    let time = |_| {
        let begun = Instant::now();
        work();
        begun.elapsed().as_secs_f64()
    };
    (0..rounds).map(time).fold(f64::INFINITY, f64::min)
}

fn main() {
    let mut generator = Generator::from_seed(1);
    let values: Vec<f64> = (0..CELLS).map(|_| normal(&mut generator)).collect();
    let edges = Edges::of(&values[..65_536], MOST_BINS).expect("there are values");
    let seconds = fastest(5, || {
        let mut profile = NumberProfile::new(edges.clone());
        profile.observe(black_box(&values));
        black_box(&profile);
    });
    println!("numbers: {:.1} million cells a second", CELLS as f64 / seconds / 1e6);

    let names: Vec<String> = (0..50).map(|level| format!("level {level}")).collect();
    let levels: Vec<&str> = (0..CELLS).map(|_| names[generator.below(50)].as_str()).collect();
    let seconds = fastest(5, || {
        let mut profile = LevelProfile::default();
        black_box(&levels).iter().for_each(|level| profile.observe(level));
        black_box(&profile);
    });
    println!("levels: {:.1} million cells a second", CELLS as f64 / seconds / 1e6);

    let mut reference = NumberProfile::new(edges.clone());
    reference.observe(&values);
    let yardsticks: Vec<Yardstick> =
        (0..COLUMNS).map(|_| Yardstick::of(ColumnProfile::Numbers(reference.clone()))).collect();
    let window = |hour: usize| {
        let mut profile = NumberProfile::new(edges.clone());
        profile.observe(&values[hour * ROWS..(hour + 1) * ROWS]);
        ColumnProfile::Numbers(profile)
    };
    let hours: Vec<ColumnProfile> = (0..HOURS).map(window).collect();
    let seconds = fastest(3, || {
        for yardstick in &yardsticks {
            let mut day = hours[0].clone();
            hours[1..].iter().for_each(|hour| day.merge(hour).expect("the bins are the same"));
            let look = yardstick.look(&day, 0, Settings::default()).expect("the kind is the same");
            black_box(look.judge().expect("the settings are some"));
        }
    });
    println!(
        "{COLUMNS} columns × {HOURS} hourly windows, merged into one verdict each: {:.1} ms",
        seconds * 1e3
    );
    let judge = |yardstick: &Yardstick| {
        let mut evidence = Evidence::default();
        for hour in &hours {
            let look = yardstick.look(hour, 0, Settings::default()).expect("the kind is the same");
            evidence.take(&look);
            black_box((look.judge().expect("the settings are some"), evidence.log_e(&look)));
        }
    };
    let one = fastest(5, || yardsticks.iter().for_each(judge));
    let all = fastest(5, || yardsticks.par_iter().for_each(judge));
    println!(
        "{COLUMNS} columns × {HOURS} hourly windows, each judged with its evidence: {:.1} ms, {:.1} on {} threads",
        one * 1e3,
        all * 1e3,
        rayon::current_num_threads()
    );
}
