//! What the worker measures.

use prometheus::{HistogramVec, IntCounterVec, Registry};
use service_kit::Context;
use service_kit::metrics::{counter, histogram};

/// What the worker measures.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// Answers, by model and version.
    pub(crate) predictions: IntCounterVec,
    /// How long it took to answer a request.
    pub(crate) predict_seconds: HistogramVec,
    /// How long training took, by model.
    pub(crate) training_seconds: HistogramVec,
}

impl Metrics {
    /// The metrics of this process.
    pub(crate) fn of(context: &Context) -> Self {
        context.shared(Self::register)
    }

    fn register(registry: &Registry) -> Self {
        let metrics = Self {
            predictions: counter(
                "foretime_predictions_total",
                "Rows that were answered.",
                &["model", "version"],
            ),
            predict_seconds: histogram(
                "foretime_predict_duration_seconds",
                "How long it took to answer a request.",
                &["model"],
                vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0],
            ),
            training_seconds: histogram(
                "foretime_training_duration_seconds",
                "How long it took to train, calibrate and evaluate.",
                &["model"],
                vec![1.0, 5.0, 15.0, 60.0, 300.0, 1_800.0],
            ),
        };
        registry.register(Box::new(metrics.predictions.clone())).ok();
        registry.register(Box::new(metrics.predict_seconds.clone())).ok();
        registry.register(Box::new(metrics.training_seconds.clone())).ok();
        metrics
    }
}
