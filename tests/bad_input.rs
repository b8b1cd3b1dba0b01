//! Mistakes on purpose: each is a clear answer that says what to do, and nothing is half-applied.

use axum::body::Body;
use axum::http::Request;
use frames::{Frame, Values};
use journeys::Platform;
use serde_json::{Value, json};

const GOOD: &str = r#"
[[entity]]
name = "shop"
keys = ["shop"]

[[source]]
name = "visits"
columns = { shop = "text", at = "time", amount = "number" }
event_time = "at"
known_time = "at"

[[feature_view]]
name = "latest_visit"
entity = "shop"
source = "visits"
features = ["amount"]
"#;

async fn refused(platform: &Platform, toml: &str) -> Value {
    let body = json!({ "files": { "good.toml": GOOD, "views.toml": toml } });
    let (status, problem) = platform.call("PUT", "/v1/definitions", Some(body)).await;
    assert_eq!(status, 422, "{problem}");
    assert_eq!(problem["type"], "/problems/invalid-definitions");
    let (_, stored) = platform.call("GET", "/v1/definitions", None).await;
    assert_eq!(stored, json!({}), "something was half-applied");
    problem
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_key_in_a_definition_is_named_with_file_line_and_likely_intent() {
    let platform = Platform::start().await;
    let problem = refused(&platform, "[[entity]]\nname = \"x\"\nkeyz = [\"x\"]\n").await;
    let error = &problem["errors"][0];
    assert_eq!((&error["file"], &error["line"]), (&json!("views.toml"), &json!(3)));
    assert!(error["message"].as_str().unwrap().contains("did you mean `keys`?"), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dangling_reference_is_named_with_the_likely_intent() {
    let platform = Platform::start().await;
    let view =
        "[[feature_view]]\nname = \"v\"\nentity = \"shpo\"\nsource = \"visits\"\nfeatures = [\"amount\"]\n";
    let problem = refused(&platform, view).await;
    assert!(
        problem["detail"].as_str().unwrap().contains("there is no entity `shpo`; did you mean `shop`?"),
        "{problem}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_type_in_a_definition_is_named_with_its_line() {
    let platform = Platform::start().await;
    let problem = refused(&platform, "[[entity]]\nname = \"x\"\nkeys = 7\n").await;
    assert!(problem["detail"].as_str().unwrap().contains("views.toml:"), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("integer `7`"), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_would_make_stored_rows_unreadable_is_refused_and_a_dry_run_changes_nothing() {
    let platform = Platform::start().await;
    let apply = |text: String, dry: bool| {
        let body = json!({ "files": { "a.toml": text } });
        let path = format!("/v1/definitions?dry_run={dry}");
        let platform = &platform;
        async move { platform.call("PUT", &path, Some(body)).await }
    };
    let (_, planned) = apply(GOOD.to_owned(), true).await;
    assert_eq!((&planned["applied"], &planned["plan"][0]["change"]), (&json!(false), &json!("create")));
    assert_eq!(platform.call("GET", "/v1/definitions", None).await.1, json!({}));
    apply(GOOD.to_owned(), false).await;
    let other_key = GOOD.replace("keys = [\"shop\"]", "keys = [\"shop\", \"amount\"]");
    let other_key = other_key.replace("amount = \"number\"", "amount = \"integer\"");
    let (status, planned) = apply(other_key.clone(), true).await;
    assert_eq!(status, 200, "{planned}");
    let said = planned["refused"][0].as_str().unwrap();
    assert!(said.contains("the key of its entity") && said.contains("--allow-new-versions"), "{planned}");
    let (status, problem) = apply(other_key, false).await;
    assert_eq!((status, &problem["type"]), (409, &json!("/problems/change-refused")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("version 2"), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_with_a_missing_or_retyped_column_are_refused_by_name_and_nothing_is_stored() {
    let platform = Platform::start().await;
    platform.apply(GOOD).await;
    let time = ("at".to_owned(), Values::Time(vec![0]));
    let shop = ("shop".to_owned(), Values::text([Some("a")]));
    let missing = Frame::new(1, vec![shop.clone(), time.clone()]);
    let (status, problem) = platform.push("visits", &missing, None).await;
    assert_eq!((status, &problem["type"]), (422, &json!("/problems/missing-column")));
    assert!(problem["detail"].as_str().unwrap().contains("`amount`"), "{problem}");
    let retyped = Frame::new(1, vec![shop, time, ("amount".to_owned(), Values::text([Some("much")]))]);
    let (status, problem) = platform.push("visits", &retyped, None).await;
    assert_eq!((status, &problem["type"]), (422, &json!("/problems/wrong-type")));
    assert!(problem["detail"].as_str().unwrap().contains("`amount` holds texts where numbers"), "{problem}");
    assert_eq!(platform.call("GET", "/v1/freshness", None).await.1, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_arrow_stream_are_refused_and_do_no_harm() {
    let platform = Platform::start().await;
    platform.apply(GOOD).await;
    for bytes in [&b""[..], b"not arrow", &[0xff; 64]] {
        let request = Request::post("/v1/sources/visits/rows").body(Body::from(bytes.to_vec())).unwrap();
        let (status, problem) = platform.send(request).await;
        assert_eq!((status, &problem["type"]), (422, &json!("/problems/unreadable")), "{problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_from_the_future_and_rows_without_a_time_are_counted_and_kept_with_their_reason() {
    let platform = Platform::start().await;
    platform.apply(GOOD).await;
    let future = platform.clock_micros() + 1_000_000;
    let rows = Frame::new(
        3,
        vec![
            ("shop".into(), Values::text([Some("a"), Some("b"), Some("c")])),
            ("at".into(), Values::Time(vec![0, future, frames::NO_INTEGER])),
            ("amount".into(), Values::Number(vec![1.0, 2.0, 3.0])),
        ],
    );
    let (status, answer) = platform.push("visits", &rows, None).await;
    assert_eq!(
        (status, &answer["accepted"], &answer["rejected_invalid"]),
        (200, &json!(1), &json!(2)),
        "{answer}"
    );
    let reasons: Vec<String> = sqlx::query_scalar("select reason from rejected_rows order by position")
        .fetch_all(&platform.context.db)
        .await
        .unwrap();
    assert!(reasons[0].contains("future") && reasons[1].contains("null"), "{reasons:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_misspelt_source_dataset_or_model_is_a_404_that_says_so() {
    let platform = Platform::start().await;
    platform.apply(GOOD).await;
    let rows = Frame::new(0, vec![]);
    let (status, problem) = platform.push("vists", &rows, None).await;
    assert_eq!(status, 404);
    assert!(problem["detail"].as_str().unwrap().contains("`vists`"), "{problem}");
    let asked = Some(json!({ "dataset": "returns" }));
    assert_eq!(platform.call("POST", "/v1/training-sets", asked).await.0, 404);
    let asked = Some(json!({ "model": "churn", "rows": [{}] }));
    let (status, problem) = platform.call("POST", "/v1/predict", asked).await;
    assert_eq!((status, &problem["type"]), (404, &json!("/problems/nothing-serves")), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_route_takes_is_a_problem_like_any_other() {
    let platform = Platform::start().await;
    for (method, path, status, kind, word) in [
        ("GET", "/v1/nothing", 404, "no-such-route", "/openapi.json"),
        ("PATCH", "/v1/definitions", 405, "wrong-method", "`Allow`"),
        ("GET", "/v1/training-sets/mine", 400, "malformed-request", "mine"),
        ("GET", "/v1/models/m/history?afer=1", 400, "malformed-request", "afer"),
    ] {
        let (answered, problem) = platform.call(method, path, None).await;
        let expected = json!({ "type": format!("/problems/{kind}"), "status": status });
        let told = json!({ "type": problem["type"], "status": problem["status"] });
        assert_eq!((answered, told), (status, expected), "{path}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(word), "{path}: {problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_fit_names_the_place() {
    let platform = Platform::start().await;
    let (status, problem) = platform.call("POST", "/v1/training-sets", Some(json!({ "dataset": 7 }))).await;
    assert_eq!((status, &problem["type"]), (422, &json!("/problems/malformed-body")));
    assert!(problem["detail"].as_str().unwrap().contains("`dataset`"), "{problem}");
}

#[test]
fn a_parquet_file_with_a_missing_or_retyped_column_is_refused_by_name() {
    let folder = journeys::folder();
    let read = |columns: Vec<(String, Values)>| {
        frames::files::write_parquet(&folder.path().join("visits.parquet"), &Frame::new(1, columns)).unwrap();
        let source = json!({
            "name": "visits", "columns": { "shop": "text", "amount": "number" }, "event_time": "at",
            "known_time": "at", "path": "visits.parquet",
        });
        let source = serde_json::from_value(source).unwrap();
        frames::source_file::read(&source, folder.path()).unwrap_err().to_string()
    };
    let shop = ("shop".to_owned(), Values::text([Some("a")]));
    let said = read(vec![shop.clone()]);
    assert!(said.contains("`amount`"), "{said}");
    let said = read(vec![shop, ("amount".to_owned(), Values::text([Some("much")]))]);
    assert!(said.contains("`amount`") && said.contains("texts"), "{said}");
}
