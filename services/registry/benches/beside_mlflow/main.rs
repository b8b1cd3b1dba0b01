//! The registry beside MLflow's own server: the same requests to both, over databases of one Postgres, in one run.
//!
//! `beside_mlflow FORETIME MLFLOW [ROUNDS [NAME]]`, the first two the path of a program; of the workloads only those that have NAME in
//! theirs. Each round asks one server, then the other, after a
//! second of the same to warm up. Before single objects are read and written, and again before pages are read, both databases are
//! vacuumed and checkpointed, so that no server is asked while Postgres clears up behind what went before. Printed are medians over
//! the rounds. CPU is user and system time of all processes of a server from /proc, without Postgres; memory is their proportional
//! set size. The load comes from this process, on the same machine, so throughput is a lower bound for both.

mod load;
mod server;

use std::time::Duration;

use load::{Ask, Load, Measured};
use serde_json::{Value, json};
use server::{Databases, Server};

/// Runs to search among.
const RUNS: i64 = 10_000;
/// Runs a page.
const PAGE: i64 = 100;
/// How long a workload is measured.
const SPAN: Duration = Duration::from_secs(3);
/// How many connections ask at once.
const CONNECTIONS: usize = 16;
/// Searches a second where the rate is held: some nine times what MLflow's server can answer.
const PACED: f64 = 150.0;
/// What goes up and down, in bytes.
const LARGE: u64 = 1 << 30;

#[tokio::main]
async fn main() {
    rustls::crypto::ring::default_provider().install_default().expect("nothing was installed before");
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [foretime, mlflow, rest @ ..] = arguments.as_slice() else {
        println!("beside_mlflow FORETIME MLFLOW [ROUNDS [NAME]]: see `make bench-registry`");
        return;
    };
    let rounds = rest.first().and_then(|rounds| rounds.parse().ok()).unwrap_or(3);
    let wanted = rest.get(1).map_or("", String::as_str);
    let databases = Databases::start().await;
    let ours = Server::foretime(foretime, &databases).await;
    let theirs = Server::mlflow(mlflow, &databases).await;
    databases.seed(RUNS).await;
    let idle = [ours.memory_mb(), theirs.memory_mb()];
    let (our_asks, their_asks) = (asks(&ours).await, asks(&theirs).await);
    println!(
        "{:<26} {:>10} {:>10} {:>7}   {:>8} {:>8}   {:>15} {:>15}",
        "", "CPU ms", "MLflow", "ratio", "req/s", "MLflow", "p50/p99 ms", "MLflow"
    );
    let mut loaded = [0.0f64; 2];
    for (one, other) in our_asks.into_iter().zip(their_asks) {
        databases.settle().await;
        println!("(vacuum, analyze and checkpoint of both databases)");
        for (one, other) in one.into_iter().zip(other).filter(|(one, _)| one.name.contains(wanted)) {
            let (mut here, mut there) = (Vec::new(), Vec::new());
            for _ in 0..rounds {
                here.push(measure(&ours, &one).await);
                loaded[0] = loaded[0].max(ours.memory_mb());
                there.push(measure(&theirs, &other).await);
                loaded[1] = loaded[1].max(theirs.memory_mb());
            }
            print_row(&one.name, &Measured::median(&here), &Measured::median(&there));
        }
    }
    println!("memory idle, MB            {:>10.0} {:>10.0}", idle[0], idle[1]);
    println!("memory loaded, MB          {:>10.0} {:>10.0}", loaded[0], loaded[1]);
    for (name, server) in [("ours", &ours), ("MLflow", &theirs)] {
        let (up, down, most) = load::large_file(server, LARGE).await;
        println!(
            "1 GiB {name:<8} up {up:.0} MB/s, down {down:.0} MB/s, memory above what it was: {most:.0} MB"
        );
    }
}

async fn measure(server: &Server, ask: &Ask) -> Measured {
    Load { span: Duration::from_secs(1), ..ask.load.clone() }.run(server, ask).await;
    ask.load.run(server, ask).await
}

fn print_row(name: &str, ours: &Measured, theirs: &Measured) {
    println!(
        "{name:<26} {:>10.3} {:>10.2} {:>6.0}×   {:>8.0} {:>8.0}   {:>7.2}/{:<7.2} {:>7.1}/{:<7.1}",
        ours.cpu_ms,
        theirs.cpu_ms,
        theirs.cpu_ms / ours.cpu_ms,
        ours.per_second,
        theirs.per_second,
        ours.p50_ms,
        ours.p99_ms,
        theirs.p50_ms,
        theirs.p99_ms
    );
}

/// What is asked of a server, after making what the requests name: single objects, read and written; then pages.
async fn asks(server: &Server) -> [Vec<Ask>; 2] {
    server.post("registered-models/create", json!({ "name": "m" })).await;
    server.post("model-versions/create", json!({ "name": "m", "source": "s3://a/b" })).await;
    server.post("registered-models/alias", json!({ "name": "m", "alias": "champion", "version": "1" })).await;
    server.post("registered-models/create", json!({ "name": "many" })).await;
    let made = server.post("runs/create", json!({ "experiment_id": "0", "start_time": 1 })).await;
    let run_id = made["run"]["info"]["run_id"].as_str().expect("a run has an id").to_owned();
    let metrics = (0..10).map(|n| json!({ "key": format!("m{n}"), "value": n, "timestamp": 1, "step": 1 }));
    let params = (0..10).map(|n| json!({ "key": format!("p{n}"), "value": "v" }));
    let (metrics, params): (Vec<Value>, Vec<Value>) = (metrics.collect(), params.collect());
    server.post("runs/log-batch", json!({ "run_id": run_id, "metrics": metrics, "params": params })).await;
    let many = Load { connections: CONNECTIONS, span: SPAN, rate: None };
    let one = Load { connections: 1, ..many.clone() };
    let paced = Load { rate: Some(PACED), ..many.clone() };
    let search = json!({
        "experiment_ids": [server.experiment],
        "filter": "metrics.m > 0.1 and params.p = '3'",
        "max_results": PAGE,
    });
    let mut last = search.clone();
    last["page_token"] = token_of_page(server, &search, 50).await;
    let (logged, batched) = (run_id.clone(), run_id.clone());
    let (first, fiftieth) = (search.clone(), last.clone());
    let single = vec![
        Ask::get("get model", &many, "registered-models/get?name=m"),
        Ask::get("get model, 1 connection", &one, "registered-models/get?name=m"),
        Ask::get("get version by alias", &many, "registered-models/alias?name=m&alias=champion"),
        Ask::get("get run", &many, &format!("runs/get?run_id={run_id}")),
        Ask::get("get run, 150 a second", &paced, &format!("runs/get?run_id={run_id}")),
        Ask::post(
            "log metric",
            &many,
            "runs/log-metric",
            move |n| json!({ "run_id": logged, "key": "loss", "value": 0.5, "timestamp": 1_700_000_000_000u64 + n, "step": n }),
        ),
        Ask::post("log batch of 100 metrics", &many, "runs/log-batch", move |n| {
            let metric =
                |key: u64| json!({ "key": format!("b{key}"), "value": 0.5, "timestamp": n, "step": n });
            json!({ "run_id": batched, "metrics": (0..100).map(metric).collect::<Vec<_>>() })
        }),
        Ask::post(
            "create run",
            &many,
            "runs/create",
            |n| json!({ "experiment_id": "0", "start_time": n, "tags": [{ "key": "team", "value": "ana" }] }),
        ),
        Ask::post(
            "create version",
            &many,
            "model-versions/create",
            |_| json!({ "name": "many", "source": "s3://a/b" }),
        ),
    ];
    let pages = vec![
        Ask::post("search runs, 1st page", &many, "runs/search", move |_| search.clone()),
        Ask::post("search runs, 50th page", &many, "runs/search", move |_| last.clone()),
        Ask::post("1st page, 150 a second", &paced, "runs/search", move |_| first.clone()),
        Ask::post("50th page, 150 a second", &paced, "runs/search", move |_| fiftieth.clone()),
    ];
    [single, pages]
}

/// The token of a page, found by reading those before it.
async fn token_of_page(server: &Server, search: &Value, page: usize) -> Value {
    let mut token = Value::from("");
    for _ in 1..page {
        let mut body = search.clone();
        body["page_token"] = token;
        token = server.post("runs/search", body).await["next_page_token"].clone();
    }
    assert!(token.is_string(), "there are fewer than {page} pages");
    token
}
