//! Processes of this program for tests: each on a free port, with its log in a file, known by its id and ended by it.
//!
//! Belongs here: starting, waiting for readiness, signalling, ending. Not here: what a test is about; its definitions and rows
//! stay with it.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use foretime::Client;
use serde_json::Value;
use storage::private_postgres::PrivatePostgres;

/// How long a condition may take to become true, unless a test says otherwise.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A temporary folder that a Postgres of another user may pass through.
pub(crate) fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).expect("it is ours");
    folder
}

/// The program in a folder, with nothing configured.
pub(crate) fn foretime(arguments: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_foretime"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    for name in ["DATABASE_URL", "FORETIME_DATABASE_URL", "FORETIME_CONFIG"] {
        command.env_remove(name);
    }
    command
}

/// The same command, where no file can grow past so many blocks of 512 bytes: as on a full disk.
pub(crate) fn with_room(blocks: u32, command: &Command) -> Command {
    // a process that ignores the signal gets an error from the write that goes too far
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
    let mut shell = Command::new("sh");
    shell.args(["-c", &script, "sh"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        shell.current_dir(folder);
    }
    shell
}

/// What services share: a private Postgres and a data directory, in a folder that goes with the test.
pub(crate) struct Ground {
    postgres: Option<PrivatePostgres>,
    url: String,
    folder: tempfile::TempDir,
}

impl Ground {
    /// An empty database.
    pub(crate) fn new() -> Self {
        let folder = folder();
        let postgres = PrivatePostgres::start(&folder.path().join("postgres")).expect("Postgres starts");
        Self { url: postgres.url("postgres"), postgres: Some(postgres), folder }
    }

    /// A database that services find as they expect it.
    pub(crate) async fn migrated() -> Self {
        let ground = Self::new();
        let pool = ground.pool().await;
        storage::migrate(&pool).await.expect("the migrations apply");
        pool.close().await;
        ground
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The database's address.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) async fn pool(&self) -> sqlx::PgPool {
        storage::connect(&self.url, 2).await.expect("it answers")
    }

    /// The server's process id.
    pub(crate) fn postgres_pid(&self) -> u32 {
        self.postgres.as_ref().and_then(PrivatePostgres::pid).expect("Postgres runs")
    }

    /// Takes the database away in order.
    pub(crate) fn stop_postgres(&mut self) {
        self.postgres.take().expect("Postgres runs").stop().expect("Postgres stops");
    }

    /// Ends the server at once; its own children notice and end too.
    pub(crate) fn kill_postgres(&mut self) {
        signal(self.postgres_pid(), "-KILL");
        self.postgres = None;
    }

    /// Brings it back.
    #[expect(
        clippy::disallowed_methods,
        reason = "a killed server's children hold its memory for a moment, and the system tells nobody when they are gone"
    )]
    pub(crate) fn start_postgres(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.postgres.is_none() {
            match PrivatePostgres::start(&self.path().join("postgres")) {
                Ok(started) => self.postgres = Some(started),
                Err(error) => assert!(Instant::now() < deadline, "Postgres does not start again: {error}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// All services in one process, which take up work within a second.
    pub(crate) fn up(&self) -> Command {
        self.serving(&["up"])
    }

    /// One service in a process of its own, which takes up work within a second.
    pub(crate) fn service(&self, name: &str) -> Command {
        self.serving(&["run", name])
    }

    fn serving(&self, what: &[&str]) -> Command {
        let mut command = foretime(&["--listen", "127.0.0.1:0", "--data-dir"], self.path());
        command
            .arg(self.data_dir())
            .args(what)
            .env("FORETIME_DATABASE_URL", &self.url)
            .env("FORETIME_LOG__FILTER", "warn")
            .env("FORETIME_JOBS__POLL_SECONDS", "1")
            .env("FORETIME_WEBHOOKS__ALLOW_HTTP", "true")
            .env("FORETIME_WEBHOOKS__ALLOW_PRIVATE", "true");
        command
    }

    /// Starts it, and waits until it listens.
    pub(crate) fn start(&self, command: &mut Command) -> Process {
        let mut process = Process::spawn(command, self.path());
        process.listens();
        process
    }
}

/// A process of this program; killed by its id when dropped.
pub(crate) struct Process {
    child: Child,
    /// Where it listens, once it does.
    pub(crate) url: String,
    /// Who asks it.
    pub(crate) http: reqwest::Client,
    stdout: BufReader<ChildStdout>,
    log: PathBuf,
}

impl Process {
    /// Starts a command whose errors go into a file of `folder`.
    pub(crate) fn spawn(command: &mut Command, folder: &Path) -> Self {
        let log = folder.join(format!("{}.log", uuid::Uuid::new_v4().simple()));
        let errors = std::fs::File::create(&log).expect("the folder is ours");
        let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors).spawn();
        let mut child = started.expect("the program starts");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { child, url: String::new(), http: http(), stdout, log }
    }

    /// Waits until it says where it listens.
    pub(crate) fn listens(&mut self) {
        let line = self.line_with("listens on");
        self.url = line.split_whitespace().last().expect("it says where").to_owned();
    }

    /// Reads lines until one contains `word`; answers it.
    pub(crate) fn line_with(&mut self, word: &str) -> String {
        loop {
            let mut line = String::new();
            let read = self.stdout.read_line(&mut line).expect("it can be read");
            assert_ne!(read, 0, "it ended before it said `{word}`: {}", self.log());
            if line.contains(word) {
                return line;
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged until now.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("a log is text")
    }

    /// Sends a signal, such as `-STOP`.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Whether it has not ended by itself.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().expect("it can be asked").is_none()
    }

    /// Waits for its end; answers how it ended.
    pub(crate) fn wait(mut self) -> ExitStatus {
        self.child.wait().expect("it ends")
    }

    /// Lets it end in order; answers how it ended.
    pub(crate) fn stop(self) -> ExitStatus {
        self.signal("-TERM");
        self.wait()
    }

    /// Ends it at once, as the system does to whom it has no memory for.
    pub(crate) fn kill(self) {
        drop(self);
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&self.url, None).expect("a client can be made")
    }

    /// A request with a JSON body, if any; the status and the JSON of the answer, or its text.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let request = request(&self.http, &self.url, method, path, body);
        let answer = request.send().await.expect("it answers");
        let status = answer.status().as_u16();
        let text = answer.text().await.expect("it can be read");
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// What a route shows, which must be JSON.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, answer) = self.ask("GET", path, None).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill(); // SIGKILL, to this child alone
        let _ = self.child.wait();
    }
}

/// Who asks over HTTP.
pub(crate) fn http() -> reqwest::Client {
    // the first provider of a process wins; a second installation is refused and harmless
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

/// A request with a JSON body, if any.
pub(crate) fn request(
    http: &reqwest::Client,
    url: &str,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> reqwest::RequestBuilder {
    let method = method.parse().expect("it is a method");
    let request = http.request(method, format!("{url}{path}"));
    match body {
        Some(body) => request.header("content-type", "application/json").body(body.to_string()),
        None => request,
    }
}

/// Sends a signal to one process.
pub(crate) fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args([name, &pid.to_string()]).status();
    assert!(sent.expect("kill is everywhere").success(), "{pid} cannot be sent {name}");
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, patience: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {patience:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The process id of who leads the schedules, once there is one other than `not`; within the ten seconds that are promised,
/// twice over.
pub(crate) async fn leader(pool: &sqlx::PgPool, not: Option<u32>) -> u32 {
    let held = "select holder from leases where name = 'scheduler' and expires_at > clock_timestamp()";
    let mut led = None;
    until("somebody leads", Duration::from_secs(20), async || {
        let holder: Option<String> =
            sqlx::query_scalar(held).fetch_optional(pool).await.expect("the lease can be read");
        led =
            holder.and_then(|holder| holder.split('-').next()?.parse().ok()).filter(|pid| Some(*pid) != not);
        led.is_some()
    })
    .await;
    led.expect("it was waited for")
}

/// What a statement counts.
pub(crate) async fn count(pool: &sqlx::PgPool, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement).fetch_one(pool).await.expect("it can be counted")
}
