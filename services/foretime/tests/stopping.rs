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
