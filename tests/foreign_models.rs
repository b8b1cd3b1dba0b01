//! A model trained elsewhere, on a training set of ours: the server judges what it foretold, and the gate opens or stays shut.

use axum::body::Body;
use axum::http::Request;
use chrono::{DateTime, TimeDelta, Utc};
use frames::files::write_arrow;
use frames::{Frame, Values};
use journeys::{NOW, Platform};
use serde_json::{Value, json};

const DEFINITIONS: &str = r#"
[[entity]]
name = "order"
keys = ["order"]

[[source]]
name = "orders"
columns = { order = "integer", at = "time", known = "time", returned = "number" }
event_time = "at"
known_time = "known"

[[source]]
name = "quotes"
columns = { order = "integer", at = "time", known = "time", risk = "number" }
event_time = "at"
known_time = "known"

[[feature_view]]
name = "orders"
entity = "order"
source = "orders"
log = ["returned"]

[[feature_view]]
name = "quotes"
entity = "order"
source = "quotes"
features = ["risk"]

[[dataset]]
name = "returns"
spine = { view = "orders" }
horizon = "1h"
label = "returned > 0"
views = ["quotes"]
split = { train_until = "2013-10-20T00:00:00Z", validation_until = "2013-10-25T00:00:00Z" }

[[gate]]
name = "returns"
model = "returns"
elsewhere = true
min_auc = 0.6
champion_margin = 0.01
"#;

/// The newest outcome that the models of these tests claim to have seen.
pub(crate) const THROUGH: &str = "2013-10-25T00:00:00Z";

fn hours_ago(hours: i64) -> i64 {
    let now: DateTime<Utc> = NOW.parse().unwrap();
    (now - TimeDelta::hours(hours)).timestamp_micros()
}

/// A number in 0..1 for an order, scattered.
fn scattered(order: i64, salt: i64) -> f64 {
    ((order * 7_919 + salt * 104_729) % 1_009) as f64 / 1_009.0
}

fn rows(of: &str, value: impl Fn(i64) -> f64, lead: i64) -> Frame {
    let orders: Vec<i64> = (0..600).collect();
    let times = || Values::Time(orders.iter().map(|order| hours_ago(2 + order + lead)).collect());
    let columns = vec![
        ("order".into(), Values::Integer(orders.clone())),
        ("at".into(), times()),
        ("known".into(), times()),
        (of.into(), Values::Number(orders.iter().map(|order| value(*order)).collect())),
    ];
    Frame::new(orders.len(), columns)
}

/// A platform with one training set, its id, and the rows of its last window.
pub(crate) async fn platform() -> (Platform, String, Frame) {
    let platform = Platform::start().await;
    platform.apply(DEFINITIONS).await;
    let returned = |order| f64::from(scattered(order, 2) < scattered(order, 1));
    for (source, rows) in
        [("orders", rows("returned", returned, 0)), ("quotes", rows("risk", |order| scattered(order, 1), 5))]
    {
        let (status, answer) = platform.push(source, &rows, None).await;
        assert_eq!(status, 200, "{answer}");
    }
    let asked = json!({ "dataset": "returns", "as_of": NOW });
    let (status, promised) = platform.call("POST", "/v1/training-sets", Some(asked)).await;
    assert_eq!(status, 202, "{promised}");
    platform.run_jobs().await;
    let (_, job) =
        platform.call("GET", &format!("/v1/jobs/{}", promised["job"].as_str().unwrap()), None).await;
    let id = job["outcome"]["training_set"].as_str().expect("the set was built").to_owned();
    let exported = format!("/v1/training-sets/{id}/rows");
    let file = platform.folder.path().join("exported.arrow");
    let bytes = platform.bytes(Request::get(exported).body(Body::empty()).unwrap()).await;
    std::fs::write(&file, bytes).unwrap();
    let all = frames::files::read_arrow(&file).unwrap();
    let from = THROUGH.parse::<DateTime<Utc>>().unwrap().timestamp_micros();
    let cutoffs = all.times("__cutoff").unwrap().to_vec();
    let last = all.filter(|row| cutoffs[row] >= from);
    assert!(last.rows() > 100, "{} rows", last.rows());
    (platform, id, last)
}

/// Registers a version as MLflow's client does, with files elsewhere.
pub(crate) async fn version(platform: &Platform) -> i32 {
    let create = "/api/2.0/mlflow/registered-models/create";
    platform.call("POST", create, Some(json!({ "name": "returns" }))).await;
    let body = json!({ "name": "returns", "source": "s3://elsewhere/model" });
    let (status, made) = platform.call("POST", "/api/2.0/mlflow/model-versions/create", Some(body)).await;
    assert_eq!(status, 200, "{made}");
    made["model_version"]["version"].as_str().unwrap().parse().unwrap()
}

/// What a model foretold of these rows, as columns of JSON.
pub(crate) fn foretold(rows: &Frame, probability: impl Fn(usize) -> f64) -> Value {
    let names = rows.column("__row").unwrap();
    let at = |micros: &i64| DateTime::from_timestamp_micros(*micros).unwrap().to_rfc3339();
    json!({
        "rows": (0..rows.rows()).map(|row| names.text_at(row).unwrap()).collect::<Vec<_>>(),
        "cutoffs": rows.times("__cutoff").unwrap().iter().map(at).collect::<Vec<_>>(),
        "probabilities": (0..rows.rows()).map(probability).collect::<Vec<_>>(),
    })
}

pub(crate) fn evidence(version: i32, set: &str, through: &str) -> String {
    format!("/v1/models/returns/versions/{version}/evidence?training_set={set}&trained_through={through}")
}

pub(crate) async fn promote(platform: &Platform, version: i32) -> (u16, Value) {
    let body = json!({ "version": version });
    platform.call("POST", "/v1/models/returns/aliases/champion", Some(body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_opens_for_a_model_trained_elsewhere_once_the_server_has_judged_what_it_foretold() {
    let (platform, set, last) = platform().await;
    let risk = last.numbers("quotes__risk").unwrap().to_vec();
    let good = version(&platform).await;
    let (status, refused) = promote(&platform, good).await;
    assert_eq!((status, &refused["type"]), (409, &json!("/problems/gate-refused")), "{refused}");
    let body = foretold(&last, |row| risk[row]);
    let (status, found) = platform.call("POST", &evidence(good, &set, THROUGH), Some(body.clone())).await;
    assert_eq!(status, 201, "{found}");
    let overall = &found["evaluation"]["overall"];
    assert_eq!(overall["rows"], last.rows());
    assert!(overall["auc"]["value"].as_f64().unwrap() > 0.75, "{overall}");
    assert_eq!(promote(&platform, good).await.0, 200);
    let (status, again) = platform.call("POST", &evidence(good, &set, THROUGH), Some(body)).await;
    assert_eq!(status, 409, "evidence is never rewritten: {again}");

    let weak = version(&platform).await;
    let body = foretold(&last, |row| 0.3 * risk[row] + 0.7 * scattered(row as i64, 3));
    assert_eq!(platform.call("POST", &evidence(weak, &set, THROUGH), Some(body)).await.0, 201);
    let (status, refused) = promote(&platform, weak).await;
    assert_eq!(status, 409);
    assert!(refused.to_string().contains("AUC differs from champion version 1 by -0."), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_brings_rows_or_an_order_of_time_of_their_own() {
    let (platform, set, last) = platform().await;
    let made = version(&platform).await;
    let ask = async |set: &str, through: &str, body: Value| {
        platform.call("POST", &evidence(made, set, through), Some(body)).await
    };
    let mut stranger = foretold(&last, |_| 0.5);
    stranger["rows"][3] = json!("4711");
    let (status, said) = ask(&set, THROUGH, stranger).await;
    assert_eq!(status, 422);
    assert!(said["detail"].as_str().unwrap().contains("no outcome of `4711`"), "{said}");
    assert_eq!(ask(&set, THROUGH, foretold(&last, |_| 1.5)).await.0, 422, "no probability");
    assert_eq!(ask(&set, THROUGH, json!({ "rows": [], "cutoffs": [], "probabilities": [] })).await.0, 422);
    assert_eq!(ask(&uuid::Uuid::new_v4().to_string(), THROUGH, foretold(&last, |_| 0.5)).await.0, 404);
    let risk = last.numbers("quotes__risk").unwrap().to_vec();
    let (status, _) = ask(&set, "2013-10-30T00:00:00Z", foretold(&last, |row| risk[row])).await;
    assert_eq!(status, 201);
    let (status, refused) = promote(&platform, made).await;
    assert_eq!(status, 409);
    let failed =
        refused["verdict"]["checks"].as_array().unwrap().iter().find(|check| check["passed"] == false);
    assert_eq!(failed.unwrap()["check"], "temporal-order", "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn its_lineage_goes_down_to_the_parts_and_every_file_behind_it_is_verified() {
    let (platform, set, last) = platform().await;
    let made = version(&platform).await;
    let rows = last.select(&["__row", "__cutoff"]).unwrap();
    let mut rows = rows;
    rows.set("probability", Values::Number(last.numbers("quotes__risk").unwrap().to_vec()));
    let stream = frames::wire::write_stream(&rows).unwrap();
    let request = Request::post(evidence(made, &set, THROUGH))
        .header("content-type", "application/vnd.apache.arrow.stream")
        .body(Body::from(stream));
    let (status, found) = platform.send(request.unwrap()).await;
    assert_eq!(status, 201, "{found}");

    let behind = format!("/v1/models/returns/versions/{made}");
    let (_, lineage) = platform.call("GET", &format!("{behind}/lineage"), None).await;
    let views: Vec<&str> =
        lineage["views"].as_array().unwrap().iter().map(|view| view["view"].as_str().unwrap()).collect();
    assert_eq!(views, ["orders", "quotes"], "{lineage}");
    let (_, uses) = platform.call("GET", &format!("/v1/lineage/uses?training_set={set}"), None).await;
    assert_eq!(uses["versions"][0]["version"], made, "{uses}");

    let verify = async || platform.call("POST", &format!("{behind}/verify"), None).await.1;
    let report = verify().await;
    assert_eq!(report["intact"], true, "{report}");
    let file = found["evaluation"]["predictions_path"].as_str().unwrap();
    write_arrow(&platform.folder.path().join(file), &rows).unwrap();
    let report = verify().await;
    let altered = report["files"].as_array().unwrap().iter().find(|file| file["state"] == "altered");
    assert_eq!(altered.unwrap()["what"], "evaluation", "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_trained_elsewhere_has_no_reference_and_no_gpt_to_ask_and_says_so() {
    let (platform, set, last) = platform().await;
    let risk = last.numbers("quotes__risk").unwrap().to_vec();
    let made = version(&platform).await;
    for judged in [false, true] {
        if judged {
            let body = foretold(&last, |row| risk[row]);
            assert_eq!(platform.call("POST", &evidence(made, &set, THROUGH), Some(body)).await.0, 201);
            assert_eq!(promote(&platform, made).await.0, 200);
        }
        for path in [format!("/v1/references/returns/{made}"), format!("/v1/profiles/returns/{made}")] {
            let (status, said) = platform.call("GET", &path, None).await;
            assert_eq!((status, &said["type"]), (422, &json!("/problems/no-reference")), "{path}: {said}");
        }
        let history = json!([{ "event_time": NOW, "kind": "A" }]);
        let asked =
            json!({ "model": "returns", "version": made, "rows": [{ "order": 1, "history": history }] });
        for path in ["/v1/embeddings", "/v1/predict"] {
            let (status, said) = platform.call("POST", path, Some(asked.clone())).await;
            assert!((400..500).contains(&status) && said["detail"].is_string(), "{path}: {status} {said}");
        }
    }
    let monitor = "[[monitor]]\nname = \"returns\"\nmodel = \"returns\"\ncolumns = [\"gpt.surprise\"]\n";
    platform.apply(&format!("{DEFINITIONS}{monitor}")).await;
    let (status, run) = platform.call("POST", "/v1/monitors/returns/run", Some(json!({}))).await;
    assert_eq!(status, 202, "{run}");
    platform.run_jobs().await;
    let (_, job) = platform.call("GET", &format!("/v1/jobs/{}", run["job_id"].as_str().unwrap()), None).await;
    assert_eq!((&job["state"], &job["outcome"]["windows"]), (&json!("succeeded"), &json!(0)), "{job}");
}
