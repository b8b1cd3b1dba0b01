//! Parts and training sets in an object store, against a real S3 server (SeaweedFS).
//!
//! Credentials come from the environment, which a test must not change in its own process: so the outer test starts the
//! server and runs the platform in a process of its own.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Request;
use chrono::{DateTime, TimeDelta, Utc};
use feature_store::compact::compact_view;
use frames::objects::Objects;
use frames::{Frame, Values};
use journeys::{NOW, Platform};
use serde_json::json;

const BUCKET: &str = "s3://features-of-tests";
const INNER: &str = "object_store::works_over_s3_as_a_process_of_its_own";
/// The variable that makes a process of this very program work over the server that others of its environment name.
const WORKS: &str = "FORETIME_TEST_OVER_S3";
/// What it says when it is done.
const DONE: &str = "everything lay in the bucket";

/// The server, ended with the test.
struct Weed {
    child: Child,
    _folder: tempfile::TempDir,
}

impl Drop for Weed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program `weed`: beside the Python of the tests, which `.ci/setup tests` makes.
fn weed() -> PathBuf {
    let beside = |python: PathBuf| python.parent().map(|folder| folder.join("weed"));
    if let Some(weed) = std::env::var_os("FORETIME_TEST_PYTHON").and_then(|python| beside(python.into())) {
        return weed;
    }
    let test_program = std::env::current_exe().expect("a running program has a path");
    let found =
        test_program.ancestors().map(|folder| folder.join("venv/bin/weed")).find(|weed| weed.exists());
    found.expect("no `weed` was found: run `make test`, which installs it, or set FORETIME_TEST_PYTHON")
}

/// Ports that are free, with room for the gRPC ports that are derived from them.
fn free_ports<const N: usize>() -> [u16; N] {
    let listeners: Vec<TcpListener> = (0..N)
        .map(|_| {
            (0..100)
                .find_map(|_| {
                    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
                    let port = listener.local_addr().expect("it is bound").port();
                    (port < 55_000 && TcpListener::bind(("127.0.0.1", port + 10_000)).is_ok())
                        .then_some(listener)
                })
                .expect("two ports ten thousand apart are free")
        })
        .collect();
    std::array::from_fn(|place| listeners[place].local_addr().expect("it is bound").port())
}

fn start() -> (Weed, u16) {
    let folder = tempfile::tempdir().expect("the temporary directory can be written");
    let [master, volume, filer, s3] = free_ports();
    let ports = [("master", master), ("volume", volume), ("filer", filer), ("s3", s3)];
    let mut command = Command::new(weed());
    command.args([
        "server",
        "-s3",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-volume.max=20",
        "-master.volumeSizeLimitMB=64",
    ]);
    command.arg(format!("-dir={}", folder.path().display()));
    command.args(ports.iter().map(|(name, port)| format!("-{name}.port={port}")));
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("`weed` starts");
    (Weed { child, _folder: folder }, s3)
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_and_training_sets_lie_in_an_object_store_if_one_is_configured() {
    let (_weed, port) = tokio::task::spawn_blocking(start).await.unwrap();
    let endpoint = format!("http://127.0.0.1:{port}");
    make_bucket(&endpoint).await;
    let output = tokio::task::spawn_blocking(move || {
        Command::new(std::env::current_exe().expect("a running program has a path"))
            .args(["--exact", INNER, "--nocapture"])
            .env(WORKS, "1")
            .env("AWS_ENDPOINT", endpoint)
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_REGION", "us-east-1")
            .env("AWS_SKIP_SIGNATURE", "true")
            .output()
            .expect("it starts")
    })
    .await
    .unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains(DONE), "{said}");
}

/// The server takes its time to start, so this is tried until it works.
async fn make_bucket(endpoint: &str) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::new();
    let url = format!("{endpoint}/{}", BUCKET.trim_start_matches("s3://"));
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match client.put(&url).send().await {
            Ok(answer) if answer.status().is_success() => return,
            answer => assert!(Instant::now() < deadline, "the bucket was not made: {answer:?}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

const DEFINITIONS: &str = r#"
entity = [{ name = "shop", keys = ["shop"] }, { name = "order", keys = ["order"] }]
source = [
    { name = "visits", columns = { shop = "text", at = "time", known = "time", amount = "number" }, event_time = "at", known_time = "known" },
    { name = "orders", columns = { order = "integer", shop = "text", at = "time", known = "time", late = "number" }, event_time = "at", known_time = "known" },
]
feature_view = [
    { name = "latest", entity = "shop", source = "visits", features = ["amount"] },
    { name = "orders", entity = "order", source = "orders", log = ["shop", "late"] },
]
dataset = [{ name = "late", spine = { view = "orders" }, horizon = "1h", label = "late > 0", views = ["latest"], features = { shop = "shop" }, split = { train_until = "2013-10-20T00:00:00Z", validation_until = "2013-10-25T00:00:00Z" } }]
"#;

fn rows(key: (&str, Values), value: &str, hours: &[i64]) -> Frame {
    let now: DateTime<Utc> = NOW.parse().unwrap();
    let times: Vec<i64> =
        hours.iter().map(|hours| (now - TimeDelta::hours(*hours)).timestamp_micros()).collect();
    let mut columns = vec![
        (key.0.to_owned(), key.1),
        ("at".to_owned(), Values::Time(times.clone())),
        ("known".to_owned(), Values::Time(times)),
        (value.to_owned(), Values::Number((0..hours.len()).map(|row| (row % 2) as f64).collect())),
    ];
    if key.0 == "order" {
        columns.push(("shop".to_owned(), Values::text(hours.iter().map(|_| Some("a")))));
    }
    Frame::new(hours.len(), columns)
}

/// What nobody names goes, from the bucket and from where it waited to get there, and what somebody names stays.
async fn orphans_are_removed(platform: &Platform) {
    let name = format!("features/default/latest/v1/000000000099-{}.parquet", domain::ids::PartId::new());
    let waiting = platform.folder.path().join("cache").join(&name);
    std::fs::create_dir_all(waiting.parent().unwrap()).unwrap();
    std::fs::write(&waiting, b"half of a part").unwrap();
    let bucket = || Objects::at(&format!("{BUCKET}/data")).unwrap();
    let orphan = name.clone();
    tokio::task::spawn_blocking(move || bucket().put(&orphan, bytes::Bytes::from_static(b"a part")).unwrap())
        .await
        .unwrap();
    let mut later = platform.context.clone();
    let then = later.machine_clock.now() + TimeDelta::days(2);
    later.machine_clock = std::sync::Arc::new(domain::ManualClock::starting_at(then));
    assert_eq!(feature_store::orphans::collect(&later).await.unwrap(), 1);
    assert!(!waiting.exists());
    tokio::task::spawn_blocking(move || assert!(bucket().size(&name).is_err())).await.unwrap();
}

/// Not a test by itself: what the process of the test above does.
#[tokio::test(flavor = "multi_thread")]
async fn works_over_s3_as_a_process_of_its_own() {
    if std::env::var_os(WORKS).is_none() {
        return;
    }
    let platform = Platform::configured(|config| config.offline.url = Some(format!("{BUCKET}/data"))).await;
    platform.apply(DEFINITIONS).await;
    let orders: Vec<i64> = (2..60).collect();
    let spine = rows(("order", Values::Integer(orders.clone())), "late", &orders);
    assert_eq!(platform.push("orders", &spine, None).await.0, 200);
    for hour in [80, 30, 10] {
        let visit = rows(("shop", Values::text([Some("a"), Some("b")])), "amount", &[hour, hour + 1]);
        assert_eq!(platform.push("visits", &visit, None).await.0, 200);
    }
    let (_, promised) = platform.call("POST", "/v1/training-sets", Some(json!({ "dataset": "late" }))).await;
    platform.run_jobs().await;
    let (_, job) =
        platform.call("GET", &format!("/v1/jobs/{}", promised["job"].as_str().unwrap()), None).await;
    let id = job["outcome"]["training_set"].as_str().unwrap_or_else(|| panic!("{job}")).to_owned();
    let (_, set) = platform.call("GET", &format!("/v1/training-sets/{id}"), None).await;
    assert_eq!(set["manifest"]["rows_out"], 58);
    let done = compact_view(&platform.context, "default", "latest").await.unwrap();
    assert_eq!((done.replaced, done.written, done.removed), (3, 1, 3));
    orphans_are_removed(&platform).await;
    let folder = platform.folder.path().to_owned();
    let (path, sha256) =
        (set["path"].as_str().unwrap().to_owned(), set["sha256"].as_str().unwrap().to_owned());
    let rows = tokio::task::spawn_blocking(move || {
        let objects = Objects::at(&format!("{BUCKET}/data")).unwrap();
        let parts = objects.matching("features/default/latest/*").unwrap();
        assert_eq!(parts.len(), 1, "three were merged into one: {parts:?}");
        assert!(!folder.join("features").exists() && !folder.join("training-sets").exists());
        let store = frames::store::Store::at(Some(&format!("{BUCKET}/data")), &folder).unwrap();
        let fetched = store.local(&path, &sha256).unwrap();
        frames::files::verify(&fetched, &sha256).unwrap();
        let rows = frames::files::read_arrow(&fetched).unwrap();
        assert_eq!(rows.rows(), 58);
        let large = bytes::Bytes::from(vec![7; 20 << 20]); // three parts of an upload
        let file = folder.join("large");
        std::fs::write(&file, &large).unwrap();
        objects.upload("large", &file).unwrap();
        assert_eq!(objects.size("large").unwrap(), large.len() as u64);
        assert_eq!(objects.range("large", 8 << 20..(8 << 20) + 3).unwrap(), large.slice(0..3));
        objects.remove("large").unwrap();
        assert!(objects.size("large").is_err());
        rows
    })
    .await
    .unwrap();
    every_file_behind_a_version_is_read_again_from_there(&platform, &id, rows).await;
    println!("{DONE}");
}

async fn every_file_behind_a_version_is_read_again_from_there(platform: &Platform, set: &str, rows: Frame) {
    let mut foretold = rows.select(&["__row", "__cutoff"]).unwrap();
    foretold.set("probability", Values::Number(vec![0.5; rows.rows()]));
    for (path, body) in [
        ("/api/2.0/mlflow/registered-models/create", json!({ "name": "late" })),
        ("/api/2.0/mlflow/model-versions/create", json!({ "name": "late", "source": "s3://elsewhere" })),
    ] {
        assert_eq!(platform.call("POST", path, Some(body)).await.0, 200);
    }
    let learned = format!("training_set={set}&trained_through=2013-10-25T00:00:00Z");
    let request = Request::post(format!("/v1/models/late/versions/1/evidence?{learned}"))
        .header("content-type", "application/vnd.apache.arrow.stream")
        .body(Body::from(frames::wire::write_stream(&foretold).unwrap()));
    let (status, said) = platform.send(request.unwrap()).await;
    assert_eq!(status, 201, "{said}");
    let verify = "/v1/models/late/versions/1/verify";
    let (_, report) = platform.call("POST", verify, None).await;
    let mut states: Vec<(&str, &str)> = report["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| (file["what"].as_str().unwrap(), file["state"].as_str().unwrap()))
        .collect();
    states.sort();
    let merged = ("part", "retired");
    let expected =
        [("evaluation", "intact"), ("part", "intact"), merged, merged, merged, ("training set", "intact")];
    assert_eq!(states, expected, "{report}");
}
