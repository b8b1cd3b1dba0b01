//! What services stand while they work: half a minute without Postgres, receivers that never answer, clocks that jump an hour.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::leading::OFTEN;
use crate::shop::{self, Customer, each_is_logged_once, question, receiver};
use crate::steady::{Asked, LOAD, WATCHED};
use crate::support::{Ground, PATIENCE, Process, count, leader, request, until};

/// How long Postgres is away.
const AWAY: Duration = Duration::from_secs(30);

/// All services, which give a request five seconds and a lease two.
fn all(ground: &Ground) -> Process {
    let mut up = ground.up();
    up.env("FORETIME_JOBS__LEASE_SECONDS", "2").env("FORETIME_HTTP__TIMEOUT_SECONDS", "5");
    ground.start(&mut up)
}

/// Processes that stand still until this is dropped.
struct Frozen(Vec<u32>);

impl Frozen {
    /// A process and its children.
    fn with_children(pid: u32) -> Self {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.expect("Linux says so");
        let all = Self([pid].into_iter().chain(children.split_whitespace().flat_map(str::parse)).collect());
        all.send("-STOP");
        all
    }

    fn send(&self, signal: &str) {
        for pid in &self.0 {
            let _ = Command::new("kill").args([signal, &pid.to_string()]).status(); // a child may have ended
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.send("-CONT");
    }
}

/// Lets Postgres go away while a model is trained and somebody asks for predictions, and come back after half a minute.
async fn without_postgres<Gone>(
    go: impl FnOnce(&mut Ground) -> Gone,
    come_back: impl FnOnce(&mut Ground, Gone),
) {
    let mut ground = Ground::migrated().await;
    let process = all(&ground);
    shop::open(&process.client(), "").await;
    let pool = ground.pool().await;
    let first = shop::go_around(&process).await;
    shop::at_rest(&pool, first).await;
    let customer = Customer::comes_to(&process, Duration::from_millis(20));
    let chain = shop::go_around(&process).await;
    let running = "select count(*) from jobs where state = 'running' and kind = 'train'";
    until("a model is trained", PATIENCE, async || count(&pool, running).await > 0).await;

    let (away, gone) = (go(&mut ground), Instant::now());
    while gone.elapsed() < AWAY {
        for (method, path, body) in [
            ("POST", "/v1/predict", Some(question(1..2))),
            ("GET", "/v1/jobs", None),
            ("POST", "/api/2.0/mlflow/runs/search", Some(json!({ "experiment_ids": ["0"] }))),
        ] {
            let (status, said) = process.ask(method, path, body.as_ref()).await;
            assert_eq!(status, 503, "{path} after {:.0?}: {said}", gone.elapsed());
        }
        assert_eq!(process.ask("GET", "/healthz", None).await.0, 200, "it lives");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    come_back(&mut ground, away);
    let back = Instant::now();
    until("predictions are answered again", PATIENCE, async || {
        process.ask("POST", "/v1/predict", Some(&question(1..2))).await.0 == 200
    })
    .await;
    println!("predictions are answered {:.1?} after Postgres is back", back.elapsed());

    shop::at_rest(&pool, chain).await;
    let (answered, statuses) = customer.leaves().await;
    assert!(statuses.keys().all(|status| matches!(status, 200 | 503)), "{statuses:?}");
    assert_eq!(
        count(&pool, "select count(*) from jobs where state <> 'succeeded'").await,
        0,
        "jobs that are not done"
    );
    for kind in ["build-training-set", "train", "promote"] {
        let jobs: i64 = sqlx::query_scalar("select count(*) from jobs where kind = $1")
            .bind(kind)
            .fetch_one(&pool)
            .await
            .expect("they can be counted");
        assert_eq!(jobs, 2, "`{kind}` jobs");
    }
    assert_eq!(count(&pool, "select count(*) from model_versions").await, 2, "versions");
    assert_eq!(count(&pool, "select count(*) from runs where status = 'FINISHED'").await, 2, "runs");
    assert_eq!(count(&pool, "select count(*) from runs where status = 'RUNNING'").await, 0, "runs left open");
    assert!(process.stop().success());
    each_is_logged_once(&pool, &ground.data_dir(), &answered).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_minute_after_postgres_was_stopped_everything_goes_on_and_nothing_is_doubled() {
    without_postgres(Ground::stop_postgres, |ground, ()| ground.start_postgres()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_minute_of_a_postgres_that_does_not_answer_is_stood_as_well() {
    let freeze = |ground: &mut Ground| Frozen::with_children(ground.postgres_pid());
    without_postgres(freeze, |_, frozen| drop(frozen)).await;
}

/// Asks for everything at once, so often that no connection to the database is spared; answers what was not answered well.
async fn ask_everything(process: &Process) -> Vec<String> {
    let predict = |_: usize| ("POST", "/v1/predict".to_owned(), Some(question(1..2)));
    let kinds = LOAD.map(|(_, _, next)| next).into_iter().chain([predict as fn(usize) -> Asked]);
    let mut answers = tokio::task::JoinSet::new();
    for (method, path, body) in kinds.flat_map(|next| (0..6).map(next)) {
        let asked = request(&process.http, &process.url, method, &path, body.as_ref()).send();
        answers.spawn(async move {
            let answer = asked.await.expect("it answers");
            let (status, said) = (answer.status(), answer.text().await.expect("it can be read"));
            status.is_server_error().then(|| format!("{method} {path}: {status} {said}"))
        });
    }
    answers.join_all().await.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_requests_of_every_kind_after_postgres_is_back_are_answered_however_it_went() {
    let mut ground = Ground::migrated().await;
    let process = ground.start(&mut ground.up());
    shop::open(&process.client(), WATCHED).await;
    let pool = ground.pool().await;
    let chain = shop::go_around(&process).await;
    shop::at_rest(&pool, chain).await;
    pool.close().await;
    for go in [Ground::stop_postgres, Ground::kill_postgres] {
        assert_eq!(ask_everything(&process).await, [""; 0], "before it went");
        go(&mut ground);
        let gone = Instant::now();
        ground.start_postgres();
        let away = gone.elapsed();
        assert_eq!(ask_everything(&process).await, [""; 0], "after it was away for {away:.1?}");
    }
    assert!(process.stop().success());
}

/// Somebody who takes connections and requests, and never answers.
async fn never_answers() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = format!("http://{}/", listener.local_addr().expect("it is bound"));
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            held.push(connection);
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn receivers_that_never_answer_delay_no_other_receiver_and_no_step_of_the_loop() {
    let (stuck, (works, received)) = (never_answers().await, receiver().await);
    let ground = Ground::migrated().await;
    let (process, pool) = (all(&ground), ground.pool().await);
    let channel =
        |name: &str, address: &str| format!("[[channel]]\nname = \"{name}\"\nwebhook = \"{address}\"\n");
    shop::open(&process.client(), &(channel("stuck", &stuck) + &channel("people", &works))).await;
    let began = Instant::now();
    let chain = shop::go_around(&process).await;
    shop::at_rest(&pool, chain).await;
    let undisturbed = began.elapsed();

    let webhook = json!({
        "name": "stuck", "url": stuck,
        "events": [{ "entity": "MODEL_VERSION", "action": "CREATED" }, { "entity": "MODEL_VERSION_ALIAS", "action": "CREATED" }],
    });
    process.client().post("/api/2.0/mlflow/webhooks", &webhook).await.expect("loopback is allowed here");
    for number in 0..3 {
        shop::tell(&pool, "stuck", number).await;
        shop::tell(&pool, "people", number).await;
    }
    let began = Instant::now();
    for _ in 0..2 {
        let chain = shop::go_around(&process).await;
        shop::at_rest(&pool, chain).await;
    }
    // a receiver has ten seconds, and there is one for each round
    let (took, allowed) = (began.elapsed(), 2 * undisturbed + Duration::from_secs(10));
    assert!(took < allowed, "two rounds took {took:.1?}, one took {undisturbed:.1?} before");
    let arrived = || received.lock().expect("no holder of this lock can panic").len();
    until("other receivers hear", Duration::from_secs(5), async || arrived() == 3).await;
    let waits = "select count(*) from notifications where channel = 'stuck' and state = 'queued'";
    assert_eq!(count(&pool, waits).await, 3, "what nobody took is kept");
    let told = "select count(*) from jobs where kind = 'deliver-webhook'";
    assert!(count(&pool, told).await >= 2, "the webhook heard of nothing");
}

/// Writes down each lease, of jobs, messages and the schedules, that was given to another before it had run out by Postgres's
/// clock.
const WITNESS: &str = "
    create table taken_early (what text, before text, after text);
    create function witness_job() returns trigger language plpgsql as $$ begin
        if old.lease_expires_at >= clock_timestamp() then
            insert into taken_early values ('job ' || new.job_id, old.lease_token::text, new.lease_token::text);
        end if;
        return new;
    end $$;
    create trigger witness before update of lease_token on jobs for each row
        when (old.lease_token is not null and new.lease_token is not null and old.lease_token <> new.lease_token)
        execute function witness_job();
    create function witness_lease() returns trigger language plpgsql as $$ begin
        if old.expires_at >= clock_timestamp() then
            insert into taken_early values ('lease ' || new.name, old.holder, new.holder);
        end if;
        return new;
    end $$;
    create trigger witness before update on leases for each row when (old.holder <> new.holder)
        execute function witness_lease();
    create function witness_message() returns trigger language plpgsql as $$ begin
        if old.lease_expires_at >= clock_timestamp() then
            insert into taken_early values ('message ' || new.notification_id, old.lease_expires_at::text, new.lease_expires_at::text);
        end if;
        return new;
    end $$;
    create trigger witness before update of lease_expires_at on notifications for each row
        when (old.lease_expires_at is not null and new.lease_expires_at is not null
              and old.lease_expires_at <> new.lease_expires_at)
        execute function witness_message();
";

/// A clock that a test can move, for processes that are started under it.
struct Clock {
    file: PathBuf,
}

impl Clock {
    fn right(file: PathBuf) -> Self {
        let clock = Self { file };
        clock.moved_by("+0");
        clock
    }

    /// Shows the right time and so much.
    fn moved_by(&self, offset: &str) {
        let new = self.file.with_extension("new");
        std::fs::write(&new, offset).expect("the folder is ours");
        std::fs::rename(&new, &self.file).expect("the folder is ours");
    }

    /// Makes a command's process live by it. Its timers go by the machine.
    fn shown_to<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("LD_PRELOAD", library())
            .env("FAKETIME_TIMESTAMP_FILE", &self.file)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("DONT_FAKE_MONOTONIC", "1")
    }
}

/// What shows a process another time.
fn library() -> PathBuf {
    let named = std::env::var_os("FORETIME_TEST_FAKETIME").map(PathBuf::from);
    let usual = Path::new("/usr/lib").read_dir().into_iter().flatten().flatten();
    let installed =
        usual.map(|entry| entry.path().join("faketime/libfaketimeMT.so.1")).find(|path| path.exists());
    named
        .or(installed)
        .expect("there is no libfaketime: `.ci/setup tests` installs it, or FORETIME_TEST_FAKETIME names it")
}

/// The schedules go on for some seconds, each second's tick at about its time.
async fn ticks_go_on(pool: &sqlx::PgPool, when: &str) {
    let on_time =
        "select count(*) from schedule_ticks where tick_at between clock_timestamp() - interval '10 seconds'
                   and clock_timestamp() + interval '1 second'";
    until(&format!("{when}, ticks come at their time"), Duration::from_secs(20), async || {
        count(pool, on_time).await >= 4
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_jump_an_hour_give_no_lease_to_two_and_neither_lose_nor_double_a_tick() {
    let (stuck, (works, received)) = (never_answers().await, receiver().await);
    let ground = Ground::migrated().await;
    let pool = ground.pool().await;
    sqlx::raw_sql(WITNESS).execute(&pool).await.expect("the tables are there");
    let store = ground.start(&mut ground.service("feature-store"));
    let channel =
        |name: &str, address: &str| format!("[[channel]]\nname = \"{name}\"\nwebhook = \"{address}\"\n");
    let more = channel("stuck", &stuck) + &channel("people", &works) + WATCHED + OFTEN;
    shop::open(&store.client(), &more).await;
    let clocks = ["one", "other"].map(|name| Clock::right(ground.path().join(name)));
    let monitors: BTreeMap<u32, (Process, &Clock)> = clocks
        .iter()
        .map(|clock| {
            let process = ground.start(clock.shown_to(&mut ground.service("monitor")));
            (process.pid(), (process, clock))
        })
        .collect();
    let first = leader(&pool, None).await;
    ticks_go_on(&pool, "before").await;
    for number in 0..2 {
        shop::tell(&pool, "stuck", number).await; // a message that one of them has in hands all the time
    }
    let (led, follower) =
        (&monitors[&first].1, monitors.iter().find(|(pid, _)| **pid != first).expect("there are two"));
    for (number, (clock, offset)) in [
        (*led, "+3600"),
        (*led, "+0"),
        (follower.1.1, "+3600"),
        (follower.1.1, "+0"),
        (*led, "-3600"),
        (*led, "+0"),
    ]
    .into_iter()
    .enumerate()
    {
        clock.moved_by(offset);
        shop::tell(&pool, "people", number).await;
        tokio::time::sleep(Duration::from_secs(3)).await; // what a wrong time would start is started by then
        ticks_go_on(&pool, &format!("with a clock at {offset} s")).await;
    }
    let arrived = || received.lock().expect("no holder of this lock can panic").len();
    until("every message is delivered", PATIENCE, async || arrived() >= 6).await;

    let early: Vec<(String, String, String)> = sqlx::query_as("select what, before, after from taken_early")
        .fetch_all(&pool)
        .await
        .expect("it is ours");
    assert!(early.is_empty(), "leases that two held: {early:?}");
    let twice: Vec<(String, i64)> = sqlx::query_as(
        "select dedup_key, count(*) from jobs where kind = 'run-monitor' group by 1 having count(*) > 1",
    )
    .fetch_all(&pool)
    .await
    .expect("they can be counted");
    assert!(twice.is_empty(), "ticks that happened twice: {twice:?}");
    let ahead = "select count(*) from schedule_ticks where tick_at > noted_at + interval '2 seconds'
                 or tick_at > clock_timestamp() + interval '2 seconds'";
    assert_eq!(count(&pool, ahead).await, 0, "ticks that happened before their time");
    let gap = "select coalesce(max(extract(epoch from gap)), 0)::bigint from (select tick_at - lag(tick_at) over (order by tick_at)
               as gap from schedule_ticks) gaps";
    let gap = count(&pool, gap).await;
    assert!(gap <= 10, "for {gap} s no tick happened");
}
