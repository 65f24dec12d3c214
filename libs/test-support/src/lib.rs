//! What tests need: a PostgreSQL and a nats-server of their own, and patience without sleeping.
//!
//! Every server belongs to the value that started it: when that is dropped, also by a panic, the server is gone and its
//! folder removed. What a killed test process left behind is removed by the next one.
//!
//! ```no_run
//! # async fn migrate(url: String) -> anyhow::Result<()> { Ok(()) }
//! # async fn test() -> anyhow::Result<()> {
//! use entrenous_test_support::{TestNats, TestPostgres, wait_for};
//!
//! let postgres = TestPostgres::with_schema("identity", async |url| migrate(url).await).await?;
//! let nats = TestNats::start().await?;
//! wait_for("the server", async || if postgres.url().is_empty() { Err("no address") } else { Ok(()) }).await?;
//! # Ok(())
//! # }
//! ```

mod nats;
mod postgres;
mod proxy;
mod run_folder;
mod template;
mod wait;

pub use nats::{EVENTS_READER_PASSWORD, TestNats};
pub use postgres::TestPostgres;
pub use proxy::Proxy;
pub use wait::wait_for;
