//! SQL over the feature store: batches. Their files: [`crate::parts`], their online rows: [`crate::online`].

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;

use crate::Error;

/// Serialises the ingests of a project until the transaction ends, so that a smaller seq is never seen after a larger one.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn lock_ingest(conn: &mut PgConnection, project: &str) -> Result<(), Error> {
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended('ingest:' || $1, 0))", project)
        .execute(conn)
        .await?;
    Ok(())
}

/// The next position in the order of a project's ingests; whoever sees what the transaction stores sees that it got this far.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn next_seq(conn: &mut PgConnection, project: &str) -> Result<i64, Error> {
    Ok(sqlx::query_scalar!(
        r#"
        insert into ingest_watermarks as known (project, seq) values ($1, nextval('ingest_seq'))
        on conflict (project) do update set seq = excluded.seq returning seq
        "#,
        project,
    )
    .fetch_one(conn)
    .await?)
}

/// What an earlier batch with the same key was answered.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn earlier_answer(
    conn: &mut PgConnection,
    project: &str,
    source: &str,
    idempotency_key: &str,
) -> Result<Option<Value>, Error> {
    Ok(sqlx::query_scalar!(
        "select answer from ingest_batches where project = $1 and source = $2 and idempotency_key = $3",
        project,
        source,
        idempotency_key,
    )
    .fetch_optional(conn)
    .await?)
}

/// Remembers what a batch was answered.
///
/// # Errors
/// [`Error::Database`] if the database refuses, also if the key is taken.
pub async fn remember_batch(
    conn: &mut PgConnection,
    project: &str,
    source: &str,
    idempotency_key: &str,
    seq: i64,
    answer: &Value,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        r#"
        insert into ingest_batches (project, source, idempotency_key, seq, answer, created_at)
        values ($1, $2, $3, $4, $5, $6)
        "#,
        project,
        source,
        idempotency_key,
        seq,
        answer,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Keeps the rows that were not accepted, with the reason of each.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn keep_rejected(
    conn: &mut PgConnection,
    project: &str,
    source: &str,
    seq: i64,
    rejected: &[(i32, String)],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let (positions, reasons): (Vec<i32>, Vec<String>) = rejected.iter().cloned().unzip();
    sqlx::query!(
        r#"
        insert into rejected_rows (project, source, seq, position, reason, created_at)
        select $1, $2, $3, position, reason, $6 from unnest($4::int[], $5::text[]) as r (position, reason)
        "#,
        project,
        source,
        seq,
        &positions,
        &reasons,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}
