//! The headline: whatever was written in whatever order, what is served now is what a training row of this moment holds.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use domain::Clock;
use frames::assemble::{Assembled, assemble};
use frames::rows::{from_json, to_json};
use frames::view::ViewRows;
use journeys::{NOW, Platform};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

/// Definitions after `additions` additive changes.
fn definitions(additions: usize) -> String {
    let added: Vec<String> = (0..additions).map(|at| format!("extra{at}")).collect();
    let columns: String = added.iter().map(|name| format!(", {name} = \"integer\"")).collect();
    let features: String = added.iter().map(|name| format!(", \"{name}\"")).collect();
    format!(
        r#"
[[entity]]
name = "shop"
keys = ["shop"]

[[source]]
name = "visits"
columns = {{ shop = "integer", at = "time", known = "time", amount = "number", what = "text"{columns} }}
event_time = "at"
known_time = "known"

[[source]]
name = "asks"
columns = {{ shop = "integer", at = "time", yes = "boolean" }}
event_time = "at"
known_time = "at"

[[feature_view]]
name = "latest"
entity = "shop"
source = "visits"
max_age = "5h"
features = ["amount", "what"{features}]

[[feature_view]]
name = "recent"
entity = "shop"
source = "visits"
boundary = "exclusive"
windows = [
    {{ column = "amount", aggregates = ["count", "sum", "mean", "std", "min", "max", "last", "first"], over = ["2h", "6h"] }},
    {{ column = "amount", aggregates = ["approx_distinct", "p50", "p90"], over = ["6h"] }},
    {{ column = "what", aggregates = ["count", "approx_distinct"], over = ["6h"] }},
    {{ aggregates = ["count", "age"], over = ["6h"] }},
]

[[feature_view]]
name = "sequence"
entity = "shop"
source = "visits"
last_k = {{ count = 3, over = "8h", columns = ["amount", "what"] }}

[[feature_view]]
name = "asks"
entity = "shop"
source = "asks"
log = ["yes"]

[[event_stream]]
name = "visited"
view = "sequence"
fields = [{{ name = "what", kind = "category", max_levels = 4 }}]

[[dataset]]
name = "all"
spine = {{ view = "asks" }}
horizon = "1h"
label = "yes"
views = ["latest", "recent"]
history = "visited"
split = {{ train_until = "2013-10-20T00:00:00Z", validation_until = "2013-10-25T00:00:00Z" }}
[dataset.features]
doubled = "latest__amount * 2 + coalesce(recent__amount_sum_6h, 0)"
"#
    )
}

/// One thing that happens to the store.
#[derive(Clone, Debug)]
enum Step {
    /// Rows as `(shop, minutes ago, minutes until known, amount, deleted)`.
    Push(Vec<(i64, i64, i64, Option<i32>, bool)>),
    /// A column is added.
    Add,
    /// Time passes.
    Wait(i64),
    /// The history is moved into the online store again.
    Materialize,
}

fn step() -> impl Strategy<Value = Step> {
    let row =
        (0i64..4, 0i64..600, 0i64..200, prop::option::weighted(0.8, -50i32..50), prop::bool::weighted(0.08));
    prop_oneof![
        8 => prop::collection::vec(row, 1..6).prop_map(Step::Push),
        1 => Just(Step::Add),
        2 => (1i64..120).prop_map(Step::Wait),
        1 => Just(Step::Materialize),
    ]
}

async fn take(platform: &Platform, step: &Step, additions: &mut usize) {
    let now = platform.clock.now();
    match step {
        Step::Add => {
            *additions += 1;
            platform.apply(&definitions(*additions)).await;
        }
        Step::Wait(minutes) => platform.clock.advance_to(now + TimeDelta::minutes(*minutes)),
        Step::Materialize => {
            let body = json!({ "end_ts": now });
            let (status, answer) = platform.call("POST", "/materialize-incremental", Some(body)).await;
            assert_eq!(status, 200, "{answer}");
        }
        Step::Push(rows) => {
            let rows: Vec<Value> = rows.iter().map(|row| visit(row, now, *additions)).collect();
            platform.push_rows("visits", json!(rows)).await;
        }
    }
}

fn visit(row: &(i64, i64, i64, Option<i32>, bool), now: DateTime<Utc>, additions: usize) -> Value {
    let (shop, ago, late, amount, deleted) = row;
    let at = now - TimeDelta::minutes(*ago);
    let mut visit = json!({
        "shop": shop, "at": at, "known": at + TimeDelta::minutes(*late), "amount": amount.map(|x| f64::from(x) / 7.0),
        "what": amount.map(|x| format!("w{}", x.rem_euclid(3))), "__deleted": deleted,
    });
    for at in 0..additions {
        visit[format!("extra{at}")] = json!(amount);
    }
    visit
}

/// The as-of join over the parts, with cutoff = now and as of now.
async fn offline(platform: &Platform, rows: &Value) -> Assembled {
    let mut conn = platform.context.db.acquire().await.unwrap();
    let all = storage::definitions::load(&mut conn, "default").await.unwrap();
    let dataset = all.dataset("all").unwrap();
    let columns = domain::definitions::spine_columns(&all, dataset);
    let rows: Vec<_> = serde_json::from_value(rows.clone()).unwrap();
    let spine = frames::online::spine(&all, dataset, &from_json(&rows, &columns).unwrap()).unwrap();
    let mut paths: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for view in ["latest", "recent", "sequence"] {
        let parts = storage::parts::of_view(&mut conn, "default", view, i64::MAX).await.unwrap();
        let files = parts.into_iter().map(|part| platform.folder.path().join(part.path)).collect();
        paths.insert(view.to_owned(), files);
    }
    let moments = vec![platform.clock_micros(); spine.rows()];
    assemble::<frames::Error>(&all, dataset, &spine, &moments, &moments, |needed, _| {
        ViewRows::read_parts(&needed.schema, &paths[&needed.view.name])
    })
    .unwrap()
}

/// Both answers to the same question must be the same text, and so must the histories.
async fn agree(platform: &Platform) {
    let rows: Vec<Value> = (0..5).map(|shop| json!({ "shop": shop })).collect();
    let rows = json!(rows);
    let offline = offline(platform, &rows).await;
    let (status, online) =
        platform.call("POST", "/v1/datasets/all/online", Some(json!({ "rows": rows }))).await;
    assert_eq!(status, 200, "{online}");
    assert_eq!(online["rows"], json!(to_json(&offline.features)));
    for joined in &offline.joined {
        assert_eq!(online["statuses"][&joined.view], json!(joined.statuses), "status of `{}`", joined.view);
    }
    assert_eq!(told(history(platform, &rows).await), told(offline.history));
    by_reference(platform, &rows, &online).await;
}

/// The history that is fetched online, which the dataset's answer does not show.
async fn history(platform: &Platform, rows: &Value) -> Option<domain::tabular::History> {
    let catalogues = service_kit::catalogue::Catalogues::of(&platform.context);
    let catalogue = catalogues.now("default").await.unwrap();
    let (all, views) = (&catalogue.definitions, &catalogue.views);
    let dataset = all.dataset("all").unwrap();
    let columns = domain::definitions::spine_columns(all, dataset);
    let rows: Vec<_> = serde_json::from_value(rows.clone()).unwrap();
    let spine = frames::online::spine(all, dataset, &from_json(&rows, &columns).unwrap()).unwrap();
    let now = platform.clock_micros();
    let asks = frames::online::asks(all, views, dataset, &spine, now).unwrap();
    let fetched = service_kit::online::Reader::of(&platform.context).fetch(asks).await.unwrap();
    frames::online::features(all, views, dataset, &spine, now, &fetched).unwrap().history
}

/// A history in words: a line an event, for each row. (Codes of categories are numbered as they come, so they may differ.)
fn told(history: Option<domain::tabular::History>) -> Vec<Vec<String>> {
    let history = history.expect("the dataset has an event stream");
    let event = |at: usize| {
        let fields = history.fields.columns().iter().map(|(name, column)| match column {
            domain::tabular::Column::Number(values) => format!("{name} {}", values[at]),
            domain::tabular::Column::Category { .. } => format!("{name} {:?}", column.category(at)),
        });
        format!("{} {}", history.times[at], fields.collect::<Vec<_>>().join(" "))
    };
    (0..history.rows()).map(|row| history.events(row).map(event).collect()).collect()
}

/// Features by reference are the dataset's joined features.
async fn by_reference(platform: &Platform, rows: &Value, online: &Value) {
    let features = [
        "latest:amount",
        "latest:what",
        "recent:amount_std_6h",
        "recent:count_6h",
        "recent:age_6h",
        "recent:amount_p90_6h",
        "recent:what_approx_distinct_6h",
    ];
    let body = json!({ "features": features, "entities": rows, "full_feature_names": true });
    let (status, answer) = platform.call("POST", "/v1/features/online", Some(body)).await;
    assert_eq!(status, 200, "{answer}");
    for (at, row) in answer["rows"].as_array().unwrap().iter().enumerate() {
        for (name, value) in row.as_object().unwrap() {
            assert_eq!(value, &online["rows"][at][name], "`{name}` of row {at}");
        }
    }
}

#[test]
fn what_is_served_now_is_what_the_as_of_join_of_this_moment_gives_whatever_was_written_in_whatever_order() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config { cases: 12, failure_persistence: None, ..Config::default() });
    let steps = prop::collection::vec(step(), 4..14);
    let outcome = runner.run(&steps, |steps| {
        runtime.block_on(async {
            let platform = Platform::start().await;
            let mut additions = 0;
            platform.apply(&definitions(additions)).await;
            for step in &steps {
                take(&platform, step, &mut additions).await;
                agree(&platform).await;
            }
            let (_, checked) = platform.call("POST", "/v1/parity", None).await;
            let wrong = |row: &Value| row["mismatched"] != 0 || row["missing"] != 0 || row["extra"] != 0;
            assert!(!checked.as_array().unwrap().iter().any(wrong), "the live check disagrees: {checked}");
        });
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_served_value_that_the_offline_store_does_not_hold_is_found_by_the_live_check() {
    let platform = Platform::start().await;
    platform.apply(&definitions(0)).await;
    let now: DateTime<Utc> = NOW.parse().unwrap();
    let rows: Vec<Value> = (0..3).map(|shop| visit(&(shop, 30, 0, Some(7), false), now, 0)).collect();
    platform.push_rows("visits", json!(rows)).await;
    let ask = || async {
        let entities = json!([{ "shop": 0 }, { "shop": 1 }, { "shop": 2 }, { "shop": 3 }]);
        let body = json!({ "features": ["latest:amount"], "entities": entities });
        platform.call("POST", "/v1/features/online", Some(body)).await
    };
    ask().await;
    let (_, checked) = platform.call("POST", "/v1/parity", None).await;
    assert_eq!(
        checked[0],
        json!({ "view": "latest", "feature": "amount", "compared": 4, "mismatched": 0, "missing": 0,
                                   "extra": 0 })
    );
    // someone reaches behind the store's back: one row less, one row of another entity's value
    let id: i64 = sqlx::query_scalar("select view_version_id from view_versions where view = 'latest'")
        .fetch_one(&platform.context.db)
        .await
        .unwrap();
    let harm = format!(
        "delete from online_{id} where key = (select key from online_{id} order by key limit 1); \
         update online_{id} set op = true where key = (select key from online_{id} order by key desc limit 1)"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(harm)).execute(&platform.context.db).await.unwrap();
    ask().await;
    platform.call("POST", "/v1/parity", None).await;
    let (_, day) = platform.call("GET", "/v1/parity", None).await;
    assert_eq!(
        (&day["features"][0]["compared"], &day["features"][0]["missing"]),
        (&json!(8), &json!(2)),
        "{day}"
    );
    let (_, metrics) = platform.call("GET", "/metrics", None).await;
    let line = "foretime_parity_values_total{feature=\"amount\",how=\"missing\",view=\"latest\"} 2";
    assert!(metrics.as_str().unwrap().contains(line), "the metric is not shown");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_a_window_only_just_reaches_is_reached_in_both_stores() {
    let platform = Platform::start().await;
    platform.apply(&definitions(0)).await;
    let now: DateTime<Utc> = NOW.parse().unwrap();
    // eight hours is as far as the sequence reaches, six the windows
    let rows: Vec<Value> =
        (1..4).map(|shop| visit(&(shop, 120 * (shop + 1), 0, Some(7), false), now, 0)).collect();
    platform.push_rows("visits", json!(rows)).await;
    agree(&platform).await;
    platform.push_rows("visits", json!([visit(&(3, 10, 0, Some(1), false), now, 0)])).await;
    agree(&platform).await;
}
