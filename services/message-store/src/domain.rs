//! Decisions and values: pure functions, no database, no NATS, no clock.

pub mod digest;
pub(crate) mod rights;
pub(crate) mod rounds;
pub(crate) mod scheduling;
pub(crate) mod search;
pub(crate) mod settings;
pub(crate) mod sweep;
pub(crate) mod token;
pub(crate) mod words;
