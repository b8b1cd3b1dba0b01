//! Leased work: claimed once, retried, handed on when a worker dies, cancelled when asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use chrono::TimeDelta;
use domain::{Clock, SystemClock};
use journeys::Platform;
use serde_json::json;
use service_kit::jobs::{Failure, Handlers, Outcome};
use storage::jobs::NewJob;

fn job(platform: &Platform, kind: &str) -> NewJob {
    NewJob {
        project: "default".into(),
        kind: kind.into(),
        payload: json!({}),
        dedup_key: None,
        priority: 0,
        run_after: platform.context.clock.now(),
        max_attempts: 3,
    }
}

async fn state(platform: &Platform, id: domain::ids::JobId) -> (String, i32) {
    let mut conn = platform.context.db.acquire().await.unwrap();
    let row = storage::jobs::get(&mut conn, id).await.unwrap();
    (row.state, row.attempts)
}

async fn until_done(platform: &Platform, id: domain::ids::JobId) -> (String, i32) {
    let mut pause = tokio::time::interval(std::time::Duration::from_millis(10));
    loop {
        pause.tick().await;
        let now = state(platform, id).await;
        if !matches!(now.0.as_str(), "queued" | "running") {
            return now;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_once_and_what_follows_it_is_enqueued_with_its_end() {
    let platform = Platform::start().await;
    let mut conn = platform.context.db.acquire().await.unwrap();
    let id = storage::jobs::enqueue(&mut conn, &job(&platform, "first"), SystemClock.now()).await.unwrap();
    let runs = Arc::new(AtomicU32::new(0));
    let (counted, next) = (Arc::clone(&runs), job(&platform, "second"));
    let handlers = Handlers::default().on("first", move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        let next = vec![next.clone()];
        async move { Ok(Outcome { answer: json!({ "done": true }), next }) }
    });
    service_kit::jobs::start(&platform.context, handlers);
    assert_eq!(until_done(&platform, id).await, ("succeeded".into(), 1));
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    let second: i64 =
        sqlx::query_scalar("select count(*) from jobs where kind = 'second' and state = 'queued'")
            .fetch_one(&platform.context.db)
            .await
            .unwrap();
    assert_eq!(second, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_final_failure_is_kept_with_its_reason_and_a_panic_counts_as_a_passing_one() {
    let platform = Platform::start().await;
    let mut conn = platform.context.db.acquire().await.unwrap();
    let id = storage::jobs::enqueue(&mut conn, &job(&platform, "fails"), SystemClock.now()).await.unwrap();
    let handlers = Handlers::default().on("fails", |_| async { Err(Failure::last("the moon is full")) });
    service_kit::jobs::start(&platform.context, handlers);
    assert_eq!(until_done(&platform, id).await, ("dead".into(), 1));
    assert_eq!(storage::jobs::get(&mut conn, id).await.unwrap().failure.as_deref(), Some("the moon is full"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_ran_out_goes_to_another_worker_and_the_first_can_no_longer_report() {
    let platform = Platform::start().await;
    let mut conn = platform.context.db.acquire().await.unwrap();
    storage::jobs::enqueue(&mut conn, &job(&platform, "slow"), SystemClock.now()).await.unwrap();
    let (kinds, lease) = (vec!["slow".to_owned()], TimeDelta::seconds(10));
    let (due, now) = (platform.context.clock.now(), SystemClock.now());
    let first = storage::jobs::claim(&mut conn, &kinds, "one", lease, due, now).await.unwrap().unwrap();
    assert!(storage::jobs::claim(&mut conn, &kinds, "two", lease, due, now).await.unwrap().is_none());
    let later = now + TimeDelta::seconds(11);
    let second = storage::jobs::claim(&mut conn, &kinds, "two", lease, due, later).await.unwrap().unwrap();
    assert_eq!((second.id, second.attempts), (first.id, 2));
    assert!(!storage::jobs::succeed(&mut conn, &first, &json!({}), later).await.unwrap());
    assert!(storage::jobs::succeed(&mut conn, &second, &json!({}), later).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_live_jobs_with_one_dedup_key_are_one_job() {
    let platform = Platform::start().await;
    let mut conn = platform.context.db.acquire().await.unwrap();
    let keyed = NewJob { dedup_key: Some("key".into()), ..job(&platform, "slow") };
    let first = storage::jobs::enqueue(&mut conn, &keyed, SystemClock.now()).await.unwrap();
    assert_eq!(storage::jobs::enqueue(&mut conn, &keyed, SystemClock.now()).await.unwrap(), first);
    storage::jobs::cancel(&mut conn, first, SystemClock.now()).await.unwrap();
    assert_ne!(storage::jobs::enqueue(&mut conn, &keyed, SystemClock.now()).await.unwrap(), first);
}
