//! SQL over samples of what was served, and what their recomputation found.

use chrono::{DateTime, Utc};
use domain::ids::ServedSampleId;
use sqlx::PgConnection;

use crate::Error;

/// A file with a sample of one view version.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Which one.
    pub id: ServedSampleId,
    /// The view.
    pub view: String,
    /// Its version.
    pub version: i32,
    /// Where it lies, relative to the data directory.
    pub path: String,
    /// Its SHA-256, in hex.
    pub sha256: String,
    /// Its rows.
    pub rows: i64,
}

/// Makes a sample known.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn publish(
    conn: &mut PgConnection,
    project: &str,
    sample: &Sample,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        r#"
        insert into served_samples (sample_id, project, view, version, path, sha256, rows, created_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8)
        "#,
        sample.id as ServedSampleId,
        project,
        sample.view,
        sample.version,
        sample.path,
        sample.sha256,
        sample.rows,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes one sample that nobody checked yet and nobody else is checking, until the transaction ends.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn take(conn: &mut PgConnection, project: &str) -> Result<Option<Sample>, Error> {
    Ok(sqlx::query_as!(
        Sample,
        r#"
        select sample_id as "id: ServedSampleId", view, version, path, sha256, rows from served_samples
        where project = $1 and checked_at is null order by created_at limit 1 for update skip locked
        "#,
        project,
    )
    .fetch_optional(conn)
    .await?)
}

/// Says that a sample was checked.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn checked(conn: &mut PgConnection, id: ServedSampleId, now: DateTime<Utc>) -> Result<(), Error> {
    sqlx::query!("update served_samples set checked_at = $2 where sample_id = $1", id as ServedSampleId, now)
        .execute(conn)
        .await?;
    Ok(())
}

/// Forgets the samples of these views that wait to be checked; answers their files.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn forget(conn: &mut PgConnection, project: &str, views: &[String]) -> Result<Vec<String>, Error> {
    Ok(sqlx::query_scalar!(
        "delete from served_samples where project = $1 and view = any($2) and checked_at is null returning path",
        project,
        views,
    )
    .fetch_all(conn)
    .await?)
}

/// What the recomputation of one feature's sample found.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Parity {
    /// The view.
    pub view: String,
    /// The feature.
    pub feature: String,
    /// Values that were compared.
    pub compared: i64,
    /// Both stores have a value, and they differ; or the statuses do.
    pub mismatched: i64,
    /// The offline store has a value, online had none.
    pub missing: i64,
    /// Online had a value, the offline store has none.
    pub extra: i64,
}

/// Stores what was found.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn record(
    conn: &mut PgConnection,
    project: &str,
    found: &Parity,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        r#"
        insert into parity_results as known
            (project, view, feature, checked_at, compared, mismatched, missing, extra)
        values ($1, $2, $3, $4, $5, $6, $7, $8)
        on conflict (project, view, feature, checked_at) do update
        set compared = known.compared + excluded.compared, mismatched = known.mismatched + excluded.mismatched,
            missing = known.missing + excluded.missing, extra = known.extra + excluded.extra
        "#,
        project,
        found.view,
        found.feature,
        now,
        found.compared,
        found.mismatched,
        found.missing,
        found.extra,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What was found since a moment, by feature.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn since(
    conn: &mut PgConnection,
    project: &str,
    moment: DateTime<Utc>,
) -> Result<Vec<Parity>, Error> {
    Ok(sqlx::query_as!(
        Parity,
        r#"
        select view, feature, sum(compared)::bigint as "compared!", sum(mismatched)::bigint as "mismatched!",
               sum(missing)::bigint as "missing!", sum(extra)::bigint as "extra!"
        from parity_results where project = $1 and checked_at >= $2 group by view, feature order by view, feature
        "#,
        project,
        moment,
    )
    .fetch_all(conn)
    .await?)
}
