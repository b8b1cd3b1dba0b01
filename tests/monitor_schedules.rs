//! Schedules: firings that were missed, and who leads.

use chrono::TimeDelta;
use journeys::Platform;
use serde_json::json;

use crate::watched::{day, store};

#[tokio::test]
async fn firings_that_nobody_led_are_made_up_for_by_one_whoever_asks_first() {
    let platform = Platform::start().await;
    store(
        &platform,
        r#"
        [[schedule]]
        name = "nightly"
        cron = "0 30 2 * * *"
        time_zone = "America/New_York"
        action = { monitor = "flights" }
        "#,
    )
    .await;
    assert!(monitor::fire_due(&platform.context).await.unwrap().is_empty());
    platform.clock.advance_to(day(4));
    let (one, other) =
        tokio::join!(monitor::fire_due(&platform.context), monitor::fire_due(&platform.context));
    let mut fired = [one.unwrap(), other.unwrap()].concat();
    assert_eq!(fired, ["nightly"]);
    fired = monitor::fire_due(&platform.context).await.unwrap();
    assert!(fired.is_empty());

    let (status, schedules) = platform.call("GET", "/v1/schedules", None).await;
    assert_eq!(status, 200, "{schedules}");
    assert_eq!(schedules[0]["last_fired"], "2013-11-04T07:30:00Z"); // New York left daylight time the day before
    assert_eq!(schedules[0]["next"][0], "2013-11-05T07:30:00Z");
    let mut conn = platform.context.db.acquire().await.unwrap();
    let jobs = storage::jobs::latest(&mut conn, "default", 100).await.unwrap();
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].payload, json!({ "project": "default", "monitor": "flights" }));
}

#[tokio::test]
async fn one_process_leads_until_its_lease_runs_out_or_it_gives_it_back() {
    let platform = Platform::start().await;
    let mut conn = platform.context.db.acquire().await.unwrap();
    let second = TimeDelta::seconds(1);
    let now = day(0);
    assert!(storage::leases::hold(&mut conn, "test", "a", now + second, now).await.unwrap());
    assert!(!storage::leases::hold(&mut conn, "test", "b", now + second, now).await.unwrap());
    assert!(storage::leases::hold(&mut conn, "test", "a", now + second * 2, now).await.unwrap());
    let later = now + second * 3;
    assert!(storage::leases::hold(&mut conn, "test", "b", later + second, later).await.unwrap());
    storage::leases::release(&mut conn, "test", "b").await.unwrap();
    assert!(storage::leases::hold(&mut conn, "test", "a", later + second, later).await.unwrap());
}
