//! SQL for backups: every table of ours, copied out of one snapshot and into an empty database. The schema itself is not
//! copied: migrations make it, and `online` the tables of view versions.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};

use futures::TryStreamExt;
use sqlx::{AssertSqlSafe, Executor, PgConnection, PgPool};

use crate::{Error, MIGRATOR, online, view_versions};

/// How much of a table is read back at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// A table and the columns that have values of their own.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Its columns, in order, without those that are computed.
    pub columns: Vec<String>,
}

/// A sequence and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Sequence {
    /// Its name.
    pub name: String,
    /// The value it last gave.
    pub last_value: i64,
    /// Whether it gave that value already.
    pub is_called: bool,
}

/// Lets everything that is read until the transaction ends be of this moment.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn freeze(conn: &mut PgConnection) -> Result<(), Error> {
    conn.execute("set transaction isolation level repeatable read, read only").await?;
    Ok(())
}

/// Every table of ours, each after those that it refers to.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn tables(conn: &mut PgConnection) -> Result<Vec<Table>, Error> {
    let found = sqlx::query!(
        r#"
        select c.relname::text as "name!", array_agg(a.attname::text order by a.attnum) as "columns!",
               array(select distinct r.relname::text
                     from pg_constraint f join pg_class r on r.oid = f.confrelid
                     where f.conrelid = c.oid and f.contype = 'f' and f.confrelid <> c.oid) as "needs!"
        from pg_class c
        join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
        where c.relkind = 'r' and c.relnamespace = current_schema()::regnamespace and c.relname <> '_sqlx_migrations'
        group by c.oid, c.relname
        order by c.relname
        "#,
    )
    .fetch_all(conn)
    .await?;
    let mut waiting: BTreeMap<String, (Table, Vec<String>)> = found
        .into_iter()
        .map(|row| (row.name.clone(), (Table { name: row.name, columns: row.columns }, row.needs)))
        .collect();
    let mut ordered = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let left: BTreeSet<String> = waiting.keys().cloned().collect();
        let ready = |needs: &[String]| needs.iter().all(|need| !left.contains(need));
        let (next, rest): (BTreeMap<_, _>, _) = waiting.into_iter().partition(|(_, (_, needs))| ready(needs));
        if next.is_empty() {
            let what = "the tables refer to each other in a circle".to_owned();
            return Err(Error::Conflict { what });
        }
        ordered.extend(next.into_values().map(|(table, _)| table));
        waiting = rest;
    }
    Ok(ordered)
}

/// Every sequence of ours that was used.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn sequences(conn: &mut PgConnection) -> Result<Vec<Sequence>, Error> {
    let names = sqlx::query_scalar!(
        r#"
        select relname::text as "name!" from pg_class
        where relkind = 'S' and relnamespace = current_schema()::regnamespace order by relname
        "#,
    )
    .fetch_all(&mut *conn)
    .await?;
    let mut found = Vec::with_capacity(names.len());
    for name in names {
        let statement = format!("select last_value, is_called from {}", quoted(&name));
        let (last_value, is_called) = sqlx::query_as(AssertSqlSafe(statement)).fetch_one(&mut *conn).await?;
        found.push(Sequence { name, last_value, is_called });
    }
    Ok(found)
}

/// Writes a table's rows, in Postgres' text format.
///
/// # Errors
/// [`Error::Database`] if the database or the sink refuses.
pub async fn copy_out(conn: &mut PgConnection, table: &Table, sink: &mut impl Write) -> Result<(), Error> {
    let statement = format!("copy {} ({}) to stdout", quoted(&table.name), columns(table));
    let mut rows = conn.copy_out_raw(&statement).await?;
    while let Some(chunk) = rows.try_next().await? {
        sink.write_all(&chunk).map_err(sqlx::Error::from)?;
    }
    Ok(())
}

/// Makes the schema as it was at a migration.
///
/// # Errors
/// [`Error::UnknownSchema`] if this program does not know that migration; [`Error::Migration`] if one fails.
pub async fn schema_of(pool: &PgPool, migration: i64) -> Result<(), Error> {
    let known = MIGRATOR.iter().any(|known| known.version == migration);
    if !known {
        let needed = MIGRATOR.iter().map(|known| known.version).max().unwrap_or_default();
        return Err(Error::UnknownSchema { found: Some(migration), needed });
    }
    MIGRATOR.run_to(migration, pool).await?;
    Ok(())
}

/// Takes away what migrations put into a table.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn empty(conn: &mut PgConnection, table: &Table) -> Result<(), Error> {
    let statement = format!("delete from {0} where exists (select 1 from {0})", quoted(&table.name));
    conn.execute(AssertSqlSafe(statement)).await?;
    Ok(())
}

/// Reads a table's rows back; answers how many there were.
///
/// # Errors
/// [`Error::Database`] if the database or the source refuses.
pub async fn copy_in(conn: &mut PgConnection, table: &Table, source: &mut impl Read) -> Result<u64, Error> {
    let statement = format!("copy {} ({}) from stdin", quoted(&table.name), columns(table));
    let mut rows = conn.copy_in_raw(&statement).await?;
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match source.read(&mut chunk) {
            Ok(0) => return Ok(rows.finish().await?),
            Ok(taken) => drop(rows.send(&chunk[..taken]).await?),
            Err(error) => {
                rows.abort("the backup could not be read").await?;
                return Err(sqlx::Error::from(error).into());
            }
        }
    }
}

/// Lets a sequence go on from where it stood.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn put_back(conn: &mut PgConnection, sequence: &Sequence) -> Result<(), Error> {
    sqlx::query("select setval($1::regclass, $2, $3)")
        .bind(quoted(&sequence.name))
        .bind(sequence.last_value)
        .bind(sequence.is_called)
        .execute(conn)
        .await?;
    Ok(())
}

/// Makes a table of a view version, if that is what its name says and its version was read back.
///
/// # Errors
/// [`Error::Unreadable`] if the version cannot be read by this program.
pub async fn make_online(conn: &mut PgConnection, table: &Table) -> Result<(), Error> {
    let Some(version) = online::version_of(&table.name) else { return Ok(()) };
    if let Some(shape) = view_versions::shape_of(conn, version).await? {
        online::create(conn, version, shape).await?;
    }
    Ok(())
}

fn columns(table: &Table) -> String {
    table.columns.iter().map(|column| quoted(column)).collect::<Vec<_>>().join(", ")
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The projects that have parts.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn projects(conn: &mut PgConnection) -> Result<Vec<String>, Error> {
    Ok(sqlx::query_scalar!("select distinct project from parts").fetch_all(conn).await?)
}
