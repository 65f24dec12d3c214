//! Settings of the gateway.

use std::{net::SocketAddr, num::NonZeroUsize, time::Duration};

use entrenous_bus::NatsConfig;
use entrenous_protocol::{Limits, limits::MESSAGE_CONTENT_BYTES_MAX};
use entrenous_runtime::ProcessConfig;

/// Settings of the gateway.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "gateway", about = "Entrenous gateway: the only thing clients reach")]
pub struct Config {
    /// NATS.
    #[command(flatten)]
    pub nats: NatsConfig,
    /// The process.
    #[command(flatten)]
    pub process: ProcessConfig,
    /// Tokens.
    #[command(flatten)]
    pub tokens: entrenous_auth::Settings,
    /// Address that clients reach.
    #[arg(long, env, default_value = "0.0.0.0:8080")]
    pub gateway_addr: SocketAddr,
    /// Threads that serve connections; by default one for each core.
    #[arg(long, env)]
    pub gateway_workers: Option<NonZeroUsize>,
    /// Connections that each worker takes at most.
    #[arg(long, env, default_value_t = 25_000)]
    pub gateway_connections_per_worker_max: usize,
    /// Origins that browsers may call from, separated by commas; `*` for all. Requests without an origin (apps) are always let in, and so are pages from the gateway's own address.
    #[arg(long, env, value_delimiter = ',')]
    pub gateway_origins: Vec<String>,
    /// Proxies in front of the gateway that add to `X-Forwarded-For`; 0 takes the peer's address.
    #[arg(long, env, default_value_t = 0)]
    pub gateway_trusted_proxies: usize,
    /// Content of a message, in bytes, at most 2 MiB. The size of a frame follows from it.
    #[arg(long, env, default_value_t = 64 * 1024, value_parser = clap::value_parser!(u32).range(1_024..=2_097_152))]
    pub message_content_bytes: u32,
    /// Between two heartbeats.
    #[arg(long, env, default_value_t = 30_000, value_parser = clap::value_parser!(u64).range(1_000..=300_000))]
    pub heartbeat_interval_ms: u64,
    /// Sends of a connection that may await their ack.
    #[arg(long, env, default_value_t = 256)]
    pub sends_awaiting_ack_max: usize,
    /// Frames that a connection may send a second.
    #[arg(long, env, default_value_t = 200)]
    pub frames_per_second_max: u32,
    /// Frames that wait for a connection; above it the connection is closed with 4400.
    #[arg(long, env, default_value_t = 4_096)]
    pub outbox_frames_max: usize,
    /// Bytes that wait for a connection; above it the connection is closed with 4400.
    #[arg(long, env, default_value_t = 4 * 1024 * 1024)]
    pub outbox_bytes_max: usize,
    /// Bytes of all sends of this gateway that await their ack; above it sends are answered `unavailable`.
    #[arg(long, env, default_value_t = 64 * 1024 * 1024)]
    pub sends_bytes_max: usize,
    /// How long a send is tried before it is answered `unavailable`.
    #[arg(long, env, default_value_t = 10_000)]
    pub send_deadline_ms: u64,
    /// How long a stop waits for the load balancer before connections are closed.
    #[arg(long, env, default_value_t = 5_000)]
    pub drain_wait_ms: u64,
    /// Over how long the connections are closed at a stop.
    #[arg(long, env, default_value_t = 10_000)]
    pub drain_spread_ms: u64,
}

impl Config {
    /// The limits in force, as `GET /api/v1/limits` tells them.
    pub fn limits(&self) -> Limits {
        let content_bytes = usize::try_from(self.message_content_bytes).unwrap_or(MESSAGE_CONTENT_BYTES_MAX);
        Limits {
            message_content_bytes: content_bytes,
            frame_bytes: Limits::frame_bytes_for(content_bytes),
            sends_awaiting_ack: self.sends_awaiting_ack_max,
            heartbeat_interval_ms: self.heartbeat_interval_ms,
            frames_per_second: self.frames_per_second_max,
            ..Limits::default()
        }
    }

    /// How long a send is tried.
    pub fn send_deadline(&self) -> Duration {
        Duration::from_millis(self.send_deadline_ms)
    }
}
