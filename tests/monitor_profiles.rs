//! Served rows as profiles: late rows, references, reports, and what another rule would have done.

use journeys::Platform;
use serde_json::{Value, json};

use crate::watched::{ROWS, day, findings, judge, serve, serve_as, watched_platform};

#[tokio::test]
async fn rows_that_come_late_open_their_window_again_and_others_stay_closed() {
    let platform = watched_platform("http://127.0.0.1:9/").await;
    serve(&platform, 0, 0.0, 0.0).await;
    serve(&platform, 1, 0.0, 0.0).await;
    judge(&platform, 0).await;
    judge(&platform, 1).await;
    let second = findings(&platform, 1, "ks_distance", "distance").await;
    serve_as(&platform, "late", 0, 0.5, 0.0).await;
    judge(&platform, 2).await;
    let first = &findings(&platform, 0, "ks_distance", "distance").await[0];
    assert_eq!((&first["rows"], &first["verdict"]), (&json!(2 * ROWS), &json!("drift")), "{first}");
    assert_eq!(findings(&platform, 1, "ks_distance", "distance").await, second, "its rows are the same");
}

#[tokio::test]
async fn a_versions_reference_and_what_it_was_served_are_profiles_of_fixed_size() {
    let platform = watched_platform("http://127.0.0.1:9/").await;
    serve(&platform, 0, 0.5, 0.0).await;
    judge(&platform, 0).await;
    let (status, reference) = platform.call("GET", "/v1/references/flights/1", None).await;
    assert_eq!(status, 200, "{reference}");
    let carriers = &reference["columns"]["carrier"]["levels"]["counts"];
    assert_eq!((&carriers["AA"], &carriers["UA"]), (&json!(1_334), &json!(2_666)), "{carriers}");
    let span = "from=2013-11-01T00:00:00Z&until=2013-11-02T00:00:00Z";
    let (status, served) = platform.call("GET", &format!("/v1/profiles/flights/1?{span}"), None).await;
    assert_eq!(status, 200, "{served}");
    let counts = served["columns"]["distance"]["numbers"]["counts"].as_array().unwrap();
    let rows: u64 = counts.iter().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(rows, ROWS as u64);
    assert!(served["columns"]["distance"].to_string().len() < 32 << 10);
    let (status, problem) = platform.call("GET", "/v1/references/flights/7", None).await;
    assert_eq!((status, &problem["type"]), (422, &json!("/problems/no-reference")), "{problem}");
}

#[tokio::test]
async fn reports_say_in_short_and_in_full_what_was_found_in_a_window() {
    let platform = watched_platform("http://127.0.0.1:9/").await;
    serve(&platform, 0, 0.0, 0.0).await;
    serve(&platform, 1, 0.5, 0.0).await;
    judge(&platform, 0).await;
    judge(&platform, 1).await;
    let (status, reports) = platform.call("GET", "/v1/reports?monitor=flights", None).await;
    assert_eq!(status, 200, "{reports}");
    let newest = &reports[0];
    assert_eq!((&newest["verdict"], &newest["columns"]), (&json!("drift"), &json!(["distance"])), "{newest}");
    assert_eq!((&reports[1]["verdict"], &reports[1]["columns"]), (&json!("ok"), &json!([])), "{reports}");
    let path = format!("/v1/reports/flights/{}", newest["window_start"].as_str().unwrap());
    let (status, whole) = platform.call("GET", &path, None).await;
    assert_eq!(status, 200, "{whole}");
    let findings = whole[0]["findings"].as_array().unwrap();
    assert!(findings.iter().any(|found| found["measure"] == "ks_distance_14_windows"), "{whole}");
    let (status, _) = platform.call("GET", "/v1/reports/flights/1999-01-01T00:00:00Z", None).await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn a_backtest_says_what_a_rule_would_have_done_and_changes_nothing() {
    let platform = watched_platform("http://127.0.0.1:9/").await;
    for (which, shift) in [0.5, 0.5, 0.0, 0.0].into_iter().enumerate() {
        serve(&platform, which as i64, shift, 0.0).await;
        judge(&platform, which as i64).await;
    }
    let (_, before) = platform.call("GET", "/v1/incidents", None).await;
    let path = "/v1/monitors/flights/backtest";
    let (status, own) = platform.call("POST", path, Some(json!({}))).await;
    assert_eq!((status, &own["windows"]), (200, &json!(4)), "{own}");
    assert_eq!(own["incidents"].as_array().unwrap().len(), 1, "{own}");
    let would = &own["incidents"][0];
    assert_eq!((&would["cause"], &would["severity"]), (&json!("input-drift"), &json!("log")), "{would}");
    assert_eq!((&would["opened_at"], &would["resolved_at"]), (&json!(day(2)), &json!(day(4))), "{would}");
    assert_eq!(before[0]["summary"], would["summary"], "the rule did what the backtest says it would");

    let (_, deaf) = platform.call("POST", path, Some(json!({ "min_rows": 5_000 }))).await;
    assert_eq!(deaf["incidents"], json!([]), "{deaf}");
    let (_, after) = platform.call("GET", "/v1/incidents", None).await;
    assert_eq!(before, after);
}

#[tokio::test]
async fn predictions_of_odd_years_are_windows_like_others() {
    let platform = watched_platform("http://127.0.0.1:9/").await;
    serve(&platform, -20_000, 0.0, 0.0).await; // 1959: a clock that was not set
    serve(&platform, 20_000, 0.0, 0.0).await; // 2068: one that runs ahead
    serve(&platform, 0, 0.0, 0.0).await;
    judge(&platform, 0).await;
    for which in [-20_000, 0] {
        assert_eq!(
            findings(&platform, which, "ks_distance", "distance").await[0]["verdict"],
            "ok",
            "{which}"
        );
    }
    assert!(findings(&platform, 20_000, "ks_distance", "distance").await.is_empty(), "it has not ended");
}

/// The profiles of what was served on the first day, and the lengths of the spans that are kept of it, in seconds.
async fn first_day(platform: &Platform) -> (Value, Vec<i32>) {
    let span = "from=2013-11-01T00:00:00Z&until=2013-11-02T00:00:00Z";
    let (status, served) = platform.call("GET", &format!("/v1/profiles/flights/1?{span}"), None).await;
    assert_eq!(status, 200, "{served}");
    let spans = "select distinct seconds from column_profiles where starts_at < '2013-11-02' order by 1";
    let spans = sqlx::query_scalar(spans).fetch_all(&platform.context.db).await.unwrap();
    (served["columns"].clone(), spans)
}

#[tokio::test]
async fn hours_of_long_ago_are_one_day_that_says_the_same_and_years_later_nothing() {
    let platform = watched_platform("http://127.0.0.1:9/").await;
    serve(&platform, 0, 0.5, 0.0).await;
    judge(&platform, 0).await;
    let (by_hour, spans) = first_day(&platform).await;
    assert_eq!(spans, [3_600]);
    judge(&platform, 62).await;
    assert_eq!(first_day(&platform).await, (by_hour.clone(), vec![86_400]));
    judge(&platform, 802).await;
    let (gone, spans) = first_day(&platform).await;
    assert!(spans.is_empty(), "{spans:?}");
    assert_ne!(gone, by_hour);
}
