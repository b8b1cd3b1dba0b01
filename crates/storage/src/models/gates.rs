//! The gate that guards an alias, as it was last applied.

use domain::gate::Gate;
use sqlx::PgConnection;

use crate::Error;

/// The gate of `alias` of `model`, if there is one.
///
/// # Errors
/// [`Error::Conflict`] if two guard it; [`Error::Unreadable`] if the stored body is not a gate.
pub async fn gate_of(
    conn: &mut PgConnection,
    project: &str,
    model: &str,
    alias: &str,
) -> Result<Option<Gate>, Error> {
    let mut bodies = sqlx::query_scalar!(
        r#"
        select body from definitions
        where project = $1 and kind = 'gate' and body ->> 'model' = $2 and coalesce(body ->> 'alias', 'champion') = $3
        order by name
        "#,
        project,
        model,
        alias,
    )
    .fetch_all(conn)
    .await?;
    if bodies.len() > 1 {
        return Err(Error::Conflict {
            what: format!("two gates guard alias `{alias}` of `{model}`; keep one"),
        });
    }
    let read = |body| {
        serde_json::from_value(body)
            .map_err(|error| Error::Unreadable { what: "gate", why: error.to_string() })
    };
    bodies.pop().map(read).transpose()
}
