//! SQL over `version_cards` and `version_signatures`: what is written about a version once and for all.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::VersionKey;
use crate::Error;

/// A model card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// As Markdown.
    pub markdown: String,
    /// As a page of its own.
    pub html: String,
    /// When it was written.
    pub frozen_at: DateTime<Utc>,
}

/// A signature over the files of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// A sigstore bundle, as JSON.
    pub bundle: String,
    /// SHA-256, in hex, of the public key as PEM.
    pub key_id: String,
    /// Who asked for it.
    pub signed_by: String,
    /// When.
    pub signed_at: DateTime<Utc>,
}

/// Writes a card, unless there is one; answers the one that stands.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn keep_card(conn: &mut PgConnection, key: VersionKey<'_>, card: &Card) -> Result<Card, Error> {
    sqlx::query!(
        r#"
        insert into version_cards (project, model, version, markdown, html, frozen_at)
        values ($1, $2, $3, $4, $5, $6) on conflict do nothing
        "#,
        key.project,
        key.model,
        key.version,
        card.markdown,
        card.html,
        card.frozen_at,
    )
    .execute(&mut *conn)
    .await?;
    Ok(card_of(conn, key).await?.unwrap_or_else(|| card.clone()))
}

/// The card of a version, if it was written.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn card_of(conn: &mut PgConnection, key: VersionKey<'_>) -> Result<Option<Card>, Error> {
    Ok(sqlx::query_as!(
        Card,
        "select markdown, html, frozen_at from version_cards where project = $1 and model = $2 and version = $3",
        key.project,
        key.model,
        key.version,
    )
    .fetch_optional(conn)
    .await?)
}

/// Stores a signature in place of an older one: keys are rotated, the files stay the same.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn keep_signature(
    conn: &mut PgConnection,
    key: VersionKey<'_>,
    signature: &Signature,
) -> Result<(), Error> {
    sqlx::query!(
        r#"
        insert into version_signatures (project, model, version, bundle, key_id, signed_by, signed_at)
        values ($1, $2, $3, $4, $5, $6, $7)
        on conflict (project, model, version) do update
        set bundle = excluded.bundle, key_id = excluded.key_id, signed_by = excluded.signed_by,
            signed_at = excluded.signed_at
        "#,
        key.project,
        key.model,
        key.version,
        signature.bundle,
        signature.key_id,
        signature.signed_by,
        signature.signed_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The signature of a version, if it was signed.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn signature_of(conn: &mut PgConnection, key: VersionKey<'_>) -> Result<Option<Signature>, Error> {
    Ok(sqlx::query_as!(
        Signature,
        r#"
        select bundle, key_id, signed_by, signed_at from version_signatures
        where project = $1 and model = $2 and version = $3
        "#,
        key.project,
        key.model,
        key.version,
    )
    .fetch_optional(conn)
    .await?)
}
