//! `metrics/get-history…`: the points of a metric, of one run or of several side by side.

use axum::Json;
use serde_json::json;
use storage::search::Place;
use storage::tracking::{self, Metric, PointPlace};

use super::input::Input;
use super::paging::{Page, answer};
use super::refusal::Refusal;
use super::{Answer, views};
use crate::Registry;

/// The most points in one answer.
const MOST_POINTS: i64 = 25_000;
/// The most runs side by side.
const MOST_RUNS: usize = 100;
/// The most steps a run of a sampled history.
const MOST_STEPS: i64 = 2_500;
/// The steps a run of a sampled history unless somebody asks for another number.
const USUAL_STEPS: i64 = 2_500;

pub(crate) async fn history(registry: Registry, input: Input) -> Answer {
    let (run_id, key) = (input.run_id()?, input.required("metric_key")?);
    let mut page = Page::of(&input, MOST_POINTS, i64::from(i32::MAX))?;
    page.size = page.size.min(MOST_POINTS);
    let after = page.after.as_deref().map(point_place).transpose()?;
    let mut conn = registry.context.db.acquire().await?;
    let mut points =
        tracking::metric_history(&mut conn, registry.project(), run_id, key, after, page.limit()).await?;
    let token = page.cut(&mut points, place_of);
    Ok(Json(answer("metrics", points.iter().map(views::metric).collect(), token)))
}

fn place_of(point: &Metric) -> Place {
    [point.timestamp_ms.to_string(), point.step.to_string(), point.value.to_string()].map(Some).to_vec()
}

fn point_place(place: &[Option<String>]) -> Result<PointPlace, Refusal> {
    let read = || match place {
        [Some(timestamp_ms), Some(step), Some(value)] => {
            Some((timestamp_ms.parse().ok()?, step.parse().ok()?, value.parse().ok()?))
        }
        _ => None,
    };
    read().ok_or_else(|| Refusal::invalid("Invalid page token: it belongs to another search"))
}

/// `metrics/get-history-bulk`: what the run comparison of MLflow's pages asks.
pub(crate) async fn histories(registry: Registry, input: Input) -> Answer {
    let run_ids = input.texts("run_id")?;
    if run_ids.is_empty() {
        return Err(Refusal::invalid("GetMetricHistoryBulk request must specify at least one run_id."));
    }
    if run_ids.len() > MOST_RUNS {
        return Err(Refusal::invalid(format!(
            "GetMetricHistoryBulk request cannot specify more than {MOST_RUNS} run_ids. Received {} run_ids.",
            run_ids.len()
        )));
    }
    let key = input
        .text("metric_key")?
        .ok_or_else(|| Refusal::invalid("GetMetricHistoryBulk request must specify a metric_key."))?;
    let limit = input.whole("max_results")?.unwrap_or(MOST_POINTS).clamp(0, MOST_POINTS);
    let mut conn = registry.context.db.acquire().await?;
    let points = tracking::metric_histories(&mut conn, registry.project(), &run_ids, key, limit).await?;
    Ok(Json(json!({ "metrics": points.iter().map(views::run_metric).collect::<Vec<_>>() })))
}

/// `metrics/get-history-bulk-interval`: histories thinned out to a number of steps.
pub(crate) async fn sampled_histories(registry: Registry, input: Input) -> Answer {
    let run_ids = input.texts("run_ids")?;
    if run_ids.is_empty() {
        return Err(input.absent("run_ids"));
    }
    let key = input.required("metric_key")?;
    if run_ids.len() > MOST_RUNS {
        return Err(Refusal::invalid(format!(
            "GetMetricHistoryBulkInterval request must specify at most {MOST_RUNS} run_ids. Received {} run_ids. See the \
             API docs for more information about request parameters.",
            run_ids.len()
        )));
    }
    let steps = input.whole("max_results")?.unwrap_or(USUAL_STEPS);
    if !(1..=MOST_STEPS).contains(&steps) {
        return Err(Refusal::invalid(format!(
            "max_results must be between 1 and {MOST_STEPS}. See the API docs for more information about request parameters."
        )));
    }
    let range = range(&input)?;
    let steps = i32::try_from(steps).unwrap_or(i32::MAX);
    let mut conn = registry.context.db.acquire().await?;
    let points =
        tracking::sampled_metric_histories(&mut conn, registry.project(), &run_ids, key, range, steps)
            .await?;
    Ok(Json(answer("metrics", points.iter().map(views::run_metric).collect(), None)))
}

/// The steps between `start_step` and `end_step`; all of them if neither is said.
fn range(input: &Input) -> Result<(i64, i64), Refusal> {
    match (input.whole("start_step")?, input.whole("end_step")?) {
        (None, None) => Ok((i64::MIN, i64::MAX)),
        (Some(start), Some(end)) if start > end => Err(Refusal::invalid(format!(
            "end_step must be greater than start_step. Found start_step={start} and end_step={end}."
        ))),
        (Some(start), Some(end)) => Ok((start, end)),
        _ => Err(Refusal::invalid("If either start step or end step are specified, both must be specified.")),
    }
}
