//! Errors as Feast's clients read them: a JSON text that holds a JSON object which names the exception class to raise.

use axum::Json;
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use domain::{Fault, Remedy};
use serde::de::DeserializeOwned;
use serde_json::json;
use service_kit::problem::{log_if_ours, status_of};
use service_kit::{JsonBody, WholeBody};

use crate::Error;

/// Any of our errors on its way to a Feast client.
#[derive(Debug)]
pub(crate) struct FeastError(Error);

impl<E: Into<Error>> From<E> for FeastError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl FeastError {
    fn class(&self) -> &'static str {
        match &self.0 {
            Error::UnknownFeature(frames::served::Unknown::View(..)) => "FeatureViewNotFoundException",
            Error::Undefined { kind: "feature_view", .. } => "FeatureViewNotFoundException",
            Error::Undefined { kind: "dataset", .. } => "FeatureServiceNotFoundException",
            Error::Undefined { kind: "source", .. } => "PushSourceNotFoundException",
            Error::UnknownFeature(_) | Error::Undefined { .. } => "FeastObjectNotFoundException",
            _ => "FeastError",
        }
    }
}

impl IntoResponse for FeastError {
    fn into_response(self) -> Response {
        log_if_ours(&self.0);
        let status = match &self.0 {
            Error::Undefined { kind: "source", .. } => axum::http::StatusCode::UNPROCESSABLE_ENTITY, // as Feast has it
            error => status_of(error.remedy()),
        };
        let message = match self.0.remedy() {
            Remedy::ReportBug => "internal error; the log holds its cause".to_owned(),
            _ => self.0.to_string(),
        };
        let detail = json!({ "module": "feast.errors", "class": self.class(), "message": message });
        (status, Json(detail.to_string())).into_response()
    }
}

/// A JSON body of a Feast path; one that does not fit is refused with 422 as FastAPI would.
#[derive(Debug)]
pub(crate) struct FeastBody<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for FeastBody<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let WholeBody(bytes) = WholeBody::from_request(request, state).await?;
        JsonBody::parse(&bytes).map(Self).map_err(|malformed| {
            let loc: Vec<&str> = std::iter::once("body").chain(malformed.path.split('.')).collect();
            let detail =
                json!({ "detail": [{ "type": "value_error", "loc": loc, "msg": malformed.message }] });
            (axum::http::StatusCode::UNPROCESSABLE_ENTITY, Json(detail)).into_response()
        })
    }
}
