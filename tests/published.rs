//! Vectors of histories, published as an ordinary feature view: served, known from when they were computed, and named by the
//! version that made them.

use journeys::Platform;
use serde_json::{Value, json};

use crate::planted::{MODEL, VISITS, at, champion, job, question, trained, world};

const VIEW: &str = r#"
[[source]]
name = "vectors"
event_time = "computed"
known_time = "computed"
[source.columns]
visitor = "text"
computed = "time"
vector = "vector(32)"
model = "text"
model_version = "integer"

[[feature_view]]
name = "visitor_vector"
entity = "visitor"
source = "vectors"
features = ["vector", "model", "model_version"]

[[source]]
name = "narrow"
event_time = "computed"
known_time = "computed"
[source.columns]
visitor = "text"
computed = "time"
vector = "vector(8)"
"#;

const AFTER: &str = r#"
[[dataset]]
name = "seen"
spine = { view = "visited" }
horizon = "1s"
label = "bought > 0"
views = ["busy", "visitor_vector"]
hidden = ["visitor_vector__vector"]
split = { train_until = "TRAIN", validation_until = "VALIDATION" }
[dataset.features]
x = "x"
carrier = "carrier"

[[model]]
name = "after"
registered_model = "visits"
kind = "logistic"
dataset = "seen"
calibrator = "identity"
"#;

/// Visitors whose clicks are younger than the day that histories hold.
const SEEN: i64 = 24 * 60 - 1;

async fn online(platform: &Platform, visitor: &str) -> Value {
    let features = ["visitor_vector:vector", "visitor_vector:model", "visitor_vector:model_version"];
    let asked =
        json!({ "features": features, "entities": [{ "visitor": visitor }], "include_metadata": true });
    let (status, answer) = platform.call("POST", "/v1/features/online", Some(asked)).await;
    assert_eq!(status, 200, "{answer}");
    answer["rows"][0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_of_all_histories_become_a_feature_view_with_the_version_that_made_them() {
    let (platform, set) = world().await;
    let joint = trained(&platform, "joint", &set).await;
    champion(&platform, joint).await;
    platform.apply(&format!("{}\n{VIEW}", crate::planted::definitions(""))).await;

    let asked = |source: &str| json!({ "model": MODEL, "source": source });
    let (status, problem) = platform.call("POST", "/v1/embedding-jobs", Some(asked("narrow"))).await;
    assert!(status == 422 && problem["detail"].as_str().unwrap().contains("vector(32)"), "{problem}");
    let published = job(&platform, "/v1/embedding-jobs", asked("vectors")).await;
    assert_eq!((&published["rows"], &published["version"]), (&json!(SEEN), &json!(joint)), "{published}");

    let visitor = format!("v{}", VISITS - 1);
    let served = online(&platform, &visitor).await;
    assert_eq!((&served["model"], &served["model_version"]), (&json!(MODEL), &json!(joint)), "{served}");
    let now: chrono::DateTime<chrono::Utc> =
        served["__event_timestamp"]["vector"].as_str().unwrap().parse().unwrap();
    assert_eq!(now.timestamp_micros(), platform.clock_micros(), "it happened when it was computed");
    let rows = json!({ "model": MODEL, "rows": [question(VISITS - 1)] });
    let (_, live) = platform.call("POST", "/v1/embeddings", Some(rows)).await;
    let numbers = |value: &Value| serde_json::from_value::<Vec<f64>>(value.clone()).unwrap();
    let (stored, live) = (numbers(&served["vector"]), numbers(&live["embeddings"][0]["vector"]));
    assert!(
        stored.len() == 32 && stored.iter().zip(&live).all(|(a, b)| (a - b).abs() < 1e-4),
        "{stored:?} {live:?}"
    );

    let behind = format!("/v1/models/{MODEL}/versions/{joint}");
    let (_, lineage) = platform.call("GET", &format!("{behind}/lineage"), None).await;
    let made = &lineage["published"][0];
    assert_eq!((&made["view"], &made["rows"]), (&json!("visitor_vector"), &json!(SEEN)), "{lineage}");
    assert_eq!((&made["sha256"], &made["view_version"]), (&published["sha256"], &json!(1)), "{lineage}");
    let (_, picture) = platform.call("GET", &format!("{behind}/lineage.svg"), None).await;
    assert!(picture.as_str().unwrap().contains("visitor_vector v1"), "{picture}");
    let (_, uses) = platform.call("GET", "/v1/lineage/uses?view=visitor_vector", None).await;
    let maker =
        json!({ "model": MODEL, "version": joint, "training_set_id": null, "by": "published embeddings" });
    assert_eq!(uses["versions"], json!([maker]));
    learned_from_vectors(&platform, joint).await;

    let left =
        std::fs::read_dir(platform.context.data_dir.join("embeddings/default/vectors")).unwrap().count();
    assert_eq!(left, 0, "the file goes when its rows are in");
    let taken: i64 = sqlx::query_scalar("select rows from parts where view = 'visitor_vector'")
        .fetch_one(&platform.context.db)
        .await
        .unwrap();
    assert_eq!(taken, SEEN, "the rows are offline too");
}

/// A model that learns from a training set with the vectors names the version that made them, and the view names both.
async fn learned_from_vectors(platform: &Platform, joint: i64) {
    let until = |share: usize| at(VISITS * share / 10).to_rfc3339();
    let after = AFTER.replace("TRAIN", &until(6)).replace("VALIDATION", &until(8));
    platform.apply(&format!("{}\n{VIEW}\n{after}", crate::planted::definitions(""))).await;
    let set = job(platform, "/v1/training-sets", json!({ "dataset": "seen" })).await;
    let after = trained(platform, "after", &set["training_set"]).await;
    let (_, lineage) =
        platform.call("GET", &format!("/v1/models/{MODEL}/versions/{after}/lineage"), None).await;
    let views = lineage["views"].as_array().unwrap();
    let made_by = |name: &str| &views.iter().find(|view| view["view"] == name).unwrap()["made_by"];
    assert_eq!(made_by("visitor_vector"), &json!([{ "model": MODEL, "version": joint }]), "{lineage}");
    assert_eq!((made_by("busy"), &lineage["published"]), (&json!([]), &json!([])), "{lineage}");
    let (_, uses) = platform.call("GET", "/v1/lineage/uses?view=visitor_vector", None).await;
    let by: Vec<_> =
        uses["versions"].as_array().unwrap().iter().map(|used| (&used["version"], &used["by"])).collect();
    let (made, learned) = (json!("published embeddings"), json!("training part"));
    assert_eq!(by, [(&json!(joint), &made), (&json!(after), &learned)], "{uses}");
}
