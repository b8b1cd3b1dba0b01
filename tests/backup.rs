//! A backup is made while it all runs, put back elsewhere, and holds the same: every row, every file, every promise.

use std::path::Path;

use foretime::backup::{put_back, take};
use foretime::up::{Database, Service};
use journeys::{Platform, folder};
use serde_json::{Value, json};
use service_kit::Config;
use sqlx::ConnectOptions;

use crate::foreign_models::{THROUGH, evidence, foretold, platform, promote, version};

/// A platform with rows, a training set, and a champion that was judged; and its settings as a command sees them.
async fn at_work() -> (Platform, Config) {
    let (platform, set, last) = platform().await;
    let risk = last.numbers("quotes__risk").unwrap().to_vec();
    let made = version(&platform).await;
    let body = foretold(&last, |row| risk[row]);
    assert_eq!(platform.call("POST", &evidence(made, &set, THROUGH), Some(body)).await.0, 201);
    assert_eq!(promote(&platform, made).await.0, 200);
    let url = platform.context.db.connect_options().to_url_lossy().to_string();
    let config = Config { database_url: Some(url.into()), ..platform.context.config.as_ref().clone() };
    (platform, config)
}

fn manifest(backup: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(backup.join("manifest.json")).unwrap()).unwrap()
}

/// Name and hash of every table, apart from those that a backup itself writes.
fn tables(backup: &Path) -> Vec<(String, String)> {
    let manifest = manifest(backup);
    let tables = manifest["tables"].as_array().unwrap().iter();
    let text = |table: &Value, key: &str| table[key].as_str().unwrap().to_owned();
    let mut tables: Vec<_> = tables.map(|table| (text(table, "name"), text(table, "sha256"))).collect();
    tables.retain(|(name, _)| name != "part_leases");
    tables.sort();
    tables
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_back_elsewhere_is_the_same_to_the_last_row_and_file() {
    let (before, config) = at_work().await;
    let folder = folder();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    take(&config, &first).await.unwrap();
    let elsewhere = Config { data_dir: folder.path().join("data"), database_url: None, ..config.clone() };
    put_back(&elsewhere, &first).await.unwrap();
    take(&elsewhere, &second).await.unwrap();
    let (one, other) = (tables(&first), tables(&second));
    assert!(one.len() > 60 && one.iter().any(|(name, _)| name.starts_with("online_")), "{one:?}");
    assert_eq!(one, other);
    assert_eq!(manifest(&first)["files"], manifest(&second)["files"]);
    assert!(manifest(&first)["files"].as_array().unwrap().len() >= 4, "parts, a training set, judged rows");

    let database = Database::open(&elsewhere).unwrap();
    let clock = Some(before.clock.clone() as std::sync::Arc<dyn domain::Clock>);
    let after =
        foretime::up::Platform::start(elsewhere, database.url(), clock, &Service::ALL, true).await.unwrap();
    let client = reqwest::Client::new();
    for (method, path, body) in [
        ("POST", "/v1/models/returns/versions/1/verify", json!({})),
        ("GET", "/v1/models/returns/history/verify", json!({})),
        ("GET", "/v1/models/returns/history", json!({})),
        ("POST", "/v1/features/online", json!({ "features": ["quotes:risk"], "entities": [{ "order": 7 }] })),
    ] {
        let said = before.call(method, path, (method == "POST").then(|| body.clone())).await;
        let request = client.request(method.parse().unwrap(), format!("{}{path}", after.url()));
        let answer = if method == "POST" { request.json(&body) } else { request }.send().await.unwrap();
        let status = answer.status().as_u16();
        let again = (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap());
        assert_eq!(said, again, "{path}");
        assert_eq!(status, 200, "{path}: {said:?}");
    }
    after.stop().await.unwrap();
    database.close().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_not_whole_and_a_place_that_is_not_empty_are_refused() {
    let (before, config) = at_work().await;
    let folder = folder();
    let backup = folder.path().join("backup");
    take(&config, &backup).await.unwrap();
    let refused = |asked: Result<(), foretime::Failure>| asked.unwrap_err().to_string();
    assert!(refused(take(&config, &backup).await).contains("holds something"));
    assert!(refused(put_back(&config, &backup).await).contains("not empty"));
    let elsewhere = Config { data_dir: folder.path().join("data"), database_url: None, ..config };
    let table = backup.join("tables/definitions.copy");
    let rows = std::fs::read_to_string(&table).unwrap();
    std::fs::write(&table, rows.replace("risk", "rusk")).unwrap();
    assert!(refused(put_back(&elsewhere, &backup).await).contains("definitions.copy"));
    std::fs::remove_file(backup.join("manifest.json")).unwrap();
    assert!(refused(put_back(&elsewhere, &backup).await).contains("no whole backup"));
    assert!(!elsewhere.data_dir.join("postgres").exists(), "nothing was begun");
    drop(before);
}
