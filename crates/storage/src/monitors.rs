//! SQL over `monitor_windows`: what monitors found, one row a window, column and measure.

use chrono::{DateTime, Utc};
use domain::incident::Verdict;
use serde::Serialize;
use sqlx::PgConnection;

use crate::Error;

/// One window of one version under one monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowKey {
    /// The project it belongs to.
    pub project: String,
    /// The monitor.
    pub monitor: String,
    /// The registered model.
    pub registered_model: String,
    /// The version that served.
    pub version: i32,
    /// When the window begins.
    pub start: DateTime<Utc>,
    /// When it ends.
    pub end: DateTime<Utc>,
}

/// What one measure found in a window.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// `input`, `score`, `label`, `calibration` or `performance`.
    pub kind: &'static str,
    /// The column; empty where the measure is not about one.
    pub column: String,
    /// Names the measure and its definition.
    pub measure: String,
    /// The estimate; `None` where there is no value.
    pub effect: Option<f64>,
    /// The lower end of its interval.
    pub low: Option<f64>,
    /// The upper end.
    pub high: Option<f64>,
    /// The current side, where the effect is a difference of two numbers.
    pub current: Option<f64>,
    /// The reference side.
    pub reference: Option<f64>,
    /// How many rows of the window were used.
    pub rows: u64,
    /// How many independent rows they are worth.
    pub n_eff: Option<f64>,
    /// Evidence against "no more than the smallest effect worth naming".
    pub e_value: Option<f64>,
    /// What follows.
    pub verdict: Verdict,
}

/// A stored finding, as people see it.
#[derive(Clone, Debug, Serialize)]
pub struct WindowRow {
    /// The registered model.
    pub registered_model: String,
    /// The version that served.
    pub version: i32,
    /// When the window begins.
    pub window_start: DateTime<Utc>,
    /// When it ends.
    pub window_end: DateTime<Utc>,
    /// `input`, `score`, `label`, `calibration` or `performance`.
    pub kind: String,
    /// The column; empty where the measure is not about one.
    pub column: String,
    /// Names the measure and its definition.
    pub measure: String,
    /// The estimate.
    pub effect: Option<f64>,
    /// The lower end of its interval.
    pub low: Option<f64>,
    /// The upper end.
    pub high: Option<f64>,
    /// The current side.
    pub current_value: Option<f64>,
    /// The reference side.
    pub reference_value: Option<f64>,
    /// How many rows of the window were used.
    pub rows: i64,
    /// How many independent rows they are worth.
    pub n_eff: Option<f64>,
    /// Evidence against "no more than the smallest effect worth naming".
    pub e_value: Option<f64>,
    /// `ok`, `drift`, `insufficient data` or `broken`.
    pub verdict: String,
    /// When it was judged.
    pub judged_at: DateTime<Utc>,
}

/// A window that was judged by its inputs or by its labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JudgedWindow {
    /// When it begins.
    pub start: DateTime<Utc>,
    /// The version that served.
    pub version: i32,
    /// True if it was judged by its inputs.
    pub by_inputs: bool,
    /// How many rows it was judged by then, if a column was there.
    pub input_rows: Option<i64>,
    /// How many labelled rows it was judged by, if it was.
    pub by_labels: Option<i64>,
}

/// Keeps other runs of a monitor away until the transaction ends.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn lock(conn: &mut PgConnection, project: &str, monitor: &str) -> Result<(), Error> {
    sqlx::query!(
        "select pg_advisory_xact_lock(hashtextextended('monitor:' || $1 || ':' || $2, 0))",
        project,
        monitor
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Stores what was found in a window; what was found by the same measure before is replaced.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn save(
    conn: &mut PgConnection,
    key: &WindowKey,
    findings: &[Finding],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    fn all<T>(findings: &[Finding], get: impl Fn(&Finding) -> T) -> Vec<T> {
        findings.iter().map(get).collect()
    }
    sqlx::query!(
        r#"
        insert into monitor_windows (project, monitor, registered_model, version, window_start, window_end, judged_at,
                                     kind, column_name, measure, effect, low, high, current_value, reference_value,
                                     rows, n_eff, e_value, verdict)
        select $1, $2, $3, $4, $5, $6, $7, *
        from unnest($8::text[], $9::text[], $10::text[], $11::float8[], $12::float8[], $13::float8[], $14::float8[],
                    $15::float8[], $16::bigint[], $17::float8[], $18::float8[], $19::text[])
        on conflict (project, monitor, registered_model, version, window_start, kind, column_name, measure) do update
        set effect = excluded.effect, low = excluded.low, high = excluded.high,
            current_value = excluded.current_value, reference_value = excluded.reference_value, rows = excluded.rows,
            n_eff = excluded.n_eff, e_value = excluded.e_value, verdict = excluded.verdict,
            judged_at = excluded.judged_at
        "#,
        key.project,
        key.monitor,
        key.registered_model,
        key.version,
        key.start,
        key.end,
        now,
        &all(findings, |finding| finding.kind.to_owned()),
        &all(findings, |finding| finding.column.clone()),
        &all(findings, |finding| finding.measure.clone()),
        &all(findings, |finding| finding.effect) as &[Option<f64>],
        &all(findings, |finding| finding.low) as &[Option<f64>],
        &all(findings, |finding| finding.high) as &[Option<f64>],
        &all(findings, |finding| finding.current) as &[Option<f64>],
        &all(findings, |finding| finding.reference) as &[Option<f64>],
        &all(findings, |finding| finding.rows as i64),
        &all(findings, |finding| finding.n_eff) as &[Option<f64>],
        &all(findings, |finding| finding.e_value) as &[Option<f64>],
        &all(findings, |finding| finding.verdict.as_str().to_owned()),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The windows that a monitor has judged.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn judged(
    conn: &mut PgConnection,
    project: &str,
    monitor: &str,
    registered_model: &str,
) -> Result<Vec<JudgedWindow>, Error> {
    Ok(sqlx::query_as!(
        JudgedWindow,
        r#"
        select window_start as start, version, bool_or(kind in ('input', 'score', 'history')) as "by_inputs!",
               max(rows) filter (where measure = 'missing_share_change') as input_rows,
               max(rows) filter (where kind = 'label' and measure = 'rate_change') as by_labels
        from monitor_windows
        where project = $1 and monitor = $2 and registered_model = $3
        group by 1, 2
        "#,
        project,
        monitor,
        registered_model,
    )
    .fetch_all(conn)
    .await?)
}

/// The label rates of a version's windows that begin before `before`, oldest first: `(rate, n_eff)`.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn label_rates(
    conn: &mut PgConnection,
    project: &str,
    monitor: &str,
    registered_model: &str,
    version: i32,
    before: DateTime<Utc>,
) -> Result<Vec<(f64, f64)>, Error> {
    let rows = sqlx::query!(
        r#"
        select current_value as "rate!", n_eff as "n_eff!" from monitor_windows
        where project = $1 and monitor = $2 and registered_model = $3 and version = $4 and window_start < $5
          and kind = 'label' and measure = 'rate_change' and current_value is not null and n_eff is not null
        order by window_start
        "#,
        project,
        monitor,
        registered_model,
        version,
        before,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.rate, row.n_eff)).collect())
}

/// The findings of windows that begin in `[from, until)`, by time.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn windows(
    conn: &mut PgConnection,
    project: &str,
    monitor: &str,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<Vec<WindowRow>, Error> {
    Ok(sqlx::query_as!(
        WindowRow,
        r#"
        select registered_model, version, window_start, window_end, kind, column_name as "column", measure, effect, low,
               high, current_value, reference_value, rows, n_eff, e_value, verdict, judged_at
        from monitor_windows
        where project = $1 and monitor = $2 and window_start >= $3 and window_start < $4
        order by window_start, version, kind, column_name, measure
        "#,
        project,
        monitor,
        from,
        until,
    )
    .fetch_all(conn)
    .await?)
}
