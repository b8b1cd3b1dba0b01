//! The door: who shows what, whether that opens this path, and the note of what was changed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use domain::Clock;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use sqlx::PgPool;
use storage::audit::Entry;
use storage::tokens::Token;
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::rules::{is_audited, may};
use super::{Forbidden, Principal, Role};
use crate::passwords::Remembered;
use crate::{Context, Problem};

/// How long a token's row is believed: one that is revoked opens nothing at most that much later.
const BELIEVED: Duration = Duration::from_secs(5);
/// What every token of the table begins with.
const PREFIX: &str = "ft_";
/// The header by which MLflow's clients name a workspace, which is a project.
const WORKSPACE: &str = "x-mlflow-workspace";

/// Rows of tokens that were read a moment ago.
type Believed = Arc<Mutex<HashMap<Uuid, (Option<Token>, Instant)>>>;

/// What the door-keeper knows.
#[derive(Clone)]
pub(crate) struct Guard {
    token: Option<SecretString>,
    project: String,
    db: PgPool,
    clock: Arc<dyn Clock>,
    remembered: Remembered,
    believed: Believed,
}

/// A token as it is shown: `ft_<id>_<secret>`.
pub(super) fn shown(id: Uuid, secret: &str) -> String {
    format!("{PREFIX}{}_{secret}", id.simple())
}

/// Id and secret of a token of the table.
fn parts(token: &str) -> Option<(Uuid, &str)> {
    let (id, secret) = token.strip_prefix(PREFIX)?.split_once('_')?;
    Some((Uuid::try_parse(id).ok()?, secret))
}

impl Guard {
    /// The guard of a process.
    pub(crate) fn of(context: &Context) -> Self {
        Self {
            token: context.config.http.token.clone(),
            project: context.config.project.clone(),
            db: context.db.clone(),
            clock: Arc::clone(&context.machine_clock),
            remembered: Remembered::default(),
            believed: Believed::default(),
        }
    }

    /// Who shows these headers, if they may ask for this path.
    async fn admits(&self, path: &str, headers: &HeaderMap) -> Option<Principal> {
        let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let name = named(authorization);
        let secret = authorization.and_then(secret_of);
        if let Some((id, secret)) = secret.as_deref().and_then(parts) {
            return self.holder(id, secret, headers).await;
        }
        let Some(token) = &self.token else { return Some(Principal { name, role: Role::Admin }) };
        if secret.is_some_and(|secret| same(secret.as_bytes(), token.expose_secret().as_bytes())) {
            return Some(Principal { name, role: Role::Admin });
        }
        if is_mlflows(path) { self.user(authorization?).await } else { None }
    }

    /// Who holds a token of the table, if it is good and opens the project that is asked for.
    async fn holder(&self, id: Uuid, secret: &str, headers: &HeaderMap) -> Option<Principal> {
        let token = self.token(id).await?;
        let wanted =
            headers.get(WORKSPACE).map_or(Some(self.project.as_str()), |value| value.to_str().ok())?;
        let opens = token.project.as_deref().is_none_or(|project| project == wanted.trim());
        if !opens || !token.is_good(self.clock.now()) {
            return None;
        }
        let right = self.remembered.is_right(&id.to_string(), secret, Some(&token.hash)).await;
        let role = Role::named(&token.role)?;
        right.then_some(Principal { name: Some(token.name), role })
    }

    async fn token(&self, id: Uuid) -> Option<Token> {
        let known = self.believed.lock().expect("no holder of this lock can panic").get(&id).cloned();
        if let Some((token, _)) = known.filter(|(_, read)| read.elapsed() < BELIEVED) {
            return token;
        }
        let token = storage::tokens::find(&mut *self.db.acquire().await.ok()?, id).await.ok()?;
        let mut believed = self.believed.lock().expect("no holder of this lock can panic");
        believed.retain(|_, (_, read)| read.elapsed() < BELIEVED);
        believed.insert(id, (token.clone(), Instant::now()));
        token
    }

    async fn user(&self, authorization: &str) -> Option<Principal> {
        let (name, password) = basic(authorization)?;
        let mut conn = self.db.acquire().await.ok()?;
        let user = storage::users::find(&mut conn, &name).await.ok()?;
        drop(conn);
        let stored = user.as_ref().map(|user| user.password_hash.as_str());
        let right = self.remembered.is_right(&name, &password, stored).await;
        let role = if user?.is_admin { Role::Admin } else { Role::Writer };
        right.then_some(Principal { name: Some(name), role })
    }

    /// Writes down what was answered to somebody who changes things.
    async fn note(
        &self,
        principal: &Principal,
        method: &Method,
        path: String,
        status: StatusCode,
        request_id: Option<&str>,
    ) {
        let entry = Entry {
            audit_id: 0,
            at: self.clock.now(),
            actor: principal.shown().to_owned(),
            role: principal.role.as_str().to_owned(),
            method: method.to_string(),
            path,
            status: status.as_u16().into(),
            request_id: request_id.map(str::to_owned),
        };
        let added = match self.db.acquire().await {
            Ok(mut conn) => storage::audit::add(&mut conn, &entry).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = added {
            tracing::error!(%error, actor = entry.actor, path = entry.path, "a change could not be written down");
        }
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

/// Lets a request through if it shows who asks and their role may, or if no token is set (then only loopback can ask).
pub(crate) async fn guarded(guard: &Guard, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if is_open(path) {
        return next.run(request).await;
    }
    let Some(principal) = guard.admits(path, request.headers()).await else {
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer, Basic realm=\"foretime\"")])
            .into_response();
    };
    let method = request.method();
    if !may(principal.role, method, path) {
        return refused(&principal, method, path);
    }
    if !is_audited(method, path) {
        request.extensions_mut().insert(principal);
        return next.run(request).await;
    }
    let (method, path) = (method.clone(), path.to_owned());
    let request_id = request.headers().get("x-request-id").cloned();
    request.extensions_mut().insert(principal.clone());
    let response = next.run(request).await;
    let request_id = request_id.as_ref().and_then(|id| id.to_str().ok());
    guard.note(&principal, &method, path, response.status(), request_id).await;
    response
}

/// In the words of the protocol that was spoken: MLflow's clients read an error code.
fn refused(principal: &Principal, method: &Method, path: &str) -> Response {
    let what = if method == Method::GET { "see this" } else { "change this" };
    let needed = if principal.role == Role::Reader && method != Method::GET { "writer" } else { "admin" };
    let role = principal.role.as_str();
    let forbidden = Forbidden { who: principal.shown().to_owned(), role, what, needed };
    if is_mlflows(path) {
        let answer = json!({ "error_code": "PERMISSION_DENIED", "message": forbidden.to_string() });
        return (StatusCode::FORBIDDEN, Json(answer)).into_response();
    }
    Problem::from(forbidden).into_response()
}

/// The name in basic authentication.
fn named(authorization: Option<&str>) -> Option<String> {
    authorization.and_then(basic).map(|(name, _)| name).filter(|name| !name.is_empty())
}

/// What is shown as a proof: a bearer token, or the password of basic authentication.
fn secret_of(authorization: &str) -> Option<String> {
    match authorization.split_once(' ') {
        Some((scheme, value)) if scheme.eq_ignore_ascii_case("bearer") => Some(value.trim().to_owned()),
        _ => basic(authorization).map(|(_, password)| password),
    }
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

/// Equality in a time that does not tell how much was right.
fn same(shown: &[u8], token: &[u8]) -> bool {
    shown.ct_eq(token).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_accepted_as_bearer_and_as_password() {
        assert_eq!(secret_of("Bearer s3cret").as_deref(), Some("s3cret"));
        assert_eq!(secret_of("Basic bWxmbG93OnMzY3JldA==").as_deref(), Some("s3cret")); // mlflow:s3cret
    }

    #[test]
    fn anything_else_is_refused() {
        for shown in ["Bearer s3cre", "Bearer s3cretx", "Basic bWxmbG93Og==", "Basic !!", "s3cret", ""] {
            let secret = secret_of(shown).unwrap_or_default();
            assert!(!same(secret.as_bytes(), b"s3cret"), "{shown}");
        }
    }

    #[test]
    fn a_token_of_the_table_names_its_row() {
        let id = Uuid::from_u128(7);
        let token = shown(id, "abc_d-e");
        assert_eq!(parts(&token), Some((id, "abc_d-e")));
        assert!(
            ["ft_", "ft_7_x", "s3cret", "ft_00000000000000000000000000000007"]
                .iter()
                .all(|t| parts(t).is_none())
        );
    }

    #[test]
    fn the_user_name_says_who_asks() {
        assert_eq!(named(Some("Basic bWxmbG93OnMzY3JldA==")).as_deref(), Some("mlflow"));
        assert_eq!(named(Some("Bearer s3cret")), None);
    }
}
