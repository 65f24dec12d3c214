//! What every service's process has in common: signals and an orderly stop, tracked tasks, logs, metrics, traces, and the admin
//! port with its health checks.

pub mod admin;
mod lifecycle;
pub mod telemetry;
pub mod trace;

pub use admin::{AdminServer, Readiness};
pub use lifecycle::{Shutdown, Tasks, run_process};
pub use telemetry::LogFormat;

use std::net::SocketAddr;

/// Settings that every process has.
#[derive(Debug, Clone, clap::Args)]
pub struct ProcessConfig {
    /// Address of the admin port (`/livez`, `/readyz`, `/healthz`, `/metrics`); port 0 picks a free one.
    #[arg(long, env, default_value = "127.0.0.1:0")]
    pub admin_addr: SocketAddr,
    /// Form of the log lines.
    #[arg(long, env, value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
    /// Which log lines, in the syntax of tracing's `EnvFilter`.
    #[arg(long, env, default_value = "info")]
    pub log_filter: String,
    /// Traces.
    #[command(flatten)]
    pub traces: trace::TraceConfig,
}
