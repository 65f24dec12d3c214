//! Private PostgreSQL and nats-server processes on this machine, for `entrenous dev` and for tests.
//!
//! Each server has a folder of its own (its *home*), listens on 127.0.0.1 alone, and ends with the process that started
//! it, even when that is killed: where `setpriv` is there, the kernel tells it; what is left all the same is found and
//! stopped by the next start in the same home. PostgreSQL never runs as root.
//!
//! Here belongs what finds, starts, watches and stops these programs, and [`permissions`], which says what each service
//! may do on NATS. Talking to the servers belongs to others.

mod error;
mod home;
mod leftovers;
mod nats;
pub mod permissions;
pub mod ports;
mod postgres;
mod process;
mod tools;
mod user;

pub use error::ServerError;
pub use leftovers::{stop_leftover, working_in};
pub use nats::{Account, Nats, NatsSpec, NatsUser, Password, SyncInterval, deployment_config};
pub use postgres::{Durability, Postgres, PostgresLogin, PostgresSpec};
pub use process::{Output, Process, ProcessSpec, Signal};
pub use tools::Tools;
