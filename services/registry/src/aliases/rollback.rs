//! One step back: the alias points again at what it pointed at before the version that serves.

use service_kit::Context;
use storage::models::{self, history};

use super::ledger::{Step, write_down};
use super::{Answer, Ask, count, exclude_others, lock, place, set, unguarded, unmoved, version_of};
use crate::Error;

/// Points the alias at the version that it pointed at before the one it points at now, and answers which.
///
/// No gate is asked: what served before has passed, and whoever steps back is in a hurry. Stepping back twice goes back two
/// moves, not forth again.
///
/// # Errors
/// [`Error::Invalid`] without a reason; [`Error::Nothing`] if nothing served before; [`Error::Busy`] as for a move.
pub(crate) async fn roll_back(context: &Context, ask: &Ask<'_>) -> Result<(i32, Answer), Error> {
    if ask.reason.is_none_or(|reason| reason.trim().is_empty()) {
        return Err(Error::Invalid("a rollback needs a `reason`: it stays in the history".to_owned()));
    }
    let mut tx = context.db.begin().await?;
    exclude_others(&mut tx, ask).await?;
    let current = models::alias_of(&mut tx, ask.project, ask.model, ask.alias).await?;
    let before = match current {
        Some(version) => history::came_from(&mut tx, ask.project, ask.model, ask.alias, version).await?,
        None => None,
    };
    let before = before.ok_or_else(|| Error::Nothing {
        model: ask.model.to_owned(),
        alias: ask.alias.to_owned(),
        now: place(current),
    })?;
    version_of(&mut tx, ask, before).await?; // it may have been deleted since
    lock(&mut tx, ask).await?;
    unmoved(&mut tx, ask, current).await?;
    let step = Step { outcome: "rolled_back", from: current, to: Some(before), verdict: None };
    write_down(&mut tx, ask, &step, context.clock.now()).await?;
    set(context, &mut tx, ask, before).await?;
    tx.commit().await?;
    count(context, ask, "rolled_back");
    Ok((before, Answer { verdict: unguarded(), from_version: current, moved: true, overridden: false }))
}
