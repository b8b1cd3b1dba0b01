//! The production shape: each service a process of its own over one Postgres, and the demo's thread through all of them.
//!
//! Five processes: the database and four services. The flights are Southwest's only, so that it takes seconds; the clock is
//! the machine's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use frames::Values;
use serde_json::{Value, json};

use crate::support::{Ground, Process, foretime};

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/flights")
}

fn definitions() -> BTreeMap<String, String> {
    let mut files = foretime::definition_files(&example().join("definitions")).expect("the example is there");
    files.extend(foretime::definition_files(&example().join("quick")).expect("the example is there"));
    files
}

/// The rows of a source, of one carrier where the source knows carriers.
fn rows(definitions: &BTreeMap<String, String>, source: &str) -> frames::Frame {
    let declared = foretime::demo::declared(definitions).expect("the example fits");
    let source = declared.source(source).expect("the example declares it");
    let rows = frames::source_file::read(source, &example().join("definitions")).expect("the data fit");
    match rows.find("carrier") {
        Some(carriers @ Values::Text(..)) => rows.filter(|row| carriers.text_at(row) == Some("WN")),
        _ => rows,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demos_thread_runs_through_five_processes_that_share_one_postgres() {
    let ground = Ground::new();
    let mut migrate = foretime(&["migrate"], ground.path());
    let migrated = migrate.env("FORETIME_DATABASE_URL", ground.url()).status();
    assert!(migrated.expect("the program starts").success());
    let [store, worker, monitor, registry] = ["feature-store", "gpt-worker", "monitor", "registry"]
        .map(|name| ground.start(&mut ground.service(name)));

    let files = definitions();
    store.client().apply(&files, false).await.expect("the definitions fit");
    for source in ["schedule", "departures", "departed_plans", "arrivals", "outcomes", "weather", "planes"] {
        store
            .client()
            .push(source, &rows(&files, source), "online_and_offline", None)
            .await
            .expect("the rows fit");
    }
    let set = store
        .client()
        .work("/v1/training-sets", &json!({ "dataset": "late_2h" }), |_| {})
        .await
        .expect("it builds");

    let request = json!({ "model": "late_boosting", "training_set": set["training_set"] });
    let trained = worker.client().work("/v1/training-jobs", &request, |_| {}).await.expect("it trains");
    assert!(
        trained["evaluation"]["overall"]["auc"]["value"].as_f64().expect("it was judged") > 0.6,
        "{trained}"
    );

    let champion = register(&registry, &trained).await;
    let asked = json!({ "model": "late-arrival", "rows": [question()] });
    let answer = worker.client().post("/v1/predict", &asked).await.expect("the champion serves");
    assert_eq!(answer["version"].to_string(), champion);
    worker.client().post("/v1/prediction-log/flush", &json!({})).await.expect("the log is written");

    let prediction = &answer["predictions"][0];
    assert!((0.0..=1.0).contains(&prediction["probability"].as_f64().expect("a probability")));
    let label = json!([{ "prediction_id": prediction["prediction_id"], "outcome": true, "label_time": "2100-01-01T00:00:00Z" }]);
    let taken = monitor.client().post("/v1/labels", &label).await.expect("the label is read");
    assert_eq!(taken["accepted"], 1, "{taken}");
    for process in [store, worker, monitor, registry] {
        assert!(process.stop().success());
    }
}

async fn register(registry: &Process, trained: &Value) -> String {
    let (client, base) = (registry.client(), "/api/2.0/mlflow");
    let model = json!({ "name": "late-arrival" });
    client.post(&format!("{base}/registered-models/create"), &model).await.expect("the model is new");
    let version = json!({ "name": "late-arrival", "source": trained["source"], "run_id": trained["run_id"] });
    let version =
        client.post(&format!("{base}/model-versions/create"), &version).await.expect("the run exists");
    let version = version["model_version"]["version"].as_str().expect("versions are texts").to_owned();
    let alias = json!({ "name": "late-arrival", "alias": "champion", "version": version });
    client.post(&format!("{base}/registered-models/alias"), &alias).await.expect("the gate lets it pass");
    version
}

fn question() -> Value {
    json!({
        "carrier": "WN", "flight": 1, "origin": "LGA", "dest": "MDW", "tailnum": "N700GS", "distance": 725.0,
        "block_min": 150.0, "sched_dep_ts_text": "0", "sched_dep_ts": "2014-01-01T15:00:00Z",
        "event_time": "2014-01-01T15:00:00Z",
    })
}
