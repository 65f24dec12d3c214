//! Settings of presence.

use std::{num::NonZeroUsize, time::Duration};

use entrenous_bus::NatsConfig;
use entrenous_db::DbConfig;
use entrenous_runtime::ProcessConfig;

/// Settings of presence.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "presence", about = "Entrenous presence: who is connected now, and who was when")]
pub struct Config {
    /// The database.
    #[command(flatten)]
    pub db: DbConfig,
    /// NATS.
    #[command(flatten)]
    pub nats: NatsConfig,
    /// The process.
    #[command(flatten)]
    pub process: ProcessConfig,
    /// How long a new process listens before it answers: every gateway reports within 5 s. 0 answers at once, for when all parts start together.
    #[arg(long, env, default_value_t = 6_000, value_parser = clap::value_parser!(u64).range(0..=60_000))]
    pub presence_warm_up_ms: u64,
    /// Between the end of a user's last connection and `offline`.
    #[arg(long, env, default_value_t = 15_000, value_parser = clap::value_parser!(u64).range(0..=25_000))]
    pub presence_grace_ms: u64,
    /// How long a gateway that says nothing is believed to be there: it speaks every 5 s.
    #[arg(long, env, default_value_t = 15_000, value_parser = clap::value_parser!(u64).range(6_000..=300_000))]
    pub presence_lease_ms: u64,
    /// Connections that one process remembers, at about 250 bytes each; those above it are left out, and their users may seem offline.
    #[arg(long, env, default_value = "1000000")]
    pub presence_connections_max: NonZeroUsize,
}

impl Config {
    /// How long a new process listens before it answers.
    pub fn warm_up(&self) -> Duration {
        Duration::from_millis(self.presence_warm_up_ms)
    }

    /// Between the last connection's end and `offline`.
    pub fn grace(&self) -> Duration {
        Duration::from_millis(self.presence_grace_ms)
    }

    /// How long a silent gateway is believed to be there.
    pub fn lease(&self) -> Duration {
        Duration::from_millis(self.presence_lease_ms)
    }
}
