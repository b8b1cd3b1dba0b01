//! SQL over `workspaces`: the projects that MLflow's clients may name besides the configured one.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::Error;

/// A project that clients may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workspace {
    /// The project.
    pub name: String,
    /// What people wrote about it.
    pub description: Option<String>,
}

/// One workspace, if it is there.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn find(conn: &mut PgConnection, name: &str) -> Result<Option<Workspace>, Error> {
    Ok(sqlx::query_as!(Workspace, "select name, description from workspaces where name = $1", name)
        .fetch_optional(conn)
        .await?)
}

/// All workspaces, by name.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn all(conn: &mut PgConnection) -> Result<Vec<Workspace>, Error> {
    Ok(sqlx::query_as!(Workspace, "select name, description from workspaces order by name")
        .fetch_all(conn)
        .await?)
}

/// Adds a workspace; `false` if the name is taken.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn insert(
    conn: &mut PgConnection,
    workspace: &Workspace,
    now: DateTime<Utc>,
) -> Result<bool, Error> {
    let done = sqlx::query!(
        "insert into workspaces (name, description, created_at) values ($1, $2, $3) on conflict do nothing",
        workspace.name,
        workspace.description,
        now,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Sets the description; `false` if there is no such workspace.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn set_description(conn: &mut PgConnection, name: &str, description: &str) -> Result<bool, Error> {
    let done = sqlx::query!("update workspaces set description = $2 where name = $1", name, description)
        .execute(conn)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Whether anything belongs to a workspace besides its empty default experiment.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn is_used(conn: &mut PgConnection, name: &str) -> Result<bool, Error> {
    Ok(sqlx::query_scalar!(
        r#"
        select exists (select 1 from runs where project = $1)
            or exists (select 1 from experiments where project = $1 and experiment_id <> 0)
            or exists (select 1 from registered_models where project = $1) as "used!"
        "#,
        name,
    )
    .fetch_one(conn)
    .await?)
}

/// Removes a workspace; `false` if there is none of that name.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn delete(conn: &mut PgConnection, name: &str) -> Result<bool, Error> {
    let done = sqlx::query!("delete from workspaces where name = $1", name).execute(conn).await?;
    Ok(done.rows_affected() == 1)
}
