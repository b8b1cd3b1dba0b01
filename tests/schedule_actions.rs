//! Schedules that look after features: the real scheduler lets them tick, and what comes of it can be seen.

use std::time::Duration;

use chrono::TimeDelta;
use journeys::Platform;
use serde_json::{Value, json};

use crate::watched::{day, settle};

const DEFINITIONS: &str = r#"
[[entity]]
name = "person"
keys = ["person"]

[[source]]
name = "visits"
columns = { person = "text", at = "time", amount = "number" }
event_time = "at"
known_time = "at"

[[feature_view]]
name = "latest"
entity = "person"
source = "visits"
features = ["amount"]

[[feature_view]]
name = "visits"
entity = "person"
source = "visits"
log = ["amount"]
retention = "10d"
"#;

/// How long the scheduler, which looks every second, may take to let a due tick happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// A platform whose schedule `nightly` does that, and has begun to be looked after.
async fn scheduled(action: &str) -> Platform {
    let platform = Platform::start().await;
    let schedule =
        format!("[[schedule]]\nname = \"nightly\"\ncron = \"0 0 3 * * *\"\naction = {{ {action} }}\n");
    platform.apply(&(DEFINITIONS.to_owned() + &schedule)).await;
    platform.work();
    counts(&platform, "select count(*) from schedule_firings where schedule = 'nightly'", 1).await;
    settle(&platform, "retain-view").await; // what is looked at when a feature store starts
    platform
}

/// Waits until a statement counts so many.
async fn counts(platform: &Platform, statement: &'static str, wanted: i64) {
    let look = async {
        let mut pause = tokio::time::interval(Duration::from_millis(20));
        loop {
            pause.tick().await;
            let count: i64 = sqlx::query_scalar(statement).fetch_one(&platform.context.db).await.unwrap();
            if count == wanted {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("never {wanted}: {statement}"));
}

/// Waits until `nightly` has ticked once and its job is over; answers what the job said.
async fn ticked(platform: &Platform) -> Value {
    counts(
        platform,
        "select count(*) from schedule_ticks join jobs using (job_id) where schedule = 'nightly' and jobs.state = 'succeeded'",
        1,
    )
    .await;
    let outcome = "select outcome from schedule_ticks join jobs using (job_id) where schedule = 'nightly'";
    sqlx::query_scalar(outcome).fetch_one(&platform.context.db).await.unwrap()
}

fn visits(days: &[i64]) -> Value {
    let visit =
        |on: &i64| json!({ "person": "a", "at": day(*on) - TimeDelta::hours(1), "amount": *on as f64 });
    json!({ "rows": days.iter().map(visit).collect::<Vec<_>>() })
}

async fn amount_online(platform: &Platform) -> (Value, Value) {
    let ask =
        json!({ "features": ["latest:amount"], "entities": [{ "person": "a" }], "include_metadata": true });
    let (status, answer) = platform.call("POST", "/v1/features/online", Some(ask)).await;
    assert_eq!(status, 200, "{answer}");
    let row = &answer["rows"][0];
    (row["__status"]["amount"].clone(), row["amount"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_brings_what_lies_offline_into_the_online_store() {
    let platform = scheduled("materialize = \"latest\"").await;
    let push = "/v1/sources/visits/rows?to=offline";
    let (status, told) = platform.call("POST", push, Some(visits(&[-2, 0]))).await;
    assert_eq!(status, 200, "{told}");
    assert_eq!(amount_online(&platform).await, (json!("NOT_FOUND"), Value::Null));
    platform.clock.advance_to(day(1));
    assert_eq!(ticked(&platform).await["view"], "latest");
    assert_eq!(amount_online(&platform).await, (json!("PRESENT"), json!(0.0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_lets_rows_go_that_are_past_their_retention() {
    let platform = scheduled("retain = \"visits\"").await;
    let (status, told) =
        platform.call("POST", "/v1/sources/visits/rows", Some(visits(&[-9, -8, -1, 0]))).await;
    assert_eq!(status, 200, "{told}");
    let rows =
        "select coalesce(sum(rows), 0)::bigint from parts where view = 'visits' and replaced_at is null";
    counts(&platform, rows, 4).await;
    platform.clock.advance_to(day(4));
    assert_eq!(ticked(&platform).await["rows_dropped"], 2);
    counts(&platform, rows, 2).await;
    assert_eq!(amount_online(&platform).await, (json!("PRESENT"), json!(0.0)), "other views keep theirs");
}
