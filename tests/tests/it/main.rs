//! The system from outside: the program as people run it, over its public interfaces alone.

#![expect(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod acts;
mod auth;
mod bad_input;
mod channels;
mod chat;
mod device_messages;
mod faults;
mod group_receipts;
mod interleaving;
mod lost_receipts;
mod messaging;
mod offline;
mod outside_issuer;
mod presence;
mod privacy;
mod promises;
mod receipts;
mod rooms;
mod scheduled;
mod stays;
mod support;
mod traces;
mod typing;
mod unread;
mod unseen;
