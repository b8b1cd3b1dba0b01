//! `users/…`: who may use MLflow's routes by name and password. Administrators manage others; everybody themselves.

use axum::Json;
use serde_json::{Value, json};
use service_kit::auth::{Principal, Role};
use service_kit::passwords;
use sqlx::PgConnection;
use storage::users::{self, User};

use super::input::Input;
use super::refusal::{Code, Refusal};
use super::{Answer, done};
use crate::Registry;

/// The shortest password.
const SHORTEST: usize = 12;

fn view(user: &User) -> Value {
    json!({
        "id": user.id,
        "username": user.username,
        "is_admin": user.is_admin,
        "experiment_permissions": [],
        "registered_model_permissions": [],
    })
}

fn missing(username: &str) -> Refusal {
    Refusal::missing(format!("User with username={username} not found"))
}

async fn find(conn: &mut PgConnection, username: &str) -> Result<User, Refusal> {
    users::find(conn, username).await?.ok_or_else(|| missing(username))
}

fn require_admin(caller: &Principal) -> Result<(), Refusal> {
    if caller.role == Role::Admin {
        Ok(())
    } else {
        Err(Refusal::new(Code::PermissionDenied, "Permission denied"))
    }
}

fn require_self_or_admin(caller: &Principal, username: &str) -> Result<(), Refusal> {
    if caller.name.as_deref() == Some(username) { Ok(()) } else { require_admin(caller) }
}

/// The hash of a password that may be one. Hashing takes a moment, so it has a thread of its own.
async fn hashed(password: &str) -> Result<String, Refusal> {
    if password.chars().count() < SHORTEST {
        return Err(Refusal::invalid(format!("Password must be at least {SHORTEST} characters.")));
    }
    let password = password.to_owned();
    let hash = tokio::task::spawn_blocking(move || passwords::hash(&password)).await;
    hash.map_err(|_| Refusal::new(Code::InternalError, "the server failed; its log says why"))
}

pub(crate) async fn create(registry: Registry, caller: Principal, input: Input) -> Answer {
    require_admin(&caller)?;
    let username = input.required("username")?;
    if username.contains(':') || username.chars().count() > 255 {
        return Err(Refusal::invalid("Username must be at most 255 characters and hold no colon."));
    }
    let hash = hashed(input.required("password")?).await?;
    let mut conn = registry.context.db.acquire().await?;
    let user = users::insert(&mut conn, username, &hash, registry.context.clock.now()).await?;
    let user = user.ok_or_else(|| Refusal::exists(format!("User (username={username}) already exists.")))?;
    Ok(Json(json!({ "user": view(&user) })))
}

pub(crate) async fn get(registry: Registry, caller: Principal, input: Input) -> Answer {
    let username = input.required("username")?;
    require_self_or_admin(&caller, username)?;
    let user = find(&mut *registry.context.db.acquire().await?, username).await?;
    Ok(Json(json!({ "user": view(&user) })))
}

pub(crate) async fn list(registry: Registry, caller: Principal) -> Answer {
    require_admin(&caller)?;
    let all = users::all(&mut *registry.context.db.acquire().await?).await?;
    Ok(Json(json!({ "users": all.iter().map(view).collect::<Vec<_>>() })))
}

/// Who asks; whoever holds the token has no name.
pub(crate) async fn current(registry: Registry, caller: Principal) -> Answer {
    let is_admin = caller.role == Role::Admin;
    let Some(username) = &caller.name else {
        return Ok(Json(json!({ "user": { "username": "token", "is_admin": is_admin } })));
    };
    let found = users::find(&mut *registry.context.db.acquire().await?, username).await?;
    let shown = found.as_ref().map_or_else(|| json!({ "username": username, "is_admin": is_admin }), view);
    Ok(Json(json!({ "user": shown })))
}

pub(crate) async fn update_password(registry: Registry, caller: Principal, input: Input) -> Answer {
    let username = input.required("username")?;
    require_self_or_admin(&caller, username)?;
    let hash = hashed(input.required("password")?).await?;
    let mut conn = registry.context.db.acquire().await?;
    if users::update(&mut conn, username, Some(&hash), None).await? { done() } else { Err(missing(username)) }
}

pub(crate) async fn update_admin(registry: Registry, caller: Principal, input: Input) -> Answer {
    require_admin(&caller)?;
    let (username, is_admin) = (input.required("username")?, input.flag("is_admin")?);
    let mut conn = registry.context.db.acquire().await?;
    if users::update(&mut conn, username, None, Some(is_admin)).await? {
        done()
    } else {
        Err(missing(username))
    }
}

pub(crate) async fn delete(registry: Registry, caller: Principal, input: Input) -> Answer {
    require_admin(&caller)?;
    let username = input.required("username")?;
    let mut conn = registry.context.db.acquire().await?;
    if users::delete(&mut conn, username).await? { done() } else { Err(missing(username)) }
}
