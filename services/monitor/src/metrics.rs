//! What the monitor shows at `/metrics`.

use prometheus::core::Collector;
use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};
use service_kit::Context;
use service_kit::metrics::{counter, gauge};

/// The monitor's own metrics.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// Judged measures, by monitor and verdict.
    pub(crate) windows: IntCounterVec,
    /// Served rows that were brought into profiles, by monitor.
    pub(crate) rows: IntCounterVec,
    /// The latest distance of each input column, by monitor.
    pub(crate) drift_effect: GaugeVec,
    /// The latest expected calibration error over the trailing windows, by monitor.
    pub(crate) calibration_error: GaugeVec,
    /// The latest share of outcomes that came true, by monitor.
    pub(crate) label_rate: GaugeVec,
    /// ln of what was won betting that a column moved, by monitor and column.
    pub(crate) drift_evidence: GaugeVec,
    /// The share of missing values of each column in the latest window.
    pub(crate) missing: GaugeVec,
    /// The latest area under the ROC curve that is expected of the answers alone, with its band.
    pub(crate) estimated_auc: GaugeVec,
    /// The latest area under the ROC curve over the trailing windows, by labels.
    pub(crate) realised_auc: GaugeVec,
    /// The share of predictions of ended windows that have labels.
    pub(crate) label_coverage: GaugeVec,
    /// How long after its cutoff a prediction's label came to be.
    pub(crate) label_lag: GaugeVec,
    /// Runs, by monitor and how they ended.
    pub(crate) runs: IntCounterVec,
    /// How long runs take.
    pub(crate) run_seconds: HistogramVec,
    /// When a run last ended well, and how long a window is: a monitor that misses several has stalled.
    pub(crate) last_success: GaugeVec,
    pub(crate) window_seconds: GaugeVec,
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
            rows: counter(
                "foretime_monitor_rows_processed_total",
                "Served rows that were brought into profiles.",
                &["monitor"],
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
            drift_evidence: floats(
                "foretime_drift_log_evalue",
                "Natural logarithm of the evidence, over all windows so far, that a column moved.",
                &["monitor", "column"],
            ),
            missing: floats(
                "foretime_feature_missing_ratio",
                "Share of missing values in the latest window.",
                &["monitor", "column"],
            ),
            estimated_auc: floats(
                "foretime_estimated_auc_ratio",
                "Area under the ROC curve that the latest window's answers alone let expect.",
                &["monitor", "bound"],
            ),
            realised_auc: floats(
                "foretime_realized_auc_ratio",
                "Area under the ROC curve over the trailing windows whose labels have come.",
                &["monitor"],
            ),
            label_coverage: floats(
                "foretime_label_coverage_ratio",
                "Share of the predictions of the ended windows that have labels.",
                &["monitor"],
            ),
            label_lag: floats(
                "foretime_label_lag_seconds",
                "Time from a prediction's cutoff to its label's, of labels of the last thirty days.",
                &["monitor", "quantile"],
            ),
            runs: counter("foretime_monitor_runs_total", "Runs of monitors.", &["monitor", "outcome"]),
            run_seconds: HistogramVec::new(
                HistogramOpts::new(
                    "foretime_monitor_run_duration_seconds",
                    "How long a run of a monitor took.",
                )
                .buckets(vec![0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0]),
                &["monitor"],
            )
            .expect("the name is a valid metric name"),
            last_success: floats(
                "foretime_monitor_last_success_timestamp_seconds",
                "When a run of a monitor last ended well.",
                &["monitor"],
            ),
            window_seconds: floats(
                "foretime_monitor_window_seconds",
                "How long a window of a monitor is.",
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
        metrics.collectors().into_iter().for_each(|collector| drop(registry.register(collector)));
        metrics
    }
}

impl Metrics {
    fn collectors(&self) -> Vec<Box<dyn Collector>> {
        let floats = [
            &self.drift_effect,
            &self.calibration_error,
            &self.label_rate,
            &self.drift_evidence,
            &self.missing,
            &self.estimated_auc,
            &self.realised_auc,
            &self.label_coverage,
            &self.label_lag,
            &self.last_success,
            &self.window_seconds,
        ];
        let counters = [&self.windows, &self.rows, &self.notifications, &self.runs];
        let mut all: Vec<Box<dyn Collector>> = vec![Box::new(self.incidents.clone())];
        all.extend(floats.map(|metric| Box::new(metric.clone()) as Box<dyn Collector>));
        all.extend(counters.map(|metric| Box::new(metric.clone()) as Box<dyn Collector>));
        all.push(Box::new(self.notification_seconds.clone()));
        all.push(Box::new(self.run_seconds.clone()));
        all
    }
}

fn floats(name: &str, help: &str, labels: &[&str]) -> GaugeVec {
    GaugeVec::new(Opts::new(name, help), labels).expect("the name is a valid metric name")
}
