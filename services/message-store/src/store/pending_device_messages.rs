//! Table `messaging.pending_device_messages`: device messages that came with an entry and are not known to be queued.

use std::time::Duration;

use diesel::sql_types::{Array, BigInt, Binary, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::{statement, to_u64};

/// Rows claimed at once.
const CLAIM_ROWS: i64 = 100;
/// Bytes of content claimed at once, beyond the first row: below what the bus takes in one request.
const CLAIM_BYTES: i64 = 512 * 1024;

/// Which row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PendingRow {
    pub(crate) device_id: Uuid,
    pub(crate) id: Uuid,
}

/// A row that is this replica's for the length of its lease.
pub(crate) struct ClaimedMessage {
    pub(crate) row: PendingRow,
    pub(crate) user_id: Uuid,
    pub(crate) sender_id: Uuid,
    pub(crate) sender_device_id: Uuid,
    pub(crate) content: Vec<u8>,
    pub(crate) age: Duration,
}

statement! {
    /// Claims rows that are due, the longest due first; none that another replica is claiming.
    Claim { row_limit: BigInt = i64, bytes_max: BigInt = i64, lease_ms: BigInt = i64 } -> (
        SqlUuid, SqlUuid, SqlUuid, SqlUuid, SqlUuid, Binary, BigInt
    );
    "WITH due AS MATERIALIZED (
         SELECT device_id, id, due_at, octet_length(content) AS bytes
         FROM messaging.pending_device_messages
         WHERE due_at <= now()
         ORDER BY due_at LIMIT {} FOR UPDATE SKIP LOCKED
     ), placed AS (
         SELECT device_id, id, row_number() OVER by_age AS place, sum(bytes) OVER by_age AS up_to
         FROM due
         WINDOW by_age AS (ORDER BY due_at, device_id, id)
     ), claimed AS (
         UPDATE messaging.pending_device_messages m SET due_at = now() + p.lease
         FROM (SELECT d.*, b.lease FROM placed d, (SELECT {} AS bytes_max, {} * interval '1 millisecond' AS lease) b
               WHERE d.place = 1 OR d.up_to <= b.bytes_max) p
         WHERE m.device_id = p.device_id AND m.id = p.id
         RETURNING p.place, m.device_id, m.id, m.user_id, m.sender_id, m.sender_device_id, m.content,
                   greatest((extract(epoch FROM now() - m.created_at) * 1000)::bigint, 0) AS age_ms
     )
     SELECT device_id, id, user_id, sender_id, sender_device_id, content, age_ms FROM claimed ORDER BY place",
}

statement! {
    /// Deletes rows.
    Delete { device_ids: Array<SqlUuid> = Vec<Uuid>, ids: Array<SqlUuid> = Vec<Uuid> } -> (SqlUuid,);
    "DELETE FROM messaging.pending_device_messages m
     USING (SELECT * FROM unnest({}, {}) AS i (device_id, id) ORDER BY device_id, id) d
     WHERE m.device_id = d.device_id AND m.id = d.id",
}

statement! {
    /// Leaves rows alone for a while.
    Defer {
        wait_ms: Array<BigInt> = Vec<i64>, device_ids: Array<SqlUuid> = Vec<Uuid>, ids: Array<SqlUuid> = Vec<Uuid>,
    } -> (SqlUuid,);
    "UPDATE messaging.pending_device_messages m SET due_at = now() + d.wait_ms * interval '1 millisecond'
     FROM (SELECT * FROM unnest({}, {}, {}) AS i (wait_ms, device_id, id) ORDER BY device_id, id) d
     WHERE m.device_id = d.device_id AND m.id = d.id",
}

/// Device, message, user, sender, their device, content, age in milliseconds.
type ClaimedColumns = (Uuid, Uuid, Uuid, Uuid, Uuid, Vec<u8>, i64);

/// Claims a batch: nobody else's for so long.
pub(crate) async fn claim(
    connection: &mut AsyncPgConnection,
    lease: Duration,
) -> diesel::QueryResult<Vec<ClaimedMessage>> {
    let statement = Claim { row_limit: CLAIM_ROWS, bytes_max: CLAIM_BYTES, lease_ms: milliseconds(lease) };
    let rows: Vec<ClaimedColumns> = statement.load(connection).await?;
    let claimed =
        |(device_id, id, user_id, sender_id, sender_device_id, content, age_ms): ClaimedColumns| ClaimedMessage {
            row: PendingRow { device_id, id },
            user_id,
            sender_id,
            sender_device_id,
            content,
            age: Duration::from_millis(to_u64(age_ms)),
        };
    Ok(rows.into_iter().map(claimed).collect())
}

/// Deletes what is done with.
pub(crate) async fn delete(connection: &mut AsyncPgConnection, rows: &[PendingRow]) -> diesel::QueryResult<()> {
    let (device_ids, ids) = rows.iter().map(|row| (row.device_id, row.id)).unzip();
    Delete { device_ids, ids }.execute(connection).await.map(drop)
}

/// Leaves each row alone for as long as it says.
pub(crate) async fn defer(
    connection: &mut AsyncPgConnection,
    rows: &[(PendingRow, Duration)],
) -> diesel::QueryResult<()> {
    let wait_ms = rows.iter().map(|(_, wait)| milliseconds(*wait)).collect();
    let (device_ids, ids) = rows.iter().map(|(row, _)| (row.device_id, row.id)).unzip();
    Defer { wait_ms, device_ids, ids }.execute(connection).await.map(drop)
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
