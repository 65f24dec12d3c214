//! Rules: no I/O, no clock, no database.

pub(crate) mod attempts;
pub(crate) mod fields;
pub(crate) mod rotation;
pub(crate) mod secrets;
