//! The monitor, over HTTP and its jobs: labels, windows with and without drift, and one incident from opening to resolution.

use chrono::{DateTime, Utc};
use domain::ids::PredictionId;
use serde_json::{Value, json};

use crate::watched::{ROWS, Receiver, day, findings, judge, serve, watched_platform};

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
async fn an_incident_asks_for_no_new_model_once_the_budget_of_its_training_is_spent() {
    let (_receiver, webhook) = Receiver::listen(0).await;
    let platform = watched_platform(&webhook).await;
    let watch = r#"
        [[monitor]]
        name = "flights"
        model = "flights"
        on_incident = { retrain = "late", cool_down = "1h", budget = { train_time = "30m", per = "7d" } }
    "#;
    crate::watched::store(&platform, watch).await;
    let trained = "insert into jobs (job_id, project, kind, payload, state, run_after, max_attempts, created_at,
                                     started_at, finished_at)
                   values (gen_random_uuid(), 'default', 'train', '{\"model\": \"late\"}', 'succeeded', now(), 3, now(),
                           now() - interval '3 days', now() - interval '3 days' + interval '31 minutes')";
    sqlx::query(trained).execute(&platform.context.db).await.unwrap();
    for which in 0..2 {
        let served = serve(&platform, which, 0.0, 0.0).await;
        let label = |id: &_| json!({ "prediction_id": id, "outcome": true, "label_time": day(which + 1) });
        let rows: Vec<Value> = served.iter().map(label).collect();
        platform.call("POST", "/v1/labels", Some(json!(rows))).await;
        judge(&platform, which).await;
    }
    let asked: i64 = sqlx::query_scalar("select count(*) from jobs where kind = 'build-training-set'")
        .fetch_one(&platform.context.db)
        .await
        .unwrap();
    assert_eq!(asked, 0);
    let held: Value =
        sqlx::query_scalar("select detail from incident_history where change = 'retrain-held-back' limit 1")
            .fetch_one(&platform.context.db)
            .await
            .unwrap();
    assert_eq!((&held["spent"], &held["budget"]["train_time"]), (&json!("1860s"), &json!("30m")), "{held}");
}
