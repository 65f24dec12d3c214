//! Table `delivery.device_cursors`.

use diesel::{
    pg::Pg,
    prelude::*,
    query_builder::{AstPass, QueryFragment, QueryId},
    sql_types::{Array, BigInt, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use entrenous_model::{DeviceId, Timestamp};
use entrenous_protocol::rpc::tracker::{CursorAdvance, DeviceCursor};
use uuid::Uuid;

use super::schema::device_cursors;
use crate::error::RequestError;

/// Cursors of one device in one answer: those that moved last. Bounds the answer to about 5 MB.
pub(crate) const DEVICE_CURSORS_MAX: i64 = 50_000;

/// Moves cursors forward in one statement; tells how many moved. `advances` must be merged (see
/// [`crate::domain::cursors::merge`]): PostgreSQL refuses a batch that names a row twice, and unsorted ones deadlock.
///
/// Runs at READ COMMITTED: where another replica changes the same row, this one waits for it and compares with the
/// outcome, so the greater seq stays whoever comes first.
pub(crate) async fn advance_batch(
    connection: &mut AsyncPgConnection,
    advances: &[CursorAdvance],
    now: Timestamp,
) -> Result<usize, RequestError> {
    Ok(AdvanceBatch::new(advances, now)?.execute(connection).await.map_err(entrenous_db::DbError::from)?)
}

/// Where a device stands, in no order.
pub(crate) async fn list_of_device(
    connection: &mut AsyncPgConnection,
    device_id: DeviceId,
) -> Result<Vec<DeviceCursor>, RequestError> {
    let rows: Vec<(Uuid, i64)> = device_cursors::table
        .filter(device_cursors::device_id.eq(device_id.as_uuid()))
        .order(device_cursors::delivered_at.desc())
        .limit(DEVICE_CURSORS_MAX)
        .select((device_cursors::conversation_id, device_cursors::delivered_seq))
        .load(connection)
        .await
        .map_err(entrenous_db::DbError::from)?;
    let cursor = |(conversation_id, seq): (Uuid, i64)| DeviceCursor {
        conversation_id: conversation_id.into(),
        delivered_seq: u64::try_from(seq).unwrap_or_default(),
    };
    Ok(rows.into_iter().map(cursor).collect())
}

/// A statement of its own rather than `sql_query`, which would be prepared anew each time.
#[derive(QueryId)]
struct AdvanceBatch {
    device_ids: Vec<Uuid>,
    conversation_ids: Vec<Uuid>,
    user_ids: Vec<Uuid>,
    seqs: Vec<i64>,
    now: chrono::DateTime<chrono::Utc>,
}

impl AdvanceBatch {
    fn new(advances: &[CursorAdvance], now: Timestamp) -> Result<Self, RequestError> {
        let seq = |advance: &CursorAdvance| i64::try_from(advance.delivered_seq).ok();
        Ok(Self {
            device_ids: advances.iter().map(|advance| advance.device_id.as_uuid()).collect(),
            conversation_ids: advances.iter().map(|advance| advance.conversation_id.as_uuid()).collect(),
            user_ids: advances.iter().map(|advance| advance.user_id.as_uuid()).collect(),
            seqs: advances.iter().map(seq).collect::<Option<_>>().ok_or(RequestError::SeqOutOfRange)?,
            now: now.as_datetime(),
        })
    }
}

impl QueryFragment<Pg> for AdvanceBatch {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "INSERT INTO delivery.device_cursors AS kept \
             (device_id, conversation_id, user_id, delivered_seq, delivered_at) \
             SELECT device_id, conversation_id, user_id, delivered_seq, ",
        );
        out.push_bind_param::<Timestamptz, _>(&self.now)?;
        out.push_sql(" FROM unnest(");
        out.push_bind_param::<Array<SqlUuid>, _>(&self.device_ids)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<SqlUuid>, _>(&self.conversation_ids)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<SqlUuid>, _>(&self.user_ids)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<BigInt>, _>(&self.seqs)?;
        // The WHERE makes it the greatest of both, and writes nothing where nothing moves.
        out.push_sql(
            ") AS advance (device_id, conversation_id, user_id, delivered_seq) \
             ON CONFLICT ON CONSTRAINT device_cursors_pkey DO UPDATE SET \
             delivered_seq = EXCLUDED.delivered_seq, delivered_at = EXCLUDED.delivered_at \
             WHERE kept.delivered_seq < EXCLUDED.delivered_seq",
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use diesel::{QueryableByName, sql_query};
    use diesel_async::AsyncConnection;
    use entrenous_test_support::TestPostgres;

    use super::*;

    #[derive(QueryableByName)]
    struct Count {
        #[diesel(sql_type = BigInt)]
        count: i64,
    }

    fn advances(count: u128) -> Vec<CursorAdvance> {
        let advance = |number| CursorAdvance {
            user_id: Uuid::from_u128(1).into(),
            device_id: Uuid::from_u128(2).into(),
            conversation_id: Uuid::from_u128(number).into(),
            delivered_seq: 1,
        };
        (1..=count).map(advance).collect()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_statement_is_prepared_once_for_batches_of_any_size() {
        let migrate = async |url: String| entrenous_db::migrate(&url, crate::MIGRATIONS).await.map(drop);
        let postgres = TestPostgres::with_schema("delivery", migrate).await.unwrap();
        let mut connection = AsyncPgConnection::establish(&postgres.url()).await.unwrap();
        let now = chrono::DateTime::from_timestamp(1, 0).unwrap().into();
        for (count, moved) in [(1, 1), (1, 0), (50, 49), (7, 0)] {
            assert_eq!(advance_batch(&mut connection, &advances(count), now).await.unwrap(), moved);
            list_of_device(&mut connection, Uuid::from_u128(2).into()).await.unwrap();
        }
        let prepared = "SELECT count(*) AS count FROM pg_prepared_statements WHERE statement LIKE '%device_cursors%'";
        let prepared: Count = sql_query(prepared).get_result(&mut connection).await.unwrap();
        // The count itself names the table, too.
        assert_eq!(prepared.count, 3);
    }
}
