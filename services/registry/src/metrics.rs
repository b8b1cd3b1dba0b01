//! What the registry measures.

use prometheus::{IntCounter, IntCounterVec, Registry};
use service_kit::Context;
use service_kit::metrics::counter;

/// What the registry measures.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// Asked moves of aliases, by model, alias and outcome: `moved`, `refused`, `removed`, `overridden`,
    /// `rolled_back` or `unchanged`.
    pub(crate) alias_moves: IntCounterVec,
    /// Bytes that clients uploaded.
    pub(crate) uploaded_bytes: IntCounter,
}

impl Metrics {
    /// The metrics of this process.
    pub(crate) fn of(context: &Context) -> Self {
        context.shared(Self::register)
    }

    fn register(registry: &Registry) -> Self {
        let metrics = Self {
            alias_moves: counter(
                "foretime_registry_alias_moves_total",
                "Asked moves of aliases.",
                &["model", "alias", "outcome"],
            ),
            uploaded_bytes: IntCounter::new(
                "foretime_registry_uploaded_bytes_total",
                "Bytes that clients uploaded.",
            )
            .expect("the name is a valid metric name"),
        };
        registry.register(Box::new(metrics.alias_moves.clone())).ok();
        registry.register(Box::new(metrics.uploaded_bytes.clone())).ok();
        metrics
    }
}
