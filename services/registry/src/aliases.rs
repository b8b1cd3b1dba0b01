//! Moving an alias: lock the model, ask the gate, move or not, write down either.

use chrono::{DateTime, SubsecRound, Utc};
use domain::evaluation::Evaluation;
use domain::gate::{Gate, Refused, Reigning, Verdict};
use service_kit::Context;
use sqlx::PgConnection;
use storage::models::history::{self, Entry};
use storage::models::{self, Version};

use crate::chain::{GENESIS, hash_of};
use crate::metrics::Metrics;
use crate::webhooks::{self, Change};
use crate::{Error, challenge};

/// Somebody asks that an alias point at a version.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    /// The project.
    pub project: &'a str,
    /// The registered model.
    pub model: &'a str,
    /// The alias.
    pub alias: &'a str,
    /// Who asks.
    pub actor: &'a str,
    /// Why, in their words.
    pub reason: Option<&'a str>,
}

/// Points the alias at `version` if its gate passes. If it points there already, nothing happens.
///
/// Moves of one model happen one after the other: whoever comes second is judged against the new champion.
///
/// # Errors
/// [`Error::Refused`] with the gate's verdict, which is written down; [`Error::Missing`] if there is no such version.
#[tracing::instrument(name = "registry.move_alias", skip_all, fields(model = ask.model, alias = ask.alias, version))]
pub(crate) async fn point_at(context: &Context, ask: &Ask<'_>, version: i32) -> Result<Verdict, Error> {
    let mut tx = context.db.begin().await?;
    lock(&mut tx, ask).await?;
    let candidate = version_of(&mut tx, ask, version).await?;
    let reigning = models::alias_of(&mut tx, ask.project, ask.model, ask.alias).await?;
    if reigning == Some(version) {
        count(context, ask, "unchanged");
        return Ok(unguarded());
    }
    let gate = models::gate_of(&mut tx, ask.project, ask.model, ask.alias).await?;
    let verdict = match &gate {
        Some(gate) => Some(judge(context, &mut tx, ask, gate, &candidate, reigning).await?),
        None => None,
    };
    let passed = verdict.as_ref().is_none_or(|verdict| verdict.passed);
    let outcome = if passed { "moved" } else { "refused" };
    let step = Step { outcome, from: reigning, to: Some(version), verdict: verdict.as_ref() };
    write_down(&mut tx, ask, &step, context.clock.now()).await?;
    if passed {
        models::set_alias(&mut tx, ask.project, ask.model, ask.alias, version).await?;
        let change = Change::Alias { name: ask.model, alias: ask.alias, version };
        webhooks::note(context, &mut tx, ask.project, &change).await?;
    }
    tx.commit().await?;
    count(context, ask, outcome);
    let verdict = verdict.unwrap_or_else(unguarded);
    if passed { Ok(verdict) } else { Err(Refused { model: ask.model.to_owned(), version, verdict }.into()) }
}

/// What is answered where nothing was asked.
fn unguarded() -> Verdict {
    Verdict { gate: "none".to_owned(), passed: true, checks: vec![] }
}

fn count(context: &Context, ask: &Ask<'_>, outcome: &str) {
    Metrics::of(context).alias_moves.with_label_values(&[ask.model, ask.alias, outcome]).inc();
}

async fn lock(conn: &mut PgConnection, ask: &Ask<'_>) -> Result<(), Error> {
    if models::lock(conn, ask.project, ask.model).await? { Ok(()) } else { Err(Error::no_model(ask.model)) }
}

async fn version_of(conn: &mut PgConnection, ask: &Ask<'_>, version: i32) -> Result<Version, Error> {
    let found = models::find_version(conn, ask.project, ask.model, version).await?;
    found.ok_or_else(|| Error::no_version(ask.model, version))
}

async fn judge(
    context: &Context,
    conn: &mut PgConnection,
    ask: &Ask<'_>,
    gate: &Gate,
    candidate: &Version,
    reigning: Option<i32>,
) -> Result<Verdict, Error> {
    let evidence = evidence_of(conn, ask.project, candidate).await?;
    let reigning = match (reigning, &evidence) {
        (None, _) => Reigning::Nobody,
        (Some(version), Some(evidence)) => against_champion(context, conn, ask, evidence, version).await?,
        (Some(champion_version), None) => {
            Reigning::Incomparable { champion_version, why: "the candidate was never evaluated".to_owned() }
        }
    };
    Ok(gate.judge(evidence.as_ref(), &reigning))
}

async fn against_champion(
    context: &Context,
    conn: &mut PgConnection,
    ask: &Ask<'_>,
    evidence: &Evaluation,
    champion_version: i32,
) -> Result<Reigning, Error> {
    let champion = version_of(conn, ask, champion_version).await?;
    Ok(match evidence_of(conn, ask.project, &champion).await? {
        Some(champion) => challenge::compare(context, evidence, champion_version, &champion).await,
        None => {
            Reigning::Incomparable { champion_version, why: "the champion was never evaluated".to_owned() }
        }
    })
}

/// What its run found about a version; `None` if the files are not known to be that run's.
pub(crate) async fn evidence_of(
    conn: &mut PgConnection,
    project: &str,
    version: &Version,
) -> Result<Option<Evaluation>, Error> {
    match &version.run_id {
        Some(run_id) if version.made_by_run => {
            Ok(storage::model_evidence::find(conn, project, run_id).await?)
        }
        _ => Ok(None),
    }
}

struct Step<'a> {
    outcome: &'static str,
    from: Option<i32>,
    to: Option<i32>,
    verdict: Option<&'a Verdict>,
}

/// Adds a row to the history. The caller holds the model's row, so that the chain does not fork.
async fn write_down(
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

/// Takes an alias away, in the caller's transaction. If it is not there, nothing happens.
///
/// # Errors
/// [`Error::Guarded`] if a gate guards it: without a champion the next candidate would have nobody to beat.
pub(crate) async fn remove(context: &Context, conn: &mut PgConnection, ask: &Ask<'_>) -> Result<(), Error> {
    lock(conn, ask).await?;
    let Some(version) = models::alias_of(conn, ask.project, ask.model, ask.alias).await? else {
        return Ok(());
    };
    refuse_if_guarded(conn, ask.project, ask.model, ask.alias).await?;
    let step = Step { outcome: "removed", from: Some(version), to: None, verdict: None };
    write_down(conn, ask, &step, context.clock.now()).await?;
    models::delete_alias(conn, ask.project, ask.model, ask.alias).await?;
    let change = Change::AliasGone { name: ask.model, alias: ask.alias };
    webhooks::note(context, conn, ask.project, &change).await?;
    count(context, ask, "removed");
    Ok(())
}

/// Takes away, in the caller's transaction, the aliases of a model that point at `version`, or all of them.
///
/// # Errors
/// [`Error::Guarded`] if a gate guards one of them.
pub(crate) async fn remove_all(
    context: &Context,
    conn: &mut PgConnection,
    ask: &Ask<'_>,
    version: Option<i32>,
) -> Result<(), Error> {
    lock(conn, ask).await?;
    for alias in models::aliases_of(conn, ask.project, &[ask.model.to_owned()]).await? {
        if version.is_none_or(|version| alias.version == version) {
            remove(context, conn, &Ask { alias: &alias.alias, ..ask.clone() }).await?;
        }
    }
    Ok(())
}

/// Gives a model another name, in the caller's transaction. Its aliases go with it, and both histories say so.
///
/// # Errors
/// [`Error::Guarded`] if a gate guards one of its aliases under either name.
pub(crate) async fn rename(
    context: &Context,
    conn: &mut PgConnection,
    ask: &Ask<'_>,
    new_name: &str,
) -> Result<(), Error> {
    let now = context.clock.now();
    lock(conn, ask).await?;
    let aliases = models::aliases_of(conn, ask.project, &[ask.model.to_owned()]).await?;
    for alias in &aliases {
        refuse_if_guarded(conn, ask.project, ask.model, &alias.alias).await?;
        refuse_if_guarded(conn, ask.project, new_name, &alias.alias).await?;
        let reason = format!("renamed to `{new_name}`");
        let step = Step { outcome: "removed", from: Some(alias.version), to: None, verdict: None };
        write_down(conn, &Ask { alias: &alias.alias, reason: Some(&reason), ..ask.clone() }, &step, now)
            .await?;
    }
    models::rename(conn, ask.project, ask.model, new_name, now.timestamp_millis()).await?;
    for alias in &aliases {
        let reason = format!("renamed from `{}`", ask.model);
        let step = Step { outcome: "moved", from: None, to: Some(alias.version), verdict: None };
        let ask = Ask { model: new_name, alias: &alias.alias, reason: Some(&reason), ..ask.clone() };
        write_down(conn, &ask, &step, now).await?;
    }
    Ok(())
}

async fn refuse_if_guarded(
    conn: &mut PgConnection,
    project: &str,
    model: &str,
    alias: &str,
) -> Result<(), Error> {
    match models::gate_of(conn, project, model, alias).await? {
        None => Ok(()),
        Some(gate) => {
            Err(Error::Guarded { gate: gate.name, model: model.to_owned(), alias: alias.to_owned() })
        }
    }
}
