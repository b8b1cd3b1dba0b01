//! Everything at once, for a while: rows come in, features and predictions are asked for, runs are written and searched,
//! monitors look, models are trained. Open files, threads and memory of the process stay where they are.
//!
//! `FORETIME_TEST_MINUTES` says how long; one minute unless said, and as long as anybody likes by `make soak-load MINUTES=120`. More than
//! a minute begins with more than a million quotes: a view so large is kept otherwise than a small one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use domain::{Clock, SystemClock};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::shop::{self, Customer, ORDERS, each_is_logged_once, scattered};
use crate::support::{Ground, Process, http, request};

/// How long everything goes on before anything is measured: pools fill, models load.
const WARM_UP: Duration = Duration::from_secs(15);
/// What the median of a quarter may hold more than that of the first, and be no growth: connections and threads come and go.
const SLACK: u64 = 6;
/// What memory may grow by from the first quarter to the last, whatever is asked for: pools fill, and what a training or a merge has in
/// hand comes and goes.
const MORE_MEMORY: u64 = 8 << 20;
/// What each new run may add to that, since the registry keeps what it showed and found of it, and what it keeps at most.
const RUN_BYTES: u64 = 640;
const KEPT_RUNS: u64 = (32 + 8) << 20;

pub(crate) const WATCHED: &str = r#"
[[monitor]]
name = "watch"
model = "returns"
"#;

/// What a process holds at a moment.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    /// Bytes of its own. Those of files that are mapped, the program's above all, are the system's to take back.
    memory: u64,
    files: u64,
    threads: u64,
}

impl Held {
    fn by(pid: u32) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let line = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("Linux says so");
            line.split_whitespace()
                .next()
                .and_then(|number| number.parse::<u64>().ok())
                .expect("it is a number")
        };
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it is ours").count() as u64;
        Self { memory: line("RssAnon:") << 10, files, threads: line("Threads:") }
    }
}

/// The medians of each quarter of what was measured.
fn quarters(held: &[Held], what: impl Fn(&Held) -> u64) -> [u64; 4] {
    std::array::from_fn(|quarter| {
        let of = &held[quarter * held.len() / 4..(quarter + 1) * held.len() / 4];
        let mut values: Vec<u64> = of.iter().map(&what).collect();
        values.sort_unstable();
        values[values.len() / 2]
    })
}

fn grows(quarters: [u64; 4]) -> bool {
    quarters.windows(2).all(|pair| pair[0] < pair[1]) && quarters[3] > quarters[0] + SLACK
}

/// What is asked: method, path and body.
pub(crate) type Asked = (&'static str, String, Option<Value>);

/// Who asks, how long after the last answer, and what at which turn.
type Asking = (&'static str, Duration, fn(usize) -> Asked);

/// Everybody who asks; every third time the same.
pub(crate) const LOAD: [Asking; 5] = [
    ("ingest", Duration::from_millis(150), rows),
    ("online features", Duration::from_millis(20), features),
    ("registry", Duration::from_millis(40), runs),
    ("monitor", Duration::from_millis(700), judgements),
    ("jobs", Duration::from_secs(5), trainings),
];

fn rows(turn: usize) -> Asked {
    quotes(turn, 40)
}

fn quotes(turn: usize, rows: usize) -> Asked {
    let at = SystemClock.now();
    let order = |row: usize| ((turn * rows + row) as i64 * 7) % ORDERS;
    let row = |row: usize| json!({ "order": order(row), "at": at, "risk": scattered(order(row), 1) });
    let rows = json!({ "rows": (0..rows).map(row).collect::<Vec<_>>() });
    ("POST", "/v1/sources/quotes/rows".to_owned(), Some(rows))
}

/// Quotes until their view is cut into buckets.
async fn many_quotes(process: &Process) {
    for turn in 0..1_050 {
        let (method, path, body) = quotes(turn, 1_000);
        let (status, told) = process.ask(method, &path, body.as_ref()).await;
        assert_eq!(status, 200, "{told}");
    }
}

fn features(turn: usize) -> Asked {
    let order = |place: usize| json!({ "order": (turn * 10 + place) as i64 % ORDERS });
    let body = json!({ "features": ["quotes:risk"], "entities": (0..10).map(order).collect::<Vec<_>>(), "include_metadata": true });
    ("POST", "/v1/features/online".to_owned(), Some(body))
}

fn runs(turn: usize) -> Asked {
    let (what, body) = match turn % 3 {
        0 => ("runs/create", json!({ "experiment_id": "0", "run_name": format!("run {turn}") })),
        1 => (
            "runs/search",
            json!({
                "experiment_ids": ["0"],
                "max_results": 20,
                "filter": "attributes.status = 'RUNNING' and tags.none IS NULL",
            }),
        ),
        _ => return ("GET", "/api/2.0/mlflow/model-versions/search?max_results=20".to_owned(), None),
    };
    ("POST", format!("/api/2.0/mlflow/{what}"), Some(body))
}

fn judgements(turn: usize) -> Asked {
    match turn % 3 {
        0 => ("POST", "/v1/monitors/watch/run".to_owned(), Some(json!({}))),
        1 => ("GET", "/v1/incidents".to_owned(), None),
        _ => ("GET", "/v1/loop".to_owned(), None),
    }
}

fn trainings(turn: usize) -> Asked {
    match turn % 2 {
        0 => ("POST", "/v1/schedules/retrain/run".to_owned(), Some(json!({}))),
        _ => ("GET", "/v1/jobs".to_owned(), None),
    }
}

/// How often each of them got each status.
type Statuses = Arc<Mutex<BTreeMap<(&'static str, u16), usize>>>;

/// Asks until it is over.
async fn keep_asking(
    url: String,
    (who, pause, next): (&'static str, Duration, fn(usize) -> Asked),
    over: CancellationToken,
    statuses: Statuses,
) {
    let http = http();
    for turn in 0.. {
        if over.is_cancelled() {
            return;
        }
        let (method, path, body) = next(turn);
        let answer = request(&http, &url, method, &path, body.as_ref()).send().await.expect("it answers");
        let status = answer.status().as_u16();
        let said = answer.text().await.expect("it can be read");
        assert!(status < 500, "{method} {path}: {status} {said}");
        *statuses.lock().expect("no holder of this lock can panic").entry((who, status)).or_default() += 1;
        tokio::time::sleep(pause).await;
    }
}

/// Looks at a process every second.
async fn watched(process: &Process, minutes: f64) -> Vec<Held> {
    let until = Instant::now() + Duration::from_secs(60).mul_f64(minutes);
    let mut second = tokio::time::interval(Duration::from_secs(1));
    let mut held = Vec::new();
    while Instant::now() < until {
        second.tick().await;
        held.push(Held::by(process.pid()));
    }
    held
}

#[tokio::test(flavor = "multi_thread")]
async fn under_mixed_load_open_files_threads_and_memory_stay_where_they_are() {
    let minutes =
        std::env::var("FORETIME_TEST_MINUTES").ok().and_then(|text| text.parse().ok()).unwrap_or(1.0);
    let ground = Ground::migrated().await;
    // each version that is kept in memory has a thread: trainings would add some until there are as many as may be
    let process = ground.start(ground.up().env("FORETIME_WORKER__LOADED_MODELS", "2"));
    shop::open(&process.client(), WATCHED).await;
    let pool = ground.pool().await;
    let chain = shop::go_around(&process).await;
    shop::at_rest(&pool, chain).await;
    if minutes > 1.0 {
        many_quotes(&process).await;
    }

    let (over, statuses) = (CancellationToken::new(), Statuses::default());
    let asking = LOAD
        .map(|who| tokio::spawn(keep_asking(process.url.clone(), who, over.clone(), Arc::clone(&statuses))));
    let customer = Customer::comes_to(&process, Duration::from_millis(20));
    tokio::time::sleep(WARM_UP).await;
    let held = watched(&process, minutes).await;
    over.cancel();
    for one in asking {
        one.await.expect("every request was answered");
    }
    let (answered, predicted) = customer.leaves().await;
    assert_eq!(predicted.keys().copied().collect::<Vec<_>>(), [200], "{predicted:?}");
    let statuses = statuses.lock().expect("no holder of this lock can panic").clone();
    for ((who, status), times) in &statuses {
        println!("{who:>16}: {status} {times} times");
    }
    println!("{:>16}: {} answered", "predictions", answered.len());

    let memory = quarters(&held, |held| held.memory);
    let (files, threads) = (quarters(&held, |held| held.files), quarters(&held, |held| held.threads));
    println!("{minutes} minutes; medians of the quarters:");
    println!("  memory     {:?} MiB", memory.map(|bytes| bytes >> 20));
    println!("  open files {files:?}\n  threads    {threads:?}");
    assert!(!grows(files), "open files grow: {files:?}");
    assert!(!grows(threads), "threads grow: {threads:?}");
    let runs = statuses[&("registry", 200)] as u64 / 3;
    let more = MORE_MEMORY + (runs * RUN_BYTES).min(KEPT_RUNS);
    assert!(memory[3] < memory[0] + more, "memory grows by more than {more} bytes: {memory:?}");
    assert!(process.stop().success());
    each_is_logged_once(&pool, &ground.data_dir(), &answered).await;
}
