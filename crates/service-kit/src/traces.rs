//! Traces: spans of requests and of jobs, sent to an OpenTelemetry collector if the settings name one.
//!
//! A request goes on with its caller's trace (`traceparent`, W3C Trace Context), and a job with that of what asked for it, which its
//! row carries. Spans leave on a thread of their own: those that do not fit its queue, or that nobody takes, are dropped. They say
//! what logs say of a request or a job; no body, no failure's text, no secret. Where none are sent, nothing here does anything.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::{MatchedPath, Request};
use axum::http::StatusCode;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{SpanKind, Status, TraceContextExt, TracerProvider};
use opentelemetry_otlp::{Protocol, SpanExporter as Otlp, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use storage::jobs::Leased;
use tracing::{Level, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

/// The crates whose spans are sent: those of libraries say nothing of our work.
const OURS: [&str; 6] = ["service_kit", "feature_store", "gpt_worker", "monitor", "registry", "foretime"];
/// How long a process that ends may take to send the spans that wait.
const FLUSH: Duration = Duration::from_secs(5);
/// The header, and the key, of a trace that is gone on with.
const TRACEPARENT: &str = "traceparent";
/// The attributes by which requests and jobs are told from what happens within them.
const METHOD: &str = "http.method";
const JOB_KIND: &str = "job.kind";

/// Whether this process sends spans.
static SENT: AtomicBool = AtomicBool::new(false);

fn are_sent() -> bool {
    SENT.load(Ordering::Relaxed)
}

/// What sends spans, until it is dropped: then those that wait are sent, within some seconds.
#[derive(Debug)]
pub(crate) struct Sender(SdkTracerProvider);

impl Sender {
    /// Sends to the collector at `endpoint`, in the name of `service` unless `OTEL_SERVICE_NAME` says another; `OTEL_…` variables
    /// say how (headers, sampling, sizes of batches).
    ///
    /// # Errors
    /// If no HTTP client can be made, or the endpoint is no address.
    pub(crate) fn to(
        endpoint: &str,
        service: &'static str,
    ) -> Result<Self, opentelemetry_otlp::ExporterBuildError> {
        rustls::crypto::ring::default_provider().install_default().ok(); // another may have done so
        let exporter = Otlp::builder()
            .with_http()
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .with_protocol(Protocol::HttpBinary)
            .build()?;
        let mut resource = Resource::builder();
        if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name(service);
        }
        let exporter = Telling { exporter, failing: AtomicBool::new(false) };
        let provider =
            SdkTracerProvider::builder().with_resource(resource.build()).with_batch_exporter(exporter);
        Ok(Self(provider.build()))
    }

    /// What turns our spans into those that are sent.
    pub(crate) fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let ours = filter_fn(|metadata| {
            let home = metadata.target().split("::").next().unwrap_or_default();
            metadata.is_span() && OURS.contains(&home)
        })
        .with_max_level_hint(Level::INFO);
        SENT.store(true, Ordering::Relaxed);
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("foretime"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(ours)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown_with_timeout(FLUSH) {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

/// Lets a request's span go on with its caller's trace; answers what the jobs that it asks for go on with.
pub(crate) fn of_request(span: &Span, request: &Request, project: &str) -> Option<String> {
    if !are_sent() {
        return None;
    }
    let named = request.headers().get(TRACEPARENT).and_then(|value| value.to_str().ok());
    let following = go_on(span, named);
    let mut name = request.method().to_string();
    if let Some(route) = request.extensions().get::<MatchedPath>() {
        name = format!("{name} {}", route.as_str());
        span.set_attribute("http.route", route.as_str().to_owned());
    }
    span.context().span().update_name(name);
    span.set_attribute("foretime.project", project.to_owned());
    following
}

/// Notes how the current request was answered.
pub(crate) fn answered(status: StatusCode) {
    if are_sent() {
        let span = Span::current();
        span.set_attribute("http.response.status_code", i64::from(status.as_u16()));
        if status.is_server_error() {
            span.set_status(Status::error(""));
        }
    }
}

/// Lets a job's span go on with the trace of what asked for it; answers what the jobs that follow from it go on with.
pub(crate) fn of_job(span: &Span, job: &Leased) -> Option<String> {
    if !are_sent() {
        return None;
    }
    let following = go_on(span, job.traceparent.as_deref());
    span.context().span().update_name(format!("job {}", job.kind));
    span.set_attribute("job.attempt", i64::from(job.attempts));
    span.set_attribute("foretime.project", job.project.clone());
    following
}

/// Notes that the current job failed; its log says why.
pub(crate) fn failed() {
    if are_sent() {
        Span::current().set_status(Status::error(""));
    }
}

/// Puts a span that nobody has entered under `parent`, or at the beginning of a trace; answers what is to be put under it.
fn go_on(span: &Span, parent: Option<&str>) -> Option<String> {
    let format = TraceContextPropagator::new();
    if let Some(parent) = parent {
        let told = HashMap::from([(TRACEPARENT.to_owned(), parent.to_owned())]);
        let parent = format.extract_with_context(&opentelemetry::Context::new(), &told);
        let _ = span.set_parent(parent); // a span that is not recorded has none
    }
    let mut told = HashMap::new();
    format.inject_context(&span.context(), &mut told);
    told.remove(TRACEPARENT)
}

/// An exporter that says once that nobody takes spans, and once that somebody does again.
#[derive(Debug)]
struct Telling<E> {
    exporter: E,
    failing: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for Telling<E> {
    async fn export(&self, mut spans: Vec<SpanData>) -> OTelSdkResult {
        for span in &mut spans {
            span.span_kind = kind_of(span);
        }
        let sent = self.exporter.export(spans).await;
        let failed_before = self.failing.swap(sent.is_err(), Ordering::Relaxed);
        match &sent {
            Err(error) if !failed_before => {
                tracing::warn!(%error, "traces do not reach the collector; they are dropped until they do");
            }
            Ok(()) if failed_before => tracing::info!("traces reach the collector again"),
            _ => {}
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// Requests are served, jobs are taken from a queue, and all else happens within them.
fn kind_of(span: &SpanData) -> SpanKind {
    let has = |key: &str| span.attributes.iter().any(|attribute| attribute.key.as_str() == key);
    match (has(METHOD), has(JOB_KIND)) {
        (true, _) => SpanKind::Server,
        (_, true) => SpanKind::Consumer,
        _ => SpanKind::Internal,
    }
}
