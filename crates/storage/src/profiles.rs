//! SQL over `reference_profiles`, `column_profiles`, `profiled_logs` and `drift_evidence`.
//!
//! Belongs here: profiles as bytes and documents. Not here: what they mean (`statistics`), how rows become profiles and
//! windows become verdicts (`monitor`).

use chrono::{DateTime, Utc};
use domain::ids::PredictionLogId;
use serde_json::Value;
use sqlx::PgConnection;

use crate::Error;

/// A version of a registered model in a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The project.
    pub project: String,
    /// The registered model.
    pub registered_model: String,
    /// Its version.
    pub version: i32,
}

/// A kept reference.
#[derive(Clone, Debug, PartialEq)]
pub struct ReferenceProfiles {
    /// The file of its rows, relative to the data directory.
    pub made_of: String,
    /// The profiles, by column.
    pub columns: Value,
}

/// The profile of one column over one span of served rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// When it begins.
    pub starts_at: DateTime<Utc>,
    /// How long it is.
    pub seconds: i32,
    /// The column.
    pub column: String,
    /// How many rows.
    pub rows: i64,
    /// The profile; `None` if the column was of another type than the reference's in some row.
    pub profile: Option<Vec<u8>>,
}

/// A file of served rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnprofiledLog {
    /// Which one.
    pub id: PredictionLogId,
    /// The Arrow file, relative to the data directory.
    pub path: String,
    /// Its SHA-256, in hex.
    pub sha256: String,
}

/// Keeps other makers of a version's profiles away until the transaction ends.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn lock(conn: &mut PgConnection, of: &Version) -> Result<(), Error> {
    sqlx::query!(
        "select pg_advisory_xact_lock(hashtextextended('profiles:' || $1 || ':' || $2 || ':' || $3, 0))",
        of.project,
        of.registered_model,
        of.version.to_string(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The kept reference of a version.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn reference(conn: &mut PgConnection, of: &Version) -> Result<Option<ReferenceProfiles>, Error> {
    Ok(sqlx::query_as!(
        ReferenceProfiles,
        r#"
        select made_of, columns from reference_profiles
        where project = $1 and registered_model = $2 and version = $3
        "#,
        of.project,
        of.registered_model,
        of.version,
    )
    .fetch_optional(conn)
    .await?)
}

/// Keeps a reference. One of other rows takes the place of the one before, and what was counted over its bins goes with it.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn keep_reference(
    conn: &mut PgConnection,
    of: &Version,
    reference: &ReferenceProfiles,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        r#"
        delete from profiled_logs using prediction_logs
        where profiled_logs.prediction_log_id = prediction_logs.prediction_log_id
          and project = $1 and registered_model = $2 and version = $3
        "#,
        of.project,
        of.registered_model,
        of.version,
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "delete from column_profiles where project = $1 and registered_model = $2 and version = $3",
        of.project,
        of.registered_model,
        of.version,
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        r#"
        insert into reference_profiles (project, registered_model, version, made_of, columns, created_at)
        values ($1, $2, $3, $4, $5, $6)
        on conflict (project, registered_model, version) do update
        set made_of = excluded.made_of, columns = excluded.columns, created_at = excluded.created_at
        "#,
        of.project,
        of.registered_model,
        of.version,
        reference.made_of,
        reference.columns,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The files of a version that are not in its profiles, oldest first.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn unprofiled(
    conn: &mut PgConnection,
    of: &Version,
    limit: i64,
) -> Result<Vec<UnprofiledLog>, Error> {
    Ok(sqlx::query_as!(
        UnprofiledLog,
        r#"
        select prediction_log_id as "id: PredictionLogId", path, sha256 from prediction_logs
        where project = $1 and registered_model = $2 and version = $3
          and not exists (select from profiled_logs p where p.prediction_log_id = prediction_logs.prediction_log_id)
        order by first_cutoff, prediction_log_id limit $4
        "#,
        of.project,
        of.registered_model,
        of.version,
        limit,
    )
    .fetch_all(conn)
    .await?)
}

/// Says that files are in the profiles.
///
/// # Errors
/// [`Error::Database`] if one is so already.
pub async fn set_profiled(
    conn: &mut PgConnection,
    logs: &[PredictionLogId],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let ids: Vec<_> = logs.iter().map(|id| id.0).collect();
    sqlx::query!(
        "insert into profiled_logs (prediction_log_id, profiled_at) select id, $2 from unnest($1::uuid[]) as t (id)",
        &ids,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The parts of a version that begin in `[from, until)`, oldest first.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn parts(
    conn: &mut PgConnection,
    of: &Version,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<Vec<Part>, Error> {
    Ok(sqlx::query_as!(
        Part,
        r#"
        select starts_at, seconds, column_name as "column", rows, profile from column_profiles
        where project = $1 and registered_model = $2 and version = $3 and starts_at >= $4 and starts_at < $5
        order by starts_at, seconds, column_name
        "#,
        of.project,
        of.registered_model,
        of.version,
        from,
        until,
    )
    .fetch_all(conn)
    .await?)
}

/// Stores parts; those of the same span and column are replaced.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn save(
    conn: &mut PgConnection,
    of: &Version,
    parts: &[Part],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let starts: Vec<_> = parts.iter().map(|part| part.starts_at).collect();
    let seconds: Vec<_> = parts.iter().map(|part| part.seconds).collect();
    let columns: Vec<_> = parts.iter().map(|part| part.column.clone()).collect();
    let rows: Vec<_> = parts.iter().map(|part| part.rows).collect();
    let profiles: Vec<_> = parts.iter().map(|part| part.profile.clone()).collect();
    sqlx::query!(
        r#"
        insert into column_profiles (project, registered_model, version, starts_at, seconds, column_name, rows, profile,
                                     updated_at)
        select $1, $2, $3, starts_at, seconds, column_name, rows, profile, $9
        from unnest($4::timestamptz[], $5::integer[], $6::text[], $7::bigint[], $8::bytea[])
             as t (starts_at, seconds, column_name, rows, profile)
        on conflict (project, registered_model, version, starts_at, seconds, column_name) do update
        set rows = excluded.rows, profile = excluded.profile, updated_at = excluded.updated_at
        "#,
        of.project,
        of.registered_model,
        of.version,
        &starts,
        &seconds,
        &columns,
        &rows,
        &profiles as &[Option<Vec<u8>>],
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Removes parts of this length that begin in `[from, until)`; answers how many.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn remove(
    conn: &mut PgConnection,
    of: &Version,
    seconds: i32,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<u64, Error> {
    let done = sqlx::query!(
        r#"
        delete from column_profiles
        where project = $1 and registered_model = $2 and version = $3 and seconds = $4
          and starts_at >= $5 and starts_at < $6
        "#,
        of.project,
        of.registered_model,
        of.version,
        seconds,
        from,
        until,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// When the oldest part of this length begins.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn oldest(
    conn: &mut PgConnection,
    of: &Version,
    seconds: i32,
) -> Result<Option<DateTime<Utc>>, Error> {
    Ok(sqlx::query_scalar!(
        r#"
        select min(starts_at) from column_profiles
        where project = $1 and registered_model = $2 and version = $3 and seconds = $4
        "#,
        of.project,
        of.registered_model,
        of.version,
        seconds,
    )
    .fetch_one(conn)
    .await?)
}

/// The evidence of a monitor by column, with the end of the last window taken.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn evidence(
    conn: &mut PgConnection,
    of: &Version,
    monitor: &str,
) -> Result<Vec<(String, DateTime<Utc>, Value)>, Error> {
    let rows = sqlx::query!(
        r#"
        select column_name, judged_through, evidence from drift_evidence
        where project = $1 and monitor = $2 and registered_model = $3 and version = $4
        "#,
        of.project,
        monitor,
        of.registered_model,
        of.version,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.column_name, row.judged_through, row.evidence)).collect())
}

/// Stores the evidence of a monitor after a window that ends at `through`.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn save_evidence(
    conn: &mut PgConnection,
    of: &Version,
    monitor: &str,
    through: DateTime<Utc>,
    evidence: &[(String, Value)],
) -> Result<(), Error> {
    let (columns, values): (Vec<String>, Vec<Value>) = evidence.iter().cloned().unzip();
    sqlx::query!(
        r#"
        insert into drift_evidence (project, monitor, registered_model, version, column_name, judged_through, evidence)
        select $1, $2, $3, $4, column_name, $5, evidence
        from unnest($6::text[], $7::jsonb[]) as t (column_name, evidence)
        on conflict (project, monitor, registered_model, version, column_name) do update
        set judged_through = excluded.judged_through, evidence = excluded.evidence
        "#,
        of.project,
        monitor,
        of.registered_model,
        of.version,
        through,
        &columns,
        &values,
    )
    .execute(conn)
    .await?;
    Ok(())
}
