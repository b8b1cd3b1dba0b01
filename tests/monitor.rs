//! The monitor, over HTTP and its jobs: labels, windows with and without drift, one incident from opening to resolution, and
//! receivers that are dead for a while.

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

const MODEL: &str = "flights";
const ROWS: usize = 400;

fn day(day: i64) -> DateTime<Utc> {
    "2013-11-01T00:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::days(day)
}

/// Numbers in [0, 1) that look random and are the same every time.
fn scattered(row: usize) -> f64 {
    (row as f64 * 0.618_033_988_749_895).fract()
}

/// Rows with distances from `shift` up, carriers in fixed shares, and probabilities around a half.
fn inputs(rows: usize, shift: f64) -> Vec<(String, Values)> {
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

fn evaluation(reference_path: &str) -> Evaluation {
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
async fn watched_platform(webhook: &str) -> Platform {
    let platform = Platform::start().await;
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

async fn declare(platform: &Platform, webhook: &str) {
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
async fn store(platform: &Platform, text: &str) {
    let mut conn = platform.context.db.acquire().await.unwrap();
    for located in parse_file("test.toml", text).unwrap() {
        let object = located.object;
        let (kind, name) = (object.kind(), object.name());
        storage::definitions::save(&mut conn, "default", kind, name, &object.body(), day(0)).await.unwrap();
    }
}

/// Registers version 1 as MLflow's client does, and answers its run.
async fn register_champion(platform: &Platform) -> String {
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
async fn serve(platform: &Platform, which: i64, shift: f64, scores: f64) -> Vec<PredictionId> {
    let ids: Vec<PredictionId> = (0..ROWS).map(|_| PredictionId::new()).collect();
    let cutoffs: Vec<DateTime<Utc>> =
        (0..ROWS).map(|row| day(which) + TimeDelta::minutes(3 * row as i64)).collect();
    let mut columns = inputs(ROWS, shift);
    let probabilities: Vec<f64> = (0..ROWS).map(|row| 0.4 + scores + 0.2 * scattered(row + 7)).collect();
    columns[2].1 = Values::Number(probabilities.clone());
    columns.push(("prediction_id".to_owned(), Values::text(ids.iter().map(|id| Some(id.to_string())))));
    columns
        .push(("cutoff".to_owned(), Values::Time(cutoffs.iter().map(DateTime::timestamp_micros).collect())));
    let path = format!("predictions/{MODEL}/{which}.arrow");
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
async fn delivered(platform: &Platform) {
    let mut pause = tokio::time::interval(Duration::from_millis(20));
    while platform.messages_leaving().await > 0 {
        pause.tick().await;
    }
}

/// Waits until no job of that kind is queued or running.
async fn settle(platform: &Platform, kind: &str) {
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
async fn judge(platform: &Platform, which: i64) {
    platform.clock.advance_to(day(which + 1));
    let (status, answer) = platform.call("POST", "/v1/monitors/flights/run", Some(json!({}))).await;
    assert_eq!(status, 202, "{answer}");
    settle(platform, "run-monitor").await;
}

async fn findings(platform: &Platform, which: i64, measure: &str, column: &str) -> Vec<Value> {
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
struct Receiver {
    refusals: Arc<AtomicUsize>,
    received: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Receiver {
    async fn listen(refusals: usize) -> (Self, String) {
        let receiver = Self { refusals: Arc::new(AtomicUsize::new(refusals)), ..Self::default() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/alerts", listener.local_addr().unwrap());
        let routes =
            axum::Router::new().route("/alerts", axum::routing::post(receive)).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (receiver, address)
    }

    /// What arrived once nothing waits any more.
    async fn events(&self, platform: &Platform) -> Vec<String> {
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

#[tokio::test]
async fn labels_are_accepted_once_repeated_quietly_and_rejected_with_a_reason() {
    let platform = watched_platform("http://127.0.0.1:9/").await;
    let ids = serve(&platform, 0, 0.0, 0.0).await;
    let label = |id: &str, outcome: bool, time: DateTime<Utc>| json!({ "prediction_id": id, "outcome": outcome, "label_time": time });
    let (first, second, stranger) = (ids[0].to_string(), ids[1].to_string(), PredictionId::new().to_string());
    let (status, answer) =
        platform.call("POST", "/v1/labels", Some(json!([label(&first, true, day(1))]))).await;
    assert_eq!((status, answer), (200, json!({ "accepted": 1, "repeated": 0, "rejected": [] })));

    let batch = json!([
        label(&first, true, day(1)),
        label(&first, false, day(1)),
        label(&second, true, day(-1)),
        label(&stranger, true, day(1)),
        label("seven", true, day(1)),
    ]);
    let (status, answer) = platform.call("POST", "/v1/labels", Some(batch)).await;
    assert_eq!((status, &answer["accepted"], &answer["repeated"]), (200, &json!(0), &json!(1)), "{answer}");
    let why = |id: &str| {
        let rejected = answer["rejected"].as_array().unwrap();
        rejected.iter().find(|row| row["prediction_id"] == id).unwrap()["why"].as_str().unwrap().to_owned()
    };
    assert!(why(&first).contains("other outcome"), "{}", why(&first));
    assert!(why(&second).contains("before the prediction's cutoff"), "{}", why(&second));
    assert!(why(&stranger).contains("no prediction of that id"), "{}", why(&stranger));
    assert!(why("seven").contains("not a prediction id"), "{}", why("seven"));
}

#[tokio::test]
async fn a_moved_column_is_drift_with_an_interval_and_one_that_stayed_is_ok() {
    let platform = watched_platform("http://127.0.0.1:9/").await;
    serve(&platform, 0, 0.0, 0.0).await;
    judge(&platform, 0).await;
    serve(&platform, 1, 0.5, 0.0).await;
    judge(&platform, 1).await;

    assert_eq!(findings(&platform, 0, "ks_distance", "distance").await[0]["verdict"], "ok");
    let moved = &findings(&platform, 1, "ks_distance", "distance").await[0];
    assert_eq!((&moved["verdict"], &moved["rows"]), (&json!("drift"), &json!(ROWS)), "{moved}");
    let (low, high) = (moved["low"].as_f64().unwrap(), moved["high"].as_f64().unwrap());
    assert!(low > 0.1 && low < 0.5 && high > 0.5, "{moved}");
    assert_eq!(findings(&platform, 1, "total_variation", "carrier").await[0]["verdict"], "ok");
}

#[tokio::test]
async fn an_incident_opens_once_is_told_once_and_resolves_after_its_recovery_windows() {
    let (receiver, webhook) = Receiver::listen(0).await;
    let platform = watched_platform(&webhook).await;
    for which in 0..4 {
        serve(&platform, which, 0.5, 0.3).await;
        judge(&platform, which).await;
    }
    let (_, open) = platform.call("GET", "/v1/incidents?state=firing", None).await;
    assert_eq!(open.as_array().unwrap().len(), 1, "{open}");
    assert_eq!(
        (&open[0]["cause"], &open[0]["severity"]),
        (&json!("input-drift"), &json!("ticket")),
        "{open}"
    );
    assert_eq!(receiver.events(&platform).await, ["opened"]);

    let id = open[0]["id"].as_str().unwrap();
    let acknowledge = format!("/v1/incidents/{id}/acknowledge");
    let said = json!({ "by": "ada", "note": "looking" });
    let (status, taken) = platform.call("POST", &acknowledge, Some(said.clone())).await;
    assert_eq!((status, &taken["state"]), (200, &json!("acknowledged")), "{taken}");

    for which in 4..6 {
        serve(&platform, which, 0.0, 0.0).await;
        judge(&platform, which).await;
    }
    let (_, whole) = platform.call("GET", &format!("/v1/incidents/{id}"), None).await;
    assert_eq!(whole["state"], "resolved", "{whole}");
    let history: Vec<&str> =
        whole["history"].as_array().unwrap().iter().map(|row| row["change"].as_str().unwrap()).collect();
    assert_eq!(history, ["opened", "acknowledged", "recovering", "resolved"]);
    assert_eq!(receiver.events(&platform).await, ["opened", "resolved"]);
    let (status, _) = platform.call("POST", &acknowledge, Some(said)).await;
    assert_eq!(status, 409);
}

#[tokio::test]
async fn a_receiver_that_is_dead_for_a_while_loses_nothing() {
    let (receiver, webhook) = Receiver::listen(2).await;
    let platform = watched_platform(&webhook).await;
    for which in 0..2 {
        serve(&platform, which, 0.5, 0.3).await;
        judge(&platform, which).await;
    }
    for minutes in 1.. {
        platform.clock.advance_to(day(2) + TimeDelta::minutes(minutes)); // past the next try
        tokio::time::sleep(Duration::from_millis(50)).await;
        if !receiver.received.lock().await.is_empty() {
            break;
        }
    }
    delivered(&platform).await;
    let received = receiver.received.lock().await.clone();
    assert_eq!(received.len(), 1, "{received:?}");
    let (_, open) = platform.call("GET", "/v1/incidents", None).await;
    let (_, whole) =
        platform.call("GET", &format!("/v1/incidents/{}", open[0]["id"].as_str().unwrap()), None).await;
    let message = &whole["notifications"][0];
    assert_eq!((&message["state"], &message["attempts"]), (&json!("delivered"), &json!(3)), "{message}");
    assert_eq!(json!(received[0].0), message["id"]);
}

#[tokio::test]
async fn a_silenced_incident_is_kept_and_told_only_when_the_silence_is_over() {
    let (receiver, webhook) = Receiver::listen(0).await;
    let platform = watched_platform(&webhook).await;
    let asked = json!({
        "matchers": [{ "label": "model", "value": "fli*" }], "ends_at": day(3) + TimeDelta::hours(1), "by": "ada",
    });
    let (status, silence) = platform.call("POST", "/v1/silences", Some(asked)).await;
    assert_eq!(status, 201, "{silence}");
    for which in 0..2 {
        serve(&platform, which, 0.5, 0.3).await;
        judge(&platform, which).await;
    }
    let (_, hushed) = platform.call("GET", "/v1/incidents?state=silenced", None).await;
    assert_eq!(hushed.as_array().unwrap().len(), 1, "{hushed}");
    assert!(receiver.events(&platform).await.is_empty());

    for which in 2..4 {
        serve(&platform, which, 0.5, 0.3).await;
        judge(&platform, which).await; // the second one after the silence
    }
    assert_eq!(receiver.events(&platform).await, ["opened"]);
    let path = format!("/v1/incidents/{}", hushed[0]["id"].as_str().unwrap());
    let (_, whole) = platform.call("GET", &path, None).await;
    let history: Vec<&str> =
        whole["history"].as_array().unwrap().iter().map(|row| row["change"].as_str().unwrap()).collect();
    assert_eq!(history, ["opened", "silenced", "unsilenced"]);
}

#[tokio::test]
async fn a_silence_that_is_ended_early_tells_at_once_what_it_kept() {
    let (receiver, webhook) = Receiver::listen(0).await;
    let platform = watched_platform(&webhook).await;
    for which in 0..2 {
        serve(&platform, which, 0.5, 0.3).await;
        judge(&platform, which).await;
    }
    let (_, open) = platform.call("GET", "/v1/incidents?state=firing", None).await;
    let path = format!("/v1/incidents/{}/silence", open[0]["id"].as_str().unwrap());
    let hush = json!({ "until": day(30), "by": "ada", "comment": "known" });
    let (status, silence) = platform.call("POST", &path, Some(hush)).await;
    assert_eq!((status, &silence["by"]), (201, &json!("ada")), "{silence}");
    let (_, hushed) = platform.call("GET", "/v1/incidents?state=silenced", None).await;
    assert_eq!(hushed[0]["id"], open[0]["id"]);

    let path = format!("/v1/silences/{}", silence["id"].as_str().unwrap());
    assert_eq!(platform.call("DELETE", &path, None).await.0, 204);
    let (_, firing) = platform.call("GET", "/v1/incidents?state=firing", None).await;
    assert_eq!(firing[0]["id"], open[0]["id"]);
    assert_eq!(
        receiver.events(&platform).await,
        ["opened"],
        "it was told before the silence, and is not told twice"
    );
    assert_eq!(platform.call("DELETE", &path, None).await.0, 404);
}

#[tokio::test]
async fn what_the_days_budget_holds_back_is_counted_and_told_the_next_day() {
    let (receiver, webhook) = Receiver::listen(0).await;
    let platform = watched_platform(&webhook).await;
    let (_, monitors) = platform.call("GET", "/v1/monitors", None).await;
    let mut frugal = monitors[0].clone();
    frugal["notifications_per_day"] = json!(0);
    let mut conn = platform.context.db.acquire().await.unwrap();
    storage::definitions::save(&mut conn, "default", "monitor", "flights", &frugal, day(0)).await.unwrap();
    drop(conn);
    for which in 0..2 {
        serve(&platform, which, 0.5, 0.3).await;
        judge(&platform, which).await;
    }
    assert!(receiver.events(&platform).await.is_empty());
    let (_, held) = platform.call("GET", "/v1/notifications?state=held-back", None).await;
    assert_eq!(held.as_array().unwrap().len(), 1, "{held}");

    serve(&platform, 2, 0.5, 0.3).await;
    judge(&platform, 2).await;
    assert_eq!(receiver.events(&platform).await, ["digest"]);
    let (_, digest) = receiver.received.lock().await[0].clone();
    assert_eq!(digest["held_back"], json!([held[0]["payload"]["summary"]]), "{digest}");
    serve(&platform, 3, 0.5, 0.3).await;
    judge(&platform, 3).await;
    assert_eq!(receiver.events(&platform).await, ["digest"], "what was told is not told again");
}

#[tokio::test]
async fn a_lasting_change_of_the_label_rate_is_one_incident_and_late_labels_judge_their_window_again() {
    let (receiver, webhook) = Receiver::listen(0).await;
    let platform = watched_platform(&webhook).await;
    let mut served = Vec::new();
    for which in 0..3 {
        served.push(serve(&platform, which, 0.0, 0.0).await);
    }
    let label = async |ids: &[PredictionId], which: i64| {
        let rows: Vec<Value> = ids
            .iter()
            .enumerate()
            .map(|(row, id)| json!({ "prediction_id": id, "outcome": row % 5 != 0, "label_time": day(which + 1) }))
            .collect();
        let (status, answer) = platform.call("POST", "/v1/labels", Some(json!(rows))).await;
        assert_eq!((status, &answer["accepted"]), (200, &json!(ids.len())), "{answer}");
    };
    label(&served[0][..300], 0).await;
    label(&served[1], 1).await;
    label(&served[2], 2).await;
    judge(&platform, 2).await;
    assert_eq!(findings(&platform, 0, "rate_change", "").await[0]["rows"], 300);
    let moved = &findings(&platform, 2, "rate_change_14_windows", "").await[0];
    assert_eq!(moved["verdict"], "drift", "{moved}");

    label(&served[0][300..], 0).await;
    judge(&platform, 2).await;
    assert_eq!(findings(&platform, 0, "rate_change", "").await[0]["rows"], ROWS);
    let (_, incidents) = platform.call("GET", "/v1/incidents?state=firing", None).await;
    let mut causes: Vec<&str> =
        incidents.as_array().unwrap().iter().map(|incident| incident["cause"].as_str().unwrap()).collect();
    causes.sort_unstable();
    assert_eq!(causes, ["calibration", "label-rate"]);
    assert_eq!(receiver.events(&platform).await, ["opened", "opened"]);
}

#[tokio::test]
async fn an_incident_of_the_label_rate_asks_for_a_new_model_once_within_the_cool_down() {
    let (_receiver, webhook) = Receiver::listen(0).await;
    let platform = watched_platform(&webhook).await;
    for which in 0..2 {
        let served = serve(&platform, which, 0.0, 0.0).await;
        let rows: Vec<Value> = served
            .iter()
            .map(|id| json!({ "prediction_id": id, "outcome": true, "label_time": day(which + 1) }))
            .collect();
        platform.call("POST", "/v1/labels", Some(json!(rows))).await;
        judge(&platform, which).await;
    }
    let mut conn = platform.context.db.acquire().await.unwrap();
    let jobs = storage::jobs::latest(&mut conn, "default", 100).await.unwrap();
    let asked: Vec<&Value> =
        jobs.iter().filter(|job| job.kind == "build-training-set").map(|job| &job.payload).collect();
    assert_eq!(asked.len(), 1, "{asked:?}");
    let (_, incidents) = platform.call("GET", "/v1/incidents", None).await;
    let of = |cause: &str| {
        incidents.as_array().unwrap().iter().find(|incident| incident["cause"] == cause).unwrap()["id"]
            .clone()
    };
    let expected = json!({
        "project": "default",
        "dataset": "departures",
        "model": "late",
        "as_of": day(2),
        "reason": { "incident": of("label-rate") },
        "then": "train",
    });
    assert_eq!(asked[0], &expected);
    let path = format!("/v1/incidents/{}", of("calibration").as_str().unwrap());
    let (_, whole) = platform.call("GET", &path, None).await;
    assert_eq!(whole["history"][1]["change"], "retrain-held-back", "{whole}");
}

#[tokio::test]
async fn firings_that_nobody_led_are_made_up_for_by_one_whoever_asks_first() {
    let platform = Platform::start().await;
    store(
        &platform,
        r#"
        [[schedule]]
        name = "nightly"
        cron = "0 30 2 * * *"
        time_zone = "America/New_York"
        action = { monitor = "flights" }
        "#,
    )
    .await;
    assert!(monitor::fire_due(&platform.context).await.unwrap().is_empty());
    platform.clock.advance_to(day(4));
    let (one, other) =
        tokio::join!(monitor::fire_due(&platform.context), monitor::fire_due(&platform.context));
    let mut fired = [one.unwrap(), other.unwrap()].concat();
    assert_eq!(fired, ["nightly"]);
    fired = monitor::fire_due(&platform.context).await.unwrap();
    assert!(fired.is_empty());

    let (status, schedules) = platform.call("GET", "/v1/schedules", None).await;
    assert_eq!(status, 200, "{schedules}");
    assert_eq!(schedules[0]["last_fired"], "2013-11-04T07:30:00Z"); // New York left daylight time the day before
    assert_eq!(schedules[0]["next"][0], "2013-11-05T07:30:00Z");
    let mut conn = platform.context.db.acquire().await.unwrap();
    let jobs = storage::jobs::latest(&mut conn, "default", 100).await.unwrap();
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].payload, json!({ "project": "default", "monitor": "flights" }));
}

#[tokio::test]
async fn one_process_leads_until_its_lease_runs_out_or_it_gives_it_back() {
    let platform = Platform::start().await;
    let mut conn = platform.context.db.acquire().await.unwrap();
    let second = TimeDelta::seconds(1);
    let now = day(0);
    assert!(storage::leases::hold(&mut conn, "test", "a", now + second, now).await.unwrap());
    assert!(!storage::leases::hold(&mut conn, "test", "b", now + second, now).await.unwrap());
    assert!(storage::leases::hold(&mut conn, "test", "a", now + second * 2, now).await.unwrap());
    let later = now + second * 3;
    assert!(storage::leases::hold(&mut conn, "test", "b", later + second, later).await.unwrap());
    storage::leases::release(&mut conn, "test", "b").await.unwrap();
    assert!(storage::leases::hold(&mut conn, "test", "a", later + second, later).await.unwrap());
}
