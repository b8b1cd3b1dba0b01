//! Several servers over one database keep in memory what was logged into runs: what one writes, the next answer of each shows.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use journeys::Platform;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use service_kit::Context;
use storage::tracking::{self, Metric};
use tower::ServiceExt;

/// A registry with a memory of its own.
#[derive(Clone)]
struct Server(Router);

impl Server {
    /// One more over the same database.
    fn beside(platform: &Platform) -> Self {
        let config = platform.context.config.as_ref().clone();
        let context = Context::new(platform.context.db.clone(), config).with_clock(platform.clock.clone());
        Self(service_kit::http::surface(&context, registry::router(&context)))
    }

    async fn send(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let request = Request::builder()
            .method(method)
            .uri(format!("/api/2.0/mlflow{path}"))
            .body(Body::from(body.to_string()));
        let answer: axum::http::Response<Body> =
            self.0.clone().oneshot(request.unwrap()).await.expect("the router never fails");
        let status = answer.status().as_u16();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.send("POST", path, &body).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    async fn new_run(&self) -> String {
        let made = self.post("/runs/create", json!({ "start_time": 1 })).await;
        made["run"]["info"]["run_id"].as_str().unwrap().to_owned()
    }

    async fn run(&self, run_id: &str) -> Value {
        let (status, answer) = self.send("GET", &format!("/runs/get?run_id={run_id}"), &json!({})).await;
        assert_eq!(status, 200, "{answer}");
        answer["run"].clone()
    }

    /// What searches find with each filter of [`FILTERS`], all at once and page by page. Over one experiment a server walks an index
    /// and remembers which runs it found to meet a filter; over several it asks Postgres alone.
    async fn all(&self, experiments: &[&str]) -> Vec<Value> {
        let mut found = Vec::new();
        for filter in FILTERS {
            let body = json!({ "experiment_ids": experiments, "run_view_type": "ALL", "filter": filter, "max_results": 50 });
            found.push(self.post("/runs/search", body.clone()).await["runs"].take());
            found.push(self.first_two_pages(body).await);
        }
        found
    }

    /// The first two runs, a page each.
    async fn first_two_pages(&self, mut body: Value) -> Value {
        body["max_results"] = json!(1);
        let mut first = self.post("/runs/search", body.clone()).await;
        let Some(token) = first.get("next_page_token") else { return json!([first["runs"].take()]) };
        body["page_token"] = token.clone();
        json!([first["runs"].take(), self.post("/runs/search", body).await["runs"].take()])
    }
}

/// The experiment of all runs, and one that is not there.
const ALONE: [&str; 1] = ["0"];
const BESIDE_ANOTHER: [&str; 2] = ["0", "7"];

const FILTERS: [&str; 8] = [
    "",
    "start_time > 0",
    "metrics.k1 > 400",
    "metrics.k0 <= 700 and status != 'FINISHED' and attributes.run_name != 'n1'",
    "params.k0 = '1'",
    "tags.k2 LIKE '%1%' and params.k1 != '0'",
    "tags.k1 IS NULL",
    "datasets.name = 'k3'",
];

/// Each way to write into a run, in an order in which each changes what the run shows.
fn writes(run_id: &str) -> Vec<(&'static str, &'static str, Value)> {
    let with = |mut body: Value| {
        body["run_id"] = json!(run_id);
        body
    };
    let model = json!({ "artifact_path": "m", "flavors": {}, "run_id": run_id, "utc_time_created": "now" });
    let dataset = json!({ "name": "d", "digest": "1", "source_type": "local", "source": "{}" });
    let tagged = json!([{ "key": "mlflow.data.context", "value": "training" }]);
    let batch = |value: i64| {
        with(json!({
            "metrics": [{ "key": "b", "value": value, "timestamp": value }],
            "params": [{ "key": "c", "value": "v" }],
            "tags": [{ "key": "d", "value": value.to_string() }],
        }))
    };
    vec![
        ("a metric", "/runs/log-metric", with(json!({ "key": "a", "value": 1, "timestamp": 1 }))),
        ("a newer point", "/runs/log-metric", with(json!({ "key": "a", "value": 2, "timestamp": 2 }))),
        ("a batch", "/runs/log-batch", batch(1)),
        ("a newer batch", "/runs/log-batch", batch(2)),
        (
            "metrics alone",
            "/runs/log-batch",
            with(json!({ "metrics": [{ "key": "e", "value": 1, "timestamp": 1 }] })),
        ),
        ("params alone", "/runs/log-batch", with(json!({ "params": [{ "key": "f", "value": "v" }] }))),
        ("tags alone", "/runs/log-batch", with(json!({ "tags": [{ "key": "g", "value": "v" }] }))),
        ("a parameter", "/runs/log-parameter", with(json!({ "key": "h", "value": "v" }))),
        ("a tag", "/runs/set-tag", with(json!({ "key": "i", "value": "v" }))),
        ("a tag's new value", "/runs/set-tag", with(json!({ "key": "i", "value": "w" }))),
        ("a tag less", "/runs/delete-tag", with(json!({ "key": "i" }))),
        ("a name by its tag", "/runs/set-tag", with(json!({ "key": "mlflow.runName", "value": "new" }))),
        (
            "a data set",
            "/runs/log-inputs",
            with(json!({ "datasets": [{ "dataset": dataset, "tags": tagged }] })),
        ),
        ("a model it read", "/runs/log-inputs", with(json!({ "models": [{ "model_id": "m-1" }] }))),
        ("a model it wrote", "/runs/outputs", with(json!({ "models": [{ "model_id": "m-2", "step": 1 }] }))),
        (
            "the same at another step",
            "/runs/outputs",
            with(json!({ "models": [{ "model_id": "m-2", "step": 2 }] })),
        ),
        ("an old client's model", "/runs/log-model", with(json!({ "model_json": model.to_string() }))),
        ("another name", "/runs/update", with(json!({ "run_name": "newer" }))),
        ("its end", "/runs/update", with(json!({ "status": "FINISHED", "end_time": 9 }))),
        ("its deletion", "/runs/delete", with(json!({}))),
        ("its return", "/runs/restore", with(json!({}))),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_one_server_writes_the_next_answer_of_another_shows() {
    let platform = Platform::start().await;
    let (writer, reader) = (Server::beside(&platform), Server::beside(&platform));
    let run_id = writer.new_run().await;
    let mut before = (reader.run(&run_id).await, reader.all(&ALONE).await);
    for (what, path, body) in writes(&run_id) {
        writer.post(path, body).await;
        let seen = (reader.run(&run_id).await, reader.all(&ALONE).await);
        assert_ne!(seen, before, "{what} does not show");
        let fresh = Server::beside(&platform);
        assert_eq!(seen, (fresh.run(&run_id).await, fresh.all(&BESIDE_ANOTHER).await), "{what}");
        assert_eq!(seen, (writer.run(&run_id).await, writer.all(&ALONE).await), "{what}");
        before = seen;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_training_service_an_older_program_or_a_hand_at_a_console_writes_shows_at_once() {
    let platform = Platform::start().await;
    let reader = Server::beside(&platform);
    let run_id = reader.new_run().await;
    let db = &platform.context.db;
    let point = |step| Metric { key: "loss".to_owned(), value: 0.5, timestamp_ms: 1, step };
    let pair = [("by".to_owned(), "worker".to_owned())];
    let mut before = reader.run(&run_id).await;
    for write in 0..12 {
        let mut tx = db.begin().await.unwrap();
        match write {
            0 => tracking::log_metrics(&mut tx, "default", &run_id, &[point(1)]).await.unwrap(),
            1 => drop(tracking::log_metric(&mut tx, "default", &run_id, &point(2)).await.unwrap()),
            2 => tracking::log_params(&mut tx, "default", &run_id, &pair).await.unwrap(),
            3 => tracking::set_tags(&mut tx, "default", &run_id, &pair).await.unwrap(),
            4 => tracking::end_runs_tagged(&mut tx, "default", "by", "worker", 7).await.unwrap(),
            5 => tracking::finish_run(&mut tx, "default", &run_id, "FAILED", 8).await.unwrap(),
            _ => {
                let statement = [
                    "update run_latest_metrics set value = 7 where run_id = $1",
                    "delete from run_latest_metrics where run_id = $1",
                    "update run_tags set value = 'console' where run_id = $1 and key = 'by'",
                    "delete from run_tags where run_id = $1 and key = 'by'",
                    "insert into run_datasets (project, run_id, name, digest, source_type, source)
                     values ('default', $1, 'n', 'd', 't', 's')",
                    "delete from run_params where run_id = $1",
                ][write - 6];
                sqlx::query(statement).bind(&run_id).execute(&mut *tx).await.unwrap();
            }
        }
        assert_eq!(reader.run(&run_id).await, before, "{write}: what is not committed does not show");
        tx.commit().await.unwrap();
        let seen = reader.run(&run_id).await;
        assert_ne!(seen, before, "{write} does not show");
        assert_eq!(seen, Server::beside(&platform).run(&run_id).await, "{write}");
        before = seen;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_back_to_a_savepoint_or_not_at_all_does_not_show() {
    let platform = Platform::start().await;
    let reader = Server::beside(&platform);
    let (run_id, other) = (reader.new_run().await, reader.new_run().await);
    let before = (reader.run(&run_id).await, reader.run(&other).await);
    let set = "insert into run_tags (project, run_id, key, value) values ('default', $1, $2, 'v')";
    let mut tx = platform.context.db.begin().await.unwrap();
    sqlx::query(set).bind(&run_id).bind("lost").execute(&mut *tx).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!((reader.run(&run_id).await, reader.run(&other).await), before);
    let mut tx = platform.context.db.begin().await.unwrap();
    sqlx::query("savepoint s").execute(&mut *tx).await.unwrap();
    sqlx::query(set).bind(&run_id).bind("lost").execute(&mut *tx).await.unwrap();
    sqlx::query("rollback to savepoint s").execute(&mut *tx).await.unwrap();
    for (run, key) in [(&run_id, "a"), (&other, "b"), (&run_id, "c")] {
        sqlx::query(set).bind(run).bind(key).execute(&mut *tx).await.unwrap();
    }
    tx.commit().await.unwrap();
    let tags = |run: &Value| run["data"]["tags"].as_array().unwrap().len();
    let after = (reader.run(&run_id).await, reader.run(&other).await);
    assert_eq!((tags(&after.0), tags(&after.1)), (tags(&before.0) + 2, tags(&before.1) + 1));
}

/// Any client's write: by which server, into which run, and what.
#[derive(Clone, Debug)]
struct Write {
    server: usize,
    run: usize,
    path: &'static str,
    body: Value,
}

/// More than a page of one and as many again.
const RUNS: usize = 7;

fn write() -> impl Strategy<Value = Write> {
    let what =
        (0..10, 0..4, 0..1_000).prop_map(|(kind, key, value)| any_write(kind, &format!("k{key}"), value));
    (0..2usize, 0..RUNS, what).prop_map(|(server, run, (path, body))| Write { server, run, path, body })
}

fn any_write(kind: i32, key: &str, value: i32) -> (&'static str, Value) {
    match kind {
        0 => ("/runs/log-metric", json!({ "key": key, "value": value, "timestamp": value })),
        1 => ("/runs/log-parameter", json!({ "key": key, "value": (value % 2).to_string() })),
        2 => ("/runs/set-tag", json!({ "key": key, "value": value.to_string() })),
        3 => ("/runs/delete-tag", json!({ "key": key })),
        4 => ("/runs/update", json!({ "run_name": format!("n{value}") })),
        5 => ("/runs/delete", json!({})),
        6 => ("/runs/restore", json!({})),
        7 => ("/runs/outputs", json!({ "models": [{ "model_id": "m-1", "step": value }] })),
        8 => {
            let dataset =
                json!({ "name": key, "digest": value.to_string(), "source_type": "t", "source": "s" });
            ("/runs/log-inputs", json!({ "datasets": [{ "dataset": dataset }] }))
        }
        _ => {
            // refused as a whole if the parameter had another value
            let pair = json!([{ "key": key, "value": (value % 2).to_string() }]);
            let metrics = json!([{ "key": key, "value": value, "timestamp": value }]);
            ("/runs/log-batch", json!({ "metrics": metrics, "params": pair, "tags": pair }))
        }
    }
}

#[test]
fn after_any_writes_of_any_server_each_answers_what_one_without_memory_answers() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config { cases: 8, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&prop::collection::vec(write(), 10..40), |writes| {
        runtime.block_on(async {
            let platform = Platform::start().await;
            let servers = [Server::beside(&platform), Server::beside(&platform)];
            let mut runs = Vec::new();
            for number in 0..RUNS {
                runs.push(servers[number % 2].new_run().await);
            }
            for Write { server, run, path, mut body } in writes {
                body["run_id"] = json!(runs[run]);
                let (status, answer) = servers[server].send("POST", path, &body).await;
                assert!(status < 500, "{path} {body}: {answer}");
                let truth = Server::beside(&platform).all(&BESIDE_ANOTHER).await;
                for server in &servers {
                    assert_eq!(server.all(&ALONE).await, truth, "after {path} {body}");
                }
            }
        });
        Ok(())
    });
    outcome.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_told_that_a_write_is_done_finds_it_at_any_server_while_others_write_and_read() {
    let platform = Platform::start().await;
    let servers = Arc::new([Server::beside(&platform), Server::beside(&platform)]);
    let run_id = servers[0].new_run().await;
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..4usize {
        let (servers, run_id) = (Arc::clone(&servers), run_id.clone());
        clients.spawn(async move {
            let (here, there) = (&servers[client % 2], &servers[(client + 1) % 2]);
            let key = format!("m{client}");
            for value in 1..=40 {
                let metric = json!({ "key": key, "value": value, "timestamp": value });
                if client < 2 {
                    let body = json!({ "run_id": run_id, "metrics": [metric], "tags": [{ "key": key, "value": "v" }] });
                    here.post("/runs/log-batch", body).await;
                } else {
                    let mut body = metric;
                    body["run_id"] = json!(run_id);
                    here.post("/runs/log-metric", body).await;
                }
                let run = there.run(&run_id).await;
                let metrics = run["data"]["metrics"].as_array().unwrap();
                let found = metrics.iter().find(|metric| metric["key"] == json!(key)).unwrap();
                assert_eq!(found["value"].as_f64(), Some(f64::from(value)), "{key}");
            }
        });
    }
    clients.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_of_a_runs_contents_renews_its_etag() {
    let platform = Platform::start().await;
    let without: Vec<String> = sqlx::query_scalar(
        "select c.conrelid::regclass::text from pg_constraint c
         where c.contype = 'f' and c.confrelid = 'runs'::regclass and not exists (
             select from pg_trigger t where t.tgrelid = c.conrelid and t.tgname = 'renew_contents_etag')
         order by 1",
    )
    .fetch_all(&platform.context.db)
    .await
    .unwrap();
    assert_eq!(without, ["run_metrics"], "the history of metrics is not kept; anything else of a run is");
}
