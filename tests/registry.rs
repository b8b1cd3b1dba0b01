//! The registry over HTTP: tracking, artifacts, gates, alias history, and what it refuses.

use chrono::{DateTime, TimeDelta, Utc};
use domain::evaluation::{CalibratorChoice, Evaluation, Interval, Scores};
use domain::ids::TrainingSetId;
use domain::time::{Cutoff, LabelTime};
use journeys::Platform;
use serde_json::{Value, json};
use storage::tracking::runs::NewRun;
use storage::{models, tracking};

const API: &str = "/api/2.0/mlflow";

async fn ok(platform: &Platform, method: &str, path: &str, body: Value) -> Value {
    let (status, answer) = platform.call(method, &format!("{API}{path}"), Some(body)).await;
    assert_eq!(status, 200, "{method} {path}: {answer}");
    answer
}

async fn refused(platform: &Platform, method: &str, path: &str, body: Value) -> (u16, String, String) {
    let (status, answer) = platform.call(method, &format!("{API}{path}"), Some(body)).await;
    let text = |key: &str| answer[key].as_str().unwrap_or_else(|| panic!("{path}: {answer}")).to_owned();
    (status, text("error_code"), text("message"))
}

fn day(text: &str) -> DateTime<Utc> {
    format!("{text}T00:00:00Z").parse().unwrap()
}

pub(crate) fn evaluation(trained_through: &str, evaluated_from: &str, auc: f64) -> Evaluation {
    Evaluation {
        training_set: TrainingSetId::new(),
        dataset: "late".into(),
        schema_fingerprint: "f".into(),
        trained_through: LabelTime(day(trained_through)),
        evaluated_from: Cutoff(day(evaluated_from)),
        evaluated_through: Cutoff(day("2013-10-31")),
        overall: Scores {
            rows: 1_000,
            base_rate: 0.25,
            auc: Some(Interval { value: auc, low: auc - 0.01, high: auc + 0.01 }),
            average_precision: Some(0.5),
            log_loss: 0.47,
            brier: 0.15,
            ece: 0.02,
            ece_null_high: 0.01,
            slope: None,
            intercept: None,
        },
        by_month: Default::default(),
        reliability: vec![],
        calibrator: CalibratorChoice {
            kind: "identity".into(),
            kept: true,
            log_loss_without: 0.5,
            log_loss_with: 0.5,
        },
        predictions_path: "evaluations/none.arrow".into(),
        predictions_sha256: "0".repeat(64),
        reference_path: "evaluations/reference.arrow".into(),
        reference_rate: 0.25,
    }
}

/// A version of `late-arrival` as the training service records one, with evidence or without.
pub(crate) async fn version(platform: &Platform, evidence: Option<&Evaluation>) -> i32 {
    let now = platform.context.clock.now();
    let mut tx = platform.context.db.begin().await.unwrap();
    let experiment_id =
        tracking::ensure_experiment(&mut tx, "default", "late", now.timestamp_millis()).await.unwrap();
    let new = NewRun {
        experiment_id,
        name: "train",
        user_id: "worker",
        start_ms: now.timestamp_millis(),
        tags: &[],
    };
    let run_id = tracking::create_run(&mut tx, "default", &new).await.unwrap();
    tracking::finish_run(&mut tx, "default", &run_id, "FINISHED", now.timestamp_millis()).await.unwrap();
    if let Some(evidence) = evidence {
        storage::model_evidence::save(&mut tx, "default", &run_id, "boosting", evidence, now).await.unwrap();
    }
    let source = format!("mlflow-artifacts:/{experiment_id}/{run_id}/artifacts/model");
    let ms = now.timestamp_millis();
    let version =
        models::create_model_version(&mut tx, "default", "late-arrival", &run_id, &source, &[], ms).await;
    tx.commit().await.unwrap();
    version.unwrap()
}

async fn guard(platform: &Platform) {
    let gate = json!({
        "name": "late", "model": "late-arrival", "champion_margin": 0.002, "min_auc": 0.6, "same_schema": false,
    });
    let mut conn = platform.context.db.acquire().await.unwrap();
    let now = platform.context.clock.now();
    storage::definitions::save(&mut conn, "default", "gate", "late", &gate, now).await.unwrap();
}

async fn promote(platform: &Platform, version: i32) -> (u16, Value) {
    let body = json!({ "version": version, "reason": "try it" });
    platform.call("POST", "/v1/models/late-arrival/aliases/champion", Some(body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_was_judged_on_later_data_becomes_champion_and_the_history_says_why() {
    let platform = Platform::start().await;
    guard(&platform).await;
    let good = version(&platform, Some(&evaluation("2013-09-30", "2013-10-01", 0.7))).await;
    let (status, verdict) = promote(&platform, good).await;
    assert_eq!((status, &verdict["passed"]), (200, &json!(true)), "{verdict}");
    let (_, history) = platform.call("GET", "/v1/models/late-arrival/history", None).await;
    let entry = &history["history"][0];
    assert_eq!(
        (&entry["outcome"], &entry["to_version"], &entry["reason"]),
        (&json!("moved"), &json!(1), &json!("try it"))
    );
    assert_eq!(entry["verdict"]["gate"], "late");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_judged_on_its_own_training_time_is_refused_with_the_reason_and_nothing_moves() {
    let platform = Platform::start().await;
    guard(&platform).await;
    let early = version(&platform, Some(&evaluation("2013-10-15", "2013-10-01", 0.9))).await;
    let (status, problem) = promote(&platform, early).await;
    assert_eq!((status, &problem["type"]), (409, &json!("/problems/gate-refused")), "{problem}");
    assert_eq!(problem["verdict"]["checks"][0]["check"], "temporal-order");
    let (_, model) = platform.call("GET", "/v1/models/late-arrival", None).await;
    assert_eq!(model["versions"][0]["aliases"], json!([]));
    let (_, history) = platform.call("GET", "/v1/models/late-arrival/history", None).await;
    assert_eq!(history["history"][0]["outcome"], "refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn mlflows_own_alias_route_asks_the_same_gate() {
    let platform = Platform::start().await;
    guard(&platform).await;
    let unproven = version(&platform, None).await;
    let body = json!({ "name": "late-arrival", "alias": "champion", "version": unproven.to_string() });
    let (status, code, message) = refused(&platform, "POST", "/registered-models/alias", body.clone()).await;
    assert_eq!((status, code.as_str()), (409, "RESOURCE_CONFLICT"));
    assert!(message.contains("never evaluated"), "{message}");
    let shadow = json!({ "name": "late-arrival", "alias": "shadow", "version": unproven.to_string() });
    ok(&platform, "POST", "/registered-models/alias", shadow).await; // no gate guards it
}

#[tokio::test(flavor = "multi_thread")]
async fn another_runs_evidence_does_not_speak_for_files_from_elsewhere() {
    let platform = Platform::start().await;
    guard(&platform).await;
    version(&platform, Some(&evaluation("2013-09-30", "2013-10-01", 0.7))).await;
    let (_, model) = platform.call("GET", "/v1/models/late-arrival", None).await;
    let run_id = model["versions"][0]["run_id"].as_str().unwrap().to_owned();
    let foreign = json!({ "name": "late-arrival", "source": "s3://elsewhere/model", "run_id": run_id });
    let made = ok(&platform, "POST", "/model-versions/create", foreign).await;
    assert_eq!(made["model_version"]["version"], "2");
    let (status, problem) = promote(&platform, 2).await;
    assert_eq!(status, 409, "{problem}");
    for source in
        ["mlflow-artifacts:/1/other/artifacts/model", "runs:/other/model", "/tmp/model", "models:/m-0"]
    {
        let body = json!({ "name": "late-arrival", "source": source, "run_id": run_id });
        let (status, ..) = refused(&platform, "POST", "/model-versions/create", body).await;
        assert!(matches!(status, 400 | 404), "{source}: {status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guarded_champion_cannot_be_taken_away_to_make_room() {
    let platform = Platform::start().await;
    guard(&platform).await;
    let good = version(&platform, Some(&evaluation("2013-09-30", "2013-10-01", 0.7))).await;
    promote(&platform, good).await;
    let name = json!({ "name": "late-arrival" });
    for (method, path, body) in [
        ("DELETE", "/registered-models/alias", json!({ "name": "late-arrival", "alias": "champion" })),
        ("DELETE", "/model-versions/delete", json!({ "name": "late-arrival", "version": "1" })),
        ("DELETE", "/registered-models/delete", name),
        ("POST", "/registered-models/rename", json!({ "name": "late-arrival", "new_name": "away" })),
    ] {
        let (status, code, message) = refused(&platform, method, path, body).await;
        assert_eq!((status, code.as_str()), (409, "RESOURCE_CONFLICT"), "{path}: {message}");
    }
    let (_, model) = platform.call("GET", "/v1/models/late-arrival", None).await;
    assert_eq!(model["versions"][0]["aliases"], json!(["champion"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_with_a_free_alias_cannot_be_renamed_onto_a_guarded_one() {
    let platform = Platform::start().await;
    guard(&platform).await;
    ok(&platform, "POST", "/registered-models/create", json!({ "name": "plain" })).await;
    ok(&platform, "POST", "/model-versions/create", json!({ "name": "plain", "source": "s3://x/y" })).await;
    let alias = json!({ "name": "plain", "alias": "champion", "version": "1" });
    ok(&platform, "POST", "/registered-models/alias", alias).await;
    let rename = json!({ "name": "plain", "new_name": "late-arrival" });
    let (status, ..) = refused(&platform, "POST", "/registered-models/rename", rename).await;
    assert_eq!(status, 409);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_clients_that_move_an_alias_at_once_one_wins_and_the_other_is_told() {
    let platform = Platform::start().await;
    guard(&platform).await;
    let one = version(&platform, Some(&evaluation("2013-09-30", "2013-10-01", 0.7))).await;
    let two = version(&platform, Some(&evaluation("2013-09-30", "2013-10-01", 0.7))).await;
    let ((first, _), (second, _)) = tokio::join!(promote(&platform, one), promote(&platform, two));
    assert_eq!([first.min(second), first.max(second)], [200, 409]);
    let (_, history) = platform.call("GET", "/v1/models/late-arrival/history", None).await;
    let moves = history["history"].as_array().unwrap().iter().filter(|entry| entry["outcome"] == "moved");
    assert_eq!(moves.count(), 1, "{history}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pointing_an_alias_where_it_points_changes_nothing() {
    let platform = Platform::start().await;
    guard(&platform).await;
    let good = version(&platform, Some(&evaluation("2013-09-30", "2013-10-01", 0.7))).await;
    promote(&platform, good).await;
    assert_eq!(promote(&platform, good).await.0, 200);
    let (_, history) = platform.call("GET", "/v1/models/late-arrival/history", None).await;
    assert_eq!(history["history"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_of_a_misspelt_model_is_not_found_to_be_intact() {
    let platform = Platform::start().await;
    for path in ["history", "history/verify", "at?time=2013-11-01T00:00:00Z"] {
        let (status, problem) = platform.call("GET", &format!("/v1/models/lade-arrival/{path}"), None).await;
        assert_eq!((status, &problem["type"]), (404, &json!("/problems/not-found")), "{path}: {problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_champion_at_a_past_moment_is_known() {
    let platform = Platform::start().await;
    let (one, two) = (version(&platform, None).await, version(&platform, None).await);
    promote(&platform, one).await;
    platform.clock.advance_to(day("2013-11-10"));
    promote(&platform, two).await;
    platform.clock.advance_to(day("2013-11-20"));
    let remove = json!({ "name": "late-arrival", "alias": "champion" });
    ok(&platform, "DELETE", "/registered-models/alias", remove).await;
    for (time, expected) in [
        ("2013-10-31T00:00:00Z", json!(null)),
        ("2013-11-05T00:00:00Z", json!(1)),
        ("2013-11-10T00:00:00Z", json!(2)),
        ("2013-11-21T00:00:00Z", json!(null)),
    ] {
        let path = format!("/v1/models/late-arrival/at?time={time}&alias=champion");
        let (status, answer) = platform.call("GET", &path, None).await;
        assert_eq!((status, &answer["version"]), (200, &expected), "{time}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn history_can_only_grow_and_a_row_that_was_forced_is_found_out() {
    let platform = Platform::start().await;
    let (one, two) = (version(&platform, None).await, version(&platform, None).await);
    promote(&platform, one).await;
    platform.clock.advance_to(platform.context.clock.now() + TimeDelta::hours(1));
    promote(&platform, two).await;
    let (_, audit) = platform.call("GET", "/v1/models/late-arrival/history/verify", None).await;
    assert_eq!((&audit["intact"], &audit["rows"]), (&json!(true), &json!(2)));
    let db = &platform.context.db;
    for statement in
        ["update alias_history set actor = 'eve'", "delete from alias_history", "truncate alias_history"]
    {
        assert!(sqlx::query(statement).execute(db).await.is_err(), "{statement}");
    }
    for statement in [
        "alter table alias_history disable trigger alias_history_keeps_rows",
        "update alias_history set actor = 'eve' where sequence = 1",
    ] {
        sqlx::query(statement).execute(db).await.unwrap();
    }
    let (_, audit) = platform.call("GET", "/v1/models/late-arrival/history/verify", None).await;
    assert_eq!((&audit["intact"], &audit["broken_at"]), (&json!(false), &json!(1)), "{audit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_creators_at_once_get_ten_numbers() {
    let platform = Platform::start().await;
    let numbers = futures_all((0..10).map(|_| version(&platform, None))).await;
    let mut sorted = numbers.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (1..=10).collect::<Vec<i32>>());
}

async fn futures_all<T>(work: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut work: Vec<_> = work.map(Box::pin).collect();
    let mut done: Vec<Option<T>> = work.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, slot) in work.iter_mut().zip(&mut done) {
            if slot.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *slot = Some(value);
            }
        }
        if done.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promote_job_promotes_what_its_run_made_and_a_refusal_is_its_answer() {
    let platform = Platform::start().await;
    guard(&platform).await;
    version(&platform, Some(&evaluation("2013-09-30", "2013-10-01", 0.7))).await;
    version(&platform, None).await;
    let (_, model) = platform.call("GET", "/v1/models/late-arrival", None).await;
    registry::start(&platform.context);
    for (index, promoted) in [(0, true), (1, false)] {
        let run_id = &model["versions"][index]["run_id"];
        let job = storage::jobs::NewJob {
            project: "default".into(),
            kind: registry::JOB_KIND.into(),
            payload: json!({ "project": "default", "registered_model": "late-arrival", "run_id": run_id }),
            dedup_key: None,
            priority: 0,
            max_attempts: 3,
        };
        let mut conn = platform.context.db.acquire().await.unwrap();
        let id = storage::jobs::enqueue(&mut conn, &job).await.unwrap();
        let mut pause = tokio::time::interval(std::time::Duration::from_millis(10));
        let ended = loop {
            pause.tick().await;
            let row = storage::jobs::get(&mut conn, id).await.unwrap();
            if !matches!(row.state.as_str(), "queued" | "running") {
                break row;
            }
        };
        assert_eq!(ended.state, "succeeded", "{ended:?}");
        assert_eq!(ended.outcome.unwrap()["promoted"], json!(promoted));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lineage_leads_from_a_version_to_its_training_set() {
    let platform = Platform::start().await;
    let evidence = evaluation("2013-09-30", "2013-10-01", 0.7);
    version(&platform, Some(&evidence)).await;
    let (status, lineage) = platform.call("GET", "/v1/models/late-arrival/versions/1/lineage", None).await;
    assert_eq!(status, 200, "{lineage}");
    assert_eq!(lineage["training_set"]["training_set_id"], json!(evidence.training_set));
    assert_eq!(lineage["evaluation_file"]["sha256"], json!(evidence.predictions_sha256));
    let (status, found) = platform.call("GET", "/v1/models/late-arrival/versions/1/evidence", None).await;
    assert_eq!((status, &found["evaluation"]["dataset"]), (200, &json!("late")));
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_mlflows_codes_and_words() {
    let platform = Platform::start().await;
    let name = json!({ "name": "m" });
    ok(&platform, "POST", "/registered-models/create", name.clone()).await;
    for (method, path, body, expected) in [
        (
            "POST",
            "/registered-models/create",
            name,
            (400, "RESOURCE_ALREADY_EXISTS", "Registered Model (name=m) already exists."),
        ),
        (
            "POST",
            "/registered-models/create",
            json!({ "name": 123 }),
            (400, "INVALID_PARAMETER_VALUE", "Invalid value 123 for parameter 'name' supplied"),
        ),
        (
            "POST",
            "/registered-models/create",
            json!({}),
            (400, "INVALID_PARAMETER_VALUE", "Missing value for required parameter 'name'."),
        ),
        (
            "GET",
            "/registered-models/get?name=nope",
            json!({}),
            (404, "RESOURCE_DOES_NOT_EXIST", "Registered Model with name=nope not found"),
        ),
        (
            "GET",
            "/runs/get?run_id=nope",
            json!({}),
            (404, "RESOURCE_DOES_NOT_EXIST", "Run with id=nope not found"),
        ),
        (
            "GET",
            "/experiments/get-by-name?experiment_name=x",
            json!({}),
            (404, "RESOURCE_DOES_NOT_EXIST", "Could not find experiment with name 'x'"),
        ),
        (
            "GET",
            "/model-versions/get?name=m&version=7",
            json!({}),
            (404, "RESOURCE_DOES_NOT_EXIST", "Model Version (name=m, version=7) not found"),
        ),
        (
            "GET",
            "/registered-models/alias?name=m&alias=a",
            json!({}),
            (400, "INVALID_PARAMETER_VALUE", "Registered model alias a not found."),
        ),
        ("POST", "/nowhere", json!({}), (404, "ENDPOINT_NOT_FOUND", "No API found")),
        ("DELETE", "/runs/create", json!({}), (405, "BAD_REQUEST", "not a method")),
    ] {
        let (status, code, message) = refused(&platform, method, path, body).await;
        assert_eq!((status, code.as_str()), (expected.0, expected.1), "{path}: {message}");
        assert!(message.contains(expected.2), "{path}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_are_numbers_and_what_is_absent_is_left_out() {
    let platform = Platform::start().await;
    let made = ok(&platform, "POST", "/runs/create", json!({ "experiment_id": "0", "start_time": 5 })).await;
    let info = made["run"]["info"].as_object().unwrap();
    assert_eq!((&info["start_time"], &info["run_uuid"]), (&json!(5), &info["run_id"]));
    assert!(!info.contains_key("end_time") && made["run"]["inputs"] == json!({}));
    let made = ok(&platform, "POST", "/registered-models/create", json!({ "name": "m" })).await;
    let model = made["registered_model"].as_object().unwrap();
    assert!(model["creation_timestamp"].is_i64() && !model.contains_key("description"));
    let version =
        ok(&platform, "POST", "/model-versions/create", json!({ "name": "m", "source": "s3://a/b" })).await;
    let version = version["model_version"].as_object().unwrap();
    for (key, value) in
        [("current_stage", "None"), ("description", ""), ("run_id", ""), ("run_link", ""), ("version", "1")]
    {
        assert_eq!(version[key], value, "{key}");
    }
    assert!(!version.contains_key("tags") && !version.contains_key("aliases"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_browsers_prefix_is_the_same_surface() {
    let platform = Platform::start().await;
    let (status, _) = platform.call("POST", "/ajax-api/2.0/mlflow/experiments/search", Some(json!({}))).await;
    assert_eq!(status, 200);
    let (status, answer) = platform.call("GET", "/ajax-api/2.0/mlflow/nope", None).await;
    assert_eq!((status, &answer["error_code"]), (404, &json!("ENDPOINT_NOT_FOUND")));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_path_leads_out_of_the_artifact_root() {
    let platform = Platform::start().await;
    std::fs::write(platform.context.data_dir.join("secret.txt"), "secret").unwrap();
    let root = "/api/2.0/mlflow-artifacts/artifacts";
    for path in [
        "..%2fsecret.txt",
        "a/..%2f..%2fsecret.txt",
        "%2e%2e/secret.txt",
        "%252e%252e%252fsecret.txt",
        "..%5csecret.txt",
        "%2fetc%2fpasswd",
        "a%00b",
    ] {
        for method in ["GET", "PUT", "DELETE"] {
            let (status, answer) = platform.call(method, &format!("{root}/{path}"), None).await;
            assert_eq!(
                (status, &answer["error_code"]),
                (400, &json!("INVALID_PARAMETER_VALUE")),
                "{method} {path}"
            );
        }
        let (status, _) = platform.call("GET", &format!("{root}?path={path}"), None).await;
        assert_eq!(status, 400, "{path}");
    }
    let made = ok(
        &platform,
        "POST",
        "/experiments/create",
        json!({ "name": "e", "artifact_location": "mlflow-artifacts:/../.." }),
    )
    .await;
    let run = ok(&platform, "POST", "/runs/create", json!({ "experiment_id": made["experiment_id"] })).await;
    let run_id = run["run"]["info"]["run_id"].as_str().unwrap();
    let (status, ..) =
        refused(&platform, "GET", &format!("/artifacts/list?run_id={run_id}"), json!({})).await;
    assert_eq!(status, 400);
    assert!(platform.context.data_dir.join("secret.txt").exists());
}

/// Every route with values of every wrong kind: a client's mistake is never answered as the server's.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_a_client_sends_is_answered_with_a_server_error() {
    let platform = Platform::start().await;
    ok(&platform, "POST", "/registered-models/create", json!({ "name": "m" })).await;
    let run = ok(&platform, "POST", "/runs/create", json!({})).await;
    let run_id = run["run"]["info"]["run_id"].clone();
    let long = "x".repeat(5_000);
    let values = [
        json!(null),
        json!(true),
        json!(-1),
        json!(1e300),
        json!(9_223_372_036_854_775_807i64),
        json!(""),
        json!("\u{0}"),
        json!(long),
        json!("' or 1=1 --"),
        json!("a/../b"),
        json!([]),
        json!([1, null, {}]),
        json!({ "a": 1 }),
        json!([{ "key": long, "value": "\u{0}" }]),
        json!([{ "key": 1, "value": {}, "timestamp": -1, "dataset": 3 }]),
        json!("m"),
        json!("1"),
        run_id.clone(),
        json!("models:/m-x"),
        json!("runs:/x/y"),
        json!("NaN"),
    ];
    let keys = [
        "name",
        "new_name",
        "run_id",
        "run_uuid",
        "experiment_id",
        "experiment_ids",
        "experiment_name",
        "key",
        "value",
        "timestamp",
        "step",
        "tags",
        "params",
        "metrics",
        "datasets",
        "models",
        "filter",
        "order_by",
        "page_token",
        "max_results",
        "version",
        "alias",
        "stage",
        "source",
        "model_id",
        "status",
        "start_time",
        "end_time",
        "run_view_type",
        "view_type",
        "metric_key",
        "description",
        "archive_existing_versions",
        "stages",
        "artifact_location",
        "path",
        "source_run_id",
        "user_id",
        "run_name",
    ];
    let mut seed = 7u64;
    let mut pick = |length: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % length
    };
    let mut met = 0;
    for route in ROUTES {
        let (method, path) = route.split_once(' ').unwrap();
        for _ in 0..40 {
            let mut body = plausible(&run_id);
            for _ in 0..pick(4) {
                body.insert(keys[pick(keys.len())].to_owned(), values[pick(values.len())].clone());
            }
            let query = if method == "GET" { query_of(&body) } else { String::new() };
            let sent = Value::Object(body);
            let (status, answer) =
                platform.call(method, &format!("{API}{path}{query}"), Some(sent.clone())).await;
            assert!(status < 500, "{method} {path} {sent}: {status} {answer}");
            met += usize::from(status == 200);
        }
    }
    assert!(met > 200, "only {met} requests got past the first check");
}

/// What most routes could take.
fn plausible(run_id: &Value) -> serde_json::Map<String, Value> {
    let body = json!({
        "name": "m", "run_id": run_id, "experiment_id": "0", "experiment_ids": ["0"], "experiment_name": "Default", "key": "k",
        "value": "1", "timestamp": 1, "version": "1", "alias": "a", "stage": "Staging", "source": "s3://a/b", "metric_key": "k",
        "status": 2, "metrics": [{ "key": "k", "value": 1, "timestamp": 1 }], "params": [{ "key": "k", "value": "1" }],
        "tags": [{ "key": "k", "value": "1" }], "models": [{ "model_id": "m-1", "step": 1 }],
    });
    body.as_object().cloned().unwrap_or_default()
}

fn query_of(body: &serde_json::Map<String, Value>) -> String {
    let encoded =
        |text: &str| -> String { text.bytes().take(300).map(|byte| format!("%{byte:02x}")).collect() };
    let pair = |(key, value): (&String, &Value)| Some(format!("{key}={}", encoded(value.as_str()?)));
    format!("?{}", body.iter().filter_map(pair).collect::<Vec<_>>().join("&"))
}

const ROUTES: [&str; 46] = [
    "POST /experiments/create",
    "GET /experiments/get",
    "GET /experiments/get-by-name",
    "POST /experiments/search",
    "POST /experiments/update",
    "POST /experiments/delete",
    "POST /experiments/restore",
    "POST /experiments/set-experiment-tag",
    "POST /experiments/delete-experiment-tag",
    "POST /runs/create",
    "GET /runs/get",
    "POST /runs/update",
    "POST /runs/delete",
    "POST /runs/restore",
    "POST /runs/search",
    "POST /runs/log-metric",
    "POST /runs/log-parameter",
    "POST /runs/log-batch",
    "POST /runs/set-tag",
    "POST /runs/delete-tag",
    "POST /runs/log-inputs",
    "POST /runs/outputs",
    "GET /metrics/get-history",
    "GET /artifacts/list",
    "POST /logged-models",
    "POST /logged-models/search",
    "PATCH /logged-models/m-x",
    "GET /logged-models/m-x",
    "PATCH /logged-models/m-x/tags",
    "POST /registered-models/create",
    "GET /registered-models/get",
    "POST /registered-models/rename",
    "PATCH /registered-models/update",
    "DELETE /registered-models/delete",
    "GET /registered-models/search",
    "POST /registered-models/get-latest-versions",
    "POST /registered-models/set-tag",
    "DELETE /registered-models/delete-tag",
    "POST /registered-models/alias",
    "GET /registered-models/alias",
    "POST /model-versions/create",
    "GET /model-versions/search",
    "PATCH /model-versions/update",
    "DELETE /model-versions/delete",
    "POST /model-versions/transition-stage",
    "POST /model-versions/set-tag",
];
