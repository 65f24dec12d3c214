//! The tables of schema `identity`; the only place with SQL.
//!
//! Times are arguments. Locks are taken in one order: user, then login, then the rest.

pub(crate) mod attempts;
pub(crate) mod audit;
pub(crate) mod devices;
pub(crate) mod expired;
pub(crate) mod logins;
pub(crate) mod outside_logins;
pub(crate) mod people;
pub(crate) mod privacy;
pub(crate) mod refresh_tokens;
mod schema;
pub(crate) mod signing_keys;
pub(crate) mod users;

use std::future::Future;

use diesel::QueryResult;
use tokio::time::Instant;

/// Runs one operation and measures it.
async fn observe<T, F>(operation: &'static str, work: F) -> QueryResult<T>
where
    F: Future<Output = QueryResult<T>> + Send,
{
    let start = Instant::now();
    let result = work.await;
    crate::metrics::statement(operation, start.elapsed());
    result
}
