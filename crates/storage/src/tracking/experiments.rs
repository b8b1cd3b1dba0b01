//! SQL over `experiments` and their tags.

use sqlx::PgConnection;
use sqlx::types::Json;

use super::{Pair, Tags, pairs};
use crate::Error;

/// An experiment: a named set of runs.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// Its number.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Where its runs put their files, as a URI.
    pub artifact_location: String,
    /// `active` or `deleted`.
    pub lifecycle_stage: String,
    /// When it was created, in milliseconds.
    pub created_ms: i64,
    /// When it last changed, in milliseconds.
    pub updated_ms: i64,
    /// Its tags, by key.
    pub tags: Vec<Pair>,
}

/// The experiment that a client means if it names none.
pub const DEFAULT_ID: i64 = 0;

/// The experiment of that name, created if there is none; its runs' files go through the server.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn ensure(conn: &mut PgConnection, project: &str, name: &str, now_ms: i64) -> Result<i64, Error> {
    if let Some(id) = id_of(conn, project, name).await? {
        return Ok(id);
    }
    match insert(conn, project, name, None, now_ms).await? {
        Some(id) => Ok(id),
        None => {
            id_of(conn, project, name).await?.ok_or_else(|| Error::not_found(format!("experiment `{name}`")))
        }
    }
}

/// Makes sure that the project has its experiment 0.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn ensure_default(conn: &mut PgConnection, project: &str, now_ms: i64) -> Result<(), Error> {
    sqlx::query!(
        r#"
        insert into experiments (project, experiment_id, name, artifact_location, created_ms, updated_ms)
        values ($1, $2, 'Default', 'mlflow-artifacts:/0', $3, $3)
        on conflict do nothing
        "#,
        project,
        DEFAULT_ID,
        now_ms,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Creates an experiment; `None` if the name is taken. Without a location its files go through the server.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn insert(
    conn: &mut PgConnection,
    project: &str,
    name: &str,
    artifact_location: Option<&str>,
    now_ms: i64,
) -> Result<Option<i64>, Error> {
    Ok(sqlx::query_scalar!(
        r#"
        with number as (select nextval('experiment_ids') as id)
        insert into experiments (project, experiment_id, name, artifact_location, created_ms, updated_ms)
        select $1, id, $2, coalesce($3, 'mlflow-artifacts:/' || id), $4, $4 from number
        on conflict on constraint experiments_name do nothing
        returning experiment_id
        "#,
        project,
        name,
        artifact_location,
        now_ms,
    )
    .fetch_optional(conn)
    .await?)
}

/// The number of the experiment of that name, whatever its life stage.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn id_of(conn: &mut PgConnection, project: &str, name: &str) -> Result<Option<i64>, Error> {
    Ok(sqlx::query_scalar!(
        "select experiment_id from experiments where project = $1 and name = $2",
        project,
        name,
    )
    .fetch_optional(conn)
    .await?)
}

/// One experiment, if it is there.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn find(conn: &mut PgConnection, project: &str, id: i64) -> Result<Option<Experiment>, Error> {
    Ok(load(conn, project, &[id]).await?.pop())
}

/// The experiments of these numbers, in that order; those that are not there are left out.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn load(conn: &mut PgConnection, project: &str, ids: &[i64]) -> Result<Vec<Experiment>, Error> {
    let rows = sqlx::query!(
        r#"
        select experiment_id, name, artifact_location, lifecycle_stage, created_ms, updated_ms,
               (select jsonb_object_agg(t.key, t.value) from experiment_tags t
                where t.project = e.project and t.experiment_id = e.experiment_id) as "tags: Json<Tags>"
        from experiments e where project = $1 and experiment_id = any($2)
        order by array_position($2, experiment_id)
        "#,
        project,
        ids,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Experiment {
            id: row.experiment_id,
            name: row.name,
            artifact_location: row.artifact_location,
            lifecycle_stage: row.lifecycle_stage,
            created_ms: row.created_ms,
            updated_ms: row.updated_ms,
            tags: pairs(row.tags),
        })
        .collect())
}

/// Renames an experiment; `false` if another has the name.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn rename(
    conn: &mut PgConnection,
    project: &str,
    id: i64,
    name: &str,
    now_ms: i64,
) -> Result<bool, Error> {
    let done = sqlx::query!(
        r#"
        update experiments set name = $3, updated_ms = $4
        where project = $1 and experiment_id = $2
          and not exists (select 1 from experiments where project = $1 and name = $3 and experiment_id <> $2)
        "#,
        project,
        id,
        name,
        now_ms,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Sets the life stage of an experiment and of its runs.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn set_lifecycle(
    conn: &mut PgConnection,
    project: &str,
    id: i64,
    stage: &str,
    now_ms: i64,
) -> Result<(), Error> {
    sqlx::query!(
        r#"
        with kept as (
            update experiments set lifecycle_stage = $3, updated_ms = $4 where project = $1 and experiment_id = $2
        )
        update runs set lifecycle_stage = $3 where project = $1 and experiment_id = $2
        "#,
        project,
        id,
        stage,
        now_ms,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Sets tags of an experiment.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn set_tags(conn: &mut PgConnection, project: &str, id: i64, tags: &[Pair]) -> Result<(), Error> {
    if tags.is_empty() {
        return Ok(());
    }
    let (keys, values) = super::columns(tags);
    sqlx::query!(
        r#"
        insert into experiment_tags (project, experiment_id, key, value)
        select $1, $2, key, value from unnest($3::text[], $4::text[]) as given (key, value)
        on conflict (project, experiment_id, key) do update set value = excluded.value
        "#,
        project,
        id,
        &keys,
        &values,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Removes a tag of an experiment; `false` if it has none of that key.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn delete_tag(conn: &mut PgConnection, project: &str, id: i64, key: &str) -> Result<bool, Error> {
    let done = sqlx::query!(
        "delete from experiment_tags where project = $1 and experiment_id = $2 and key = $3",
        project,
        id,
        key,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}
