//! Who may ask: a bearer token, or basic authentication with it as the password (what MLflow clients send).

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

/// Lets a request through if it shows the token, or if no token is set (then only loopback can ask).
pub async fn require_token(
    State(token): State<Option<SecretString>>,
    request: Request,
    next: Next,
) -> Response {
    let Some(token) = token else { return next.run(request).await };
    let open = matches!(request.uri().path(), "/healthz" | "/readyz");
    let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if open || shown.is_some_and(|shown| shows(shown, token.expose_secret())) {
        return next.run(request).await;
    }
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer, Basic realm=\"foretime\"")])
        .into_response()
}

fn shows(authorization: &str, token: &str) -> bool {
    match authorization.split_once(' ') {
        Some((scheme, value)) if scheme.eq_ignore_ascii_case("bearer") => {
            same(value.trim().as_bytes(), token.as_bytes())
        }
        Some((scheme, value)) if scheme.eq_ignore_ascii_case("basic") => BASE64
            .decode(value.trim())
            .ok()
            .and_then(|pair| {
                pair.iter().position(|byte| *byte == b':').map(|colon| pair[colon + 1..].to_vec())
            })
            .is_some_and(|password| same(&password, token.as_bytes())),
        _ => false,
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
}
