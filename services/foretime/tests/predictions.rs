//! What was answered is in the prediction log, however the worker that answered it ended.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::shop::{self, Customer, each_is_logged_once, ids, question};
use crate::support::{Ground, PATIENCE, Process, until, with_room};

/// A shop whose champion waits for a worker to serve it.
async fn taught() -> Ground {
    let ground = Ground::migrated().await;
    let process = ground.start(&mut ground.up());
    shop::open(&process.client(), "").await;
    let chain = shop::go_around(&process).await;
    shop::at_rest(&ground.pool().await, chain).await;
    assert!(process.stop().success());
    ground
}

/// The spools that hold something.
fn spools(ground: &Ground) -> usize {
    let entries = ground.data_dir().join("spool/predictions/default").read_dir().into_iter().flatten();
    entries
        .filter(|entry| entry.as_ref().is_ok_and(|entry| entry.metadata().is_ok_and(|file| file.len() > 0)))
        .count()
}

/// A worker that publishes about every second.
fn worker(ground: &Ground) -> Process {
    ground.start(ground.service("gpt-worker").env("FORETIME_WORKER__FLUSH_SECONDS", "1"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_published_once_however_often_the_worker_is_killed() {
    const KILLS: usize = 12;
    let ground = taught().await;
    let mut process = worker(&ground);
    let customers = [(); 3].map(|()| Customer::comes_to(&process, Duration::from_millis(2)));
    let answers = || customers.iter().map(Customer::answers).sum::<usize>();
    let mut left = 0;
    for kill in 0..KILLS {
        let before = answers();
        until("the worker answers", PATIENCE, async || answers() > before).await;
        tokio::time::sleep(Duration::from_secs(2).mul_f64((kill as f64 * 0.618).fract())).await;
        process.kill();
        left += spools(&ground);
        process = worker(&ground);
        customers.iter().for_each(|customer| customer.moves_to(&process));
    }
    let mut answered = Vec::new();
    for customer in customers {
        answered.extend(customer.leaves().await.0);
    }
    assert!(process.stop().success());
    assert!(left > KILLS / 2, "only {left} kills met answers that were not published");
    assert!(answered.len() > 10 * KILLS, "only {} answers", answered.len());
    let logged = each_is_logged_once(&ground.pool().await, &ground.data_dir(), &answered).await;
    println!("{} answers, {logged} logged, {left} spools taken over", answered.len());
    assert_eq!(spools(&ground), 0, "what is published is still in a spool");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_the_log_has_no_room_for_is_not_given() {
    let ground = taught().await;
    let process = ground.start(&mut with_room(64, &ground.service("gpt-worker")));
    let predict = async |orders: std::ops::Range<i64>| {
        process.ask("POST", "/v1/predict", Some(&question(orders))).await
    };
    let (status, first) = predict(0..1).await;
    assert_eq!(status, 200, "{first}");
    let (status, problem) = predict(0..1_000).await;
    assert_eq!((status, &problem["type"]), (507, &json!("/problems/storage-full")), "{problem}");
    let (status, second) = predict(1..3).await;
    assert_eq!(status, 200, "{second}");
    let flushed = process.client().post("/v1/prediction-log/flush", &json!({})).await.expect("it is small");
    let answered = [ids(&first), ids(&second)].concat();
    assert!(flushed["rows"].as_u64().is_some_and(|rows| rows <= 3), "{flushed}");
    let logged = each_is_logged_once(&ground.pool().await, &ground.data_dir(), &answered).await;
    assert_eq!(logged, 3, "an answer that was not given is in the log");
}

/// The values of `which` in the only published file.
async fn logged_orders(pool: &sqlx::PgPool, data_dir: &Path) -> Vec<Value> {
    let paths: Vec<String> = sqlx::query_scalar("select path from prediction_logs")
        .fetch_all(pool)
        .await
        .expect("they are listed");
    assert_eq!(paths.len(), 1, "{paths:?}");
    let rows = frames::files::read_arrow(&data_dir.join(&paths[0])).expect("a listed file is whole");
    frames::rows::to_json(&rows.select(&["which"]).expect("the column is there"))
        .into_iter()
        .map(|row| row["which"].clone())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_worker_left_of_an_erased_entity_is_blanked_when_it_is_published() {
    let ground = taught().await;
    let process = ground.start(ground.service("gpt-worker").env("FORETIME_WORKER__FLUSH_SECONDS", "3600"));
    process.client().post("/v1/predict", &question(5..7)).await.expect("the champion answers");
    process.kill();
    let store = ground.start(&mut ground.service("feature-store"));
    let erase = json!({ "keys": [{ "order": 5 }] });
    let told = store.client().post("/v1/entities/order/erase", &erase).await.expect("it is known");
    let receipt = format!("/v1/erasures/{}", told["erasure"].as_str().expect("it has an id"));
    until("the erasure is over", PATIENCE, async || store.get(&receipt).await["receipt"].is_object()).await;
    let before = store.get(&receipt).await;
    assert_eq!((&before["receipt"]["prediction_logs"], &before["redacted_since"]), (&json!([]), &json!([])));

    let worker = worker(&ground);
    until("what was left is blanked", PATIENCE, async || {
        store.get(&receipt).await["redacted_since"][0]["rows_redacted"] == 1
    })
    .await;
    let pool = ground.pool().await;
    assert_eq!(logged_orders(&pool, &ground.data_dir()).await, [Value::Null, json!(6.0)]);
    assert!(worker.stop().success());
}
