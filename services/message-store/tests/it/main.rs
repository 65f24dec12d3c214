//! The message store over the bus, with a real PostgreSQL and a real nats-server; and its append function alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod acts;
mod append;
mod channels;
mod clear;
mod conversations;
mod draining;
mod expiry;
mod faults;
mod feed;
mod fixture;
mod function;
mod function_faults;
mod history;
mod members;
mod migrations;
mod plans;
mod privacy;
mod published;
mod reads;
mod rooms;
mod scheduled;
mod search;
mod sweeping;
mod sync;
mod unread;
mod webhook;
