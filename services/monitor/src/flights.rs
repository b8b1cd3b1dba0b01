//! What the verdicts say about two real months: every UTC day of November and December 2013 against training on January to
//! August, as in the example of the repository.

use std::collections::BTreeMap;
use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use domain::incident::Verdict;
use domain::tabular::{Column, Table};
use frames::{assemble, files};
use statistics::Generator;
use statistics::rule::{Settings, Yardstick};
use storage::monitors::Finding;
use storage::predictions::Scored;

use crate::drift::{Evidences, Window, judge};
use crate::outcomes::{self, Expected, Step};
use crate::profiles::{Profiles, Served, of_reference, of_rows};

const SETTINGS: Settings = Settings { alpha: 0.001, min_effect: 0.1, min_rows: 200 };
const RATE_BOUNDS: outcomes::Bounds = outcomes::Bounds { alpha: 0.001, min_rate_change: 0.04, min_rows: 200 };
const COLUMNS: [&str; 3] = ["carrier", "origin", "distance"];

fn at(text: &str) -> i64 {
    text.parse::<DateTime<Utc>>().unwrap().timestamp_micros()
}

fn flights() -> (Table, Vec<i64>) {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/flights/data/flights_2013_lean.parquet");
    let rows = files::read_parquet(&path).unwrap();
    let departures = rows.times("sched_dep_ts").unwrap().to_vec();
    (assemble::table(&rows).unwrap(), departures)
}

/// The columns of some rows, as they would be of a window.
fn window(rows: &Table, order: &[usize], references: &Profiles) -> BTreeMap<String, Served> {
    let served = |(name, reference): (&String, _)| {
        let profile = of_rows(rows.column(name).unwrap(), order, reference);
        (name.clone(), Served { rows: order.len() as u64, profile })
    };
    references.iter().map(served).collect()
}

#[test]
fn carrier_origin_and_distance_stay_ok_on_every_day_of_november_and_december() {
    let (rows, departures) = flights();
    let mut order: Vec<usize> = (0..rows.rows()).collect();
    order.sort_by_key(|&row| departures[row]);
    let training: Vec<usize> =
        order.iter().copied().filter(|&row| departures[row] < at("2013-09-01T00:00:00Z")).collect();
    let mut generator = Generator::from_seed(1);
    let sampled: Vec<usize> = (0..20_000).map(|_| training[generator.below(training.len())]).collect();
    let references: Profiles = COLUMNS
        .iter()
        .map(|name| {
            let column = rows.column(name).unwrap();
            ((*name).to_owned(), of_reference(&chosen(column, &sampled)).unwrap().unwrap())
        })
        .collect();
    let yardsticks =
        references.iter().map(|(name, whole)| (name.clone(), Some(Yardstick::of(whole.clone())))).collect();

    let mut days: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    let watched = at("2013-11-01T00:00:00Z")..at("2014-01-01T00:00:00Z");
    for &row in order.iter().filter(|&&row| watched.contains(&departures[row])) {
        days.entry(departures[row].div_euclid(TimeDelta::days(1).num_microseconds().unwrap()))
            .or_default()
            .push(row);
    }
    assert_eq!(days.len(), 61);
    let days: Vec<BTreeMap<String, Served>> =
        days.values().map(|day| window(&rows, day, &references)).collect();
    let mut evidence = Evidences::new();
    for (last, columns) in days.iter().enumerate() {
        let mut trailing = Profiles::new();
        for (name, served) in days[last.saturating_sub(13)..=last].iter().flatten() {
            let later = served.profile.as_ref().unwrap();
            trailing
                .entry(name.clone())
                .and_modify(|own| own.merge(later).unwrap())
                .or_insert_with(|| later.clone());
        }
        let window = Window { columns, trailing: &trailing, slot: 0 };
        for finding in judge(&yardsticks, &window, Some(&mut evidence), SETTINGS).unwrap() {
            assert_eq!(finding.verdict, Verdict::Ok, "day {last}: {finding:?}");
        }
    }
}

fn chosen(column: &Column, rows: &[usize]) -> Column {
    match column {
        Column::Number(numbers) => Column::Number(rows.iter().map(|&row| numbers[row]).collect()),
        Column::Category { .. } => Column::from_text(rows.iter().map(|&row| column.category(row))),
    }
}

/// So many days with what came true of a model that always says the training rate, and that rate.
fn late_arrivals(from: &str, count: usize) -> (Vec<Vec<Scored>>, f64) {
    let (rows, departures) = flights();
    let Some(Column::Number(delays)) = rows.column("arr_delay") else { panic!("delays are numbers") };
    let mut flown: Vec<usize> = (0..rows.rows()).filter(|&row| !delays[row].is_nan()).collect();
    flown.sort_by_key(|&row| departures[row]);
    let training: Vec<usize> =
        flown.iter().copied().filter(|&row| departures[row] < at("2013-09-01T00:00:00Z")).collect();
    let rate = training.iter().filter(|&&row| delays[row] > 15.0).count() as f64 / training.len() as f64;
    let start = at(from);
    let mut days = vec![Vec::new(); count];
    for &row in flown.iter().filter(|&&row| departures[row] >= start) {
        let Some(day) = days.get_mut(((departures[row] - start) / 86_400_000_000) as usize) else { break };
        day.push(Scored {
            prediction: domain::ids::PredictionId::new(),
            cutoff: DateTime::from_timestamp_micros(departures[row]).unwrap(),
            probability: rate,
            outcome: delays[row] > 15.0,
        });
    }
    (days, rate)
}

/// What is found about the late rate over the 14 days that end with each of so many.
fn trailing_rates(from: &str, count: usize) -> Vec<Finding> {
    let (days, rate) = late_arrivals(from, count);
    let mut steps = Vec::new();
    let mut found = Vec::new();
    for (last, day) in days.iter().enumerate() {
        let trailing: Vec<Scored> = days[last.saturating_sub(13)..=last].concat();
        let expected = Expected { rate, auc: None };
        let findings = outcomes::judge(day, &trailing, &steps, expected, RATE_BOUNDS).unwrap();
        steps.push(Step { rate: findings[0].current.unwrap(), n_eff: findings[0].n_eff.unwrap() });
        found.push(findings[1].clone());
    }
    found
}

#[test]
fn a_calm_november_and_a_stormy_december_are_both_found_and_the_days_between_are_not() {
    let found = trailing_rates("2013-11-01T00:00:00Z", 61);
    let on = |month: usize, day: usize| &found[(month - 11) * 30 + day - 1];
    assert_eq!(on(11, 1).verdict, Verdict::Ok);
    assert!(on(11, 20).verdict == Verdict::Drift && on(11, 20).effect.unwrap() < 0.0, "{:?}", on(11, 20));
    assert_eq!(on(12, 8).verdict, Verdict::Ok);
    assert!(on(12, 18).verdict == Verdict::Drift && on(12, 18).effect.unwrap() > 0.0, "{:?}", on(12, 18));
}

#[test]
fn the_calm_september_after_the_training_months_is_found() {
    let found = trailing_rates("2013-09-01T00:00:00Z", 30);
    let twentieth = &found[19];
    assert!(twentieth.verdict == Verdict::Drift && twentieth.effect.unwrap() < 0.0, "{twentieth:?}");
}
