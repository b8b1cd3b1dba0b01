//! Ctrl-C: everything that was started is stopped, and a second start finds all as it was.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::{Process, count, folder, foretime, signal};

/// A platform over a private Postgres of its own.
fn up(folder: &Path) -> Process {
    let arguments = ["--listen", "127.0.0.1:0", "--data-dir", "data", "up"];
    let mut process = Process::spawn(foretime(&arguments, folder).env("TMPDIR", folder), folder);
    process.listens();
    process
}

fn interrupted(process: Process) -> bool {
    process.signal("-INT");
    process.wait().success()
}

#[test]
fn up_stops_in_order_on_ctrl_c_and_starts_again_on_the_same_data() {
    let folder = folder();
    let pid_file = folder.path().join("data/postgres/data/postmaster.pid");
    for _ in 0..2 {
        let process = up(folder.path());
        assert!(pid_file.exists());
        assert!(interrupted(process));
        assert!(!pid_file.exists(), "Postgres was left behind");
    }
}

#[test]
fn the_demo_stops_on_ctrl_c_and_leaves_neither_process_nor_data() {
    let (folder, logs) = (folder(), folder());
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/flights");
    let example = example.to_str().expect("the path is UTF-8");
    let mut demo = foretime(&["demo", "--quick", "--example", example], folder.path());
    let mut process = Process::spawn(demo.env("TMPDIR", folder.path()), logs.path());
    process.line_with("training set");
    // in the middle of a training
    assert!(!interrupted(process), "an interrupted demo has not succeeded");
    let left: Vec<_> =
        std::fs::read_dir(folder.path()).expect("it can be read").flatten().map(|e| e.path()).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

#[test]
fn a_request_in_hand_is_answered_before_the_process_ends_and_no_new_one_is_taken() {
    let folder = folder();
    let mut process = up(folder.path());
    let address = process.url.strip_prefix("http://").expect("it says where").to_owned();
    let mut in_hand = TcpStream::connect(&address).expect("it listens");
    let body = "[]";
    let head = "POST /v1/labels HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n";
    in_hand.write_all(head.as_bytes()).expect("it is sent");
    let mut interim = [0u8; 25]; // "HTTP/1.1 100 Continue" and an empty line: the handler waits for the body
    in_hand.read_exact(&mut interim).expect("it wants the body");
    assert!(interim.starts_with(b"HTTP/1.1 100"), "{:?}", String::from_utf8_lossy(&interim));
    process.signal("-INT");
    let deadline = Instant::now() + Duration::from_secs(15);
    while TcpStream::connect(&address).is_ok() {
        assert!(Instant::now() < deadline, "new connections are still taken");
    }
    assert!(process.runs(), "it ended with a request in hand");
    in_hand.write_all(body.as_bytes()).expect("it is sent");
    let mut answer = String::new();
    in_hand.read_to_string(&mut answer).expect("it is answered");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(process.wait().success());
}

#[tokio::test]
async fn a_private_postgres_that_was_killed_comes_back_with_what_was_acknowledged() {
    let folder = folder();
    let process = up(folder.path());
    let pid_file = folder.path().join("data/postgres/data/postmaster.pid");
    let pid = std::fs::read_to_string(&pid_file).expect("Postgres runs");
    let url =
        format!("postgres:///postgres?host={}/data/postgres/socket&user=postgres", folder.path().display());
    let kept = "select count(*) from leases where name = 'remembered'";
    let pool = storage::connect(&url, 1).await.expect("it answers");
    let insert = "insert into leases values ('remembered', 'us', now()) on conflict do nothing";
    sqlx::query(insert).execute(&pool).await.expect("it is written");
    assert_eq!(count(&pool, kept).await, 1);
    pool.close().await;
    let postgres = pid.lines().next().expect("the first line is its id");
    signal(postgres.parse().expect("ids are numbers"), "-KILL");
    interrupted(process); // well or not
    let process = up(folder.path());
    let pool = storage::connect(&url, 1).await.expect("it answers");
    assert_eq!(count(&pool, kept).await, 1, "what was acknowledged is gone");
    pool.close().await;
    assert!(interrupted(process));
}
