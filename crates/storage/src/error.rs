//! What can go wrong between the product and its database.

use domain::{Fault, Remedy};

/// A statement did not do what its caller asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The row is not there.
    #[error("{what} not found")]
    NotFound {
        /// What was looked for, as the caller named it.
        what: String,
    },
    /// The row is there already, or another writer came first.
    #[error("{what}")]
    Conflict {
        /// What stands in the way.
        what: String,
    },
    /// The database holds a schema that this program does not know.
    #[error(
        "the database is at migration {found:?}, this program needs {needed}; run `foretime migrate` with the program that is to serve"
    )]
    UnknownSchema {
        /// The newest migration that was applied.
        found: Option<i64>,
        /// The newest migration that this program knows.
        needed: i64,
    },
    /// The database holds a schema that no longer serves this program.
    #[error(
        "the database is at migration {found} and serves programs from migration {oldest} on, this program ends at {known}; run a newer foretime, or restore the backup from before `foretime migrate` into another database"
    )]
    OutgrownProgram {
        /// The newest migration that was applied.
        found: i64,
        /// The newest migration that a program has to know.
        oldest: i64,
        /// The newest migration that this program knows.
        known: i64,
    },
    /// A migration failed.
    #[error("the migrations could not be applied")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// A stored value cannot be read by this program.
    #[error("a stored {what} cannot be read: {why}")]
    Unreadable {
        /// The kind of value.
        what: &'static str,
        /// What the reader said.
        why: String,
    },
    /// A database that is not ours cannot be reached, or refuses a query.
    #[error("the database `{connection}` says: {said}")]
    Foreign {
        /// What the settings call it.
        connection: String,
        /// What it says.
        said: String,
        /// Whether it may say something else a moment later.
        passing: bool,
    },
    /// The database refused.
    #[error("the database refused the operation")]
    Database(#[from] sqlx::Error),
}

impl Error {
    /// "Not found", in the caller's words.
    pub fn not_found(what: impl Into<String>) -> Self {
        Self::NotFound { what: what.into() }
    }

    /// What a database that is not ours says.
    pub(crate) fn foreign(connection: &str, cause: &sqlx::Error) -> Self {
        Self::Foreign {
            connection: connection.to_owned(),
            said: cause.to_string(),
            passing: is_transient(cause),
        }
    }

    /// True if a unique or exclusion constraint of that name was violated.
    pub fn violates(&self, constraint: &str) -> bool {
        matches!(self, Self::Database(sqlx::Error::Database(cause)) if cause.constraint() == Some(constraint))
    }
}

impl Fault for Error {
    fn remedy(&self) -> Remedy {
        match self {
            Self::NotFound { .. } => Remedy::LookElsewhere,
            Self::Conflict { .. } => Remedy::ResolveConflict,
            Self::Foreign { passing: false, .. } => Remedy::FixRequest,
            Self::Foreign { passing: true, .. } => Remedy::RetryLater,
            Self::Database(cause) if is_transient(cause) => Remedy::RetryLater,
            Self::UnknownSchema { .. }
            | Self::OutgrownProgram { .. }
            | Self::Migration(_)
            | Self::Unreadable { .. }
            | Self::Database(_) => Remedy::ReportBug,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not-found",
            Self::Conflict { .. } => "conflict",
            Self::UnknownSchema { .. } => "unknown-schema",
            Self::OutgrownProgram { .. } => "outgrown-program",
            Self::Migration(_) => "migration",
            Self::Unreadable { .. } => "unreadable",
            Self::Foreign { .. } => "foreign-database",
            Self::Database(cause) if is_transient(cause) => "database-unavailable",
            Self::Database(_) => "database",
        }
    }
}

/// True if the same statement may succeed a moment later.
fn is_transient(cause: &sqlx::Error) -> bool {
    match cause {
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Io(_) => true,
        // 57P01–57P03: shutting down or starting up; 40001, 40P01: serialization failure, deadlock; 53: out of resources.
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            matches!(code.as_ref(), "57P01" | "57P02" | "57P03" | "40001" | "40P01") || code.starts_with("53")
        }),
        _ => false,
    }
}
