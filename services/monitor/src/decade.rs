//! A model of 2013 on the flights of 2023: inputs are others, ranking is not, and in July and August probabilities are off.
//!
//! The model is small enough for a test and knows what one could know: how late aircraft had been leaving the airport in the three
//! hours before the question, two hours ahead, and the hour of the day; rates of January to August 2013 by these two.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use domain::ids::PredictionId;
use domain::incident::Verdict;
use domain::tabular::Column;
use frames::judged::Judged;
use frames::{assemble, files};
use statistics::ranking::auc;
use storage::monitors::Finding;
use storage::predictions::Scored;

use crate::outcomes::{self, Bounds, Expected};
use crate::ranking::Test;

const BOUNDS: Bounds = Bounds { alpha: 0.001, min_rate_change: 0.04, min_rows: 200 };
const MINUTE: i64 = 60_000_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// Groups of equally many flights by how late aircraft had been leaving.
const GROUPS: usize = 20;
/// What a group is taken to have seen of what all groups saw.
const PRIOR: f64 = 200.0;

fn at(day: &str) -> i64 {
    format!("{day}T00:00:00Z").parse::<DateTime<Utc>>().unwrap().timestamp_micros()
}

/// A flight that was flown.
struct Flight {
    asked_at: i64,
    hour: usize,
    /// The mean delay of the departures from its airport in the three hours before the question; 0 without one.
    leaving_late: f64,
    late: bool,
}

fn flown(year: i32) -> Vec<Flight> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/flights/data");
    let rows = files::read_parquet(&data.join(format!("flights_{year}_lean.parquet"))).unwrap();
    let planned = rows.times("sched_dep_ts").unwrap();
    let table = assemble::table(&rows).unwrap();
    let (Some(Column::Number(left)), Some(Column::Number(landed))) =
        (table.column("dep_delay"), table.column("arr_delay"))
    else {
        panic!("delays are numbers")
    };
    let origin = table.column("origin").unwrap();
    let origins: Vec<&str> = (0..rows.rows()).map(|row| origin.category(row).unwrap()).collect();
    let mut departures: HashMap<&str, Vec<(i64, f64)>> = HashMap::new();
    for row in (0..rows.rows()).filter(|&row| !left[row].is_nan()) {
        let known = planned[row] + left[row] as i64 * MINUTE;
        departures.entry(origins[row]).or_default().push((known, left[row].clamp(-30.0, 240.0)));
    }
    departures.values_mut().for_each(|all| all.sort_by_key(|departure| departure.0));
    let mut flights: Vec<Flight> = (0..rows.rows())
        .filter(|&row| !landed[row].is_nan())
        .map(|row| {
            let (asked_at, all) = (planned[row] - 2 * HOUR, &departures[origins[row]]);
            let until = all.partition_point(|departure| departure.0 <= asked_at);
            let from = all.partition_point(|departure| departure.0 <= asked_at - 3 * HOUR);
            let sum: f64 = all[from..until].iter().map(|departure| departure.1).sum();
            Flight {
                asked_at,
                hour: planned[row].div_euclid(HOUR).rem_euclid(24) as usize,
                leaving_late: sum / (until - from).max(1) as f64,
                late: landed[row] > 15.0,
            }
        })
        .collect();
    flights.sort_by_key(|flight| flight.asked_at);
    flights
}

/// Late rates by group and hour, each beside [`PRIOR`] flights that were as late as all of the group.
struct Model {
    edges: Vec<f64>,
    rates: Vec<f64>,
    rate: f64,
}

impl Model {
    fn of(flights: &[Flight]) -> Self {
        let mut sorted: Vec<f64> = flights.iter().map(|flight| flight.leaving_late).collect();
        sorted.sort_by(f64::total_cmp);
        let edges = (1..GROUPS).map(|group| sorted[group * sorted.len() / GROUPS]).collect();
        let mut model = Self { edges, rates: vec![], rate: 0.0 };
        let (mut groups, mut cells) = (vec![(0.0, 0.0); GROUPS], vec![(0.0, 0.0); GROUPS * 24]);
        for flight in flights {
            let (group, late) = (model.group(flight), f64::from(u8::from(flight.late)));
            for sums in [&mut groups[group], &mut cells[group * 24 + flight.hour]] {
                *sums = (sums.0 + late, sums.1 + 1.0);
            }
        }
        model.rate = groups.iter().map(|group| group.0).sum::<f64>() / flights.len() as f64;
        let with = |(late, count): (f64, f64), prior: f64| (late + PRIOR * prior) / (count + PRIOR);
        let of_group: Vec<f64> = groups.into_iter().map(|sums| with(sums, model.rate)).collect();
        model.rates =
            cells.into_iter().enumerate().map(|(cell, sums)| with(sums, of_group[cell / 24])).collect();
        model
    }

    fn group(&self, flight: &Flight) -> usize {
        self.edges.partition_point(|edge| *edge < flight.leaving_late)
    }

    fn probability(&self, flight: &Flight) -> f64 {
        self.rates[self.group(flight) * 24 + flight.hour]
    }

    /// What it promises: what it showed in November and December 2013.
    fn promise(&self, flights: &[Flight]) -> Expected {
        let judged = Judged {
            rows: vec![],
            cutoffs: flights.iter().map(|flight| flight.asked_at).collect(),
            labels: flights.iter().map(|flight| flight.late).collect(),
            probabilities: flights.iter().map(|flight| self.probability(flight)).collect(),
        };
        let found = auc(&judged.probabilities, &judged.labels).unwrap();
        Expected {
            rate: self.rate,
            auc: Some((found.value, found.interval.low)),
            test: Test::of(&judged, TimeDelta::days(1)).map(Arc::new),
        }
    }

    fn scored(&self, flights: &[Flight]) -> Vec<Scored> {
        let score = |flight: &Flight| Scored {
            prediction: PredictionId::new(),
            cutoff: DateTime::from_timestamp_micros(flight.asked_at).unwrap(),
            probability: self.probability(flight),
            outcome: flight.late,
        };
        flights.iter().map(score).collect()
    }
}

fn between(flights: &[Flight], from: i64, until: i64) -> &[Flight] {
    let place = |moment: i64| flights.partition_point(|flight| flight.asked_at < moment);
    &flights[place(from)..place(until)]
}

/// What is found about the days up to this one.
fn found(scored: &[Scored], promise: &Expected, end: i64) -> Vec<Finding> {
    let begin = DateTime::from_timestamp_micros(end - DAY).unwrap();
    let own = scored.partition_point(|row| row.cutoff < begin);
    outcomes::judge(&scored[own..], scored, &[], promise, BOUNDS).unwrap()
}

fn verdict(findings: &[Finding], measure: &str) -> Verdict {
    findings.iter().find(|finding| finding.measure == measure).unwrap().verdict
}

const PERFORMANCE: [&str; 2] = ["auc_14_windows", "auc_less_estimate_14_windows"];
const CALIBRATION: [&str; 2] = ["probability_less_rate_14_windows", "ece_15_bins_14_windows"];

#[test]
fn from_march_to_september_2023_a_model_of_2013_ranks_as_it_promised_and_its_probabilities_fail_in_summer() {
    let old = flown(2013);
    let model = Model::of(between(&old, at("2013-01-01"), at("2013-09-01")));
    let tested = between(&old, at("2013-11-01"), at("2014-01-01"));
    let promise = model.promise(tested);
    let (promised, promised_low) = promise.auc.unwrap();
    let new = flown(2023);
    let area = |flights: &[Flight]| {
        let (p, y): (Vec<f64>, Vec<bool>) =
            flights.iter().map(|flight| (model.probability(flight), flight.late)).unzip();
        auc(&p, &y).unwrap()
    };
    let whole = area(between(&new, at("2023-03-01"), at("2023-10-01")));
    assert!(promised > 0.66 && (whole.value - promised).abs() < 0.02, "{promised} and {}", whole.value);

    let (mut below_a_fixed_bound, mut miscalibrated) = (0, vec![]);
    let mut day = NaiveDate::from_ymd_opt(2023, 3, 4).unwrap();
    while day < NaiveDate::from_ymd_opt(2023, 10, 1).unwrap() {
        let end = at(&day.to_string()) + DAY;
        let trailing = between(&new, end - 14 * DAY, end);
        let findings = found(&model.scored(trailing), &promise, end);
        for measure in PERFORMANCE {
            assert_eq!(verdict(&findings, measure), Verdict::Ok, "{day} {measure}: {findings:?}");
        }
        below_a_fixed_bound += u32::from(area(trailing).interval.high < promised_low);
        if CALIBRATION.iter().any(|measure| verdict(&findings, measure) == Verdict::Drift) {
            miscalibrated.push(day);
        }
        day += TimeDelta::days(3);
    }
    assert!(below_a_fixed_bound > 10, "14 days rank below two months in any year: {below_a_fixed_bound}");
    for (from, until) in [("2023-07-01", "2023-08-01"), ("2023-08-01", "2023-09-01")] {
        let month = from.parse::<NaiveDate>().unwrap()..until.parse::<NaiveDate>().unwrap();
        assert!(miscalibrated.iter().any(|day| month.contains(day)), "{from}: {miscalibrated:?}");
    }
}

#[test]
fn a_model_that_no_longer_knows_the_airport_is_found_on_the_same_flights() {
    let old = flown(2013);
    let model = Model::of(between(&old, at("2013-01-01"), at("2013-09-01")));
    let promise = model.promise(between(&old, at("2013-11-01"), at("2014-01-01")));
    let new = flown(2023);
    for date in ["2023-04-15", "2023-06-15", "2023-07-20"] {
        let end = at(date) + DAY;
        let mut scored = model.scored(between(&new, end - 14 * DAY, end));
        let of_others: Vec<f64> = scored.iter().rev().map(|row| row.probability).collect();
        scored.iter_mut().zip(of_others).for_each(|(row, other)| row.probability = other);
        let findings = found(&scored, &promise, end);
        assert_eq!(verdict(&findings, PERFORMANCE[1]), Verdict::Drift, "{date}: {findings:?}");
    }
}
