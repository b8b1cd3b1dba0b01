//! An entity that was erased is gone: online at once, offline soon, and older rows of it do not come back.

use axum::http::Request;
use journeys::Platform;
use serde_json::{Value, json};

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
name = "visit"
entity = "person"
source = "visits"
features = ["amount"]

[[feature_view]]
name = "recent"
entity = "person"
source = "visits"
windows = [{ column = "amount", aggregates = ["count"], over = ["7d"] }]

[[feature_view]]
name = "log"
entity = "person"
source = "visits"
log = ["amount"]

[[dataset]]
name = "spending"
spine = { view = "log" }
horizon = "1h"
label = "amount > 1"
views = ["recent"]
split = { train_until = "2013-10-20T00:00:00Z", validation_until = "2013-10-25T00:00:00Z" }
"#;

async fn status_of(platform: &Platform, person: &str) -> Value {
    let body = json!({ "features": ["visit:amount", "recent:amount_count_7d"], "entities": [{ "person": person }],
                       "include_metadata": true });
    let (status, answer) = platform.call("POST", "/v1/features/online", Some(body)).await;
    assert_eq!(status, 200, "{answer}");
    answer["rows"][0]["__status"]["amount"].clone()
}

fn visit(person: &str, at: &str) -> Value {
    json!({ "person": person, "at": at, "amount": 2.0 })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_entity_is_gone_from_both_stores_its_training_sets_are_flagged_and_a_receipt_says_so() {
    let platform = Platform::start().await;
    platform.apply(DEFINITIONS).await;
    let rows: Vec<Value> =
        ["a", "b", "c"].iter().map(|person| visit(person, "2013-10-30T00:00:00Z")).collect();
    platform.push_rows("visits", json!(rows)).await;
    platform.push_rows("visits", json!([visit("a", "2013-10-31T00:00:00Z")])).await;
    let (_, promised) =
        platform.call("POST", "/v1/training-sets", Some(json!({ "dataset": "spending" }))).await;
    platform.run_jobs().await;
    assert!(promised["job"].is_string(), "{promised}");

    let body = json!({ "keys": [{ "person": "a" }], "reason": "request 17" });
    let (status, erasing) = platform.call("POST", "/v1/entities/person/erase", Some(body)).await;
    assert_eq!(status, 202, "{erasing}");
    assert_eq!(status_of(&platform, "a").await, "NOT_FOUND", "online it is gone at once");
    assert_eq!(erasing["online_rows_removed"], 3, "one latest row and two events: {erasing}");
    assert_eq!(erasing["training_sets_flagged"].as_array().unwrap().len(), 1, "{erasing}");

    platform.run_jobs().await;
    let path = format!("/v1/erasures/{}", erasing["erasure"].as_str().unwrap());
    let (_, erasure) = platform.call("GET", &path, None).await;
    let receipt = &erasure["receipt"];
    assert_eq!(receipt["parts"].as_array().unwrap().len(), 6, "two parts in each of three views: {erasure}");
    assert_eq!(receipt["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(receipt["training_sets"], erasing["training_sets_flagged"]);
    assert!(!files_hold(&platform, "a"), "a part still holds the entity");
    assert!(files_hold(&platform, "b"), "another entity was lost");
    assert_eq!(status_of(&platform, "b").await, "PRESENT");
}

/// Two more definitions: a model whose answers show whom they were about, and a view of something else that holds the key.
const MORE: &str = r#"
[[entity]]
name = "order"
keys = ["order"]

[[source]]
name = "orders"
columns = { order = "integer", person = "text", at = "time" }
event_time = "at"
known_time = "at"

[[feature_view]]
name = "orders"
entity = "order"
source = "orders"
features = ["person"]

[[model]]
name = "spender"
registered_model = "spender"
kind = "boosting"
dataset = "spending"
"#;

/// Logs three answers about `a` and `b`, as a worker does, in a file of that name; answers where.
async fn log_of_answers(platform: &Platform, name: &str) -> String {
    let ids: Vec<domain::ids::PredictionId> = (0..3).map(|_| domain::ids::PredictionId::new()).collect();
    let now = platform.clock_micros();
    let frame = frames::Frame::new(
        3,
        vec![
            ("who".into(), frames::Values::text([Some("a"), Some("b"), Some("a")])),
            ("amount".into(), frames::Values::Number(vec![1.0, 2.0, 3.0])),
            ("prediction_id".into(), frames::Values::text(ids.iter().map(|id| Some(id.to_string())))),
            ("cutoff".into(), frames::Values::Time(vec![now - 2, now - 1, now])),
            ("probability".into(), frames::Values::Number(vec![0.1, 0.2, 0.3])),
        ],
    );
    let path = format!("predictions/default/spender/v1/{name}.arrow");
    let written = frames::files::write_arrow(&platform.folder.path().join(&path), &frame).unwrap();
    let cutoff = domain::Cutoff(domain::Clock::now(&*platform.clock));
    let prediction = |id: &domain::ids::PredictionId| storage::predictions::Prediction {
        id: *id,
        cutoff,
        probability: 0.5,
    };
    let log = storage::predictions::NewLog {
        project: "default".into(),
        registered_model: "spender".into(),
        version: 1,
        path: path.clone(),
        sha256: written.sha256,
        predictions: ids.iter().map(prediction).collect(),
    };
    let mut tx = platform.context.db.begin().await.unwrap();
    storage::predictions::publish(&mut tx, &log, cutoff.0).await.unwrap();
    tx.commit().await.unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_leave_a_workers_memory_after_the_receipt_are_blanked_too() {
    let platform = Platform::start().await;
    let dataset = "views = [\"recent\"]\nfeatures = { who = \"person\" }";
    platform.apply(&(DEFINITIONS.replace("views = [\"recent\"]", dataset) + MORE)).await;
    let body = json!({ "keys": [{ "person": "a" }] });
    let (_, erasing) = platform.call("POST", "/v1/entities/person/erase", Some(body)).await;
    platform.run_jobs().await;
    let path = format!("/v1/erasures/{}", erasing["erasure"].as_str().unwrap());
    let before = platform.call("GET", &path, None).await.1;
    assert!(before["receipt"].is_object() && before["redacted_since"] == json!([]), "{before}");
    let late = log_of_answers(&platform, "late").await; // of the moment of the erasure: the clock stands still
    platform.run_jobs().await;
    let after = platform.call("GET", &path, None).await.1;
    assert_eq!(after["receipt"], before["receipt"], "a receipt is written once");
    assert_eq!(after["redacted_since"][0]["rows_redacted"], json!(2), "{after}");
    assert!(!platform.folder.path().join(late).exists(), "the file with the rows is still there");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_served_of_an_erased_entity_is_blanked_and_the_receipt_names_what_was_not_touched() {
    let platform = Platform::start().await;
    let dataset = "views = [\"recent\"]\nfeatures = { who = \"person\" }";
    platform.apply(&(DEFINITIONS.replace("views = [\"recent\"]", dataset) + MORE)).await;
    let old = log_of_answers(&platform, "answers").await;
    let body = json!({ "keys": [{ "person": "a" }] });
    let (_, erasing) = platform.call("POST", "/v1/entities/person/erase", Some(body)).await;
    platform.run_jobs().await;
    let path = format!("/v1/erasures/{}", erasing["erasure"].as_str().unwrap());
    let receipt = platform.call("GET", &path, None).await.1["receipt"].clone();
    let logs = &receipt["prediction_logs"];
    assert_eq!(
        (&logs[0]["registered_model"], &logs[0]["rows_redacted"]),
        (&json!("spender"), &json!(2)),
        "{receipt}"
    );
    let untouched = json!([{ "view": "orders", "version": 1, "columns": ["person"] }]);
    assert_eq!(receipt["views_not_rewritten"], untouched, "{receipt}");
    assert!(!platform.folder.path().join(old).exists(), "the file with the rows is still there");
    let mut conn = platform.context.db.acquire().await.unwrap();
    let listed = storage::predictions::stored(&mut conn, "default", domain::Clock::now(&*platform.clock))
        .await
        .unwrap();
    let file = platform.folder.path().join(&listed[0].path);
    frames::files::verify(&file, &listed[0].sha256).unwrap();
    let left = frames::files::read_arrow(&file).unwrap();
    let who = left.column("who").unwrap();
    assert_eq!([who.text_at(0), who.text_at(1), who.text_at(2)], [None, Some("b"), None]);
    assert!(left.column("amount").unwrap().is_null(2), "what the answer was made of is still there");
    assert_eq!(
        (left.rows(), left.numbers("probability").unwrap()[0]),
        (3, 0.1),
        "an answer still counts for its model"
    );
    assert_eq!(logs[0]["new_sha256"], json!(listed[0].sha256));
}

#[tokio::test(flavor = "multi_thread")]
async fn case_75_an_erased_entity_is_not_counted_as_one_that_was_taken_away() {
    let platform = Platform::start().await;
    platform.apply(DEFINITIONS).await;
    let rows = ["a", "b", "c"].map(|person| visit(person, "2013-10-30T00:00:00Z"));
    platform.push_rows("visits", json!(rows)).await;
    let mut deleted = visit("b", "2013-10-31T00:00:00Z");
    deleted["__deleted"] = json!(true);
    platform.push_rows("visits", json!([deleted])).await;
    let body = json!({ "keys": [{ "person": "a" }] });
    platform.call("POST", "/v1/entities/person/erase", Some(body)).await;
    platform.run_jobs().await;
    let (_, statistics) = platform.call("GET", "/v1/views/visit/statistics", None).await;
    // of `a` nothing is left to count; `b` has a row and its tombstone
    assert_eq!((&statistics["rows"], &statistics["entities"]), (&json!(3), &json!(2)), "{statistics}");
    assert_eq!([status_of(&platform, "a").await, status_of(&platform, "b").await], ["NOT_FOUND", "DELETED"]);
}

/// Whether any Parquet file under the data directory holds a row of the person.
fn files_hold(platform: &Platform, person: &str) -> bool {
    let mut folders = vec![platform.folder.path().join("features")];
    let mut files = 0;
    let mut found = false;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
                continue;
            }
            files += 1;
            let part = frames::files::read_parquet(&entry).unwrap();
            let people = part.find("person").unwrap();
            found |= (0..part.rows()).any(|row| people.text_at(row) == Some(person));
        }
    }
    assert!(files > 0, "no file was looked at");
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn older_rows_of_an_erased_entity_stay_away_and_newer_ones_are_a_new_beginning() {
    let platform = Platform::start().await;
    platform.apply(DEFINITIONS).await;
    let body = json!({ "keys": [{ "person": "a" }] });
    platform.call("POST", "/v1/entities/person/erase", Some(body)).await;
    let old = json!([visit("a", "2013-10-30T00:00:00Z"), visit("b", "2013-10-30T00:00:00Z")]);
    let answer = platform.push_rows("visits", old).await;
    assert_eq!((&answer["accepted"], &answer["rejected_erased"]), (&json!(2), &json!(1)), "{answer}");
    assert_eq!(status_of(&platform, "a").await, "NOT_FOUND");
    assert!(!files_hold(&platform, "a"), "an older row came back");
    platform.clock.advance_to("2013-11-02T00:00:00Z".parse().unwrap());
    platform.push_rows("visits", json!([visit("a", "2013-11-01T12:00:00Z")])).await;
    assert_eq!(status_of(&platform, "a").await, "PRESENT");
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_nobody_knows_cannot_be_erased() {
    let platform = Platform::start().await;
    platform.apply(DEFINITIONS).await;
    let erase = |entity: &'static str, body: Value| {
        let platform = &platform;
        async move { platform.call("POST", &format!("/v1/entities/{entity}/erase"), Some(body)).await.0 }
    };
    assert_eq!(erase("persn", json!({ "keys": [{ "person": "a" }] })).await, 404);
    assert_eq!(erase("person", json!({ "keys": [] })).await, 422);
    assert_eq!(erase("person", json!({ "keys": [{ "person": 7 }] })).await, 422);
    assert_eq!(erase("person", json!({ "keys": [{ "person": null }] })).await, 422);
    let request = Request::get("/v1/erasures/no-id").body(axum::body::Body::empty()).unwrap();
    assert!(platform.send(request).await.0 < 500);
}
