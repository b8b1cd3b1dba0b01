//! The `/v1` surface described: `/openapi.json` puts together what the services of a process say of their routes, and `/docs`
//! shows it without anything from elsewhere.
//!
//! A service keeps its document by hand beside its routes, and a test holds the two together, path by path and verb by verb.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use serde_json::{Map, Value, json};

use crate::Context;

/// The page that shows the document.
const PAGE: &str = include_str!("docs.html");

/// What the services of this process said of their routes.
#[derive(Clone, Default)]
struct Documents(Arc<Mutex<Vec<&'static str>>>);

/// Adds a service's document to what this process shows. Saying it twice is saying it once.
pub fn describe(context: &Context, document: &'static str) {
    let documents = context.shared(|_| Documents::default());
    let mut known = documents.0.lock().expect("no holder of this lock can panic");
    if !known.contains(&document) {
        known.push(document);
    }
}

/// The routes of the document and its page.
pub(crate) fn routes() -> Router<Context> {
    Router::new().route("/openapi.json", get(show)).route("/docs", get(|| async { Html(PAGE) }))
}

async fn show(State(context): State<Context>) -> Response {
    let documents = context.shared(|_| Documents::default());
    let known = documents.0.lock().expect("no holder of this lock can panic").clone();
    ([(header::CONTENT_TYPE, "application/json")], together(&known).to_string()).into_response()
}

/// One document of several: their paths and components side by side.
fn together(documents: &[&str]) -> Value {
    let (mut paths, mut components) = (Map::new(), Map::new());
    for document in documents {
        let read: Value = serde_json::from_str(document).unwrap_or_default(); // a test of its service reads it too
        add(&mut paths, &read["paths"]);
        for (kind, named) in read["components"].as_object().into_iter().flatten() {
            let of_kind = components.entry(kind.clone()).or_insert_with(|| json!({}));
            if let Value::Object(of_kind) = of_kind {
                add(of_kind, named);
            }
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Foretime",
            "version": "1",
            "description": "Errors are RFC 9457 problem documents. The paths of Feast's feature server and of MLflow are served \
                            beside these and are documented by Feast and MLflow.",
        },
        "paths": paths,
        "components": components,
    })
}

fn add(to: &mut Map<String, Value>, from: &Value) {
    for (key, value) in from.as_object().into_iter().flatten() {
        to.insert(key.clone(), value.clone());
    }
}

/// A router that remembers its paths, so that a test can hold a document against it.
pub struct Listed<S> {
    /// The routes.
    pub router: Router<S>,
    /// Their paths.
    pub paths: Vec<String>,
}

impl<S: Clone + Send + Sync + 'static> Default for Listed<S> {
    fn default() -> Self {
        Self { router: Router::new(), paths: vec![] }
    }
}

impl<S: Clone + Send + Sync + 'static> Listed<S> {
    /// Adds a route.
    pub fn route(mut self, path: &str, methods: MethodRouter<S>) -> Self {
        self.router = self.router.route(path, methods);
        self.paths.push(path.to_owned());
        self
    }
}

/// What is wrong with a document, for a service's test: paths that it lacks or has too many, and references that lead
/// nowhere.
pub fn faults(document: &str, paths: &[String]) -> Vec<String> {
    let read: Value = match serde_json::from_str(document) {
        Ok(read) => read,
        Err(error) => return vec![format!("it is no JSON: {error}")],
    };
    let described: BTreeSet<&str> =
        read["paths"].as_object().into_iter().flatten().map(|(path, _)| path.as_str()).collect();
    let routed: BTreeSet<&str> = paths.iter().map(String::as_str).collect();
    let lacking = routed.difference(&described).map(|path| format!("`{path}` is not described"));
    let extra = described.difference(&routed).map(|path| format!("`{path}` is no route"));
    let mut faults: Vec<String> = lacking.chain(extra).collect();
    let mut open = vec![&read];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(reference)) = map.get("$ref")
                    && read.pointer(reference.trim_start_matches('#')).is_none()
                {
                    faults.push(format!("`{reference}` leads nowhere"));
                }
                open.extend(map.values());
            }
            Value::Array(list) => open.extend(list),
            _ => {}
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_stand_side_by_side() {
        let one = r##"{"paths":{"/a":{}},"components":{"schemas":{"A":{"$ref":"#/components/schemas/B"}}}}"##;
        let other = r#"{"paths":{"/b":{}},"components":{"schemas":{"B":{}}}}"#;
        let both = together(&[one, other]);
        assert_eq!(both["paths"], json!({ "/a": {}, "/b": {} }));
        assert!(both.pointer("/components/schemas/B").is_some());
    }

    #[test]
    fn a_document_that_lies_is_found_out() {
        let document = r##"{"paths":{"/a":{"get":{"$ref":"#/components/x"}}}}"##;
        let found = faults(document, &["/b".to_owned()]);
        assert_eq!(found, ["`/b` is not described", "`/a` is no route", "`#/components/x` leads nowhere"]);
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        assert!(!PAGE.contains("http://") && !PAGE.contains("https://"), "the page names another host");
    }
}
