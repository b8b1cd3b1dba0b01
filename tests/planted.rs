//! A synthetic project with planted effects: visits whose outcome hangs on a column and on the order of the visitor's
//! clicks. What models find in it is known; a small world to train and serve in.

use chrono::{DateTime, TimeDelta, Utc};
use frames::{Frame, Values};
use journeys::Platform;
use serde_json::{Map, Value, json};
use service_kit::Config;

/// The registered model of the planted project.
pub(crate) const MODEL: &str = "visits";

/// How many visits the models learn from.
pub(crate) const VISITS: usize = 1_600;

const DEFINITIONS: &str = r#"
[[entity]]
name = "visitor"
keys = ["visitor"]

[[entity]]
name = "visit"
keys = ["visitor"]

[[source]]
name = "clicks"
event_time = "at"
known_time = "at"
[source.columns]
visitor = "text"
at = "time"
kind = "text"

[[source]]
name = "visits"
event_time = "at"
known_time = "known"
[source.columns]
visitor = "text"
at = "time"
known = "time"
x = "number"
carrier = "text"
bought = "number"

[[feature_view]]
name = "clicked"
entity = "visitor"
source = "clicks"
last_k = { count = 6, over = "1d", columns = ["kind"] }

[[feature_view]]
name = "busy"
entity = "visitor"
source = "clicks"
windows = [{ aggregates = ["count"], over = ["1d"] }]

[[feature_view]]
name = "visited"
entity = "visit"
source = "visits"
log = ["x", "carrier", "bought"]

[[event_stream]]
name = "clicks"
view = "clicked"
fields = [{ name = "kind", kind = "category", max_levels = 5 }]

[[dataset]]
name = "visits"
spine = { view = "visited" }
horizon = "1s"
label = "bought > 0"
views = ["busy"]
history = "clicks"
split = { train_until = "TRAIN", validation_until = "VALIDATION" }
[dataset.features]
x = "x"
carrier = "carrier"
EXTRA

[[model]]
name = "linear"
registered_model = "visits"
kind = "logistic"
dataset = "visits"
calibrator = "identity"

[[model]]
name = "joint"
registered_model = "visits"
kind = "joint-fusion"
dataset = "visits"
calibrator = "identity"
seed = 3
[model.recipe]
gpt = { context = 16, width = 32, layers = 2, heads = 2, positions = "learned" }
pretrain = { batch = 64, max_steps = 20 }
[model.recipe.fusion]
batch = 64
tabular_rounds = 2
joint_rounds = 6
learning_rate = 1e-2
joint_learning_rate = 5e-3
keep_joint = true
tower = { number_width = 4, frequencies = 4, deep = [16], width = 8 }
"#;

/// When visit `number` happened.
pub(crate) fn at(number: usize) -> DateTime<Utc> {
    "2013-10-01T00:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::minutes(number as i64)
}

/// The definitions; `extra` lines go to the dataset's features.
pub(crate) fn definitions(extra: &str) -> String {
    let time = |share: f64| at((VISITS as f64 * share) as usize).to_rfc3339();
    DEFINITIONS.replace("TRAIN", &time(0.6)).replace("VALIDATION", &time(0.8)).replace("EXTRA", extra)
}

/// A number in [0, 1) for each visit and purpose, the same on every run (SplitMix64).
fn noise(number: usize, purpose: u64) -> f64 {
    let z = (number as u64 * 16 + purpose + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 * (-53f64).exp2()
}

/// The kinds of a visitor's clicks: two of each, in an order of their own.
pub(crate) fn clicks(number: usize) -> [&'static str; 6] {
    let mut kinds = ["A", "A", "B", "B", "C", "C"];
    for place in (1..6).rev() {
        kinds.swap(place, (noise(number, place as u64) * (place + 1) as f64) as usize);
    }
    kinds
}

fn micros(time: DateTime<Utc>) -> i64 {
    time.timestamp_micros()
}

/// The clicks of some visits, in the minute before them.
pub(crate) fn clicked(visits: std::ops::Range<usize>) -> Frame {
    let (mut visitors, mut times, mut kinds) = (vec![], vec![], vec![]);
    for number in visits {
        for (place, kind) in clicks(number).into_iter().enumerate() {
            visitors.push(Some(format!("v{number}")));
            times.push(micros(at(number)) - (60 - 9 * place as i64) * 1_000_000);
            kinds.push(Some(kind));
        }
    }
    let columns = vec![
        ("visitor".to_owned(), Values::text(visitors)),
        ("at".to_owned(), Values::Time(times)),
        ("kind".to_owned(), Values::text(kinds)),
    ];
    Frame::new(columns[1].1.len(), columns)
}

fn x_of(number: usize) -> f64 {
    noise(number, 8) * 2.0 - 1.0
}

fn carrier_of(number: usize) -> &'static str {
    ["UA", "AA", "B6"][(noise(number, 9) * 3.0) as usize]
}

fn visited(visits: std::ops::Range<usize>) -> Frame {
    let bought = |number: usize| {
        let order = match clicks(number)[5] {
            "A" => 2.0,
            "B" => -2.0,
            _ => 0.0,
        };
        let odds: f64 = 2.0 * x_of(number) + order;
        f64::from(u8::from(noise(number, 10) < 1.0 / (1.0 + (-odds).exp())))
    };
    let times = |seconds: i64| {
        Values::Time(visits.clone().map(|number| micros(at(number)) + seconds * 1_000_000).collect())
    };
    let columns = vec![
        ("visitor".to_owned(), Values::text(visits.clone().map(|number| Some(format!("v{number}"))))),
        ("at".to_owned(), times(0)),
        ("known".to_owned(), times(10)),
        ("x".to_owned(), Values::Number(visits.clone().map(x_of).collect())),
        ("carrier".to_owned(), Values::text(visits.clone().map(|number| Some(carrier_of(number))))),
        ("bought".to_owned(), Values::Number(visits.clone().map(bought).collect())),
    ];
    Frame::new(visits.len(), columns)
}

/// The question that a visit asks.
pub(crate) fn question(number: usize) -> Map<String, Value> {
    let Value::Object(row) = json!({
        "visitor": format!("v{number}"), "event_time": at(number).to_rfc3339(), "x": x_of(number),
        "carrier": carrier_of(number),
    }) else {
        unreachable!("it is an object")
    };
    row
}

/// The clicks of a visit, as a question may bring them.
pub(crate) fn history(number: usize) -> Value {
    let event = |(place, kind): (usize, &str)| {
        let time = at(number) - TimeDelta::seconds(60 - 9 * place as i64);
        json!({ "event_time": time.to_rfc3339(), "kind": kind })
    };
    clicks(number).into_iter().enumerate().map(event).collect()
}

/// Does a job of the worker or the store, and answers its outcome.
pub(crate) async fn job(platform: &Platform, path: &str, body: Value) -> Value {
    let (status, promised) = platform.call("POST", path, Some(body)).await;
    assert_eq!(status, 202, "{promised}");
    platform.run_jobs().await;
    let path = format!("/v1/jobs/{}", promised["job"].as_str().unwrap());
    let (_, job) = platform.call("GET", &path, None).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    job["outcome"].clone()
}

/// A platform at the moment after the last visit, with the project applied and its rows in; and its training set.
pub(crate) async fn world() -> (Platform, Value) {
    world_with(|_| {}).await
}

/// The same, of a platform with settings of its own.
pub(crate) async fn world_with(change: impl FnOnce(&mut Config)) -> (Platform, Value) {
    let platform = Platform::with(at(VISITS) + TimeDelta::seconds(30), change).await;
    platform.apply(&definitions("")).await;
    for (source, rows) in [("clicks", clicked(0..VISITS)), ("visits", visited(0..VISITS))] {
        let (status, answer) = platform.push(source, &rows, None).await;
        assert_eq!((status, &answer["rejected_invalid"]), (200, &json!(0)), "{answer}");
    }
    let set = job(&platform, "/v1/training-sets", json!({ "dataset": "visits" })).await;
    (platform, set["training_set"].clone())
}

/// Trains a model and registers what it became; answers the version.
pub(crate) async fn trained(platform: &Platform, model: &str, set: &Value) -> i64 {
    let asked = json!({ "model": model, "training_set": set });
    let trained = job(platform, "/v1/training-jobs", asked).await;
    let auc = trained["evaluation"]["overall"]["auc"]["value"].as_f64().unwrap();
    assert!(auc > 0.55, "{model} finds nothing: {auc}");
    let api = "/api/2.0/mlflow";
    platform.call("POST", &format!("{api}/registered-models/create"), Some(json!({ "name": MODEL }))).await;
    let version = json!({ "name": MODEL, "source": trained["source"], "run_id": trained["run_id"] });
    let (status, made) = platform.call("POST", &format!("{api}/model-versions/create"), Some(version)).await;
    assert_eq!(status, 200, "{made}");
    made["model_version"]["version"].as_str().unwrap().parse().unwrap()
}

/// Points the champion's alias.
pub(crate) async fn champion(platform: &Platform, version: i64) {
    let body = json!({ "name": MODEL, "alias": "champion", "version": version.to_string() });
    let (status, said) = platform.call("POST", "/api/2.0/mlflow/registered-models/alias", Some(body)).await;
    assert_eq!(status, 200, "{said}");
}
