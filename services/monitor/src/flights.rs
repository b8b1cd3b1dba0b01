//! What the verdicts say about real months: every UTC day of November and December 2013 against training on January to August,
//! as in the example of the repository; and the summer of 2023, ten years later.

use std::collections::{BTreeMap, BTreeSet, HashMap};
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
    flights_of(2013)
}

fn flights_of(year: i32) -> (Table, Vec<i64>) {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/flights/data");
    let path = data.join(format!("flights_{year}_lean.parquet"));
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
    let order = by_departure(&departures);
    let references = references(&rows, &departures);
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

fn by_departure(departures: &[i64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..departures.len()).collect();
    order.sort_by_key(|&row| departures[row]);
    order
}

/// The profiles of 20,000 flights of January to August.
fn references(rows: &Table, departures: &[i64]) -> Profiles {
    let mut training = by_departure(departures);
    training.retain(|&row| departures[row] < at("2013-09-01T00:00:00Z"));
    let mut generator = Generator::from_seed(1);
    let sampled: Vec<usize> = (0..20_000).map(|_| training[generator.below(training.len())]).collect();
    let profile = |name: &str| of_reference(&chosen(rows.column(name).unwrap(), &sampled)).unwrap().unwrap();
    COLUMNS.iter().map(|name| ((*name).to_owned(), profile(name))).collect()
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
        let expected = Expected { rate, auc: None, test: None };
        let findings = outcomes::judge(day, &trailing, &steps, &expected, RATE_BOUNDS).unwrap();
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

#[test]
fn ten_years_later_the_carriers_are_others_and_airports_and_distances_moved_by_less_than_a_tenth() {
    let (rows, departures) = flights();
    let references = references(&rows, &departures);
    let yardsticks =
        references.iter().map(|(name, whole)| (name.clone(), Some(Yardstick::of(whole.clone())))).collect();
    let (rows, departures) = flights_of(2023);
    let order = by_departure(&departures);
    for day in ["2023-03-08", "2023-05-17", "2023-07-12", "2023-08-16", "2023-09-06"] {
        let begin = at(&format!("{day}T00:00:00Z"));
        let of_day: Vec<usize> = order
            .iter()
            .copied()
            .filter(|&row| (begin..begin + 86_400_000_000).contains(&departures[row]))
            .collect();
        let columns = window(&rows, &of_day, &references);
        let window = Window { columns: &columns, trailing: &Profiles::new(), slot: 0 };
        let findings = judge(&yardsticks, &window, None, SETTINGS).unwrap();
        let drifted: BTreeSet<&str> = findings
            .iter()
            .filter(|one| one.verdict == Verdict::Drift)
            .map(|one| one.column.as_str())
            .collect();
        assert_eq!(drifted, BTreeSet::from(["carrier"]), "{day}: {findings:?}");
    }
}

/// How often flights of January to August 2013 were late, by airport and hour (UTC), each beside 200 that were as all are.
struct Rates {
    all: f64,
    by_hour: HashMap<(String, i64), (f64, f64)>,
}

impl Rates {
    fn hour(rows: &Table, departure: i64, row: usize) -> (String, i64) {
        let origin = rows.column("origin").unwrap().category(row).unwrap().to_owned();
        (origin, departure.div_euclid(3_600_000_000).rem_euclid(24))
    }

    fn learned() -> Self {
        let (rows, departures) = flights();
        let Some(Column::Number(delays)) = rows.column("arr_delay") else { panic!("delays are numbers") };
        let mut learned = Self { all: 0.0, by_hour: HashMap::new() };
        let mut count = 0.0;
        for row in (0..rows.rows()).filter(|&row| !delays[row].is_nan()) {
            if departures[row] < at("2013-09-01T00:00:00Z") {
                let late = f64::from(u8::from(delays[row] > 15.0));
                let own = learned.by_hour.entry(Self::hour(&rows, departures[row], row)).or_default();
                (own.0, own.1) = (own.0 + late, own.1 + 1.0);
                (learned.all, count) = (learned.all + late, count + 1.0);
            }
        }
        learned.all /= count;
        learned
    }

    fn of(&self, hour: &(String, i64)) -> f64 {
        let (late, count) = self.by_hour.get(hour).copied().unwrap_or_default();
        (late + 200.0 * self.all) / (count + 200.0)
    }
}

#[test]
fn rates_of_2013_promise_too_little_in_july_2023_and_too_much_at_the_end_of_august() {
    let rates = Rates::learned();
    let (rows, departures) = flights_of(2023);
    let Some(Column::Number(delays)) = rows.column("arr_delay") else { panic!("delays are numbers") };
    let mut flown = by_departure(&departures);
    flown.retain(|&row| !delays[row].is_nan());
    let scored = |from: i64, until: i64| -> Vec<Scored> {
        let inside = flown.iter().filter(|&&row| (from..until).contains(&departures[row]));
        let score = |&row: &usize| Scored {
            prediction: domain::ids::PredictionId::new(),
            cutoff: DateTime::from_timestamp_micros(departures[row]).unwrap(),
            probability: rates.of(&Rates::hour(&rows, departures[row], row)),
            outcome: delays[row] > 15.0,
        };
        inside.map(score).collect()
    };
    let day = 86_400_000_000;
    let promised_less_rate = |date: &str| {
        let end = at(&format!("{date}T00:00:00Z")) + day;
        let (window, trailing) = (scored(end - day, end), scored(end - 14 * day, end));
        let expected = Expected { rate: rates.all, auc: None, test: None };
        let findings = outcomes::judge(&window, &trailing, &[], &expected, RATE_BOUNDS).unwrap();
        findings.into_iter().find(|found| found.measure == "probability_less_rate_14_windows").unwrap()
    };
    let (july, middle, end) = (
        promised_less_rate("2023-07-20"),
        promised_less_rate("2023-08-14"),
        promised_less_rate("2023-08-31"),
    );
    assert!(july.verdict == Verdict::Drift && july.effect.unwrap() < -0.1, "{july:?}");
    assert_eq!(middle.verdict, Verdict::Ok, "{middle:?}");
    assert!(end.verdict == Verdict::Drift && end.effect.unwrap() > 0.05, "{end:?}");
}
