//! Who may ask: a bearer token, or basic authentication with it as the password (what MLflow clients send).

use std::convert::Infallible;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

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
    /// Their name; with a shared token it is a claim, in the user name of basic authentication.
    pub name: String,
    /// What they may do.
    pub role: Role,
}

impl Principal {
    /// Whoever gave no name.
    fn of(headers: &HeaderMap, role: Role) -> Self {
        let name = basic(headers).map(|(name, _)| String::from_utf8_lossy(&name).into_owned());
        let name = name.filter(|name| !name.is_empty()).unwrap_or_else(|| "anonymous".to_owned());
        Self { name, role }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Principal {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let known = parts.extensions.get::<Self>().cloned();
        Ok(known.unwrap_or_else(|| Self::of(&parts.headers, Role::Reader)))
    }
}

/// Lets a request through if it shows the token, or if no token is set (then only loopback can ask).
pub async fn require_token(
    State(token): State<Option<SecretString>>,
    mut request: Request,
    next: Next,
) -> Response {
    let shown = match &token {
        None => true,
        Some(token) => shows(request.headers(), token.expose_secret()),
    };
    if shown {
        let principal = Principal::of(request.headers(), Role::Admin);
        request.extensions_mut().insert(principal);
    } else if !matches!(request.uri().path(), "/healthz" | "/readyz") {
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer, Basic realm=\"foretime\"")])
            .into_response();
    }
    next.run(request).await
}

fn shows(headers: &HeaderMap, token: &str) -> bool {
    if let Some((_, password)) = basic(headers) {
        return same(&password, token.as_bytes());
    }
    credentials(headers, "bearer").is_some_and(|shown| same(shown.as_bytes(), token.as_bytes()))
}

/// What follows a scheme in `Authorization`.
fn credentials<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    let (named, value) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    named.eq_ignore_ascii_case(scheme).then(|| value.trim())
}

/// The user name and the password of basic authentication.
fn basic(headers: &HeaderMap) -> Option<(Vec<u8>, Vec<u8>)> {
    let pair = BASE64.decode(credentials(headers, "basic")?).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    Some((pair[..colon].to_vec(), pair[colon + 1..].to_vec()))
}

/// Equality in a time that does not tell how much was right.
fn same(shown: &[u8], token: &[u8]) -> bool {
    shown.ct_eq(token).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(authorization: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, authorization.parse().unwrap())])
    }

    #[test]
    fn the_token_is_accepted_as_bearer_and_as_password() {
        assert!(shows(&headers("Bearer s3cret"), "s3cret"));
        assert!(shows(&headers("Basic bWxmbG93OnMzY3JldA=="), "s3cret")); // mlflow:s3cret
    }

    #[test]
    fn anything_else_is_refused() {
        for shown in ["Bearer s3cre", "Bearer s3cretx", "Basic bWxmbG93Og==", "Basic !!", "s3cret", ""] {
            assert!(!shows(&headers(shown), "s3cret"), "{shown}");
        }
        assert!(!shows(&HeaderMap::new(), "s3cret"));
    }

    #[test]
    fn the_user_name_says_who_asks() {
        assert_eq!(Principal::of(&headers("Basic bWxmbG93OnMzY3JldA=="), Role::Admin).name, "mlflow");
        assert_eq!(Principal::of(&headers("Bearer s3cret"), Role::Admin).name, "anonymous");
    }
}
