//! Who leads the schedules, among processes that are killed, stopped and thawed: no tick is lost for long, and none is twice.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::steady::WATCHED;
use crate::support::{Ground, Process, count, leader, until};

/// A schedule that starts something every second.
pub(crate) const OFTEN: &str = r#"
[[schedule]]
name = "often"
cron = "* * * * * *"
overlap = "queue"
action = { monitor = "watch" }
"#;

/// Waits until `more` ticks have started something.
async fn go_on(pool: &sqlx::PgPool, more: i64) {
    let ticks = "select count(*) from schedule_ticks where state = 'enqueued'";
    let before = count(pool, ticks).await;
    until("the schedule goes on", Duration::from_secs(20), async || {
        count(pool, ticks).await >= before + more
    })
    .await;
}

fn place_of(processes: &[Process], pid: u32) -> usize {
    processes.iter().position(|process| process.pid() == pid).expect("it is one of them")
}

#[tokio::test(flavor = "multi_thread")]
async fn another_leads_within_ten_seconds_and_no_tick_happens_twice() {
    let ground = Ground::migrated().await;
    let pool = ground.pool().await;
    let store = ground.start(&mut ground.service("feature-store"));
    let files = BTreeMap::from([("a.toml".to_owned(), WATCHED.to_owned() + OFTEN)]);
    store.client().apply(&files, false).await.expect("the definitions fit");
    let monitor = || ground.start(ground.service("monitor").env("FORETIME_JOBS__LEASE_SECONDS", "2"));
    let mut monitors = vec![monitor(), monitor()];
    let first = leader(&pool, None).await;
    go_on(&pool, 2).await;

    // stopped for longer than its lease, and thawed in the middle of what it did
    let place = place_of(&monitors, first);
    monitors[place].signal("-STOP");
    let stopped = Instant::now();
    let second = leader(&pool, Some(first)).await;
    let after_stop = stopped.elapsed();
    monitors[place].signal("-CONT");
    go_on(&pool, 2).await;

    let place = place_of(&monitors, second);
    monitors.remove(place).kill();
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
    let ended_twice = "select count(*) from (select job_id from job_logs where line = 'done' group by 1
                       having count(*) > 1) twice";
    assert_eq!(count(&pool, ended_twice).await, 0);
}
