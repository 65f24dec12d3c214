//! Traces: one for a message from the gateway that takes it, over the store, to the gateways that hand it on.
//!
//! Spans of [`TARGET`] are kept out of the logs and cost nothing as long as traces go nowhere. Between processes a trace
//! travels as a `traceparent` (W3C Trace Context).

use std::collections::HashMap;

use opentelemetry::{
    propagation::TextMapPropagator,
    trace::{TraceContextExt as _, TracerProvider as _},
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider},
};
use tracing::{Level, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};

/// Target of spans that belong to traces: `tracing::trace_span!(target: TARGET, "append")`.
pub const TARGET: &str = "entrenous_trace";
/// The header's name. Source: W3C Trace Context, section 3.2.
pub const HEADER: &str = "traceparent";

/// Where traces go.
#[derive(Debug, Clone, clap::Args)]
pub struct TraceConfig {
    /// Collector of traces, by OTLP over HTTP, such as `http://collector:4318`. Without it nothing is traced.
    #[arg(long, env)]
    pub otel_exporter_otlp_endpoint: Option<String>,
    /// Share of messages that are traced, 0 to 1.
    #[arg(long, env, default_value_t = 0.01, value_parser = parse_share)]
    pub otel_traces_sampler_arg: f64,
}

fn parse_share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "must be a number from 0 to 1".to_owned())
}

/// Keeps traces going; the last spans leave when it is dropped.
#[derive(Debug)]
pub struct Traces(Option<SdkTracerProvider>);

impl Drop for Traces {
    fn drop(&mut self) {
        if let Some(provider) = self.0.take()
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "the last traces have not left");
        }
    }
}

/// The layer that sends spans to the collector, and what keeps it going; neither does anything without a collector.
pub(crate) fn layer<S>(service: &'static str, config: &TraceConfig) -> anyhow::Result<(Option<impl Layer<S>>, Traces)>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let Some(endpoint) = &config.otel_exporter_otlp_endpoint else { return Ok((None, Traces(None))) };
    let endpoint = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
    let exporter = SpanExporter::builder().with_http().with_endpoint(endpoint).build()?;
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.otel_traces_sampler_arg)));
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(sampler)
        .with_resource(Resource::builder().with_service_name(service).build())
        .build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("entrenous"));
    let layer = layer.with_filter(Targets::new().with_target(TARGET, Level::TRACE));
    Ok((Some(layer), Traces(Some(provider))))
}

/// The `traceparent` of a span whose trace is recorded.
pub fn parent_of(span: &Span) -> Option<String> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    if !context.span().span_context().is_sampled() {
        return None;
    }
    let mut headers = HashMap::new();
    TraceContextPropagator::new().inject_context(&context, &mut headers);
    headers.remove(HEADER)
}

/// Makes a span part of the trace of a `traceparent` that came with a message; one that cannot be read changes nothing.
pub fn follow(span: &Span, traceparent: &str) {
    if span.is_disabled() {
        return;
    }
    let headers = HashMap::from([(HEADER.to_owned(), traceparent.to_owned())]);
    // A span that has begun already keeps its trace.
    let _ = span.set_parent(TraceContextPropagator::new().extract(&headers));
}
