//! Tables `delivery.user_cursors` and `delivery.receipts`, and what moves all cursors.

use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use entrenous_db::statement;
use entrenous_model::{ConversationId, DeviceId, Timestamp, UserId};
use entrenous_protocol::{
    live::ReceiptKind,
    rpc::tracker::{CursorAdvance, EntryReceipt, EntryReceiptsRequest, ReadCursorsRequest},
};
use uuid::Uuid;

use crate::error::RequestError;

statement! {
    /// See `delivery.advance`.
    Advance {
        device_ids: Array<SqlUuid> = Vec<Uuid>,
        conversation_ids: Array<SqlUuid> = Vec<Uuid>,
        user_ids: Array<SqlUuid> = Vec<Uuid>,
        delivered_seqs: Array<BigInt> = Vec<i64>,
        read_seqs: Array<BigInt> = Vec<i64>,
        keeps: Array<Bool> = Vec<bool>,
        now: Timestamptz = DateTime<Utc>,
    } -> (SqlUuid, SqlUuid, SqlUuid, Text, BigInt, BigInt);
    "SELECT * FROM delivery.advance({}, {}, {}, {}, {}, {}, {})",
}

statement! {
    /// Where people are, by place; 0 where nothing is known.
    Positions { user_ids: Array<SqlUuid> = Vec<Uuid>, conversation_ids: Array<SqlUuid> = Vec<Uuid> } -> (BigInt, BigInt);
    "SELECT coalesce(u.delivered_seq, 0), coalesce(u.read_seq, 0)
     FROM unnest({}, {}) WITH ORDINALITY AS i (user_id, conversation_id, place)
     LEFT JOIN LATERAL (
         SELECT u.delivered_seq, u.read_seq FROM delivery.user_cursors u
         WHERE u.user_id = i.user_id AND u.conversation_id = i.conversation_id OFFSET 0
     ) u ON true
     ORDER BY i.place",
}

statement! {
    /// One entry and some people, by place. The range that covers it is the first one that ends at it or later.
    OfEntry { conversation_id: SqlUuid = Uuid, seq: BigInt = i64, user_ids: Array<SqlUuid> = Vec<Uuid> }
        -> (Bool, Nullable<Timestamptz>, Bool, Nullable<Timestamptz>);
    "WITH entry AS (SELECT {} AS conversation_id, {} AS seq)
     SELECT coalesce(u.delivered_seq >= e.seq, false), d.received_at, coalesce(u.read_seq >= e.seq, false), r.received_at
     FROM entry e, unnest({}) WITH ORDINALITY AS i (user_id, place)
     LEFT JOIN delivery.user_cursors u ON u.user_id = i.user_id AND u.conversation_id = $1
     LEFT JOIN LATERAL (
         SELECT k.from_seq, k.received_at FROM delivery.receipts k
         WHERE k.conversation_id = $1 AND k.user_id = i.user_id AND k.kind = 'delivered' AND k.to_seq >= $2
         ORDER BY k.to_seq LIMIT 1
     ) d ON d.from_seq <= $2
     LEFT JOIN LATERAL (
         SELECT k.from_seq, k.received_at FROM delivery.receipts k
         WHERE k.conversation_id = $1 AND k.user_id = i.user_id AND k.kind = 'read' AND k.to_seq >= $2
         ORDER BY k.to_seq LIMIT 1
     ) r ON r.from_seq <= $2
     ORDER BY i.place",
}

/// What has moved for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) user_id: UserId,
    pub(crate) conversation_id: ConversationId,
    pub(crate) device_id: DeviceId,
    pub(crate) kind: ReceiptKind,
    pub(crate) up_to: u64,
}

/// How far a person is in a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Position {
    pub(crate) delivered_seq: u64,
    pub(crate) read_seq: u64,
}

/// Where people are, in the order of the advances.
pub(crate) async fn positions(
    connection: &mut AsyncPgConnection,
    advances: &[CursorAdvance],
) -> Result<Vec<Position>, RequestError> {
    let statement = Positions {
        user_ids: advances.iter().map(|advance| advance.user_id.as_uuid()).collect(),
        conversation_ids: advances.iter().map(|advance| advance.conversation_id.as_uuid()).collect(),
    };
    let rows: Vec<(i64, i64)> = statement.load(connection).await.map_err(entrenous_db::DbError::from)?;
    let position = |(delivered, read)| Position { delivered_seq: to_u64(delivered), read_seq: to_u64(read) };
    Ok(rows.into_iter().map(position).collect())
}

/// What a user has said to have read, in the order of the request.
pub(crate) async fn read_seqs(
    connection: &mut AsyncPgConnection,
    request: &ReadCursorsRequest,
) -> Result<Vec<u64>, RequestError> {
    let statement = Positions {
        user_ids: vec![request.user_id.as_uuid(); request.conversation_ids.len()],
        conversation_ids: request.conversation_ids.iter().map(|id| id.as_uuid()).collect(),
    };
    let rows: Vec<(i64, i64)> = statement.load(connection).await.map_err(entrenous_db::DbError::from)?;
    Ok(rows.into_iter().map(|(_, read)| to_u64(read)).collect())
}

/// Moves cursors forward in one statement, and tells what has moved for people. `advances` must be merged (see
/// [`crate::domain::cursors::merge`]): PostgreSQL refuses a batch that names a row twice, and unsorted ones deadlock.
/// `keeps` says for each whether the time is kept.
///
/// Runs at READ COMMITTED: where another replica changes the same row, this one waits for it and compares with the
/// outcome, so the greater seq stays whoever comes first.
pub(crate) async fn advance(
    connection: &mut AsyncPgConnection,
    advances: &[CursorAdvance],
    keeps: Vec<bool>,
    now: Timestamp,
) -> Result<Vec<Moved>, RequestError> {
    let seqs = |of: fn(&CursorAdvance) -> u64| -> Result<Vec<i64>, RequestError> {
        advances.iter().map(|advance| i64::try_from(of(advance)).map_err(|_| RequestError::SeqOutOfRange)).collect()
    };
    let statement = Advance {
        device_ids: advances.iter().map(|advance| advance.device_id.as_uuid()).collect(),
        conversation_ids: advances.iter().map(|advance| advance.conversation_id.as_uuid()).collect(),
        user_ids: advances.iter().map(|advance| advance.user_id.as_uuid()).collect(),
        delivered_seqs: seqs(|advance| advance.delivered_seq)?,
        read_seqs: seqs(CursorAdvance::known_read_seq)?,
        keeps,
        now: now.as_datetime(),
    };
    let rows: Vec<(Uuid, Uuid, Uuid, String, i64, i64)> =
        statement.load(connection).await.map_err(entrenous_db::DbError::from)?;
    let moved = |(user_id, conversation_id, device_id, kind, _, up_to): (Uuid, Uuid, Uuid, String, i64, i64)| Moved {
        user_id: user_id.into(),
        conversation_id: conversation_id.into(),
        device_id: device_id.into(),
        kind: if kind == "read" { ReceiptKind::Read } else { ReceiptKind::Delivered },
        up_to: to_u64(up_to),
    };
    Ok(rows.into_iter().map(moved).collect())
}

/// Delivered, when; read, when.
type OfEntryRow = (bool, Option<DateTime<Utc>>, bool, Option<DateTime<Utc>>);

/// What became of an entry, in the order of the people.
pub(crate) async fn of_entry(
    connection: &mut AsyncPgConnection,
    request: &EntryReceiptsRequest,
) -> Result<Vec<EntryReceipt>, RequestError> {
    let statement = OfEntry {
        conversation_id: request.conversation_id.as_uuid(),
        seq: i64::try_from(request.seq).map_err(|_| RequestError::SeqOutOfRange)?,
        user_ids: request.user_ids.iter().map(|id| id.as_uuid()).collect(),
    };
    let rows: Vec<OfEntryRow> = statement.load(connection).await.map_err(entrenous_db::DbError::from)?;
    let receipt = |(is_delivered, delivered_at, is_read, read_at): OfEntryRow| EntryReceipt {
        is_delivered,
        delivered_at: delivered_at.map(Timestamp::from),
        is_read,
        read_at: read_at.map(Timestamp::from),
    };
    Ok(rows.into_iter().map(receipt).collect())
}

fn to_u64(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
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
            read_seq: 0,
            sent_seq: 0,
        };
        (1..=count).map(advance).collect()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_statement_is_prepared_once_for_batches_of_any_size() {
        let migrate = async |url: String| entrenous_db::migrate(&url, crate::MIGRATIONS).await.map(drop);
        let postgres = TestPostgres::with_schema("delivery", migrate).await.unwrap();
        let mut connection = AsyncPgConnection::establish(&postgres.url()).await.unwrap();
        let now = chrono::DateTime::from_timestamp(1, 0).unwrap().into();
        for (count, moved) in [(1_usize, 1), (1, 0), (50, 49), (7, 0)] {
            let advances = advances(u128::try_from(count).unwrap());
            let found = advance(&mut connection, &advances, vec![true; count], now).await.unwrap();
            assert_eq!(found.len(), moved);
        }
        let prepared = "SELECT count(*) AS count FROM pg_prepared_statements WHERE statement LIKE '%delivery.advance%'";
        let prepared: Count = sql_query(prepared).get_result(&mut connection).await.unwrap();
        // The count itself names the function, too.
        assert_eq!(prepared.count, 2);
    }
}
