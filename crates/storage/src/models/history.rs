//! SQL over `alias_history`: rows are added and read, never changed. How they are hashed: `registry`.

use chrono::{DateTime, Utc};
use domain::AsOf;
use serde_json::Value;
use sqlx::PgConnection;

use crate::Error;

/// One move of an alias, or one that was refused.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Entry {
    /// 1, 2, 3, … within a model.
    pub sequence: i64,
    /// The alias.
    pub alias: String,
    /// `moved`, `refused`, `removed`, `overridden` or `rolled_back`.
    pub outcome: String,
    /// Where it pointed.
    pub from_version: Option<i32>,
    /// Where it should point; `None` if it was removed.
    pub to_version: Option<i32>,
    /// Who asked.
    pub actor: String,
    /// Why, in their words.
    pub reason: Option<String>,
    /// What the gate said.
    pub verdict: Option<Value>,
    /// When.
    pub at: DateTime<Utc>,
    /// The hash of the row before; 64 zeros in the first.
    pub previous_hash: String,
    /// The hash of this row.
    pub hash: String,
}

/// Adds a row.
///
/// # Errors
/// [`Error::Database`] if the database refuses, for instance because the sequence number is taken.
pub async fn append(conn: &mut PgConnection, project: &str, model: &str, entry: &Entry) -> Result<(), Error> {
    sqlx::query!(
        r#"
        insert into alias_history (project, model, sequence, alias, outcome, from_version, to_version, actor, reason,
                                   verdict, at, previous_hash, hash)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
        "#,
        project,
        model,
        entry.sequence,
        entry.alias,
        entry.outcome,
        entry.from_version,
        entry.to_version,
        entry.actor,
        entry.reason,
        entry.verdict,
        entry.at,
        entry.previous_hash,
        entry.hash,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The sequence number and hash of the last row of a model.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn head(
    conn: &mut PgConnection,
    project: &str,
    model: &str,
) -> Result<Option<(i64, String)>, Error> {
    let row = sqlx::query!(
        r#"
        select sequence, hash from alias_history where project = $1 and model = $2 order by sequence desc limit 1
        "#,
        project,
        model,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| (row.sequence, row.hash)))
}

/// Up to `limit` rows of a model after `after`, oldest first.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn after(
    conn: &mut PgConnection,
    project: &str,
    model: &str,
    after: i64,
    limit: i64,
) -> Result<Vec<Entry>, Error> {
    Ok(sqlx::query_as!(
        Entry,
        r#"
        select sequence, alias, outcome, from_version, to_version, actor, reason, verdict, at, previous_hash, hash
        from alias_history where project = $1 and model = $2 and sequence > $3 order by sequence limit $4
        "#,
        project,
        model,
        after,
        limit,
    )
    .fetch_all(conn)
    .await?)
}

/// The move that decided where an alias pointed at that moment; `None` if it had never moved.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn decided_by(
    conn: &mut PgConnection,
    project: &str,
    model: &str,
    alias: &str,
    as_of: AsOf,
) -> Result<Option<Entry>, Error> {
    Ok(sqlx::query_as!(
        Entry,
        r#"
        select sequence, alias, outcome, from_version, to_version, actor, reason, verdict, at, previous_hash, hash
        from alias_history
        where project = $1 and model = $2 and alias = $3 and outcome <> 'refused' and at <= $4
        order by sequence desc limit 1
        "#,
        project,
        model,
        alias,
        as_of as AsOf,
    )
    .fetch_optional(conn)
    .await?)
}

/// What was decided when this actor asked that the alias point at `version`; `None` if nothing was.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn decision_for(
    conn: &mut PgConnection,
    project: &str,
    model: &str,
    (alias, version): (&str, i32),
    actor: &str,
) -> Result<Option<Entry>, Error> {
    Ok(sqlx::query_as!(
        Entry,
        r#"
        select sequence, alias, outcome, from_version, to_version, actor, reason, verdict, at, previous_hash, hash
        from alias_history
        where project = $1 and model = $2 and alias = $3 and to_version = $4 and actor = $5
            and outcome in ('moved', 'refused')
        order by sequence desc limit 1
        "#,
        project,
        model,
        alias,
        version,
        actor,
    )
    .fetch_optional(conn)
    .await?)
}

/// Where an alias pointed before the last move that brought it to `version`; steps back are no such moves.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn came_from(
    conn: &mut PgConnection,
    project: &str,
    model: &str,
    alias: &str,
    version: i32,
) -> Result<Option<i32>, Error> {
    let found = sqlx::query_scalar!(
        r#"
        select from_version from alias_history
        where project = $1 and model = $2 and alias = $3 and to_version = $4 and outcome in ('moved', 'overridden')
        order by sequence desc limit 1
        "#,
        project,
        model,
        alias,
        version,
    );
    Ok(found.fetch_optional(conn).await?.flatten())
}
