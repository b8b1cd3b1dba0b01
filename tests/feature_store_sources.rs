//! Where rows come from besides pushes and views: queries to a database of somebody else, and files that a dataset starts from.

use chrono::{DateTime, TimeDelta, Utc};
use domain::definitions::{Definitions, Source, parse_file};
use feature_store::sources::QueryRows;
use frames::exact::Exact;
use frames::{Frame, NO_INTEGER, Values};
use journeys::{NOW, Platform, fresh_database};
use secrecy::SecretString;
use serde_json::{Value, json};
use service_kit::Config;
use sqlx::{Connection, Executor, PgConnection};

/// A database of somebody else, and settings that know it as `warehouse`.
async fn warehouse(tables: &'static str) -> (PgConnection, String) {
    let url = fresh_database().await;
    let mut conn = PgConnection::connect(&url).await.unwrap();
    conn.execute(tables).await.unwrap();
    (conn, url)
}

fn knowing(url: &str) -> impl FnOnce(&mut Config) + use<> {
    let url = SecretString::from(url.to_owned());
    move |config| drop(config.connections.insert("warehouse".to_owned(), url))
}

fn source(columns: &str, sql: &str) -> Source {
    let toml = format!(
        "[[source]]\nname = \"things\"\ncolumns = {{ at = \"time\", {columns} }}\nevent_time = \"at\"\nknown_time = \"at\"\n\
         query = {{ connection = \"warehouse\", sql = '''{sql}''' }}"
    );
    let mut definitions = Definitions::default();
    definitions.extend(parse_file("a.toml", &toml).unwrap()).unwrap();
    definitions.source("things").unwrap().clone()
}

async fn read(url: &str, source: &Source) -> Result<Vec<Frame>, feature_store::Error> {
    let mut config = Config::default();
    knowing(url)(&mut config);
    let mut rows = QueryRows::begin(&config, source, source.query.as_ref().unwrap()).await?;
    let mut batches = Vec::new();
    while let Some(more) = rows.next().await? {
        batches.push(more);
    }
    Ok(batches)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_gives_typed_rows_whose_integers_times_and_nulls_are_exact() {
    let (_conn, url) = warehouse(
        "create table things (at timestamptz, id bigint, x float8, s text, b boolean, d numeric, f real, v real[]);
         insert into things values
             ('2013-10-30T10:00:00.000001+02', 9007199254740993, 'Infinity', '', true, 12345678901234567890.5, 0.1, '{0.1,2}'),
             ('2013-10-30T10:00:00Z', null, 0.1, null, null, null, null, null)",
    )
    .await;
    let columns = "id = \"integer\", x = \"number\", s = \"text\", b = \"boolean\", d = \"decimal(30,1)\", f = \"float32\", \
                   v = \"vector(2)\"";
    let exact = |kind: &str, text: &str| {
        Values::Exact(Exact::parsed(kind.parse().unwrap(), [Some(text), None].into_iter()).unwrap())
    };
    let batches = read(&url, &source(columns, "select *, 7 as unused from things order by at -- by time"))
        .await
        .unwrap();
    let micros = |text: &str| text.parse::<DateTime<Utc>>().unwrap().timestamp_micros();
    let expected = Frame::new(
        2,
        vec![
            (
                "at".into(),
                Values::Time(vec![micros("2013-10-30T08:00:00.000001Z"), micros("2013-10-30T10:00:00Z")]),
            ),
            ("b".into(), Values::Boolean(vec![Some(true), None])),
            ("d".into(), exact("decimal(30,1)", "12345678901234567890.5")),
            ("f".into(), exact("float32", "0.1")),
            ("id".into(), Values::Integer(vec![9_007_199_254_740_993, NO_INTEGER])),
            ("s".into(), Values::text([Some(""), None])),
            ("v".into(), exact("vector(2)", "[0.1,2]")),
            ("x".into(), Values::Number(vec![f64::INFINITY, 0.1])),
        ],
    );
    assert_eq!(batches, [expected]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_result_streams_in_by_batches() {
    let (_conn, url) = warehouse("create table none ()").await;
    let sql = "select now() as at, n as id from generate_series(1, 120000) as g (n)";
    let batches = read(&url, &source("id = \"integer\"", sql)).await.unwrap();
    assert_eq!(batches.iter().map(Frame::rows).collect::<Vec<_>>(), [50_000, 50_000, 20_000]);
    assert!(matches!(batches[2].column("id").unwrap(), Values::Integer(ids) if ids[19_999] == 120_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_cannot_write_and_what_does_not_fit_is_named() {
    let (mut conn, url) = warehouse(
        "create table things (at timestamptz, id bigint, naive timestamp); create sequence numbers;
         insert into things values (now(), 1, now()::timestamp)",
    )
    .await;
    let said =
        async |columns: &str, sql: &str| read(&url, &source(columns, sql)).await.unwrap_err().to_string();
    let id = "id = \"integer\"";
    assert!(said(id, "select now() as at, nextval('numbers') as id").await.contains("read-only"));
    assert!(
        said(id, "with gone as (delete from things returning *) select * from gone")
            .await
            .contains("warehouse")
    );
    assert!(said("ident = \"integer\"", "select * from things").await.contains("ident"));
    assert!(
        said("naive = \"time\"", "select * from things").await.contains("`naive` holds times without a zone")
    );
    assert!(said("id = \"text\"", "select * from things").await.contains("`id`"));
    let left: i64 = sqlx::query_scalar("select count(*) from things").fetch_one(&mut conn).await.unwrap();
    assert_eq!(left, 1);
    let nobody = read("postgres://127.0.0.1:1/none", &source(id, "select 1")).await.unwrap_err();
    assert_eq!(domain::Fault::remedy(&nobody), domain::Remedy::RetryLater, "{nobody}");
}

const DEFINITIONS: &str = r#"
entity = [{ name = "shop", keys = ["shop"] }, { name = "order", keys = ["order"] }]
source = [
    { name = "visits", columns = { shop = "text", at = "time", amount = "number" }, event_time = "at", known_time = "at" },
    { name = "orders", columns = { order = "integer", shop = "text", at = "time", known = "time", late = "number" }, event_time = "at", known_time = "known" },
    { name = "parquet", columns = { order = "integer", shop = "text", at = "time", known = "time", late = "number" }, event_time = "at", known_time = "known", path = "labels/*.parquet" },
    { name = "csv", columns = { order = "integer", shop = "text", at = "time", known = "time", late = "number" }, event_time = "at", known_time = "known", path = "labels/labels.csv" },
    { name = "arrow", columns = { order = "integer", shop = "text", at = "time", known = "time", late = "number" }, event_time = "at", known_time = "known", path = "labels/labels.arrow" },
    { name = "sql", columns = { order = "integer", shop = "text", at = "time", known = "time", late = "number" }, event_time = "at", known_time = "known", query = { connection = "warehouse", sql = "select * from outcomes" } },
]
feature_view = [
    { name = "latest", entity = "shop", source = "visits", features = ["amount"] },
    { name = "orders", entity = "order", source = "orders", log = ["shop", "late"] },
]
"#;

fn dataset(name: &str, spine: &str) -> String {
    format!(
        "[[dataset]]\nname = \"{name}\"\nspine = {{ {spine} }}\nhorizon = \"1h\"\nlabel = \"late > 0\"\nviews = [\"latest\"]\n\
         features = {{ shop = \"shop\" }}\n\
         split = {{ train_until = \"2013-10-20T00:00:00Z\", validation_until = \"2013-10-25T00:00:00Z\" }}\n"
    )
}

fn labels(count: i64) -> Frame {
    let now: DateTime<Utc> = NOW.parse().unwrap();
    let before = |hours: i64| (now - TimeDelta::hours(hours)).timestamp_micros();
    Frame::new(
        count as usize,
        vec![
            ("order".into(), Values::Integer((0..count).collect())),
            ("shop".into(), Values::text((0..count).map(|row| Some(["a", "b", "c"][row as usize % 3])))),
            ("at".into(), Values::Time((0..count).map(|row| before(2 + row)).collect())),
            ("known".into(), Values::Time((0..count).map(|row| before(1 + row)).collect())),
            ("late".into(), Values::Number((0..count).map(|row| (row % 2) as f64).collect())),
        ],
    )
}

fn as_csv(frame: &Frame) -> String {
    let mut text = "order,shop,at,known,late\n".to_owned();
    let rows = frames::rows::to_json(frame);
    for row in rows {
        let cell = |name: &str| row[name].to_string().trim_matches('"').to_owned();
        let cells = ["order", "shop", "at", "known", "late"].map(cell);
        text.push_str(&(cells.join(",") + "\n"));
    }
    text
}

async fn built(platform: &Platform, dataset: &str) -> Value {
    let asked = json!({ "dataset": dataset, "as_of": NOW });
    let (status, promised) = platform.call("POST", "/v1/training-sets", Some(asked)).await;
    assert_eq!(status, 202, "{promised}");
    platform.run_jobs().await;
    let (_, job) =
        platform.call("GET", &format!("/v1/jobs/{}", promised["job"].as_str().unwrap()), None).await;
    let id = job["outcome"]["training_set"].as_str().unwrap_or_else(|| panic!("{job}")).to_owned();
    platform.call("GET", &format!("/v1/training-sets/{id}"), None).await.1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_training_set_is_the_same_bytes_whether_its_spine_is_a_view_files_or_a_query() {
    let (mut conn, url) = warehouse(
        "create table outcomes (\"order\" bigint, shop text, at timestamptz, known timestamptz, late float8)",
    )
    .await;
    let platform = Platform::configured(knowing(&url)).await;
    let spines = ["parquet", "csv", "arrow", "sql"];
    let datasets: String = spines
        .iter()
        .map(|name| dataset(name, &format!("source = \"{name}\", keys = [\"order\"]")))
        .collect();
    let by_view = dataset("view", "view = \"orders\", to = \"2013-11-02T00:00:00Z\"");
    let some =
        dataset("some", "source = \"parquet\", keys = [\"order\"], where = 'shop == \"a\" and late > 0'");
    platform.apply(&format!("{DEFINITIONS}{datasets}{by_view}{some}")).await;
    let visit = |shop: &str, at: &str, amount: f64| json!({ "shop": shop, "at": at, "amount": amount });
    let visits = json!([visit("a", "2013-10-29T00:00:00Z", 1.0), visit("b", "2013-10-31T12:00:00Z", 2.0)]);
    platform.push_rows("visits", visits).await;
    let rows = labels(60);
    assert_eq!(platform.push("orders", &rows, None).await.0, 200);
    let folder = platform.folder.path().join("files/labels");
    frames::files::write_parquet(&folder.join("1.parquet"), &rows.take(&(0..25).collect::<Vec<_>>()))
        .unwrap();
    frames::files::write_parquet(&folder.join("2.parquet"), &rows.take(&(25..60).collect::<Vec<_>>()))
        .unwrap();
    frames::files::write_arrow(&folder.join("labels.arrow"), &rows).unwrap();
    std::fs::write(folder.join("labels.csv"), as_csv(&rows)).unwrap();
    for row in frames::rows::to_json(&rows) {
        let insert = "insert into outcomes select * from jsonb_populate_record(null::outcomes, $1)";
        sqlx::query(insert).bind(json!(row)).execute(&mut conn).await.unwrap();
    }
    let expected = built(&platform, "view").await;
    assert_eq!(expected["rows"], 60);
    for name in spines {
        let set = built(&platform, name).await;
        assert_eq!(set["sha256"], expected["sha256"], "{name}: {set}");
        assert!(set["manifest"]["spine_sha256"].is_string(), "{set}");
    }
    assert_eq!(built(&platform, "some").await["rows"], 10);
    let before = built(&platform, "sql").await;
    assert_eq!(built(&platform, "sql").await["id"], before["id"], "the same rows are the same set");
    conn.execute("delete from outcomes where \"order\" = 7").await.unwrap();
    let after = built(&platform, "sql").await;
    assert_eq!(
        (&after["rows"], after["id"] == before["id"]),
        (&json!(59), false),
        "other rows are another set"
    );
}

async fn refusal(platform: &Platform, toml: &str) -> (u16, String) {
    let body = json!({ "files": { "defs.toml": toml } });
    let (status, problem) = platform.call("PUT", "/v1/definitions", Some(body)).await;
    (status, problem["detail"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_and_spines_that_are_unknown_or_unsafe_are_refused_by_file_and_line() {
    let platform = Platform::configured(knowing("postgres:///none")).await;
    let base = DEFINITIONS.lines().count() + 1;
    for (spine, said) in [
        ("", "exactly one of `view` and `source`"),
        ("view = \"orders\", source = \"csv\"", "exactly one of `view` and `source`"),
        ("view = \"orders\", keys = [\"order\"]", "drop `keys`"),
        ("source = \"cvs\", keys = [\"order\"]", "did you mean `csv`"),
        ("source = \"csv\"", "needs `keys`"),
        ("source = \"csv\", keys = [\"ordre\"]", "`ordre`"),
        ("source = \"orders\", keys = [\"order\"]", "neither files nor a query"),
        ("source = \"csv\", keys = [\"order\"], where = \"shop\"", "true or false"),
        ("source = \"csv\", keys = [\"order\"], where = \"shpo == 1\"", "`shpo`"),
    ] {
        let (status, detail) = refusal(&platform, &format!("{DEFINITIONS}{}", dataset("d", spine))).await;
        assert_eq!(status, 422, "{spine}: {detail}");
        assert!(detail.contains(said) && detail.contains(&format!("defs.toml:{base}")), "{spine}: {detail}");
    }
    for path in ["/etc/passwd", "../labels.csv", "a/../../b.csv", "file:///etc/passwd"] {
        let toml = DEFINITIONS.replace("labels/labels.csv", path)
            + &dataset("d", "source = \"csv\", keys = [\"order\"]");
        let (status, detail) = refusal(&platform, &toml).await;
        assert!(status == 422 && detail.contains("offline.files"), "{path}: {status} {detail}");
    }
    for (sql, said) in [
        ("delete from outcomes", "must read"),
        ("selection", "must read"),
        ("select 1; drop table outcomes", "without `;`"),
    ] {
        let (status, detail) = refusal(&platform, &DEFINITIONS.replace("select * from outcomes", sql)).await;
        assert!(
            status == 422 && detail.contains(said) && detail.contains("defs.toml:"),
            "{sql}: {status} {detail}"
        );
    }
    let secret = DEFINITIONS.replace("warehouse", "postgres://me:secret@host/db");
    assert!(refusal(&platform, &secret).await.1.contains("FORETIME_CONNECTIONS__NAME"));
    let unknown =
        DEFINITIONS.replace("warehouse", "warehose") + &dataset("d", "source = \"sql\", keys = [\"order\"]");
    let (status, detail) = refusal(&platform, &unknown).await;
    assert!(status == 422 && detail.contains("did you mean `warehouse`"), "{status} {detail}");
    assert!(detail.contains(&format!("defs.toml:{base}")), "{detail}");
}
