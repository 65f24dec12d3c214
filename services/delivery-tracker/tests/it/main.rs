//! The delivery tracker over the bus, with a real PostgreSQL and a real nats-server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod cursors;
mod device_messages;
mod faults;
mod fixture;
mod migrations;
mod receipts;
