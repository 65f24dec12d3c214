//! The gateway with everything behind it: identity, message store and tracker over a real NATS and PostgreSQL.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]

mod rest_auth;
mod rest_away;
mod rest_browsers;
mod rest_clear;
mod rest_conversations;
mod rest_errors;
mod rest_messages;
mod rest_people;
mod rest_reference;
mod rest_rooms;
mod rest_scheduled;
mod rest_stack;
