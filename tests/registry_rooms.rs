//! Webhooks, users, workspaces, and many clients at once.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::routing::post;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use journeys::Platform;
use serde_json::{Value, json};
use sha2::Sha256;

const API: &str = "/api/2.0/mlflow";

async fn ok(platform: &Platform, method: &str, path: &str, body: Value) -> Value {
    let (status, answer) = platform.call(method, &format!("{API}{path}"), Some(body)).await;
    assert_eq!(status, 200, "{method} {path}: {answer}");
    answer
}

/// A receiver that keeps what it hears, and answers 503 as often as it is told to.
#[derive(Clone, Default)]
struct Receiver {
    heard: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
    refusals: Arc<Mutex<u32>>,
}

impl Receiver {
    async fn listen(&self) -> String {
        async fn hear(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
            let mut refusals = receiver.refusals.lock().unwrap();
            if *refusals > 0 {
                *refusals -= 1;
                return StatusCode::SERVICE_UNAVAILABLE;
            }
            receiver.heard.lock().unwrap().push((headers, body));
            StatusCode::OK
        }
        let router = Router::new().route("/hook", post(hear)).with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        url
    }

    fn heard(&self) -> Vec<Value> {
        let heard = self.heard.lock().unwrap();
        heard.iter().map(|(_, body)| serde_json::from_slice(body).unwrap()).collect()
    }
}

fn events(events: &[(&str, &str)]) -> Value {
    events.iter().map(|(entity, action)| json!({ "entity": entity, "action": action })).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_hears_of_changes_once_each_and_can_check_who_says_so() {
    let (platform, receiver) = (Platform::telling_this_machine().await, Receiver::default());
    let wanted = events(&[
        ("REGISTERED_MODEL", "CREATED"),
        ("MODEL_VERSION", "CREATED"),
        ("MODEL_VERSION_TAG", "SET"),
        ("MODEL_VERSION_ALIAS", "CREATED"),
    ]);
    let hook = json!({ "name": "ci", "url": receiver.listen().await, "events": wanted, "secret": "s3cret" });
    let made = ok(&platform, "POST", "/webhooks", hook).await;
    assert!(made["webhook"].get("secret").is_none(), "a secret is never shown: {made}");
    ok(&platform, "POST", "/registered-models/create", json!({ "name": "m" })).await;
    ok(&platform, "POST", "/model-versions/create", json!({ "name": "m", "source": "s3://a/b" })).await;
    let tag = json!({ "name": "m", "version": "1", "key": "k", "value": "v" });
    ok(&platform, "POST", "/model-versions/set-tag", tag).await;
    ok(&platform, "POST", "/registered-models/set-tag", json!({ "name": "m", "key": "k", "value": "v" }))
        .await;
    let alias = json!({ "name": "m", "alias": "champion", "version": "1" });
    ok(&platform, "POST", "/registered-models/alias", alias).await;
    platform.run_jobs().await;
    let mut kinds: Vec<String> = receiver
        .heard()
        .iter()
        .map(|body| format!("{}.{}", body["entity"].as_str().unwrap(), body["action"].as_str().unwrap()))
        .collect();
    kinds.sort();
    let expected = [
        "model_version.created",
        "model_version_alias.created",
        "model_version_tag.set",
        "registered_model.created",
    ];
    assert_eq!(kinds, expected);
    for (headers, body) in receiver.heard.lock().unwrap().iter() {
        let header = |name: &str| headers[name].to_str().unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(b"s3cret").unwrap();
        mac.update(
            format!("{}.{}.", header("x-mlflow-delivery-id"), header("x-mlflow-timestamp")).as_bytes(),
        );
        mac.update(body);
        let expected = format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()));
        assert_eq!(header("x-mlflow-signature"), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_is_rolled_back_is_never_told() {
    let (platform, receiver) = (Platform::telling_this_machine().await, Receiver::default());
    let hook = json!({
        "name": "ci", "url": receiver.listen().await, "events": events(&[("REGISTERED_MODEL", "CREATED")])
    });
    ok(&platform, "POST", "/webhooks", hook).await;
    ok(&platform, "POST", "/registered-models/create", json!({ "name": "m" })).await;
    let (status, _) =
        platform.call("POST", &format!("{API}/registered-models/create"), Some(json!({ "name": "m" }))).await;
    assert_eq!(status, 400);
    platform.run_jobs().await;
    assert_eq!(receiver.heard().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_tried_again_until_it_arrives_and_a_prompt_is_told_as_one() {
    let (platform, receiver) = (Platform::telling_this_machine().await, Receiver::default());
    *receiver.refusals.lock().unwrap() = 2;
    let hook =
        json!({ "name": "ci", "url": receiver.listen().await, "events": events(&[("PROMPT", "CREATED")]) });
    ok(&platform, "POST", "/webhooks", hook).await;
    let prompt = json!({ "name": "p", "tags": [{ "key": "mlflow.prompt.is_prompt", "value": "true" }] });
    ok(&platform, "POST", "/registered-models/create", prompt).await;
    platform.work();
    let mut pause = tokio::time::interval(std::time::Duration::from_millis(50));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while receiver.heard().is_empty() {
        pause.tick().await;
        platform.clock.advance_to(platform.context.clock.now() + chrono::TimeDelta::minutes(1));
        assert!(std::time::Instant::now() < deadline, "the message never arrived");
    }
    assert_eq!(receiver.heard()[0]["entity"], "prompt");
}

#[tokio::test(flavor = "multi_thread")]
async fn receivers_inside_or_without_tls_are_refused() {
    let platform = Platform::start().await;
    for (url, words) in [
        ("http://example.com/x", "Allowed schemes are: https."),
        ("https://localhost/x", "must not resolve to a non-public IP address"),
        ("https://169.254.169.254/latest", "must not resolve to a non-public IP address"),
        ("https://[::ffff:10.0.0.1]/x", "must not resolve to a non-public IP address"),
        ("nonsense", "Invalid webhook URL scheme"),
    ] {
        let hook = json!({ "name": "ci", "url": url, "events": events(&[("PROMPT", "CREATED")]) });
        let (status, answer) = platform.call("POST", &format!("{API}/webhooks"), Some(hook)).await;
        assert_eq!((status, &answer["error_code"]), (400, &json!("INVALID_PARAMETER_VALUE")), "{url}");
        assert!(answer["message"].as_str().unwrap().contains(words), "{url}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_tried_out_changed_listed_and_removed() {
    let (platform, receiver) = (Platform::telling_this_machine().await, Receiver::default());
    let hook = json!({ "name": "ci", "url": receiver.listen().await, "events": events(&[("MODEL_VERSION", "CREATED")]) });
    let id =
        ok(&platform, "POST", "/webhooks", hook).await["webhook"]["webhook_id"].as_str().unwrap().to_owned();
    let tried = ok(&platform, "POST", &format!("/webhooks/{id}/test"), json!({})).await;
    assert_eq!(tried["result"], json!({ "success": true, "response_status": 200, "response_body": "" }));
    assert_eq!(receiver.heard()[0]["entity"], "model_version");
    let changed = json!({ "status": "DISABLED", "name": "cd" });
    let changed = ok(&platform, "PATCH", &format!("/webhooks/{id}"), changed).await;
    assert_eq!(
        (&changed["webhook"]["status"], &changed["webhook"]["name"]),
        (&json!("DISABLED"), &json!("cd"))
    );
    let listed = ok(&platform, "GET", "/webhooks", json!({})).await;
    assert_eq!(listed["webhooks"].as_array().unwrap().len(), 1);
    ok(&platform, "DELETE", &format!("/webhooks/{id}"), json!({})).await;
    let (status, _) = platform.call("GET", &format!("{API}/webhooks/{id}"), None).await;
    assert_eq!(status, 404);
}

async fn as_user(platform: &Platform, user: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
    let request = Request::builder()
        .method(method)
        .uri(format!("{API}{path}"))
        .header("authorization", format!("Basic {}", BASE64_STANDARD.encode(user)));
    platform.send(request.body(Body::from(body.to_string())).unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn users_sign_in_by_name_and_password_and_only_administrators_manage_them() {
    let platform = Platform::configured(|config| config.http.token = Some("the long token".into())).await;
    let admin = ":the long token";
    let ana = json!({ "username": "ana", "password": "correct horse battery" });
    assert_eq!(
        as_user(&platform, "ana:correct horse battery", "GET", "/users/current", json!({})).await.0,
        401
    );
    let (status, made) = as_user(&platform, admin, "POST", "/users/create", ana.clone()).await;
    assert_eq!((status, &made["user"]["username"]), (200, &json!("ana")), "{made}");
    let (status, again) = as_user(&platform, admin, "POST", "/users/create", ana.clone()).await;
    assert_eq!((status, &again["error_code"]), (400, &json!("RESOURCE_ALREADY_EXISTS")));
    let ana = "ana:correct horse battery";
    let (status, current) = as_user(&platform, ana, "GET", "/users/current", json!({})).await;
    assert_eq!((status, &current["user"]["is_admin"]), (200, &json!(false)));
    assert_eq!(
        as_user(&platform, ana, "POST", "/registered-models/create", json!({ "name": "m" })).await.0,
        200
    );
    assert_eq!(as_user(&platform, "ana:wrong", "GET", "/users/current", json!({})).await.0, 401);
    let bob = json!({ "username": "bob", "password": "correct horse battery" });
    let (status, refused) = as_user(&platform, ana, "POST", "/users/create", bob).await;
    assert_eq!((status, &refused["error_code"]), (403, &json!("PERMISSION_DENIED")));
    let request =
        Request::get("/v1/jobs").header("authorization", format!("Basic {}", BASE64_STANDARD.encode(ana)));
    assert_eq!(
        platform.send(request.body(Body::empty()).unwrap()).await.0,
        401,
        "other routes want the token"
    );
    let new = json!({ "username": "ana", "password": "a new long password" });
    assert_eq!(as_user(&platform, ana, "PATCH", "/users/update-password", new).await.0, 200);
    assert_eq!(
        as_user(&platform, ana, "GET", "/users/current", json!({})).await.0,
        401,
        "the old one is forgotten"
    );
    let stored: String =
        sqlx::query_scalar("select password_hash from users").fetch_one(&platform.context.db).await.unwrap();
    assert!(stored.starts_with("$argon2id$"), "{stored}");
    assert_eq!(
        as_user(&platform, admin, "DELETE", "/users/delete", json!({ "username": "ana" })).await.0,
        200
    );
}

async fn in_workspace(
    platform: &Platform,
    name: &str,
    method: &str,
    path: &str,
    body: Value,
) -> (u16, Value) {
    let request =
        Request::builder().method(method).uri(format!("{API}{path}")).header("x-mlflow-workspace", name);
    platform.send(request.body(Body::from(body.to_string())).unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_one_workspace_is_not_seen_from_another() {
    let platform = Platform::start().await;
    let path = "/api/3.0/mlflow/workspaces";
    let (status, _) = in_workspace(&platform, "red", "GET", "/registered-models/search", json!({})).await;
    assert_eq!(status, 404, "there is none of that name");
    let (status, made) =
        platform.call("POST", path, Some(json!({ "name": "red", "description": "d" }))).await;
    assert_eq!((status, &made["workspace"]["name"]), (200, &json!("red")), "{made}");
    assert_eq!(
        in_workspace(&platform, "red", "POST", "/registered-models/create", json!({ "name": "m" })).await.0,
        200
    );
    let (_, here) = platform.call("GET", &format!("{API}/registered-models/get?name=m"), None).await;
    assert_eq!(here["error_code"], "RESOURCE_DOES_NOT_EXIST");
    let (status, _) = in_workspace(&platform, "red", "GET", "/registered-models/get?name=m", json!({})).await;
    assert_eq!(status, 200);
    let (status, _) = platform.call("DELETE", &format!("{path}/red"), None).await;
    assert_eq!(status, 400, "it is not empty");
    let (_, listed) = platform.call("GET", path, None).await;
    assert_eq!(listed["workspaces"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_clients_that_create_versions_of_one_model_get_ten_numbers_each() {
    let platform = Arc::new(Platform::start().await);
    ok(&platform, "POST", "/registered-models/create", json!({ "name": "m" })).await;
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let platform = platform.clone();
        clients.spawn(async move {
            let mut numbers = Vec::new();
            for _ in 0..10 {
                let body =
                    json!({ "name": "m", "source": "s3://a/b", "tags": [{ "key": "k", "value": "v" }] });
                let made = ok(&platform, "POST", "/model-versions/create", body).await;
                numbers.push(made["model_version"]["version"].as_str().unwrap().parse::<i32>().unwrap());
            }
            numbers
        });
    }
    let mut numbers: Vec<i32> = clients.join_all().await.concat();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=100).collect::<Vec<i32>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_log_into_one_run_at_once_lose_nothing_and_do_not_deadlock() {
    let platform = Arc::new(Platform::start().await);
    let run = ok(&platform, "POST", "/runs/create", json!({})).await;
    let run_id = run["run"]["info"]["run_id"].as_str().unwrap().to_owned();
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..8 {
        let (platform, run_id) = (platform.clone(), run_id.clone());
        clients.spawn(async move {
            for round in 0..10 {
                let mut keys: Vec<usize> = (0..20).collect();
                keys.rotate_left(client * 2);
                let metric =
                    |key: &usize| json!({ "key": format!("m{key}"), "value": round, "timestamp": round, "step": client });
                let metrics: Vec<Value> = keys.iter().map(metric).collect();
                let tags = json!([{ "key": format!("t{client}"), "value": "v" }, { "key": "shared", "value": "v" }]);
                let body = json!({ "run_id": run_id, "metrics": metrics, "tags": tags });
                ok(&platform, "POST", "/runs/log-batch", body).await;
            }
        });
    }
    clients.join_all().await;
    let path = format!("/metrics/get-history?run_id={run_id}&metric_key=m7");
    let history = ok(&platform, "GET", &path, json!({})).await;
    assert_eq!(history["metrics"].as_array().unwrap().len(), 80);
}

/// A run with ten points of a metric, which read a data set.
async fn measured_run(platform: &Platform, digest: &str) -> String {
    let run = ok(platform, "POST", "/runs/create", json!({})).await;
    let run_id = run["run"]["info"]["run_id"].as_str().unwrap().to_owned();
    let point = |step| json!({ "key": "m", "value": step, "timestamp": 1, "step": step });
    let metrics: Vec<Value> = (0..10).map(point).collect();
    ok(platform, "POST", "/runs/log-batch", json!({ "run_id": run_id, "metrics": metrics })).await;
    let dataset = json!({ "name": "rows", "digest": digest, "source_type": "local", "source": "{}" });
    let tags = json!([{ "key": "mlflow.data.context", "value": "training" }]);
    let inputs = json!({ "run_id": run_id, "datasets": [{ "dataset": dataset, "tags": tags }] });
    ok(platform, "POST", "/runs/log-inputs", inputs).await;
    run_id
}

#[tokio::test(flavor = "multi_thread")]
async fn histories_of_several_runs_come_at_once_whole_or_thinned_out_to_a_number_of_steps() {
    let platform = Platform::start().await;
    let (one, other) = (measured_run(&platform, "1").await, measured_run(&platform, "2").await);
    let steps = |answer: &Value, run_id: &str| -> Vec<i64> {
        let points = answer["metrics"].as_array().unwrap().iter();
        points
            .filter(|point| point["run_id"] == run_id)
            .map(|point| point["step"].as_i64().unwrap())
            .collect()
    };
    let whole = format!("/metrics/get-history-bulk?run_id={one}&run_id={other}&metric_key=m");
    let answer = ok(&platform, "GET", &whole, json!({})).await;
    assert_eq!((steps(&answer, &one), steps(&answer, &other)), ((0..10).collect(), (0..10).collect()));
    let bounded = ok(&platform, "GET", &format!("{whole}&max_results=15"), json!({})).await;
    assert_eq!(bounded["metrics"].as_array().unwrap().len(), 15);
    let thin = format!(
        "/metrics/get-history-bulk-interval?run_ids={one}&run_ids={other}&metric_key=m&max_results=3"
    );
    let answer = ok(&platform, "GET", &thin, json!({})).await;
    assert_eq!((steps(&answer, &one), steps(&answer, &other)), (vec![0, 4, 9], vec![0, 4, 9]));
    let answer = ok(&platform, "GET", &format!("{thin}&start_step=2&end_step=5"), json!({})).await;
    assert_eq!(steps(&answer, &one), [2, 4, 5]);
    let (status, answer) = platform.call("GET", &format!("{API}{thin}&start_step=2"), None).await;
    assert_eq!((status, &answer["error_code"]), (400, &json!("INVALID_PARAMETER_VALUE")), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn data_sets_of_experiments_are_found_by_the_pages_and_by_the_client_that_leaves_a_slash_out() {
    let platform = Platform::start().await;
    measured_run(&platform, "1").await;
    measured_run(&platform, "2").await;
    measured_run(&platform, "2").await;
    let summary =
        |digest| json!({ "experiment_id": "0", "name": "rows", "digest": digest, "context": "training" });
    let body = json!({ "experiment_ids": ["0"] });
    for path in ["/api/2.0/mlflow", "/ajax-api/2.0/mlflow", "/api/2.0mlflow", "/ajax-api/2.0mlflow"] {
        let path = format!("{path}/experiments/search-datasets");
        let (status, answer) = platform.call("POST", &path, Some(body.clone())).await;
        assert_eq!(
            (status, &answer["dataset_summaries"]),
            (200, &json!([summary("1"), summary("2")])),
            "{path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_neither_skip_nor_repeat_rows_while_runs_come_and_go() {
    let platform = Platform::start().await;
    let mut expected = Vec::new();
    for number in 0..30 {
        let body = json!({ "start_time": number / 3, "run_name": format!("r{number}") });
        let run = ok(&platform, "POST", "/runs/create", body).await;
        let run_id = run["run"]["info"]["run_id"].as_str().unwrap().to_owned();
        if number % 4 != 0 {
            let value = if number % 5 == 0 { json!("NaN") } else { json!(number % 7) };
            let metric = json!({ "run_id": run_id, "key": "m", "value": value, "timestamp": 1 });
            ok(&platform, "POST", "/runs/log-metric", metric).await;
        }
        expected.push(run_id);
    }
    for (order, filter) in [
        (json!([]), ""),
        (json!([]), "metrics.m >= 2"),
        (json!(["metrics.m DESC"]), ""),
        (json!(["metrics.m"]), ""),
        (json!(["tags.none", "end_time DESC"]), ""),
    ] {
        let whole =
            json!({ "experiment_ids": ["0"], "filter": filter, "order_by": order, "max_results": 1000 });
        let whole = ids(&ok(&platform, "POST", "/runs/search", whole).await);
        let mut paged = Vec::new();
        let mut token = json!("");
        loop {
            let body = json!({
                "experiment_ids": ["0"], "filter": filter, "order_by": order, "max_results": 4, "page_token": token,
            });
            let page = ok(&platform, "POST", "/runs/search", body).await;
            paged.extend(ids(&page));
            ok(&platform, "POST", "/runs/create", json!({ "start_time": 99, "experiment_id": "0" })).await;
            let newest =
                ok(&platform, "POST", "/runs/search", json!({ "experiment_ids": ["0"], "max_results": 1 }))
                    .await;
            ok(&platform, "POST", "/runs/delete", json!({ "run_id": ids(&newest)[0] })).await;
            match page.get("next_page_token") {
                Some(next) => token = next.clone(),
                None => break,
            }
        }
        assert_eq!(paged, whole, "{order} {filter}");
    }
    let body = json!({ "experiment_ids": ["0"], "filter": "metrics.m >= 3", "max_results": 1, "include_total_count": true });
    let counted = ok(&platform, "POST", "/runs/search", body).await;
    assert_eq!(
        counted["total_count"],
        json!((0..30).filter(|n| n % 4 != 0 && n % 5 != 0 && n % 7 >= 3).count())
    );
}

fn ids(answer: &Value) -> Vec<String> {
    let runs = answer["runs"].as_array().cloned().unwrap_or_default();
    runs.iter().map(|run| run["info"]["run_id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_token_that_is_broken_or_of_another_search_is_refused() {
    let platform = Platform::start().await;
    for number in 0..3 {
        ok(&platform, "POST", "/runs/create", json!({ "start_time": number })).await;
    }
    let first =
        ok(&platform, "POST", "/runs/search", json!({ "experiment_ids": ["0"], "max_results": 1 })).await;
    let token = first["next_page_token"].as_str().unwrap();
    let forged = BASE64_STANDARD.encode(
        String::from_utf8(BASE64_STANDARD.decode(token).unwrap())
            .unwrap()
            .replace("\"after\":[\"2\"", "\"after\":[\"x\""),
    );
    for (token, filter) in [(token, "params.a = 'b'"), (&forged, ""), ("%%%", ""), ("bnVsbA==", "")] {
        let body =
            json!({ "experiment_ids": ["0"], "max_results": 1, "page_token": token, "filter": filter });
        let (status, answer) = platform.call("POST", &format!("{API}/runs/search"), Some(body)).await;
        assert_eq!(
            (status, &answer["error_code"]),
            (400, &json!("INVALID_PARAMETER_VALUE")),
            "{token}: {answer}"
        );
    }
}

/// Bodies that are no requests at all: MLflow's error JSON, never a server error.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_not_what_they_should_be_are_refused_in_mlflows_shape() {
    let platform = Platform::start().await;
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let nested = format!("{{\"name\":{}1{}}}", "{\"a\":".repeat(5_000), "}".repeat(5_000));
    let large = format!("{{\"name\":\"{}\"}}", "x".repeat(10 << 20));
    let bodies: [(&str, Vec<u8>); 9] = [
        ("not JSON", b"{".to_vec()),
        ("a list", b"[]".to_vec()),
        ("deep", deep.into_bytes()),
        ("nested", nested.into_bytes()),
        ("large", large.into_bytes()),
        ("not UTF-8", b"{\"name\":\"\xff\xfe\"}".to_vec()),
        ("not a number", b"{\"name\":NaN}".to_vec()),
        ("a huge number", b"{\"name\":1e999}".to_vec()),
        ("a lone surrogate", b"{\"name\":\"\\ud800\"}".to_vec()),
    ];
    for route in ["experiments/create", "registered-models/create", "runs/log-batch"] {
        for (what, body) in &bodies {
            let request = Request::post(format!("{API}/{route}")).header("content-type", "application/json");
            let (status, answer) = platform.send(request.body(Body::from(body.clone())).unwrap()).await;
            let code = answer["error_code"].as_str().unwrap_or_else(|| panic!("{route}, {what}: {answer}"));
            assert!((400..500).contains(&status) && !code.is_empty(), "{route}, {what}: {status} {answer}");
        }
    }
}

/// Patterns and quotes are values, whatever they look like.
#[tokio::test(flavor = "multi_thread")]
async fn what_looks_like_sql_is_a_value() {
    let platform = Platform::start().await;
    let names = ["100%", "1000", "a_b", "axb", "back\\slash", "'; drop table runs; --"];
    for name in names {
        ok(&platform, "POST", "/registered-models/create", json!({ "name": name })).await;
    }
    for (filter, expected) in [
        ("name = '100%'", vec!["100%"]),
        ("name LIKE '100%'", vec!["100%", "1000"]),
        ("name LIKE 'a_b'", vec!["a_b", "axb"]),
        ("name LIKE 'back\\slash'", vec!["back\\slash"]),
        ("name LIKE '%\\'", vec![]),
        ("name = '''; drop table runs; --'", vec!["'; drop table runs; --"]),
        ("name ILIKE '%DROP%'", vec!["'; drop table runs; --"]),
    ] {
        let encoded: String = filter.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let path = format!("/registered-models/search?order_by=creation_timestamp&filter={encoded}");
        let answer = ok(&platform, "GET", &path, json!({})).await;
        let mut found: Vec<String> = answer["registered_models"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|model| model["name"].as_str().unwrap().to_owned())
            .collect();
        found.sort();
        let mut expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
        expected.sort();
        assert_eq!(found, expected, "{filter}");
    }
}
