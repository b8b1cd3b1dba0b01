//! What the worker measures.

use prometheus::{HistogramVec, IntCounterVec, IntGaugeVec};
use service_kit::Context;
use service_kit::metrics::Metering;

/// What the worker measures.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// Answers, by model and version.
    pub(crate) predictions: IntCounterVec,
    /// How long it took to answer a request.
    pub(crate) predict_seconds: HistogramVec,
    /// How long training took, by model.
    pub(crate) training_seconds: HistogramVec,
    /// Rows that shared a pass, by model.
    pub(crate) batch_rows: HistogramVec,
    /// Requests that wait, by model.
    pub(crate) waiting: IntGaugeVec,
    /// Requests that were not answered, by model and why: `full` or `late`.
    pub(crate) rejected: IntCounterVec,
}

impl Metrics {
    /// The metrics of this process.
    pub(crate) fn of(context: &Context) -> Self {
        context.shared(Self::made)
    }

    /// Makes them.
    pub(crate) fn made(metering: &Metering) -> Self {
        Self {
            predictions: metering.counter(
                "foretime_predictions_total",
                "Rows that were answered.",
                &["model", "version"],
            ),
            predict_seconds: metering.histogram(
                "foretime_predict_duration_seconds",
                "How long it took to answer a request.",
                &["model"],
                vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0],
            ),
            training_seconds: metering.histogram(
                "foretime_training_duration_seconds",
                "How long it took to train, calibrate and evaluate.",
                &["model"],
                vec![1.0, 5.0, 15.0, 60.0, 300.0, 1_800.0],
            ),
            batch_rows: metering.histogram(
                "foretime_predict_batch_rows",
                "Rows that shared one pass through a model.",
                &["model"],
                vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1_024.0],
            ),
            waiting: metering.gauge(
                "foretime_predict_queue_requests",
                "Requests that wait for a model.",
                &["model"],
            ),
            rejected: metering.counter(
                "foretime_predict_rejected_total",
                "Requests that a model had no time for, by why.",
                &["model", "why"],
            ),
        }
    }
}
