//! SQL over what versions and training sets were made of, asked in both directions.

use chrono::{DateTime, Utc};
use domain::ids::{PartId, TrainingSetId};
use serde_json::Value;
use sqlx::PgConnection;

use super::VersionKey;
use crate::Error;

/// A part of the offline store that a training set was made of.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PartUsed {
    /// The part.
    pub part_id: PartId,
    /// Its view.
    pub view: String,
    /// The view's version.
    pub view_version: i32,
    /// The file, relative to the data directory, at the time.
    pub path: String,
    /// SHA-256, in hex.
    pub sha256: String,
}

/// Writes down what a training set was made of.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn record_parts(
    conn: &mut PgConnection,
    project: &str,
    training_set: TrainingSetId,
    parts: &[PartUsed],
) -> Result<(), Error> {
    let ids: Vec<uuid::Uuid> = parts.iter().map(|part| part.part_id.0).collect();
    let views: Vec<String> = parts.iter().map(|part| part.view.clone()).collect();
    let versions: Vec<i32> = parts.iter().map(|part| part.view_version).collect();
    let paths: Vec<String> = parts.iter().map(|part| part.path.clone()).collect();
    let hashes: Vec<String> = parts.iter().map(|part| part.sha256.clone()).collect();
    sqlx::query!(
        r#"
        insert into training_set_parts (project, training_set_id, part_id, view, view_version, path, sha256)
        select $1, $2, * from unnest($3::uuid[], $4::text[], $5::int[], $6::text[], $7::text[])
        on conflict do nothing
        "#,
        project,
        training_set as TrainingSetId,
        &ids,
        &views,
        &versions,
        &paths,
        &hashes,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The parts that a training set was made of, by view and path.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn parts_of(
    conn: &mut PgConnection,
    project: &str,
    training_set: TrainingSetId,
) -> Result<Vec<PartUsed>, Error> {
    Ok(sqlx::query_as!(
        PartUsed,
        r#"
        select part_id as "part_id: PartId", view, view_version, path, sha256 from training_set_parts
        where project = $1 and training_set_id = $2 order by view, path collate "C"
        "#,
        project,
        training_set as TrainingSetId,
    )
    .fetch_all(conn)
    .await?)
}

/// Those of these parts whose files the manifest says are still there: not merged into others and removed since.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn listed(conn: &mut PgConnection, project: &str, parts: &[PartId]) -> Result<Vec<PartId>, Error> {
    let ids: Vec<uuid::Uuid> = parts.iter().map(|part| part.0).collect();
    let found = sqlx::query_scalar!(
        r#"select part_id as "part_id: PartId" from parts
           where project = $1 and part_id = any($2) and removed_at is null"#,
        project,
        &ids,
    );
    Ok(found.fetch_all(conn).await?)
}

/// Something that a version trained elsewhere was made of.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Input {
    /// `dataset`, `file`, `code` or `model`.
    pub kind: String,
    /// Its name; unique within its kind.
    pub name: String,
    /// Where it is.
    pub uri: Option<String>,
    /// SHA-256 of its contents, in hex.
    pub sha256: Option<String>,
    /// Anything else: a commit, a schema, a row count.
    pub details: Value,
    /// Who said so.
    pub recorded_by: String,
    /// When they said it.
    pub recorded_at: DateTime<Utc>,
}

/// Writes down an input. What was said once stays: a second input of that kind and name is refused.
///
/// # Errors
/// [`Error::Conflict`] if that input was recorded with other contents.
pub async fn record_input(conn: &mut PgConnection, key: VersionKey<'_>, input: &Input) -> Result<(), Error> {
    let written = sqlx::query!(
        r#"
        insert into version_inputs (project, model, version, kind, name, uri, sha256, details, recorded_by, recorded_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
        on conflict (project, model, version, kind, name) do update set name = excluded.name
        where (version_inputs.uri, version_inputs.sha256, version_inputs.details)
              is not distinct from (excluded.uri, excluded.sha256, excluded.details)
        "#,
        key.project,
        key.model,
        key.version,
        input.kind,
        input.name,
        input.uri,
        input.sha256,
        input.details,
        input.recorded_by,
        input.recorded_at,
    )
    .execute(conn)
    .await?
    .rows_affected();
    if written == 1 {
        return Ok(());
    }
    Err(Error::Conflict {
        what: format!(
            "{} `{}` of version {} of `{}` was recorded otherwise before, and lineage is never rewritten; \
             use another name",
            input.kind, input.name, key.version, key.model
        ),
    })
}

/// The recorded inputs of a version, by kind and name.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn inputs_of(conn: &mut PgConnection, key: VersionKey<'_>) -> Result<Vec<Input>, Error> {
    Ok(sqlx::query_as!(
        Input,
        r#"
        select kind, name, uri, sha256, details, recorded_by, recorded_at from version_inputs
        where project = $1 and model = $2 and version = $3 order by kind, name
        "#,
        key.project,
        key.model,
        key.version,
    )
    .fetch_all(conn)
    .await?)
}

/// A version that was made of something, or made it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Use {
    /// The registered model.
    pub model: String,
    /// The version.
    pub version: i32,
    /// The training set in between, if it was trained here.
    pub training_set_id: Option<TrainingSetId>,
    /// How it was used: `training part`, `training set`, `model file`, or the kind of a recorded input; or `published embeddings`
    /// that it made.
    pub by: String,
}

/// The versions that were made of what has this SHA-256: a part, a training set's file, a recorded input, or a file of
/// their own.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn uses_of_hash(conn: &mut PgConnection, project: &str, sha256: &str) -> Result<Vec<Use>, Error> {
    Ok(sqlx::query_as!(
        Use,
        r#"
        with sets as (
            select training_set_id, 'training part' as by from training_set_parts where project = $1 and sha256 = $2
            union
            select training_set_id, 'training set' from training_sets
            where project = $1 and $2 in (sha256, history_sha256)
        )
        select evidence.model as "model!", evidence.version as "version!",
               sets.training_set_id as "training_set_id?: TrainingSetId", sets.by as "by!"
        from sets
        join evidence_of_versions evidence
          on evidence.project = $1 and evidence.evaluation ->> 'training_set' = sets.training_set_id::text
        union
        select model, version, null, kind from version_inputs where project = $1 and sha256 = $2
        union
        select model, version, null, 'model file' from version_files where project = $1 and sha256 = $2
        order by 1, 2, 4
        "#,
        project,
        sha256,
    )
    .fetch_all(conn)
    .await?)
}

/// The versions whose training sets were made of this part.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn uses_of_part(conn: &mut PgConnection, project: &str, part: PartId) -> Result<Vec<Use>, Error> {
    Ok(sqlx::query_as!(
        Use,
        r#"
        select evidence.model as "model!", evidence.version as "version!",
               used.training_set_id as "training_set_id?: TrainingSetId", 'training part' as "by!"
        from training_set_parts used
        join evidence_of_versions evidence
          on evidence.project = $1 and evidence.evaluation ->> 'training_set' = used.training_set_id::text
        where used.project = $1 and used.part_id = $2
        order by evidence.model, evidence.version
        "#,
        project,
        part as PartId,
    )
    .fetch_all(conn)
    .await?)
}

/// The versions that learned from this training set.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn uses_of_training_set(
    conn: &mut PgConnection,
    project: &str,
    training_set: TrainingSetId,
) -> Result<Vec<Use>, Error> {
    Ok(sqlx::query_as!(
        Use,
        r#"
        select model as "model!", version as "version!", $2::uuid as "training_set_id?: TrainingSetId",
               'training set' as "by!"
        from evidence_of_versions
        where project = $1 and evaluation ->> 'training_set' = ($2::uuid)::text
        order by model, version
        "#,
        project,
        training_set as TrainingSetId,
    )
    .fetch_all(conn)
    .await?)
}

/// The versions whose training sets were made of parts of this view, and those that published rows of it.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn uses_of_view(conn: &mut PgConnection, project: &str, view: &str) -> Result<Vec<Use>, Error> {
    Ok(sqlx::query_as!(
        Use,
        r#"
        select evidence.model as "model!", evidence.version as "version!",
               used.training_set_id as "training_set_id?: TrainingSetId", 'training part' as "by!"
        from training_set_parts used
        join evidence_of_versions evidence
          on evidence.project = $1 and evidence.evaluation ->> 'training_set' = used.training_set_id::text
        where used.project = $1 and used.view = $2
        union
        select model, version, null, 'published embeddings' from published_embeddings where project = $1 and view = $2
        order by 1, 2, 4
        "#,
        project,
        view,
    )
    .fetch_all(conn)
    .await?)
}
