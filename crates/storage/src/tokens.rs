//! SQL over `tokens`: who may ask. Secrets are not kept, only their hashes.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::Error;

/// A token as it is kept.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Token {
    /// Which one; the first part of what is shown.
    pub token_id: Uuid,
    /// The only project that it opens; none if it opens all.
    pub project: Option<String>,
    /// Who shows it.
    pub name: String,
    /// `reader`, `writer` or `admin`.
    pub role: String,
    /// The hash of its secret.
    #[serde(skip)]
    pub hash: String,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// When it stops to open anything; never if absent.
    pub expires_at: Option<DateTime<Utc>>,
    /// When somebody ended it.
    pub revoked_at: Option<DateTime<Utc>>,
}

impl Token {
    /// Whether it opens anything now.
    pub fn is_good(&self, now: DateTime<Utc>) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|expires_at| now < expires_at)
    }
}

/// Stores a token.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn insert(conn: &mut PgConnection, token: &Token) -> Result<(), Error> {
    sqlx::query!(
        r#"
        insert into tokens (token_id, project, name, role, hash, created_by, created_at, expires_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8)
        "#,
        token.token_id,
        token.project,
        token.name,
        token.role,
        token.hash,
        token.created_by,
        token.created_at,
        token.expires_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A token, good or not; none if there never was one of that id.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn find(conn: &mut PgConnection, id: Uuid) -> Result<Option<Token>, Error> {
    Ok(sqlx::query_as!(Token, "select * from tokens where token_id = $1", id).fetch_optional(conn).await?)
}

/// All tokens, the newest first.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn list(conn: &mut PgConnection) -> Result<Vec<Token>, Error> {
    Ok(sqlx::query_as!(Token, "select * from tokens order by created_at desc, token_id")
        .fetch_all(conn)
        .await?)
}

/// Ends a token; one that is ended already stays as it is.
///
/// # Errors
/// [`Error::NotFound`] if there is none of that id.
pub async fn revoke(conn: &mut PgConnection, id: Uuid, now: DateTime<Utc>) -> Result<(), Error> {
    let query =
        sqlx::query!("update tokens set revoked_at = coalesce(revoked_at, $2) where token_id = $1", id, now);
    found(id, query.execute(conn).await?.rows_affected())
}

/// Lets a token end at a moment, unless it ends earlier.
///
/// # Errors
/// [`Error::NotFound`] if there is none of that id.
pub async fn expire(conn: &mut PgConnection, id: Uuid, at: DateTime<Utc>) -> Result<(), Error> {
    let query =
        sqlx::query!("update tokens set expires_at = least(expires_at, $2) where token_id = $1", id, at);
    found(id, query.execute(conn).await?.rows_affected())
}

fn found(id: Uuid, rows: u64) -> Result<(), Error> {
    if rows == 0 {
        return Err(Error::not_found(format!("token {id}")));
    }
    Ok(())
}
