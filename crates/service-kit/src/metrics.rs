//! Metrics: how they are made, shown at `/metrics` and told of in a table, and those that all services share.
//!
//! Names have base units. A service's own metrics live in its own `metrics` module.

use std::sync::{Arc, Mutex, MutexGuard};

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};

use crate::Context;

/// The metrics of a process. What is made here is shown at `/metrics`, and stands in [`Metering::table`].
#[derive(Clone, Debug, Default)]
pub struct Metering {
    shown: Registry,
    made: Arc<Mutex<Vec<Described>>>,
}

/// What the table says of a metric.
#[derive(Debug)]
struct Described {
    name: String,
    kind: &'static str,
    labels: String,
    unit: &'static str,
    help: String,
}

impl Metering {
    /// A counter with labels.
    ///
    /// # Panics
    /// As all of these, if the name or a label is not one that Prometheus allows, or the name is taken.
    pub fn counter(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        let made = IntCounterVec::new(Opts::new(name, help), labels);
        self.keep(made, "counter", "count")
    }

    /// A gauge of whole numbers with labels.
    pub fn gauge(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        let made = IntGaugeVec::new(Opts::new(name, help), labels);
        self.keep(made, "gauge", "count")
    }

    /// A gauge of any numbers with labels.
    pub fn real_gauge(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        let made = GaugeVec::new(Opts::new(name, help), labels);
        self.keep(made, "gauge", "1")
    }

    /// A histogram with labels.
    pub fn histogram(&self, name: &str, help: &str, labels: &[&str], buckets: Vec<f64>) -> HistogramVec {
        let made = HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), labels);
        self.keep(made, "histogram", "1")
    }

    /// What is shown now.
    pub fn gather(&self) -> Vec<MetricFamily> {
        self.shown.gather()
    }

    /// Every metric that was made, by name, as a table in Markdown.
    pub fn table(&self) -> String {
        let mut lines: Vec<String> = self.made().iter().map(Described::line).collect();
        lines.sort();
        format!(
            "| metric | type | labels | unit | what it says |\n|---|---|---|---|---|\n{}\n",
            lines.join("\n")
        )
    }

    fn keep<M>(&self, made: prometheus::Result<M>, kind: &'static str, unit: &'static str) -> M
    where
        M: Collector + Clone + 'static,
    {
        let metric = made.expect("the name and the labels are valid");
        for metric in metric.desc() {
            self.made().push(Described {
                name: metric.fq_name.clone(),
                kind,
                labels: metric.variable_labels.join(", "),
                unit: unit_in(&metric.fq_name).unwrap_or(unit),
                help: metric.help.clone(),
            });
        }
        self.shown.register(Box::new(metric.clone())).expect("each metric is made once");
        metric
    }

    fn made(&self) -> MutexGuard<'_, Vec<Described>> {
        self.made.lock().expect("no holder of this lock can panic")
    }
}

impl Described {
    fn line(&self) -> String {
        let Self { name, kind, labels, unit, help } = self;
        format!("| `{name}` | {kind} | {labels} | {unit} | {help} |")
    }
}

/// The unit that a name ends with, before the `_total` of a counter.
fn unit_in(name: &str) -> Option<&'static str> {
    const UNITS: [(&str, &str); 6] = [
        ("_timestamp_seconds", "seconds since 1970"),
        ("_seconds", "seconds"),
        ("_bytes", "bytes"),
        ("_rows", "rows"),
        ("_requests", "requests"),
        ("_ratio", "ratio"),
    ];
    let base = name.strip_suffix("_total").unwrap_or(name);
    UNITS.into_iter().find_map(|(end, unit)| base.ends_with(end).then_some(unit))
}

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
        context.shared(Self::made)
    }

    /// Makes them.
    pub fn made(metering: &Metering) -> Self {
        Self {
            request_seconds: metering.histogram(
                "foretime_http_request_duration_seconds",
                "How long requests took.",
                &["route", "method", "status"],
                vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0],
            ),
            jobs_ended: metering.counter(
                "foretime_jobs_ended_total",
                "Jobs that ended, by how they did.",
                &["kind", "how"],
            ),
            jobs: metering.gauge("foretime_jobs", "Jobs in the database, by state.", &["kind", "state"]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_shown_and_told_of_with_its_unit() {
        let metering = Metering::default();
        metering.counter("b_bytes_total", "Bytes.", &["from", "to"]).with_label_values(&["a", "b"]).inc();
        metering.real_gauge("a_effect", "An effect.", &[]);
        let table = metering.table();
        let lines: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "| `a_effect` | gauge |  | 1 | An effect. |",
                "| `b_bytes_total` | counter | from, to | bytes | Bytes. |"
            ]
        );
        let shown: Vec<String> = metering.gather().iter().map(|family| family.name().to_owned()).collect();
        assert_eq!(shown, ["b_bytes_total"]);
    }
}
