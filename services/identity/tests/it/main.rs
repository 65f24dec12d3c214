//! The identity service over a real PostgreSQL and a real nats-server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]

mod devices;
mod fixture;
mod keys;
mod limits;
mod login;
mod operation;
mod outside_logins;
mod password;
mod people;
mod privacy;
mod refresh;
mod users;
