//! Presence over the bus, with a real PostgreSQL and a real nats-server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod choices;
mod fixture;
mod migrations;
mod statuses;
mod watching;
