//! Serving a planted, synthetic project: every surface answers the same, and an alias moves under load without a lost or a
//! mixed answer.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use axum::http::Request;
use journeys::Platform;
use serde_json::{Value, json};

use crate::planted::{self, MODEL, VISITS, champion, history, question, trained, world};

/// Passes of one row and of several differ by less; the kernels are the same.
const CLOSE: f64 = 1e-6;

async fn predicted(platform: &Platform, body: Value) -> Value {
    let (status, answer) = platform.call("POST", "/v1/predict", Some(body)).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

fn probability(answer: &Value, row: usize) -> f64 {
    answer["predictions"][row]["probability"].as_f64().unwrap_or_else(|| panic!("no probability in {answer}"))
}

/// A platform with a linear and a joint model, the latter champion; their versions.
async fn served() -> (Platform, i64, i64) {
    let (platform, set) = world().await;
    let linear = trained(&platform, "linear", &set).await;
    let joint = trained(&platform, "joint", &set).await;
    champion(&platform, joint).await;
    (platform, linear, joint)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_surface_answers_the_same_rows_the_same_and_says_where_it_comes_from() {
    let (platform, linear, joint) = served().await;
    let rows = [question(VISITS - 1), question(VISITS - 2)];
    let answer = predicted(&platform, json!({ "model": MODEL, "rows": rows })).await;
    assert_eq!(answer["version"], json!(joint));
    assert_eq!(answer["predictions"][0]["statuses"], json!({ "busy": "PRESENT", "clicked": "PRESENT" }));
    let said = [probability(&answer, 0), probability(&answer, 1)];
    assert!((said[0] - said[1]).abs() > 1e-3, "{said:?}");

    // what a row brings stands in for what the store holds
    let mut brought = question(VISITS - 1);
    brought.insert("visitor".into(), json!("nobody"));
    brought.insert("history".into(), history(VISITS - 1));
    brought.insert("busy__count_1d".into(), json!(6.0));
    let own = predicted(&platform, json!({ "model": MODEL, "rows": [brought] })).await;
    assert!((probability(&own, 0) - said[0]).abs() < CLOSE, "{own}");
    assert_eq!(own["predictions"][0]["statuses"]["clicked"], "NOT_FOUND");
    brought.insert("history".into(), history(VISITS - 2));
    let other = predicted(&platform, json!({ "model": MODEL, "rows": [brought] })).await;
    assert!((probability(&other, 0) - said[0]).abs() > 1e-4, "the history does not matter");

    mlflow_forms(&platform, &rows.map(Value::Object), said).await;
    open_inference(&platform, said, joint).await;
    let pinned =
        predicted(&platform, json!({ "model": MODEL, "version": linear, "rows": [question(VISITS - 1)] }))
            .await;
    assert_eq!(pinned["version"], json!(linear));
    refusals(&platform, linear).await;

    let flushed = platform.call("POST", "/v1/prediction-log/flush", Some(json!({}))).await.1;
    assert!(flushed["rows"].as_i64().unwrap() >= 10, "{flushed}");
    let id = answer["predictions"][0]["prediction_id"].as_str().unwrap();
    let path: String =
        sqlx::query_scalar("select path from prediction_logs where version = $1 order by path limit 1")
            .bind(i32::try_from(joint).unwrap())
            .fetch_one(&platform.context.db)
            .await
            .unwrap();
    let log = frames::files::read_arrow(&platform.context.data_dir.join(path)).unwrap();
    let ids = log.column("prediction_id").unwrap();
    let row = (0..log.rows()).find(|&row| ids.text_at(row) == Some(id)).expect("the answer was logged");
    assert_eq!(log.column("status__clicked").unwrap().text_at(row), Some("PRESENT"));
    assert!((log.numbers("probability").unwrap()[row] - said[0]).abs() < 1e-12);
    let surprise = log.numbers("gpt.surprise").unwrap();
    assert!(surprise.iter().any(|nats| (0.1..8.0).contains(nats)), "nobody looked: {surprise:?}");
}

async fn mlflow_forms(platform: &Platform, rows: &[Value; 2], said: [f64; 2]) {
    let columns: Vec<&String> = rows[0].as_object().unwrap().keys().collect();
    let data: Vec<Vec<&Value>> =
        rows.iter().map(|row| columns.iter().map(|name| &row[*name]).collect()).collect();
    let inputs: BTreeMap<&String, Vec<&Value>> =
        columns.iter().map(|name| (*name, rows.iter().map(|row| &row[*name]).collect())).collect();
    let lines = data.iter().map(|row| {
        let cells = row.iter().map(|cell| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned));
        cells.collect::<Vec<_>>().join(",")
    });
    let header = columns.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(",");
    let csv = [header].into_iter().chain(lines).collect::<Vec<_>>().join("\n");
    for (kind, body) in [
        ("application/json", json!({ "dataframe_split": { "columns": columns, "data": data } }).to_string()),
        ("application/json", json!({ "dataframe_records": rows }).to_string()),
        ("application/json; charset=utf-8", json!({ "instances": rows }).to_string()),
        ("application/json", json!({ "inputs": inputs }).to_string()),
        ("text/csv", csv),
    ] {
        let request =
            Request::post("/invocations").header("content-type", kind).body(Body::from(body.clone()));
        let (status, answer) = platform.send(request.unwrap()).await;
        assert_eq!(status, 200, "{body}: {answer}");
        let told: Vec<f64> = serde_json::from_value(answer["predictions"].clone()).unwrap();
        assert!(told.iter().zip(said).all(|(a, b)| (a - b).abs() < CLOSE), "{body}: {told:?} {said:?}");
        assert_eq!(answer["foretime"]["prediction_ids"].as_array().unwrap().len(), 2);
    }
    let (status, refusal) =
        platform.call("POST", "/invocations", Some(json!({ "instances": [[1.0]] }))).await;
    assert_eq!((status, &refusal["error_code"]), (400, &json!("BAD_REQUEST")), "{refusal}");
    let request =
        Request::post("/invocations").header("content-type", "application/xml").body(Body::from("<a/>"));
    assert_eq!(platform.send(request.unwrap()).await.0, 400);
    for (path, expected) in [("/ping", "\n"), ("/health", "OK"), ("/version", "3.17.2")] {
        assert_eq!(platform.call("GET", path, None).await, (200, json!(expected)), "{path}");
    }
}

async fn open_inference(platform: &Platform, said: [f64; 2], joint: i64) {
    for path in ["/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/visits/ready"] {
        assert_eq!(platform.call("GET", path, None).await.0, 200, "{path}");
    }
    let (_, model) = platform.call("GET", &format!("/v2/models/visits/versions/{joint}"), None).await;
    assert_eq!(model["platform"], "foretime-joint-fusion", "{model}");
    let names: Vec<&str> =
        model["inputs"].as_array().unwrap().iter().filter_map(|i| i["name"].as_str()).collect();
    assert_eq!(names, ["carrier", "x", "busy__count_1d"]);
    let rows = [question(VISITS - 1), question(VISITS - 2)];
    let tensor = |name: &str, datatype: &str| {
        let data: Vec<&Value> = rows.iter().map(|row| &row[name]).collect();
        json!({ "name": name, "shape": [2], "datatype": datatype, "data": data })
    };
    let inputs = [
        tensor("visitor", "BYTES"),
        tensor("event_time", "BYTES"),
        tensor("x", "FP64"),
        tensor("carrier", "BYTES"),
    ];
    let body = json!({ "id": "q1", "inputs": inputs, "outputs": [{ "name": "probability" }] });
    for path in ["/v2/models/visits/infer".to_owned(), format!("/v2/models/visits/versions/{joint}/infer")] {
        let (status, answer) = platform.call("POST", &path, Some(body.clone())).await;
        assert_eq!((status, &answer["id"]), (200, &json!("q1")), "{answer}");
        assert_eq!(answer["outputs"].as_array().unwrap().len(), 1);
        let told: Vec<f64> = serde_json::from_value(answer["outputs"][0]["data"].clone()).unwrap();
        assert!(told.iter().zip(said).all(|(a, b)| (a - b).abs() < CLOSE), "{told:?} {said:?}");
    }
    let (status, refusal) = platform.call("POST", "/v2/models/nobody/infer", Some(body)).await;
    assert!(status == 404 && refusal["error"].is_string(), "{refusal}");
}

async fn refusals(platform: &Platform, linear: i64) {
    let refused = async |body: Value| {
        let (status, problem) = platform.call("POST", "/v1/predict", Some(body)).await;
        (status, problem["detail"].as_str().unwrap_or_default().to_owned())
    };
    let mut misspelt = question(1);
    misspelt.insert("carier".into(), json!("UA"));
    let (status, said) = refused(json!({ "model": MODEL, "rows": [misspelt] })).await;
    assert!(status == 422 && said.contains("did you mean `carrier`"), "{said}");
    assert_eq!(refused(json!({ "model": MODEL, "version": 99, "rows": [question(1)] })).await.0, 404);
    assert_eq!(
        refused(json!({ "model": MODEL, "version": 1, "alias": "a", "rows": [question(1)] })).await.0,
        422
    );
    assert_eq!(refused(json!({ "model": MODEL, "rows": [] })).await.0, 422);
    let mut eventless = question(1);
    eventless.insert("history".into(), json!([{ "kind": "A" }]));
    let (status, said) = refused(json!({ "model": MODEL, "rows": [eventless] })).await;
    assert!(status == 422 && said.contains("`event_time`"), "{said}");

    platform.apply(&planted::definitions("twice = \"2 * x\"")).await;
    let (status, said) = refused(json!({ "model": MODEL, "version": linear, "rows": [question(1)] })).await;
    assert!(status == 409 && said.contains("trained on other features of dataset `visits`"), "{said}");
    platform.apply(&planted::definitions("")).await;
    predicted(platform, json!({ "model": MODEL, "rows": [question(1)] })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn histories_become_vectors_and_are_written_on() {
    let (platform, linear, joint) = served().await;
    let rows: Vec<_> = [1, 2, 3].map(|visit| question(VISITS - visit)).into();
    let (status, answer) =
        platform.call("POST", "/v1/embeddings", Some(json!({ "model": MODEL, "rows": rows }))).await;
    assert_eq!((status, &answer["version"], &answer["width"]), (200, &json!(joint), &json!(32)), "{answer}");
    let mut brought = question(0);
    brought.insert("history".into(), history(VISITS - 1));
    let (_, own) =
        platform.call("POST", "/v1/embeddings", Some(json!({ "model": MODEL, "rows": [brought] }))).await;
    let vector = |answer: &Value| {
        serde_json::from_value::<Vec<f64>>(answer["embeddings"][0]["vector"].clone()).unwrap()
    };
    assert!(vector(&answer).iter().zip(vector(&own)).all(|(a, b)| (a - b).abs() < 1e-5));
    let asked = json!({ "model": MODEL, "version": linear, "rows": [question(1)] });
    let (status, problem) = platform.call("POST", "/v1/embeddings", Some(asked)).await;
    assert_eq!((status, &problem["type"]), (422, &json!("/problems/no-gpt")), "{problem}");

    let asked =
        json!({ "model": MODEL, "row": question(VISITS - 1), "seed": 5, "max_tokens": 8, "max_events": 3 });
    let post = |body: &Value| Request::post("/v1/generate").body(Body::from(body.to_string())).unwrap();
    let text = String::from_utf8(platform.bytes(post(&asked)).await).unwrap();
    let told: Vec<Value> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    let (end, tokens) = told.split_last().expect("something was written");
    assert!(
        end["ended"].is_string() && end["version"] == json!(joint) && text.contains("event: end"),
        "{text}"
    );
    assert_eq!(end["tokens"], json!(tokens.len()));
    assert!(!tokens.is_empty() && tokens.iter().all(|token| token["says"].is_string()), "{text}");
    let mut whole = asked.clone();
    whole["stream"] = json!(false);
    let (_, all) = platform.call("POST", "/v1/generate", Some(whole.clone())).await;
    assert_eq!(all["tokens"].as_array().unwrap(), tokens, "the same seed wrote something else");
    for (key, value) in [("temperature", json!(-1.0)), ("top_p", json!(2.0)), ("max_tokens", json!(0))] {
        let mut wrong = whole.clone();
        wrong[key] = value;
        assert_eq!(platform.call("POST", "/v1/generate", Some(wrong)).await.0, 422, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_moves_under_load_and_no_answer_is_lost_or_mixed() {
    let (platform, linear, joint) = served().await;
    let mut alone: BTreeMap<(i64, usize), f64> = BTreeMap::new();
    for version in [linear, joint] {
        for visit in 0..16 {
            let asked = json!({ "model": MODEL, "version": version, "rows": [question(VISITS - 1 - visit)] });
            alone.insert((version, visit), probability(&predicted(&platform, asked).await, 0));
        }
    }
    assert!((0..16).all(|visit| (alone[&(linear, visit)] - alone[&(joint, visit)]).abs() > 10.0 * CLOSE));
    let moving = async {
        for turn in 0..30 {
            champion(&platform, if turn % 2 == 0 { linear } else { joint }).await;
        }
    };
    let hammering = futures::future::join_all((0..16).map(|visit| {
        let (platform, alone) = (&platform, &alone);
        async move {
            let mut seen = BTreeSet::new();
            for _ in 0..40 {
                let asked = json!({ "model": MODEL, "rows": [question(VISITS - 1 - visit)] });
                let answer = predicted(platform, asked).await; // refuses anything but 200
                let version = answer["version"].as_i64().unwrap();
                let expected = alone[&(version, visit)];
                let said = probability(&answer, 0);
                assert!((said - expected).abs() < CLOSE, "version {version} said {said}, alone {expected}");
                seen.insert(version);
            }
            seen
        }
    }));
    let (seen, ()) = tokio::join!(hammering, moving);
    let seen: BTreeSet<i64> = seen.into_iter().flatten().collect();
    assert_eq!(seen, BTreeSet::from([linear, joint]), "the load saw only one version");
    let (_, metrics) = platform.call("GET", "/metrics", None).await;
    let metrics = metrics.as_str().unwrap();
    for name in ["foretime_predict_batch_rows_bucket", "foretime_predict_queue_requests{model=\"visits\"} 0"]
    {
        assert!(metrics.contains(name), "{name}");
    }
    let flushed = platform.call("POST", "/v1/prediction-log/flush", Some(json!({}))).await.1;
    assert_eq!(flushed["rows"], json!(16 * 40 + 32), "every answer is logged once");
}
