//! The `/v1` surface described: `/openapi.json`, and a page at `/docs` that shows it without anything from elsewhere.
//!
//! The document is kept by hand in `openapi.json`; a test holds it against the router, path by path.

use axum::Router;
use axum::http::header;
use axum::response::{Html, IntoResponse};
use axum::routing::{MethodRouter, get};

use crate::FeatureStore;

/// The document.
const DOCUMENT: &str = include_str!("openapi.json");

/// The page that shows it.
const PAGE: &str = include_str!("docs.html");

/// The routes of the document itself.
pub(crate) fn router() -> Router<FeatureStore> {
    let document = || async { ([(header::CONTENT_TYPE, "application/json")], DOCUMENT).into_response() };
    Router::new().route("/openapi.json", get(document)).route("/docs", get(|| async { Html(PAGE) }))
}

/// A router that remembers its paths.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    /// The routes.
    pub(crate) router: Router<FeatureStore>,
    /// Their paths.
    pub(crate) paths: Vec<&'static str>,
}

impl Listed {
    /// Adds a route.
    pub(crate) fn route(mut self, path: &'static str, methods: MethodRouter<FeatureStore>) -> Self {
        self.router = self.router.route(path, methods);
        self.paths.push(path);
        self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn the_document_describes_every_route_and_no_other() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let described: BTreeSet<&str> =
            document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        let routed: BTreeSet<&str> = crate::v1().paths.into_iter().collect();
        assert_eq!(described, routed);
    }

    #[test]
    fn every_reference_of_the_document_leads_somewhere() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let mut open = vec![&document];
        let mut seen = 0;
        while let Some(value) = open.pop() {
            match value {
                Value::Object(map) => {
                    if let Some(Value::String(reference)) = map.get("$ref") {
                        seen += 1;
                        let pointer = reference.trim_start_matches('#');
                        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
                    }
                    open.extend(map.values());
                }
                Value::Array(list) => open.extend(list),
                _ => {}
            }
        }
        assert!(seen > 10, "only {seen} references were found");
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        assert!(!PAGE.contains("http://") && !PAGE.contains("https://"), "the page names another host");
    }
}
