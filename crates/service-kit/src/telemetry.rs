//! Logs: text for people, JSON for collectors. Traces beside them, if a collector is named.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, registry};

use crate::config::{LogConfig, TelemetryConfig};
use crate::traces::Sender;

/// What telemetry has to do before the process ends: dropping it sends the spans that wait, within some seconds.
#[derive(Debug)]
#[must_use = "spans are sent as long as it lives"]
pub struct Telemetry {
    _sender: Option<Sender>,
}

/// Sends logs to standard error as `config` says. The first call in a process wins.
pub fn start(config: &LogConfig) {
    noted(&registry().with(lines(config.json).with_filter(filter(config))).try_init());
}

/// The same, and traces in the name of `service`, if a collector is named. One that cannot be sent to is told of in the log.
pub fn start_with_traces(config: &LogConfig, traces: &TelemetryConfig, service: &'static str) -> Telemetry {
    let Some(endpoint) = &traces.otlp_endpoint else {
        start(config);
        return Telemetry { _sender: None };
    };
    match Sender::to(endpoint, service) {
        Ok(sender) => {
            let lines = lines(config.json).with_filter(filter(config)); // what is sent does not depend on what is logged
            noted(&registry().with(lines).with(sender.layer()).try_init());
            Telemetry { _sender: Some(sender) }
        }
        Err(error) => {
            start(config);
            tracing::warn!(%error, "traces cannot be sent; look at `telemetry.otlp_endpoint`");
            Telemetry { _sender: None }
        }
    }
}

fn filter(config: &LogConfig) -> EnvFilter {
    EnvFilter::try_new(&config.filter).unwrap_or_else(|_| EnvFilter::new("info"))
}

fn lines(json: bool) -> Box<dyn Layer<Registry> + Send + Sync> {
    if json {
        fmt::layer().json().with_writer(std::io::stderr).boxed()
    } else {
        let coloured = std::io::stderr().is_terminal();
        fmt::layer().with_target(false).with_ansi(coloured).with_writer(std::io::stderr).boxed()
    }
}

fn noted(started: &Result<(), tracing_subscriber::util::TryInitError>) {
    if started.is_err() {
        tracing::debug!("logs were started before; the new settings are ignored");
    }
}
