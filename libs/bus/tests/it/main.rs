//! The bus over a real nats-server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]

mod events;

#[expect(dead_code, reason = "its main")]
#[path = "../../examples/read_events.rs"]
mod read_events;
