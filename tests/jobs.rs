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

/// What a job's log says, without the names of processes.
async fn log(platform: &Platform, id: domain::ids::JobId) -> Vec<String> {
    let (status, lines) = platform.call("GET", &format!("/v1/jobs/{id}/logs"), None).await;
    assert_eq!(status, 200, "{lines}");
    let line = |line: &serde_json::Value| {
        let line = line["line"].as_str().unwrap();
        line.split(" in process ").next().unwrap().to_owned()
    };
    lines.as_array().unwrap().iter().map(line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_job_is_tried_again_on_request_and_its_log_tells_the_story() {
    let platform = Platform::start().await;
    let mut conn = platform.context.db.acquire().await.unwrap();
    let id = storage::jobs::enqueue(&mut conn, &job(&platform, "moody"), SystemClock.now()).await.unwrap();
    let tries = Arc::new(AtomicU32::new(0));
    let handlers = Handlers::default().on("moody", move |job| {
        let first = tries.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            job.say("looked at the sky");
            if first { Err(Failure::last("the moon is full")) } else { Ok(Outcome::default()) }
        }
    });
    service_kit::jobs::start(&platform.context, handlers);
    assert_eq!(until_done(&platform, id).await, ("dead".into(), 1));
    let (_, dead) = platform.call("GET", "/v1/jobs?state=dead&kind=moody", None).await;
    assert_eq!(dead[0]["failure"], "the moon is full");
    let again = format!("/v1/jobs/{id}/retry");
    assert_eq!(platform.call("POST", &again, None).await.0, 202);
    assert_eq!(until_done(&platform, id).await, ("succeeded".into(), 1));
    let (status, refused) = platform.call("POST", &again, None).await;
    assert_eq!(status, 409, "{refused}");
    let expected = [
        "try 1 of 3 began",
        "looked at the sky",
        "the moon is full; the job is dead",
        "queued again by request",
        "try 1 of 3 began",
        "looked at the sky",
        "done",
    ];
    assert_eq!(log(&platform, id).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_asked_to_end_ends_and_one_that_will_not_is_ended() {
    let platform = Platform::configured(|config| {
        config.jobs.lease_seconds = 1;
        config.jobs.cancel_grace_seconds = 1;
    })
    .await;
    let mut conn = platform.context.db.acquire().await.unwrap();
    let obliging = storage::jobs::enqueue(&mut conn, &job(&platform, "obliging"), SystemClock.now()).await;
    let stubborn = storage::jobs::enqueue(&mut conn, &job(&platform, "stubborn"), SystemClock.now()).await;
    let (obliging, stubborn) = (obliging.unwrap(), stubborn.unwrap());
    let ends = |job: service_kit::jobs::Job| async move {
        job.cancelled.cancelled().await;
        Err(Failure::last("stopped half-way, nothing was changed"))
    };
    service_kit::jobs::start(&platform.context, Handlers::default().on("obliging", ends));
    let goes_on = |_| async { std::future::pending().await };
    service_kit::jobs::start(&platform.context, Handlers::default().on("stubborn", goes_on));
    for id in [obliging, stubborn] {
        let mut pause = tokio::time::interval(std::time::Duration::from_millis(10));
        while state(&platform, id).await.0 == "queued" {
            pause.tick().await;
        }
        assert_eq!(platform.call("POST", &format!("/v1/jobs/{id}/cancel"), None).await.0, 202);
        assert_eq!(until_done(&platform, id).await.0, "cancelled");
    }
    assert!(log(&platform, obliging).await.contains(&"asked to end".to_owned()));
    let last = log(&platform, stubborn).await.pop().unwrap();
    assert!(last.contains("went on for 1 s, so it was ended; the job is cancelled"), "{last}");
    assert_eq!(platform.call("POST", &format!("/v1/jobs/{stubborn}/cancel"), None).await.0, 404);
}
