//! SQL over `model_aliases`. Callers hold the model's row (`lock`) while they move one.

use sqlx::PgConnection;

use crate::Error;

/// A name that points at a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// The registered model.
    pub model: String,
    /// The name.
    pub alias: String,
    /// The version it points at.
    pub version: i32,
}

/// Where an alias points.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn alias_of(
    conn: &mut PgConnection,
    project: &str,
    model: &str,
    alias: &str,
) -> Result<Option<i32>, Error> {
    Ok(sqlx::query_scalar!(
        "select version from model_aliases where project = $1 and model = $2 and alias = $3",
        project,
        model,
        alias,
    )
    .fetch_optional(conn)
    .await?)
}

/// The aliases of these models, by name.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn aliases_of(
    conn: &mut PgConnection,
    project: &str,
    models: &[String],
) -> Result<Vec<Alias>, Error> {
    Ok(sqlx::query_as!(
        Alias,
        "select model, alias, version from model_aliases where project = $1 and model = any($2) order by model, alias",
        project,
        models,
    )
    .fetch_all(conn)
    .await?)
}

/// Claims an alias until the transaction ends; `false` if another transaction holds it.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn claim_alias(
    conn: &mut PgConnection,
    project: &str,
    model: &str,
    alias: &str,
) -> Result<bool, Error> {
    let claimed = sqlx::query_scalar!(
        r#"select pg_try_advisory_xact_lock(hashtextextended(jsonb_build_array('alias', $1::text, $2::text, $3::text)::text, 0)) as "claimed!""#,
        project,
        model,
        alias,
    );
    Ok(claimed.fetch_one(conn).await?)
}

/// Points an alias at a version.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn set_alias(
    conn: &mut PgConnection,
    project: &str,
    model: &str,
    alias: &str,
    version: i32,
) -> Result<(), Error> {
    sqlx::query!(
        r#"
        insert into model_aliases (project, model, alias, version) values ($1, $2, $3, $4)
        on conflict (project, model, alias) do update set version = excluded.version
        "#,
        project,
        model,
        alias,
        version,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Removes an alias.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn delete_alias(
    conn: &mut PgConnection,
    project: &str,
    model: &str,
    alias: &str,
) -> Result<(), Error> {
    sqlx::query!(
        "delete from model_aliases where project = $1 and model = $2 and alias = $3",
        project,
        model,
        alias,
    )
    .execute(conn)
    .await?;
    Ok(())
}
