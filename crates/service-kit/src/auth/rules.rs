//! What a role may ask for, and what is written down, by method and path: one table for all services.

use axum::http::Method;

use super::Role;

/// Requests by POST that only look. Whole paths: what people name may end in any word.
const LOOKS: [&str; 6] = [
    "/get-online-features",
    "/v1/features/online",
    "/v1/predict",
    "/v1/embeddings",
    "/v1/generate",
    "/invocations",
];
/// Those of them that are MLflow's, below `/api/2.0/` and its like.
const MLFLOW_LOOKS: [&str; 5] = [
    "mlflow/experiments/search",
    "mlflow/experiments/search-datasets",
    "mlflow/runs/search",
    "mlflow/logged-models/search",
    "mlflow/registered-models/get-latest-versions",
];
/// What only administrators may see and change. MLflow's users are not among it: their routes refuse in MLflow's own words.
const ADMINISTRATION: [&str; 2] = ["/v1/tokens", "/v1/audit"];
/// The beginnings of paths of data that comes and goes all the time: who sent it is not written down for each request.
const DATA: [&str; 8] = [
    "/v1/sources/",
    "/v1/labels",
    "/v1/prediction-log",
    "/v1/training-",
    "/v1/monitors/",
    "/push",
    "/write-to-online-store",
    "/materialize",
];
/// Those of them that are MLflow's, below `/api/2.0/` and its like.
const MLFLOW_DATA: [&str; 4] =
    ["mlflow/runs/", "mlflow/experiments/", "mlflow/logged-models", "mlflow-artifacts/"];

/// Whether a role may send such a request at all; handlers may ask for more.
pub(super) fn may(role: Role, method: &Method, path: &str) -> bool {
    if ADMINISTRATION.iter().any(|start| path.starts_with(start)) {
        return role == Role::Admin;
    }
    role >= Role::Writer || only_looks(method, path)
}

/// Whether a request is to be written down.
pub(super) fn is_audited(method: &Method, path: &str) -> bool {
    let is_data = match of_mlflow(path) {
        Some(path) => MLFLOW_DATA.iter().any(|start| path.starts_with(start)),
        None => DATA.iter().any(|start| path.starts_with(start)),
    };
    !only_looks(method, path) && !is_data
}

fn only_looks(method: &Method, path: &str) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) || (*method == Method::POST && asks(path))
}

/// Whether what is posted there is a question.
fn asks(path: &str) -> bool {
    if let Some(path) = of_mlflow(path) {
        return MLFLOW_LOOKS.contains(&path);
    }
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    LOOKS.contains(&path)
        || matches!(
            segments[..],
            ["v1", "datasets", _, "online"]
                | ["v1", "models", _, "versions", _, "verify"]
                | ["v2", "models", _, "infer"]
                | ["v2", "models", _, "versions", _, "infer"]
        )
}

/// What follows the version in the path of one of MLflow's routes; some of its clients leave a slash out.
fn of_mlflow(path: &str) -> Option<&str> {
    let versioned = path.strip_prefix("/api/").or_else(|| path.strip_prefix("/ajax-api/"))?;
    Some(versioned.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').trim_start_matches('/'))
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
            (Method::POST, "/invocations", true),
            (Method::POST, "/v1/models/late/versions/3/verify", true),
            (Method::POST, "/v2/models/late/infer", true),
            (Method::POST, "/v2/models/late/versions/3/infer", true),
            (Method::POST, "/ajax-api/2.0/mlflow/logged-models/search", true),
            (Method::POST, "/api/2.0mlflow/experiments/search-datasets", true),
            (Method::POST, "/api/2.0/mlflow/registered-models/get-latest-versions", true),
        ] {
            assert_eq!(may(Role::Reader, &method, path), may_reader, "{method} {path}");
            assert!(may(Role::Writer, &method, path), "{method} {path}");
        }
    }

    #[test]
    fn a_name_that_sounds_like_a_question_lets_nobody_change_what_bears_it_nor_hides_who_did() {
        for path in [
            "/v1/models/late/aliases/search",
            "/v1/models/late/aliases/verify",
            "/v1/models/late/aliases/invocations",
            "/v1/models/push-late/aliases/champion",
            "/v1/models/materialize/aliases/online",
            "/v1/entities/v1/sources/erase",
        ] {
            assert!(!may(Role::Reader, &Method::POST, path) && is_audited(&Method::POST, path), "{path}");
        }
        for path in
            ["/api/2.0/mlflow-artifacts/mpu/create/1/run/artifacts/search", "/api/2.0/mlflow/runs/delete"]
        {
            assert!(!may(Role::Reader, &Method::POST, path), "{path}");
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
