//! Settings of the delivery tracker.

use entrenous_bus::NatsConfig;
use entrenous_db::DbConfig;
use entrenous_runtime::ProcessConfig;

/// Settings of the delivery tracker.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "delivery-tracker", about = "Entrenous delivery tracker: how far each device and person is")]
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
}
