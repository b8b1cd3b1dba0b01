//! The feature store's promises: what is served now is what a training row of this moment would hold, nothing from the future
//! gets in, and a training set is the same bytes whenever it is built.

use chrono::{DateTime, TimeDelta, Utc};
use frames::{Frame, Values};
use journeys::{NOW, Platform};
use serde_json::{Value, json};

const DEFINITIONS: &str = r#"
[[entity]]
name = "shop"
keys = ["shop"]

[[entity]]
name = "order"
keys = ["order"]

[[source]]
name = "visits"
columns = { shop = "text", at = "time", known = "time", amount = "number" }
event_time = "at"
known_time = "known"

[[source]]
name = "orders"
columns = { order = "integer", shop = "text", at = "time", known = "time", returned = "number" }
event_time = "at"
known_time = "known"

[[feature_view]]
name = "latest_visit"
entity = "shop"
source = "visits"
max_age = "6h"
features = ["amount"]

[[feature_view]]
name = "recent_visits"
entity = "shop"
source = "visits"
windows = [{ column = "amount", aggregates = ["count", "sum", "mean", "std", "last"], over = ["1h", "1d"] }, { aggregates = ["age"], over = ["1d"] }]

[[feature_view]]
name = "orders"
entity = "order"
source = "orders"
log = ["shop", "returned"]

[[dataset]]
name = "returns"
spine = { view = "orders" }
horizon = "1h"
label = "returned > 0"
views = ["latest_visit", "recent_visits"]
split = { train_until = "2013-10-20T00:00:00Z", validation_until = "2013-10-25T00:00:00Z" }
[dataset.features]
shop = "shop"
doubled = "latest_visit__amount * 2"
"#;

fn now() -> DateTime<Utc> {
    NOW.parse().unwrap()
}

fn micros(hours_ago: i64) -> i64 {
    (now() - TimeDelta::hours(hours_ago)).timestamp_micros()
}

/// Visits as `(shop, hours ago, hours until known, amount)`.
fn visits(rows: &[(&str, i64, i64, f64)]) -> Frame {
    Frame::new(
        rows.len(),
        vec![
            ("shop".into(), Values::text(rows.iter().map(|row| Some(row.0)))),
            ("at".into(), Values::Time(rows.iter().map(|row| micros(row.1)).collect())),
            ("known".into(), Values::Time(rows.iter().map(|row| micros(row.1 - row.2)).collect())),
            ("amount".into(), Values::Number(rows.iter().map(|row| row.3).collect())),
        ],
    )
}

/// Orders of shop `a`, one an hour, `count` of them, the last one an hour ahead of now.
fn orders(count: i64) -> Frame {
    let ages: Vec<i64> = (0..count).map(|order| count - order - 2).collect();
    Frame::new(
        ages.len(),
        vec![
            ("order".into(), Values::Integer((0..count).collect())),
            ("shop".into(), Values::text(ages.iter().map(|_| Some("a")))),
            ("at".into(), Values::Time(ages.iter().map(|age| micros(*age)).collect())),
            ("known".into(), Values::Time(ages.iter().map(|age| micros((*age).max(0))).collect())),
            ("returned".into(), Values::Number((0..count).map(|order| (order % 2) as f64).collect())),
        ],
    )
}

async fn platform() -> Platform {
    let platform = Platform::start().await;
    platform.apply(DEFINITIONS).await;
    platform
}

async fn training_set(platform: &Platform) -> Value {
    let (status, promised) =
        platform.call("POST", "/v1/training-sets", Some(json!({ "dataset": "returns" }))).await;
    assert_eq!(status, 202, "{promised}");
    platform.run_jobs().await;
    let (_, job) =
        platform.call("GET", &format!("/v1/jobs/{}", promised["job"].as_str().unwrap()), None).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    let id = job["outcome"]["training_set"].as_str().unwrap().to_owned();
    platform.call("GET", &format!("/v1/training-sets/{id}"), None).await.1
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_served_now_equals_a_training_row_whose_cutoff_is_now() {
    let platform = platform().await;
    let rows = [("a", 30, 0, 7.0), ("a", 3, 0, 10.0), ("a", 2, 1, 20.0), ("a", 1, 5, 99.0), ("b", 1, 0, 5.0)];
    // the visit of one hour ago is known in four hours only, so it is not accepted yet
    let (status, answer) = platform.push("visits", &visits(&rows), None).await;
    assert_eq!(
        (status, &answer["accepted"], &answer["rejected_invalid"]),
        (200, &json!(4), &json!(1)),
        "{answer}"
    );
    platform.push("orders", &orders(300), None).await;
    let set = training_set(&platform).await;
    let frame =
        frames::files::read_arrow(&platform.folder.path().join(set["path"].as_str().unwrap())).unwrap();
    // The last order happens an hour from now: its cutoff is now.
    let row = (0..frame.rows())
        .find(|&row| frame.times("__cutoff").unwrap()[row] == now().timestamp_micros())
        .unwrap();
    let offline = frames::rows::to_json(&frame.take(&[row as u32]));
    let asked = json!({ "rows": [{ "order": 299, "shop": "a", "event_time": now() + TimeDelta::hours(1) }] });
    let (status, online) = platform.call("POST", "/v1/datasets/returns/online", Some(asked)).await;
    assert_eq!(status, 200, "{online}");
    for (name, value) in online["rows"][0].as_object().unwrap() {
        assert_eq!(value, &offline[0][name], "`{name}` differs between online and offline");
    }
    assert_eq!(online["rows"][0]["latest_visit__amount"], 20.0);
    assert_eq!(online["rows"][0]["recent_visits__amount_sum_1d"], 30.0);
    assert_eq!(online["statuses"]["latest_visit"][0], "PRESENT");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_training_set_has_as_many_rows_as_its_spine_and_no_leaked_value() {
    let platform = platform().await;
    platform
        .push("visits", &visits(&[("a", 200, 0, 1.0), ("a", 100, 3, 2.0), ("a", 50, 0, 3.0)]), None)
        .await;
    platform.push("orders", &orders(300), None).await;
    let manifest = training_set(&platform).await["manifest"].clone();
    assert_eq!(manifest["rows_in"], 300);
    assert_eq!(manifest["rows_out"], 300);
    assert_eq!(manifest["leaked_values"], 0);
    assert!(manifest["leak_audit"]["recent_visits"]["values"].as_u64().unwrap() > 0, "{manifest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_builds_of_the_same_knowledge_are_the_same_bytes_and_new_rows_make_another() {
    let platform = platform().await;
    platform.push("visits", &visits(&[("a", 200, 0, 1.0), ("a", 50, 0, 3.0)]), None).await;
    platform.push("orders", &orders(200), None).await;
    let first = training_set(&platform).await;
    sqlx::query("delete from training_sets").execute(&platform.context.db).await.unwrap();
    let again = training_set(&platform).await;
    assert_ne!(first["id"], again["id"]);
    assert_eq!(first["sha256"], again["sha256"]);
    platform.push("visits", &visits(&[("a", 20, 0, 9.0)]), None).await;
    assert_ne!(training_set(&platform).await["sha256"], first["sha256"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_batch_answers_what_the_first_one_answered_and_stores_nothing_twice() {
    let platform = platform().await;
    let rows = visits(&[("a", 2, 0, 1.0)]);
    let first = platform.push("visits", &rows, Some("batch-1")).await;
    assert_eq!(first, platform.push("visits", &rows, Some("batch-1")).await);
    let (_, freshness) = platform.call("GET", "/v1/freshness", None).await;
    assert!(freshness.as_array().unwrap().iter().all(|view| view["rows"] == 1), "{freshness}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_row_never_replaces_a_newer_one_online() {
    let platform = platform().await;
    platform.push("visits", &visits(&[("a", 1, 0, 10.0)]), None).await;
    platform.push("visits", &visits(&[("a", 4, 0, 99.0)]), None).await;
    let asked = json!({ "rows": [{ "order": 1, "shop": "a", "event_time": now() }] });
    let (_, online) = platform.call("POST", "/v1/datasets/returns/online", Some(asked)).await;
    assert_eq!(online["rows"][0]["latest_visit__amount"], 10.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_older_than_its_max_age_is_expired_and_not_given() {
    let platform = platform().await;
    platform.push("visits", &visits(&[("a", 7, 0, 10.0)]), None).await;
    let asked = json!({ "rows": [{ "order": 1, "shop": "a", "event_time": now() }] });
    let (_, online) = platform.call("POST", "/v1/datasets/returns/online", Some(asked)).await;
    assert_eq!(online["statuses"]["latest_visit"][0], "EXPIRED");
    assert_eq!(online["rows"][0]["latest_visit__amount"], Value::Null);
    assert_eq!(online["rows"][0]["recent_visits__amount_count_1d"], 1.0);
}
