//! What the monitor shows at `/metrics`.

use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};
use service_kit::Context;
use service_kit::metrics::{counter, gauge};

/// The monitor's own metrics.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// Judged measures, by monitor and verdict.
    pub(crate) windows: IntCounterVec,
    /// The latest distance of each input column, by monitor.
    pub(crate) drift_effect: GaugeVec,
    /// The latest expected calibration error over the trailing windows, by monitor.
    pub(crate) calibration_error: GaugeVec,
    /// The latest share of outcomes that came true, by monitor.
    pub(crate) label_rate: GaugeVec,
    /// Incidents, by monitor and state.
    pub(crate) incidents: IntGaugeVec,
    /// Attempts to deliver, by channel and what became of the message.
    pub(crate) notifications: IntCounterVec,
    /// How long receivers take, by channel.
    pub(crate) notification_seconds: HistogramVec,
}

impl Metrics {
    /// The metrics of this process.
    pub(crate) fn of(context: &Context) -> Self {
        context.shared(Self::register)
    }

    fn register(registry: &Registry) -> Self {
        let metrics = Self {
            windows: counter(
                "foretime_monitor_windows_total",
                "Measures that were judged, one a window and column.",
                &["monitor", "verdict"],
            ),
            drift_effect: floats(
                "foretime_drift_effect",
                "Distance of the latest window from the reference (KS or total variation).",
                &["monitor", "column"],
            ),
            calibration_error: floats(
                "foretime_calibration_error",
                "Expected calibration error over the trailing windows.",
                &["monitor"],
            ),
            label_rate: floats(
                "foretime_label_rate",
                "Share of outcomes that came true in the latest matured window.",
                &["monitor"],
            ),
            incidents: gauge("foretime_incidents", "Incidents, by state.", &["monitor", "state"]),
            notifications: counter(
                "foretime_notifications_total",
                "Attempts to deliver a notification, by channel and the state they left it in.",
                &["channel", "state"],
            ),
            notification_seconds: HistogramVec::new(
                HistogramOpts::new(
                    "foretime_notification_duration_seconds",
                    "How long a receiver took to take or refuse a notification.",
                )
                .buckets(vec![0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0]),
                &["channel"],
            )
            .expect("the name is a valid metric name"),
        };
        registry.register(Box::new(metrics.windows.clone())).ok();
        registry.register(Box::new(metrics.drift_effect.clone())).ok();
        registry.register(Box::new(metrics.calibration_error.clone())).ok();
        registry.register(Box::new(metrics.label_rate.clone())).ok();
        registry.register(Box::new(metrics.incidents.clone())).ok();
        registry.register(Box::new(metrics.notifications.clone())).ok();
        registry.register(Box::new(metrics.notification_seconds.clone())).ok();
        metrics
    }
}

fn floats(name: &str, help: &str, labels: &[&str]) -> GaugeVec {
    GaugeVec::new(Opts::new(name, help), labels).expect("the name is a valid metric name")
}
