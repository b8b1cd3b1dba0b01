//! SQL over the feature store: batches and online rows. Payloads are opaque here (`frames::payload`).

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;

use crate::Error;

/// Online rows of one view, column by column.
#[derive(Clone, Debug, Default)]
pub struct OnlineRows {
    /// Encoded keys.
    pub keys: Vec<Vec<u8>>,
    /// When each happened.
    pub event_times: Vec<DateTime<Utc>>,
    /// When each was learned.
    pub known_times: Vec<DateTime<Utc>>,
    /// Which ingest brought it.
    pub seqs: Vec<i64>,
    /// Its number in its batch.
    pub positions: Vec<i32>,
    /// Whether it takes the entity away.
    pub ops: Vec<bool>,
    /// Encoded values.
    pub payloads: Vec<Vec<u8>>,
}

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

/// The next position in the order of ingests.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn next_seq(conn: &mut PgConnection) -> Result<i64, Error> {
    Ok(sqlx::query_scalar!(r#"select nextval('ingest_seq') as "seq!""#).fetch_one(conn).await?)
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

/// Stores the latest rows of a view. A row replaces another of its key only if it is newer by (`event_time`, `known_time`,
/// seq). At most one row a key. Answers how many were newer.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn upsert_latest(
    conn: &mut PgConnection,
    project: &str,
    view: &str,
    view_version: i32,
    rows: &OnlineRows,
) -> Result<u64, Error> {
    let done = sqlx::query!(
        r#"
        insert into online_latest as old (project, view, view_version, key, event_time, known_time, seq, op, payload)
        select $1, $2, $3, r.* from unnest($4::bytea[], $5::timestamptz[], $6::timestamptz[], $7::bigint[], $8::bool[], $9::bytea[]) as r
        on conflict (project, view, view_version, key) do update
        set event_time = excluded.event_time, known_time = excluded.known_time, seq = excluded.seq,
            op = excluded.op, payload = excluded.payload
        where (old.event_time, old.known_time, old.seq) < (excluded.event_time, excluded.known_time, excluded.seq)
        "#,
        project,
        view,
        view_version,
        &rows.keys,
        &rows.event_times,
        &rows.known_times,
        &rows.seqs,
        &rows.ops,
        &rows.payloads,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Stores events of a view.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn insert_events(
    conn: &mut PgConnection,
    project: &str,
    view: &str,
    view_version: i32,
    rows: &OnlineRows,
) -> Result<(), Error> {
    sqlx::query!(
        r#"
        insert into online_events (project, view, view_version, key, event_time, known_time, seq, position, op, payload)
        select $1, $2, $3, r.* from unnest($4::bytea[], $5::timestamptz[], $6::timestamptz[], $7::bigint[], $8::int[], $9::bool[], $10::bytea[]) as r
        on conflict do nothing
        "#,
        project,
        view,
        view_version,
        &rows.keys,
        &rows.event_times,
        &rows.known_times,
        &rows.seqs,
        &rows.positions,
        &rows.ops,
        &rows.payloads,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The online rows of these keys: the events after `since`, or the latest row of each key.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn read(
    conn: &mut PgConnection,
    project: &str,
    view: &str,
    view_version: i32,
    keys: &[Vec<u8>],
    since: Option<DateTime<Utc>>,
) -> Result<OnlineRows, Error> {
    match since {
        Some(since) => read_events(conn, project, view, view_version, keys, since).await,
        None => read_latest(conn, project, view, view_version, keys).await,
    }
}

/// The latest rows of these keys.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
async fn read_latest(
    conn: &mut PgConnection,
    project: &str,
    view: &str,
    view_version: i32,
    keys: &[Vec<u8>],
) -> Result<OnlineRows, Error> {
    let rows = sqlx::query!(
        r#"
        select key, event_time, known_time, seq, op, payload from online_latest
        where project = $1 and view = $2 and view_version = $3 and key = any($4)
        "#,
        project,
        view,
        view_version,
        keys,
    )
    .fetch_all(conn)
    .await?;
    let mut read = OnlineRows::default();
    for row in rows {
        read.push(row.key, row.event_time, row.known_time, row.seq, 0, row.op, row.payload);
    }
    Ok(read)
}

/// The events of these keys that happened after `since`.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
async fn read_events(
    conn: &mut PgConnection,
    project: &str,
    view: &str,
    view_version: i32,
    keys: &[Vec<u8>],
    since: DateTime<Utc>,
) -> Result<OnlineRows, Error> {
    let rows = sqlx::query!(
        r#"
        select key, event_time, known_time, seq, position, op, payload from online_events
        where project = $1 and view = $2 and view_version = $3 and key = any($4) and event_time > $5
        order by seq, position
        "#,
        project,
        view,
        view_version,
        keys,
        since,
    )
    .fetch_all(conn)
    .await?;
    let mut read = OnlineRows::default();
    for row in rows {
        read.push(row.key, row.event_time, row.known_time, row.seq, row.position, row.op, row.payload);
    }
    Ok(read)
}

impl OnlineRows {
    /// Adds a row.
    #[expect(clippy::too_many_arguments, reason = "one argument a column; a struct would only rename them")]
    pub fn push(
        &mut self,
        key: Vec<u8>,
        event_time: DateTime<Utc>,
        known_time: DateTime<Utc>,
        seq: i64,
        position: i32,
        op: bool,
        payload: Vec<u8>,
    ) {
        self.keys.push(key);
        self.event_times.push(event_time);
        self.known_times.push(known_time);
        self.seqs.push(seq);
        self.positions.push(position);
        self.ops.push(op);
        self.payloads.push(payload);
    }

    /// True without a row.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}
