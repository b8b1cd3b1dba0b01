//! SQL over the metrics of runs: their points, and the latest of each.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use crate::Error;

/// One point of one metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Its key.
    pub key: String,
    /// Its value; infinities are stored as the largest finite number of their sign.
    pub value: f64,
    /// When it was measured, in milliseconds.
    pub timestamp_ms: i64,
    /// The step of training.
    pub step: i64,
}

/// A point of a run, where several runs are asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct RunMetric {
    /// The run.
    pub run_id: String,
    /// The point.
    pub metric: Metric,
}

/// Adds points to metrics. Writing the same point again changes nothing.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn log_metrics(
    conn: &mut PgConnection,
    project: &str,
    run_id: &str,
    metrics: &[Metric],
) -> Result<(), Error> {
    if metrics.is_empty() {
        return Ok(());
    }
    let mut sorted = metrics.to_vec(); // so that two writers cannot deadlock
    sorted.sort_by(|one, other| {
        (&one.key, one.timestamp_ms, one.step).cmp(&(&other.key, other.timestamp_ms, other.step))
    });
    let points = Points::of(sorted.into_iter());
    let latest = Points::of(latest(metrics).into_iter().cloned());
    sqlx::query!(
        r#"
        with run as (select begin_logging($1, $2)),
        points as (
            insert into run_metrics (project, run_id, key, value, timestamp_ms, step)
            select $1, $2, given.* from run, unnest($3::text[], $4::float8[], $5::bigint[], $6::bigint[]) as given
            on conflict do nothing
        )
        insert into run_latest_metrics as kept (project, run_id, key, value, timestamp_ms, step)
        select $1, $2, given.* from run, unnest($7::text[], $8::float8[], $9::bigint[], $10::bigint[]) as given
        on conflict (project, run_id, key) do update
        set value = excluded.value, timestamp_ms = excluded.timestamp_ms, step = excluded.step
        where (excluded.step, excluded.timestamp_ms, excluded.value) > (kept.step, kept.timestamp_ms, kept.value)
        "#,
        project,
        run_id,
        &points.keys,
        &points.values,
        &points.timestamps,
        &points.steps,
        &latest.keys,
        &latest.values,
        &latest.timestamps,
        &latest.steps,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Adds one point, if its run is there and active; answers the run's life stage. One statement, because training loops do
/// this all day; it does itself what `begin_logging` does, whose call costs as much as a row.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn log_metric(
    conn: &mut PgConnection,
    project: &str,
    run_id: &str,
    point: &Metric,
) -> Result<Option<String>, Error> {
    Ok(sqlx::query_scalar!(
        r#"
        with run as (
            update runs set contents_etag = gen_random_uuid() where project = $1 and run_id = $2
            returning lifecycle_stage, set_config('foretime.logging_into', $2 || ' ' || $1, true)
        ),
        point as (
            insert into run_metrics (project, run_id, key, value, timestamp_ms, step)
            select $1, $2, $3, $4, $5, $6 from run where lifecycle_stage = 'active'
            on conflict do nothing
        ),
        latest as (
            insert into run_latest_metrics as kept (project, run_id, key, value, timestamp_ms, step)
            select $1, $2, $3, $4, $5, $6 from run where lifecycle_stage = 'active'
            on conflict (project, run_id, key) do update
            set value = excluded.value, timestamp_ms = excluded.timestamp_ms, step = excluded.step
            where (excluded.step, excluded.timestamp_ms, excluded.value) > (kept.step, kept.timestamp_ms, kept.value)
        )
        select lifecycle_stage from run
        "#,
        project,
        run_id,
        point.key,
        clipped(point.value),
        point.timestamp_ms,
        point.step,
    )
    .fetch_optional(conn)
    .await?)
}

/// The latest point of each key, by key, so that two writers cannot deadlock.
fn latest(metrics: &[Metric]) -> Vec<&Metric> {
    let mut latest: BTreeMap<&str, &Metric> = BTreeMap::new();
    for metric in metrics {
        let newest = latest.entry(&metric.key).or_insert(metric);
        if is_later(metric, newest) {
            *newest = metric;
        }
    }
    latest.into_values().collect()
}

fn is_later(metric: &Metric, than: &Metric) -> bool {
    let order = (metric.step, metric.timestamp_ms).cmp(&(than.step, than.timestamp_ms));
    order.then(metric.value.total_cmp(&than.value)).is_gt()
}

#[derive(Default)]
struct Points {
    keys: Vec<String>,
    values: Vec<f64>,
    timestamps: Vec<i64>,
    steps: Vec<i64>,
}

impl Points {
    fn of(metrics: impl Iterator<Item = Metric>) -> Self {
        let mut points = Self::default();
        for metric in metrics {
            points.keys.push(metric.key);
            points.values.push(clipped(metric.value));
            points.timestamps.push(metric.timestamp_ms);
            points.steps.push(metric.step);
        }
        points
    }
}

/// Infinities become the largest finite number of their sign, as MLflow's own server stores them.
pub(super) fn clipped(value: f64) -> f64 {
    if value.is_nan() { value } else { value.clamp(f64::MIN, f64::MAX) }
}

/// A point's place in the history of its metric: when, at which step, what.
pub type PointPlace = (i64, i64, f64);

/// Points of one metric, oldest first, after a place.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn metric_history(
    conn: &mut PgConnection,
    project: &str,
    run_id: &str,
    key: &str,
    after: Option<PointPlace>,
    limit: i64,
) -> Result<Vec<Metric>, Error> {
    let (timestamp_ms, step, value) = after.unwrap_or((i64::MIN, i64::MIN, f64::MIN));
    Ok(sqlx::query_as!(
        Metric,
        r#"
        select key, value, timestamp_ms, step from run_metrics
        where project = $1 and run_id = $2 and key = $3 and ($4 or (timestamp_ms, step, value) > ($5, $6, $7))
        order by timestamp_ms, step, value limit $8
        "#,
        project,
        run_id,
        key,
        after.is_none(),
        timestamp_ms,
        step,
        value,
        limit,
    )
    .fetch_all(conn)
    .await?)
}

/// Points of one metric of several runs, by run and then oldest first.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn metric_histories(
    conn: &mut PgConnection,
    project: &str,
    run_ids: &[String],
    key: &str,
    limit: i64,
) -> Result<Vec<RunMetric>, Error> {
    let rows = sqlx::query!(
        r#"
        select run_id, key, value, timestamp_ms, step from run_metrics
        where project = $1 and run_id = any($2) and key = $3
        order by run_id, timestamp_ms, step, value limit $4
        "#,
        project,
        run_ids,
        key,
        limit,
    );
    let rows = rows.fetch_all(conn).await?;
    Ok(rows
        .into_iter()
        .map(|row| RunMetric {
            run_id: row.run_id,
            metric: Metric { key: row.key, value: row.value, timestamp_ms: row.timestamp_ms, step: row.step },
        })
        .collect())
}

/// Points of one metric at no more than `steps` steps of each run, evenly spread over those that it has between `from` and
/// `to`; the first and the last are among them. By run and step.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn sampled_metric_histories(
    conn: &mut PgConnection,
    project: &str,
    run_ids: &[String],
    key: &str,
    (from, to): (i64, i64),
    steps: i32,
) -> Result<Vec<RunMetric>, Error> {
    let rows = sqlx::query!(
        r#"
        with logged as (
            select distinct run_id, step from run_metrics
            where project = $1 and run_id = any($2) and key = $3 and step between $4 and $5
        ),
        shared_out as (
            select run_id, step, ntile($6::integer) over (partition by run_id order by step) as bucket from logged
        ),
        sampled as (
            select run_id,
                   case when bucket = max(bucket) over (partition by run_id) then max(step) else min(step) end as step
            from shared_out group by run_id, bucket
        )
        select m.run_id, m.key, m.value, m.timestamp_ms, m.step
        from sampled s
        join run_metrics m on m.project = $1 and m.run_id = s.run_id and m.key = $3 and m.step = s.step
        order by m.run_id, m.step, m.timestamp_ms, m.value
        "#,
        project,
        run_ids,
        key,
        from,
        to,
        steps,
    );
    let rows = rows.fetch_all(conn).await?;
    Ok(rows
        .into_iter()
        .map(|row| RunMetric {
            run_id: row.run_id,
            metric: Metric { key: row.key, value: row.value, timestamp_ms: row.timestamp_ms, step: row.step },
        })
        .collect())
}
