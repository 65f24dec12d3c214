//! Table `presence.last_seen`.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use diesel::{
    pg::Pg,
    prelude::*,
    query_builder::{AstPass, QueryFragment, QueryId},
    sql_types::{Array, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use entrenous_db::DbError;
use entrenous_model::{Timestamp, UserId};
use uuid::Uuid;

use super::schema::last_seen;
use crate::domain::Seen;

/// Keeps times, the latest of each user; tells how many rows changed. `batch` is sorted by user and names each once, so
/// that replicas which write the same users at the same time do not deadlock.
///
/// Runs at READ COMMITTED: a row that another replica changes is waited for and compared with the outcome.
pub(crate) async fn keep_latest(connection: &mut AsyncPgConnection, batch: &[Seen]) -> Result<usize, DbError> {
    Ok(KeepLatest::new(batch).execute(connection).await?)
}

/// When these users were last seen, as far as it is known.
pub(crate) async fn list(
    connection: &mut AsyncPgConnection,
    user_ids: &[UserId],
) -> Result<HashMap<UserId, Timestamp>, DbError> {
    let user_ids: Vec<Uuid> = user_ids.iter().map(|user_id| user_id.as_uuid()).collect();
    let rows: Vec<(Uuid, DateTime<Utc>)> = last_seen::table
        .filter(last_seen::user_id.eq_any(user_ids))
        .select((last_seen::user_id, last_seen::last_seen_at))
        .load(connection)
        .await?;
    Ok(rows.into_iter().map(|(user_id, at)| (user_id.into(), at.into())).collect())
}

/// A statement of its own rather than `sql_query`, which would be prepared anew each time.
#[derive(QueryId)]
struct KeepLatest {
    user_ids: Vec<Uuid>,
    times: Vec<DateTime<Utc>>,
}

impl KeepLatest {
    fn new(batch: &[Seen]) -> Self {
        Self {
            user_ids: batch.iter().map(|seen| seen.user_id.as_uuid()).collect(),
            times: batch.iter().map(|seen| seen.at.as_datetime()).collect(),
        }
    }
}

impl QueryFragment<Pg> for KeepLatest {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("INSERT INTO presence.last_seen AS kept (user_id, last_seen_at) SELECT * FROM unnest(");
        out.push_bind_param::<Array<SqlUuid>, _>(&self.user_ids)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Timestamptz>, _>(&self.times)?;
        // The WHERE makes it the latest of both, and writes nothing where nothing changes.
        out.push_sql(
            ") ON CONFLICT ON CONSTRAINT last_seen_pkey DO UPDATE SET last_seen_at = EXCLUDED.last_seen_at \
             WHERE kept.last_seen_at < EXCLUDED.last_seen_at",
        );
        Ok(())
    }
}
