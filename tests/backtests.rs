//! Backtests and optimism reports of a planted project: every row of every fold is judged by a model that could not know it.

use serde_json::{Value, json};

use crate::planted::{VISITS, at, job, world};

#[tokio::test(flavor = "multi_thread")]
async fn a_backtest_judges_each_fold_on_what_follows_it_and_puts_them_together() {
    let (platform, set) = world().await;
    let asked =
        json!({ "model": "linear", "training_set": set, "folds": 3, "test": "300m", "validation": "200m" });
    let report = job(&platform, "/v1/backtests", asked.clone()).await;
    let folds = report["folds"].as_array().unwrap();
    assert_eq!(folds.len(), 3, "{report}");
    let time = |value: &Value| value.as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
    for (fold, next) in folds.iter().zip(&folds[1..]) {
        assert_eq!(fold["test_until"], next["split"]["validation_until"], "the windows follow each other");
        assert!(time(&fold["split"]["train_until"]) < time(&fold["split"]["validation_until"]));
        assert!(fold["train_rows"].as_u64() < next["train_rows"].as_u64(), "the window expands");
    }
    let rows = |scores: &Value| scores["rows"].as_u64().unwrap();
    assert!(folds.iter().all(|fold| rows(&fold["scores"]) == 300), "{report}");
    assert_eq!(rows(&report["overall"]), 900);
    assert!(time(&folds[2]["test_until"]) <= at(VISITS));
    let auc = report["overall"]["auc"]["value"].as_f64().unwrap();
    assert!((0.6..0.9).contains(&auc), "{auc}");
    assert_eq!(report, job(&platform, "/v1/backtests", asked.clone()).await, "it repeats itself");

    let mut sliding = asked.clone();
    sliding["train"] = json!("400m");
    let slid = job(&platform, "/v1/backtests", sliding).await;
    assert!(
        slid["folds"]
            .as_array()
            .unwrap()
            .iter()
            .all(|fold| fold["train_rows"] == 399 || fold["train_rows"] == 400),
        "{slid}"
    );
    for (key, value) in [("folds", json!(0)), ("test", json!("0s")), ("test", json!("soon"))] {
        let mut wrong = asked.clone();
        wrong[key] = value;
        assert_eq!(platform.call("POST", "/v1/backtests", Some(wrong)).await.0, 422, "{key}");
    }
    let mut early = asked.clone();
    early["folds"] = json!(9);
    let (_, promised) = platform.call("POST", "/v1/backtests", Some(early)).await;
    platform.run_jobs().await;
    let (_, failed) =
        platform.call("GET", &format!("/v1/jobs/{}", promised["job"].as_str().unwrap()), None).await;
    let why = failed["failure"].as_str().unwrap_or_default();
    assert!(why.contains("fold 1") && why.contains("training window"), "{failed}");

    let optimism =
        job(&platform, "/v1/optimism-reports", json!({ "model": "linear", "training_set": set })).await;
    let (random, temporal) = (&optimism["random"]["auc"]["value"], &optimism["temporal"]["auc"]["value"]);
    assert!(
        (random.as_f64().unwrap() - temporal.as_f64().unwrap()).abs() < 0.15,
        "nothing moves here: {optimism}"
    );
}
