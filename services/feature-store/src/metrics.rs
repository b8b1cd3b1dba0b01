//! What the feature store measures.

use prometheus::{HistogramVec, IntCounterVec};
use service_kit::Context;
use service_kit::metrics::Metering;

/// What the feature store measures.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// Rows that were sent, by source and what became of them.
    pub(crate) rows: IntCounterVec,
    /// Rows that were sent and are not served: older than what is, or of an erased entity; by source and why.
    pub(crate) not_served: IntCounterVec,
    /// Served values that were recomputed from the offline store, by what was found.
    pub(crate) parity: IntCounterVec,
    /// Files that no row named and that were removed, by where they lay.
    pub(crate) orphans: IntCounterVec,
    /// How long it took to make training sets.
    pub(crate) training_set_seconds: HistogramVec,
}

impl Metrics {
    /// The metrics of this process.
    pub(crate) fn of(context: &Context) -> Self {
        context.shared(Self::made)
    }

    /// Makes them.
    pub(crate) fn made(metering: &Metering) -> Self {
        Self {
            rows: metering.counter(
                "foretime_ingest_rows_total",
                "Rows that were sent to a source.",
                &["source", "how"],
            ),
            not_served: metering.counter(
                "foretime_ingest_rows_not_served_total",
                "Rows that were sent and are not served: older than what is, or of an erased entity.",
                &["source", "why"],
            ),
            parity: metering.counter(
                "foretime_parity_values_total",
                "Served values that were recomputed from the offline store.",
                &["view", "feature", "how"],
            ),
            orphans: metering.counter(
                "foretime_offline_orphans_removed_total",
                "Files that no row named, left by writers that were killed, and that were removed.",
                &["folder"],
            ),
            training_set_seconds: metering.histogram(
                "foretime_training_set_build_seconds",
                "How long it took to make training sets.",
                &["dataset"],
                vec![0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0],
            ),
        }
    }
}
