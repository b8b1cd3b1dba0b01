//! SQL over `training_sets`: immutable results of point-in-time joins.

use chrono::{DateTime, Utc};
use domain::ids::TrainingSetId;
use serde_json::Value;
use sqlx::PgConnection;

use crate::Error;

/// A materialised training set.
#[derive(Clone, Debug, serde::Serialize)]
pub struct TrainingSet {
    /// Which one.
    pub id: TrainingSetId,
    /// The dataset definition it answers.
    pub dataset: String,
    /// Hash of the definition and everything it refers to.
    pub spec_hash: String,
    /// It holds what was ingested up to this seq.
    pub max_seq: i64,
    /// Labels known by then.
    pub as_of: DateTime<Utc>,
    /// The Arrow file, relative to the data directory.
    pub path: String,
    /// Its SHA-256, in hex.
    pub sha256: String,
    /// The Arrow file of histories, if the dataset has one.
    pub history_path: Option<String>,
    /// Its SHA-256, in hex.
    pub history_sha256: Option<String>,
    /// Its rows.
    pub rows: i64,
    /// What it holds: schema, statistics, leak audit.
    pub manifest: Value,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// Makes a training set visible.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn publish(conn: &mut PgConnection, project: &str, set: &TrainingSet) -> Result<(), Error> {
    sqlx::query!(
        r#"
        insert into training_sets (training_set_id, project, dataset, spec_hash, max_seq, as_of, path, sha256,
                                   history_path, history_sha256, rows, manifest, created_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
        "#,
        set.id as TrainingSetId,
        project,
        set.dataset,
        set.spec_hash,
        set.max_seq,
        set.as_of,
        set.path,
        set.sha256,
        set.history_path,
        set.history_sha256,
        set.rows,
        set.manifest,
        set.created_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// One training set.
///
/// # Errors
/// [`Error::NotFound`] if there is none of that id.
pub async fn get(conn: &mut PgConnection, project: &str, id: TrainingSetId) -> Result<TrainingSet, Error> {
    sqlx::query_as!(
        TrainingSet,
        r#"
        select training_set_id as "id: TrainingSetId", dataset, spec_hash, max_seq, as_of, path, sha256,
               history_path, history_sha256, rows, manifest, created_at
        from training_sets where project = $1 and training_set_id = $2
        "#,
        project,
        id as TrainingSetId,
    )
    .fetch_optional(conn)
    .await?
    .ok_or_else(|| Error::not_found(format!("training set {id}")))
}

/// The set made from the same specification, knowledge and moment, if there is one.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn find(
    conn: &mut PgConnection,
    project: &str,
    spec_hash: &str,
    max_seq: i64,
    as_of: DateTime<Utc>,
) -> Result<Option<TrainingSetId>, Error> {
    Ok(sqlx::query_scalar!(
        r#"
        select training_set_id as "id: TrainingSetId" from training_sets
        where project = $1 and spec_hash = $2 and max_seq = $3 and as_of = $4
        "#,
        project,
        spec_hash,
        max_seq,
        as_of,
    )
    .fetch_optional(conn)
    .await?)
}

/// The latest training sets, newest first.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn latest(conn: &mut PgConnection, project: &str, limit: i64) -> Result<Vec<TrainingSet>, Error> {
    Ok(sqlx::query_as!(
        TrainingSet,
        r#"
        select training_set_id as "id: TrainingSetId", dataset, spec_hash, max_seq, as_of, path, sha256,
               history_path, history_sha256, rows, manifest, created_at
        from training_sets where project = $1 order by created_at desc limit $2
        "#,
        project,
        limit,
    )
    .fetch_all(conn)
    .await?)
}
