//! SQL over `users`, and over the keys that an installation makes for itself.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::Error;

/// Somebody who may use MLflow's routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Their number.
    pub id: i64,
    /// Their name.
    pub username: String,
    /// The hash of their password.
    pub password_hash: String,
    /// They may manage users.
    pub is_admin: bool,
}

/// One user, if they are there.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn find(conn: &mut PgConnection, username: &str) -> Result<Option<User>, Error> {
    Ok(sqlx::query_as!(
        User,
        "select user_id as id, username, password_hash, is_admin from users where username = $1",
        username,
    )
    .fetch_optional(conn)
    .await?)
}

/// All users, by name.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn all(conn: &mut PgConnection) -> Result<Vec<User>, Error> {
    Ok(sqlx::query_as!(
        User,
        "select user_id as id, username, password_hash, is_admin from users order by username",
    )
    .fetch_all(conn)
    .await?)
}

/// Adds a user; `None` if the name is taken.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn insert(
    conn: &mut PgConnection,
    username: &str,
    password_hash: &str,
    now: DateTime<Utc>,
) -> Result<Option<User>, Error> {
    Ok(sqlx::query_as!(
        User,
        r#"
        insert into users (username, password_hash, created_at) values ($1, $2, $3)
        on conflict on constraint users_username do nothing
        returning user_id as id, username, password_hash, is_admin
        "#,
        username,
        password_hash,
        now,
    )
    .fetch_optional(conn)
    .await?)
}

/// Changes what is given; `false` if there is no such user.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn update(
    conn: &mut PgConnection,
    username: &str,
    password_hash: Option<&str>,
    is_admin: Option<bool>,
) -> Result<bool, Error> {
    let done = sqlx::query!(
        r#"
        update users set password_hash = coalesce($2, password_hash), is_admin = coalesce($3, is_admin)
        where username = $1
        "#,
        username,
        password_hash,
        is_admin,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Removes a user; `false` if there is none of that name.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn delete(conn: &mut PgConnection, username: &str) -> Result<bool, Error> {
    let done = sqlx::query!("delete from users where username = $1", username).execute(conn).await?;
    Ok(done.rows_affected() == 1)
}

/// The installation's key of that name; `fresh` becomes it if there was none.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn secret(conn: &mut PgConnection, name: &str, fresh: &[u8]) -> Result<Vec<u8>, Error> {
    sqlx::query!("insert into secrets (name, key) values ($1, $2) on conflict do nothing", name, fresh)
        .execute(&mut *conn)
        .await?;
    Ok(sqlx::query_scalar!("select key from secrets where name = $1", name).fetch_one(conn).await?)
}
