//! The tables of schema `delivery`; the only place with SQL.

pub(crate) mod device_cursors;
pub(crate) mod device_queues;
pub(crate) mod receipts;
mod schema;
