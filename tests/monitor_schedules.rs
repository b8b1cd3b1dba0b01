//! Schedules: ticks that were missed, ticks that come too soon, being held still, and who leads.

use chrono::TimeDelta;
use journeys::Platform;
use serde_json::{Value, json};

use crate::watched::{day, store};

async fn declare(platform: &Platform, more: &str) {
    let declared = format!(
        r#"
        [[schedule]]
        name = "nightly"
        cron = "0 30 2 * * *"
        time_zone = "America/New_York"
        action = {{ monitor = "flights" }}
        {more}
        "#
    );
    store(platform, &declared).await;
    assert!(monitor::fire_due(&platform.context).await.unwrap().is_empty()); // it only begins
}

async fn fire(platform: &Platform) -> Vec<String> {
    monitor::fire_due(&platform.context).await.unwrap()
}

async fn ask(platform: &Platform, method: &str, what: &str) -> (u16, Value) {
    platform.call(method, &format!("/v1/schedules/nightly{what}"), None).await
}

/// Day and state of every tick, oldest first.
async fn ticks(platform: &Platform) -> Vec<(String, String)> {
    let (status, told) = ask(platform, "GET", "").await;
    assert_eq!(status, 200, "{told}");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let ticks = told["ticks"].as_array().unwrap().iter().rev();
    ticks.map(|tick| (text(&tick["tick_at"])[8..10].to_owned(), text(&tick["state"]))).collect()
}

fn states(ticks: &[(String, String)]) -> Vec<(&str, &str)> {
    ticks.iter().map(|(day, state)| (day.as_str(), state.as_str())).collect()
}

/// Ends what is at work, as a worker would.
async fn finish(platform: &Platform) {
    let mut conn = platform.context.db.acquire().await.unwrap();
    let kinds = ["run-monitor".to_owned()];
    let claimed = storage::jobs::claim(&mut conn, &kinds, "test", TimeDelta::seconds(30), 1).await.unwrap();
    let done = json!({});
    assert_eq!(storage::jobs::succeed(&mut conn, &[(&claimed[0], &done)]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn ticks_that_nobody_led_are_made_up_for_by_one_whoever_asks_first() {
    let platform = Platform::start().await;
    declare(&platform, "").await;
    platform.clock.advance_to(day(4));
    let (one, other) = tokio::join!(fire(&platform), fire(&platform));
    assert_eq!([one, other].concat(), ["nightly"]);
    assert!(fire(&platform).await.is_empty());

    let (status, schedules) = platform.call("GET", "/v1/schedules", None).await;
    assert_eq!(status, 200, "{schedules}");
    assert_eq!(schedules[0]["last_fired"], "2013-11-04T07:30:00Z"); // New York left daylight time the day before
    assert_eq!(schedules[0]["next"][0], "2013-11-05T07:30:00Z");
    let mut conn = platform.context.db.acquire().await.unwrap();
    let jobs = storage::jobs::latest(&mut conn, "default", 100).await.unwrap();
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].payload, json!({ "project": "default", "monitor": "flights" }));
    assert_eq!(schedules[0]["at_work"][0], json!(jobs[0].id));
}

#[tokio::test]
async fn as_many_missed_ticks_are_made_up_for_as_the_limit_says_one_after_the_other() {
    let platform = Platform::start().await;
    declare(&platform, "catch_up = 'all'\ncatch_up_limit = 3").await;
    platform.clock.advance_to(day(10));
    assert_eq!(fire(&platform).await, ["nightly"]);
    let began = ticks(&platform).await;
    assert_eq!(states(&began), [("08", "enqueued"), ("09", "waiting"), ("10", "waiting")]);
    assert!(fire(&platform).await.is_empty(), "the first is still at work");
    finish(&platform).await;
    assert_eq!(fire(&platform).await, ["nightly"]);
    let later = ticks(&platform).await;
    assert_eq!(states(&later), [("08", "enqueued"), ("09", "enqueued"), ("10", "waiting")]);
}

#[tokio::test]
async fn a_tick_that_was_missed_is_let_go_if_it_is_not_to_be_made_up_for() {
    let platform = Platform::start().await;
    declare(&platform, "catch_up = 'skip'").await;
    platform.clock.advance_to(day(4));
    assert!(fire(&platform).await.is_empty());
    platform.clock.advance_to(day(4) + TimeDelta::minutes(7 * 60 + 30)); // on time
    assert_eq!(fire(&platform).await, ["nightly"]);
}

#[tokio::test]
async fn a_tick_is_let_go_while_the_last_one_is_at_work_if_the_schedule_says_skip() {
    let platform = Platform::start().await;
    declare(&platform, "overlap = 'skip'").await;
    for days in [2, 3] {
        platform.clock.advance_to(day(days));
        fire(&platform).await;
    }
    let (status, refused) = ask(&platform, "POST", "/run").await;
    assert_eq!(status, 409, "{refused}");
    finish(&platform).await;
    platform.clock.advance_to(day(4));
    fire(&platform).await;
    let all = ticks(&platform).await;
    assert_eq!(states(&all), [("02", "enqueued"), ("03", "skipped"), ("04", "enqueued")]);
}

#[tokio::test]
async fn what_is_at_work_is_asked_to_end_if_the_schedule_says_so_and_only_the_latest_tick_waits() {
    let platform = Platform::start().await;
    declare(&platform, "overlap = 'cancel-running'").await;
    platform.clock.advance_to(day(2));
    fire(&platform).await;
    let mut conn = platform.context.db.acquire().await.unwrap();
    let kinds = ["run-monitor".to_owned()];
    let lease = TimeDelta::seconds(30);
    let job = storage::jobs::claim(&mut conn, &kinds, "test", lease, 1).await.unwrap().pop().unwrap();
    for days in [3, 4] {
        platform.clock.advance_to(day(days));
        fire(&platform).await;
    }
    assert!(
        !storage::jobs::heartbeat(&mut conn, &job, None, lease).await.unwrap(),
        "it was not asked to end"
    );
    let all = ticks(&platform).await;
    assert_eq!(states(&all), [("02", "enqueued"), ("03", "skipped"), ("04", "waiting")]);
    storage::jobs::fail(&mut conn, &job, "ended as asked", None).await.unwrap();
    assert_eq!(fire(&platform).await, ["nightly"]);
    assert_eq!(ticks(&platform).await[2].1, "enqueued");
}

#[tokio::test]
async fn a_schedule_that_is_held_still_starts_nothing_unless_asked_and_forgives_what_passed() {
    let platform = Platform::start().await;
    declare(&platform, "catch_up = 'all'").await;
    let (status, held) = ask(&platform, "POST", "/pause").await;
    assert_eq!((status, &held["next"], &held["paused_by"]), (200, &json!([]), &json!("anonymous")), "{held}");
    platform.clock.advance_to(day(5));
    assert!(fire(&platform).await.is_empty());
    let (status, ran) = ask(&platform, "POST", "/run").await;
    assert_eq!((status, &ran["ticks"][0]["why"]), (202, &json!("asked for by anonymous")), "{ran}");
    assert_eq!(ran["ticks"][0]["job_state"], "run-monitor queued");
    let (status, resumed) = ask(&platform, "POST", "/resume").await;
    assert_eq!((status, &resumed["paused_at"]), (200, &Value::Null), "{resumed}");
    assert!(fire(&platform).await.is_empty(), "what passed meanwhile was not forgiven");
    finish(&platform).await;
    platform.clock.advance_to(day(6));
    assert_eq!(fire(&platform).await, ["nightly"]);
    let (status, unknown) = platform.call("POST", "/v1/schedules/weekly/pause", None).await;
    assert_eq!(status, 404, "{unknown}");
}

#[tokio::test]
async fn a_schedule_that_cannot_be_read_is_refused_when_it_is_applied() {
    let platform = Platform::start().await;
    for (wrong, said) in [
        ("cron = '0 30 2 * *'\naction = { backup = {} }", "six fields"),
        ("cron = '0 30 2 * * *'\ntime_zone = 'Europe/Berln'\naction = { backup = {} }", "Europe/Berlin"),
        ("cron = '0 * * * * *'\njitter = '5m'\naction = { backup = {} }", "60 s apart"),
        ("cron = '0 30 2 * * *'\naction = { materialize = 'latst' }", "no feature_view `latst`"),
    ] {
        let files = json!({ "files": { "a.toml": format!("[[schedule]]\nname = 'x'\n{wrong}") } });
        let (status, refused) = platform.call("PUT", "/v1/definitions", Some(files)).await;
        assert_eq!(status, 422, "{refused}");
        assert!(refused["detail"].as_str().unwrap().contains(said), "{said}: {refused}");
    }
}

#[tokio::test]
async fn one_process_leads_until_its_lease_runs_out_or_it_gives_it_back() {
    let platform = Platform::start().await;
    let mut conn = platform.context.db.acquire().await.unwrap();
    let (short, long) = (TimeDelta::milliseconds(200), TimeDelta::seconds(60));
    assert!(storage::leases::hold(&mut conn, "test", "a", short).await.unwrap());
    assert!(!storage::leases::hold(&mut conn, "test", "b", long).await.unwrap());
    assert!(storage::leases::is_held(&mut conn, "test", "a").await.unwrap());
    let mut pause = tokio::time::interval(std::time::Duration::from_millis(10));
    while storage::leases::is_held(&mut conn, "test", "a").await.unwrap() {
        pause.tick().await;
    }
    assert!(storage::leases::hold(&mut conn, "test", "b", long).await.unwrap());
    assert!(!storage::leases::hold(&mut conn, "test", "a", long).await.unwrap());
    storage::leases::release(&mut conn, "test", "b").await.unwrap();
    assert!(storage::leases::hold(&mut conn, "test", "a", long).await.unwrap());
}
