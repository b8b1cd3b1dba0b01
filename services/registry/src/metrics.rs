//! What the registry measures.

use prometheus::{IntCounter, IntCounterVec};
use service_kit::Context;
use service_kit::metrics::Metering;

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
        context.shared(Self::made)
    }

    /// Makes them.
    pub(crate) fn made(metering: &Metering) -> Self {
        Self {
            alias_moves: metering.counter(
                "foretime_registry_alias_moves_total",
                "Asked moves of aliases.",
                &["model", "alias", "outcome"],
            ),
            uploaded_bytes: metering
                .counter("foretime_registry_uploaded_bytes_total", "Bytes that clients uploaded.", &[])
                .with_label_values::<&str>(&[]),
        }
    }
}
