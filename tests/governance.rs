//! What stands behind a version: lineage, verification, signature, card, approvals, and moves past or back through a gate.

use std::path::Path;
use std::process::Command;

use axum::body::Body;
use axum::http::Request;
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use domain::ids::{JobId, PartId, TrainingSetId};
use journeys::Platform;
use serde_json::{Value, json};
use storage::governance::inputs::{PartUsed, record_parts};
use storage::training_sets::TrainingSet;

use crate::mlflow_client::python;
use crate::registry::{evaluation, version};

async fn guard(platform: &Platform, more: Value) {
    let mut gate = json!({ "name": "late", "model": "late-arrival", "min_auc": 0.6, "same_schema": false });
    gate.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let mut conn = platform.context.db.acquire().await.unwrap();
    let now = platform.context.clock.now();
    storage::definitions::save(&mut conn, "default", "gate", "late", &gate, now).await.unwrap();
}

async fn champion(platform: &Platform) -> Value {
    let (_, model) = platform.call("GET", "/v1/models/late-arrival", None).await;
    let versions = model["versions"].as_array().unwrap().clone();
    let serves = |version: &&Value| version["aliases"].as_array().unwrap().contains(&json!("champion"));
    versions.iter().find(serves).map_or(Value::Null, |version| version["version"].clone())
}

const MOVE: &str = "/v1/models/late-arrival/aliases/champion";

/// Asks under a name, which basic authentication carries.
async fn call_as(platform: &Platform, name: &str, path: &str, body: Value) -> (u16, Value) {
    let request = Request::post(path)
        .header("authorization", format!("Basic {}", BASE64.encode(format!("{name}:"))))
        .body(Body::from(body.to_string()));
    platform.send(request.unwrap()).await
}

/// Puts a file where a version of `version` has its files.
async fn upload(platform: &Platform, number: i32, name: &str, contents: &'static str) -> String {
    let (_, model) = platform.call("GET", "/v1/models/late-arrival", None).await;
    let versions = model["versions"].as_array().unwrap().clone();
    let version = versions.iter().find(|version| version["version"] == number).unwrap();
    let folder = version["source"].as_str().unwrap().trim_start_matches("mlflow-artifacts:/").to_owned();
    let path = format!("/api/2.0/mlflow-artifacts/artifacts/{folder}/{name}");
    let (status, answer) = platform.send(Request::put(path).body(Body::from(contents)).unwrap()).await;
    assert_eq!(status, 200, "{answer}");
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_the_gate_would_and_changes_nothing() {
    let platform = Platform::start().await;
    guard(&platform, json!({})).await;
    let weak = version(&platform, Some(&evaluation("2013-09-30", "2013-10-01", 0.55))).await;
    let (status, said) =
        platform.call("POST", &format!("{MOVE}?dry_run=true"), Some(json!({ "version": weak }))).await;
    assert_eq!((status, &said["passed"], &said["moved"]), (200, &json!(false), &json!(false)), "{said}");
    let (_, history) = platform.call("GET", "/v1/models/late-arrival/history", None).await;
    assert_eq!((champion(&platform).await, &history["history"]), (Value::Null, &json!([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_override_moves_past_the_gate_with_a_reason_that_stays() {
    let platform = Platform::start().await;
    guard(&platform, json!({})).await;
    let weak = version(&platform, Some(&evaluation("2013-09-30", "2013-10-01", 0.55))).await;
    let (status, _) = platform.call("POST", MOVE, Some(json!({ "version": weak, "override": true }))).await;
    assert_eq!(status, 422, "without a reason");
    let body = json!({ "version": weak, "override": true, "reason": "the old one is broken" });
    let (status, said) = call_as(&platform, "ana", MOVE, body).await;
    assert_eq!((status, &said["overridden"]), (200, &json!(true)), "{said}");
    let (_, history) = platform.call("GET", "/v1/models/late-arrival/history", None).await;
    let entry = &history["history"][0];
    assert_eq!((&entry["outcome"], &entry["actor"]), (&json!("overridden"), &json!("ana")));
    assert_eq!(entry["verdict"]["passed"], false);
}

async fn outcome_of(platform: &Platform, job: JobId) -> Value {
    let outcome = sqlx::query_scalar("select outcome from jobs where job_id = $1").bind(job.0);
    outcome.fetch_one(&platform.context.db).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_of_a_gate_is_written_down_once_however_often_its_job_is_tried() {
    let platform = Platform::start().await;
    guard(&platform, json!({})).await;
    for (auc, promoted) in [(0.55, false), (0.95, true)] {
        let made = version(&platform, Some(&evaluation("2013-09-30", "2013-10-01", auc))).await;
        let job = storage::jobs::NewJob {
            project: "default".into(),
            kind: "promote".into(),
            payload: json!({ "project": "default", "registered_model": "late-arrival", "version": made }),
            dedup_key: None,
            priority: 0,
            max_attempts: 1,
        };
        let mut conn = platform.context.db.acquire().await.unwrap();
        let id = storage::jobs::enqueue(&mut conn, &job).await.unwrap();
        platform.run_jobs().await;
        let answer = outcome_of(&platform, id).await;
        assert_eq!(
            (&answer["promoted"], &answer["verdict"]["gate"]),
            (&json!(promoted), &json!("late")),
            "{answer}"
        );
        // as if its worker had been killed between the decision and the end of the job
        let again = "update jobs set state = 'queued', attempts = 0, outcome = null, finished_at = null where job_id = $1";
        sqlx::query(again).bind(id.0).execute(&mut *conn).await.unwrap();
        platform.run_jobs().await;
        let told = outcome_of(&platform, id).await;
        assert_eq!(told, answer);
    }
    let (_, history) = platform.call("GET", "/v1/models/late-arrival/history", None).await;
    let outcomes: Vec<&str> =
        history["history"].as_array().unwrap().iter().filter_map(|entry| entry["outcome"].as_str()).collect();
    assert_eq!(outcomes, ["refused", "moved"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn stepping_back_returns_to_what_served_before_and_twice_goes_two_back() {
    let platform = Platform::start().await;
    let mut versions = vec![];
    for _ in 0..3 {
        let made = version(&platform, None).await;
        platform.call("POST", MOVE, Some(json!({ "version": made }))).await;
        versions.push(made);
    }
    let back = || {
        platform.call(
            "POST",
            "/v1/models/late-arrival/aliases/champion/rollback",
            Some(json!({ "reason": "worse" })),
        )
    };
    for expected in [versions[1], versions[0]] {
        let (status, answer) = back().await;
        assert_eq!((status, &answer["version"]), (200, &json!(expected)), "{answer}");
        assert_eq!(champion(&platform).await, json!(expected));
    }
    let (status, problem) = back().await;
    assert_eq!((status, &problem["type"]), (409, &json!("/problems/nothing-before")), "{problem}");
    let (_, audit) = platform.call("GET", "/v1/models/late-arrival/history/verify", None).await;
    assert_eq!((&audit["intact"], &audit["rows"]), (&json!(true), &json!(5)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_from_a_version_that_no_longer_serves_is_refused() {
    let platform = Platform::start().await;
    let (one, two) = (version(&platform, None).await, version(&platform, None).await);
    platform.call("POST", MOVE, Some(json!({ "version": one }))).await;
    let body = json!({ "version": two, "from_version": two });
    let (status, problem) = platform.call("POST", MOVE, Some(body)).await;
    assert_eq!((status, &problem["type"]), (409, &json!("/problems/alias-busy")), "{problem}");
    let (status, _) = platform.call("POST", MOVE, Some(json!({ "version": two, "from_version": one }))).await;
    assert_eq!(status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_move_of_an_alias_is_told_that_one_is_under_way() {
    let platform = Platform::start().await;
    let one = version(&platform, None).await;
    let mut other = platform.context.db.begin().await.unwrap();
    assert!(storage::models::claim_alias(&mut other, "default", "late-arrival", "champion").await.unwrap());
    let (status, problem) = platform.call("POST", MOVE, Some(json!({ "version": one }))).await;
    assert_eq!((status, &problem["type"]), (409, &json!("/problems/alias-busy")), "{problem}");
    version(&platform, None).await; // versions are made meanwhile
    other.rollback().await.unwrap();
    assert_eq!(platform.call("POST", MOVE, Some(json!({ "version": one }))).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_asks_for_approval_takes_it_from_somebody_else_than_the_author() {
    let platform = Platform::start().await;
    guard(&platform, json!({ "approval": true })).await;
    let made = version(&platform, Some(&evaluation("2013-09-30", "2013-10-01", 0.7))).await;
    let approvals = format!("/v1/models/late-arrival/versions/{made}/approvals");
    let consent = json!({ "reason": "looks right" });
    let (status, _) = platform.call("POST", &approvals, Some(consent.clone())).await;
    assert_eq!(status, 422, "nobody in particular cannot approve");
    call_as(&platform, "worker", &approvals, consent.clone()).await; // who started the run
    let (status, problem) = platform.call("POST", MOVE, Some(json!({ "version": made }))).await;
    assert_eq!(status, 409);
    assert!(problem["detail"].as_str().unwrap().contains("nobody but its author (worker)"), "{problem}");
    call_as(&platform, "ben", &approvals, consent).await;
    let (status, said) = platform.call("POST", MOVE, Some(json!({ "version": made }))).await;
    assert_eq!(status, 200, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_whose_dataset_has_changed_since_is_refused() {
    let platform = Platform::start().await;
    guard(&platform, json!({ "same_schema": true })).await;
    let made = version(&platform, Some(&evaluation("2013-09-30", "2013-10-01", 0.7))).await;
    let (status, problem) = platform.call("POST", MOVE, Some(json!({ "version": made }))).await;
    assert_eq!(status, 409);
    assert!(problem["detail"].as_str().unwrap().contains("no longer defined"), "{problem}");
}

/// A training set of one part, both with files, and a version that learned from it.
async fn trained(platform: &Platform) -> (i32, String, PartId) {
    let write = |path: &str, contents: &str| {
        let file = platform.context.data_dir.join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, contents).unwrap();
        hex::encode(<sha2::Sha256 as sha2::Digest>::digest(contents))
    };
    let now = platform.context.clock.now();
    let set = TrainingSet {
        id: TrainingSetId::new(),
        dataset: "late".into(),
        spec_hash: "s".into(),
        max_seq: 7,
        as_of: now,
        path: "training-sets/set.arrow".into(),
        sha256: write("training-sets/set.arrow", "rows"),
        history_path: None,
        history_sha256: None,
        rows: 4,
        manifest: json!({ "leaked_values": 0 }),
        created_at: now,
    };
    let part = PartUsed {
        part_id: PartId::new(),
        view: "weather".into(),
        view_version: 1,
        path: "features/weather.parquet".into(),
        sha256: write("features/weather.parquet", "part"),
    };
    let mut conn = platform.context.db.acquire().await.unwrap();
    storage::training_sets::publish(&mut conn, "default", &set).await.unwrap();
    record_parts(&mut conn, "default", set.id, std::slice::from_ref(&part)).await.unwrap();
    let mut evidence = evaluation("2013-09-30", "2013-10-01", 0.7);
    evidence.training_set = set.id;
    evidence.predictions_sha256 = write(&evidence.predictions_path, "judged");
    let made = version(platform, Some(&evidence)).await;
    (made, part.sha256, part.part_id)
}

#[tokio::test(flavor = "multi_thread")]
async fn lineage_goes_down_to_the_parts_and_back_up_from_them() {
    let platform = Platform::start().await;
    let (made, hash, part) = trained(&platform).await;
    let behind = format!("/v1/models/late-arrival/versions/{made}");
    let (_, lineage) = platform.call("GET", &format!("{behind}/lineage"), None).await;
    assert_eq!(lineage["views"][0]["parts"][0]["sha256"], json!(hash), "{lineage}");
    let set = lineage["training_set"]["training_set_id"].as_str().unwrap().to_owned();
    for asked in [format!("sha256={hash}"), format!("part={part}"), format!("training_set={set}")] {
        let (_, uses) = platform.call("GET", &format!("/v1/lineage/uses?{asked}"), None).await;
        assert_eq!(uses["versions"][0]["version"], json!(made), "{asked}: {uses}");
    }
    let (_, picture) = platform.call("GET", &format!("{behind}/lineage.svg"), None).await;
    let picture = picture.as_str().unwrap().to_owned();
    assert!(picture.starts_with("<svg") && picture.contains("weather v1"), "{picture}");
    let (status, _) = platform.call("GET", "/v1/lineage/uses?sha256=xyz", None).await;
    assert_eq!(status, 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_trained_elsewhere_says_what_it_was_made_of_once() {
    let platform = Platform::start().await;
    let made = version(&platform, None).await;
    let path = format!("/v1/models/late-arrival/versions/{made}/lineage/inputs");
    let input = |hash: &str| json!({ "inputs": [{ "kind": "dataset", "name": "train.parquet", "sha256": hash, "details": { "rows": 10 } }] });
    let (one, other) = ("A".repeat(64), "b".repeat(64));
    let (status, lineage) = platform.call("POST", &path, Some(input(&one))).await;
    assert_eq!((status, &lineage["inputs"][0]["sha256"]), (200, &json!("a".repeat(64))), "{lineage}");
    assert_eq!(platform.call("POST", &path, Some(input(&one))).await.0, 200, "saying it again is no lie");
    assert_eq!(platform.call("POST", &path, Some(input(&other))).await.0, 409);
    let (_, uses) = platform.call("GET", &format!("/v1/lineage/uses?sha256={one}"), None).await;
    assert_eq!(uses["versions"][0]["by"], "dataset", "{uses}");
}

#[tokio::test(flavor = "multi_thread")]
async fn verifying_notices_what_changed_and_what_is_gone() {
    let platform = Platform::start().await;
    let (made, ..) = trained(&platform).await;
    upload(&platform, made, "model.json", "weights").await;
    let path = format!("/v1/models/late-arrival/versions/{made}/verify");
    let (_, report) = platform.call("POST", &path, None).await;
    assert_eq!(report["intact"], true, "{report}");
    assert_eq!(report["files"].as_array().unwrap().len(), 4, "{report}");
    upload(&platform, made, "model.json", "other weights").await;
    upload(&platform, made, "extra.bin", "smuggled in").await;
    let data = &platform.context.data_dir;
    std::fs::write(data.join("training-sets/set.arrow"), "other rows").unwrap();
    std::fs::remove_file(data.join("features/weather.parquet")).unwrap();
    let (_, report) = platform.call("POST", &path, None).await;
    let state = |path: &str| {
        let files = report["files"].as_array().unwrap();
        files.iter().find(|file| file["path"] == path).unwrap()["state"].clone()
    };
    assert_eq!(report["intact"], false);
    assert_eq!((state("model.json"), state("extra.bin")), (json!("altered"), json!("added")));
    assert_eq!(state("training-sets/set.arrow"), json!("altered"));
    assert_eq!(state("features/weather.parquet"), json!("retired"), "no manifest lists it any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_is_written_from_evidence_and_then_stays() {
    let platform = Platform::start().await;
    let (made, ..) = trained(&platform).await;
    let path = format!("/v1/models/late-arrival/versions/{made}/card");
    let (status, card) = platform.call("GET", &format!("{path}?format=markdown"), None).await;
    let card = card.as_str().unwrap().to_owned();
    assert_eq!(status, 200);
    for said in
        ["# late-arrival version 1", "0.7000 \\[0.6900, 0.7100\\]", "Values from the future", "weather"]
    {
        assert!(card.contains(said), "{said}: {card}");
    }
    let describe = json!({ "name": "late-arrival", "version": "1", "description": "the best ever" });
    platform.call("PATCH", "/api/2.0/mlflow/model-versions/update", Some(describe)).await;
    let (_, again) = platform.call("GET", &format!("{path}?format=markdown"), None).await;
    assert_eq!(again, json!(card));
    let (_, page) = platform.call("GET", &path, None).await;
    assert!(page.as_str().unwrap().starts_with("<!doctype html>"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_is_verified_by_somebody_elses_program() {
    let platform = Platform::start().await;
    let made = version(&platform, None).await;
    let behind = format!("/v1/models/late-arrival/versions/{made}");
    let (status, problem) = platform.call("POST", &format!("{behind}/signature"), None).await;
    assert_eq!(status, 422, "there are no files: {problem}");
    upload(&platform, made, "MLmodel", "flavors: {}\n").await;
    upload(&platform, made, "data/weights.bin", "0123").await;
    let (status, signed) = call_as(&platform, "ana", &format!("{behind}/signature"), json!({})).await;
    assert_eq!((status, &signed["signed_by"]), (201, &json!("ana")), "{signed}");
    let (_, bundle) = platform.call("GET", &format!("{behind}/signature"), None).await;
    let (_, key) = platform.call("GET", "/v1/signing-key", None).await;

    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    std::fs::create_dir_all(model.join("data")).unwrap();
    std::fs::write(model.join("MLmodel"), "flavors: {}\n").unwrap();
    std::fs::write(model.join("data/weights.bin"), "0123").unwrap();
    std::fs::write(folder.path().join("model.sig"), bundle.to_string()).unwrap();
    std::fs::write(folder.path().join("key.pem"), key.as_str().unwrap()).unwrap();
    assert!(verified(folder.path()), "the files are what was signed");
    std::fs::write(model.join("data/weights.bin"), "0124").unwrap();
    assert!(!verified(folder.path()), "a byte is another");
}

/// What PyPI's `model-signing` says of `model`, `model.sig` and `key.pem` in a folder.
fn verified(folder: &Path) -> bool {
    let program = "import sys; from model_signing.verifying import Config; \
                   Config().use_elliptic_key_verifier(public_key=sys.argv[3]).verify(sys.argv[1], sys.argv[2])";
    let [model, signature, key] = ["model", "model.sig", "key.pem"].map(|name| folder.join(name));
    let run =
        Command::new(python()).arg("-c").arg(program).args([&model, &signature, &key]).output().unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(!said.contains("ModuleNotFoundError"), "{said}");
    run.status.success()
}
