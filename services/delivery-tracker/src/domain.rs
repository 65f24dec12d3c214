//! Decisions, without I/O.

pub mod cursors;
