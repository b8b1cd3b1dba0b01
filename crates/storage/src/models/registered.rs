//! SQL over `registered_models` and their tags.

use std::collections::BTreeMap;

use sqlx::PgConnection;
use sqlx::types::Json;

use crate::Error;
use crate::tracking::{Pair, Tags, columns, pairs};

/// A registered model: a name with numbered versions.
#[derive(Clone, Debug)]
pub struct RegisteredModel {
    /// Its name.
    pub name: String,
    /// What people wrote about it.
    pub description: String,
    /// When it was created, in milliseconds.
    pub created_ms: i64,
    /// When it last changed, in milliseconds.
    pub updated_ms: i64,
    /// Its tags, by key.
    pub tags: Vec<Pair>,
    /// The version that each alias points at.
    pub aliases: BTreeMap<String, i32>,
}

/// Creates a model; `false` if the name is taken.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn create(
    conn: &mut PgConnection,
    project: &str,
    name: &str,
    description: &str,
    tags: &[Pair],
    now_ms: i64,
) -> Result<bool, Error> {
    let done = sqlx::query!(
        r#"
        insert into registered_models (project, name, description, created_ms, updated_ms)
        values ($1, $2, $3, $4, $4) on conflict do nothing
        "#,
        project,
        name,
        description,
        now_ms,
    )
    .execute(&mut *conn)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    set_tags(conn, project, name, tags).await?;
    Ok(true)
}

/// Holds the model's row until the transaction ends; `false` if there is none of that name.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn lock(conn: &mut PgConnection, project: &str, name: &str) -> Result<bool, Error> {
    let row = sqlx::query_scalar!(
        "select name from registered_models where project = $1 and name = $2 for update",
        project,
        name,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.is_some())
}

/// Notes that the model changed.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn touch(conn: &mut PgConnection, project: &str, name: &str, now_ms: i64) -> Result<(), Error> {
    sqlx::query!(
        "update registered_models set updated_ms = $3 where project = $1 and name = $2",
        project,
        name,
        now_ms,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Renames a model with all that belongs to it.
///
/// # Errors
/// [`Error::Conflict`] if the new name is taken.
pub async fn rename(
    conn: &mut PgConnection,
    project: &str,
    name: &str,
    new_name: &str,
    now_ms: i64,
) -> Result<(), Error> {
    let renamed = sqlx::query!(
        "update registered_models set name = $3, updated_ms = $4 where project = $1 and name = $2",
        project,
        name,
        new_name,
        now_ms,
    )
    .execute(&mut *conn)
    .await
    .map_err(Error::from);
    match renamed {
        Err(error) if error.violates("registered_models_pkey") => {
            return Err(Error::Conflict {
                what: format!("Registered Model (name={new_name}) already exists."),
            });
        }
        other => other?,
    };
    sqlx::query!(
        "update model_versions set updated_ms = $3 where project = $1 and model = $2",
        project,
        new_name,
        now_ms,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Sets the description.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn set_description(
    conn: &mut PgConnection,
    project: &str,
    name: &str,
    description: &str,
    now_ms: i64,
) -> Result<(), Error> {
    sqlx::query!(
        "update registered_models set description = $3, updated_ms = $4 where project = $1 and name = $2",
        project,
        name,
        description,
        now_ms,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Removes a model with its versions; its alias history stays.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn delete(conn: &mut PgConnection, project: &str, name: &str) -> Result<(), Error> {
    sqlx::query!("delete from registered_models where project = $1 and name = $2", project, name)
        .execute(conn)
        .await?;
    Ok(())
}

/// Sets tags.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn set_tags(
    conn: &mut PgConnection,
    project: &str,
    name: &str,
    tags: &[Pair],
) -> Result<(), Error> {
    if tags.is_empty() {
        return Ok(());
    }
    let (keys, values) = columns(tags);
    sqlx::query!(
        r#"
        insert into registered_model_tags (project, model, key, value)
        select $1, $2, key, value from unnest($3::text[], $4::text[]) as given (key, value)
        on conflict (project, model, key) do update set value = excluded.value
        "#,
        project,
        name,
        &keys,
        &values,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Removes a tag, if it is there.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn delete_tag(conn: &mut PgConnection, project: &str, name: &str, key: &str) -> Result<(), Error> {
    sqlx::query!(
        "delete from registered_model_tags where project = $1 and model = $2 and key = $3",
        project,
        name,
        key,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// All names, in order.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn names(conn: &mut PgConnection, project: &str) -> Result<Vec<String>, Error> {
    Ok(sqlx::query_scalar!("select name from registered_models where project = $1 order by name", project)
        .fetch_all(conn)
        .await?)
}

/// One model, if it is there.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn find(
    conn: &mut PgConnection,
    project: &str,
    name: &str,
) -> Result<Option<RegisteredModel>, Error> {
    Ok(load(conn, project, &[name.to_owned()]).await?.pop())
}

/// The models of these names, in that order; those that are not there are left out.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn load(
    conn: &mut PgConnection,
    project: &str,
    names: &[String],
) -> Result<Vec<RegisteredModel>, Error> {
    let rows = sqlx::query!(
        r#"
        select name, description, created_ms, updated_ms,
               (select jsonb_object_agg(t.key, t.value) from registered_model_tags t
                where t.project = m.project and t.model = m.name) as "tags: Json<Tags>",
               (select jsonb_object_agg(a.alias, a.version) from model_aliases a
                where a.project = m.project and a.model = m.name) as "aliases: Json<BTreeMap<String, i32>>"
        from registered_models m
        where project = $1 and name = any($2) order by array_position($2, name)
        "#,
        project,
        names,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| RegisteredModel {
            name: row.name,
            description: row.description,
            created_ms: row.created_ms,
            updated_ms: row.updated_ms,
            tags: pairs(row.tags),
            aliases: row.aliases.map(|aliases| aliases.0).unwrap_or_default(),
        })
        .collect())
}
