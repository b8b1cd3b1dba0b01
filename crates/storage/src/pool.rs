//! Connecting, and knowing that the schema is the one this program was written for.

use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgPool};

use crate::{Error, MIGRATOR, view_versions};

/// After how long a connection is asked whether it lives before it is used: sooner than a Postgres that ended could be back, so
/// that its clients' connections of before are never taken for those of now.
const IDLE: Duration = Duration::from_millis(20);

/// A pool of at most `connections` connections to `url`. Nothing is asked of the schema; see [`require_current_schema`].
///
/// # Errors
/// [`Error::Database`] if the address is malformed or nobody answers within five seconds.
pub async fn connect(url: &str, connections: u32) -> Result<PgPool, Error> {
    let options: PgConnectOptions = url.parse()?;
    let options = options.application_name("foretime").options([("timezone", "UTC")]);
    let pool = PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(5))
        // Asking a connection whether it lives costs as much as most statements do; under load none is idle for long, and none
        // is asked.
        .test_before_acquire(false)
        .before_acquire(|conn, state| {
            Box::pin(async move {
                if state.idle_for > IDLE {
                    conn.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_with(options)
        .await?;
    Ok(pool)
}

/// Applies the migrations that are missing. Safe to call from many processes at once: the migrator holds a lock. A newer schema
/// that still serves this program is left as it is.
///
/// # Errors
/// [`Error::Migration`] if one fails or an applied one has changed since; [`Error::OutgrownProgram`].
pub async fn migrate(pool: &PgPool) -> Result<(), Error> {
    if newest_migration(pool).await?.is_some_and(|found| found > newest_known()) {
        require_current_schema(pool).await?;
    }
    let mut migrator = Migrator::with_migrations(MIGRATOR.iter().cloned().collect());
    migrator.set_ignore_missing(true); // those of newer programs
    migrator.run(pool).await?;
    view_versions::adopt(pool).await
}

/// Refuses a database that lacks a migration of this program, or has a newer one that no longer serves it: migrations expand
/// before they contract, and one that contracts says in `schema_compatibility` whom it leaves behind.
///
/// # Errors
/// [`Error::UnknownSchema`], [`Error::OutgrownProgram`]; both name both ends.
pub async fn require_current_schema(pool: &PgPool) -> Result<(), Error> {
    let known = newest_known();
    match newest_migration(pool).await? {
        Some(found) if found == known => Ok(()),
        Some(found) if found > known => {
            let oldest = oldest_program(pool).await?;
            if oldest > known { Err(Error::OutgrownProgram { found, oldest, known }) } else { Ok(()) }
        }
        found => Err(Error::UnknownSchema { found, needed: known }),
    }
}

/// The newest migration that this program brings.
fn newest_known() -> i64 {
    MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or_default()
}

/// What a program has to know at least to be served by a schema that is newer than it.
async fn oldest_program(pool: &PgPool) -> Result<i64, Error> {
    Ok(sqlx::query_scalar!("select oldest_program from schema_compatibility").fetch_one(pool).await?)
}

/// The newest applied migration, or `None` in an empty database.
///
/// # Errors
/// [`Error::Database`] if the database does not answer.
pub async fn newest_migration(pool: &PgPool) -> Result<Option<i64>, Error> {
    let exists: bool =
        sqlx::query_scalar("select to_regclass('_sqlx_migrations') is not null").fetch_one(pool).await?;
    if !exists {
        return Ok(None);
    }
    Ok(sqlx::query_scalar("select max(version) from _sqlx_migrations where success").fetch_one(pool).await?)
}
