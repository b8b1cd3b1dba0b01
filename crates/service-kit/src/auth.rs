//! Who may ask: a bearer token, or basic authentication with it as the password (what MLflow clients send); and on MLflow's
//! routes, users by name and password.

use std::convert::Infallible;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use domain::{Fault, Remedy};
use secrecy::{ExposeSecret, SecretString};
use sqlx::PgPool;
use subtle::ConstantTimeEq;

use crate::Context;
use crate::passwords::Remembered;

/// What somebody may do; each role may do what the ones before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look.
    Reader,
    /// Change things.
    Writer,
    /// Change who may do what, and go past a gate.
    Admin,
}

/// Who asks, and what they may do. Handlers take it as an argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Their name, if they gave one. Beside a shared token it is a claim; beside a password it is proven.
    pub name: Option<String>,
    /// What they may do.
    pub role: Role,
}

impl Principal {
    /// Their name, for what is written down.
    pub fn shown(&self) -> &str {
        self.name.as_deref().unwrap_or("anonymous")
    }

    /// Refuses whoever may only look.
    ///
    /// # Errors
    /// [`Forbidden`], which says `what` they may not do.
    pub fn may_write(&self, what: &'static str) -> Result<(), Forbidden> {
        if self.role >= Role::Writer {
            return Ok(());
        }
        Err(Forbidden { who: self.shown().to_owned(), what, needed: "writer" })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Principal {
    type Rejection = Infallible;

    /// Behind [`require_token`] somebody is always known; elsewhere nobody may more than look.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let known = parts.extensions.get::<Self>().cloned();
        Ok(known.unwrap_or(Self { name: None, role: Role::Reader }))
    }
}

/// Somebody may not do what they asked for.
#[derive(Debug, thiserror::Error)]
#[error("{who} may look, not {what}; ask with the token of a {needed}")]
pub struct Forbidden {
    who: String,
    what: &'static str,
    needed: &'static str,
}

impl Fault for Forbidden {
    fn remedy(&self) -> Remedy {
        Remedy::AskPermission
    }
    fn code(&self) -> &'static str {
        "forbidden"
    }
}

/// What the door-keeper knows.
#[derive(Clone)]
pub struct Guard {
    token: Option<SecretString>,
    db: PgPool,
    remembered: Remembered,
}

impl Guard {
    /// The guard of a process.
    pub fn of(context: &Context) -> Self {
        let token = context.config.http.token.clone();
        Self { token, db: context.db.clone(), remembered: Remembered::default() }
    }

    /// Who shows this authorization, if they may ask for this path.
    async fn admits(&self, path: &str, authorization: Option<&str>) -> Option<Principal> {
        let Some(token) = &self.token else {
            return Some(Principal { name: named(authorization), role: Role::Admin });
        };
        let shown = authorization?;
        if shows(shown, token.expose_secret()) {
            return Some(Principal { name: named(authorization), role: Role::Admin });
        }
        if is_mlflows(path) { self.user(shown).await } else { None }
    }

    async fn user(&self, authorization: &str) -> Option<Principal> {
        let (name, password) = basic(authorization)?;
        let mut conn = self.db.acquire().await.ok()?;
        let user = storage::users::find(&mut conn, &name).await.ok()??;
        drop(conn);
        let right = self.remembered.is_right(&name, &password, &user.password_hash).await;
        let role = if user.is_admin { Role::Admin } else { Role::Writer };
        right.then_some(Principal { name: Some(name), role })
    }
}

/// The routes that users reach by name and password; all others want the token.
fn is_mlflows(path: &str) -> bool {
    ["/api/", "/ajax-api/", "/get-artifact", "/model-versions/get-artifact", "/health", "/version"]
        .iter()
        .any(|prefix| path.starts_with(prefix))
}

/// Paths that anybody may ask for. A signed link proves itself.
fn is_open(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz") || path.starts_with("/presigned/")
}

/// Lets a request through if it shows who asks, or if no token is set (then only loopback can ask).
pub async fn require_token(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if is_open(path) {
        return next.run(request).await;
    }
    let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if let Some(principal) = guard.admits(path, shown).await {
        request.extensions_mut().insert(principal);
        return next.run(request).await;
    }
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer, Basic realm=\"foretime\"")])
        .into_response()
}

/// The name in basic authentication.
fn named(authorization: Option<&str>) -> Option<String> {
    authorization.and_then(basic).map(|(name, _)| name).filter(|name| !name.is_empty())
}

/// Name and password of basic authentication.
fn basic(authorization: &str) -> Option<(String, String)> {
    let (scheme, value) = authorization.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(BASE64.decode(value.trim()).ok()?).ok()?;
    pair.split_once(':').map(|(name, password)| (name.to_owned(), password.to_owned()))
}

fn shows(authorization: &str, token: &str) -> bool {
    match authorization.split_once(' ') {
        Some((scheme, value)) if scheme.eq_ignore_ascii_case("bearer") => {
            same(value.trim().as_bytes(), token.as_bytes())
        }
        _ => basic(authorization).is_some_and(|(_, password)| same(password.as_bytes(), token.as_bytes())),
    }
}

/// Equality in a time that does not tell how much was right.
fn same(shown: &[u8], token: &[u8]) -> bool {
    shown.ct_eq(token).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_accepted_as_bearer_and_as_password() {
        assert!(shows("Bearer s3cret", "s3cret"));
        assert!(shows("Basic bWxmbG93OnMzY3JldA==", "s3cret")); // mlflow:s3cret
    }

    #[test]
    fn anything_else_is_refused() {
        for shown in ["Bearer s3cre", "Bearer s3cretx", "Basic bWxmbG93Og==", "Basic !!", "s3cret", ""] {
            assert!(!shows(shown, "s3cret"), "{shown}");
        }
    }

    #[test]
    fn the_user_name_says_who_asks() {
        assert_eq!(named(Some("Basic bWxmbG93OnMzY3JldA==")).as_deref(), Some("mlflow"));
        assert_eq!(named(Some("Bearer s3cret")), None);
    }
}
