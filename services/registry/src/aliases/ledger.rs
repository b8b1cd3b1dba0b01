//! Writing the history of aliases: one row a move, chained by hashes.

use chrono::{DateTime, SubsecRound, Utc};
use domain::gate::Verdict;
use sqlx::PgConnection;
use storage::models::history::{self, Entry};

use super::Ask;
use super::chain::{GENESIS, hash_of};
use crate::Error;

/// What happened to an alias.
pub(super) struct Step<'a> {
    /// `moved`, `refused`, `removed`, `overridden` or `rolled_back`.
    pub(super) outcome: &'static str,
    /// Where it pointed.
    pub(super) from: Option<i32>,
    /// Where it should point.
    pub(super) to: Option<i32>,
    /// What the gate said, if there is one.
    pub(super) verdict: Option<&'a Verdict>,
}

/// Adds a row to the history. The caller holds the model's row, so that the chain does not fork.
pub(super) async fn write_down(
    conn: &mut PgConnection,
    ask: &Ask<'_>,
    step: &Step<'_>,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let (last, previous_hash) =
        history::head(conn, ask.project, ask.model).await?.unwrap_or_else(|| (0, GENESIS.to_owned()));
    let mut entry = Entry {
        sequence: last + 1,
        alias: ask.alias.to_owned(),
        outcome: step.outcome.to_owned(),
        from_version: step.from,
        to_version: step.to,
        actor: ask.actor.to_owned(),
        reason: ask.reason.map(str::to_owned),
        verdict: step
            .verdict
            .map(|verdict| serde_json::to_value(verdict).expect("plain members become JSON")),
        at: now.trunc_subsecs(6), // what the database keeps
        previous_hash,
        hash: String::new(),
    };
    entry.hash = hash_of(ask.project, ask.model, &entry);
    Ok(history::append(conn, ask.project, ask.model, &entry).await?)
}
