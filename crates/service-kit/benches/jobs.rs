//! The job loop on a Postgres of its own: jobs a second through one worker, and how soon a job starts when nothing else is
//! to be done. `make bench-jobs`.

use std::num::NonZeroUsize;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use service_kit::jobs::{Handlers, Outcome, start};
use service_kit::{Config, Context};
use storage::jobs::NewJob;
use storage::private_postgres::PrivatePostgres;
use tokio::sync::mpsc;

const QUEUED: i64 = 20_000;
const STARTS: usize = 300;
/// More hands than anybody needs.
const HANDS: NonZeroUsize = NonZeroUsize::new(64).expect("it is not zero");

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be started");
    runtime.block_on(measure());
}

async fn measure() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let open = std::fs::Permissions::from_mode(0o711);
    std::fs::set_permissions(folder.path(), open).expect("the folder is ours");
    let postgres = PrivatePostgres::start(folder.path()).expect("Postgres starts");
    let db = storage::connect(&postgres.url("postgres"), 10).await.expect("it answers");
    storage::migrate(&db).await.expect("the migrations apply");
    let default = Config::default().jobs.hands;
    for hands in [NonZeroUsize::MIN, default, HANDS] {
        let seconds = drain(&db, hands).await;
        let usual = if hands == default { ", the default" } else { "" };
        println!(
            "{hands:>3} hands: {:>7.0} jobs/s ({QUEUED} queued, one worker{usual})",
            QUEUED as f64 / seconds
        );
    }
    let mut waits = start_latencies(&db).await;
    waits.sort();
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "start when idle: median {:.1} ms, 99 % {:.1} ms, worst {:.1} ms ({STARTS} jobs)",
        at(0.5),
        at(0.99),
        at(1.0)
    );
    db.close().await;
    postgres.stop().expect("Postgres stops");
}

fn job(kind: &str) -> NewJob {
    NewJob {
        project: "default".into(),
        kind: kind.into(),
        payload: json!({ "sent": 1 }),
        dedup_key: None,
        priority: 0,
        max_attempts: 3,
    }
}

/// Seconds from the start of a worker until a full queue is empty and every end is stored.
async fn drain(db: &sqlx::PgPool, hands: NonZeroUsize) -> f64 {
    let kind = format!("bench-{hands}");
    let fill = "insert into jobs (job_id, project, kind, payload, state, run_after, max_attempts, created_at)
                select gen_random_uuid(), 'default', $1, '{}', 'queued', now(), 3, now() from generate_series(1, $2)";
    sqlx::query(fill).bind(&kind).bind(QUEUED).execute(db).await.expect("they are queued");
    sqlx::query("analyze jobs").execute(db).await.expect("it is analysed");
    let mut config = Config::default();
    config.jobs.hands = hands;
    let context = Context::new(db.clone(), config);
    let done = Arc::new(AtomicI64::new(0));
    let counted = Arc::clone(&done);
    let began = Instant::now();
    let handlers = Handlers::default().on(&kind, move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        async { Ok(Outcome::default()) }
    });
    start(&context, handlers);
    let left = "select count(*) from jobs where kind = $1 and state <> 'succeeded'";
    loop {
        tokio::time::sleep(Duration::from_millis(5)).await;
        // counting rows costs Postgres more than a job does: only the last ends are waited for that way
        if done.load(Ordering::Relaxed) < QUEUED {
            continue;
        }
        let left: i64 = sqlx::query_scalar(left).bind(&kind).fetch_one(db).await.expect("they are counted");
        if left == 0 {
            break;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    stop(&context).await;
    seconds
}

/// From the moment before a job is enqueued until its handler begins, with nothing else to do.
async fn start_latencies(db: &sqlx::PgPool) -> Vec<Duration> {
    let context = Context::new(db.clone(), Config::default());
    let (tell, mut told) = mpsc::unbounded_channel();
    let handlers = Handlers::default().on("start", move |_| {
        let _ = tell.send(Instant::now());
        async { Ok(Outcome::default()) }
    });
    start(&context, handlers);
    let mut conn = db.acquire().await.expect("Postgres answers");
    let mut waits = Vec::new();
    for _ in 0..STARTS {
        tokio::time::sleep(Duration::from_millis(20)).await; // the worker is idle again
        let began = Instant::now();
        storage::jobs::enqueue(&mut conn, &job("start")).await.expect("it is queued");
        waits.push(told.recv().await.expect("it starts") - began);
    }
    stop(&context).await;
    waits
}

async fn stop(context: &Context) {
    context.stop.cancel();
    context.tasks.close();
    context.tasks.wait().await;
}
