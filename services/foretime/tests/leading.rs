//! Who leads the schedules, among processes that are killed, stopped and thawed: no tick is lost for long, and none is twice.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use foretime::Client;
use storage::private_postgres::PrivatePostgres;

const DEFINITIONS: &str = r#"
[[monitor]]
name = "watch"
model = "nothing"

[[schedule]]
name = "often"
cron = "* * * * * *"
overlap = "queue"
action = { monitor = "watch" }
"#;

/// A service in a process of its own, killed by its id when dropped.
struct Process {
    child: Child,
    url: String,
}

impl Process {
    fn start(service: &str, database: &str, data_dir: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_foretime"))
            .args(["--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data_dir)
            .args(["run", service])
            .env("FORETIME_DATABASE_URL", database)
            .env("FORETIME_LOG__FILTER", "warn")
            .env("FORETIME_JOBS__POLL_SECONDS", "1")
            .env("FORETIME_JOBS__LEASE_SECONDS", "2")
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

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(sent.expect("kill is everywhere").success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The process id of the leader, once there is one other than `not`; within the ten seconds that are promised, twice over.
async fn leader(pool: &sqlx::PgPool, not: Option<u32>) -> u32 {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let holder: Option<String> = sqlx::query_scalar(
            "select holder from leases where name = 'scheduler' and expires_at > clock_timestamp()",
        )
        .fetch_optional(pool)
        .await
        .expect("the lease can be read");
        let pid = holder.and_then(|holder| holder.split('-').next()?.parse().ok());
        if let Some(pid) = pid.filter(|pid| Some(*pid) != not) {
            return pid;
        }
        assert!(Instant::now() < deadline, "nobody leads");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn ticks(pool: &sqlx::PgPool) -> i64 {
    let started = "select count(*) from schedule_ticks where state = 'enqueued'";
    sqlx::query_scalar(started).fetch_one(pool).await.expect("they can be counted")
}

/// Waits until `more` ticks have started something.
async fn go_on(pool: &sqlx::PgPool, more: i64) {
    let (before, deadline) = (ticks(pool).await, Instant::now() + Duration::from_secs(20));
    while ticks(pool).await < before + more {
        assert!(Instant::now() < deadline, "the schedule stands still");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_leads_within_ten_seconds_and_no_tick_happens_twice() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).expect("it is ours");
    let postgres = PrivatePostgres::start(&folder.path().join("postgres")).expect("Postgres starts");
    let (url, data_dir) = (postgres.url("postgres"), folder.path().join("data"));
    let pool = storage::connect(&url, 2).await.expect("it answers");
    storage::migrate(&pool).await.expect("the migrations apply");
    let store = Process::start("feature-store", &url, &data_dir);
    let client = Client::new(&store.url, None).expect("a client can be made");
    let files = BTreeMap::from([("a.toml".to_owned(), DEFINITIONS.to_owned())]);
    client.apply(&files, false).await.expect("the definitions fit");
    let mut monitors: Vec<Process> = (0..2).map(|_| Process::start("monitor", &url, &data_dir)).collect();
    let first = leader(&pool, None).await;
    go_on(&pool, 2).await;

    // stopped for longer than its lease, and thawed in the middle of what it did
    let place = monitors.iter().position(|process| process.child.id() == first).expect("it is one of them");
    monitors[place].signal("-STOP");
    let stopped = Instant::now();
    let second = leader(&pool, Some(first)).await;
    let after_stop = stopped.elapsed();
    monitors[place].signal("-CONT");
    go_on(&pool, 2).await;

    // killed
    let place = monitors.iter().position(|process| process.child.id() == second).expect("it is the other");
    drop(monitors.remove(place));
    let killed = Instant::now();
    leader(&pool, Some(second)).await;
    let after_kill = killed.elapsed();
    go_on(&pool, 2).await;
    println!("failover: {after_stop:.1?} after SIGSTOP, {after_kill:.1?} after SIGKILL");
    assert!(after_stop.max(after_kill) <= Duration::from_secs(10), "{after_stop:?}, {after_kill:?}");

    // every tick by its own time, which is the key of its job
    let twice: Vec<(String, i64)> = sqlx::query_as(
        "select dedup_key, count(*) from jobs where kind = 'run-monitor' group by 1 having count(*) > 1",
    )
    .fetch_all(&pool)
    .await
    .expect("they can be counted");
    assert!(twice.is_empty(), "ticks that happened twice: {twice:?}");
    let ended_twice: i64 = sqlx::query_scalar(
        "select count(*) from (select job_id from job_logs where line = 'done' group by 1 having count(*) > 1) twice",
    )
    .fetch_one(&pool)
    .await
    .expect("they can be counted");
    assert_eq!(ended_twice, 0);
    drop((monitors, store));
    pool.close().await;
    postgres.stop().expect("Postgres stops");
}
