//! The ledger's tables.

use std::fmt::Write;

use crate::alike::{Peer, thresholds};
use crate::draws::Dice;
use crate::episodes::Told;
use crate::world::{Law, laws};
use crate::{Effort, coverage as intervals, episodes as told, model, months as quiet, peers, power as cells};

/// Columns with a history for each cell of power.
const WORLDS: usize = 20;

pub(crate) const HEAD: &str = "# Alarm ledger

Written by `make bench-alarms`; the same seeds give the same numbers. Worlds of 60 days: 30 of history, 30 watched, in hourly
windows whose volume and columns have a daily and a weekly season. 50 columns: 34 of numbers (8 whose rows follow each other by 0.5 or
0.9, 6 whose days have levels of their own that are independent or follow each other by 0.5 or 0.9), 15 of levels (Zipf's 200 and 2,000
among them) and the outcomes by band of the score. The reference is the history by hour of the week. Settings: alpha 0.001, smallest
effect 0.01. An incident opens after two windows whose evidence e-BH keeps among all columns and closes after three without.
";

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

pub(crate) fn months(months: &[(u64, usize)], first: u64) -> String {
    let mut text = String::from(
        "\n## Quiet months\n\nAsked: at most 0.2 false incidents a model-month.\n\n\
         | rows an hour | model-months | false incidents | a month | months with one | days with a message | column-windows called drifted |\n\
         |---|---|---|---|---|---|---|\n",
    );
    let mut by_law: Vec<(&str, u64, u64)> = vec![];
    for &(mean, months) in months {
        if months == 0 {
            continue;
        }
        let found = quiet::quiet(mean, months, first);
        let windows = found.hours * found.drifted.len() as u64;
        writeln!(
            text,
            "| {mean} | {} | {} | {:.3} | {} | {} | {:.5} % |",
            found.months,
            found.incidents,
            found.incidents as f64 / found.months as f64,
            percent(found.months_with_one as f64 / found.months as f64),
            percent(found.days_with_a_message as f64 / (found.months * 30) as f64),
            found.drifted.iter().sum::<u64>() as f64 / windows as f64 * 100.0,
        )
        .expect("a string takes all");
        for ((name, _), drifted) in laws().into_iter().zip(&found.drifted) {
            match by_law.iter_mut().find(|(law, ..)| *law == name) {
                Some((_, sum, hours)) => (*sum, *hours) = (*sum + drifted, *hours + found.hours),
                None => by_law.push((name, *drifted, found.hours)),
            }
        }
    }
    text.push_str("\nBy kind of column, all volumes together: windows called drifted, one by one.\n\n| column | share |\n|---|---|\n");
    for (name, drifted, hours) in by_law {
        writeln!(text, "| {name} | {:.5} % |", drifted as f64 / hours as f64 * 100.0)
            .expect("a string takes all");
    }
    text
}

pub(crate) fn power(effort: &Effort) -> String {
    let mut text = String::from(
        "\n## Ten kinds of shift, three sizes, three volumes\n\n\
         One window: the share of single windows called drifted. Within 24: the share of runs whose evidence alone holds among 50 columns \
         within 24 windows. Delay: hours until it does, median and 90th percentile (outcomes are judged once their cohort has matured, \
         14 days after; that time comes on top). Cause: the share of those with the right cause first. Peers: the power of each measure in \
         one window at a false alarm in a thousand windows.\n\n\
         Asked: ≥ 99 % in one window at 5,000 rows and within 24 at 500 for mean + 0.25 sd, sd × 1.2, 5 points of category mass, a new level \
         of 1 %, missing to 20 % and a tail of 1 %; ✗ marks what falls short.\n\n\
         | shift | rows | one window | within 24 | delay | cause | peers, one window |\n|---|---|---|---|---|---|---|\n",
    );
    let mut dice = Dice::new(2);
    for kind in cells::kinds() {
        for &(mean, runs) in &effort.runs {
            let mut worlds = cells::watched(&kind.law, mean, WORLDS.min(runs), &mut dice);
            let peers = peers::power(&mut worlds, mean, &kind.shifts, runs.min(300), &mut dice);
            for size in 0..3 {
                let cell = cells::cell(&kind, size, mean, runs, &mut worlds, &mut dice);
                let beside = peers.iter().map(|(name, power)| format!("{name} {}", percent(power[size])));
                let asked = kind.asked == Some(size);
                let mark = |falls_short: bool| if asked && falls_short { " ✗" } else { "" };
                writeln!(
                    text,
                    "| {} {} | {mean} | {}{} | {}{} | {} | {} | {} |",
                    kind.name,
                    kind.sizes[size],
                    percent(cell.one),
                    mark(mean >= 5_000 && cell.one < 0.99),
                    percent(cell.within),
                    mark(mean == 500 && cell.within < 0.99),
                    cell.delay.map_or_else(|| "–".to_owned(), |(median, most)| format!("{median} / {most}")),
                    if cell.delay.is_some() { percent(cell.right) } else { "–".to_owned() },
                    beside.collect::<Vec<_>>().join(", "),
                )
                .expect("a string takes all");
            }
        }
    }
    text.push_str(&followers(effort, &mut dice));
    text
}

/// The mean's shift in columns that are harder: whose rows follow each other, or whose days differ.
fn followers(effort: &Effort, dice: &mut Dice) -> String {
    let mut text = String::from(
        "\nThe mean + 0.25 sd in harder columns, in one window: rows that follow each other are worth fewer, days that differ \
         widen what is no drift.\n\n| column | rows | one window |\n|---|---|---|\n",
    );
    let kinds = cells::kinds();
    let hard: Vec<(&str, Law)> =
        laws().into_iter().filter(|(name, _)| name.contains("follow") || name.contains("differ")).collect();
    for &(mean, runs) in &effort.runs {
        let mut last = "";
        for (name, law) in &hard {
            if *name == last || mean > 5_000 {
                continue;
            }
            last = name;
            let runs = runs.min(300);
            let mut worlds = cells::watched(law, mean, WORLDS.min(runs), dice);
            let share = cells::single(&mut worlds, kinds[0].shifts[1], mean, runs, dice);
            writeln!(text, "| {name} | {mean} | {} |", percent(share)).expect("a string takes all");
        }
    }
    text
}

pub(crate) fn episodes(effort: &Effort) -> String {
    let mut text = String::from(
        "\n## Incidents\n\nA shift of the size that is asked for (else the middle one) lasts three days in one column of fifty. Messages: \
         the ideal is 2, opened and resolved. Delay: hours from its beginning to the incident's; over after: from its end to the incident's; \
         medians. The peers' rows: their default measures of each hour against the whole reference, with thresholds by which quiet months \
         open as few incidents as are allowed; they name no cause.\n\n\
         | shift | rows an hour | by | seen | its column first | among the first three | delay | messages | over after |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    let mut dice = Dice::new(3);
    for mean in [500, 5_000] {
        let mut models: Vec<_> = (0..3).map(|_| model::columns(mean, &mut dice)).collect();
        let kinds = cells::kinds();
        let at_once = || kinds.iter().filter(|kind| kind.over == 0);
        for kind in at_once() {
            let rule = |_| -> Box<dyn model::Watcher> { Box::new(model::Rule::default()) };
            let found = told::told(kind, mean, effort.episodes, &mut models, &rule, &mut dice);
            text.push_str(&episode(kind.name, mean, "this rule", &found));
        }
        for (name, peer) in Peer::ALL {
            let (watchers, monthly) = thresholds(peer, mean, &mut models, &mut dice);
            let by = format!("{name}, {monthly:.2} a quiet month");
            for kind in at_once() {
                let peers = |model: usize| -> Box<dyn model::Watcher> { Box::new(watchers[model].clone()) };
                let found = told::told(kind, mean, effort.episodes, &mut models, &peers, &mut dice);
                text.push_str(&episode(kind.name, mean, &by, &found));
            }
        }
    }
    text
}

fn episode(shift: &str, mean: u64, by: &str, found: &Told) -> String {
    let hours = |hours: Option<usize>| hours.map_or_else(|| "–".to_owned(), |hours| hours.to_string());
    format!(
        "| {shift} | {mean} | {by} | {} of {} | {} | {} | {} | {:.2} | {} |\n",
        found.seen,
        found.episodes,
        percent(found.first),
        percent(found.among_three),
        hours(found.delay),
        found.messages,
        hours(found.over_after),
    )
}

pub(crate) fn coverage(runs: usize) -> String {
    let mut text = String::from(
        "\n## Intervals\n\nHow often the stated 95 % interval of the effect holds the true distance, references of 50,000 values. \
         Asked: 93–97 %.\n\n| case | rows | true distance | held |\n|---|---|---|---|\n",
    );
    for case in intervals::all(runs, &mut Dice::new(4)) {
        let mark = if (0.93..=0.97).contains(&case.share) { "" } else { " ✗" };
        writeln!(
            text,
            "| {} | {} | {:.4} | {}{mark} |",
            case.name,
            case.rows,
            case.truth,
            percent(case.share)
        )
        .expect("a string takes all");
    }
    text
}
