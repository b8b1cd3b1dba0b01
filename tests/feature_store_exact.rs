//! Narrow and exact types through the whole store: 32-bit floats and integers, decimals, vectors, and NaN as a value. Nothing is
//! widened, rounded or taken for a null on its way in, in either store, or on its way out.

use axum::body::Body;
use axum::http::Request;
use domain::definitions::ValueType;
use feature_store::compact::compact_view;
use frames::exact::Exact;
use frames::{Frame, NOT_A_NUMBER, Values};
use journeys::Platform;
use serde_json::{Value, json};

const DEFINITIONS: &str = r#"
entity = [{ name = "item", keys = ["item"] }]

[[source]]
name = "items"
columns = { item = "integer", at = "time", price = "decimal(38,9)", score = "float32", rank = "int32", embedding = "vector(3)", ratio = "number", sold = "boolean" }
event_time = "at"
known_time = "at"

[[feature_view]]
name = "now"
entity = "item"
source = "items"
features = ["price", "score", "rank", "embedding", "ratio", "sold"]

[[feature_view]]
name = "recent"
entity = "item"
source = "items"
windows = [
    { column = "price", aggregates = ["sum", "max"], over = ["7d"] },
    { column = "score", aggregates = ["mean"], over = ["7d"] },
    { column = "rank", aggregates = ["last"], over = ["7d"] },
]

[[feature_view]]
name = "log"
entity = "item"
source = "items"
log = ["sold"]

[[dataset]]
name = "sales"
spine = { view = "log" }
horizon = "0s"
label = "sold"
views = ["now"]
features = { dear = "now__price > 100 and now__rank < 5" }
split = { train_until = "2013-10-20T00:00:00Z", validation_until = "2013-10-25T00:00:00Z" }
"#;

const DECIMAL: ValueType = ValueType::Decimal { precision: 38, scale: 9 };
const LONG: &str = "12345678901234567890123456789.123456789";

async fn platform() -> Platform {
    let platform = Platform::start().await;
    platform.apply(DEFINITIONS).await;
    platform
}

fn item(id: i64, hour: u32, values: Value) -> Value {
    let mut row = json!({
        "item": id, "at": format!("2013-10-31T{hour:02}:00:00Z"), "price": null, "score": null, "rank": null,
        "embedding": null, "ratio": null, "sold": true,
    });
    if let (Value::Object(row), Value::Object(values)) = (&mut row, values) {
        row.extend(values);
    }
    row
}

fn precious() -> Value {
    json!({ "price": LONG, "score": 0.1, "rank": -2_147_483_648_i64, "embedding": [0.1, -1.5, 3e-7], "ratio": "NaN" })
}

/// The answer to a question about all features of these items, as it is written.
async fn asked(platform: &Platform, items: &[i64]) -> String {
    let features = ["price", "score", "rank", "embedding", "ratio"].map(|feature| format!("now:{feature}"));
    let entities: Vec<Value> = items.iter().map(|item| json!({ "item": item })).collect();
    let body = json!({ "features": features, "entities": entities, "include_metadata": true });
    let request = Request::post("/v1/features/online").header("content-type", "application/json");
    String::from_utf8(platform.bytes(request.body(Body::from(body.to_string())).unwrap()).await).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn case_58_63_64_66_exact_values_leave_as_they_came_with_nan_present_and_null_null() {
    let platform = platform().await;
    platform.push_rows("items", json!([item(1, 10, precious()), item(2, 10, json!({}))])).await;
    let answer = asked(&platform, &[1, 2]).await;
    let exact = format!(
        r#"{{"price":"{LONG}","score":0.1,"rank":-2147483648,"embedding":[0.1,-1.5,3e-7],"ratio":"NaN","__status":{{"price":"PRESENT","score":"PRESENT","rank":"PRESENT","embedding":"PRESENT","ratio":"PRESENT"}}"#
    );
    assert!(answer.contains(&exact), "{answer}");
    let nothing = r#"{"price":null,"score":null,"rank":null,"embedding":null,"ratio":null,"__status":{"price":"NULL","score":"NULL","rank":"NULL","embedding":"NULL","ratio":"NULL"}"#;
    assert!(answer.contains(nothing), "{answer}");
    let body =
        json!({ "features": ["now:price", "now:score", "now:embedding"], "entities": { "item": [1] } });
    let request = Request::post("/get-online-features").header("content-type", "application/json");
    let feast = platform.bytes(request.body(Body::from(body.to_string())).unwrap()).await;
    let feast = String::from_utf8(feast).unwrap();
    assert!(
        feast.contains(LONG) && feast.contains("[0.1]") && feast.contains("[[0.1,-1.5,3e-7]]"),
        "{feast}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn exact_columns_are_pushed_and_answered_as_arrow_and_agree_offline_before_and_after_a_merge() {
    let platform = platform().await;
    let texts =
        |kind, text: &str| Values::Exact(Exact::parsed(kind, [Some(text), None].into_iter()).unwrap());
    let at = |hour: i64| {
        "2013-10-31T00:00:00Z".parse::<chrono::DateTime<chrono::Utc>>().unwrap().timestamp_micros() + hour
    };
    let embedding = texts(ValueType::Vector(3), "[0.1,-1.5,3e-7]");
    let rows = Frame::new(
        2,
        vec![
            ("item".into(), Values::Integer(vec![1, 2])),
            ("at".into(), Values::Time(vec![at(1), at(2)])),
            ("price".into(), texts(DECIMAL, LONG)),
            ("score".into(), texts(ValueType::Float32, "0.1")),
            ("rank".into(), texts(ValueType::Int32, "7")),
            ("embedding".into(), embedding.clone()),
            ("ratio".into(), Values::Number(vec![NOT_A_NUMBER, f64::NAN])),
            ("sold".into(), Values::Boolean(vec![Some(true), Some(false)])),
        ],
    );
    let (status, answer) = platform.push("items", &rows, None).await;
    assert_eq!(status, 200, "{answer}");
    let first = asked(&platform, &[1, 2]).await;
    assert!(first.contains(LONG) && first.contains("\"score\":0.1,"), "{first}");
    let body = json!({ "features": ["now:embedding", "now:price", "now:ratio"], "entities": [{ "item": 1 }, { "item": 2 }] });
    let request =
        Request::post("/v1/features/online").header("accept", "application/vnd.apache.arrow.stream");
    let stream = platform.bytes(request.body(Body::from(body.to_string())).unwrap()).await;
    let declared = [("price".to_owned(), DECIMAL)];
    let arrow = frames::wire::read_stream_as(&stream, &declared).unwrap();
    assert_eq!(
        (arrow.column("embedding").unwrap(), arrow.column("price").unwrap()),
        (&embedding, rows.column("price").unwrap())
    );
    let ratio = arrow.column("ratio").unwrap();
    assert_eq!((ratio.is_null(0), ratio.is_null(1)), (false, true), "a NaN is a value, a null is none");
    platform.push_rows("items", json!([item(1, 9, precious())])).await;
    asked(&platform, &[1, 2]).await;
    for merged in [false, true] {
        if merged {
            compact_view(&platform.context, "default", "now").await.unwrap();
            asked(&platform, &[1, 2]).await;
        }
        let (_, found) = platform.call("POST", "/v1/parity", None).await;
        let found = found.as_array().unwrap();
        assert!(found.len() >= 5, "{found:?}");
        for feature in found {
            let wrong = ["mismatched", "missing", "extra"].map(|how| feature[how].as_i64().unwrap());
            assert!(feature["compared"].as_i64() > Some(0) && wrong == [0; 3], "{feature}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_and_expressions_reckon_with_narrow_and_exact_numbers_and_training_sets_keep_them() {
    let platform = platform().await;
    let cheap = json!({ "price": "0.25", "score": 0.5, "rank": 3, "embedding": [1, 2, 3], "ratio": 1.5 });
    let dear = json!({ "price": "100.5", "score": 1.5, "rank": 4, "embedding": [4, 5, 6], "ratio": 2.5 });
    platform.push_rows("items", json!([item(1, 8, cheap), item(1, 9, dear)])).await;
    let features =
        ["price_sum_7d", "price_max_7d", "score_mean_7d", "rank_last_7d"].map(|f| format!("recent:{f}"));
    let body = json!({ "features": features, "entities": [{ "item": 1 }] });
    let (_, answer) = platform.call("POST", "/v1/features/online", Some(body)).await;
    let expected =
        json!({ "price_sum_7d": 100.75, "price_max_7d": 100.5, "score_mean_7d": 1.0, "rank_last_7d": 4.0 });
    assert_eq!(answer["rows"][0], expected);
    let (_, promised) = platform.call("POST", "/v1/training-sets", Some(json!({ "dataset": "sales" }))).await;
    platform.run_jobs().await;
    let (_, job) =
        platform.call("GET", &format!("/v1/jobs/{}", promised["job"].as_str().unwrap()), None).await;
    let id = job["outcome"]["training_set"].as_str().unwrap_or_else(|| panic!("{job}")).to_owned();
    let (_, set) = platform.call("GET", &format!("/v1/training-sets/{id}"), None).await;
    let schema: Vec<(String, String)> = serde_json::from_value(set["manifest"]["schema"].clone()).unwrap();
    assert!(schema.contains(&("now__price".into(), "decimal(38,9)".into())), "{schema:?}");
    assert!(schema.contains(&("now__embedding".into(), "vector(3)".into())), "{schema:?}");
    let path = platform.folder.path().join(set["path"].as_str().unwrap());
    let manifest = serde_json::from_value(set["manifest"].clone()).unwrap();
    let built = frames::training_set::read(&path, set["sha256"].as_str().unwrap(), None, &manifest).unwrap();
    let column = |name: &str| match &built.table.columns().iter().find(|(known, _)| known == name).unwrap().1
    {
        domain::tabular::Column::Number(values) => values.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!((column("now__price"), column("now__embedding[1]")), (vec![0.25, 100.5], vec![2.0, 5.0]));
    assert_eq!((column("dear"), column("now__rank")), (vec![0.0, 1.0], vec![3.0, 4.0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn case_54_62_63_66_values_that_do_not_fit_are_422_and_name_the_column() {
    let platform = platform().await;
    for (values, column) in [
        (json!({ "embedding": [] }), "embedding"),
        (json!({ "embedding": [1.0, 2.0] }), "embedding"),
        (json!({ "embedding": [1.0, null, 2.0] }), "embedding"),
        (json!({ "price": 0.1 }), "price"),
        (json!({ "price": "0.0000000001" }), "price"),
        (json!({ "rank": 2_147_483_648_i64 }), "rank"),
        (json!({ "score": 1e39 }), "score"),
        // the clocks of New York never showed this, and a text without an offset says neither when it was
        (json!({ "at": "2013-03-10T02:30:00" }), "at"),
        (json!({ "at": "2013-03-10T02:30:00 America/New_York" }), "at"),
    ] {
        let body = json!({ "rows": [item(1, 8, values.clone())] });
        let (status, problem) = platform.call("POST", "/v1/sources/items/rows", Some(body)).await;
        assert_eq!(status, 422, "{values}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(&format!("`{column}`")), "{values}: {problem}");
    }
    let gap = item(3, 8, json!({ "at": "2013-03-10T02:30:00-05:00", "rank": 1 }));
    platform.push_rows("items", json!([gap])).await;
    assert!(asked(&platform, &[3]).await.contains("2013-03-10T07:30:00Z"), "an offset says when it was");
    let narrow = Values::Number(vec![0.1]);
    let mut rows =
        Frame::new(1, vec![("item".into(), Values::Integer(vec![1])), ("at".into(), Values::Time(vec![0]))]);
    for name in ["price", "rank", "embedding", "ratio", "sold"] {
        rows.set(name, Values::Number(vec![f64::NAN]));
    }
    rows.set("score", narrow);
    let (status, problem) = platform.push("items", &rows, None).await;
    assert!(status == 422 && problem["detail"].as_str().unwrap().contains("`score`"), "{status} {problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_training_set_is_kept_as_arrow_or_parquet_and_leaves_as_both_with_the_hash_of_what_is_kept() {
    let platform = platform().await;
    platform.push_rows("items", json!([item(1, 8, precious()), item(2, 9, json!({ "rank": 4 }))])).await;
    let mut sets = Vec::new();
    for format in ["arrow", "parquet"] {
        let asked = json!({ "dataset": "sales", "as_of": journeys::NOW, "format": format });
        let (_, promised) = platform.call("POST", "/v1/training-sets", Some(asked)).await;
        platform.run_jobs().await;
        let (_, job) =
            platform.call("GET", &format!("/v1/jobs/{}", promised["job"].as_str().unwrap()), None).await;
        let id = job["outcome"]["training_set"].as_str().unwrap_or_else(|| panic!("{job}"));
        let (_, set) = platform.call("GET", &format!("/v1/training-sets/{id}"), None).await;
        assert!(set["path"].as_str().unwrap().ends_with(&format!(".{format}")), "{set}");
        sets.push(set);
    }
    let fetch = async |set: &Value, query: &str| {
        let path = format!("/v1/training-sets/{}/rows{query}", set["id"].as_str().unwrap());
        platform.bytes(Request::get(path).body(Body::empty()).unwrap()).await
    };
    for set in &sets {
        let kept = fetch(set, "").await;
        assert_eq!(
            hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&kept)),
            set["sha256"].as_str().unwrap()
        );
    }
    assert_eq!(fetch(&sets[0], "?format=parquet").await.get(..4).unwrap(), b"PAR1");
    assert_eq!(fetch(&sets[1], "?format=arrow").await.get(..6).unwrap(), b"ARROW1");
    let read = |set: &Value| {
        let path = platform.folder.path().join(set["path"].as_str().unwrap());
        let manifest = serde_json::from_value(set["manifest"].clone()).unwrap();
        let built =
            frames::training_set::read(&path, set["sha256"].as_str().unwrap(), None, &manifest).unwrap();
        format!("{built:?}")
    };
    assert_eq!(read(&sets[0]), read(&sets[1]));
    let asked = json!({ "dataset": "sales", "format": "csv" });
    assert_eq!(platform.call("POST", "/v1/training-sets", Some(asked)).await.0, 422);
}

async fn change(platform: &Platform, from: &str, to: &str) -> (u16, String) {
    let body = json!({ "files": { "test.toml": DEFINITIONS.replace(from, to) } });
    let (status, answer) = platform.call("PUT", "/v1/definitions", Some(body)).await;
    (status, answer["detail"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn case_72_a_narrow_column_may_become_a_wide_one_and_its_stored_rows_are_read_and_never_the_other_way()
{
    let platform = platform().await;
    platform.push_rows("items", json!([item(1, 8, json!({ "rank": 7, "price": "1.5" }))])).await;
    let (status, said) = change(&platform, "ratio = \"number\"", "ratio = \"float32\"").await;
    assert!(status == 409 && said.contains("`ratio`"), "{status} {said}");
    let (status, said) = change(&platform, "decimal(38,9)", "decimal(38,8)").await;
    assert!(status == 409 && said.contains("decimal(38,8)"), "{status} {said}");
    let (status, said) = change(&platform, "rank = \"int32\"", "rank = \"integer\"").await;
    assert_eq!(status, 200, "{said}");
    assert!(asked(&platform, &[1]).await.contains("\"rank\":7,"));
    let large = item(1, 9, json!({ "rank": 3_000_000_000_i64 }));
    platform.push_rows("items", json!([large])).await;
    assert!(asked(&platform, &[1]).await.contains("\"rank\":3000000000,"));
    compact_view(&platform.context, "default", "now").await.unwrap();
    let (_, statistics) = platform.call("GET", "/v1/views/now/statistics", None).await;
    let rank =
        statistics["columns"].as_array().unwrap().iter().find(|column| column["name"] == "rank").unwrap();
    assert_eq!((&rank["numbers"]["min"], &rank["numbers"]["max"]), (&json!(7.0), &json!(3e9)), "{rank}");
}

#[tokio::test(flavor = "multi_thread")]
async fn types_that_are_none_or_stand_where_they_cannot_are_refused_by_file_and_line() {
    let platform = Platform::start().await;
    for (from, to, said) in [
        ("float32", "flaot32", "did you mean `float32`"),
        ("decimal(38,9)", "decimal(39,9)", "`decimal(39,9)`"),
        ("vector(3)", "vector(0)", "`vector(0)`"),
        ("item = \"integer\"", "item = \"int32\"", "keys are texts or integers"),
        ("column = \"price\"", "column = \"embedding\"", "has no `sum`"),
        ("now__price > 100", "now__embedding > 100", "vector"),
    ] {
        let (status, detail) = change(&platform, from, to).await;
        assert!(
            status == 422 && detail.contains(said) && detail.contains("test.toml:"),
            "{to}: {status} {detail}"
        );
    }
}
