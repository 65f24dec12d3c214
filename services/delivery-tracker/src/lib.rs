#![doc = include_str!("../README.md")]

mod config;
mod domain;
mod error;
mod expiry;
mod metrics;
mod rpc;
mod service;
mod store;

pub use config::Config;
pub use domain::cursors;
pub use service::{Service, run};

/// The service's name: in subjects, in its user on NATS, in logs.
pub const SERVICE: &str = "delivery-tracker";

/// The migrations of schema `delivery`.
pub const MIGRATIONS: diesel_migrations::EmbeddedMigrations =
    diesel_migrations::embed_migrations!("../../migrations/delivery-tracker");
