//! Values keep their type and their last digit on the way in and out, and what happened to each is told apart.

use axum::body::Body;
use axum::http::Request;
use journeys::Platform;
use serde_json::{Value, json};

const DEFINITIONS: &str = r#"
[[entity]]
name = "account"
keys = ["account"]

[[source]]
name = "profiles"
owner = "risk"
columns = { account = "integer", at = "time", known = "time", score = "number", count = "integer", name = "text", open = "boolean", since = "time" }
event_time = "at"
known_time = "known"

[[source]]
name = "plans"
columns = { account = "integer", at = "time", known = "time", score = "number" }
event_time = "at"
known_time = "known"

[[feature_view]]
name = "profile"
entity = "account"
source = "profiles"
owner = "risk"
tags = ["slow", "kyc"]
max_age = "1d"
features = ["score", "count", "name", "open", "since"]
aliases = { rating = "score" }

[[feature_view]]
name = "planned"
entity = "account"
source = "plans"
windows = [{ column = "score", aggregates = ["count", "sum"], over = ["1h"] }]
"#;

const FEATURES: [&str; 5] =
    ["profile:score", "profile:count", "profile:name", "profile:open", "profile:since"];

async fn platform() -> Platform {
    let platform = Platform::start().await;
    platform.apply(DEFINITIONS).await;
    platform
}

fn profile(account: i64, at: &str, score: impl serde::Serialize) -> Value {
    json!({ "account": account, "at": at, "known": at, "score": score, "count": null, "name": null, "open": null,
            "since": null })
}

async fn ask(platform: &Platform, features: &[&str], accounts: &[i64]) -> Value {
    let entities: Vec<Value> = accounts.iter().map(|account| json!({ "account": account })).collect();
    let body = json!({ "features": features, "entities": entities, "include_metadata": true });
    let (status, answer) = platform.call("POST", "/v1/features/online", Some(body)).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn integers_past_2_53_infinities_negative_zero_and_the_empty_text_survive_json_both_ways() {
    let platform = platform().await;
    let row = json!({ "account": i64::MAX, "at": "2013-10-31T23:00:00Z", "known": "2013-10-31T23:00:00Z",
        "score": "-Infinity", "count": 9_007_199_254_740_993i64, "name": "", "open": false,
        "since": "2013-11-03T01:30:00-04:00" });
    let mut other = row.clone();
    other["account"] = json!(i64::MIN + 1);
    other["score"] = json!(-0.0);
    other["open"] = Value::Null;
    other["name"] = Value::Null;
    platform.push_rows("profiles", json!([row, other])).await;
    let answer = ask(&platform, &FEATURES, &[i64::MAX, i64::MIN + 1]).await;
    let served = &answer["rows"][0];
    assert_eq!(served["score"], "-Infinity");
    assert_eq!(served["count"], json!(9_007_199_254_740_993i64));
    assert_eq!((&served["name"], &served["open"]), (&json!(""), &json!(false)));
    assert_eq!(served["since"], "2013-11-03T05:30:00Z", "instants are compared, never wall clocks");
    let other = &answer["rows"][1];
    assert!(other["score"].as_f64().unwrap().is_sign_negative(), "{other}");
    assert_eq!((&other["open"], &other["name"]), (&Value::Null, &Value::Null));
    assert_eq!(
        other["__status"],
        json!({ "score": "PRESENT", "count": "PRESENT", "name": "NULL", "open": "NULL",
        "since": "PRESENT" })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn present_null_expired_not_found_and_deleted_are_told_apart() {
    let platform = platform().await;
    let mut gone = profile(4, "2013-10-31T23:30:00Z", Value::Null);
    gone["__deleted"] = json!(true);
    let rows = json!([
        profile(1, "2013-10-31T23:00:00Z", json!(1.5)),
        profile(2, "2013-10-31T23:00:00Z", Value::Null),
        profile(3, "2013-10-30T23:00:00Z", json!(3.0)),
        profile(4, "2013-10-31T23:00:00Z", json!(4.0)),
        gone,
        profile(5, "2013-10-31T00:00:00Z", json!(5.0)), // exactly as old as it may be
    ]);
    platform.push_rows("profiles", rows).await;
    let answer = ask(&platform, &["profile:score"], &[1, 2, 3, 4, 5, 99]).await;
    let statuses: Vec<&Value> =
        answer["rows"].as_array().unwrap().iter().map(|row| &row["__status"]["score"]).collect();
    assert_eq!(statuses, ["PRESENT", "NULL", "EXPIRED", "DELETED", "PRESENT", "NOT_FOUND"]);
    assert_eq!(answer["rows"][2]["score"], Value::Null, "an expired value is not given");
    assert_eq!(answer["rows"][2]["__event_timestamp"]["score"], "2013-10-30T23:00:00Z");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_of_two_rows_of_a_key_in_one_push_is_served_and_both_are_kept() {
    let platform = platform().await;
    let rows = json!([
        profile(1, "2013-10-31T23:00:00Z", json!(2.0)),
        profile(1, "2013-10-31T22:00:00Z", json!(1.0)),
        profile(1, "2013-10-31T23:00:00Z", json!(3.0)), // the same moment, later in the batch
    ]);
    let answer = platform.push_rows("profiles", rows).await;
    assert_eq!((&answer["accepted"], &answer["rejected_stale"]), (&json!(3), &json!(2)));
    assert_eq!(ask(&platform, &["profile:score"], &[1]).await["rows"][0]["score"], 3.0);
    let (_, statistics) = platform.call("GET", "/v1/views/profile/statistics", None).await;
    assert_eq!((&statistics["rows"], &statistics["entities"]), (&json!(3), &json!(1)), "{statistics}");
    let score = statistics["columns"].as_array().unwrap().iter().find(|c| c["name"] == "score").unwrap();
    assert_eq!((&score["numbers"]["mean"], &score["nulls"]), (&json!(2.0), &json!(0)), "{statistics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_the_future_never_hides_the_present_one_and_a_plan_counts_when_its_time_has_come() {
    let platform = platform().await;
    platform.push_rows("profiles", json!([profile(1, "2013-10-31T23:00:00Z", json!(1.0))])).await;
    let mut future = profile(1, "2013-11-01T01:00:00Z", json!(9.0));
    future["known"] = json!("2013-10-31T23:00:00Z");
    let answer = platform.push_rows("profiles", json!([future])).await;
    assert_eq!((&answer["accepted"], &answer["rejected_invalid"]), (&json!(0), &json!(1)));
    assert!(answer["first_reason"].as_str().unwrap().contains("future"), "{answer}");
    assert_eq!(ask(&platform, &["profile:score"], &[1]).await["rows"][0]["score"], 1.0);
    let plan =
        json!({ "account": 1, "at": "2013-11-01T00:10:00Z", "known": "2013-10-31T23:00:00Z", "score": 5.0 });
    assert_eq!(platform.push_rows("plans", json!([plan])).await["accepted"], 1);
    let features = ["planned:score_count_1h", "planned:score_sum_1h"];
    let before = ask(&platform, &features, &[1]).await;
    assert_eq!(before["rows"][0]["__status"]["score_count_1h"], "NOT_FOUND", "{before}");
    platform.clock.advance_to("2013-11-01T00:20:00Z".parse().unwrap());
    let then = ask(&platform, &features, &[1]).await;
    assert_eq!(
        (&then["rows"][0]["score_count_1h"], &then["rows"][0]["score_sum_1h"]),
        (&json!(1.0), &json!(5.0))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_column_can_hold_is_refused_by_name_and_nothing_is_stored() {
    let platform = platform().await;
    let refused = |row: Value| {
        let platform = &platform;
        async move {
            let body = Some(json!({ "rows": [row] }));
            let (status, problem) = platform.call("POST", "/v1/sources/profiles/rows", body).await;
            assert_eq!(status, 422, "{problem}");
            problem["detail"].as_str().unwrap().to_owned()
        }
    };
    let with = |column: &str, value: Value| {
        let mut row = profile(1, "2013-10-31T23:00:00Z", json!(1.0));
        row[column] = value;
        row
    };
    assert!(refused(with("count", json!(9_223_372_036_854_775_808u64))).await.contains("`count`"));
    assert!(refused(with("count", json!(1.5))).await.contains("`count`"));
    assert!(refused(with("at", json!("2013-10-31T23:00:00"))).await.contains("without a zone"));
    assert!(refused(with("name", json!("a\0b"))).await.contains("NUL"));
    assert!(refused(with("nmae", json!("a"))).await.contains("`nmae`"));
    let lacking = json!({ "account": 1, "at": "2013-10-31T23:00:00Z", "known": "2013-10-31T23:00:00Z" });
    assert!(refused(lacking).await.contains("there is no column"));
    assert_eq!(platform.call("GET", "/v1/freshness", None).await.1, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_may_come_one_json_object_a_line_and_a_repeated_batch_stores_nothing_twice() {
    let platform = platform().await;
    let lines = format!(
        "{}\n{}\n",
        profile(1, "2013-10-31T23:00:00Z", json!(1.0)),
        profile(2, "2013-10-31T23:00:00Z", json!(2.0))
    );
    let mut answers = Vec::new();
    for _ in 0..2 {
        let request = Request::post("/v1/sources/profiles/rows")
            .header("content-type", "application/x-ndjson")
            .header("idempotency-key", "batch-1")
            .body(Body::from(lines.clone()))
            .unwrap();
        answers.push(platform.send(request).await);
    }
    assert_eq!(answers[0].1["accepted"], 2, "{answers:?}");
    assert_eq!(answers[0], answers[1]);
    let (_, freshness) = platform.call("GET", "/v1/freshness", None).await;
    assert_eq!(freshness[0]["rows"], 2, "{freshness}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_that_leads_nowhere_is_a_404_with_the_likely_intent_and_a_clash_is_a_422() {
    let platform = platform().await;
    let ask = |features: Value| {
        let platform = &platform;
        async move {
            let body = json!({ "features": features, "entities": [{ "account": 1 }] });
            let (status, problem) = platform.call("POST", "/v1/features/online", Some(body)).await;
            (status, problem["detail"].as_str().unwrap_or_default().to_owned())
        }
    };
    let (status, said) = ask(json!(["profle:score"])).await;
    assert!(status == 404 && said.contains("did you mean `profile`?"), "{said}");
    let (status, said) = ask(json!(["profile:scores"])).await;
    assert!(status == 404 && said.contains("did you mean `score`?"), "{said}");
    assert_eq!(ask(json!(["score"])).await.0, 422);
    let (status, said) = ask(json!(["profile:score", "profile:score"])).await;
    assert!(status == 422 && said.contains("twice"), "{said}");
    let body = json!({ "features": ["profile:score"], "entities": vec![json!({ "account": 1 }); 10_001] });
    assert_eq!(platform.call("POST", "/v1/features/online", Some(body)).await.0, 413);
    let body = json!({ "features": ["profile:score"], "entities": [{ "account": "1" }] });
    let (status, problem) = platform.call("POST", "/v1/features/online", Some(body)).await;
    assert_eq!((status, &problem["type"]), (422, &json!("/problems/wrong-type")), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_answer_comes_as_an_arrow_stream() {
    let platform = platform().await;
    platform.push_rows("profiles", json!([profile(1, "2013-10-31T23:00:00Z", json!(1.5))])).await;
    let body = json!({ "features": ["profile:rating"], "entities": [{ "account": 1 }, { "account": 2 }] });
    let request = Request::post("/v1/features/online")
        .header("accept", "application/vnd.apache.arrow.stream")
        .body(Body::from(body.to_string()))
        .unwrap();
    let bytes = platform.bytes(request).await;
    let frame = frames::wire::read_stream(&bytes).unwrap();
    assert_eq!(frame.numbers("rating").unwrap()[0], 1.5, "an alias names the column that it stands for");
    assert_eq!(frame.find("rating__status").unwrap().text_at(1), Some("NOT_FOUND"));
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_are_found_by_kind_tag_and_owner() {
    let platform = platform().await;
    let found = |query: &'static str| {
        let platform = &platform;
        async move { platform.call("GET", &format!("/v1/definitions?{query}"), None).await }
    };
    let (_, tagged) = found("tag=kyc").await;
    assert_eq!(tagged["feature_view"][0]["name"], "profile");
    assert_eq!(tagged.as_object().unwrap().len(), 1, "{tagged}");
    let (_, owned) = found("owner=risk").await;
    assert_eq!(
        (&owned["source"][0]["name"], &owned["feature_view"][0]["name"]),
        (&json!("profiles"), &json!("profile"))
    );
    assert_eq!(found("kind=source&owner=nobody").await.1, json!({}));
    let (status, problem) = found("kind=feature_veiw").await;
    assert!(status == 422 && problem["detail"].as_str().unwrap().contains("did you mean"), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_written_makes_nothing_visible_in_either_store() {
    let platform = platform().await;
    platform.push_rows("profiles", json!([profile(1, "2013-10-31T22:00:00Z", json!(1.0))])).await;
    let folder = platform.folder.path().join("features/default/profile");
    std::fs::rename(&folder, platform.folder.path().join("aside")).unwrap();
    std::fs::write(&folder, b"in the way").unwrap();
    let body = json!({ "rows": [profile(1, "2013-10-31T23:00:00Z", json!(2.0))] });
    let (status, problem) = platform.call("POST", "/v1/sources/profiles/rows", Some(body)).await;
    assert_eq!(status, 500, "{problem}");
    std::fs::remove_file(&folder).unwrap();
    std::fs::rename(platform.folder.path().join("aside"), &folder).unwrap();
    assert_eq!(ask(&platform, &["profile:score"], &[1]).await["rows"][0]["score"], 1.0);
    assert_eq!(platform.call("GET", "/v1/freshness", None).await.1[0]["rows"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_interface_describes_itself() {
    let platform = Platform::start().await;
    let (status, document) = platform.call("GET", "/openapi.json", None).await;
    assert_eq!((status, &document["openapi"]), (200, &json!("3.1.0")));
    let (status, page) = platform.call("GET", "/docs", None).await;
    assert!(status == 200 && page.as_str().unwrap().contains("openapi.json"));
}
