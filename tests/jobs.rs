//! Leased work: claimed once, retried, handed on when a worker dies, cancelled when asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use chrono::TimeDelta;
use journeys::Platform;
use serde_json::json;
use service_kit::jobs::{Failure, Handlers, Outcome};
use storage::jobs::NewJob;

fn job(kind: &str) -> NewJob {
    NewJob {
        project: "default".into(),
        kind: kind.into(),
        payload: json!({}),
        dedup_key: None,
        priority: 0,
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
    let id = storage::jobs::enqueue(&mut conn, &job("first")).await.unwrap();
    let runs = Arc::new(AtomicU32::new(0));
    let (counted, next) = (Arc::clone(&runs), job("second"));
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
    let id = storage::jobs::enqueue(&mut conn, &job("fails")).await.unwrap();
    let handlers = Handlers::default().on("fails", |_| async { Err(Failure::last("the moon is full")) });
    service_kit::jobs::start(&platform.context, handlers);
    assert_eq!(until_done(&platform, id).await, ("dead".into(), 1));
    assert_eq!(storage::jobs::get(&mut conn, id).await.unwrap().failure.as_deref(), Some("the moon is full"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_ran_out_goes_to_another_worker_and_the_first_can_no_longer_report() {
    let platform = Platform::start().await;
    let mut conn = platform.context.db.acquire().await.unwrap();
    storage::jobs::enqueue(&mut conn, &job("slow")).await.unwrap();
    let (kinds, lease) = (vec!["slow".to_owned()], TimeDelta::milliseconds(300));
    let first = storage::jobs::claim(&mut conn, &kinds, "one", lease, 9).await.unwrap().pop().unwrap();
    assert!(storage::jobs::claim(&mut conn, &kinds, "two", lease, 9).await.unwrap().is_empty());
    let mut pause = tokio::time::interval(std::time::Duration::from_millis(10));
    let second = loop {
        pause.tick().await;
        if let Some(second) = storage::jobs::claim(&mut conn, &kinds, "two", lease, 9).await.unwrap().pop() {
            break second;
        }
    };
    assert_eq!((second.id, second.attempts), (first.id, 2));
    assert!(!storage::jobs::heartbeat(&mut conn, &first, None, lease).await.unwrap());
    let answer = json!({});
    let held = storage::jobs::succeed(&mut conn, &[(&first, &answer), (&second, &answer)]).await.unwrap();
    assert_eq!(held.into_iter().collect::<Vec<_>>(), [second.id]);
    assert_eq!(state(&platform, first.id).await, ("succeeded".into(), 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_live_jobs_with_one_dedup_key_are_one_job() {
    let platform = Platform::start().await;
    let mut conn = platform.context.db.acquire().await.unwrap();
    let keyed = NewJob { dedup_key: Some("key".into()), ..job("slow") };
    let first = storage::jobs::enqueue(&mut conn, &keyed).await.unwrap();
    assert_eq!(storage::jobs::enqueue(&mut conn, &keyed).await.unwrap(), first);
    storage::jobs::cancel(&mut conn, first).await.unwrap();
    assert_ne!(storage::jobs::enqueue(&mut conn, &keyed).await.unwrap(), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_enqueues_while_the_live_one_ends_gets_a_job() {
    let platform = Platform::start().await;
    let keyed = NewJob { dedup_key: Some("key".into()), ..job("brief") };
    let mut conn = platform.context.db.acquire().await.unwrap();
    let db = platform.context.db.clone();
    let ending = tokio::spawn(async move {
        let live = "select job_id from jobs where kind = 'brief' and state = 'queued'";
        let mut conn = db.acquire().await.unwrap();
        loop {
            let ids: Vec<uuid::Uuid> = sqlx::query_scalar(live).fetch_all(&mut *conn).await.unwrap();
            for id in ids {
                storage::jobs::cancel(&mut conn, domain::ids::JobId(id)).await.unwrap();
            }
        }
    });
    for _ in 0..500 {
        storage::jobs::enqueue(&mut conn, &keyed).await.unwrap();
    }
    ending.abort();
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
    let id = storage::jobs::enqueue(&mut conn, &job("moody")).await.unwrap();
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
    let obliging = storage::jobs::enqueue(&mut conn, &job("obliging")).await;
    let stubborn = storage::jobs::enqueue(&mut conn, &job("stubborn")).await;
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
    let (status, refused) = platform.call("POST", &format!("/v1/jobs/{stubborn}/cancel"), None).await;
    assert!(status == 409 && refused["detail"].as_str().unwrap().contains("is cancelled"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_process_stops_is_for_the_next_one_to_do_and_has_lost_no_try() {
    let platform = Platform::configured(|config| config.jobs.cancel_grace_seconds = 1).await;
    let mut conn = platform.context.db.acquire().await.unwrap();
    let mut ids = Vec::new();
    for kind in ["obliging", "stubborn", "doomed", "unwanted"] {
        ids.push(storage::jobs::enqueue(&mut conn, &job(kind)).await.unwrap());
    }
    let mut first = platform.context.clone();
    (first.stop, first.tasks) = Default::default();
    let at_work = Arc::new(tokio::sync::Barrier::new(5));
    let waits = |barrier: &Arc<tokio::sync::Barrier>, failure: fn() -> Failure| {
        let barrier = Arc::clone(barrier);
        move |job: service_kit::jobs::Job| {
            let barrier = Arc::clone(&barrier);
            async move {
                barrier.wait().await;
                job.cancelled.cancelled().await;
                Err(failure())
            }
        }
    };
    let barrier = Arc::clone(&at_work);
    let goes_on = move |_| {
        let barrier = Arc::clone(&barrier);
        async move {
            barrier.wait().await;
            std::future::pending().await
        }
    };
    let handlers = Handlers::default()
        .on("obliging", waits(&at_work, || Failure::passing("stopped half-way")))
        .on("doomed", waits(&at_work, || Failure::last("there are no rows")))
        .on("unwanted", waits(&at_work, || Failure::passing("stopped half-way")))
        .on("stubborn", goes_on);
    service_kit::jobs::start(&first, handlers);
    at_work.wait().await;
    sqlx::query("update jobs set cancel_requested = true where kind = 'unwanted'")
        .execute(&platform.context.db)
        .await
        .unwrap();
    first.stop.cancel();
    first.tasks.close();
    first.tasks.wait().await;
    for (id, expected) in ids.iter().zip([("queued", 0), ("queued", 0), ("dead", 1), ("cancelled", 0)]) {
        let (state, attempts) = state(&platform, *id).await;
        assert_eq!((state.as_str(), attempts), expected);
    }
    let said = log(&platform, ids[0]).await;
    let half_way = "stopped half-way; its process stops, and the job is queued".to_owned();
    assert!(said.contains(&half_way), "{said:?}");
    assert!(
        !said.iter().any(|line| line.contains("so it was ended")),
        "begun again by a process that stops: {said:?}"
    );

    let done = |_| async { Ok(Outcome::default()) };
    service_kit::jobs::start(
        &platform.context,
        Handlers::default().on("obliging", done).on("stubborn", done),
    );
    for id in &ids[..2] {
        assert_eq!(until_done(&platform, *id).await, ("succeeded".into(), 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_more_urgent_job_goes_first_and_equals_go_in_their_order() {
    let platform = Platform::configured(|config| config.jobs.hands = 1.try_into().unwrap()).await;
    let mut conn = platform.context.db.acquire().await.unwrap();
    for (name, priority) in [("a", 0), ("b", 5), ("c", -1), ("d", 5), ("e", 0)] {
        let urgent = NewJob { priority, payload: json!(name), ..job("ordered") };
        storage::jobs::enqueue(&mut conn, &urgent).await.unwrap();
    }
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let handlers = Handlers::default().on("ordered", move |job| {
        tell.send(job.payload::<String>().unwrap()).unwrap();
        async { Ok(Outcome::default()) }
    });
    service_kit::jobs::start(&platform.context, handlers);
    let mut order = String::new();
    while order.len() < 5 {
        order.push_str(&told.recv().await.unwrap());
    }
    assert_eq!(order, "bdaec");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_clock_is_an_hour_ahead_takes_nothing_that_another_holds() {
    let platform = Platform::start().await;
    let mut conn = platform.context.db.acquire().await.unwrap();
    let held = storage::jobs::enqueue(&mut conn, &job("skewed")).await.unwrap();
    let lease = TimeDelta::seconds(30);
    let kinds = ["skewed".to_owned()];
    let held_by_one = storage::jobs::claim(&mut conn, &kinds, "one", lease, 1).await.unwrap();
    assert_eq!(held_by_one[0].id, held);
    let ahead = domain::Clock::now(&domain::SystemClock) + TimeDelta::hours(1);
    let mut context = platform.context.clone();
    context.machine_clock = Arc::new(domain::ManualClock::starting_at(ahead));
    context.clock = Arc::clone(&context.machine_clock);
    let handlers = Handlers::default().on("skewed", |_| async { Ok(Outcome::default()) });
    service_kit::jobs::start(&context, handlers);
    let free = storage::jobs::enqueue(&mut conn, &job("skewed")).await.unwrap();
    assert_eq!(until_done(&platform, free).await, ("succeeded".into(), 1)); // it has looked
    assert_eq!(state(&platform, held).await, ("running".into(), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_hands_of_one_worker_work_at_once_and_no_more_than_they_are() {
    let platform = Platform::configured(|config| config.jobs.hands = 3.try_into().unwrap()).await;
    let mut conn = platform.context.db.acquire().await.unwrap();
    let together = Arc::new(tokio::sync::Barrier::new(3));
    let (busy, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let seen = Arc::clone(&most);
    let handlers = Handlers::default().on("handy", move |_| {
        let (together, busy, most) = (Arc::clone(&together), Arc::clone(&busy), Arc::clone(&most));
        async move {
            most.fetch_max(busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            together.wait().await; // passes only if three are here at once
            busy.fetch_sub(1, Ordering::SeqCst);
            Ok(Outcome::default())
        }
    });
    let mut ids = Vec::new();
    for _ in 0..9 {
        ids.push(storage::jobs::enqueue(&mut conn, &job("handy")).await.unwrap());
    }
    service_kit::jobs::start(&platform.context, handlers);
    for id in ids {
        assert_eq!(until_done(&platform, id).await, ("succeeded".into(), 1));
    }
    assert_eq!(seen.load(Ordering::SeqCst), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heavy_job_waits_for_its_like_and_holds_up_nothing_light() {
    let platform = Platform::start().await;
    let mut conn = platform.context.db.acquire().await.unwrap();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let go_on = Arc::new(tokio::sync::Semaphore::new(0));
    let gate = Arc::clone(&go_on);
    let handlers =
        Handlers::default().on("light", |_| async { Ok(Outcome::default()) }).heavy("heavy", move |_| {
            let (tell, gate) = (tell.clone(), Arc::clone(&gate));
            async move {
                tell.send(()).unwrap();
                gate.acquire().await.unwrap().forget();
                Ok(Outcome::default())
            }
        });
    let first = storage::jobs::enqueue(&mut conn, &job("heavy")).await.unwrap();
    let second = storage::jobs::enqueue(&mut conn, &job("heavy")).await.unwrap();
    service_kit::jobs::start(&platform.context, handlers);
    told.recv().await.unwrap(); // the first is at work, and stays so
    for _ in 0..20 {
        let light = storage::jobs::enqueue(&mut conn, &job("light")).await.unwrap();
        assert_eq!(until_done(&platform, light).await, ("succeeded".into(), 1));
    }
    assert_eq!(state(&platform, first).await, ("running".into(), 1));
    assert_eq!(state(&platform, second).await, ("queued".into(), 0));
    go_on.add_permits(2);
    for id in [first, second] {
        assert_eq!(until_done(&platform, id).await, ("succeeded".into(), 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_request_that_asks_for_work_is_named_in_it_and_in_all_that_follows() {
    let platform = Platform::start().await;
    let mut conn = platform.context.db.acquire().await.unwrap();
    let named = storage::jobs::Cause { request_id: Some("asked-by-me".into()), ..Default::default() };
    let first =
        storage::jobs::caused_by(named, storage::jobs::enqueue(&mut conn, &job("first"))).await.unwrap();
    let handlers = Handlers::default()
        .on("first", |_| async { Ok(Outcome { answer: json!(null), next: vec![job("second")] }) })
        .on("second", |_| async { Ok(Outcome::default()) });
    service_kit::jobs::start(&platform.context, handlers);
    until_done(&platform, first).await;
    let (_, chain) = platform.call("GET", &format!("/v1/jobs?chain={first}"), None).await;
    let named: Vec<_> =
        chain.as_array().unwrap().iter().map(|job| (&job["kind"], &job["request_id"])).collect();
    let id = json!("asked-by-me");
    assert_eq!(named, [(&json!("second"), &id), (&json!("first"), &id)]);

    // over HTTP, from the header to the row
    platform.apply("[[monitor]]\nname = 'm'\nmodel = 'x'").await;
    let ask = axum::http::Request::post("/v1/monitors/m/run").header("x-request-id", "from-outside");
    let ask = ask.header("content-type", "application/json").body(axum::body::Body::from("{}")).unwrap();
    let (status, answer) = platform.send(ask).await;
    assert_eq!(status, 202, "{answer}");
    let (_, row) =
        platform.call("GET", &format!("/v1/jobs/{}", answer["job_id"].as_str().unwrap()), None).await;
    assert_eq!(row["request_id"], "from-outside");
}
