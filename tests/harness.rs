//! A whole Foretime in one process over a throw-away database, for tests.
//!
//! Without `DATABASE_URL` the first test of a process starts a private Postgres, which ends with the process. Every test has a
//! database of its own, made from a migrated template.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use chrono::{DateTime, Utc};
use domain::ManualClock;
use http_body_util::BodyExt;
use service_kit::{Config, Context};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use storage::private_postgres::PrivatePostgres;
use tokio::sync::OnceCell;
use tower::ServiceExt;

/// When tests begin, unless they say otherwise.
pub const NOW: &str = "2013-11-01T00:00:00Z";

/// All services over a fresh database, with a clock that the test holds.
pub struct Platform {
    /// What the services share.
    pub context: Context,
    /// The clock they live by.
    pub clock: Arc<ManualClock>,
    /// Their routes, with the common surface around them.
    pub router: Router,
    /// Where files lie; gone when the test ends.
    pub folder: tempfile::TempDir,
    working: AtomicBool,
}

impl Platform {
    /// A platform whose clock shows [`NOW`].
    pub async fn start() -> Self {
        Self::starting_at(NOW.parse().expect("the constant is RFC 3339")).await
    }

    /// A platform with settings of its own.
    pub async fn configured(change: impl FnOnce(&mut Config)) -> Self {
        Self::with(NOW.parse().expect("the constant is RFC 3339"), change).await
    }

    /// A platform that may tell webhooks on this machine.
    pub async fn telling_this_machine() -> Self {
        Self::configured(|config| {
            config.webhooks.allow_http = true;
            config.webhooks.allow_private = true;
        })
        .await
    }

    /// A platform whose clock shows `now`.
    pub async fn starting_at(now: DateTime<Utc>) -> Self {
        Self::with(now, |_| {}).await
    }

    /// A platform whose clock shows `now`, with settings of its own.
    pub async fn with(now: DateTime<Utc>, change: impl FnOnce(&mut Config)) -> Self {
        let folder = folder();
        let clock = Arc::new(ManualClock::starting_at(now));
        let mut config =
            Config { data_dir: folder.path().to_owned(), database_connections: 8, ..Config::default() };
        config.jobs.poll_seconds = 1;
        config.features.sample_one_in = 1;
        config.http.listen.set_port(0);
        change(&mut config);
        let db = storage::connect(&fresh_database().await, 8).await.expect("the test server answers");
        let context = Context::new(db, config).with_clock(clock.clone());
        let worker = gpt_worker::Worker::new(&context).expect("a processor is there");
        let routes = feature_store::router(&context)
            .merge(worker.router())
            .merge(monitor::router(context.clone()))
            .merge(registry::router(&context));
        let router = service_kit::http::surface(&context, routes);
        Self { context, clock, router, folder, working: AtomicBool::new(false) }
    }

    /// What the clock shows, in microseconds.
    pub fn clock_micros(&self) -> i64 {
        domain::Clock::now(&*self.clock).timestamp_micros()
    }

    /// Sends a request with a JSON body, if any; answers the status and the JSON (or the text) of the answer.
    pub async fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<serde_json::Value>,
    ) -> (u16, serde_json::Value) {
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        self.send(request.body(body).expect("the request is well formed")).await
    }

    /// Pushes rows of a source.
    pub async fn push(
        &self,
        source: &str,
        rows: &frames::Frame,
        key: Option<&str>,
    ) -> (u16, serde_json::Value) {
        let mut request = Request::post(format!("/v1/sources/{source}/rows"));
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let bytes = frames::wire::write_stream(rows).expect("a frame can be encoded");
        self.send(request.body(Body::from(bytes)).expect("the request is well formed")).await
    }

    /// Pushes rows of a source as JSON, which must all be taken; answers what became of them.
    pub async fn push_rows(&self, source: &str, rows: serde_json::Value) -> serde_json::Value {
        let body = serde_json::json!({ "rows": rows });
        let (status, answer) = self.call("POST", &format!("/v1/sources/{source}/rows"), Some(body)).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// Sends a request that must succeed; answers the bytes of the answer.
    pub async fn bytes(&self, request: Request<Body>) -> Vec<u8> {
        let response = self.router.clone().oneshot(request).await.expect("the router never fails");
        assert_eq!(response.status().as_u16(), 200);
        response.into_body().collect().await.expect("the body is in memory").to_bytes().to_vec()
    }

    /// Sends any request.
    pub async fn send(&self, request: Request<Body>) -> (u16, serde_json::Value) {
        let response = self.router.clone().oneshot(request).await.expect("the router never fails");
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.expect("the body is in memory").to_bytes();
        let text = || serde_json::Value::String(String::from_utf8_lossy(&bytes).into_owned());
        (status, serde_json::from_slice(&bytes).unwrap_or_else(|_| text()))
    }

    /// Applies definitions, which must fit.
    pub async fn apply(&self, toml: &str) {
        let body = serde_json::json!({ "files": { "test.toml": toml } });
        let (status, answer) = self.call("PUT", "/v1/definitions", Some(body)).await;
        assert_eq!(status, 200, "{answer}");
    }

    /// Starts the job loops of all services, the first time it is called.
    pub fn work(&self) {
        if self.working.swap(true, Ordering::SeqCst) {
            return;
        }
        feature_store::start(&self.context);
        gpt_worker::Worker::new(&self.context).expect("a processor is there").start();
        monitor::start(&self.context).expect("the delivery client can be made");
        registry::start(&self.context);
    }

    /// Starts the job loops and waits until no job is queued or running and no message could be leaving.
    pub async fn run_jobs(&self) {
        self.work();
        let mut pause = tokio::time::interval(std::time::Duration::from_millis(20));
        loop {
            pause.tick().await;
            let mut conn = self.context.db.acquire().await.expect("the test server answers");
            let counts = storage::jobs::counts(&mut conn).await.expect("the jobs can be counted");
            let idle = counts.iter().all(|(_, state, _)| !matches!(state.as_str(), "queued" | "running"));
            if idle && self.messages_leaving().await == 0 {
                return;
            }
        }
    }

    /// How many messages are on their way or could be; those that wait for their next try are not among them.
    pub async fn messages_leaving(&self) -> i64 {
        let mut conn = self.context.db.acquire().await.expect("the test server answers");
        let leaving = storage::notifications::leaving(&mut conn, "default", domain::Clock::now(&*self.clock));
        leaving.await.expect("the messages can be counted")
    }

    /// Serves the routes on a free port of the loopback until the test ends; answers the address.
    pub async fn serve(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("a bound listener has an address");
        let (router, stop) = (self.router.clone(), self.context.stop.clone());
        tokio::spawn(async move {
            axum::serve(listener, router)
                .with_graceful_shutdown(stop.cancelled_owned())
                .await
                .expect("it serves");
        });
        format!("http://{address}")
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        self.context.stop.cancel();
    }
}

/// A temporary folder that an unprivileged Postgres may pass through.
pub fn folder() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("the temporary directory can be written");
    let open = std::fs::Permissions::from_mode(0o711);
    std::fs::set_permissions(folder.path(), open).expect("the folder is ours");
    folder
}

static TEMPLATE: OnceCell<String> = OnceCell::const_new();
static SERVER: OnceLock<String> = OnceLock::new();

/// The address of a new, migrated database.
pub async fn fresh_database() -> String {
    let server = tokio::task::spawn_blocking(server).await.expect("starting a server does not panic");
    let template = TEMPLATE.get_or_init(|| template(server)).await;
    let name = format!("t_{}", uuid::Uuid::new_v4().simple());
    administer(server, &format!("create database {name} template {template}")).await;
    on(server, &name).to_url_lossy().to_string()
}

/// The server: the one of `DATABASE_URL`, or a private one that lives as long as the process.
fn server() -> &'static str {
    SERVER.get_or_init(|| {
        if let Ok(url) = std::env::var("DATABASE_URL") {
            return url;
        }
        let folder = folder().keep();
        let postgres = PrivatePostgres::start_throwaway(&folder.join("postgres"))
            .expect("a private Postgres can be started");
        let url = postgres.url("postgres");
        at_exit::stop_and_remove(postgres, folder);
        url
    })
}

async fn template(server: &str) -> String {
    let name = format!("template_{}", uuid::Uuid::new_v4().simple());
    administer(server, &format!("create database {name}")).await;
    let url = on(server, &name).to_url_lossy().to_string();
    let pool = storage::connect(&url, 1).await.expect("the test server answers");
    storage::migrate(&pool).await.expect("the migrations apply to an empty database");
    pool.close().await;
    name
}

fn on(server: &str, database: &str) -> PgConnectOptions {
    let options: PgConnectOptions = server.parse().expect("the address is a Postgres URL");
    options.database(database)
}

async fn administer(server: &str, statement: &str) {
    let mut conn = on(server, "postgres").connect().await.expect("the test server answers");
    sqlx::query(AssertSqlSafe(statement))
        .execute(&mut conn)
        .await
        .expect("the test server does as it is told");
    conn.close().await.expect("the connection ends");
}

/// Statics are never dropped, so the server is stopped by the process's exit handler.
mod at_exit {
    use std::path::PathBuf;
    use std::sync::Mutex;

    use storage::private_postgres::PrivatePostgres;

    static SERVER: Mutex<Option<(PrivatePostgres, PathBuf)>> = Mutex::new(None);

    pub(super) fn stop_and_remove(postgres: PrivatePostgres, folder: PathBuf) {
        *SERVER.lock().expect("no holder of this lock can panic") = Some((postgres, folder));
        #[expect(
            unsafe_code,
            reason = "atexit takes a function that lives for ever and touches only the static above"
        )]
        unsafe {
            libc::atexit(stop);
        }
    }

    extern "C" fn stop() {
        if let Some((postgres, folder)) = SERVER.lock().ok().and_then(|mut server| server.take()) {
            let _ = postgres.stop();
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}
