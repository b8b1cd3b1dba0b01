//! Ten kinds of shift by three sizes and three volumes: is it seen, how soon, and as what?

use statistics::profile::ColumnProfile;
use statistics::rule::{Cause, Evidence, Season, Settings, Yardstick};

use crate::draws::Dice;
use crate::model::{self, COLUMNS, Watched, look};
use crate::world::{Column, HISTORY, Law, Shift, WEEK};

/// A kind of shift.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// What the sizes are called.
    pub(crate) sizes: [&'static str; 3],
    /// The shift at each size.
    pub(crate) shifts: [Shift; 3],
    /// The column it happens to.
    pub(crate) law: Law,
    /// Hours over which it comes, evenly; 0 if at once.
    pub(crate) over: usize,
    /// The causes that name it rightly.
    pub(crate) right: &'static [Cause],
    /// The size that has to be seen in one window of 5,000 rows.
    pub(crate) asked: Option<usize>,
}

pub(crate) fn kinds() -> Vec<Kind> {
    let none = Shift::default();
    let numbers = Law::Numbers { rows: 0.0, days: 0.0, zeros: 0.0 };
    let levels = Law::Levels(vec![0.35, 0.25, 0.2, 0.12, 0.08]);
    let kind = |name, law: &Law, sizes, shifts, right, asked| Kind {
        name,
        sizes,
        shifts,
        law: law.clone(),
        over: 0,
        right,
        asked,
    };
    let mean = |by: [f64; 3]| by.map(|mean| Shift { mean, ..none });
    let location: &[Cause] = &[Cause::Location];
    vec![
        kind("mean", &numbers, ["+0.1 sd", "+0.25 sd", "+0.5 sd"], mean([0.1, 0.25, 0.5]), location, Some(1)),
        kind(
            "variance",
            &numbers,
            ["sd × 1.1", "sd × 1.2", "sd × 1.5"],
            [1.1_f64, 1.2, 1.5].map(|by| Shift { log_deviation: by.ln(), ..none }),
            &[Cause::Spread],
            Some(1),
        ),
        kind(
            "tail × 10",
            &numbers,
            ["0.5 %", "1 %", "3 %"],
            [0.005, 0.01, 0.03].map(|tail| Shift { tail, ..none }),
            &[Cause::Range],
            Some(1),
        ),
        kind(
            "category mass",
            &levels,
            ["2 points", "5 points", "10 points"],
            [0.02, 0.05, 0.1].map(|moved| Shift { moved, ..none }),
            &[Cause::Levels],
            Some(1),
        ),
        kind(
            "new level",
            &levels,
            ["0.5 %", "1 %", "3 %"],
            [0.005, 0.01, 0.03].map(|new_level| Shift { new_level, ..none }),
            &[Cause::Unseen],
            Some(1),
        ),
        kind(
            "missing from 1 %",
            &numbers,
            ["to 3 %", "to 8 %", "to 20 %"],
            [0.02, 0.07, 0.19].map(|missing| Shift { missing, ..none }),
            &[Cause::Missing],
            Some(2),
        ),
        Kind {
            over: 14 * 24,
            ..kind(
                "gradual mean, 14 days",
                &numbers,
                ["+0.25 sd", "+0.5 sd", "+1 sd"],
                mean([0.25, 0.5, 1.0]),
                location,
                None,
            )
        },
        kind(
            "unit (of a log-normal)",
            &numbers,
            ["× 1.1", "× 2.54", "× 1000"],
            mean([1.1_f64.ln(), 2.54_f64.ln(), 1000_f64.ln()]),
            location,
            None,
        ),
        kind(
            "label rate (of 20 %)",
            &Law::Levels(vec![0.8, 0.2]),
            ["+2 points", "+5 points", "+10 points"],
            [0.02, 0.05, 0.1].map(|moved| Shift { moved, ..none }),
            &[Cause::Levels],
            None,
        ),
        kind(
            "concept: signal lost",
            &Law::Outcomes,
            ["20 %", "50 %", "100 %"],
            [0.2, 0.5, 1.0].map(|lost| Shift { lost, ..none }),
            &[Cause::Levels],
            None,
        ),
    ]
}

/// What came of a cell.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cell {
    /// The share of single windows called drifted.
    pub(crate) one: f64,
    /// The share of runs whose evidence held among all columns within 24 windows.
    pub(crate) within: f64,
    /// Hours until it did, the median and the 90th percentile over runs that did within the watched time.
    pub(crate) delay: Option<(usize, usize)>,
    /// The share of alarms with the right cause first.
    pub(crate) right: f64,
}

/// Columns with a history, made once and used by many runs.
pub(crate) fn watched(law: &Law, mean: u64, how_many: usize, dice: &mut Dice) -> Vec<Watched> {
    let volume = model::volume(mean);
    let make = |_| {
        let mut column = Column::new(law, dice);
        let (whole, windows) = column.history(&volume, dice);
        let windows =
            windows.iter().enumerate().map(|(hour, window)| ((hour / 24) as i64, hour % WEEK, window));
        let yardstick = Yardstick::with_season(whole, Season { slots: WEEK }, windows);
        Watched { column, yardstick }
    };
    (0..how_many).map(make).collect()
}

pub(crate) fn cell(
    kind: &Kind,
    size: usize,
    mean: u64,
    runs: usize,
    worlds: &mut [Watched],
    dice: &mut Dice,
) -> Cell {
    let shift = kind.shifts[size];
    let one = single(worlds, shift, mean, runs, dice);
    let (mut delays, mut right, mut within) = (vec![], 0, 0);
    for run in 0..runs {
        let place = run % worlds.len();
        let watched = &mut worlds[place];
        if let Some((hours, cause)) = until_held(watched, kind, shift, mean, dice) {
            delays.push(hours);
            within += usize::from(hours <= 24);
            right += usize::from(cause.is_some_and(|cause| kind.right.contains(&cause)));
        }
    }
    delays.sort_unstable();
    let at = |share: f64| delays[((delays.len() - 1) as f64 * share).round() as usize];
    Cell {
        one,
        within: within as f64 / runs as f64,
        delay: (!delays.is_empty()).then(|| (at(0.5), at(0.9))),
        right: right as f64 / delays.len().max(1) as f64,
    }
}

/// The share of single windows of exactly `rows` rows that are called drifted.
pub(crate) fn single(worlds: &mut [Watched], shift: Shift, rows: u64, runs: usize, dice: &mut Dice) -> f64 {
    let mut drifted = 0;
    for run in 0..runs {
        let place = run % worlds.len();
        let watched = &mut worlds[place];
        let hour = HISTORY * 24 + (dice.uniform() * WEEK as f64) as usize;
        let window: ColumnProfile = watched.column.hour(hour, rows, shift, dice);
        drifted += usize::from(look(watched, &window, hour, &mut Evidence::default()).drift);
    }
    drifted as f64 / runs as f64
}

/// How many hours after its beginning a shift's evidence held among all columns, and by which cause; windows of `rows` rows.
fn until_held(
    watched: &mut Watched,
    kind: &Kind,
    shift: Shift,
    rows: u64,
    dice: &mut Dice,
) -> Option<(usize, Option<Cause>)> {
    let needed = (COLUMNS as f64 / Settings::default().alpha).ln();
    let mut evidence = Evidence::default();
    let begin = HISTORY * 24 + (dice.uniform() * WEEK as f64) as usize;
    // The evidence of a quiet day before, as it would be.
    for hour in 0..24 + kind.over + 96 {
        let since = hour as i64 - 24;
        let part = match (since < 0, kind.over) {
            (true, _) => 0.0,
            (false, 0) => 1.0,
            (false, over) => ((since + 1) as f64 / over as f64).min(1.0),
        };
        let window = watched.column.hour(begin + hour, rows, shift.scaled(part), dice);
        let seen = look(watched, &window, begin + hour, &mut evidence);
        if since >= 0 && seen.log_e >= needed {
            return Some((since as usize + 1, seen.cause));
        }
    }
    None
}
