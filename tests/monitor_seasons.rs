//! A monitor that names a season: what every week brings is no drift, and a week that breaks its pattern is.

use chrono::{DateTime, Datelike, TimeDelta, Utc, Weekday};
use frames::{Frame, Values};
use journeys::Platform;

use crate::watched::{MODEL, ROWS, day, findings, inputs, judge, serve, store, watched_platform};

/// Weeks of the reference, before the first served day.
const WEEKS: i64 = 8;
const REFERENCE_ROWS: usize = 150;

/// How far distances lie up on a day: further at weekends.
fn shift(at: DateTime<Utc>) -> f64 {
    if matches!(at.weekday(), Weekday::Sat | Weekday::Sun) { 0.5 } else { 0.0 }
}

/// A reference of whole weeks, each day with its rows.
fn reference() -> Frame {
    let (mut distances, mut carriers, mut probabilities, mut cutoffs) = (vec![], vec![], vec![], vec![]);
    for which in -7 * WEEKS..0 {
        let columns = inputs(REFERENCE_ROWS, shift(day(which)));
        let [(_, Values::Number(distance)), (_, carrier), (_, Values::Number(probability))] = &columns[..]
        else {
            unreachable!("that is what inputs are")
        };
        distances.extend(distance);
        probabilities.extend(probability);
        for row in 0..REFERENCE_ROWS {
            carriers.push(carrier.text_at(row).map(str::to_owned));
            cutoffs.push((day(which) + TimeDelta::minutes(9 * row as i64)).timestamp_micros());
        }
    }
    let columns = vec![
        ("distance".to_owned(), Values::Number(distances)),
        ("carrier".to_owned(), Values::text(carriers)),
        ("probability".to_owned(), Values::Number(probabilities)),
        ("cutoff".to_owned(), Values::Time(cutoffs)),
    ];
    Frame::new(columns[0].1.len(), columns)
}

/// A platform whose monitor names this season, if any.
async fn watched(season: &str) -> Platform {
    let platform = watched_platform("http://127.0.0.1:9/").await;
    let file = platform.context.data_dir.join("reference.arrow");
    frames::files::write_arrow(&file, &reference()).unwrap();
    store(&platform, &format!("[[monitor]]\nname = \"flights\"\nmodel = \"{MODEL}\"\n{season}")).await;
    platform
}

async fn distances(platform: &Platform, which: i64) -> serde_json::Value {
    let found = findings(platform, which, "ks_distance", "distance").await;
    assert_eq!(found[0]["rows"], ROWS, "{found:?}");
    found[0]["verdict"].clone()
}

#[tokio::test]
async fn a_weekly_pattern_is_no_drift_to_a_monitor_that_names_the_week_and_a_broken_one_is() {
    let platform = watched("season = \"7d\"").await;
    for which in 0..14 {
        serve(&platform, which, shift(day(which)), 0.0).await;
        judge(&platform, which).await;
        assert_eq!(distances(&platform, which).await, "ok", "{}", day(which));
    }
    let (_, open) = platform.call("GET", "/v1/incidents", None).await;
    assert_eq!(open.as_array().unwrap().len(), 0, "{open}");
    for which in 14..18 {
        serve(&platform, which, 0.5 - shift(day(which)), 0.0).await; // weekends as weekdays, and weekdays as weekends
        judge(&platform, which).await;
        assert_eq!(distances(&platform, which).await, "drift", "{}", day(which));
    }
    let (_, open) = platform.call("GET", "/v1/incidents?state=firing", None).await;
    assert_eq!(open[0]["cause"], "input-drift", "{open}");
}

#[tokio::test]
async fn without_a_season_a_weekend_is_drift() {
    let platform = watched("").await;
    serve(&platform, 1, shift(day(1)), 0.0).await;
    judge(&platform, 1).await;
    assert_eq!(day(1).weekday(), Weekday::Sat);
    assert_eq!(distances(&platform, 1).await, "drift");
}
