//! Every SQL statement of the product, one module per aggregate, one function per statement.
//!
//! Belongs here: queries, row types, migrations, the private Postgres. Not here: what *should* happen (`domain`), HTTP
//! (`service-kit`), files (`frames`).
//!
//! Invariants: only this crate holds SQL. No function opens its own connection to our database, so callers compose
//! transactions; nothing reads a clock, so every moment is an argument.

pub mod audit;
pub mod backup;
pub mod definitions;
pub mod erasures;
mod error;
pub mod features;
pub mod foreign;
pub mod garbage;
pub mod governance;
pub mod incidents;
pub mod jobs;
pub mod labels;
pub mod leases;
pub mod model_evidence;
pub mod models;
pub mod monitors;
pub mod notifications;
pub mod online;
pub mod parity;
pub mod parts;
pub mod pool;
pub mod predictions;
pub mod private_postgres;
pub mod profiles;
pub mod schedules;
pub mod search;
pub mod silences;
pub mod tokens;
pub mod tracking;
pub mod training_sets;
pub mod users;
pub mod view_versions;
pub mod webhooks;
pub mod workspaces;

pub use error::Error;
pub use pool::{connect, migrate};

/// Every migration, embedded. They are append-only.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations");
