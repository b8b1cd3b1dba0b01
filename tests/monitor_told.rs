//! What people hear of incidents: receivers that are dead for a while, silences, and the day's budget.

use std::time::Duration;

use chrono::TimeDelta;
use serde_json::json;

use crate::watched::{Receiver, day, delivered, judge, serve, watched_platform};

#[tokio::test]
async fn a_receiver_that_is_dead_for_a_while_loses_nothing() {
    let (receiver, webhook) = Receiver::listen(2).await;
    let platform = watched_platform(&webhook).await;
    for which in 0..2 {
        serve(&platform, which, 0.5, 0.3).await;
        judge(&platform, which).await;
    }
    for minutes in 1.. {
        platform.clock.advance_to(day(2) + TimeDelta::minutes(minutes)); // past the next try
        tokio::time::sleep(Duration::from_millis(50)).await;
        if !receiver.received.lock().await.is_empty() {
            break;
        }
    }
    delivered(&platform).await;
    let received = receiver.received.lock().await.clone();
    assert_eq!(received.len(), 1, "{received:?}");
    let (_, open) = platform.call("GET", "/v1/incidents", None).await;
    let (_, whole) =
        platform.call("GET", &format!("/v1/incidents/{}", open[0]["id"].as_str().unwrap()), None).await;
    let message = &whole["notifications"][0];
    assert_eq!((&message["state"], &message["attempts"]), (&json!("delivered"), &json!(3)), "{message}");
    assert_eq!(json!(received[0].0), message["id"]);
}

#[tokio::test]
async fn a_silenced_incident_is_kept_and_told_only_when_the_silence_is_over() {
    let (receiver, webhook) = Receiver::listen(0).await;
    let platform = watched_platform(&webhook).await;
    let asked = json!({
        "matchers": [{ "label": "model", "value": "fli*" }], "ends_at": day(3) + TimeDelta::hours(1), "by": "ada",
    });
    let (status, silence) = platform.call("POST", "/v1/silences", Some(asked)).await;
    assert_eq!(status, 201, "{silence}");
    for which in 0..2 {
        serve(&platform, which, 0.5, 0.3).await;
        judge(&platform, which).await;
    }
    let (_, hushed) = platform.call("GET", "/v1/incidents?state=silenced", None).await;
    assert_eq!(hushed.as_array().unwrap().len(), 1, "{hushed}");
    assert!(receiver.events(&platform).await.is_empty());

    for which in 2..4 {
        serve(&platform, which, 0.5, 0.3).await;
        judge(&platform, which).await; // the second one after the silence
    }
    assert_eq!(receiver.events(&platform).await, ["opened"]);
    let path = format!("/v1/incidents/{}", hushed[0]["id"].as_str().unwrap());
    let (_, whole) = platform.call("GET", &path, None).await;
    let history: Vec<&str> =
        whole["history"].as_array().unwrap().iter().map(|row| row["change"].as_str().unwrap()).collect();
    assert_eq!(history, ["opened", "silenced", "unsilenced"]);
}

#[tokio::test]
async fn a_silence_that_is_ended_early_tells_at_once_what_it_kept() {
    let (receiver, webhook) = Receiver::listen(0).await;
    let platform = watched_platform(&webhook).await;
    for which in 0..2 {
        serve(&platform, which, 0.5, 0.3).await;
        judge(&platform, which).await;
    }
    let (_, open) = platform.call("GET", "/v1/incidents?state=firing", None).await;
    let path = format!("/v1/incidents/{}/silence", open[0]["id"].as_str().unwrap());
    let hush = json!({ "until": day(30), "by": "ada", "comment": "known" });
    let (status, silence) = platform.call("POST", &path, Some(hush)).await;
    assert_eq!((status, &silence["by"]), (201, &json!("ada")), "{silence}");
    let (_, hushed) = platform.call("GET", "/v1/incidents?state=silenced", None).await;
    assert_eq!(hushed[0]["id"], open[0]["id"]);

    let path = format!("/v1/silences/{}", silence["id"].as_str().unwrap());
    assert_eq!(platform.call("DELETE", &path, None).await.0, 204);
    let (_, firing) = platform.call("GET", "/v1/incidents?state=firing", None).await;
    assert_eq!(firing[0]["id"], open[0]["id"]);
    assert_eq!(
        receiver.events(&platform).await,
        ["opened"],
        "it was told before the silence, and is not told twice"
    );
    assert_eq!(platform.call("DELETE", &path, None).await.0, 404);
}

#[tokio::test]
async fn what_the_days_budget_holds_back_is_counted_and_told_the_next_day() {
    let (receiver, webhook) = Receiver::listen(0).await;
    let platform = watched_platform(&webhook).await;
    let (_, monitors) = platform.call("GET", "/v1/monitors", None).await;
    let mut frugal = monitors[0].clone();
    frugal["notifications_per_day"] = json!(0);
    let mut conn = platform.context.db.acquire().await.unwrap();
    storage::definitions::save(&mut conn, "default", "monitor", "flights", &frugal, day(0)).await.unwrap();
    drop(conn);
    for which in 0..2 {
        serve(&platform, which, 0.5, 0.3).await;
        judge(&platform, which).await;
    }
    assert!(receiver.events(&platform).await.is_empty());
    let (_, held) = platform.call("GET", "/v1/notifications?state=held-back", None).await;
    assert_eq!(held.as_array().unwrap().len(), 1, "{held}");

    serve(&platform, 2, 0.5, 0.3).await;
    judge(&platform, 2).await;
    assert_eq!(receiver.events(&platform).await, ["digest"]);
    let (_, digest) = receiver.received.lock().await[0].clone();
    assert_eq!(digest["held_back"], json!([held[0]["payload"]["summary"]]), "{digest}");
    serve(&platform, 3, 0.5, 0.3).await;
    judge(&platform, 3).await;
    assert_eq!(receiver.events(&platform).await, ["digest"], "what was told is not told again");
}
