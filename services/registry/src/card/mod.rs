//! The model card: what a version is, what it learned from, how it was judged and what it is not for. Written from evidence,
//! once; from then on it stays as it is.

mod facts;
mod render;

use service_kit::Context;
use storage::governance::papers::{Card, card_of, keep_card};
use storage::models::Version;

use crate::files::key_of;
use crate::{Error, Registry};

/// The card of a version; the first time somebody asks, it is written.
///
/// # Errors
/// [`Error::Storage`], or what reading the evidence met.
pub(crate) async fn of(registry: &Registry, version: &Version) -> Result<Card, Error> {
    let key = key_of(registry.project(), version);
    let mut conn = registry.context.db.acquire().await?;
    if let Some(card) = card_of(&mut conn, key).await? {
        return Ok(card);
    }
    drop(conn);
    let blocks = facts::gather(registry, version).await?;
    let title = format!("{} version {}", version.model, version.version);
    let card = Card {
        markdown: render::markdown(&blocks),
        html: render::html(&title, &blocks),
        frozen_at: now(&registry.context),
    };
    Ok(keep_card(&mut *registry.context.db.acquire().await?, key, &card).await?)
}

fn now(context: &Context) -> chrono::DateTime<chrono::Utc> {
    context.clock.now()
}
