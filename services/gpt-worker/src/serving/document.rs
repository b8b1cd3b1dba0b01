//! What `/openapi.json` says of the worker.

/// The document.
pub(crate) const DOCUMENT: &str = include_str!("../openapi.json");
