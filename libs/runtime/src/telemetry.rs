//! Logs, metrics and traces of the process. Never content, tokens, keys, addresses of clients or whole frames.

use std::sync::OnceLock;

use anyhow::Context as _;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::{EnvFilter, Layer as _, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::trace::{self, TraceConfig, Traces};

/// Form of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line, for production.
    Json,
    /// For people.
    Text,
}

/// Bounds of the buckets of every `…_seconds` histogram.
const SECONDS: &[f64] = &[0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Bounds of the buckets of every `…_bytes` histogram.
const BYTES: &[f64] = &[64.0, 256.0, 1_024.0, 4_096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0];

static PROMETHEUS: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Sets up logs, metrics and traces once for the process; later calls change nothing. What it gives is dropped last.
///
/// # Errors
/// When the address of the collector of traces is none.
pub fn init(service: &'static str, format: LogFormat, filter: &str, traces: &TraceConfig) -> anyhow::Result<Traces> {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let (layer, traces) = trace::layer(service, traces).context("OTEL_EXPORTER_OTLP_ENDPOINT")?;
    let log = match format {
        LogFormat::Json => fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).boxed(),
        LogFormat::Text => fmt::layer().with_target(false).with_writer(std::io::stderr).boxed(),
    };
    // A second initialisation (tests, several services in one process) keeps the first.
    let _ = tracing_subscriber::registry().with(layer).with(log.with_filter(filter)).try_init();
    let _ = prometheus();
    Ok(traces)
}

/// The metrics of the process as Prometheus text.
pub fn render_metrics() -> String {
    metrics_process::Collector::default().collect();
    prometheus().map(PrometheusHandle::render).unwrap_or_default()
}

fn prometheus() -> Option<&'static PrometheusHandle> {
    PROMETHEUS
        .get_or_init(|| {
            let builder = PrometheusBuilder::new()
                .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)
                .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_bytes".to_owned()), BYTES));
            let handle = builder.and_then(PrometheusBuilder::install_recorder);
            handle.inspect_err(|error| tracing::error!(%error, "no metrics")).ok()
        })
        .as_ref()
}
