//! SQL over `definitions`: what users declared. What changes is decided in `domain::definitions::plan`.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use domain::definitions::{Definitions, Located, Object, Stored};
use serde_json::Value;
use sqlx::PgConnection;

use crate::Error;

/// Keeps other writers of a project's definitions away until the transaction ends.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn lock(conn: &mut PgConnection, project: &str) -> Result<(), Error> {
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended('definitions:' || $1, 0))", project)
        .execute(conn)
        .await?;
    Ok(())
}

/// All stored bodies, by kind and name.
///
/// # Errors
/// [`Error::Unreadable`] if one has a format that this program does not know.
pub async fn stored(
    conn: &mut PgConnection,
    project: &str,
) -> Result<BTreeMap<(String, String), Stored>, Error> {
    let rows = sqlx::query!(
        "select kind, name, body, format, revision from definitions where project = $1",
        project
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| match row.format {
            1 => Ok(((row.kind, row.name), Stored { body: row.body, revision: row.revision })),
            format => Err(Error::Unreadable {
                what: "definition",
                why: format!("{} `{}` has format {format}, this program knows 1", row.kind, row.name),
            }),
        })
        .collect()
}

/// All stored objects.
///
/// # Errors
/// [`Error::Unreadable`] if one cannot be read by this program.
pub async fn load(conn: &mut PgConnection, project: &str) -> Result<Definitions, Error> {
    let mut definitions = Definitions::default();
    for ((kind, name), stored) in self::stored(conn, project).await? {
        let object = Object::from_body(&kind, stored.body).map_err(|error| Error::Unreadable {
            what: "definition",
            why: format!("{kind} `{name}`: {error}"),
        })?;
        let key = (object.kind(), name);
        definitions.0.insert(key, Located { object, file: "stored".to_owned(), line: 0 });
    }
    Ok(definitions)
}

/// Stores one body under its next revision.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn save(
    conn: &mut PgConnection,
    project: &str,
    kind: &str,
    name: &str,
    body: &Value,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        r#"
        with saved as (
            insert into definitions (project, kind, name, body, applied_at) values ($1, $2, $3, $4, $5)
            on conflict (project, kind, name) do update
            set body = excluded.body, revision = definitions.revision + 1, applied_at = excluded.applied_at
            returning project, kind, name, revision, body, applied_at
        )
        insert into definition_history (project, kind, name, revision, body, applied_at)
        select project, kind, name, revision, body, applied_at from saved
        "#,
        project,
        kind,
        name,
        body,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// How often the definitions of a project were applied: what is held in memory under this number is what is stored.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn epoch(conn: &mut PgConnection, project: &str) -> Result<i64, Error> {
    let epoch = sqlx::query_scalar!("select epoch from definition_epochs where project = $1", project)
        .fetch_optional(conn)
        .await?;
    Ok(epoch.unwrap_or_default())
}

/// Says that the definitions of a project changed; call it in the transaction that changes them.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn bump_epoch(conn: &mut PgConnection, project: &str) -> Result<i64, Error> {
    Ok(sqlx::query_scalar!(
        r#"
        insert into definition_epochs as known (project, epoch) values ($1, 1)
        on conflict (project) do update set epoch = known.epoch + 1 returning epoch
        "#,
        project,
    )
    .fetch_one(conn)
    .await?)
}
