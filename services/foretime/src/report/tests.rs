//! The page holds every section, escapes what it shows, and draws nothing that is not a number.

use domain::evaluation::{CalibratorChoice, Evaluation, Interval, ReliabilityBin, Scores};
use domain::gate::{Check, Verdict};
use domain::ids::TrainingSetId;
use domain::{Cutoff, LabelTime};

use super::*;

fn scores(auc: Option<f64>) -> Scores {
    Scores {
        rows: 27_103,
        base_rate: 0.21,
        auc: auc.map(|value| Interval { value, low: value - 0.008, high: value + 0.008 }),
        average_precision: auc.map(|_| 0.44),
        log_loss: 0.472,
        brier: 0.151,
        ece: 0.0123,
        ece_null_high: 0.0091,
        slope: auc.map(|_| 0.97),
        intercept: None,
    }
}

fn evaluation() -> Evaluation {
    let at: chrono::DateTime<chrono::Utc> = "2013-11-01T00:00:00Z".parse().unwrap();
    let bin = |tenth: u32| {
        let predicted = f64::from(tenth) / 10.0 + 0.05;
        let value = predicted * 0.94 + 0.015;
        let observed = Interval {
            value,
            low: value - 0.004 * f64::from(tenth + 1),
            high: value + 0.004 * f64::from(tenth + 1),
        };
        ReliabilityBin { predicted, observed, rows: 9_000 / u64::from(tenth + 1).pow(2) + 40 }
    };
    Evaluation {
        training_set: TrainingSetId(uuid::Uuid::nil()),
        dataset: "late_2h".to_owned(),
        schema_fingerprint: "5d41402a".to_owned(),
        trained_through: LabelTime(at),
        evaluated_from: Cutoff(at),
        evaluated_through: Cutoff(at),
        overall: scores(Some(0.744)),
        by_month: BTreeMap::new(),
        reliability: (0..9).map(bin).collect(),
        calibrator: CalibratorChoice {
            kind: "temperature".to_owned(),
            kept: true,
            log_loss_without: 0.48,
            log_loss_with: 0.47,
        },
        predictions_path: String::new(),
        predictions_sha256: String::new(),
        reference_path: String::new(),
        reference_rate: 0.22,
    }
}

fn model(name: &str, kind: &str, version: i32, passed: bool) -> ModelReport {
    let evidence = "AUC 0.744 of version 2 minus 0.741 of version 1 is 0.003 (-0.001 to 0.007)".to_owned();
    let check = |check: &str, passed| Check { check: check.to_owned(), passed, evidence: evidence.clone() };
    ModelReport {
        name: name.to_owned(),
        kind: kind.to_owned(),
        version,
        auc: 0.744,
        auc_low: 0.736,
        auc_high: 0.752,
        log_loss: 0.472,
        brier: 0.151,
        ece: 0.0123,
        ece_null_high: 0.0091,
        ece_by_month: BTreeMap::from([("2013-11".to_owned(), 0.011), ("2013-12".to_owned(), 0.034)]),
        gate: GateReport {
            passed,
            reasons: if passed { String::new() } else { evidence.clone() },
            verdict: Some(Verdict {
                gate: "late_arrival".to_owned(),
                passed,
                checks: vec![check("temporal-order", true), check("champion", passed)],
            }),
        },
        train_rows: 204_114,
        train_seconds: 12.4,
        evaluation: evaluation(),
        curve: if kind == "boosting" { Vec::new() } else { curve() },
        importance: if kind == "boosting" {
            vec![("departure_delay_at_origin_1h".to_owned(), 0.31), ("wind_speed".to_owned(), 0.12)]
        } else {
            Vec::new()
        },
    }
}

fn curve() -> Vec<CurvePoint> {
    let point = |stage: &str, start: f64, step: u64| CurvePoint {
        stage: stage.to_owned(),
        step,
        steps: 200,
        loss: start * (0.4 + 0.6 * (-(step as f64) / 60.0).exp()),
        validation_loss: step
            .is_multiple_of(50)
            .then_some(start * (0.43 + 0.57 * (-(step as f64) / 60.0).exp())),
    };
    let stage =
        |name: &'static str, start: f64| (0..=200).step_by(10).map(move |step| point(name, start, step));
    stage("pretrain", 4.2).chain(stage("tabular", 0.61)).chain(stage("joint", 0.49)).collect()
}

fn day(at: u32) -> Day {
    let wave = f64::from(at) / 9.0;
    Day {
        day: format!("2013-{:02}-{:02}", 11 + at / 30, at % 30 + 1),
        predictions: 900,
        mean_probability: 0.22 + 0.03 * wave.sin(),
        late_rate: (at < 58).then_some(0.20 + 0.09 * (wave * 1.3).sin() + if at > 34 { 0.12 } else { 0.0 }),
        auc: None,
        drifted_columns: u64::from(at / 8) * u64::from(at % 3),
        version: 1,
    }
}

fn incident(cause: &str, severity: &str, seen: &str) -> IncidentReport {
    IncidentReport {
        id: "018f6a3e-0000-7000-8000-000000000001".to_owned(),
        cause: cause.to_owned(),
        severity: severity.to_owned(),
        state: "resolved".to_owned(),
        summary: "late flights rose from 20 % to 33 % <within days> & stayed".to_owned(),
        first_seen: seen.to_owned(),
        resolved_at: Some("2013-12-24T11:30:00Z".to_owned()),
    }
}

fn sample() -> Report {
    Report {
        rows_in: 327_346,
        rows_out: 327_346,
        leaked_values: 0,
        optimism: Optimism {
            random_auc: 0.745,
            temporal_auc: 0.62,
            random_ece: 0.008,
            temporal_ece: 0.041,
            random: scores(Some(0.745)),
            temporal: scores(Some(0.62)),
        },
        models: vec![
            model("late_boosting", "boosting", 1, true),
            model("late_fusion", "joint-fusion", 2, false),
        ],
        champion: "late-arrival v1".to_owned(),
        incidents: vec![
            incident("label-rate", "page", "2013-12-05T00:00:00Z"),
            incident("input-drift", "ticket", "2013-12-16T00:00:00Z"),
            incident("calibration", "page", "2013-12-16T00:00:00Z"),
        ],
        notifications_delivered: 4,
        retraining: Retraining {
            triggered_by: "label-rate".to_owned(),
            gate: "passed".to_owned(),
            version: Some(3),
            outcome: "the incident resolved three windows later".to_owned(),
        },
        lineage: Lineage {
            model_version: "late-arrival v1".to_owned(),
            run_id: "4f1c2a5d9e8b4c7fa0d1e2f3a4b5c6d7".to_owned(),
            training_set: "018f6a3e-7b21-7c9e-9f10-3b5a6c7d8e9f".to_owned(),
            sha256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".to_owned(),
            max_seq: 812,
            views: BTreeMap::from([
                ("weather_now".to_owned(), 12),
                ("origin_delays".to_owned(), 365),
                ("plane".to_owned(), 1),
            ]),
        },
        days: (0..60).map(day).collect(),
        drift_by_month: BTreeMap::from([
            ("temp".to_owned(), BTreeMap::from([("2013-11".to_owned(), 0.2), ("2013-12".to_owned(), 0.93)])),
            ("wind_speed".to_owned(), BTreeMap::from([("2013-12".to_owned(), 0.0)])),
        ]),
        steps: vec![Step {
            name: "ingest".to_owned(),
            measured: "327,346 flights in 365 batches".to_owned(),
            seconds: 6.2,
        }],
        quick: true,
        seconds: 88.1,
        peak_rss_mb: 1_204.0,
    }
}

/// The same report of a run that found next to nothing.
fn bare() -> Report {
    let nothing = Scores { auc: None, ece: f64::NAN, log_loss: f64::INFINITY, ..scores(None) };
    let mut report = sample();
    report.optimism = Optimism {
        random_auc: f64::NAN,
        temporal_auc: f64::NAN,
        random_ece: f64::INFINITY,
        temporal_ece: f64::NAN,
        random: nothing.clone(),
        temporal: nothing,
    };
    let model = &mut report.models[1];
    (model.auc, model.evaluation.reliability) = (f64::NAN, Vec::new());
    model.gate.verdict = None;
    model.curve.iter_mut().for_each(|point| (point.loss, point.validation_loss) = (f64::NAN, None));
    report.days.iter_mut().for_each(|day| (day.late_rate, day.mean_probability) = (None, f64::NAN));
    report.lineage.views.clear();
    report
}

fn drawings(page: &str) -> Vec<&str> {
    page.split("<svg ").skip(1).map(|rest| rest.split("</svg>").next().unwrap()).collect()
}

#[test]
fn the_page_has_every_section_and_asks_for_nothing_else() {
    let page = html(&sample());
    for id in [
        "optimism",
        "models",
        "reliability",
        "training",
        "importance",
        "drift",
        "columns",
        "incidents",
        "retraining",
        "lineage",
        "steps",
    ] {
        assert!(page.contains(&format!("<section id=\"{id}\">")), "no section `{id}`");
        assert!(page.contains(&format!("href=\"#{id}\"")), "no link to `{id}`");
    }
    assert_eq!(drawings(&page).len(), 6, "optimism, two diagrams, a curve, the replay, lineage");
    for outside in ["<script", "<link", "src=", "url(", "@import"] {
        assert!(!page.contains(outside), "the page would load something: {outside}");
    }
}

#[test]
fn text_cannot_become_markup() {
    let mut report = sample();
    let hostile = "<img src=x onerror=alert(1)>\"'&";
    report.champion = hostile.to_owned();
    report.models[0].name = hostile.to_owned();
    report.models[0].importance = vec![(hostile.to_owned(), 1.0)];
    report.models[1].curve[0].stage = hostile.to_owned();
    report.incidents[0] =
        IncidentReport { severity: hostile.to_owned(), ..incident(hostile, "page", "2013-12-05") };
    report.retraining.outcome = hostile.to_owned();
    report.lineage.views = BTreeMap::from([(hostile.to_owned(), 1)]);
    report.drift_by_month =
        BTreeMap::from([(hostile.to_owned(), BTreeMap::from([(hostile.to_owned(), 0.5)]))]);
    report.steps[0].measured = hostile.to_owned();
    let page = html(&report);
    assert!(!page.contains("<img"), "something was not escaped");
    assert!(page.contains("&lt;img src=x onerror=alert(1)&gt;&quot;&#39;&amp;"));
}

#[test]
fn drawings_hold_only_numbers_even_if_a_run_found_nothing() {
    let mut empty = bare();
    empty.days.clear();
    empty.models.clear();
    for report in [sample(), bare(), empty] {
        for drawing in drawings(&html(&report)) {
            assert!(!drawing.contains("NaN") && !drawing.contains("inf"), "{drawing}");
        }
    }
}

#[test]
fn a_refused_model_shows_why() {
    let page = html(&sample());
    assert!(page.contains("refused</span>") && page.contains("0.003 (-0.001 to 0.007)"));
}

#[test]
fn incidents_of_one_day_share_a_mark() {
    let page = html(&sample());
    let chart = drawings(&page).into_iter().find(|drawing| drawing.contains("columns drifted")).unwrap();
    assert!(chart.contains("label-rate") && chart.contains("input-drift, calibration"));
    assert!(!page.contains("<within days>") && page.contains("2013-12-05T00:00:00Z"));
}

#[test]
fn columns_that_never_drifted_are_counted_not_listed() {
    let page = html(&sample());
    let section = page.split("<section id=\"columns\">").nth(1).unwrap().split("</section>").next().unwrap();
    assert!(section.contains("temp") && !section.contains("wind_speed"), "{section}");
    assert!(section.contains("1 of 2 columns never were."));
}
