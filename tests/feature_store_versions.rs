//! Views change and their rows stay readable, or go on as a new version when they cannot.

use journeys::Platform;
use serde_json::{Value, json};

/// A view of shops; `columns` are the source's, `features` the view's.
fn definitions(columns: &str, features: &str) -> String {
    format!(
        r#"
[[entity]]
name = "shop"
keys = ["shop"]

[[source]]
name = "visits"
columns = {{ shop = "text", at = "time", {columns} }}
event_time = "at"
known_time = "at"

[[feature_view]]
name = "visit"
entity = "shop"
source = "visits"
{features}
"#
    )
}

async fn apply(platform: &Platform, toml: &str, query: &str) -> (u16, Value) {
    let body = json!({ "files": { "views.toml": toml } });
    platform.call("PUT", &format!("/v1/definitions?{query}"), Some(body)).await
}

async fn ask(platform: &Platform, features: &[&str], shop: &str) -> Value {
    let body = json!({ "features": features, "entities": [{ "shop": shop }], "include_metadata": true });
    let (status, answer) = platform.call("POST", "/v1/features/online", Some(body)).await;
    assert_eq!(status, 200, "{answer}");
    answer["rows"][0].clone()
}

fn visit(shop: &str, at: &str, values: impl serde::Serialize) -> Value {
    let mut row = json!({ "shop": shop, "at": at });
    row.as_object_mut().unwrap().extend(json!(values).as_object().unwrap().clone());
    row
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_was_added_is_null_in_older_rows_and_the_version_stays() {
    let platform = Platform::start().await;
    platform.apply(&definitions("amount = \"number\"", "features = [\"amount\"]")).await;
    platform.push_rows("visits", json!([visit("a", "2013-10-31T22:00:00Z", json!({ "amount": 1.0 }))])).await;
    let wider =
        definitions("amount = \"number\", guests = \"integer\"", "features = [\"amount\", \"guests\"]");
    let (status, applied) = apply(&platform, &wider, "").await;
    assert_eq!(status, 200, "{applied}");
    let rows = applied["plan"].as_array().unwrap().iter().find(|c| c["kind"] == "feature_view").unwrap();
    assert!(rows["rows"].as_str().unwrap().contains("`guests` will be null"), "{applied}");
    let old = ask(&platform, &["visit:amount", "visit:guests"], "a").await;
    assert_eq!(old["__status"], json!({ "amount": "PRESENT", "guests": "NULL" }));
    let newer = visit("b", "2013-10-31T22:00:00Z", json!({ "amount": 2.0, "guests": 3 }));
    platform.push_rows("visits", json!([newer])).await;
    assert_eq!(ask(&platform, &["visit:guests"], "b").await["guests"], 3);
    let (_, statistics) = platform.call("GET", "/v1/views/visit/statistics", None).await;
    assert_eq!((&statistics["version"], &statistics["rows"]), (&json!(1), &json!(2)), "{statistics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn integers_may_become_numbers_and_numbers_may_not_become_integers() {
    let platform = Platform::start().await;
    let (narrow, wide) = (
        definitions("amount = \"integer\"", "features = [\"amount\"]"),
        definitions("amount = \"number\"", "features = [\"amount\"]"),
    );
    platform.apply(&narrow).await;
    platform.push_rows("visits", json!([visit("a", "2013-10-31T22:00:00Z", json!({ "amount": 7 }))])).await;
    platform.apply(&wide).await;
    platform.push_rows("visits", json!([visit("b", "2013-10-31T22:00:00Z", json!({ "amount": 7.5 }))])).await;
    assert_eq!(ask(&platform, &["visit:amount"], "a").await["amount"], 7.0);
    assert_eq!(ask(&platform, &["visit:amount"], "b").await["amount"], 7.5);
    let (_, statistics) = platform.call("GET", "/v1/views/visit/statistics", None).await;
    assert_eq!(statistics["columns"][0]["numbers"]["mean"], 7.25, "both parts are read: {statistics}");
    let (status, problem) = apply(&platform, &narrow, "").await;
    assert_eq!(status, 409, "{problem}");
    let said = problem["detail"].as_str().unwrap();
    assert!(said.contains("`amount` was stored as number and cannot be read as integer"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incompatible_change_goes_on_as_a_new_version_if_it_is_allowed_and_the_old_rows_stay_as_they_are()
{
    let platform = Platform::start().await;
    platform.apply(&definitions("amount = \"number\"", "features = [\"amount\"]")).await;
    platform.push_rows("visits", json!([visit("a", "2013-10-31T22:00:00Z", json!({ "amount": 1.0 }))])).await;
    let other = definitions("amount = \"text\"", "features = [\"amount\"]");
    let (_, planned) = apply(&platform, &other, "dry_run=true").await;
    let change = planned["plan"].as_array().unwrap().iter().find(|c| c["kind"] == "feature_view").unwrap();
    assert_eq!((&change["change"], &change["version"]), (&json!("new_version"), &json!(2)), "{planned}");
    let (status, applied) = apply(&platform, &other, "allow_new_versions=true").await;
    assert_eq!(status, 200, "{applied}");
    assert_eq!(ask(&platform, &["visit:amount"], "a").await["__status"]["amount"], "NOT_FOUND");
    platform
        .push_rows("visits", json!([visit("a", "2013-10-31T23:00:00Z", json!({ "amount": "much" }))]))
        .await;
    assert_eq!(ask(&platform, &["visit:amount"], "a").await["amount"], "much");
    let parts: Vec<(i32, String)> =
        sqlx::query_as("select view_version, path from parts order by view_version")
            .fetch_all(&platform.context.db)
            .await
            .unwrap();
    assert_eq!(parts.iter().map(|(version, _)| *version).collect::<Vec<_>>(), [1, 2]);
    let first = frames::files::read_parquet(&platform.folder.path().join(&parts[0].1)).unwrap();
    assert_eq!(first.numbers("amount").unwrap(), [1.0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_changes_what_a_view_reads_is_held_against_the_view_even_if_only_the_source_is_applied()
{
    let platform = Platform::start().await;
    platform.apply(&definitions("amount = \"number\"", "features = [\"amount\"]")).await;
    let source = "[[source]]\nname = \"visits\"\ncolumns = { shop = \"text\", at = \"time\", amount = \"text\" }\n\
                  event_time = \"at\"\nknown_time = \"at\"\n";
    let (status, problem) = apply(&platform, source, "").await;
    assert_eq!(status, 409, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("feature_view `visit`"), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_feature_is_served_under_both_names() {
    let platform = Platform::start().await;
    platform.apply(&definitions("amount = \"number\"", "features = [\"amount\"]")).await;
    platform.push_rows("visits", json!([visit("a", "2013-10-31T22:00:00Z", json!({ "amount": 1.0 }))])).await;
    let renamed = "features = [\"amount\"]\naliases = { spent = \"amount\" }";
    platform.apply(&definitions("amount = \"number\"", renamed)).await;
    let row = ask(&platform, &["visit:spent", "visit:amount"], "a").await;
    assert_eq!((&row["spent"], &row["amount"]), (&json!(1.0), &json!(1.0)));
    let dangling =
        definitions("amount = \"number\"", "features = [\"amount\"]\naliases = { spent = \"amout\" }");
    assert_eq!(apply(&platform, &dangling, "").await.0, 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_longer_window_is_filled_from_the_offline_store() {
    let platform = Platform::start().await;
    let window = |over: &str| {
        let windows =
            format!("windows = [{{ column = \"amount\", aggregates = [\"sum\"], over = [\"{over}\"] }}]");
        definitions("amount = \"number\"", &windows)
    };
    platform.apply(&window("1h")).await;
    let rows = json!([
        visit("a", "2013-10-31T18:00:00Z", json!({ "amount": 1.0 })),
        visit("a", "2013-10-31T23:30:00Z", json!({ "amount": 2.0 })),
    ]);
    platform.push_rows("visits", rows).await;
    assert_eq!(ask(&platform, &["visit:amount_sum_1h"], "a").await["amount_sum_1h"], 2.0);
    platform.apply(&window("1d")).await;
    assert_eq!(ask(&platform, &["visit:amount_sum_1d"], "a").await["amount_sum_1d"], 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_an_older_program_stored_are_taken_over() {
    let platform = Platform::start().await;
    platform.apply(&definitions("amount = \"number\"", "features = [\"amount\"]")).await;
    // as it was before views had versions: no version, one table for all, payloads of format 1 with the key in front
    let db = &platform.context.db;
    sqlx::raw_sql(
        "do $$ declare id bigint; begin select view_version_id into id from view_versions; \
                   execute format('drop table online_%s', id); end $$; delete from view_versions",
    )
    .execute(db)
    .await
    .unwrap();
    let mut payload = vec![1, 0];
    payload.extend_from_slice(&1u32.to_le_bytes());
    payload.push(b'a');
    payload.extend_from_slice(&42.0f64.to_le_bytes());
    sqlx::query(
        "insert into online_latest values ('default', 'visit', 1, $1, '2013-10-31T22:00:00Z', '2013-10-31T22:00:00Z', 1, false, $2)",
    )
    .bind(&b"\x02a\0"[..])
    .bind(&payload)
    .execute(db)
    .await
    .unwrap();
    storage::migrate(db).await.unwrap();
    let mut conn = db.acquire().await.unwrap();
    service_kit::catalogue::Catalogues::of(&platform.context).exact(&mut conn, "default").await.unwrap();
    assert_eq!(ask(&platform, &["visit:amount"], "a").await["amount"], 42.0);
    storage::migrate(db).await.unwrap(); // a second time changes nothing
    assert_eq!(ask(&platform, &["visit:amount"], "a").await["amount"], 42.0);
}
