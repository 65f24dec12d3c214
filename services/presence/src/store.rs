//! The tables of schema `presence`; the only place with SQL.

pub(crate) mod choices;
pub(crate) mod last_seen;
mod schema;
