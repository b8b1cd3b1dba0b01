//! A feature store that is killed in the middle of its work, and one whose database goes away.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use foretime::Client;
use serde_json::{Value, json};
use storage::private_postgres::PrivatePostgres;

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

/// The feature store in a process of its own, killed by its id when dropped.
struct Process {
    child: Child,
    url: String,
}

impl Process {
    fn start(database: &str, data_dir: &Path) -> Self {
        Self::run(Command::new(env!("CARGO_BIN_EXE_foretime")), database, data_dir)
    }

    /// As [`Process::start`], where no file can grow past this.
    fn start_with_room(blocks: u32, database: &str, data_dir: &Path) -> Self {
        let mut shell = Command::new("sh");
        // a process that ignores the signal gets an error from the write that goes too far, as on a full disk
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
        shell.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_foretime")]);
        Self::run(shell, database, data_dir)
    }

    fn run(mut command: Command, database: &str, data_dir: &Path) -> Self {
        let mut child = command
            .args(["--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data_dir)
            .args(["run", "feature-store"])
            .env("FORETIME_DATABASE_URL", database)
            .env("FORETIME_LOG__FILTER", "off")
            .env("FORETIME_JOBS__LEASE_SECONDS", "1")
            .env("FORETIME_JOBS__POLL_SECONDS", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("it is piped"))
            .read_line(&mut line)
            .expect("it can be read");
        let url = line.split_whitespace().last().expect("it says where it listens").to_owned();
        Self { child, url }
    }

    fn client(&self) -> Client {
        Client::new(&self.url, None).expect("a client can be made")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill(); // SIGKILL, to this child alone
        let _ = self.child.wait();
    }
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).expect("it is ours");
    folder
}

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
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let open: i64 = sqlx::query_scalar("select count(*) from erasures where finished_at is null")
            .fetch_one(pool)
            .await
            .expect("the database answers");
        if open == 0 {
            return;
        }
        if Instant::now() > deadline {
            let jobs: Vec<(String, i32, Option<String>)> =
                sqlx::query_as("select state, attempts, failure from jobs where state <> 'succeeded'")
                    .fetch_all(pool)
                    .await
                    .expect("the database answers");
            panic!("an erasure that was killed is never finished; jobs: {jobs:?}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_kills_in_the_middle_of_ingests_and_erasures_leave_both_stores_in_agreement() {
    let folder = folder();
    let postgres = PrivatePostgres::start(&folder.path().join("postgres")).expect("Postgres starts");
    let data_dir = folder.path().join("data");
    let pool = storage::connect(&postgres.url("postgres"), 2).await.expect("it answers");
    storage::migrate(&pool).await.expect("the migrations apply");
    let url = postgres.url("postgres");
    let mut process = Process::start(&url, &data_dir);
    let files = BTreeMap::from([("a.toml".to_owned(), DEFINITIONS.to_owned())]);
    process.client().apply(&files, false).await.expect("the definitions fit");
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
        drop(process);
        if let Ok(Ok(Some(seq))) = work.await {
            acknowledged.push(seq);
        }
        process = Process::start(&url, &data_dir);
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
    drop(process);
    pool.close().await;
    postgres.stop().expect("Postgres stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_room_for_a_file_it_says_507_and_shows_nothing_of_the_rows() {
    let folder = folder();
    let postgres = PrivatePostgres::start(&folder.path().join("postgres")).expect("Postgres starts");
    let pool = storage::connect(&postgres.url("postgres"), 2).await.expect("it answers");
    storage::migrate(&pool).await.expect("the migrations apply");
    let data_dir = folder.path().join("data");
    let process = Process::start_with_room(8, &postgres.url("postgres"), &data_dir);
    let files = BTreeMap::from([("a.toml".to_owned(), DEFINITIONS.to_owned())]);
    process.client().apply(&files, false).await.expect("the definitions fit");
    process.client().post("/v1/sources/events/rows", &batch(1)).await.expect("a small file has room");
    let before = online(&process.client()).await;
    let row = |row: i64| {
        let value = row.wrapping_mul(6_364_136_223_846_793_005) >> 2; // nothing that could be written shorter
        json!({ "account": row % ACCOUNTS, "at": "2021-01-01T00:00:00Z", "value": value })
    };
    let large = json!({ "rows": (0..20_000).map(row).collect::<Vec<_>>() });
    let url = format!("{}/v1/sources/events/rows", process.url);
    let request =
        reqwest::Client::new().post(url).header("content-type", "application/json").body(large.to_string());
    let answer = request.send().await.expect("it answers");
    let (status, problem) = (answer.status(), answer.text().await.expect("it can be read"));
    assert_eq!(status, 507, "{problem}");
    assert!(problem.contains("/problems/storage-full") && problem.contains("make room"), "{problem}");
    assert_eq!(online(&process.client()).await, before, "rows that could not be kept are served");
    assert_eq!(offline(&pool, &data_dir).await, before, "rows that could not be kept are listed");
    process.client().post("/v1/sources/events/rows", &batch(2)).await.expect("it goes on");
    drop(process);
    pool.close().await;
    postgres.stop().expect("Postgres stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_database_it_answers_503_and_recovers_by_itself() {
    let folder = folder();
    let place = folder.path().join("postgres");
    let postgres = PrivatePostgres::start(&place).expect("Postgres starts");
    let pool = storage::connect(&postgres.url("postgres"), 2).await.expect("it answers");
    storage::migrate(&pool).await.expect("the migrations apply");
    pool.close().await;
    let process = Process::start(&postgres.url("postgres"), &folder.path().join("data"));
    let files = BTreeMap::from([("a.toml".to_owned(), DEFINITIONS.to_owned())]);
    process.client().apply(&files, false).await.expect("the definitions fit");
    process.client().post("/v1/sources/events/rows", &batch(1)).await.expect("the rows fit");
    let before = online(&process.client()).await;
    postgres.stop().expect("Postgres stops");
    let ask = json!({ "features": ["latest:value"], "entities": [{ "account": 1 }] });
    let feast = json!({ "features": ["latest:value"], "entities": { "account": [1] } });
    for (path, body) in [
        ("/v1/features/online", &ask),
        ("/get-online-features", &feast),
        ("/v1/sources/events/rows", &batch(2)),
    ] {
        let answer = reqwest::Client::new()
            .post(format!("{}{path}", process.url))
            .header("content-type", "application/json")
            .body(body.to_string())
            .send()
            .await
            .expect("it answers");
        assert_eq!(answer.status(), 503, "{path}");
    }
    let postgres = PrivatePostgres::start(&place).expect("Postgres starts again");
    let deadline = Instant::now() + Duration::from_secs(30);
    while process.client().post("/v1/features/online", &ask).await.is_err() {
        assert!(Instant::now() < deadline, "it does not recover");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(online(&process.client()).await, before);
    process.client().post("/v1/sources/events/rows", &batch(2)).await.expect("the rows fit");
    drop(process);
    postgres.stop().expect("Postgres stops");
}
