//! SQL over `silences`.

use chrono::{DateTime, Utc};
use domain::ids::SilenceId;
use domain::silence::Silence;
use serde::Serialize;
use sqlx::PgConnection;

use crate::Error;

/// A silence as people see it.
#[derive(Clone, Debug, Serialize)]
pub struct StoredSilence {
    /// Which one.
    pub id: SilenceId,
    /// What it silences, and for how long.
    #[serde(flatten)]
    pub silence: Silence,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
}

/// Stores a silence.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn insert(
    conn: &mut PgConnection,
    project: &str,
    id: SilenceId,
    silence: &Silence,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let body = serde_json::to_value(silence).expect("a silence has only string keys");
    sqlx::query!(
        "insert into silences (silence_id, project, silence, ends_at, created_at) values ($1, $2, $3, $4, $5)",
        id as SilenceId,
        project,
        body,
        silence.ends_at,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The silences that are not over at `at`, those that end first before the others.
///
/// # Errors
/// [`Error::Unreadable`] if one has a format that this program does not know.
pub async fn in_force(
    conn: &mut PgConnection,
    project: &str,
    at: DateTime<Utc>,
) -> Result<Vec<StoredSilence>, Error> {
    let rows = sqlx::query!(
        r#"
        select silence_id as "id: SilenceId", silence, format, ends_at, created_at from silences
        where project = $1 and ends_at > $2 order by ends_at, silence_id
        "#,
        project,
        at,
    )
    .fetch_all(conn)
    .await?;
    let unreadable = |why: String| Error::Unreadable { what: "silence", why };
    rows.into_iter()
        .map(|row| {
            if row.format != 1 {
                return Err(unreadable(format!("its format is {}, this program knows 1", row.format)));
            }
            let silence: Silence =
                serde_json::from_value(row.silence).map_err(|error| unreadable(error.to_string()))?;
            let silence = Silence { ends_at: row.ends_at, ..silence };
            Ok(StoredSilence { id: row.id, silence, created_at: row.created_at })
        })
        .collect()
}

/// Ends a silence now.
///
/// # Errors
/// [`Error::NotFound`] if there is none of that id in force.
pub async fn end(
    conn: &mut PgConnection,
    project: &str,
    id: SilenceId,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let done = sqlx::query!(
        "update silences set ends_at = $3 where project = $1 and silence_id = $2 and ends_at > $3",
        project,
        id as SilenceId,
        now,
    )
    .execute(conn)
    .await?;
    if done.rows_affected() == 0 {
        return Err(Error::not_found(format!("a silence {id} in force")));
    }
    Ok(())
}
