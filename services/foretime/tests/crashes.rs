//! A feature store that is killed in the middle of its work, and one whose database goes away.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use foretime::Client;
use serde_json::{Value, json};

use crate::support::{Ground, Process, count, until, with_room};

const DEFINITIONS: &str = r#"
[[entity]]
name = "account"
keys = ["account"]

[[source]]
name = "events"
columns = { account = "integer", at = "time", value = "integer" }
event_time = "at"
known_time = "at"

[[feature_view]]
name = "latest"
entity = "account"
source = "events"
features = ["value"]

[[feature_view]]
name = "recent"
entity = "account"
source = "events"
windows = [{ column = "value", aggregates = ["count", "sum"], over = ["20000d"] }]
"#;

const ACCOUNTS: i64 = 40;

/// What both stores say of every account: `(status, value, count, sum)`.
type Told = BTreeMap<i64, (String, Value, Value, Value)>;

async fn online(client: &Client) -> Told {
    let entities: Vec<Value> = (0..ACCOUNTS).map(|account| json!({ "account": account })).collect();
    let features = ["latest:value", "recent:value_count_20000d", "recent:value_sum_20000d"];
    let body = json!({ "features": features, "entities": entities, "include_metadata": true });
    let answer = client.post("/v1/features/online", &body).await.expect("it is served");
    let rows = answer["rows"].as_array().expect("there are rows");
    let told = |row: &Value| {
        let status = row["__status"]["value"].as_str().expect("there is a status").to_owned();
        let number = |name: &str| row[name].clone();
        (status, number("value"), number("value_count_20000d"), number("value_sum_20000d"))
    };
    (0..ACCOUNTS).zip(rows).map(|(account, row)| (account, told(row))).collect()
}

/// The same, from the files that the manifest lists.
async fn offline(pool: &sqlx::PgPool, data_dir: &Path) -> Told {
    let mut conn = pool.acquire().await.expect("the database answers");
    let mut rows: BTreeMap<i64, Vec<(i64, i64, i64)>> = BTreeMap::new();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for view in ["latest", "recent"] {
        let parts =
            storage::parts::of_view(&mut conn, "default", view, i64::MAX).await.expect("they are listed");
        for part in parts {
            let frame =
                frames::files::read_parquet(&data_dir.join(&part.path)).expect("a listed file is whole");
            frames::files::verify(&data_dir.join(&part.path), &part.sha256)
                .expect("it is the one that was written");
            *counts.entry(view).or_default() += frame.rows();
            if view == "latest" {
                let integers = |name: &str| match frame.column(name).expect("the column is there") {
                    frames::Values::Integer(values) => values.clone(),
                    other => panic!("`{name}` holds {}s", other.kind()),
                };
                let (accounts, values, seqs) = (integers("account"), integers("value"), integers("__seq"));
                let times = frame.times("__event_time").expect("there are times");
                for row in 0..frame.rows() {
                    rows.entry(accounts[row]).or_default().push((times[row], seqs[row], values[row]));
                }
            }
        }
    }
    assert_eq!(counts.get("latest"), counts.get("recent"), "the views of a source hold different rows");
    let told = |account: i64| match rows.get(&account) {
        None => ("NOT_FOUND".to_owned(), Value::Null, json!(0.0), Value::Null),
        Some(rows) => {
            let newest = rows.iter().max().expect("there is a row").2;
            let sum: i64 = rows.iter().map(|row| row.2).sum();
            ("PRESENT".to_owned(), json!(newest), json!(rows.len() as f64), json!(sum as f64))
        }
    };
    (0..ACCOUNTS).map(|account| (account, told(account))).collect()
}

/// The feature store; what it has in hand when it is killed is taken up after a second.
fn store(ground: &Ground) -> Process {
    ground.start(ground.service("feature-store").env("FORETIME_JOBS__LEASE_SECONDS", "1"))
}

async fn declare(process: &Process) {
    let files = BTreeMap::from([("a.toml".to_owned(), DEFINITIONS.to_owned())]);
    process.client().apply(&files, false).await.expect("the definitions fit");
}

fn batch(number: i64) -> Value {
    let row = |account: i64| {
        let second = (number * 7 + account * 3) % 3_000;
        let at = format!("2020-01-01T00:{:02}:{:02}Z", second / 60, second % 60);
        json!({ "account": account, "at": at, "value": number * 1_000 + account })
    };
    json!({ "rows": (0..ACCOUNTS).map(row).collect::<Vec<_>>() })
}

/// Waits until no erasure is under way.
async fn erased(pool: &sqlx::PgPool) {
    until("an erasure that was killed is finished", Duration::from_secs(30), async || {
        count(pool, "select count(*) from erasures where finished_at is null").await == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_kills_in_the_middle_of_ingests_and_erasures_leave_both_stores_in_agreement() {
    let ground = Ground::migrated().await;
    let (pool, data_dir) = (ground.pool().await, ground.data_dir());
    let mut process = store(&ground);
    declare(&process).await;
    let began = Instant::now();
    process.client().post("/v1/sources/events/rows", &batch(50)).await.expect("the rows fit");
    let whole = began.elapsed(); // what one ingest takes here: kills are spread over a little more than that
    let mut acknowledged = Vec::new();
    for kill in 0..50 {
        let client = process.client();
        let work = tokio::spawn(async move {
            if kill % 5 == 4 {
                let body =
                    json!({ "keys": [{ "account": kill % ACCOUNTS }], "reason": format!("kill {kill}") });
                client.post("/v1/entities/account/erase", &body).await.map(|_| None)
            } else {
                client
                    .post("/v1/sources/events/rows", &batch(kill))
                    .await
                    .map(|answer| answer["seq"].as_i64())
            }
        });
        tokio::time::sleep(whole.mul_f64(1.2 * (kill as f64 * 0.618).fract())).await;
        process.kill();
        if let Ok(Ok(Some(seq))) = work.await {
            acknowledged.push(seq);
        }
        process = store(&ground);
        if kill % 5 == 4 {
            erased(&pool).await;
        }
        assert_eq!(online(&process.client()).await, offline(&pool, &data_dir).await, "after kill {kill}");
    }
    let stored: Vec<i64> =
        sqlx::query_scalar("select distinct seq from parts").fetch_all(&pool).await.unwrap();
    assert!(!acknowledged.is_empty() && acknowledged.len() < 40, "{} of 40 came through", acknowledged.len());
    let lost: Vec<_> = acknowledged.iter().filter(|seq| !stored.contains(seq)).collect();
    assert!(lost.is_empty(), "acknowledged batches were lost: {lost:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_room_for_a_file_it_says_507_and_shows_nothing_of_the_rows() {
    let ground = Ground::migrated().await;
    let (pool, data_dir) = (ground.pool().await, ground.data_dir());
    let process = ground.start(&mut with_room(8, &ground.service("feature-store")));
    declare(&process).await;
    process.client().post("/v1/sources/events/rows", &batch(1)).await.expect("a small file has room");
    let before = online(&process.client()).await;
    let row = |row: i64| {
        let value = row.wrapping_mul(6_364_136_223_846_793_005) >> 2; // nothing that could be written shorter
        json!({ "account": row % ACCOUNTS, "at": "2021-01-01T00:00:00Z", "value": value })
    };
    let large = json!({ "rows": (0..20_000).map(row).collect::<Vec<_>>() });
    let (status, problem) = process.ask("POST", "/v1/sources/events/rows", Some(&large)).await;
    assert_eq!(status, 507, "{problem}");
    let said = problem.to_string();
    assert!(said.contains("/problems/storage-full") && said.contains("make room"), "{problem}");
    assert_eq!(online(&process.client()).await, before, "rows that could not be kept are served");
    assert_eq!(offline(&pool, &data_dir).await, before, "rows that could not be kept are listed");
    process.client().post("/v1/sources/events/rows", &batch(2)).await.expect("it goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_database_it_answers_503_and_recovers_by_itself() {
    let mut ground = Ground::migrated().await;
    let process = store(&ground);
    declare(&process).await;
    process.client().post("/v1/sources/events/rows", &batch(1)).await.expect("the rows fit");
    let before = online(&process.client()).await;
    ground.stop_postgres();
    let ask = json!({ "features": ["latest:value"], "entities": [{ "account": 1 }] });
    let feast = json!({ "features": ["latest:value"], "entities": { "account": [1] } });
    for (path, body) in [
        ("/v1/features/online", &ask),
        ("/get-online-features", &feast),
        ("/v1/sources/events/rows", &batch(2)),
    ] {
        let (status, said) = process.ask("POST", path, Some(body)).await;
        assert_eq!(status, 503, "{path}: {said}");
    }
    ground.start_postgres();
    assert_eq!(online(&process.client()).await, before);
    process.client().post("/v1/sources/events/rows", &batch(2)).await.expect("the rows fit");
}
