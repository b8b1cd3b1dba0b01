//! What the monitor shows at `/metrics`.

use prometheus::{GaugeVec, HistogramVec, IntCounterVec, IntGaugeVec};
use service_kit::Context;
use service_kit::metrics::Metering;

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
    /// The same with the test's rows weighted to the latest window's mix of inputs.
    pub(crate) estimated_auc_weighted: GaugeVec,
    /// By how much the area came out above what was expected before the labels.
    pub(crate) estimate_error: GaugeVec,
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
        context.shared(Self::made)
    }

    /// Makes them.
    pub(crate) fn made(metering: &Metering) -> Self {
        Self {
            windows: metering.counter(
                "foretime_monitor_windows_total",
                "Measures that were judged, one a window and column.",
                &["monitor", "verdict"],
            ),
            rows: metering.counter(
                "foretime_monitor_rows_processed_total",
                "Served rows that were brought into profiles.",
                &["monitor"],
            ),
            drift_effect: metering.real_gauge(
                "foretime_drift_effect",
                "Distance of the latest window from the reference (KS or total variation).",
                &["monitor", "column"],
            ),
            calibration_error: metering.real_gauge(
                "foretime_calibration_error",
                "Expected calibration error over the trailing windows.",
                &["monitor"],
            ),
            label_rate: metering.real_gauge(
                "foretime_label_rate",
                "Share of outcomes that came true in the latest matured window.",
                &["monitor"],
            ),
            drift_evidence: metering.real_gauge(
                "foretime_drift_log_evalue",
                "Natural logarithm of the evidence, over all windows so far, that a column moved.",
                &["monitor", "column"],
            ),
            missing: metering.real_gauge(
                "foretime_feature_missing_ratio",
                "Share of missing values in the latest window.",
                &["monitor", "column"],
            ),
            estimated_auc: metering.real_gauge(
                "foretime_estimated_auc_ratio",
                "Area under the ROC curve that the latest window's answers alone let expect.",
                &["monitor", "bound"],
            ),
            estimated_auc_weighted: metering.real_gauge(
                "foretime_estimated_auc_weighted_ratio",
                "Area under the ROC curve that the latest window's answers let expect, by the test's rows weighted to its mix of inputs.",
                &["monitor", "bound"],
            ),
            estimate_error: metering.real_gauge(
                "foretime_estimated_auc_error",
                "Area under the ROC curve of the latest matured window, less what was expected before its labels came.",
                &["monitor", "estimate"],
            ),
            realised_auc: metering.real_gauge(
                "foretime_realized_auc_ratio",
                "Area under the ROC curve over the trailing windows whose labels have come.",
                &["monitor"],
            ),
            label_coverage: metering.real_gauge(
                "foretime_label_coverage_ratio",
                "Share of the predictions of the ended windows that have labels.",
                &["monitor"],
            ),
            label_lag: metering.real_gauge(
                "foretime_label_lag_seconds",
                "Time from a prediction's cutoff to its label's, of labels of the last thirty days.",
                &["monitor", "quantile"],
            ),
            runs: metering.counter(
                "foretime_monitor_runs_total",
                "Runs of monitors.",
                &["monitor", "outcome"],
            ),
            run_seconds: metering.histogram(
                "foretime_monitor_run_duration_seconds",
                "How long a run of a monitor took.",
                &["monitor"],
                vec![0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0],
            ),
            last_success: metering.real_gauge(
                "foretime_monitor_last_success_timestamp_seconds",
                "When a run of a monitor last ended well.",
                &["monitor"],
            ),
            window_seconds: metering.real_gauge(
                "foretime_monitor_window_seconds",
                "How long a window of a monitor is.",
                &["monitor"],
            ),
            incidents: metering.gauge("foretime_incidents", "Incidents, by state.", &["monitor", "state"]),
            notifications: metering.counter(
                "foretime_notifications_total",
                "Attempts to deliver a notification, by channel and the state they left it in.",
                &["channel", "state"],
            ),
            notification_seconds: metering.histogram(
                "foretime_notification_duration_seconds",
                "How long a receiver took to take or refuse a notification.",
                &["channel"],
                vec![0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0],
            ),
        }
    }
}
