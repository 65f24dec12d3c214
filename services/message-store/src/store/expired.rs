//! What has expired.

use diesel::sql_types::{BigInt, Integer};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::{statement, to_u64};

statement! {
    /// See `messaging.erase_expired`.
    EraseExpired { rows_max: Integer = i32 } -> (BigInt, BigInt);
    "SELECT * FROM messaging.erase_expired({})",
}

/// Erases up to so many messages whose time has come: how many were due, and how many of them were erased.
pub(crate) async fn erase(connection: &mut AsyncPgConnection, rows_max: i32) -> diesel::QueryResult<(u64, u64)> {
    let (due, erased): (i64, i64) = EraseExpired { rows_max }.get_result(connection).await?;
    Ok((to_u64(due), to_u64(erased)))
}
