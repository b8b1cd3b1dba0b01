//! SQL over `model_evidence`, what training runs found about their models, and `version_evidence`, what versions trained
//! elsewhere were found to be worth.

use chrono::{DateTime, Utc};
use domain::evaluation::Evaluation;
use sqlx::PgConnection;
use sqlx::types::Json;

use crate::Error;
use crate::governance::VersionKey;

/// Stores what a run found; a second run of the same job replaces it.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn save(
    conn: &mut PgConnection,
    project: &str,
    run_id: &str,
    model_kind: &str,
    evaluation: &Evaluation,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        r#"
        insert into model_evidence (project, run_id, model_kind, evaluation, format, created_at)
        values ($1, $2, $3, $4, 1, $5)
        on conflict (project, run_id) do update
        set model_kind = excluded.model_kind, evaluation = excluded.evaluation, format = excluded.format
        "#,
        project,
        run_id,
        model_kind,
        Json(evaluation) as _,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What a run found, if it was evaluated.
///
/// # Errors
/// [`Error::Unreadable`] if the row has another format.
pub async fn find(conn: &mut PgConnection, project: &str, run_id: &str) -> Result<Option<Evaluation>, Error> {
    let row = sqlx::query!(
        "select evaluation, format from model_evidence where project = $1 and run_id = $2",
        project,
        run_id,
    )
    .fetch_optional(conn)
    .await?;
    row.map(|row| read(row.evaluation, row.format)).transpose()
}

/// What is known of a version's worth: what its run found, or what was handed in for it.
///
/// # Errors
/// [`Error::Unreadable`] if the row has another format.
pub async fn of_version(conn: &mut PgConnection, key: VersionKey<'_>) -> Result<Option<Evaluation>, Error> {
    let row = sqlx::query!(
        r#"
        select evaluation as "evaluation!", format as "format!" from evidence_of_versions
        where project = $1 and model = $2 and version = $3
        "#,
        key.project,
        key.model,
        key.version,
    )
    .fetch_optional(conn)
    .await?;
    row.map(|row| read(row.evaluation, row.format)).transpose()
}

/// Stores what was found of a version trained elsewhere. What was once found stands.
///
/// # Errors
/// [`Error::Conflict`] if the version was judged before.
pub async fn hand_in(
    conn: &mut PgConnection,
    key: VersionKey<'_>,
    evaluation: &Evaluation,
    submitted_by: &str,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let written = sqlx::query!(
        r#"
        insert into version_evidence (project, model, version, evaluation, submitted_by, created_at)
        select $1, $2, $3, $4, $5, $6
        where not exists (
            select 1 from evidence_of_versions where project = $1 and model = $2 and version = $3
        )
        on conflict do nothing
        "#,
        key.project,
        key.model,
        key.version,
        Json(evaluation) as _,
        submitted_by,
        now,
    )
    .execute(conn)
    .await?
    .rows_affected();
    if written == 1 {
        return Ok(());
    }
    Err(Error::Conflict {
        what: format!(
            "version {} of `{}` was judged before, and evidence is never rewritten; register another version",
            key.version, key.model
        ),
    })
}

fn read(evaluation: serde_json::Value, format: i32) -> Result<Evaluation, Error> {
    let unreadable = |why: String| Error::Unreadable { what: "evaluation", why };
    if format != 1 {
        return Err(unreadable(format!("its format is {format}, this program knows 1")));
    }
    serde_json::from_value(evaluation).map_err(|error| unreadable(error.to_string()))
}
