//! A platform whose model is watched, days of served predictions, and a receiver: what the monitor's tests share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use chrono::{DateTime, TimeDelta, Utc};
use domain::definitions::parse_file;
use domain::evaluation::{CalibratorChoice, Evaluation, Scores};
use domain::ids::{PredictionId, TrainingSetId};
use domain::{Cutoff, LabelTime};
use frames::{Frame, Values};
use journeys::Platform;
use serde_json::{Value, json};
use storage::predictions::{NewLog, Prediction};
use tokio::sync::Mutex;

pub(crate) const MODEL: &str = "flights";
pub(crate) const ROWS: usize = 400;

pub(crate) fn day(day: i64) -> DateTime<Utc> {
    "2013-11-01T00:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::days(day)
}

/// Numbers in [0, 1) that look random and are the same every time.
pub(crate) fn scattered(row: usize) -> f64 {
    (row as f64 * 0.618_033_988_749_895).fract()
}

/// Rows with distances from `shift` up, carriers in fixed shares, and probabilities around a half.
pub(crate) fn inputs(rows: usize, shift: f64) -> Vec<(String, Values)> {
    let carriers = (0..rows).map(|row| Some(if row % 3 == 0 { "AA" } else { "UA" }));
    vec![
        ("distance".to_owned(), Values::Number((0..rows).map(|row| shift + scattered(row)).collect())),
        ("carrier".to_owned(), Values::text(carriers)),
        (
            "probability".to_owned(),
            Values::Number((0..rows).map(|row| 0.4 + 0.2 * scattered(row + 7)).collect()),
        ),
    ]
}

pub(crate) fn evaluation(reference_path: &str) -> Evaluation {
    let scores = Scores {
        rows: 1_000,
        base_rate: 0.5,
        auc: None,
        average_precision: None,
        log_loss: 0.69,
        brier: 0.25,
        ece: 0.01,
        ece_null_high: 0.02,
        slope: None,
        intercept: None,
    };
    let calibrator = CalibratorChoice {
        kind: "identity".to_owned(),
        kept: false,
        log_loss_without: 0.69,
        log_loss_with: 0.69,
    };
    Evaluation {
        training_set: TrainingSetId::new(),
        dataset: "departures".to_owned(),
        schema_fingerprint: "s".to_owned(),
        trained_through: LabelTime(day(-40)),
        evaluated_from: Cutoff(day(-30)),
        evaluated_through: Cutoff(day(-1)),
        overall: scores,
        by_month: std::collections::BTreeMap::new(),
        reliability: Vec::new(),
        calibrator,
        predictions_path: "none".to_owned(),
        predictions_sha256: "none".to_owned(),
        reference_path: reference_path.to_owned(),
        reference_rate: 0.5,
    }
}

/// A platform whose model `flights` has a champion with a reference, watched by a monitor that tells `webhook`.
pub(crate) async fn watched_platform(webhook: &str) -> Platform {
    let platform = Platform::telling_this_machine().await;
    monitor::start(&platform.context).unwrap();
    declare(&platform, webhook).await;
    let run = register_champion(&platform).await;
    let reference = platform.context.data_dir.join("reference.arrow");
    frames::files::write_arrow(&reference, &Frame::new(4_000, inputs(4_000, 0.0))).unwrap();
    let mut conn = platform.context.db.acquire().await.unwrap();
    let evidence = evaluation("reference.arrow");
    storage::model_evidence::save(&mut conn, "default", &run, "boosting", &evidence, day(0)).await.unwrap();
    platform
}

pub(crate) async fn declare(platform: &Platform, webhook: &str) {
    let text = format!(
        r#"
        [[channel]]
        name = "people"
        webhook = "{webhook}"
        [[monitor]]
        name = "flights"
        model = "{MODEL}"
        recovery_windows = 2
        channels = ["people"]
        on_incident = {{ retrain = "late", cool_down = "14d" }}
        [[model]]
        name = "late"
        registered_model = "{MODEL}"
        kind = "boosting"
        dataset = "departures"
        "#
    );
    store(platform, &text).await;
}

/// Stores definitions as they are, whatever else they name.
pub(crate) async fn store(platform: &Platform, text: &str) {
    let mut conn = platform.context.db.acquire().await.unwrap();
    for located in parse_file("test.toml", text).unwrap() {
        let object = located.object;
        let (kind, name) = (object.kind(), object.name());
        storage::definitions::save(&mut conn, "default", kind, name, &object.body(), day(0)).await.unwrap();
    }
}

/// Registers version 1 as MLflow's client does, and answers its run.
pub(crate) async fn register_champion(platform: &Platform) -> String {
    let api = |path: &str| format!("/api/2.0/mlflow/{path}");
    let post = async |path: &str, body: Value| {
        let (status, answer) = platform.call("POST", &api(path), Some(body)).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    };
    let experiment = post("experiments/create", json!({ "name": "monitor" })).await;
    let run = post("runs/create", json!({ "experiment_id": experiment["experiment_id"] })).await;
    let run_id = run["run"]["info"]["run_id"].as_str().unwrap().to_owned();
    let artifacts = run["run"]["info"]["artifact_uri"].as_str().unwrap().to_owned();
    post("registered-models/create", json!({ "name": MODEL })).await;
    let source = format!("{artifacts}/model");
    post("model-versions/create", json!({ "name": MODEL, "source": source, "run_id": run_id })).await;
    post("registered-models/alias", json!({ "name": MODEL, "alias": "champion", "version": "1" })).await;
    run_id
}

/// Serves a day of predictions whose distances are shifted, and whose probabilities are too if `scores` says so.
pub(crate) async fn serve(platform: &Platform, which: i64, shift: f64, scores: f64) -> Vec<PredictionId> {
    serve_as(platform, &which.to_string(), which, shift, scores).await
}

/// The same in a log of that name.
pub(crate) async fn serve_as(
    platform: &Platform,
    name: &str,
    which: i64,
    shift: f64,
    scores: f64,
) -> Vec<PredictionId> {
    let ids: Vec<PredictionId> = (0..ROWS).map(|_| PredictionId::new()).collect();
    let cutoffs: Vec<DateTime<Utc>> =
        (0..ROWS).map(|row| day(which) + TimeDelta::minutes(3 * row as i64)).collect();
    let mut columns = inputs(ROWS, shift);
    let probabilities: Vec<f64> = (0..ROWS).map(|row| 0.4 + scores + 0.2 * scattered(row + 7)).collect();
    columns[2].1 = Values::Number(probabilities.clone());
    columns.push(("prediction_id".to_owned(), Values::text(ids.iter().map(|id| Some(id.to_string())))));
    columns
        .push(("cutoff".to_owned(), Values::Time(cutoffs.iter().map(DateTime::timestamp_micros).collect())));
    let path = format!("predictions/{MODEL}/{name}.arrow");
    let written =
        frames::files::write_arrow(&platform.context.data_dir.join(&path), &Frame::new(ROWS, columns))
            .unwrap();
    let prediction = |row: usize| Prediction {
        id: ids[row],
        cutoff: Cutoff(cutoffs[row]),
        probability: probabilities[row],
    };
    let log = NewLog {
        project: "default".to_owned(),
        registered_model: MODEL.to_owned(),
        version: 1,
        path,
        sha256: written.sha256,
        predictions: (0..ROWS).map(prediction).collect(),
    };
    let mut tx = platform.context.db.begin().await.unwrap();
    storage::predictions::publish(&mut tx, &log, day(which)).await.unwrap();
    tx.commit().await.unwrap();
    ids
}

/// Waits until no message could be leaving.
pub(crate) async fn delivered(platform: &Platform) {
    let mut pause = tokio::time::interval(Duration::from_millis(20));
    while platform.messages_leaving().await > 0 {
        pause.tick().await;
    }
}

/// Waits until no job of that kind is queued or running.
pub(crate) async fn settle(platform: &Platform, kind: &str) {
    let mut pause = tokio::time::interval(Duration::from_millis(20));
    loop {
        pause.tick().await;
        let mut conn = platform.context.db.acquire().await.unwrap();
        let counts = storage::jobs::counts(&mut conn).await.unwrap();
        let live = |state: &str| matches!(state, "queued" | "running");
        if !counts.iter().any(|(of, state, _)| of == kind && live(state)) {
            return;
        }
    }
}

/// Lets a day of the monitor pass.
pub(crate) async fn judge(platform: &Platform, which: i64) {
    platform.clock.advance_to(day(which + 1));
    let (status, answer) = platform.call("POST", "/v1/monitors/flights/run", Some(json!({}))).await;
    assert_eq!(status, 202, "{answer}");
    settle(platform, "run-monitor").await;
}

pub(crate) async fn findings(platform: &Platform, which: i64, measure: &str, column: &str) -> Vec<Value> {
    let span = |day: DateTime<Utc>| day.format("%Y-%m-%dT%H:%M:%SZ").to_string();
    let path =
        format!("/v1/monitors/flights/windows?from={}&until={}", span(day(which)), span(day(which + 1)));
    let (status, rows) = platform.call("GET", &path, None).await;
    assert_eq!(status, 200, "{rows}");
    let rows = rows.as_array().unwrap().iter();
    rows.filter(|row| row["measure"] == measure && row["column"] == column).cloned().collect()
}

/// A receiver that answers 503 to its first `refusals` messages and keeps the others.
#[derive(Clone, Default)]
pub(crate) struct Receiver {
    pub(crate) refusals: Arc<AtomicUsize>,
    pub(crate) received: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Receiver {
    pub(crate) async fn listen(refusals: usize) -> (Self, String) {
        let receiver = Self { refusals: Arc::new(AtomicUsize::new(refusals)), ..Self::default() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/alerts", listener.local_addr().unwrap());
        let routes =
            axum::Router::new().route("/alerts", axum::routing::post(receive)).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (receiver, address)
    }

    /// What arrived once nothing waits any more.
    pub(crate) async fn events(&self, platform: &Platform) -> Vec<String> {
        delivered(platform).await;
        self.received
            .lock()
            .await
            .iter()
            .map(|(_, body)| body["event"].as_str().unwrap().to_owned())
            .collect()
    }
}

async fn receive(
    State(receiver): State<Receiver>,
    headers: HeaderMap,
    body: axum::Json<Value>,
) -> StatusCode {
    let refuse =
        receiver.refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
    if refuse.is_ok() {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    let key = headers["idempotency-key"].to_str().unwrap().to_owned();
    receiver.received.lock().await.push((key, body.0));
    StatusCode::OK
}
