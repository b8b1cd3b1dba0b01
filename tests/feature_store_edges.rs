//! What a feature store answers to bodies that nobody should send: a status below 500 that says what is wrong, and nothing
//! half taken.

use axum::body::Body;
use axum::http::Request;
use frames::{Frame, Values};
use journeys::Platform;
use serde_json::{Value, json};

const DEFINITIONS: &str = r#"
entity = [{ name = "shop", keys = ["shop"] }]
source = [{ name = "visits", columns = { shop = "text", at = "time", amount = "number" }, event_time = "at", known_time = "at" }]
feature_view = [{ name = "visit", entity = "shop", source = "visits", features = ["amount"] }]
"#;

fn rows(count: usize) -> Frame {
    Frame::new(
        count,
        vec![
            ("shop".into(), Values::text((0..count).map(|row| Some(format!("shop {}", row % 7))))),
            ("at".into(), Values::Time((0..count as i64).collect())),
            ("amount".into(), Values::Number((0..count).map(|row| row as f64).collect())),
        ],
    )
}

async fn post(platform: &Platform, path: &str, kind: &str, body: impl Into<Body>) -> (u16, Value) {
    let request = Request::post(path).header("content-type", kind).body(body.into()).unwrap();
    platform.send(request).await
}

async fn push_bytes(platform: &Platform, bytes: Vec<u8>) -> (u16, Value) {
    post(platform, "/v1/sources/visits/rows", "application/vnd.apache.arrow.stream", bytes).await
}

async fn stored_rows(platform: &Platform) -> i64 {
    let query = sqlx::query_scalar("select coalesce(sum(rows), 0)::bigint from parts");
    query.fetch_one(&platform.context.db).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_a_413_that_names_the_setting_on_every_path() {
    let platform = Platform::configured(|config| config.http.body_limit_bytes = 2_000).await;
    platform.apply(DEFINITIONS).await;
    let long = "x".repeat(3_000);
    let paths = [
        "/v1/sources/visits/rows",
        "/v1/features/online",
        "/v1/training-sets",
        "/v1/entities/shop/erase",
        "/get-online-features",
        "/push",
        "/write-to-online-store",
    ];
    for path in paths {
        let body = json!({ "padding": long }).to_string();
        let (status, problem) = post(&platform, path, "application/json", body).await;
        assert_eq!(
            (status, &problem["type"]),
            (413, &json!("/problems/body-too-large")),
            "{path}: {problem}"
        );
        assert!(problem["detail"].as_str().unwrap().contains("http.body_limit_bytes"), "{problem}");
    }
    let (status, _) = push_bytes(&platform, frames::wire::write_stream(&rows(500)).unwrap()).await;
    assert_eq!((status, stored_rows(&platform).await), (413, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_arrow_stream_that_is_cut_short_is_refused_wherever_it_is_cut() {
    let platform = Platform::start().await;
    platform.apply(DEFINITIONS).await;
    let whole = frames::wire::write_stream(&rows(50)).unwrap();
    for length in (0..whole.len()).step_by(37).chain([whole.len() - 1]) {
        let (status, problem) = push_bytes(&platform, whole[..length].to_vec()).await;
        assert_eq!(status, 422, "cut at {length}: {problem}");
    }
    assert_eq!(stored_rows(&platform).await, 0, "a stream that was cut short brought rows");
    assert_eq!(push_bytes(&platform, whole).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_arrow_stream_with_altered_bytes_is_taken_or_refused_and_never_a_fault_of_ours() {
    let platform = Platform::start().await;
    platform.apply(DEFINITIONS).await;
    let whole = frames::wire::write_stream(&rows(20)).unwrap();
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut refused = 0;
    for round in 0..150 {
        let mut bytes = whole.clone();
        for _ in 0..=next(4) {
            let at = next(bytes.len());
            bytes[at] = [0xff, 0x00, 0x7f, next(256) as u8][next(4)];
        }
        let (status, answer) = push_bytes(&platform, bytes).await;
        assert!(status < 500, "round {round}: {status} {answer}");
        refused += usize::from(status >= 400);
    }
    assert!(refused > 10, "only {refused} of 150 altered streams were refused: they are hardly altered");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_body_makes_a_fault_of_ours() {
    let platform = Platform::start().await;
    platform.apply(DEFINITIONS).await;
    let deep = "[".repeat(100_000);
    let bodies = [
        "",
        "{",
        "null",
        "[]",
        "\"\\ud800\"",
        "{\"rows\":7}",
        "{\"rows\":[7]}",
        "{\"features\":[7],\"entities\":[]}",
        "{\"features\":[\"visit:amount\"],\"entities\":[{}]}",
        "{\"features\":[\":\"],\"entities\":[]}",
        "{\"features\":[\"visit:amount\"],\"entities\":[{\"shop\":{\"a\":1}}]}",
        "{\"rows\":[{\"shop\":\"a\",\"at\":1e999}]}",
        "{\"features\":[\"visit:amount\"],\"entities\":{\"shop\":[[1]]}}",
        "{\"dataset\":\"none\"}",
        "{\"keys\":[{\"shop\":[]}]}",
        "{\"push_source_name\":\"visits\",\"df\":{\"shop\":[\"a\"],\"at\":[]}}",
        "{\"feature_view_name\":\"visit\",\"df\":7}",
        "{\"end_ts\":\"never\"}",
        "{\"start_ts\":\"2021-01-01T00:00:00\",\"end_ts\":7}",
        "{\"files\":{\"a.toml\":\"[[\"}}",
        &deep,
    ];
    let paths = [
        ("POST", "/v1/sources/visits/rows"),
        ("POST", "/v1/sources/visits/rows?to=nowhere"),
        ("POST", "/v1/sources/none/rows"),
        ("POST", "/v1/datasets/none/online"),
        ("POST", "/v1/features/online"),
        ("POST", "/v1/training-sets"),
        ("POST", "/v1/entities/shop/erase"),
        ("POST", "/v1/entities/none/erase"),
        ("POST", "/get-online-features"),
        ("POST", "/push"),
        ("POST", "/write-to-online-store"),
        ("POST", "/materialize"),
        ("POST", "/materialize-incremental"),
        ("PUT", "/v1/definitions"),
        ("DELETE", "/v1/definitions"),
        ("GET", "/v1/training-sets/none"),
        ("GET", "/v1/training-sets/00000000-0000-7000-8000-000000000000/rows?format=xml"),
        ("GET", "/v1/erasures/none"),
        ("GET", "/v1/views/none/statistics"),
        ("POST", "/v1/nowhere"),
    ];
    for (method, path) in paths {
        for body in bodies {
            let request =
                Request::builder().method(method).uri(path).header("content-type", "application/json");
            let (status, answer) = platform.send(request.body(Body::from(body.to_owned())).unwrap()).await;
            let short: String = body.chars().take(60).collect();
            assert!(
                (400..500).contains(&status) || status == 200,
                "{method} {path} {short}: {status} {answer}"
            );
        }
    }
    assert_eq!(stored_rows(&platform).await, 0);
}
