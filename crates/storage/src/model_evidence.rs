//! SQL over `model_evidence`: what training runs found about their models.

use chrono::{DateTime, Utc};
use domain::evaluation::Evaluation;
use sqlx::PgConnection;
use sqlx::types::Json;

use crate::Error;

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
    let Some(row) = row else { return Ok(None) };
    let unreadable = |why: String| Error::Unreadable { what: "evaluation", why };
    if row.format != 1 {
        return Err(unreadable(format!("its format is {}, this program knows 1", row.format)));
    }
    serde_json::from_value(row.evaluation).map(Some).map_err(|error| unreadable(error.to_string()))
}
