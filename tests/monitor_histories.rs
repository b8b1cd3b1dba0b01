//! What a GPT read, watched: histories that come to be others are seen where no column of the table shows it.

use chrono::{DateTime, TimeDelta, Utc};
use journeys::Platform;
use serde_json::{Value, json};

use crate::planted::{self, MODEL, champion, question, trained, world, world_with};

const MONITOR: &str = "[[monitor]]\nname = \"visits\"\nmodel = \"visits\"\nmin_rows = 100\n";

/// Visits that were served a day.
const SERVED: usize = 400;

fn noon(day: i64) -> DateTime<Utc> {
    "2013-10-04T12:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::days(day)
}

/// Serves a day of visits whose table is as ever, with histories of six clicks of these kinds.
async fn serve(platform: &Platform, day: i64, kinds: impl Fn(usize) -> [&'static str; 6]) {
    platform.clock.advance_to(noon(day));
    let row = |number: usize| {
        let mut row = question(number);
        row.insert("event_time".to_owned(), json!(noon(day)));
        row.insert("busy__count_1d".to_owned(), json!(6.0));
        let event = |(place, kind): (usize, &str)| {
            let time = noon(day) - TimeDelta::seconds(60 - 9 * place as i64);
            json!({ "event_time": time, "kind": kind })
        };
        row.insert("history".to_owned(), kinds(number).into_iter().enumerate().map(event).collect());
        row
    };
    for part in (0..SERVED).collect::<Vec<_>>().chunks(50) {
        let rows: Vec<_> = part.iter().map(|number| row(*number)).collect();
        let asked = json!({ "model": MODEL, "rows": rows });
        let (status, answer) = platform.call("POST", "/v1/predict", Some(asked)).await;
        assert_eq!(status, 200, "{answer}");
    }
    platform.call("POST", "/v1/prediction-log/flush", Some(json!({}))).await;
    platform.clock.advance_to(noon(day) + TimeDelta::hours(13));
    let (status, answer) = platform.call("POST", "/v1/monitors/visits/run", Some(json!({}))).await;
    assert_eq!(status, 202, "{answer}");
    platform.run_jobs().await;
}

/// The findings of a day.
async fn findings(platform: &Platform, day: i64) -> Vec<Value> {
    let midnight = |day: i64| (noon(day) - TimeDelta::hours(12)).format("%Y-%m-%dT%H:%M:%SZ").to_string();
    let path = format!("/v1/monitors/visits/windows?from={}&until={}", midnight(day), midnight(day + 1));
    let (status, rows) = platform.call("GET", &path, None).await;
    assert_eq!(status, 200, "{rows}");
    rows.as_array().unwrap().clone()
}

/// The columns of a kind that a day's own window calls drifted.
fn drifted(findings: &[Value], kind: &str) -> Vec<String> {
    let own = |row: &&Value| !row["measure"].as_str().unwrap().ends_with("_windows");
    let moved = findings.iter().filter(own).filter(|row| row["kind"] == kind && row["verdict"] == "drift");
    moved.map(|row| row["column"].as_str().unwrap().to_owned()).collect()
}

fn verdict<'a>(findings: &'a [Value], column: &str, measure: &str) -> &'a Value {
    let found = findings.iter().find(|row| row["column"] == column && row["measure"] == measure);
    &found.unwrap_or_else(|| panic!("{column} has no {measure}"))["verdict"]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_and_tokens_that_no_column_shows_are_drift_of_what_the_gpt_read() {
    let (platform, set) = world_with(|config| config.worker.surprise_one_in = 1).await;
    let joint = trained(&platform, "joint", &set).await;
    champion(&platform, joint).await;
    platform.apply(&format!("{}{MONITOR}", planted::definitions(""))).await;

    serve(&platform, 0, planted::clicks).await;
    serve(&platform, 1, |_| ["A", "A", "B", "B", "C", "C"]).await; // the same clicks in one order
    serve(&platform, 2, |_| ["A"; 6]).await;

    let (as_ever, ordered, others) =
        (findings(&platform, 0).await, findings(&platform, 1).await, findings(&platform, 2).await);
    for day in [&as_ever, &ordered, &others] {
        assert_eq!(drifted(day, "input"), [""; 0], "{day:?}");
    }
    assert_eq!(drifted(&as_ever, "history"), [""; 0], "{as_ever:?}");
    for (column, measure) in
        [("gpt.surprise", "ks_distance"), ("gpt.token", "total_variation"), ("gpt.embedding", "mmd")]
    {
        assert_eq!(*verdict(&as_ever, column, measure), "ok", "{column}");
    }
    assert_eq!(*verdict(&ordered, "gpt.embedding", "mmd"), "drift", "{ordered:?}");
    assert_eq!(*verdict(&ordered, "gpt.token", "total_variation"), "ok", "the clicks are as many of each");
    assert_eq!(*verdict(&others, "gpt.token", "total_variation"), "drift", "{others:?}");
    assert_eq!(*verdict(&others, "gpt.surprise", "ks_distance"), "drift", "{others:?}");
    assert_eq!(*verdict(&others, "gpt.embedding", "mmd_14_windows"), "drift", "{others:?}");

    let (_, open) = platform.call("GET", "/v1/incidents?state=firing", None).await;
    assert!(open.to_string().contains("gpt."), "{open}");
    let (_, metrics) = platform.call("GET", "/metrics", None).await;
    let shown = metrics.as_str().unwrap().contains("foretime_drift_effect{column=\"gpt.embedding\"");
    assert!(shown, "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_looked_and_for_a_model_without_a_gpt_it_says_so() {
    let (platform, set) = world().await;
    let joint = trained(&platform, "joint", &set).await;
    champion(&platform, joint).await;
    platform.apply(&format!("{}{MONITOR}", planted::definitions(""))).await;
    serve(&platform, 0, planted::clicks).await; // one of eight requests is looked at: too few rows
    let found = findings(&platform, 0).await;
    assert_eq!(*verdict(&found, "gpt.surprise", "ks_distance"), "insufficient data", "{found:?}");
    assert!(found.iter().all(|row| row["verdict"] != "broken"), "{found:?}");

    let linear = trained(&platform, "linear", &set).await;
    champion(&platform, linear).await;
    serve(&platform, 1, planted::clicks).await;
    assert!(findings(&platform, 1).await.iter().all(|row| row["kind"] != "history"));
}
