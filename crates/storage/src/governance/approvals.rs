//! SQL over `version_approvals`: who said that a version may take an alias.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::VersionKey;
use crate::Error;

/// Somebody's consent.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Approval {
    /// The alias it is for.
    pub alias: String,
    /// Who.
    pub approved_by: String,
    /// Why, in their words.
    pub reason: String,
    /// When.
    pub approved_at: DateTime<Utc>,
}

/// Writes down a consent; a second one of the same person for the same alias changes nothing.
///
/// # Errors
/// [`Error::Database`] if the database refuses, for instance because there is no such version.
pub async fn approve(conn: &mut PgConnection, key: VersionKey<'_>, approval: &Approval) -> Result<(), Error> {
    sqlx::query!(
        r#"
        insert into version_approvals (project, model, version, alias, approved_by, reason, approved_at)
        values ($1, $2, $3, $4, $5, $6, $7)
        on conflict do nothing
        "#,
        key.project,
        key.model,
        key.version,
        approval.alias,
        approval.approved_by,
        approval.reason,
        approval.approved_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The consents to a version, oldest first.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn approvals_of(conn: &mut PgConnection, key: VersionKey<'_>) -> Result<Vec<Approval>, Error> {
    Ok(sqlx::query_as!(
        Approval,
        r#"
        select alias, approved_by, reason, approved_at from version_approvals
        where project = $1 and model = $2 and version = $3 order by approved_at, approved_by
        "#,
        key.project,
        key.model,
        key.version,
    )
    .fetch_all(conn)
    .await?)
}
