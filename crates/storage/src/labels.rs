//! SQL over `labels`: what came true of what was predicted.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use domain::LabelTime;
use domain::ids::PredictionId;
use sqlx::PgConnection;

use crate::Error;

/// One label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// The prediction it answers.
    pub prediction: PredictionId,
    /// What came true.
    pub outcome: bool,
    /// When that became known in the world.
    pub label_time: LabelTime,
}

/// What is known about a prediction that a label names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The moment the prediction was made for.
    pub cutoff: DateTime<Utc>,
    /// The outcome that was told before.
    pub outcome: Option<bool>,
}

/// Keeps other writers of labels of these predictions away until the transaction ends, so that only one can be first.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn lock(conn: &mut PgConnection, project: &str, predictions: &[PredictionId]) -> Result<(), Error> {
    let ids: Vec<_> = predictions.iter().map(|prediction| prediction.0).collect();
    sqlx::query!(
        r#"
        select prediction_id from predictions where project = $1 and prediction_id = any($2)
        order by prediction_id for update
        "#,
        project,
        &ids,
    )
    .fetch_all(conn)
    .await?;
    Ok(())
}

/// What is known about these predictions; ids that nobody served are absent.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn known(
    conn: &mut PgConnection,
    project: &str,
    predictions: &[PredictionId],
) -> Result<HashMap<PredictionId, Known>, Error> {
    let ids: Vec<_> = predictions.iter().map(|prediction| prediction.0).collect();
    let rows = sqlx::query!(
        r#"
        select p.prediction_id as "id: PredictionId", p.cutoff, l.outcome as "outcome?"
        from predictions p left join labels l using (project, prediction_id)
        where p.project = $1 and p.prediction_id = any($2)
        "#,
        project,
        &ids,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, Known { cutoff: row.cutoff, outcome: row.outcome })).collect())
}

/// Stores labels of predictions that have none.
///
/// # Errors
/// [`Error::Database`] if one has a label, or is no prediction.
pub async fn insert(
    conn: &mut PgConnection,
    project: &str,
    labels: &[Label],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let ids: Vec<_> = labels.iter().map(|label| label.prediction.0).collect();
    let outcomes: Vec<_> = labels.iter().map(|label| label.outcome).collect();
    let times: Vec<_> = labels.iter().map(|label| label.label_time.0).collect();
    sqlx::query!(
        r#"
        insert into labels (project, prediction_id, outcome, label_time, received_at)
        select $1, prediction_id, outcome, label_time, $5
        from unnest($2::uuid[], $3::boolean[], $4::timestamptz[]) as t (prediction_id, outcome, label_time)
        "#,
        project,
        &ids,
        &outcomes,
        &times,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}
