//! Feast's paths answer what Feast's clients read. The shapes are those of Feast 0.67's feature server and remote store.

use axum::body::Body;
use axum::http::Request;
use journeys::Platform;
use serde_json::{Value, json};

const DEFINITIONS: &str = r#"
[[entity]]
name = "driver"
keys = ["driver_id"]

[[source]]
name = "driver_stats_push"
columns = { driver_id = "integer", event_timestamp = "time", created = "time", conv_rate = "number", trips = "integer" }
event_time = "event_timestamp"
known_time = "created"

[[source]]
name = "orders"
columns = { order_id = "integer", driver_id = "integer", at = "time", late = "boolean" }
event_time = "at"
known_time = "at"

[[entity]]
name = "order"
keys = ["order_id"]

[[feature_view]]
name = "driver_hourly_stats"
entity = "driver"
source = "driver_stats_push"
max_age = "1d"
features = ["conv_rate", "trips"]

[[feature_view]]
name = "driver_again"
entity = "driver"
source = "driver_stats_push"
features = ["conv_rate"]

[[feature_view]]
name = "orders"
entity = "order"
source = "orders"
log = ["driver_id", "late"]

[[dataset]]
name = "lateness"
spine = { view = "orders" }
horizon = "1h"
label = "late"
views = ["driver_hourly_stats"]
split = { train_until = "2013-10-20T00:00:00Z", validation_until = "2013-10-25T00:00:00Z" }
"#;

async fn platform() -> Platform {
    let platform = Platform::start().await;
    platform.apply(DEFINITIONS).await;
    platform
}

async fn post(platform: &Platform, path: &str, body: Value) -> (u16, Value) {
    platform.call("POST", path, Some(body)).await
}

/// As `pandas` writes it: a zone with a blank, none at all, and none for `created`.
async fn push(platform: &Platform, to: &str) {
    let df = json!({
        "driver_id": [1001, 1002, 1003],
        "event_timestamp": ["2013-10-31 22:00:00+00:00", "2013-10-31T22:30:00.250000", "2013-10-29T00:00:00"],
        "created": ["2013-10-31 22:00:01+00:00", null, null],
        "conv_rate": [0.25, null, 0.5],
        "trips": [7, 8, 9],
    });
    let body = json!({ "push_source_name": "driver_stats_push", "df": df, "to": to, "allow_registry_cache": true,
                       "transform_on_write": true });
    assert_eq!(post(platform, "/push", body).await, (200, json!("")));
}

#[tokio::test(flavor = "multi_thread")]
async fn online_features_come_as_one_object_a_column_in_the_requests_order_with_true_statuses() {
    let platform = platform().await;
    push(&platform, "online").await;
    let body = json!({
        "features": ["driver_hourly_stats:trips", "driver_hourly_stats:conv_rate"],
        "entities": { "driver_id": [1001, 1002, 1003, 7] },
    });
    let request = Request::post("/get-online-features").body(Body::from(body.to_string())).unwrap();
    let text = String::from_utf8(platform.bytes(request).await).unwrap();
    let never = r#""1970-01-01T00:00:00Z""#;
    let times =
        r#""2013-10-31T22:00:00Z","2013-10-31T22:30:00.250Z","2013-10-29T00:00:00Z","1970-01-01T00:00:00Z""#;
    let expected = [
        r#"{"metadata":{"feature_names":["driver_id","trips","conv_rate"]},"results":["#.to_owned(),
        r#"{"values":[1001,1002,1003,7],"statuses":["PRESENT","PRESENT","PRESENT","PRESENT"],"#.to_owned(),
        format!(r#""event_timestamps":[{never},{never},{never},{never}]}},"#),
        r#"{"values":[7,8,null,null],"statuses":["PRESENT","PRESENT","OUTSIDE_MAX_AGE","NOT_FOUND"],"#.to_owned(),
        format!(r#""event_timestamps":[{times}]}},"#),
        r#"{"values":[0.25,null,null,null],"statuses":["PRESENT","NULL_VALUE","OUTSIDE_MAX_AGE","NOT_FOUND"],"#
            .to_owned(),
        format!(r#""event_timestamps":[{times}]}}]}}"#),
    ];
    assert_eq!(text, expected.concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feature_service_is_a_dataset_and_full_names_tell_views_apart() {
    let platform = platform().await;
    push(&platform, "online_and_offline").await;
    let body = json!({ "feature_service": "lateness", "entities": { "driver_id": [1001] }, "full_feature_names": true,
                       "include_feature_view_version_metadata": true });
    let (_, answer) = post(&platform, "/get-online-features", body).await;
    assert_eq!(
        answer["metadata"],
        json!({
            "feature_names": ["driver_id", "driver_hourly_stats__conv_rate", "driver_hourly_stats__trips"],
            "feature_view_metadata": [{ "name": "driver_hourly_stats", "version": 1 }],
        })
    );
    let clash = json!({ "features": ["driver_hourly_stats:conv_rate", "driver_again:conv_rate"],
                        "entities": { "driver_id": [1001] } });
    let (status, refusal) = post(&platform, "/get-online-features", clash).await;
    assert!(status == 422 && refusal.as_str().unwrap().contains("full_feature_names"), "{refusal}");
}

/// The exception that Feast's client raises, as its `FeastError.from_error_detail` reads the answer.
fn raised(answer: &Value) -> (String, String) {
    let detail: Value = serde_json::from_str(answer.as_str().unwrap()).unwrap();
    assert_eq!(detail["module"], "feast.errors");
    (detail["class"].as_str().unwrap().to_owned(), detail["message"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_the_clients_and_name_the_exception_to_raise() {
    let platform = platform().await;
    let entities = json!({ "driver_id": [1] });
    let (status, answer) =
        post(&platform, "/get-online-features", json!({ "features": ["nope:x"], "entities": entities }))
            .await;
    assert_eq!((status, raised(&answer).0.as_str()), (404, "FeatureViewNotFoundException"));
    let unknown = json!({ "features": ["driver_hourly_stats:x"], "entities": entities });
    let (status, answer) = post(&platform, "/get-online-features", unknown).await;
    assert_eq!((status, raised(&answer).0.as_str()), (404, "FeastObjectNotFoundException"));
    let service = json!({ "feature_service": "nope", "entities": entities });
    let (status, answer) = post(&platform, "/get-online-features", service).await;
    assert_eq!((status, raised(&answer).0.as_str()), (404, "FeatureServiceNotFoundException"));
    let keyless = json!({ "features": ["driver_hourly_stats:trips"], "entities": { "order_id": [1] } });
    let (status, answer) = post(&platform, "/get-online-features", keyless).await;
    assert!(status == 422 && raised(&answer).1.contains("join key `driver_id`"), "{answer}");
    let ragged = json!({ "features": ["driver_hourly_stats:trips"], "entities": { "driver_id": 7 } });
    assert_eq!(post(&platform, "/get-online-features", ragged).await.0, 422);
    let (status, answer) =
        post(&platform, "/push", json!({ "push_source_name": "nope", "df": { "driver_id": [1] } })).await;
    assert_eq!((status, raised(&answer).0.as_str()), (422, "PushSourceNotFoundException"));
    let subset = json!({ "push_source_name": "driver_stats_push",
                         "df": { "driver_id": [1], "event_timestamp": ["2013-10-31"] } });
    assert_eq!(post(&platform, "/push", subset).await.0, 422);
    let (status, answer) = post(&platform, "/push", json!({ "df": {} })).await;
    assert_eq!(status, 422);
    assert!(answer["detail"][0]["msg"].as_str().unwrap().contains("push_source_name"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_moved_into_the_online_store_and_late_rows_are_not_lost() {
    let platform = platform().await;
    push(&platform, "offline").await;
    let ask = json!({ "features": ["driver_hourly_stats:trips"], "entities": { "driver_id": [1001] } });
    let status_of = |answer: &Value| answer["results"][1]["statuses"][0].clone();
    let (_, before) = post(&platform, "/get-online-features", ask.clone()).await;
    assert_eq!(status_of(&before), "NOT_FOUND");
    let range = json!({ "start_ts": "2013-10-31T00:00:00", "end_ts": "2013-10-31T23:00:00",
                        "feature_views": ["driver_hourly_stats"] });
    assert_eq!(post(&platform, "/materialize", range).await.0, 200);
    let (_, after) = post(&platform, "/get-online-features", ask.clone()).await;
    assert_eq!(after["results"][1]["values"][0], 7);
    let all = json!({ "end_ts": "2013-11-01T00:00:00" });
    assert_eq!(post(&platform, "/materialize-incremental", all).await.0, 200);
    let (_, again) = post(&platform, "/get-online-features", ask).await;
    assert_eq!(again, after);
    assert_eq!(post(&platform, "/materialize", json!({ "end_ts": "now" })).await.0, 422);
    let unknown = json!({ "end_ts": "2013-11-01T00:00:00", "feature_views": ["nope"] });
    assert_eq!(post(&platform, "/materialize-incremental", unknown).await.0, 404);
    assert_eq!(platform.call("GET", "/health", None).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_to_the_online_store_goes_there_alone_as_the_remote_store_sends_it() {
    let platform = platform().await;
    let df = json!({ "driver_id": [5], "conv_rate": [0.75], "trips": [3], "event_timestamp": ["2013-10-31T22:00:00"],
                     "created": [null] });
    let body = json!({ "feature_view_name": "driver_hourly_stats", "df": df, "allow_registry_cache": false });
    assert_eq!(post(&platform, "/write-to-online-store", body).await, (200, Value::Null));
    let ask = json!({ "features": ["driver_hourly_stats:conv_rate"], "entities": { "driver_id": [5] } });
    let (_, answer) = post(&platform, "/get-online-features", ask).await;
    assert_eq!(answer["results"][1]["values"], json!([0.75]));
    assert_eq!(platform.call("GET", "/v1/freshness", None).await.1, json!([]));
}
