//! SQL over the online tables, one a view version: `online_<number>`, made when its view is applied. Payloads are opaque
//! here (`frames::payload`).
//!
//! A table of latest values has one row a key. Its guard is the order (`event_time`, `known_time`, seq): whatever comes in
//! whatever order, the greatest stays. A table of events holds what a window can still reach. `fillfactor` leaves room so
//! that an update stays on its page and touches no index.
//!
//! The names of tables are built here, from numbers; they are the only part of a statement that is not fixed text.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use domain::definitions::Shape;
use domain::online::{Ask, Fetched, OnlineRows, Stamp};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::{Arguments, AssertSqlSafe, Executor, PgConnection, Row};

use crate::Error;

/// Microseconds from 1970 to 2000, where Postgres counts from.
const EPOCH_2000: i64 = 946_684_800_000_000;

/// A quoted identifier.
fn table(version_id: i64) -> String {
    format!("\"online_{version_id}\"")
}

/// The view version whose table has this name.
pub(crate) fn version_of(table: &str) -> Option<i64> {
    table.strip_prefix("online_")?.parse().ok()
}

/// Makes the table of a view version. Logs are never served and get none.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn create(conn: &mut PgConnection, version_id: i64, shape: Shape) -> Result<(), Error> {
    let key = match shape {
        Shape::Log => return Ok(()),
        Shape::Latest => "primary key (key)",
        Shape::Windows | Shape::LastK => "primary key (key, event_time, seq, position)",
    };
    let statement = format!(
        r"
        create table {} (
            key        bytea       not null,
            event_time timestamptz not null,
            known_time timestamptz not null,
            seq        bigint      not null,
            position   integer     not null,
            op         boolean     not null,
            payload    bytea       not null,
            {key}
        ) with (fillfactor = 85)
        ",
        table(version_id)
    );
    conn.execute(AssertSqlSafe(statement)).await?;
    Ok(())
}

const STAGING: &str = r"
    create temporary table if not exists online_staging (
        key bytea, event_time timestamptz, known_time timestamptz, seq bigint, position integer, op boolean, payload bytea
    ) on commit delete rows
";

/// Merges rows into the table of a view version: copied into a temporary table, then taken over by one guarded statement.
/// Answers how many the table took. Of latest values at most one row a key may be given.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn merge(
    conn: &mut PgConnection,
    version_id: i64,
    shape: Shape,
    rows: &OnlineRows,
) -> Result<u64, Error> {
    if rows.is_empty() {
        return Ok(0);
    }
    stage(conn, rows).await?;
    let table = table(version_id);
    let columns = "key, event_time, known_time, seq, position, op, payload";
    let clash = match shape {
        Shape::Latest => {
            "(key) do update set event_time = excluded.event_time, known_time = excluded.known_time, \
             seq = excluded.seq, position = excluded.position, op = excluded.op, payload = excluded.payload \
             where (old.event_time, old.known_time, old.seq) < (excluded.event_time, excluded.known_time, excluded.seq)"
        }
        _ => "do nothing",
    };
    let statement = format!(
        "insert into {table} as old ({columns}) select {columns} from online_staging on conflict {clash}"
    );
    let done = conn.execute(AssertSqlSafe(statement)).await?;
    Ok(done.rows_affected())
}

async fn stage(conn: &mut PgConnection, rows: &OnlineRows) -> Result<(), Error> {
    conn.execute(STAGING).await?;
    conn.execute("truncate online_staging").await?;
    let mut copy = conn.copy_in_raw("copy online_staging from stdin with (format binary)").await?;
    let mut buffer = Vec::with_capacity((1 << 16) + 4096);
    buffer.extend_from_slice(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
    for row in rows.rows() {
        copy_row(&mut buffer, rows, row);
        if buffer.len() >= 1 << 16 {
            copy.send(buffer.as_slice()).await?;
            buffer.clear();
        }
    }
    buffer.extend_from_slice(&(-1i16).to_be_bytes());
    copy.send(buffer.as_slice()).await?;
    copy.finish().await?;
    Ok(())
}

/// One row in Postgres' binary copy format: the number of fields, then each with its length in front.
fn copy_row(buffer: &mut Vec<u8>, rows: &OnlineRows, row: &domain::online::OnlineRow) {
    fn field(buffer: &mut Vec<u8>, bytes: &[u8]) {
        buffer.extend_from_slice(&(bytes.len() as i32).to_be_bytes());
        buffer.extend_from_slice(bytes);
    }
    buffer.extend_from_slice(&7i16.to_be_bytes());
    field(buffer, rows.key(row));
    field(buffer, &(row.event_time.saturating_sub(EPOCH_2000)).to_be_bytes());
    field(buffer, &(row.known_time.saturating_sub(EPOCH_2000)).to_be_bytes());
    field(buffer, &row.seq.to_be_bytes());
    field(buffer, &row.position.to_be_bytes());
    field(buffer, &[u8::from(row.op)]);
    field(buffer, rows.payload(row));
}

/// Drops the events of the keys that were merged last, as far as they happened before `horizon`: no window reaches them any more.
/// Call it in the transaction of the merge.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn forget_staged(
    conn: &mut PgConnection,
    version_id: i64,
    horizon: DateTime<Utc>,
) -> Result<u64, Error> {
    let statement = format!(
        "delete from {} as old using (select distinct key from online_staging) as staged \
         where old.key = staged.key and old.event_time < $1",
        table(version_id)
    );
    let done = sqlx::query(AssertSqlSafe(statement)).bind(horizon).execute(conn).await?;
    Ok(done.rows_affected())
}

/// Drops all events that happened before `horizon`.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn forget(conn: &mut PgConnection, version_id: i64, horizon: DateTime<Utc>) -> Result<u64, Error> {
    let statement = format!("delete from {} where event_time < $1", table(version_id));
    let done = sqlx::query(AssertSqlSafe(statement)).bind(horizon).execute(conn).await?;
    Ok(done.rows_affected())
}

/// Drops the rows of these keys that happened by `horizon`, whatever they say.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn erase(
    conn: &mut PgConnection,
    version_id: i64,
    keys: &[Vec<u8>],
    horizon: DateTime<Utc>,
) -> Result<u64, Error> {
    let statement = format!("delete from {} where key = any($1) and event_time <= $2", table(version_id));
    let done = sqlx::query(AssertSqlSafe(statement)).bind(keys).bind(horizon).execute(conn).await?;
    Ok(done.rows_affected())
}

/// All rows of a view version, sorted: what a comparison with the offline store reads.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn all(conn: &mut PgConnection, version_id: i64) -> Result<OnlineRows, Error> {
    let statement = format!(
        "select key, event_time, known_time, seq, position, op, payload from {} where $1",
        table(version_id)
    );
    let mut found = OnlineRows::default();
    for row in sqlx::query(AssertSqlSafe(statement)).bind(true).fetch_all(conn).await? {
        take(&row, 0, &mut found)?;
    }
    found.sort();
    Ok(found)
}

/// Answers several questions about a project's views by one statement, and says which ingest was the newest to be seen.
/// Questions about the same version must have been joined.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn fetch(conn: &mut PgConnection, project: &str, asks: &[Ask]) -> Result<Fetched, Error> {
    let rows = asks.iter().map(|ask| (ask.version_id, OnlineRows::default())).collect();
    let mut fetched = Fetched { rows, seq: 0 };
    let (statement, arguments) = statement_of(project, asks)?;
    for row in sqlx::query_with(AssertSqlSafe(statement), arguments).fetch_all(conn).await? {
        let version_id = i64::from_be_bytes(fixed(&row, 0)?);
        if version_id == WATERMARK {
            fetched.seq = i64::from_be_bytes(fixed(&row, 4)?);
        } else if let Some(found) = fetched.rows.get_mut(&version_id) {
            take(&row, 1, found)?;
        }
    }
    fetched.rows.values_mut().for_each(OnlineRows::sort);
    Ok(fetched)
}

/// Marks the one row that holds no values but the newest ingest; versions are numbered from 1.
const WATERMARK: i64 = 0;

fn statement_of(project: &str, asks: &[Ask]) -> Result<(String, PgArguments), Error> {
    let mut statement = String::from(
        "select 0::bigint, ''::bytea, 'epoch'::timestamptz, 'epoch'::timestamptz, seq, 0::integer, false, ''::bytea \
         from ingest_watermarks where project = $1",
    );
    let mut arguments = PgArguments::default();
    arguments.add(project).map_err(sqlx::Error::Encode)?;
    for ask in asks.iter().filter(|ask| !ask.keys.is_empty()) {
        arguments.add(&ask.keys).map_err(sqlx::Error::Encode)?;
        write!(
            statement,
            " union all select {}::bigint, key, event_time, known_time, seq, position, op, payload from {} \
             where key = any(${})",
            ask.version_id,
            table(ask.version_id),
            arguments.len(),
        )
        .expect("writing to a string cannot fail");
        if let Some(since) = ask.since {
            let since = DateTime::from_timestamp_micros(since).unwrap_or(DateTime::<Utc>::MIN_UTC);
            arguments.add(since).map_err(sqlx::Error::Encode)?;
            write!(statement, " and event_time >= ${}", arguments.len())
                .expect("writing to a string cannot fail");
        }
    }
    Ok((statement, arguments))
}

/// Takes a row whose seven columns begin at `first`, straight from the bytes of the wire.
fn take(row: &PgRow, first: usize, into: &mut OnlineRows) -> Result<(), Error> {
    let stamp = Stamp {
        event_time: i64::from_be_bytes(fixed(row, first + 1)?).saturating_add(EPOCH_2000),
        known_time: i64::from_be_bytes(fixed(row, first + 2)?).saturating_add(EPOCH_2000),
        seq: i64::from_be_bytes(fixed(row, first + 3)?),
        position: i32::from_be_bytes(fixed(row, first + 4)?),
        op: fixed::<1>(row, first + 5)? != [0],
    };
    into.push(raw(row, first)?, stamp, raw(row, first + 6)?);
    Ok(())
}

fn fixed<const N: usize>(row: &PgRow, column: usize) -> Result<[u8; N], Error> {
    raw(row, column)?.try_into().map_err(|_| Error::Unreadable {
        what: "online row",
        why: format!("column {column} is not {N} bytes"),
    })
}

fn raw(row: &PgRow, column: usize) -> Result<&[u8], Error> {
    let value = row.try_get_raw(column)?;
    value.as_bytes().map_err(|cause| Error::Unreadable { what: "online row", why: cause.to_string() })
}
