//! Two servers over one Postgres, and what their processes use.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use sqlx::{Connection, Executor, PgConnection};
use storage::private_postgres::PrivatePostgres;

/// The Postgres of both, in a folder that goes with it.
pub(crate) struct Databases {
    postgres: PrivatePostgres,
    folder: tempfile::TempDir,
}

impl Databases {
    pub(crate) async fn start() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("the temporary directory can be written");
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).expect("it is ours");
        let postgres = PrivatePostgres::start(&folder.path().join("postgres")).expect("a Postgres starts");
        let databases = Self { postgres, folder };
        let mut conn = databases.connect("postgres").await;
        for name in ["ours", "theirs"] {
            conn.execute(sqlx::AssertSqlSafe(format!("create database {name}")))
                .await
                .expect("it is created");
        }
        databases
    }

    async fn connect(&self, name: &str) -> PgConnection {
        PgConnection::connect(&self.postgres.url(name)).await.expect("the database answers")
    }

    /// The same runs in both: an experiment 1000 with a metric, a parameter and a tag each.
    pub(crate) async fn seed(&self, runs: i64) {
        for (name, statements) in [("ours", include_str!("ours.sql")), ("theirs", include_str!("theirs.sql"))]
        {
            let statements = statements.replace(":runs", &runs.to_string());
            let mut conn = self.connect(name).await;
            conn.execute(sqlx::AssertSqlSafe(statements)).await.expect("the runs are written");
        }
        self.settle().await;
    }

    /// Lets Postgres do at once what it would do sooner or later beside the requests: clear up behind writes, take statistics, write
    /// changed pages.
    pub(crate) async fn settle(&self) {
        for name in ["ours", "theirs"] {
            let mut conn = self.connect(name).await;
            conn.execute("vacuum analyze").await.expect("the statistics are taken");
            conn.execute("checkpoint").await.expect("the pages are written");
        }
    }
}

/// A server that runs.
pub(crate) struct Server {
    child: Child,
    address: String,
    /// The experiment that holds the seeded runs.
    pub(crate) experiment: &'static str,
}

impl Server {
    pub(crate) async fn foretime(program: &str, databases: &Databases) -> Self {
        let (port, data) = (free_port(), databases.folder.path().join("ours"));
        let command = |arguments: &[&str]| {
            let mut command = Command::new(program);
            command
                .args(arguments)
                .env("FORETIME_DATABASE_URL", databases.postgres.url("ours"))
                .env("FORETIME_DATA_DIR", &data)
                .env("FORETIME_HTTP__LISTEN", format!("127.0.0.1:{port}"))
                .current_dir(databases.folder.path());
            command
        };
        let migrated = command(&["migrate"]).status().expect("the program starts");
        assert!(migrated.success(), "the migrations apply");
        Self::start(command(&["run", "registry"]), port, &databases.folder.path().join("ours.log")).await
    }

    pub(crate) async fn mlflow(program: &str, databases: &Databases) -> Self {
        let (port, folder) = (free_port(), databases.folder.path());
        let url = databases.postgres.url("theirs").replacen("postgres://", "postgresql+psycopg2://", 1);
        let mut command = Command::new(program);
        command
            .args(["server", "--host", "127.0.0.1", "--port", &port.to_string(), "--backend-store-uri", &url])
            .args(["--artifacts-destination", &folder.join("theirs").display().to_string()])
            .current_dir(folder);
        Self::start(command, port, &folder.join("theirs.log")).await
    }

    async fn start(mut command: Command, port: u16, log: &Path) -> Self {
        let log = std::fs::File::create(log).expect("the folder is ours");
        let also = log.try_clone().expect("a file can be shared");
        command.stdin(Stdio::null()).stdout(log).stderr(also).process_group(0);
        let child = command.spawn().expect("the server starts");
        let server = Self { child, address: format!("http://127.0.0.1:{port}"), experiment: "1000" };
        let deadline = Instant::now() + Duration::from_secs(120);
        let client = reqwest::Client::new();
        loop {
            let asked = client.get(format!("{}/health", server.address)).send().await;
            if asked.is_ok_and(|answer| answer.status().is_success()) {
                return server;
            }
            assert!(Instant::now() < deadline, "{} does not answer", server.address);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}/api/2.0/mlflow/{path}", self.address)
    }

    pub(crate) fn artifact_url(&self, path: &str) -> String {
        format!("{}/api/2.0/mlflow-artifacts/artifacts/{path}", self.address)
    }

    /// One request that must be met.
    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        let answer = reqwest::Client::new().post(self.url(path)).body(body.to_string());
        let answer =
            answer.header("content-type", "application/json").send().await.expect("the server answers");
        let (status, text) = (answer.status(), answer.text().await.expect("the answer is text"));
        assert!(status.is_success(), "{path}: {text}");
        serde_json::from_str(&text).expect("the answer is JSON")
    }

    /// Processor time of all its processes so far, in milliseconds.
    pub(crate) fn cpu_ms(&self) -> f64 {
        processes(self.child.id()).into_iter().filter_map(cpu_ms).sum()
    }

    /// Proportional set size of all its processes, in megabytes.
    pub(crate) fn memory_mb(&self) -> f64 {
        memory_mb(self.child.id())
    }

    /// Looks at the memory until asked for the most of it.
    pub(crate) fn watch_memory(&self) -> Watch {
        let watch = Watch { most_kb: Arc::default(), done: Arc::default() };
        let (pid, seen) = (self.child.id(), watch.clone());
        tokio::spawn(async move {
            let mut pause = tokio::time::interval(Duration::from_millis(20));
            while !seen.done.load(Ordering::Relaxed) {
                pause.tick().await;
                seen.most_kb.fetch_max((memory_mb(pid) * 1e3) as u64, Ordering::Relaxed);
            }
        });
        watch
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let group = i32::try_from(self.child.id()).expect("a process id fits");
        Command::new("kill").args(["-TERM", "--", &format!("-{group}")]).status().ok();
        self.child.wait().ok();
    }
}

/// The most memory seen.
#[derive(Clone)]
pub(crate) struct Watch {
    most_kb: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
}

impl Watch {
    pub(crate) fn most(&self) -> f64 {
        self.done.store(true, Ordering::Relaxed);
        self.most_kb.load(Ordering::Relaxed) as f64 / 1e3
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("a bound listener has an address").port()
}

/// A process and all that it started.
fn processes(root: u32) -> Vec<u32> {
    let all: Vec<(u32, u32)> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid: u32| Some((pid, fields(pid)?.get(1)?.parse().ok()?)))
        .collect();
    let mut found = vec![root];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        found.extend(all.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found
}

/// The fields of /proc/<pid>/stat after the name: state, parent, …
fn fields(pid: u32) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after) = stat.rsplit_once(')')?;
    Some(after.split_whitespace().map(str::to_owned).collect())
}

/// User and system time; the kernel counts hundredths of a second.
fn cpu_ms(pid: u32) -> Option<f64> {
    let fields = fields(pid)?;
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) * 10.0)
}

fn memory_mb(root: u32) -> f64 {
    let of = |pid: u32| {
        let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = rollup.lines().find(|line| line.starts_with("Pss:"))?;
        line.split_whitespace().nth(1)?.parse::<f64>().ok()
    };
    processes(root).into_iter().filter_map(of).sum::<f64>() / 1e3
}
