//! What a role may ask for, and what is written down, by method and path: one table for all services.

use axum::http::Method;

use super::Role;

/// Requests by POST that only look.
const LOOKS: [&str; 10] = [
    "/get-online-features",
    "/v1/features/online",
    "/v1/predict",
    "/v1/embeddings",
    "/v1/generate",
    "/invocations",
    "/search",
    "/search-datasets",
    "/get-latest-versions",
    "/verify",
];
/// What only administrators may see and change. MLflow's users are not among it: their routes refuse in MLflow's own words.
const ADMINISTRATION: [&str; 2] = ["/v1/tokens", "/v1/audit"];
/// Data that comes and goes all the time: who sent it is not written down for each request.
const DATA: [&str; 12] = [
    "/v1/sources/",
    "/v1/labels",
    "/v1/prediction-log",
    "/v1/training-",
    "/v1/monitors/",
    "/push",
    "/write-to-online-store",
    "/materialize",
    "/mlflow/runs/",
    "/mlflow/experiments/",
    "/mlflow/logged-models",
    "/mlflow-artifacts/",
];

/// Whether a role may send such a request at all; handlers may ask for more.
pub(super) fn may(role: Role, method: &Method, path: &str) -> bool {
    if ADMINISTRATION.iter().any(|start| path.starts_with(start)) {
        return role == Role::Admin;
    }
    role >= Role::Writer || only_looks(method, path)
}

/// Whether a request is to be written down.
pub(super) fn is_audited(method: &Method, path: &str) -> bool {
    !only_looks(method, path) && !DATA.iter().any(|part| path.contains(part))
}

fn only_looks(method: &Method, path: &str) -> bool {
    let asks = || {
        LOOKS.iter().any(|end| path.ends_with(end))
            || (path.starts_with("/v1/datasets/") && path.ends_with("/online"))
            || path.starts_with("/v2/")
    };
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) || (*method == Method::POST && asks())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_looks_by_whichever_method_and_changes_nothing() {
        for (method, path, may_reader) in [
            (Method::GET, "/v1/models", true),
            (Method::POST, "/v1/predict", true),
            (Method::POST, "/api/2.0/mlflow/runs/search", true),
            (Method::POST, "/v1/datasets/late/online", true),
            (Method::POST, "/v1/models/late/aliases/champion", false),
            (Method::PUT, "/v1/definitions", false),
            (Method::DELETE, "/v1/silences/1", false),
            (Method::POST, "/api/2.0/mlflow/runs/create", false),
            (Method::POST, "/push", false),
        ] {
            assert_eq!(may(Role::Reader, &method, path), may_reader, "{method} {path}");
            assert!(may(Role::Writer, &method, path), "{method} {path}");
        }
    }

    #[test]
    fn only_administrators_see_and_change_who_may_ask() {
        for path in ["/v1/tokens", "/v1/tokens/1/revoke", "/v1/audit"] {
            assert!(!may(Role::Writer, &Method::GET, path) && may(Role::Admin, &Method::GET, path), "{path}");
        }
    }

    #[test]
    fn changes_are_written_down_and_data_is_not() {
        assert!(is_audited(&Method::PUT, "/v1/definitions"));
        assert!(is_audited(&Method::POST, "/v1/entities/plane/erase"));
        assert!(is_audited(&Method::POST, "/api/2.0/mlflow/registered-models/alias"));
        assert!(!is_audited(&Method::POST, "/api/2.0/mlflow/runs/log-metric"));
        assert!(!is_audited(&Method::POST, "/v1/sources/flights/rows"));
        assert!(!is_audited(&Method::GET, "/v1/tokens"));
    }
}
