//! Ctrl-C: everything that was started is stopped, and a second start finds all as it was.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

fn start(arguments: &[&str], folder: &Path) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_foretime"))
        .args(arguments)
        .current_dir(folder)
        .env_remove("DATABASE_URL")
        .env_remove("FORETIME_DATABASE_URL")
        .env("TMPDIR", folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("the program starts");
    let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
    (child, stdout)
}

/// Reads lines until one contains `word`; answers it.
fn line_with(stdout: &mut BufReader<ChildStdout>, word: &str) -> String {
    loop {
        let mut line = String::new();
        assert_ne!(
            stdout.read_line(&mut line).expect("it can be read"),
            0,
            "it ended before it said `{word}`"
        );
        if line.contains(word) {
            return line;
        }
    }
}

fn interrupt(child: &Child) {
    let sent =
        Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill is everywhere");
    assert!(sent.success());
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).expect("it is ours");
    folder
}

#[test]
fn up_stops_in_order_on_ctrl_c_and_starts_again_on_the_same_data() {
    let folder = folder();
    for _ in 0..2 {
        let (mut child, mut stdout) =
            start(&["--listen", "127.0.0.1:0", "--data-dir", "data", "up"], folder.path());
        line_with(&mut stdout, "listens on");
        assert!(folder.path().join("data/postgres/data/postmaster.pid").exists());
        interrupt(&child);
        assert!(child.wait().expect("it ends").success());
        assert!(
            !folder.path().join("data/postgres/data/postmaster.pid").exists(),
            "Postgres was left behind"
        );
    }
}

#[test]
fn the_demo_stops_on_ctrl_c_and_leaves_neither_process_nor_data() {
    let folder = folder();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/flights");
    let example = example.to_str().expect("the path is UTF-8");
    let (mut child, mut stdout) = start(&["demo", "--quick", "--example", example], folder.path());
    line_with(&mut stdout, "training set");
    interrupt(&child); // in the middle of a training
    assert!(!child.wait().expect("it ends").success(), "an interrupted demo has not succeeded");
    let left: Vec<_> =
        std::fs::read_dir(folder.path()).expect("it can be read").flatten().map(|e| e.path()).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

#[test]
fn a_request_in_hand_is_answered_before_the_process_ends_and_no_new_one_is_taken() {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    let folder = folder();
    let (mut child, mut stdout) =
        start(&["--listen", "127.0.0.1:0", "--data-dir", "data", "up"], folder.path());
    let line = line_with(&mut stdout, "listens on");
    let address = line.trim().rsplit_once("http://").expect("it says where").1.to_owned();
    let mut in_hand = TcpStream::connect(&address).expect("it listens");
    let body = "[]";
    let head = "POST /v1/labels HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n";
    in_hand.write_all(head.as_bytes()).expect("it is sent");
    let mut interim = [0u8; 25]; // "HTTP/1.1 100 Continue" and an empty line: the handler waits for the body
    in_hand.read_exact(&mut interim).expect("it wants the body");
    assert!(interim.starts_with(b"HTTP/1.1 100"), "{:?}", String::from_utf8_lossy(&interim));
    interrupt(&child);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(15);
    while TcpStream::connect(&address).is_ok() {
        assert!(std::time::Instant::now() < deadline, "new connections are still taken");
    }
    assert!(child.try_wait().expect("it can be asked").is_none(), "it ended with a request in hand");
    in_hand.write_all(body.as_bytes()).expect("it is sent");
    let mut answer = String::new();
    in_hand.read_to_string(&mut answer).expect("it is answered");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn a_private_postgres_that_was_killed_comes_back_with_what_was_acknowledged() {
    let folder = folder();
    let arguments = ["--listen", "127.0.0.1:0", "--data-dir", "data", "up"];
    let (mut child, mut stdout) = start(&arguments, folder.path());
    line_with(&mut stdout, "listens on");
    let pid_file = folder.path().join("data/postgres/data/postmaster.pid");
    let pid = std::fs::read_to_string(&pid_file).expect("Postgres runs");
    let url =
        format!("postgres:///postgres?host={}/data/postgres/socket&user=postgres", folder.path().display());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be started");
    let leases = |url: String| async move {
        let pool = storage::connect(&url, 1).await.expect("it answers");
        let insert = "insert into leases values ('remembered', 'us', now()) on conflict do nothing";
        sqlx::query(insert).execute(&pool).await.expect("it is written");
        let kept: i64 = sqlx::query_scalar("select count(*) from leases where name = 'remembered'")
            .fetch_one(&pool)
            .await
            .expect("it is read");
        pool.close().await;
        kept
    };
    assert_eq!(runtime.block_on(leases(url.clone())), 1);
    let postgres = pid.lines().next().expect("the first line is its id");
    let killed = Command::new("kill").args(["-9", postgres]).status().expect("kill is everywhere");
    assert!(killed.success());
    interrupt(&child);
    child.wait().expect("it ends, well or not");
    let (mut child, mut stdout) = start(&arguments, folder.path());
    line_with(&mut stdout, "listens on");
    let read = async {
        let pool = storage::connect(&url, 1).await.expect("it answers");
        let kept: i64 = sqlx::query_scalar("select count(*) from leases where name = 'remembered'")
            .fetch_one(&pool)
            .await
            .expect("it is read");
        pool.close().await;
        kept
    };
    assert_eq!(runtime.block_on(read), 1, "what was acknowledged is gone");
    interrupt(&child);
    assert!(child.wait().expect("it ends").success());
}
