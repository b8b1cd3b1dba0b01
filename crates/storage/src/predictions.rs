//! SQL over `prediction_logs` and `predictions`: what was served, and in which file.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use domain::Cutoff;
use domain::ids::{PredictionId, PredictionLogId};
use sqlx::PgConnection;

use crate::{Error, erasures};

/// A file of served predictions that is about to exist for others.
#[derive(Clone, Debug)]
pub struct NewLog {
    /// The project it belongs to.
    pub project: String,
    /// The registered model that answered.
    pub registered_model: String,
    /// The version that answered.
    pub version: i32,
    /// The Arrow file, relative to the data directory.
    pub path: String,
    /// Its SHA-256, in hex.
    pub sha256: String,
    /// Its rows, in any order; at least one.
    pub predictions: Vec<Prediction>,
}

/// One served prediction.
#[derive(Clone, Copy, Debug)]
pub struct Prediction {
    /// Which one.
    pub id: PredictionId,
    /// The moment it was made for.
    pub cutoff: Cutoff,
    /// What was answered.
    pub probability: f64,
}

/// A file of served predictions, with what names it.
#[derive(Clone, Debug)]
pub struct StoredLog {
    /// Which one.
    pub id: PredictionLogId,
    /// The registered model that answered.
    pub registered_model: String,
    /// The version that answered.
    pub version: i32,
    /// The Arrow file, relative to the data directory.
    pub path: String,
    /// Its SHA-256, in hex.
    pub sha256: String,
}

/// A file of served predictions.
#[derive(Clone, Debug)]
pub struct Log {
    /// The Arrow file, relative to the data directory.
    pub path: String,
    /// Its SHA-256, in hex.
    pub sha256: String,
}

/// The predictions of one version in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServedWindow {
    /// When it begins; a window ends where the next begins.
    pub start: DateTime<Utc>,
    /// The version that answered.
    pub version: i32,
    /// How many predictions.
    pub predictions: i64,
    /// How many of them have labels.
    pub labelled: i64,
}

/// A prediction and what came true.
#[derive(Clone, Copy, Debug)]
pub struct Scored {
    /// Which one.
    pub prediction: PredictionId,
    /// The moment it was made for.
    pub cutoff: DateTime<Utc>,
    /// What was answered.
    pub probability: f64,
    /// What came true.
    pub outcome: bool,
}

/// Makes a written file exist for others, and its predictions known to labels. A file that is published already is left alone.
/// Erasures that reach its rows look at it: see [`erasures::look_again`].
///
/// # Errors
/// [`Error::Conflict`] without a row; [`Error::Database`] if a prediction id is taken.
pub async fn publish(
    conn: &mut PgConnection,
    log: &NewLog,
    now: DateTime<Utc>,
) -> Result<PredictionLogId, Error> {
    let id = PredictionLogId::new();
    if insert_log(conn, id, log, now).await? {
        insert_predictions(conn, log).await?;
        if let Some(first) = log.predictions.iter().map(|prediction| prediction.cutoff.0).min() {
            erasures::look_again(conn, &log.project, first).await?;
        }
        return Ok(id);
    }
    let known = sqlx::query_scalar!(
        r#"select prediction_log_id as "id: PredictionLogId" from prediction_logs where path = $1"#,
        log.path,
    );
    Ok(known.fetch_one(conn).await?)
}

/// Which of these predictions are published already.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn published(
    conn: &mut PgConnection,
    project: &str,
    ids: &[PredictionId],
) -> Result<HashSet<PredictionId>, Error> {
    let ids: Vec<_> = ids.iter().map(|id| id.0).collect();
    let known = sqlx::query_scalar!(
        r#"
        select prediction_id as "id: PredictionId" from predictions where project = $1 and prediction_id = any($2)
        "#,
        project,
        &ids,
    )
    .fetch_all(conn)
    .await?;
    Ok(known.into_iter().collect())
}

async fn insert_log(
    conn: &mut PgConnection,
    id: PredictionLogId,
    log: &NewLog,
    now: DateTime<Utc>,
) -> Result<bool, Error> {
    let cutoffs = || log.predictions.iter().map(|prediction| prediction.cutoff.0);
    let (Some(first), Some(last)) = (cutoffs().min(), cutoffs().max()) else {
        return Err(Error::Conflict { what: format!("the prediction log `{}` holds no row", log.path) });
    };
    let done = sqlx::query!(
        r#"
        insert into prediction_logs (prediction_log_id, project, registered_model, version, path, sha256, rows,
                                     first_cutoff, last_cutoff, created_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
        on conflict (path) do nothing
        "#,
        id as PredictionLogId,
        log.project,
        log.registered_model,
        log.version,
        log.path,
        log.sha256,
        log.predictions.len() as i64,
        first,
        last,
        now,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

async fn insert_predictions(conn: &mut PgConnection, log: &NewLog) -> Result<(), Error> {
    let ids: Vec<_> = log.predictions.iter().map(|prediction| prediction.id.0).collect();
    let cutoffs: Vec<_> = log.predictions.iter().map(|prediction| prediction.cutoff.0).collect();
    let probabilities: Vec<_> = log.predictions.iter().map(|prediction| prediction.probability).collect();
    sqlx::query!(
        r#"
        insert into predictions (project, registered_model, version, prediction_id, cutoff, probability)
        select $1, $2, $3, prediction_id, cutoff, probability
        from unnest($4::uuid[], $5::timestamptz[], $6::double precision[]) as t (prediction_id, cutoff, probability)
        "#,
        log.project,
        log.registered_model,
        log.version,
        &ids,
        &cutoffs,
        &probabilities,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The files of a version that may hold cutoffs in `[from, until)`, in the order of their first cutoffs.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn logs(
    conn: &mut PgConnection,
    project: &str,
    registered_model: &str,
    version: i32,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<Vec<Log>, Error> {
    Ok(sqlx::query_as!(
        Log,
        r#"
        select path, sha256 from prediction_logs
        where project = $1 and registered_model = $2 and version = $3 and last_cutoff >= $4 and first_cutoff < $5
        order by first_cutoff, prediction_log_id
        "#,
        project,
        registered_model,
        version,
        from,
        until,
    )
    .fetch_all(conn)
    .await?)
}

/// The newest files of a model's versions that hold cutoffs after `after`, newest first.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn newest_logs(
    conn: &mut PgConnection,
    project: &str,
    registered_model: &str,
    after: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<Log>, Error> {
    Ok(sqlx::query_as!(
        Log,
        r#"
        select path, sha256 from prediction_logs
        where project = $1 and registered_model = $2 and last_cutoff > $3
        order by last_cutoff desc, prediction_log_id limit $4
        "#,
        project,
        registered_model,
        after,
        limit,
    )
    .fetch_all(conn)
    .await?)
}

/// The windows of length `window` (counted from 1970) that ended by `until` and hold predictions, by version, oldest first.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn windows(
    conn: &mut PgConnection,
    project: &str,
    registered_model: &str,
    window: TimeDelta,
    until: DateTime<Utc>,
) -> Result<Vec<ServedWindow>, Error> {
    Ok(sqlx::query_as!(
        ServedWindow,
        r#"
        select date_bin($3::interval, p.cutoff, 'epoch'::timestamptz) as "start!", p.version,
               count(*) as "predictions!", count(l.prediction_id) as "labelled!"
        from predictions p left join labels l using (project, prediction_id)
        where p.project = $1 and p.registered_model = $2 and p.cutoff < date_bin($3::interval, $4, 'epoch'::timestamptz)
        group by 1, 2
        order by 1, 2
        "#,
        project,
        registered_model,
        interval(window),
        until,
    )
    .fetch_all(conn)
    .await?)
}

/// The labelled predictions of a version with cutoffs in `[from, until)`, in the order of their cutoffs.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn scored(
    conn: &mut PgConnection,
    project: &str,
    registered_model: &str,
    version: i32,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<Vec<Scored>, Error> {
    Ok(sqlx::query_as!(
        Scored,
        r#"
        select p.prediction_id as "prediction: PredictionId", p.cutoff, p.probability, l.outcome
        from predictions p join labels l using (project, prediction_id)
        where p.project = $1 and p.registered_model = $2 and p.version = $3 and p.cutoff >= $4 and p.cutoff < $5
        order by p.cutoff, p.prediction_id
        "#,
        project,
        registered_model,
        version,
        from,
        until,
    )
    .fetch_all(conn)
    .await?)
}

/// What a version answered for cutoffs in `[from, until)`, labelled or not, in the order of the cutoffs.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn probabilities(
    conn: &mut PgConnection,
    project: &str,
    registered_model: &str,
    version: i32,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<Vec<f64>, Error> {
    Ok(sqlx::query_scalar!(
        r#"
        select probability from predictions
        where project = $1 and registered_model = $2 and version = $3 and cutoff >= $4 and cutoff < $5
        order by cutoff, prediction_id
        "#,
        project,
        registered_model,
        version,
        from,
        until,
    )
    .fetch_all(conn)
    .await?)
}

/// How old the labels of a model's predictions were when they came, in seconds after the cutoff: the median and the 95th
/// percentile of those that came after `since`; `None` without one.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn label_lag(
    conn: &mut PgConnection,
    project: &str,
    registered_model: &str,
    since: DateTime<Utc>,
) -> Result<Option<(f64, f64)>, Error> {
    let row = sqlx::query!(
        r#"
        select percentile_cont(0.5) within group (order by lag) as median,
               percentile_cont(0.95) within group (order by lag) as late
        from (select extract(epoch from l.label_time - p.cutoff)::double precision as lag
              from labels l join predictions p using (project, prediction_id)
              where p.project = $1 and p.registered_model = $2 and l.label_time > $3) lags
        "#,
        project,
        registered_model,
        since,
    )
    .fetch_one(conn)
    .await?;
    Ok(row.median.zip(row.late))
}

fn interval(span: TimeDelta) -> sqlx::postgres::types::PgInterval {
    let microseconds = span.num_microseconds().unwrap_or(i64::MAX);
    sqlx::postgres::types::PgInterval { months: 0, days: 0, microseconds }
}

/// All files with predictions for moments up to `until`, oldest first.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn stored(
    conn: &mut PgConnection,
    project: &str,
    until: DateTime<Utc>,
) -> Result<Vec<StoredLog>, Error> {
    Ok(sqlx::query_as!(
        StoredLog,
        r#"
        select prediction_log_id as "id: PredictionLogId", registered_model, version, path, sha256 from prediction_logs
        where project = $1 and first_cutoff <= $2 order by prediction_log_id
        "#,
        project,
        until,
    )
    .fetch_all(conn)
    .await?)
}

/// Puts another file with the same rows in a log's place.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn replace_file(
    conn: &mut PgConnection,
    id: PredictionLogId,
    path: &str,
    sha256: &str,
) -> Result<(), Error> {
    sqlx::query!(
        "update prediction_logs set path = $2, sha256 = $3 where prediction_log_id = $1",
        id as PredictionLogId,
        path,
        sha256,
    )
    .execute(conn)
    .await?;
    Ok(())
}
