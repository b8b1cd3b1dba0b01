//! The thread through the whole house, on a sample of the real flights, with every dashboard query answered from its run.

use std::path::{Path, PathBuf};

use foretime::demo::{DemoOptions, thread};
use tokio_util::sync::CancellationToken;

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/flights")
}

/// Ten years later other aircraft are asked about than were learned from: somebody has to look, and nobody has to get up.
#[tokio::test(flavor = "multi_thread")]
async fn on_flights_of_2023_the_inputs_of_a_model_of_2013_are_a_ticket_and_its_performance_is_no_page() {
    let folder = journeys::folder();
    let options = DemoOptions {
        quick: true,
        decade: true,
        from: Some("2023-04-10".parse().unwrap()),
        until: Some("2023-04-13".parse().unwrap()),
        keep: false,
        out: folder.path().join("out"),
        example: example(),
    };
    let look = async |_: &str, _: &sqlx::PgPool| {};
    let report =
        thread(&options, &folder.path().join("data"), &CancellationToken::new(), look).await.unwrap();

    assert!(report.days.iter().map(|day| day.predictions).sum::<u64>() > 500, "{:?}", report.days);
    let opened: Vec<(&str, &str)> =
        report.incidents.iter().map(|own| (own.cause.as_str(), own.severity.as_str())).collect();
    assert_eq!(opened, [("input-drift", "ticket")], "{:?}", report.incidents);
    assert_eq!(report.retraining.version, None, "nobody retrains");
    assert_eq!(report.notifications_delivered, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_quick_demo_runs_through_every_room_and_reports_what_it_found() {
    let folder = journeys::folder();
    let out = folder.path().join("out");
    let options = DemoOptions {
        quick: true,
        decade: false,
        from: None,
        until: None,
        keep: false,
        out: out.clone(),
        example: example(),
    };
    let look = async |url: &str, database: &sqlx::PgPool| {
        crate::dashboards::every_query_answers(url, database).await;
    };
    let report =
        thread(&options, &folder.path().join("data"), &CancellationToken::new(), look).await.unwrap();

    assert_eq!(report.rows_in, report.rows_out);
    assert_eq!(report.leaked_values, 0);
    assert!(report.optimism.random_auc > report.optimism.temporal_auc, "{:?}", report.optimism);
    assert_eq!(report.models.len(), 2);
    assert_eq!(report.models.iter().filter(|model| model.gate.passed).count(), 1, "one becomes champion");
    let refused = report.models.iter().find(|model| !model.gate.passed).unwrap();
    assert!(!refused.gate.reasons.is_empty(), "the other's refusal says why");
    assert!(
        report
            .models
            .iter()
            .all(|model| model.auc > 0.6 && model.auc_low < model.auc && model.auc < model.auc_high)
    );
    assert_eq!(report.days.len(), 61);
    assert!(report.days.iter().all(|day| day.predictions > 0));
    assert!(!report.incidents.is_empty(), "December moves the late rate");
    assert!(report.notifications_delivered > 0);
    assert_eq!(report.lineage.sha256.len(), 64);
    for column in ["carrier", "origin", "distance"] {
        assert!(report.drift_by_month[column].values().all(|share| *share == 0.0), "{column}: a false alarm");
    }
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(out.join("report.json")).unwrap()).unwrap();
    for key in [
        "optimism",
        "models",
        "champion",
        "incidents",
        "notifications_delivered",
        "retraining",
        "lineage",
        "seconds",
        "peak_rss_mb",
    ] {
        assert!(!json[key].is_null(), "`{key}` is missing from report.json");
    }
    let html = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(html.contains("<svg") && !html.contains("<script src"));
}
