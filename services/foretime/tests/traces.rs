//! Traces reach an OpenTelemetry collector, a request and the job that it asks for as one. A collector that refuses or hangs costs
//! nothing but its traces.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};
use prost::Message;
use serde_json::{Value, json};

const TOKEN: &str = "PLANTED-token-of-this-test";
const PATIENCE: Duration = Duration::from_secs(60);

/// What a collector does with what it is sent.
#[derive(Clone, Copy)]
enum Manner {
    Takes,
    Refuses,
    Hangs,
}

/// A collector on a free port of the loopback, and what it was sent.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<ResourceSpans>>>);

impl Collector {
    /// Listens until the test ends; answers the address.
    async fn listen(&self, manner: Manner) -> String {
        let heard = self.clone();
        let take = move |body: Bytes| async move {
            let sent = ExportTraceServiceRequest::decode(body).expect("it is OTLP");
            heard.0.lock().expect("nobody panicked").extend(sent.resource_spans);
            match manner {
                Manner::Takes => StatusCode::OK,
                Manner::Refuses => StatusCode::BAD_REQUEST,
                Manner::Hangs => std::future::pending().await,
            }
        };
        let routes = Router::new().route("/v1/traces", post(take));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        tokio::spawn(async move { axum::serve(listener, routes).await });
        format!("http://{address}")
    }

    fn spans(&self) -> Vec<Span> {
        let heard = self.0.lock().expect("nobody panicked");
        heard.iter().flat_map(|of| &of.scope_spans).flat_map(|scope| scope.spans.clone()).collect()
    }

    fn batches(&self) -> usize {
        self.0.lock().expect("nobody panicked").len()
    }
}

/// A whole platform that sends traces; ended by its id when dropped.
struct Running {
    child: Child,
    url: String,
    log: PathBuf,
}

impl Running {
    /// Starts one that tells `collector`, every so many milliseconds.
    fn start(folder: &Path, collector: &str, every: u64) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default(); // another test may have done so
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o711)).expect("it is ours");
        let log = folder.join("log");
        let mut child = Command::new(env!("CARGO_BIN_EXE_foretime"))
            .args(["--listen", "127.0.0.1:0", "--data-dir", "data", "up"])
            .current_dir(folder)
            .env_remove("DATABASE_URL")
            .env("FORETIME_HTTP__TOKEN", TOKEN)
            .env("FORETIME_LOG__FILTER", "warn")
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector)
            .env("OTEL_BSP_SCHEDULE_DELAY", every.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).expect("the folder is ours"))
            .spawn()
            .expect("the program starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("it can be read");
        let url = line.trim().rsplit(' ').next().unwrap_or_default().to_owned();
        assert!(url.starts_with("http://"), "it says `{line}`");
        Self { child, url, log }
    }

    /// Asks in the name of a caller whose trace goes on; answers the status and the body.
    async fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let method = method.parse().expect("it is a method");
        let request = reqwest::Client::new()
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(TOKEN)
            .header("traceparent", format!("00-{TRACE}-{CALLER}-01"))
            .header("x-request-id", "of-this-test")
            .json(body);
        let answer = request.send().await.expect("it answers");
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    /// Tells it to stop; answers how long that took.
    fn stop(&mut self) -> Duration {
        let began = Instant::now();
        let told = Command::new("kill").arg(self.child.id().to_string()).status().expect("kill runs");
        assert!(told.success());
        assert!(self.child.wait().expect("it is ours").success(), "it did not stop in order");
        began.elapsed()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The caller's trace, and its span.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

fn attribute(span: &Span, key: &str) -> Option<Value> {
    let found = span.attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Any::StringValue(text) => Some(json!(text)),
        Any::IntValue(number) => Some(json!(number)),
        other => panic!("`{key}` is {other:?}"),
    }
}

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no `{name}` among {names:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_and_its_job_are_one_trace_which_is_sent_before_the_end() {
    let collector = Collector::default();
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    // so seldom that only the end sends them
    let mut running = Running::start(folder.path(), &collector.listen(Manner::Takes).await, 3_600_000);
    let toml = "# PLANTED in a body\n[[monitor]]\nname = 'm'\nmodel = 'x'";
    let definitions = json!({ "files": { "m.toml": toml } });
    assert_eq!(running.ask("PUT", "/v1/definitions", &definitions).await.0, 200);
    let (status, asked) = running.ask("POST", "/v1/monitors/m/run", &json!({})).await;
    assert_eq!(status, 202, "{asked}");
    let job = format!("/v1/jobs/{}", asked["job_id"].as_str().expect("it is named"));
    let began = Instant::now();
    while matches!(
        running.ask("GET", &job, &json!(null)).await.1["state"].as_str(),
        Some("queued" | "running")
    ) {
        assert!(began.elapsed() < PATIENCE, "the job does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(collector.batches(), 0, "traces were sent before their time");
    running.stop();

    let spans = collector.spans();
    let request = named(&spans, "POST /v1/monitors/{name}/run");
    let job = named(&spans, "job run-monitor");
    assert_eq!(hex::encode(&request.trace_id), TRACE);
    assert_eq!(hex::encode(&request.parent_span_id), CALLER);
    assert_eq!((&job.trace_id, &job.parent_span_id), (&request.trace_id, &request.span_id));
    assert_eq!((request.kind(), job.kind()), (SpanKind::Server, SpanKind::Consumer));
    for (key, value) in [
        ("http.method", json!("POST")),
        ("http.route", json!("/v1/monitors/{name}/run")),
        ("http.response.status_code", json!(202)),
        ("request.id", json!("of-this-test")),
        ("foretime.project", json!("default")),
    ] {
        assert_eq!(attribute(request, key), Some(value), "{key}");
    }
    for (key, value) in [
        ("job.id", asked["job_id"].clone()),
        ("job.kind", json!("run-monitor")),
        ("job.attempt", json!(1)),
        ("request.id", json!("of-this-test")),
    ] {
        assert_eq!(attribute(job, key), Some(value), "{key}");
    }
    assert!(!format!("{spans:?}").contains("PLANTED"), "a secret or a body was sent: {spans:?}");
    let service = format!("{:?}", collector.0.lock().expect("nobody panicked")[0].resource);
    assert!(service.contains("service.name") && service.contains("\"foretime\""), "{service}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_refuses_is_told_of_once_and_holds_up_nobody() {
    let collector = Collector::default();
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let mut running = Running::start(folder.path(), &collector.listen(Manner::Refuses).await, 50);
    let began = Instant::now();
    while collector.batches() < 4 {
        assert_eq!(running.ask("GET", "/v1/jobs", &json!(null)).await.0, 200);
        assert!(began.elapsed() < PATIENCE, "nothing is sent");
    }
    running.stop();
    let log = std::fs::read_to_string(&running.log).expect("it is there");
    assert_eq!(log.matches("traces do not reach the collector").count(), 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_hangs_holds_up_neither_requests_nor_the_end() {
    let collector = Collector::default();
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let mut running = Running::start(folder.path(), &collector.listen(Manner::Hangs).await, 50);
    let began = Instant::now();
    while collector.batches() == 0 {
        assert_eq!(running.ask("GET", "/v1/jobs", &json!(null)).await.0, 200);
        assert!(began.elapsed() < PATIENCE, "nothing is sent");
    }
    for _ in 0..50 {
        let asked = Instant::now();
        assert_eq!(running.ask("GET", "/v1/jobs", &json!(null)).await.0, 200);
        assert!(asked.elapsed() < Duration::from_secs(5), "a request waited for the collector");
    }
    assert!(running.stop() < Duration::from_secs(20), "the end waited for the collector");
}
