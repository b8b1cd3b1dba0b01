//! Segments: a model that is right on average and wrong in its parts.

use chrono::{DateTime, Utc};
use domain::ids::PredictionId;
use journeys::Platform;
use serde_json::{Value, json};

use crate::watched::{ROWS, day, findings, judge, scattered, serve, store, watched_platform};

/// What comes true of the rows of a day: of each with the chance that its carrier and distance give.
async fn label(platform: &Platform, which: i64, ids: &[PredictionId], chance: impl Fn(bool, f64) -> f64) {
    let at = |row: usize| -> DateTime<Utc> { day(which) + chrono::TimeDelta::minutes(3 * row as i64 + 60) };
    let came_true = |row: usize| {
        let drawn = ((row + 31 * which as usize) as f64 * 0.754_877_666_246_693).fract();
        drawn < chance(row.is_multiple_of(3), scattered(row))
    };
    let labels: Vec<Value> = (0..ROWS)
        .map(|row| json!({ "prediction_id": ids[row], "outcome": came_true(row), "label_time": at(row) }))
        .collect();
    let (status, answer) = platform.call("POST", "/v1/labels", Some(json!(labels))).await;
    assert_eq!((status, &answer["accepted"]), (200, &json!(ROWS)), "{answer}");
}

/// Declares a monitor that looks at segments, and lets it see five labelled days.
async fn five_days(settings: &str, chance: impl Fn(bool, f64) -> f64) -> Platform {
    let platform = watched_platform("http://127.0.0.1:9/").await;
    store(&platform, &format!("[[monitor]]\nname = \"flights\"\nmodel = \"flights\"\n{settings}")).await;
    for which in 0..5 {
        let ids = serve(&platform, which, 0.0, 0.0).await;
        label(&platform, which, &ids, &chance).await;
        judge(&platform, which).await;
    }
    platform
}

async fn verdict(platform: &Platform, measure: &str, column: &str) -> Value {
    findings(platform, 4, measure, column).await.first().map_or(Value::Null, |row| row["verdict"].clone())
}

const TRAILING: &str = "probability_less_rate_14_windows";

#[tokio::test]
async fn declared_segments_that_err_in_opposite_ways_are_found_though_the_average_is_right() {
    let platform = five_days("segments = [\"carrier\"]", |is_aa, _| if is_aa { 0.9 } else { 0.3 }).await;
    assert_eq!(verdict(&platform, TRAILING, "").await, "ok", "on average the model is right");
    for carrier in ["carrier=AA", "carrier=UA"] {
        assert_eq!(verdict(&platform, TRAILING, carrier).await, "drift", "{carrier}");
    }
    let (_, incidents) = platform.call("GET", "/v1/incidents", None).await;
    let calibration =
        incidents.as_array().unwrap().iter().find(|incident| incident["cause"] == "calibration");
    let told = calibration.unwrap_or_else(|| panic!("{incidents}"))["summary"].as_str().unwrap();
    assert!(told.contains("`carrier=AA`"), "{told}");
}

#[tokio::test]
async fn segments_of_a_calibrated_model_are_ok_and_too_small_ones_say_so() {
    let platform = five_days("segments = [\"carrier\", \"distance\"]", |_, _| 0.5).await;
    for segment in ["carrier=AA", "carrier=UA", "distance <= 0.2"] {
        let found = findings(&platform, 4, TRAILING, segment).await;
        assert_eq!(found.len(), 1, "{segment}");
        assert_eq!(found[0]["verdict"], "ok", "{segment}: {}", found[0]);
    }
    let first_day = findings(&platform, 0, TRAILING, "carrier=AA").await;
    assert_eq!(first_day[0]["verdict"], "insufficient data", "134 rows: {}", first_day[0]);
    let (_, incidents) = platform.call("GET", "/v1/incidents", None).await;
    assert_eq!(incidents, json!([]));
}

#[tokio::test]
async fn the_search_finds_the_pair_that_is_bad_and_not_all_that_it_is_part_of() {
    let bad_pair = |is_aa, distance| if is_aa && distance > 0.8 { 1.0 } else { 0.5 };
    let platform = five_days("min_rows = 50\nworst_segments = 3", bad_pair).await;
    let (_, reports) = platform.call("GET", "/v1/monitors/flights/windows", None).await;
    let of_last_day = reports.as_array().unwrap().iter().filter(|row| {
        row["measure"] == TRAILING
            && row["column"] != ""
            && row["window_start"].as_str().unwrap().contains("11-05")
    });
    let found: Vec<(&str, &str)> =
        of_last_day.map(|row| (row["column"].as_str().unwrap(), row["verdict"].as_str().unwrap())).collect();
    assert_eq!(found.len(), 3, "{found:?}");
    let bad: Vec<&str> =
        found.iter().filter(|(_, verdict)| *verdict == "drift").map(|(name, _)| *name).collect();
    assert_eq!(bad.len(), 1, "{found:?}");
    assert!(bad[0].contains("carrier=AA, distance > 0.8"), "{found:?}");
}

#[tokio::test]
async fn a_segment_of_a_column_that_the_model_does_not_read_is_refused_by_name() {
    let platform = five_days("segments = [\"carier\"]", |_, _| 0.5).await;
    let (_, jobs) = platform.call("GET", "/v1/jobs?kind=run-monitor", None).await;
    let told = jobs.to_string();
    assert!(told.contains("names column `carier`") && told.contains("carrier"), "{told}");
}
