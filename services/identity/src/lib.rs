#![doc = include_str!("../README.md")]

mod config;
mod domain;
mod error;
mod keyring;
mod maintenance;
mod metrics;
mod passwords;
mod privacy;
mod rpc;
mod service;
mod state;
mod store;

pub use config::Config;
pub use service::{Service, run};

/// The service's name: in subjects, in its user on NATS, in logs.
pub const SERVICE: &str = "identity";

/// The migrations of schema `identity`.
pub const MIGRATIONS: diesel_migrations::EmbeddedMigrations =
    diesel_migrations::embed_migrations!("../../migrations/identity");
