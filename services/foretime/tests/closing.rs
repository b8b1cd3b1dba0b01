//! The closed loop, killed at many points of its way and started again: training set, training, gate and champion each come
//! about once, and the whole way can be read in one place.

use std::collections::BTreeMap;
use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use domain::{Clock, SystemClock};
use foretime::Client;
use serde_json::json;

use crate::support::{Ground, PATIENCE, Process, count, until};

const DEFINITIONS: &str = r#"
[[entity]]
name = "order"
keys = ["order"]

[[source]]
name = "orders"
columns = { order = "integer", at = "time", returned = "number" }
event_time = "at"
known_time = "at"

[[source]]
name = "quotes"
columns = { order = "integer", at = "time", risk = "number" }
event_time = "at"
known_time = "at"

[[feature_view]]
name = "orders"
entity = "order"
source = "orders"
log = ["returned"]

[[feature_view]]
name = "quotes"
entity = "order"
source = "quotes"
features = ["risk"]

[[dataset]]
name = "returns"
spine = { view = "orders" }
horizon = "1h"
label = "returned > 0"
views = ["quotes"]
split = { train_until = "2020-10-20T00:00:00Z", validation_until = "2020-10-25T00:00:00Z" }

[[model]]
name = "returns"
registered_model = "returns"
kind = "boosting"
dataset = "returns"
rolling = { validation = "10d", test = "10d" }

[[gate]]
name = "returns"
model = "returns"
min_auc = 0.55

[[schedule]]
name = "retrain"
cron = "0 0 4 1 1 *"
action = { train = "returns" }
"#;

const ORDERS: i64 = 1_200;
/// How often the ordinary test kills; `make soak` says more.
const KILLS: usize = 6;

/// All services in one process.
fn all(ground: &Ground) -> Process {
    ground.start(ground.up().env("FORETIME_JOBS__LEASE_SECONDS", "1"))
}

/// A number in 0..1 for an order, scattered.
fn scattered(order: i64, salt: i64) -> f64 {
    ((order * 7_919 + salt * 104_729) % 1_009) as f64 / 1_009.0
}

/// Orders of the last fifty days, one an hour, and a quote five hours before each.
async fn fill(client: &Client) {
    let now: DateTime<Utc> = SystemClock.now();
    for (source, lead) in [("orders", 0), ("quotes", 5)] {
        let row = |order: i64| {
            let at = now - TimeDelta::hours(2 + order + lead);
            match lead {
                0 => {
                    let returned = f64::from(scattered(order, 2) < scattered(order, 1));
                    json!({ "order": order, "at": at, "returned": returned })
                }
                _ => json!({ "order": order, "at": at, "risk": scattered(order, 1) }),
            }
        };
        let rows = json!({ "rows": (0..ORDERS).map(row).collect::<Vec<_>>() });
        client.post(&format!("/v1/sources/{source}/rows"), &rows).await.expect("the rows fit");
    }
}

/// Waits until nothing is queued or running.
async fn at_rest(pool: &sqlx::PgPool) {
    let open = "select count(*) from jobs where state in ('queued', 'running')";
    until("the loop comes to rest", PATIENCE, async || count(pool, open).await == 0).await;
}

async fn go_around(process: &Process) {
    process.client().post("/v1/schedules/retrain/run", &json!({})).await.expect("it starts");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_that_is_killed_anywhere_goes_on_and_makes_everything_once() {
    let ground = Ground::new();
    let pool = ground.pool().await;
    let mut process = all(&ground);
    let files = BTreeMap::from([("a.toml".to_owned(), DEFINITIONS.to_owned())]);
    process.client().apply(&files, false).await.expect("the definitions fit");
    fill(&process.client()).await;
    let began = Instant::now();
    go_around(&process).await;
    at_rest(&pool).await;
    let whole = began.elapsed();

    let kills = std::env::var("FORETIME_TEST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS);
    for kill in 0..kills {
        go_around(&process).await;
        tokio::time::sleep(whole.mul_f64((0.1 + kill as f64 * 0.618).fract())).await;
        process.kill();
        process = all(&ground);
        at_rest(&pool).await;
    }

    let rounds = kills as i64 + 1;
    let failed: Vec<(String, String, Option<String>)> =
        sqlx::query_as("select kind, state, failure from jobs where state <> 'succeeded'")
            .fetch_all(&pool)
            .await
            .expect("they can be read");
    assert!(failed.is_empty(), "{failed:?}");
    for kind in ["build-training-set", "train", "promote"] {
        let jobs: i64 = sqlx::query_scalar("select count(*) from jobs where kind = $1")
            .bind(kind)
            .fetch_one(&pool)
            .await
            .expect("they can be counted");
        assert_eq!(jobs, rounds, "`{kind}` jobs");
    }
    assert_eq!(count(&pool, "select count(*) from model_versions").await, rounds, "versions");
    assert_eq!(count(&pool, "select count(*) from runs where status = 'FINISHED'").await, rounds, "runs");
    assert_eq!(count(&pool, "select count(*) from runs where status = 'RUNNING'").await, 0, "runs left open");
    let told_twice = "select count(*) from (select to_version from alias_history where alias = 'champion'
                      group by 1 having count(*) > 1) twice";
    assert_eq!(count(&pool, told_twice).await, 0, "a move was written down twice");
    assert_eq!(count(&pool, "select count(distinct to_version) from alias_history").await, rounds);

    let loops = process.get("/v1/loop").await;
    let own = &loops["models"][0];
    assert!(own["champion"]["evidence"]["auc"].as_f64().expect("it was judged") > 0.55, "{loops}");
    assert_eq!(own["stage"]["step"], "serving", "{loops}");
    assert!(own["waits_for"].as_str().expect("it says so").contains("schedule `retrain`"), "{loops}");
    let last = &own["runs"][0];
    assert_eq!(last["reason"], json!({ "schedule": "retrain" }), "{loops}");
    assert_eq!(last["steps"].as_array().map(Vec::len), Some(3), "{loops}");
    let outcome = last["outcome"].as_str().expect("there is one");
    assert!(outcome.contains("became champion") || outcome.contains("the gate refused"), "{outcome}");
}
