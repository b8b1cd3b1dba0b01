//! Tokens and the audit over HTTP, for administrators.

use argon2::password_hash::rand_core::{OsRng, RngCore};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use domain::{Fault, Remedy};
use serde::{Deserialize, Serialize};
use storage::audit::Entry;
use storage::tokens::{self, Token};
use uuid::Uuid;

use super::guard::shown;
use super::{Principal, Role};
use crate::{Context, JsonBody, Problem, passwords};

/// The entropy of a secret.
const SECRET_BYTES: usize = 32;
/// The most entries of one answer.
const MOST: i64 = 1_000;

pub(crate) fn routes() -> Router<Context> {
    Router::new()
        .route("/v1/tokens", get(list).post(create))
        .route("/v1/tokens/{id}/revoke", post(revoke))
        .route("/v1/tokens/{id}/rotate", post(rotate))
        .route("/v1/audit", get(audit))
}

/// A request for a token does not fit.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unfit(&'static str);

impl Fault for Unfit {
    fn remedy(&self) -> Remedy {
        Remedy::FixRequest
    }
    fn code(&self) -> &'static str {
        "token"
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    name: String,
    role: Role,
    project: Option<String>,
    expires_at: Option<DateTime<Utc>>,
}

/// A new token: the only time that its secret is seen.
#[derive(Serialize)]
struct Made {
    token: String,
    #[serde(flatten)]
    row: Token,
}

async fn list(State(context): State<Context>) -> Result<Json<Vec<Token>>, Problem> {
    let mut conn = context.db.acquire().await.map_err(storage::Error::from)?;
    Ok(Json(tokens::list(&mut conn).await?))
}

async fn create(
    State(context): State<Context>,
    principal: Principal,
    JsonBody(wanted): JsonBody<Wanted>,
) -> Result<(StatusCode, Json<Made>), Problem> {
    let name = wanted.name.trim();
    if name.is_empty() || name.len() > 200 || name.chars().any(char::is_control) {
        return Err(Unfit("a token needs a `name` of 1 to 200 bytes: who will show it").into());
    }
    let now = context.machine_clock.now();
    if wanted.expires_at.is_some_and(|at| at <= now) {
        return Err(Unfit("`expires_at` is over already").into());
    }
    let made = make(name, wanted.role, wanted.project, wanted.expires_at, &principal, now).await;
    let mut conn = context.db.acquire().await.map_err(storage::Error::from)?;
    tokens::insert(&mut conn, &made.row).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

async fn revoke(State(context): State<Context>, Path(id): Path<Uuid>) -> Result<StatusCode, Problem> {
    let mut conn = context.db.acquire().await.map_err(storage::Error::from)?;
    tokens::revoke(&mut conn, id, context.machine_clock.now()).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Overlap {
    /// How long the old token still opens, in seconds.
    #[serde(default)]
    overlap_seconds: u32,
}

/// Makes a token like this one, and lets this one end.
async fn rotate(
    State(context): State<Context>,
    Path(id): Path<Uuid>,
    principal: Principal,
    JsonBody(overlap): JsonBody<Overlap>,
) -> Result<(StatusCode, Json<Made>), Problem> {
    let now = context.machine_clock.now();
    let mut tx = context.db.begin().await.map_err(storage::Error::from)?;
    let old =
        tokens::find(&mut tx, id).await?.ok_or_else(|| storage::Error::not_found(format!("token {id}")))?;
    if !old.is_good(now) {
        return Err(Unfit("the token is over; create another").into());
    }
    let role = Role::named(&old.role).ok_or(Unfit("the token has a role that this program does not know"))?;
    let made = make(&old.name, role, old.project, old.expires_at, &principal, now).await;
    tokens::insert(&mut tx, &made.row).await?;
    tokens::expire(&mut tx, id, now + TimeDelta::seconds(overlap.overlap_seconds.into())).await?;
    tx.commit().await.map_err(storage::Error::from)?;
    Ok((StatusCode::CREATED, Json(made)))
}

async fn make(
    name: &str,
    role: Role,
    project: Option<String>,
    expires_at: Option<DateTime<Utc>>,
    by: &Principal,
    now: DateTime<Utc>,
) -> Made {
    let mut bytes = [0; SECRET_BYTES];
    OsRng.fill_bytes(&mut bytes);
    let secret = BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let hashed = secret.clone();
    let hash = tokio::task::spawn_blocking(move || passwords::hash(&hashed)); // slow on purpose
    let row = Token {
        token_id: Uuid::new_v4(),
        project,
        name: name.to_owned(),
        role: role.as_str().to_owned(),
        hash: hash.await.expect("hashing does not panic"),
        created_by: by.shown().to_owned(),
        created_at: now,
        expires_at,
        revoked_at: None,
    };
    Made { token: shown(row.token_id, &secret), row }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    before: Option<i64>,
    limit: Option<i64>,
}

async fn audit(
    State(context): State<Context>,
    Query(page): Query<Page>,
) -> Result<Json<Vec<Entry>>, Problem> {
    let limit = page.limit.unwrap_or(100).clamp(1, MOST);
    let mut conn = context.db.acquire().await.map_err(storage::Error::from)?;
    Ok(Json(storage::audit::latest(&mut conn, page.before, limit).await?))
}
