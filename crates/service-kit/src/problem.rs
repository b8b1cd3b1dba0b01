//! RFC 9457 problem documents: how any [`Fault`] leaves over HTTP.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::{Fault, Remedy};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Any [`Fault`] on its way out; `?` converts.
#[derive(Debug)]
pub struct Problem(Box<dyn Fault>);

impl<E: Fault> From<E> for Problem {
    fn from(fault: E) -> Self {
        Self(Box::new(fault))
    }
}

impl Problem {
    /// The fault inside.
    pub fn fault(&self) -> &dyn Fault {
        &*self.0
    }
}

/// The status that tells a client what the remedy is.
pub fn status_of(remedy: Remedy) -> StatusCode {
    match remedy {
        Remedy::FixRequest => StatusCode::UNPROCESSABLE_ENTITY,
        Remedy::LookElsewhere => StatusCode::NOT_FOUND,
        Remedy::AskPermission => StatusCode::FORBIDDEN,
        Remedy::ResolveConflict => StatusCode::CONFLICT,
        Remedy::SendLess => StatusCode::PAYLOAD_TOO_LARGE,
        Remedy::SendInTime => StatusCode::REQUEST_TIMEOUT,
        Remedy::MakeRoom => StatusCode::INSUFFICIENT_STORAGE,
        Remedy::RetryLater => StatusCode::SERVICE_UNAVAILABLE,
        Remedy::SlowDown => StatusCode::TOO_MANY_REQUESTS,
        Remedy::ReportBug => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Logs a fault that is ours, with its causes; a caller's fault is only told to the caller.
pub fn log_if_ours(fault: &dyn Fault) {
    if matches!(fault.remedy(), Remedy::ReportBug | Remedy::RetryLater | Remedy::MakeRoom) {
        let causes = causes(fault);
        tracing::error!(code = fault.code(), error = %fault, causes, "request failed");
    }
}

/// A fault's causes, outermost first, joined by `: `.
pub fn causes(fault: &dyn std::error::Error) -> String {
    let mut said = Vec::new();
    let mut next = fault.source();
    while let Some(cause) = next {
        said.push(cause.to_string());
        next = cause.source();
    }
    said.join(": ")
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = status_of(self.0.remedy());
        log_if_ours(&*self.0);
        let mut document = json!({
            "type": format!("/problems/{}", self.0.code()),
            "title": status.canonical_reason(),
            "status": status.as_u16(),
        });
        // The text of a fault of ours stays in the log: it may name what a caller should not see.
        if status != StatusCode::INTERNAL_SERVER_ERROR {
            document["detail"] = Value::String(self.0.to_string());
        }
        if let Some(Value::Object(details)) = self.0.details() {
            document.as_object_mut().expect("built as an object").extend(details);
        }
        let mut response =
            (status, [(header::CONTENT_TYPE, "application/problem+json")], Json(document)).into_response();
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        }
        response
    }
}

/// What the router refuses by itself (no such route, another method, a path or query that does not parse), said as a problem too.
pub(crate) async fn told(answer: Response) -> Response {
    let plain = |kind: &header::HeaderValue| kind.as_bytes().starts_with(b"text/plain");
    if !answer.status().is_client_error() || !answer.headers().get(header::CONTENT_TYPE).is_none_or(plain) {
        return answer;
    }
    let (mut parts, body) = answer.into_parts();
    let said = axum::body::to_bytes(body, 1 << 16).await.unwrap_or_default();
    let (code, detail) = match parts.status {
        StatusCode::NOT_FOUND => {
            ("no-such-route", "there is no such route; `/openapi.json` lists them".into())
        }
        StatusCode::METHOD_NOT_ALLOWED => {
            ("wrong-method", "the route is asked by other methods, which the header `Allow` names".into())
        }
        _ => ("malformed-request", String::from_utf8_lossy(&said)),
    };
    let document = json!({
        "type": format!("/problems/{code}"),
        "title": parts.status.canonical_reason(),
        "status": parts.status.as_u16(),
        "detail": detail,
    });
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/problem+json"));
    Response::from_parts(parts, document.to_string().into())
}

/// A request body was not the JSON that the route takes.
#[derive(Debug, thiserror::Error)]
#[error("the body does not fit at `{path}`: {message}")]
pub struct MalformedBody {
    /// Where in the document.
    pub path: String,
    /// What is wrong there.
    pub message: String,
}

impl Fault for MalformedBody {
    fn remedy(&self) -> Remedy {
        Remedy::FixRequest
    }
    fn code(&self) -> &'static str {
        "malformed-body"
    }
}

/// A request's body is larger than the server takes.
#[derive(Debug, thiserror::Error)]
#[error(
    "the body is larger than this server takes; send it in several requests, or raise `http.body_limit_bytes`"
)]
pub struct BodyTooLarge;

impl Fault for BodyTooLarge {
    fn remedy(&self) -> Remedy {
        Remedy::SendLess
    }
    fn code(&self) -> &'static str {
        "body-too-large"
    }
}

/// A whole body in memory, of any kind; one over the limit is a problem like any other.
#[derive(Debug)]
pub struct WholeBody(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for WholeBody {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let read = Bytes::from_request(request, state).await.map_err(IntoResponse::into_response);
        read.map(Self).map_err(|refusal| match refusal.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Problem::from(BodyTooLarge).into_response(),
            _ => refusal,
        })
    }
}

/// A JSON body, whatever its content type says; an error names the path inside the document.
#[derive(Debug)]
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned> JsonBody<T> {
    /// Reads a body.
    ///
    /// # Errors
    /// [`MalformedBody`] names the place.
    pub fn parse(bytes: &[u8]) -> Result<T, MalformedBody> {
        if let Ok(read) = serde_json::from_slice(bytes) {
            return Ok(read);
        }
        // Only what is refused is read a second time, by a reader that keeps account of the place.
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        serde_path_to_error::deserialize(&mut reader).map_err(|error| MalformedBody {
            path: error.path().to_string(),
            message: error.inner().to_string(),
        })
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let WholeBody(bytes) = WholeBody::from_request(request, state).await?;
        Self::parse(&bytes).map(Self).map_err(|malformed| Problem::from(malformed).into_response())
    }
}
