//! Metrics shared by all services. Names have base units; a service's own metrics live in its own `metrics` module.

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};

use crate::Context;

/// What every service measures.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// How long requests took, by route, method and status.
    pub request_seconds: HistogramVec,
    /// Jobs that ended, by kind and how.
    pub jobs_ended: IntCounterVec,
    /// Jobs in the database, by kind and state.
    pub jobs: IntGaugeVec,
}

impl Metrics {
    /// The metrics of this process.
    pub fn of(context: &Context) -> Self {
        context.shared(Self::register)
    }

    fn register(registry: &Registry) -> Self {
        let metrics = Self {
            request_seconds: histogram(
                "foretime_http_request_duration_seconds",
                "How long requests took.",
                &["route", "method", "status"],
                vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0],
            ),
            jobs_ended: counter(
                "foretime_jobs_ended_total",
                "Jobs that ended, by how they did.",
                &["kind", "how"],
            ),
            jobs: gauge("foretime_jobs", "Jobs in the database, by state.", &["kind", "state"]),
        };
        registry.register(Box::new(metrics.request_seconds.clone())).ok();
        registry.register(Box::new(metrics.jobs_ended.clone())).ok();
        registry.register(Box::new(metrics.jobs.clone())).ok();
        metrics
    }
}

/// A histogram with labels.
///
/// # Panics
/// If the name or a label is not one that Prometheus allows.
pub fn histogram(name: &str, help: &str, labels: &[&str], buckets: Vec<f64>) -> HistogramVec {
    HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), labels)
        .expect("the name is a valid metric name")
}

/// A counter with labels.
///
/// # Panics
/// If the name or a label is not one that Prometheus allows.
pub fn counter(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    IntCounterVec::new(Opts::new(name, help), labels).expect("the name is a valid metric name")
}

/// A gauge of whole numbers with labels.
///
/// # Panics
/// If the name or a label is not one that Prometheus allows.
pub fn gauge(name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    IntGaugeVec::new(Opts::new(name, help), labels).expect("the name is a valid metric name")
}
