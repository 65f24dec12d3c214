//! The tables of schema `messaging`; the only place with SQL.
//!
//! Every statement is a type of its own, with a fixed text: diesel keeps such statements prepared, which it never does
//! with `sql_query`. All functions take a connection, not the pool.

pub(crate) mod acts;
pub mod append;
pub(crate) mod audit;
pub(crate) mod bans;
pub(crate) mod changes;
pub(crate) mod channels;
pub(crate) mod conversations;
pub(crate) mod devices;
pub(crate) mod directs;
pub(crate) mod entries;
pub(crate) mod expired;
pub(crate) mod feed;
pub(crate) mod feed_entries;
pub(crate) mod history;
pub(crate) mod invites;
pub(crate) mod leaves;
pub(crate) mod memberships;
pub(crate) mod pending_device_messages;
pub(crate) mod privacy;
pub(crate) mod scheduled;
pub(crate) mod screening;
pub(crate) mod search;
pub(crate) mod settings;
pub(crate) mod unread;

use entrenous_db::statement;

/// Seqs and counts are `bigint`, never negative.
pub(crate) fn to_u64(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

/// No log is longer than `bigint` can count.
pub(crate) fn to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A name that the database holds and this build knows.
pub(crate) fn parse<T>(text: &str, of: impl Fn(&str) -> Option<T>) -> diesel::QueryResult<T> {
    of(text).ok_or_else(|| diesel::result::Error::DeserializationError(format!("unknown name {text:?}").into()))
}
