//! The bounds of a request: how many at once, how long, how large. Beyond each, a problem document says so.

use std::time::Duration;

use journeys::Platform;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn get(address: String) -> reqwest::Result<reqwest::Response> {
    // The first provider of a process wins; a second installation is refused and harmless.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::get(address).await
}

/// Opens a request whose body does not come whole; answers the connection.
async fn half_a_request(server: &str, path: &str) -> TcpStream {
    let address = server.strip_prefix("http://").unwrap();
    let mut connection = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{"
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    connection
}

/// Reads an answer to its end: its status and its problem document.
async fn answer(mut connection: TcpStream) -> (u16, Value) {
    let mut text = Vec::new();
    let read = async {
        let mut buffer = [0u8; 4096];
        loop {
            let count = connection.read(&mut buffer).await.unwrap();
            text.extend_from_slice(&buffer[..count]);
            let whole = String::from_utf8_lossy(&text).ends_with('}');
            if count == 0 || whole {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), read).await.expect("an answer comes");
    let text = String::from_utf8(text).unwrap();
    let status = text.split_whitespace().nth(1).unwrap().parse().unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("application/problem+json"), "{text}");
    (status, serde_json::from_str(body).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stands_still_is_given_up_with_408() {
    let platform = Platform::configured(|config| config.http.timeout_seconds = 1).await;
    let server = platform.serve().await;
    let (status, problem) = answer(half_a_request(&server, "/v1/labels").await).await;
    assert_eq!((status, &problem["type"]), (408, &Value::from("/problems/body-stands-still")), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_takes_too_long_is_given_up_with_503() {
    let platform = Platform::configured(|config| config.http.timeout_seconds = 1).await;
    let server = platform.serve().await;
    // what the answer waits for: a lock that this test holds
    let mut tx = platform.context.db.begin().await.unwrap();
    sqlx::query("lock table definitions in access exclusive mode").execute(&mut *tx).await.unwrap();
    let answer = get(format!("{server}/v1/schedules")).await.unwrap();
    assert_eq!(answer.status(), 503);
    let problem: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    assert_eq!(problem["type"], "/problems/too-slow", "{problem}");
    tx.rollback().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_more_than_there_is_room_for_is_told_to_come_again_and_health_is_still_told() {
    let platform = Platform::configured(|config| config.http.concurrency = 1).await;
    let server = platform.serve().await;
    let first = half_a_request(&server, "/v1/labels").await;
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    let refused = loop {
        let second = get(format!("{server}/v1/schedules")).await.unwrap();
        if second.status() != 200 {
            break second; // the first is in by now
        }
        assert!(std::time::Instant::now() < deadline, "the second is let in beside the first");
    };
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "1");
    let problem: Value = serde_json::from_slice(&refused.bytes().await.unwrap()).unwrap();
    assert_eq!(problem["type"], "/problems/too-many-requests-at-once", "{problem}");
    assert_eq!(get(format!("{server}/readyz")).await.unwrap().status(), 200);
    drop(first);
    while get(format!("{server}/v1/schedules")).await.unwrap().status() != 200 {
        assert!(std::time::Instant::now() < deadline, "its place is not given back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_refused_with_413() {
    let platform = Platform::configured(|config| config.http.body_limit_bytes = 1_000).await;
    let (status, problem) = platform.call("POST", "/v1/labels", Some(Value::from("x".repeat(2_000)))).await;
    assert_eq!((status, &problem["type"]), (413, &Value::from("/problems/body-too-large")), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_and_paths_that_anybody_makes_up_leave_no_series_behind() {
    let platform = Platform::start().await;
    let series = async || {
        let (_, metrics) = platform.call("GET", "/metrics", None).await;
        metrics
            .as_str()
            .unwrap()
            .lines()
            .filter(|line| line.contains("request_duration_seconds_count"))
            .count()
    };
    let ask = async |round: usize| {
        for method in ["GET".to_owned(), format!("MADE-UP-{round}")] {
            for path in [format!("/v1/nothing/{round}"), "/v1/jobs".to_owned(), "/healthz".to_owned()] {
                platform.call(&method, &path, None).await;
            }
        }
    };
    ask(0).await;
    series().await; // is counted itself from now on
    let before = series().await;
    for round in 1..50 {
        ask(round).await;
    }
    assert_eq!(series().await, before);
}
