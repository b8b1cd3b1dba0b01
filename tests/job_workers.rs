//! Many workers on one Postgres, each a process of its own: stopped, thawed and killed while they work.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use journeys::fresh_database;
use serde_json::json;
use service_kit::jobs::{Handlers, Outcome, start};
use service_kit::{Config, Context};
use storage::jobs::NewJob;

/// The variable that makes a process of this very program a worker.
const DATABASE: &str = "FORETIME_TEST_WORKER";
const JOBS: usize = 1_200;

/// Not a test by itself: what the processes of the test below do, until they are killed.
#[tokio::test(flavor = "multi_thread")]
async fn works_as_a_process_of_its_own() {
    let Ok(database) = std::env::var(DATABASE) else { return };
    let mut config = Config::default();
    (config.jobs.lease_seconds, config.jobs.poll_seconds) = (1, 1);
    config.jobs.hands = 4.try_into().unwrap();
    let db = storage::connect(&database, 8).await.unwrap();
    let context = Context::new(db, config);
    let handlers = Handlers::default().on("stress", |_| async {
        tokio::time::sleep(Duration::from_millis(15)).await;
        Ok(Outcome { answer: json!({ "by": std::process::id() }), next: vec![] })
    });
    start(&context, handlers);
    std::future::pending::<()>().await;
}

/// A worker; killed by its id when dropped.
struct Worker(Child);

impl Worker {
    fn start(database: &str) -> Self {
        let program = std::env::current_exe().unwrap();
        let worker = Command::new(program)
            .args(["--exact", "job_workers::works_as_a_process_of_its_own", "--nocapture"])
            .env(DATABASE, database)
            .env_remove("DATABASE_URL")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(worker.unwrap())
    }

    fn signal(&self, signal: i32) {
        #[expect(
            unsafe_code,
            reason = "kill has no memory effects; the child is ours and not yet waited for"
        )]
        unsafe {
            libc::kill(self.0.id().cast_signed(), signal);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Writes down every lease that is given, taken over or ended, and whether the one before had run out.
const WITNESS: &str = "
    create table witness (job_id uuid, before uuid, after uuid, ran_out boolean);
    create function witness() returns trigger language plpgsql as $$ begin
        insert into witness values (new.job_id, old.lease_token, new.lease_token, old.lease_expires_at < clock_timestamp());
        return new;
    end $$;
    create trigger witness before update of lease_token on jobs for each row
        when (old.lease_token is distinct from new.lease_token) execute function witness();
";

async fn count(pool: &sqlx::PgPool, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement).fetch_one(pool).await.unwrap()
}

/// Waits until `statement` counts `wanted` or more.
async fn until(pool: &sqlx::PgPool, statement: &'static str, wanted: i64) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while count(pool, statement).await < wanted {
        assert!(Instant::now() < deadline, "not within a minute: {statement} >= {wanted}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

const DONE: &str = "select count(*) from jobs where state = 'succeeded'";

#[tokio::test(flavor = "multi_thread")]
async fn no_lease_is_ever_held_by_two_and_no_job_is_lost_however_workers_are_stopped_and_killed() {
    let database = fresh_database().await;
    let pool = storage::connect(&database, 4).await.unwrap();
    sqlx::raw_sql(WITNESS).execute(&pool).await.unwrap();
    let mut workers: Vec<Worker> = (0..4).map(|_| Worker::start(&database)).collect();
    let mut tx = pool.begin().await.unwrap();
    for number in 0..JOBS {
        let job = NewJob {
            project: "default".into(),
            kind: "stress".into(),
            payload: json!({ "number": number }),
            dedup_key: None,
            priority: (number % 3) as i32,
            max_attempts: 9,
        };
        storage::jobs::enqueue(&mut tx, &job).await.unwrap();
    }
    tx.commit().await.unwrap();

    until(&pool, DONE, 100).await;
    workers[0].signal(libc::SIGSTOP);
    until(&pool, DONE, 250).await;
    drop(std::mem::replace(&mut workers[1], Worker::start(&database))); // SIGKILL, and another in its place
    until(&pool, DONE, 600).await;
    workers[2].signal(libc::SIGSTOP);
    until(&pool, "select count(*) from witness where before is not null and after is not null", 1).await;
    workers[0].signal(libc::SIGCONT); // it goes on with jobs that others have meanwhile
    workers[2].signal(libc::SIGCONT);
    until(&pool, DONE, JOBS as i64).await;

    let unlawful =
        "select count(*) from witness where before is not null and after is not null and not ran_out";
    assert_eq!(count(&pool, unlawful).await, 0, "a lease was taken from a worker that still held it");
    let twice = "select count(*) from (select job_id from job_logs where line = 'done'
                 group by job_id having count(*) <> 1) twice";
    assert_eq!(count(&pool, twice).await, 0, "a job ended twice");
    assert_eq!(count(&pool, "select count(*) from jobs").await, JOBS as i64);
    assert!(count(&pool, "select count(*) from jobs where attempts > 1").await > 0, "nothing was taken over");
    let holders = "select count(distinct outcome ->> 'by') from jobs";
    assert_eq!(count(&pool, holders).await, 5, "not everybody has worked");
    drop(workers);
    pool.close().await;
}
