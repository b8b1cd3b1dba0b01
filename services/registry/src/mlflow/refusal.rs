//! Errors as MLflow's clients read them: a code, a message, and the status that the code stands for.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use domain::{Fault, Remedy};
use serde_json::json;
use service_kit::problem::log_if_ours;

use crate::Error;

/// MLflow's error codes, as far as this server answers with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    InvalidParameterValue,
    BadRequest,
    ResourceAlreadyExists,
    ResourceDoesNotExist,
    EndpointNotFound,
    PermissionDenied,
    ResourceConflict,
    InternalError,
    TemporarilyUnavailable,
}

impl Code {
    fn name(self) -> &'static str {
        match self {
            Self::InvalidParameterValue => "INVALID_PARAMETER_VALUE",
            Self::BadRequest => "BAD_REQUEST",
            Self::ResourceAlreadyExists => "RESOURCE_ALREADY_EXISTS",
            Self::ResourceDoesNotExist => "RESOURCE_DOES_NOT_EXIST",
            Self::EndpointNotFound => "ENDPOINT_NOT_FOUND",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::ResourceConflict => "RESOURCE_CONFLICT",
            Self::InternalError => "INTERNAL_ERROR",
            Self::TemporarilyUnavailable => "TEMPORARILY_UNAVAILABLE",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::InvalidParameterValue | Self::BadRequest | Self::ResourceAlreadyExists => {
                StatusCode::BAD_REQUEST
            }
            Self::ResourceDoesNotExist | Self::EndpointNotFound => StatusCode::NOT_FOUND,
            Self::PermissionDenied => StatusCode::FORBIDDEN,
            Self::ResourceConflict => StatusCode::CONFLICT,
            Self::InternalError => StatusCode::INTERNAL_SERVER_ERROR,
            Self::TemporarilyUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// A request was not met.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refusal {
    /// What MLflow calls it.
    pub(crate) code: Code,
    /// What people read.
    pub(crate) message: String,
    /// A status other than the code's, such as 405 or 413.
    pub(crate) status: Option<StatusCode>,
    /// What the gate said, if one refused.
    pub(crate) details: Option<serde_json::Value>,
}

impl Refusal {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), status: None, details: None }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidParameterValue, message)
    }

    pub(crate) fn missing(message: impl Into<String>) -> Self {
        Self::new(Code::ResourceDoesNotExist, message)
    }

    pub(crate) fn exists(message: impl Into<String>) -> Self {
        Self::new(Code::ResourceAlreadyExists, message)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        log_if_ours(&error);
        let code = match error.remedy() {
            Remedy::FixRequest | Remedy::SendLess => Code::InvalidParameterValue,
            Remedy::LookElsewhere => Code::ResourceDoesNotExist,
            Remedy::AskPermission => Code::PermissionDenied,
            Remedy::ResolveConflict => Code::ResourceConflict,
            Remedy::RetryLater | Remedy::SlowDown | Remedy::MakeRoom => Code::TemporarilyUnavailable,
            Remedy::ReportBug => Code::InternalError,
        };
        let message = match code {
            Code::InternalError => "the server failed; its log says why".to_owned(),
            _ => error.to_string(),
        };
        Self { details: error.details(), ..Self::new(code, message) }
    }
}

impl From<storage::Error> for Refusal {
    fn from(error: storage::Error) -> Self {
        Error::from(error).into()
    }
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        Error::from(error).into()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut body = json!({ "error_code": self.code.name(), "message": self.message });
        if let Some(serde_json::Value::Object(details)) = self.details {
            body.as_object_mut().expect("built as an object").extend(details);
        }
        (self.status.unwrap_or_else(|| self.code.status()), Json(body)).into_response()
    }
}
