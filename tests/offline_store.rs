//! The offline store's promises: however parts are merged, and whenever that is killed, a training set of the same knowledge
//! is the same bytes; what somebody reads stays on disk; old versions go, and the newest one that counts never does.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use chrono::{DateTime, TimeDelta, Utc};
use domain::definitions::Definitions;
use feature_store::compact::{compact_view, retain_view};
use frames::{Frame, Values};
use journeys::{NOW, Platform};
use serde_json::{Value, json};
use service_kit::Context;
use sqlx::postgres::PgPoolOptions;

const DEFINITIONS: &str = r#"
[[entity]]
name = "shop"
keys = ["shop"]

[[entity]]
name = "order"
keys = ["order"]

[[source]]
name = "visits"
columns = { shop = "text", at = "time", known = "time", amount = "number", kind = "text" }
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
max_age = "40d"
features = ["amount", "kind"]

[[feature_view]]
name = "recent_visits"
entity = "shop"
source = "visits"
windows = [{ column = "amount", aggregates = ["count", "mean", "std"], over = ["1d", "3d"] }]

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
"#;

fn now() -> DateTime<Utc> {
    NOW.parse().unwrap()
}

fn micros(hours_ago: i64) -> i64 {
    (now() - TimeDelta::hours(hours_ago)).timestamp_micros()
}

/// A batch of visits to 40 shops, some of them late, some twice at one moment.
fn visits(batch: i64) -> Frame {
    let rows: Vec<(i64, i64)> =
        (0..30).map(|row| ((batch * 7 + row * 3) % 40, 5 + (batch * 37 + row * 11) % 600)).collect();
    let count = rows.len();
    Frame::new(
        count,
        vec![
            ("shop".into(), Values::text(rows.iter().map(|row| Some(format!("shop {}", row.0))))),
            ("at".into(), Values::Time(rows.iter().map(|row| micros(row.1)).collect())),
            ("known".into(), Values::Time(rows.iter().map(|row| micros(row.1 - row.1 % 5)).collect())),
            (
                "amount".into(),
                Values::Number((0..count).map(|row| (batch * 100) as f64 + row as f64).collect()),
            ),
            (
                "kind".into(),
                Values::text(
                    (0..count).map(|row| Some(["web", "walk-in", "call"][(row + batch as usize) % 3])),
                ),
            ),
        ],
    )
}

fn orders() -> Frame {
    let ages: Vec<i64> = (0..300).map(|order| 2 + order * 2).collect();
    Frame::new(
        ages.len(),
        vec![
            ("order".into(), Values::Integer((0..300).collect())),
            ("shop".into(), Values::text((0..300).map(|order| Some(format!("shop {}", (order * 13) % 41))))),
            ("at".into(), Values::Time(ages.iter().map(|age| micros(*age)).collect())),
            ("known".into(), Values::Time(ages.iter().map(|age| micros(*age)).collect())),
            ("returned".into(), Values::Number((0..300).map(|order| f64::from(order % 2)).collect())),
        ],
    )
}

async fn pushed(platform: &Platform, source: &str, rows: &Frame) {
    let (status, answer) = platform.push(source, rows, None).await;
    assert_eq!(status, 200, "{answer}");
}

/// The same, but versions of visits older than ten days go.
fn with_retention() -> String {
    DEFINITIONS.replace("max_age = \"40d\"", "max_age = \"40d\"\nretention = \"10d\"")
}

/// A platform with so many batches of visits in parts of their own.
async fn platform(batches: i64) -> Platform {
    platform_of(DEFINITIONS, batches).await
}

async fn platform_of(definitions: &str, batches: i64) -> Platform {
    let platform = Platform::start().await;
    platform.apply(definitions).await;
    pushed(&platform, "orders", &orders()).await;
    for batch in 0..batches {
        pushed(&platform, "visits", &visits(batch)).await;
    }
    platform
}

async fn training_set(platform: &Platform) -> Value {
    let asked = json!({ "dataset": "returns", "as_of": now() });
    let (status, promised) = platform.call("POST", "/v1/training-sets", Some(asked)).await;
    assert_eq!(status, 202, "{promised}");
    platform.run_jobs().await;
    let job = format!("/v1/jobs/{}", promised["job"].as_str().unwrap());
    let (_, job) = platform.call("GET", &job, None).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    let id = job["outcome"]["training_set"].as_str().unwrap().to_owned();
    platform.call("GET", &format!("/v1/training-sets/{id}"), None).await.1
}

/// Builds the set anew, whatever was built before.
async fn rebuilt(platform: &Platform) -> Value {
    sqlx::query("delete from training_sets").execute(&platform.context.db).await.unwrap();
    training_set(platform).await
}

async fn count(platform: &Platform, what: &str) -> i64 {
    let query = format!("select count(*) from parts where view = 'latest_visit' and {what}");
    sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_one(&platform.context.db).await.unwrap()
}

fn files(platform: &Platform) -> usize {
    fn under(folder: &std::path::Path) -> usize {
        let entries = std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
        entries.map(|path| if path.is_dir() { under(&path) } else { 1 }).sum()
    }
    under(&platform.folder.path().join("features/default/latest_visit"))
}

/// The platform's context with connections of its own.
async fn like_a_process_of_its_own(platform: &Platform) -> Context {
    let options = platform.context.db.connect_options().as_ref().clone();
    let db = PgPoolOptions::new().max_connections(3).connect_with(options).await.unwrap();
    Context::new(db, platform.context.config.as_ref().clone()).with_clock(platform.clock.clone())
}

/// Polls a future at most so often, then drops it: whatever it was at, it was killed there. Answers what it came to, if it did.
async fn killed<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(move |waking| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(waking).map(Some)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn case_84_a_merge_killed_at_any_step_leaves_the_same_training_set() {
    let platform = platform(7).await;
    let before = training_set(&platform).await;
    let mut steps = 1;
    let done = loop {
        let process = like_a_process_of_its_own(&platform).await;
        let done = killed(compact_view(&process, "default", "latest_visit"), steps).await;
        process.db.close().await; // a process that dies takes its connections with it, and what they had begun
        if let Some(done) = done {
            break done.unwrap();
        }
        if steps % 8 == 1 {
            assert_eq!(rebuilt(&platform).await["sha256"], before["sha256"], "killed at step {steps}");
        }
        steps += 1;
    };
    assert!(steps > 10, "a merge of {steps} steps was hardly killed");
    assert_eq!(count(&platform, "replaced_at is null").await, 1, "{done:?}");
    assert_eq!(count(&platform, "replaced_at is not null and removed_at is not null").await, 7);
    let after = rebuilt(&platform).await;
    assert_eq!((&after["sha256"], &after["manifest"]), (&before["sha256"], &before["manifest"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_ingests_enqueue_a_merge_by_themselves_and_change_no_byte() {
    let platform = platform(7).await;
    let set = training_set(&platform).await;
    assert_eq!(count(&platform, "level = 0 and replaced_at is null").await, 7);
    for batch in 7..10 {
        pushed(&platform, "visits", &visits(batch)).await;
    }
    platform.run_jobs().await;
    assert!(
        count(&platform, "level > 0 and replaced_at is null").await > 0,
        "the eighth part started a merge"
    );
    assert!(count(&platform, "level = 0 and replaced_at is null").await < 8);
    // what was known then is in files that hold what came later too
    let max_seq = set["max_seq"].as_i64().unwrap();
    let newer = training_set(&platform).await;
    assert_ne!(newer["sha256"], set["sha256"]);
    assert!(newer["max_seq"].as_i64().unwrap() > max_seq);
    assert_eq!(rebuilt(&platform).await["sha256"], newer["sha256"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn case_85_a_training_set_is_repeatable_while_ingests_and_merges_go_on() {
    let platform = platform(12).await;
    let before = training_set(&platform).await;
    let max_seq = before["max_seq"].as_i64().unwrap();
    let merging = async {
        for _ in 0..3 {
            // two merges of one view may meet: then one of them plans anew
            let _ = compact_view(&platform.context, "default", "latest_visit").await;
            let _ = compact_view(&platform.context, "default", "recent_visits").await;
        }
    };
    let ingesting = async {
        for batch in 20..26 {
            pushed(&platform, "visits", &visits(batch)).await;
        }
    };
    let building = async {
        let mut seen = Vec::new();
        for _ in 0..4 {
            let set = training_set(&platform).await;
            seen.push((set["max_seq"].as_i64().unwrap(), set["sha256"].as_str().unwrap().to_owned()));
        }
        seen
    };
    let ((), (), seen) = tokio::join!(merging, ingesting, building);
    assert!(seen.iter().all(|(seq, _)| *seq >= max_seq));
    let last = training_set(&platform).await;
    assert_eq!(rebuilt(&platform).await["sha256"], last["sha256"]);
    for (seq, sha256) in seen.iter().filter(|(seq, _)| Some(*seq) == last["max_seq"].as_i64()) {
        assert_eq!(Some(sha256.as_str()), last["sha256"].as_str(), "two sets of seq {seq} differ");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_part_stays_on_disk_while_a_reader_that_came_before_holds_its_lease() {
    let platform = platform(3).await;
    let mut conn = platform.context.db.acquire().await.unwrap();
    let later = platform.context.machine_clock.now() + TimeDelta::hours(1);
    let lease = storage::parts::lease(&mut conn, "default", later).await.unwrap();
    compact_view(&platform.context, "default", "latest_visit").await.unwrap();
    assert_eq!(files(&platform), 4, "three replaced, one merged");
    let newer = storage::parts::lease(&mut conn, "default", later).await.unwrap();
    storage::parts::release(&mut conn, lease).await.unwrap();
    let done = compact_view(&platform.context, "default", "latest_visit").await.unwrap();
    assert_eq!((done.removed, files(&platform)), (3, 1), "a reader that came later keeps nothing");
    storage::parts::release(&mut conn, newer).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_lets_old_versions_go_and_keeps_what_is_served() {
    let platform = platform_of(&with_retention(), 9).await;
    let asked = json!({ "rows": (0..40).map(|shop| json!({ "order": 1, "shop": format!("shop {shop}"), "event_time": now() })).collect::<Vec<_>>() });
    let (_, before) = platform.call("POST", "/v1/datasets/returns/online", Some(asked.clone())).await;
    let rows = |views: &Value| {
        views.as_array().unwrap().iter().find(|view| view["view"] == "latest_visit").unwrap()["rows"].clone()
    };
    let (_, fresh) = platform.call("GET", "/v1/freshness", None).await;
    let done = retain_view(&platform.context, "default", "latest_visit").await.unwrap();
    assert!(done.rows_dropped > 0, "{done:?}");
    let (_, after) = platform.call("GET", "/v1/freshness", None).await;
    assert_eq!(rows(&fresh).as_i64().unwrap() - rows(&after).as_i64().unwrap(), done.rows_dropped);
    let left: i64 = sqlx::query_scalar(
        "select count(*) from parts where view = 'latest_visit' and replaced_at is null and min_event_time < $1",
    )
    .bind(now() - TimeDelta::days(41))
    .fetch_one(&platform.context.db)
    .await
    .unwrap();
    assert_eq!(left, 0);
    // the training row of now still sees, for every shop, what is served now
    let set = training_set(&platform).await;
    assert_eq!(set["manifest"]["rows_out"], 300);
    let (_, served) = platform.call("POST", "/v1/datasets/returns/online", Some(asked)).await;
    assert_eq!(served["rows"], before["rows"]);
    let again = retain_view(&platform.context, "default", "latest_visit").await.unwrap();
    assert_eq!(again.rows_dropped, 0, "what is left is young or the newest of its shop");
}

/// The platform's context, so much later by the machine's clock.
fn later(platform: &Platform, by: TimeDelta) -> Context {
    let mut context = platform.context.clone();
    let then = context.machine_clock.now() + by;
    context.machine_clock = std::sync::Arc::new(domain::ManualClock::starting_at(then));
    context
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_a_killed_writer_left_are_removed_once_nobody_can_still_be_writing_them() {
    let platform = platform(2).await;
    let set = training_set(&platform).await;
    let folder = platform.folder.path();
    let path: String = sqlx::query_scalar("select path from parts where view = 'latest_visit' limit 1")
        .fetch_one(&platform.context.db)
        .await
        .unwrap();
    let part = folder.join(path);
    let name = |template: &str| template.replace("ID", &domain::ids::PartId::new().to_string());
    let left = [
        part.with_file_name(name("000000000099-ID.parquet")),
        part.with_file_name(name(".l1-ID.parquet.4711.tmp")),
        folder.join("training-sets/default/returns").join(name("ID.history.arrow")),
    ];
    let foreign = part.with_file_name("notes.parquet");
    for file in left.iter().chain([&foreign]) {
        std::fs::copy(&part, file).unwrap();
    }
    let day = TimeDelta::days(1);
    let collect = |context: Context| async move { feature_store::orphans::collect(&context).await.unwrap() };
    assert_eq!(collect(later(&platform, day - TimeDelta::minutes(5))).await, 0, "it may still be written");
    assert!(left.iter().all(|file| file.exists()));
    assert_eq!(collect(later(&platform, day + TimeDelta::minutes(5))).await, 3);
    assert!(left.iter().all(|file| !file.exists()) && foreign.exists(), "what is not ours stays");
    assert_eq!(files(&platform), 3, "two parts that the manifest lists, and what is not ours");
    assert_eq!(rebuilt(&platform).await["sha256"], set["sha256"]);
    let (_, metrics) = platform.call("GET", "/metrics", None).await;
    let counted = "foretime_offline_orphans_removed_total{folder=\"features\"} 2";
    assert!(metrics.as_str().unwrap().contains(counted), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_was_so_slow_that_its_file_may_be_gone_shows_nothing() {
    let platform = Platform::configured(|config| config.offline.keep_unlisted_seconds = 0).await;
    platform.apply(DEFINITIONS).await;
    let (status, problem) = platform.push("visits", &visits(0), None).await;
    assert_eq!((status, &problem["type"]), (503, &json!("/problems/too-slow")), "{problem}");
    let (_, freshness) = platform.call("GET", "/v1/freshness", None).await;
    assert_eq!(freshness, json!([]));
    let asked = json!({ "features": ["latest_visit:kind"], "entities": [{ "shop": "shop 0" }] });
    let (_, served) = platform.call("POST", "/v1/features/online", Some(asked)).await;
    assert_eq!(served["rows"][0]["kind"], Value::Null, "{served}");
}

#[test]
fn a_view_without_a_retention_writes_none_so_that_older_definitions_stay_what_they_are() {
    let objects = domain::definitions::parse_file("test.toml", &with_retention()).unwrap();
    let mut definitions = Definitions::default();
    definitions.extend(objects).unwrap();
    let body = |name: &str| serde_json::to_value(definitions.feature_view(name).unwrap()).unwrap();
    assert!(body("recent_visits").get("retention").is_none());
    assert_eq!(body("latest_visit")["retention"], "10d");
}
