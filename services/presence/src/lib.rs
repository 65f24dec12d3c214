#![doc = include_str!("../README.md")]

mod choices;
mod config;
pub mod domain;
mod error;
mod last_seen;
mod listener;
mod metrics;
mod replicas;
mod rpc;
mod service;
mod shared;
mod statuses;
mod store;
mod teller;

pub use config::Config;
pub use service::{Service, run};

/// The service's name: in subjects, in its user on NATS, in logs.
pub const SERVICE: &str = "presence";

/// The migrations of schema `presence`.
pub const MIGRATIONS: diesel_migrations::EmbeddedMigrations =
    diesel_migrations::embed_migrations!("../../migrations/presence");
