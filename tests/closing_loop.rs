//! What came of a retraining that an incident asked for is told in the incident, once.

use chrono::TimeDelta;
use domain::ids::JobId;
use journeys::Platform;
use serde_json::{Value, json};
use storage::jobs::{Cause, NewJob, caused_by, claim, enqueue, fail, succeed};

use crate::watched::{day, store};

fn job(kind: &str) -> NewJob {
    NewJob {
        project: "default".into(),
        kind: kind.into(),
        payload: json!({ "model": "late", "registered_model": "flights" }),
        dedup_key: None,
        priority: 0,
        max_attempts: 1,
    }
}

/// A platform with an incident that asked for a new model by a job, which is queued.
async fn asked() -> (Platform, JobId) {
    let platform = Platform::start().await;
    store(
        &platform,
        "[[model]]\nname = 'late'\nregistered_model = 'flights'\nkind = 'boosting'\ndataset = 'd'",
    )
    .await;
    let mut conn = platform.context.db.acquire().await.unwrap();
    let asked = enqueue(&mut conn, &job("build-training-set")).await.unwrap();
    sqlx::query(
        "insert into incidents (incident_id, project, monitor, registered_model, version, cause, severity, state,
                                summary, evidence, first_seen, opened_at)
         values (gen_random_uuid(), 'default', 'm', 'flights', 1, 'input-drift', 'ticket', 'firing', 's', '[]', $1, $1)",
    )
    .bind(day(0))
    .execute(&mut *conn)
    .await
    .unwrap();
    sqlx::query(
        "insert into incident_history (incident_id, happened_at, change, detail)
         select incident_id, $1, 'retrain', jsonb_build_object('job', $2::uuid, 'model', 'late') from incidents",
    )
    .bind(day(0))
    .bind(asked.0)
    .execute(&mut *conn)
    .await
    .unwrap();
    (platform, asked)
}

async fn told(platform: &Platform) -> Vec<(String, Value)> {
    monitor::tell_outcomes(&platform.context).await.unwrap();
    sqlx::query_as(
        "select change, detail from incident_history where change <> 'retrain' order by incident_history_id",
    )
    .fetch_all(&platform.context.db)
    .await
    .unwrap()
}

#[tokio::test]
async fn an_incident_hears_that_its_retraining_became_champion_when_the_whole_chain_is_over() {
    let (platform, asked) = asked().await;
    let mut conn = platform.context.db.acquire().await.unwrap();
    let cause = Cause { chain: Some(asked), ..Cause::default() };
    let lease = TimeDelta::seconds(30);
    for (kind, next, outcome) in [
        ("build-training-set", Some("train"), json!({})),
        ("train", Some("promote"), json!({})),
        ("promote", None, json!({ "version": 2, "promoted": true, "verdict": { "passed": true } })),
    ] {
        assert!(told(&platform).await.is_empty(), "told before `{kind}` was over");
        let (_, loops) = platform.call("GET", "/v1/loop?project=default", None).await;
        let step = if kind == "build-training-set" { "training-set" } else { kind };
        assert_eq!(loops["models"][0]["stage"]["step"], step, "{loops}");
        let leased = claim(&mut conn, &[kind.to_owned()], "test", lease, 1).await.unwrap().pop().unwrap();
        assert_eq!(leased.chain, asked);
        succeed(&mut conn, &[(&leased, &outcome)]).await.unwrap();
        if let Some(next) = next {
            caused_by(cause.clone(), enqueue(&mut conn, &job(next))).await.unwrap();
        }
    }
    let once = told(&platform).await;
    assert_eq!(once.len(), 1, "{once:?}");
    let (change, detail) = &once[0];
    assert_eq!(
        (change.as_str(), &detail["version"], &detail["job"]),
        ("retrained", &json!(2), &json!(asked))
    );
    assert_eq!(detail["said"], "version 2 became champion");
    assert_eq!(told(&platform).await.len(), 1, "told twice");
    let (status, other) = platform.call("GET", "/v1/loop?project=other", None).await;
    assert_eq!(status, 404, "{other}");
}

#[tokio::test]
async fn an_incident_hears_where_its_retraining_failed() {
    let (platform, _) = asked().await;
    let mut conn = platform.context.db.acquire().await.unwrap();
    let kinds = ["build-training-set".to_owned()];
    let leased = claim(&mut conn, &kinds, "test", TimeDelta::seconds(30), 1).await.unwrap().pop().unwrap();
    fail(&mut conn, &leased, "no rows", None).await.unwrap();
    let told = told(&platform).await;
    assert_eq!(told[0].0, "retrain-failed");
    assert_eq!(told[0].1["said"], "step `training-set` failed: no rows");
    let (_, loops) = platform.call("GET", "/v1/loop", None).await;
    let own = &loops["models"][0];
    assert_eq!((&own["stage"]["step"], &own["champion"]), (&json!("idle"), &Value::Null), "{loops}");
    assert_eq!(own["runs"][0]["outcome"], "step `training-set` failed: no rows");
    assert_eq!(own["open_incidents"].as_array().map(Vec::len), Some(1));
}
