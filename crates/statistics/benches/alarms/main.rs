//! The alarm ledger: what the rule of `statistics::rule` calls drift in worlds whose truth is known. Deterministic.
//!
//! `cargo bench -p statistics --bench alarms -- [--quick] [--out FILE]`: writes the ledger as Markdown; some twenty minutes. `--months
//! ROWS MONTHS [FIRST]` prints what becomes of so many quiet months with so many rows an hour: the ledger's, which are the first
//! ones, or those from another on, which the rule may be mended by. `--intervals RUNS` prints how often intervals hold.

mod alike;
mod coverage;
mod draws;
mod episodes;
mod model;
mod months;
mod peers;
mod power;
mod report;
mod world;

use std::fmt::Write;

/// How much is simulated.
pub(crate) struct Effort {
    /// Null model-months by mean rows an hour.
    pub(crate) months: [(u64, usize); 3],
    /// Runs of a cell of power, by mean rows an hour.
    pub(crate) runs: [(u64, usize); 3],
    /// Episodes of a kind.
    pub(crate) episodes: usize,
    /// Intervals of a case.
    pub(crate) intervals: usize,
}

const WHOLE: Effort = Effort {
    months: [(500, 200), (5_000, 40), (50_000, 20)],
    runs: [(500, 1_000), (5_000, 500), (50_000, 100)],
    episodes: 10,
    intervals: 4_000,
};

const QUICK: Effort = Effort {
    months: [(500, 2), (5_000, 1), (50_000, 0)],
    runs: [(500, 50), (5_000, 50), (50_000, 10)],
    episodes: 2,
    intervals: 50,
};

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(months) = arguments.iter().position(|argument| argument == "--months") {
        let asked = arguments[months + 1..].iter().map_while(|asked| asked.parse().ok());
        let (mean, months, first) = match asked.collect::<Vec<u64>>()[..] {
            [mean, months] => (mean, months, 0),
            [mean, months, first] => (mean, months, first),
            _ => panic!("`--months ROWS MONTHS [FIRST]`"),
        };
        println!("{}", report::months(&[(mean, months as usize)], first));
        return Ok(());
    }
    if let Some(place) = arguments.iter().position(|argument| argument == "--intervals") {
        let runs = arguments.get(place + 1).and_then(|runs| runs.parse().ok()).expect("`--intervals RUNS`");
        println!("{}", report::coverage(runs));
        return Ok(());
    }
    let effort = if arguments.iter().any(|argument| argument == "--quick") { QUICK } else { WHOLE };
    let mut ledger = String::from(report::HEAD);
    std::thread::scope(|scope| {
        let parts = [
            scope.spawn(|| report::months(&effort.months, 0)),
            scope.spawn(|| {
                [report::power(&effort), report::episodes(&effort), report::coverage(effort.intervals)]
                    .concat()
            }),
        ];
        for part in parts {
            write!(ledger, "{}", part.join().expect("no part of the simulation panics"))
                .expect("a string takes all");
        }
    });
    match arguments.iter().position(|argument| argument == "--out").and_then(|place| arguments.get(place + 1))
    {
        Some(file) => std::fs::write(file, &ledger),
        None => {
            print!("{ledger}");
            Ok(())
        }
    }
}
