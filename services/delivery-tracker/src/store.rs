//! The tables of schema `delivery`; the only place with SQL.

pub(crate) mod device_cursors;
mod schema;
