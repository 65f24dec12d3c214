#![doc = include_str!("../README.md")]

mod config;
mod domain;
mod drain;
mod error;
mod expire;
mod metrics;
mod moderation;
mod publish;
mod recount;
mod rpc;
mod scheduler;
mod service;
pub mod store;
mod tidy;

pub use config::Config;
pub use domain::digest;
pub use moderation::{ModerationConfig, OnSilence, WordsAction};
pub use service::{Service, run};

/// The service's name: in subjects, in its user on NATS, in logs.
pub const SERVICE: &str = "message-store";

/// The migrations of schema `messaging`.
pub const MIGRATIONS: diesel_migrations::EmbeddedMigrations =
    diesel_migrations::embed_migrations!("../../migrations/message-store");
