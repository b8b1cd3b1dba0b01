//! Moving an alias: ask the gate, move or not, write down either.
//!
//! Moves of one alias exclude each other: whoever comes while a move is under way is told so, and asks again.

pub(crate) mod chain;
mod challenge;
mod drift;
mod judgement;
mod ledger;
mod rollback;

use domain::gate::{Gate, Refused, Verdict};
use serde::Serialize;
use service_kit::Context;
use sqlx::PgConnection;
use storage::models::{self, Version};

use crate::Error;
use crate::metrics::Metrics;
use crate::webhooks::{self, Change};
use ledger::{Step, write_down};

pub(crate) use judgement::evidence_of;
pub(crate) use rollback::roll_back;

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

/// How a move is asked for, beyond where to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manner {
    /// Judge, and change nothing.
    pub(crate) dry_run: bool,
    /// Move even if the gate refuses. Whoever asks must be an administrator and say why.
    pub(crate) override_gate: bool,
    /// Move only if the alias points here now.
    pub(crate) from_version: Option<i32>,
}

/// What became of an asked move.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Answer {
    /// What the gate said.
    #[serde(flatten)]
    pub(crate) verdict: Verdict,
    /// Where the alias pointed.
    pub(crate) from_version: Option<i32>,
    /// Whether it points at the wanted version now.
    pub(crate) moved: bool,
    /// Whether the gate's refusal was overridden.
    pub(crate) overridden: bool,
}

/// Points the alias at `version` if its gate passes. If it points there already, nothing happens.
///
/// # Errors
/// [`Error::Refused`] with the gate's verdict, which is written down; [`Error::Busy`] if another move of the alias is under
/// way or came first; [`Error::Missing`] if there is no such version.
#[tracing::instrument(name = "registry.move_alias", skip_all, fields(model = ask.model, alias = ask.alias, version))]
pub(crate) async fn point_at(
    context: &Context,
    ask: &Ask<'_>,
    version: i32,
    manner: Manner,
) -> Result<Answer, Error> {
    if manner.override_gate && ask.reason.is_none_or(|reason| reason.trim().is_empty()) {
        return Err(Error::Invalid("an override needs a `reason`: it stays in the history".to_owned()));
    }
    let mut tx = context.db.begin().await?;
    exclude_others(&mut tx, ask).await?;
    let candidate = version_of(&mut tx, ask, version).await?;
    let reigning = models::alias_of(&mut tx, ask.project, ask.model, ask.alias).await?;
    if let Some(expected) = manner.from_version
        && reigning != Some(expected)
    {
        return Err(Error::busy(
            ask,
            &format!("it points at {}, not at version {expected}", place(reigning)),
        ));
    }
    if reigning == Some(version) {
        count(context, ask, "unchanged");
        return Ok(Answer { verdict: unguarded(), from_version: reigning, moved: true, overridden: false });
    }
    let gate = models::gate_of(&mut tx, ask.project, ask.model, ask.alias).await?;
    let verdict = match &gate {
        Some(gate) => judgement::judge(context, &mut tx, ask, gate, &candidate, reigning).await?,
        None => unguarded(),
    };
    let decided = Decided { reigning, version, gate, verdict };
    decided.carry_out(context, tx, ask, manner).await
}

/// A judged move.
struct Decided {
    reigning: Option<i32>,
    version: i32,
    gate: Option<Gate>,
    verdict: Verdict,
}

impl Decided {
    /// Moves or not, and writes down either; in a dry run neither.
    async fn carry_out(
        self,
        context: &Context,
        mut tx: sqlx::Transaction<'_, sqlx::Postgres>,
        ask: &Ask<'_>,
        manner: Manner,
    ) -> Result<Answer, Error> {
        let Self { reigning, version, gate, verdict } = self;
        let overridden = manner.override_gate && !verdict.passed;
        let moved = verdict.passed || overridden;
        if manner.dry_run {
            return Ok(Answer { verdict, from_version: reigning, moved: false, overridden });
        }
        lock(&mut tx, ask).await?;
        unmoved(&mut tx, ask, reigning).await?;
        let outcome = match (verdict.passed, overridden) {
            (true, _) => "moved",
            (false, true) => "overridden",
            (false, false) => "refused",
        };
        let said = gate.is_some().then_some(&verdict);
        let step = Step { outcome, from: reigning, to: Some(version), verdict: said };
        write_down(&mut tx, ask, &step, context.clock.now()).await?;
        if moved {
            set(context, &mut tx, ask, version).await?;
        }
        tx.commit().await?;
        count(context, ask, outcome);
        if !moved {
            return Err(Refused { model: ask.model.to_owned(), version, verdict }.into());
        }
        Ok(Answer { verdict, from_version: reigning, moved, overridden })
    }
}

/// Points the alias, and tells webhooks.
async fn set(context: &Context, conn: &mut PgConnection, ask: &Ask<'_>, version: i32) -> Result<(), Error> {
    models::set_alias(conn, ask.project, ask.model, ask.alias, version).await?;
    let change = Change::Alias { name: ask.model, alias: ask.alias, version };
    webhooks::note(context, conn, ask.project, &change).await
}

/// What is answered where nothing was asked.
pub(crate) fn unguarded() -> Verdict {
    Verdict { gate: "none".to_owned(), passed: true, checks: vec![] }
}

fn place(version: Option<i32>) -> String {
    version.map_or_else(|| "no version".to_owned(), |version| format!("version {version}"))
}

fn count(context: &Context, ask: &Ask<'_>, outcome: &str) {
    Metrics::of(context).alias_moves.with_label_values(&[ask.model, ask.alias, outcome]).inc();
}

/// Nobody else moves this alias until the transaction ends. The model's row stays free: judging takes its time, and
/// versions are made meanwhile.
async fn exclude_others(conn: &mut PgConnection, ask: &Ask<'_>) -> Result<(), Error> {
    if models::find(conn, ask.project, ask.model).await?.is_none() {
        return Err(Error::no_model(ask.model));
    }
    if models::claim_alias(conn, ask.project, ask.model, ask.alias).await? {
        return Ok(());
    }
    Err(Error::busy(ask, "another move of it is under way"))
}

/// Refuses if the alias points elsewhere than when the gate was asked: it was taken away or renamed meanwhile.
async fn unmoved(conn: &mut PgConnection, ask: &Ask<'_>, reigning: Option<i32>) -> Result<(), Error> {
    let now = models::alias_of(conn, ask.project, ask.model, ask.alias).await?;
    if now == reigning {
        return Ok(());
    }
    Err(Error::busy(ask, &format!("meanwhile it came to point at {}", place(now))))
}

async fn lock(conn: &mut PgConnection, ask: &Ask<'_>) -> Result<(), Error> {
    if models::lock(conn, ask.project, ask.model).await? { Ok(()) } else { Err(Error::no_model(ask.model)) }
}

async fn version_of(conn: &mut PgConnection, ask: &Ask<'_>, version: i32) -> Result<Version, Error> {
    let found = models::find_version(conn, ask.project, ask.model, version).await?;
    found.ok_or_else(|| Error::no_version(ask.model, version))
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
