//! Table `messaging.scheduled`: messages that are sent later.
//!
//! A row is taken with a lease by whoever sends it. What was appended under a lease was appended before its end, by the
//! database's clock (see docs/adr/0021).

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::{
    prelude::Queryable,
    sql_types::{Array, BigInt, Binary, Bool, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use entrenous_model::{EntryId, UserId};
use entrenous_protocol::{
    NewMessage,
    limits::PAGE_BYTES_MAX,
    rpc::store::AppendMessage,
    scheduled::{ScheduledMessage, ScheduledState},
};
use serde::Deserialize;
use uuid::Uuid;

use super::{parse, statement, to_i64, to_u64};

/// Rows taken at once.
const CLAIM_ROWS: i64 = 100;
/// Bytes of messages taken at once, beyond the first row.
const CLAIM_BYTES: i64 = 512 * 1024;

/// Which row: author and message.
pub(crate) type Key = (Uuid, Uuid);

type RowSql = (SqlUuid, SqlUuid, SqlUuid, SqlUuid, Binary, Timestamptz, Text, BigInt, Timestamptz);

macro_rules! row_columns {
    () => {
        "s.sender_id, s.id, s.conversation_id, s.sender_device_id, s.message, s.send_at, s.state, s.revision,
         s.created_at"
    };
}

/// A message that waits for its time.
#[derive(Debug, Clone, Queryable)]
pub(crate) struct ScheduledRow {
    sender_id: Uuid,
    id: Uuid,
    conversation_id: Uuid,
    sender_device_id: Uuid,
    message: Vec<u8>,
    pub(crate) send_at: DateTime<Utc>,
    state: String,
    pub(crate) revision: i64,
    created_at: DateTime<Utc>,
}

/// A row that is the caller's to send, until its lease ends.
#[derive(Debug, Clone)]
pub(crate) struct Claimed {
    pub(crate) row: ScheduledRow,
    /// The conversation's epoch is later than the content's.
    pub(crate) is_stale: bool,
}

/// A message to be kept: what [`schedule`] and [`change`] write.
#[derive(Debug)]
pub(crate) struct Kept<'a> {
    pub(crate) message: &'a AppendMessage,
    pub(crate) send_at: DateTime<Utc>,
    pub(crate) state: ScheduledState,
}

statement! {
    /// One row, and the clock.
    One { sender_id: SqlUuid = Uuid, id: SqlUuid = Uuid } -> RowSql;
    "SELECT ", row_columns!(), " FROM messaging.scheduled s WHERE s.sender_id = {} AND s.id = {}",
}

statement! {
    /// The clock.
    Now {} -> (Timestamptz,);
    "SELECT date_trunc('milliseconds', clock_timestamp())",
}

statement! {
    /// A user's rows from a place on, soonest first, as many as fit; and with each whether there are more behind it.
    PageOf {
        sender_id: SqlUuid = Uuid,
        send_at: Nullable<Timestamptz> = Option<DateTime<Utc>>,
        id: Nullable<SqlUuid> = Option<Uuid>,
        row_limit: BigInt = i64,
        bytes_max: BigInt = i64,
    } -> (RowSql, Bool);
    "WITH page AS MATERIALIZED (
         SELECT sender_id, id, row_number() OVER by_time AS place, count(*) OVER () AS total,
                sum(octet_length(message)) OVER by_time AS up_to
         FROM messaging.scheduled
         WHERE sender_id = {} AND ({}::timestamptz IS NULL OR (send_at, id) > ($2, {}::uuid))
         WINDOW by_time AS (ORDER BY send_at, id)
     )
     SELECT ", row_columns!(), ", p.place < p.total
     FROM page p JOIN messaging.scheduled s ON s.sender_id = p.sender_id AND s.id = p.id
     WHERE p.place <= {} AND (p.place = 1 OR p.up_to <= {})
     ORDER BY p.place",
}

statement! {
    /// See `messaging.schedule`.
    Schedule {
        sender_id: SqlUuid = Uuid,
        id: SqlUuid = Uuid,
        conversation_id: SqlUuid = Uuid,
        device_id: SqlUuid = Uuid,
        message: Binary = Vec<u8>,
        epoch: Nullable<BigInt> = Option<i64>,
        send_at: Timestamptz = DateTime<Utc>,
        rows_max: BigInt = i64,
    } -> (Text,);
    "SELECT messaging.schedule({}, {}, {}, {}, {}, {}, {}, {})",
}

statement! {
    /// See `messaging.change_scheduled`.
    Change {
        sender_id: SqlUuid = Uuid,
        id: SqlUuid = Uuid,
        revision: Nullable<BigInt> = Option<i64>,
        message: Nullable<Binary> = Option<Vec<u8>>,
        epoch: Nullable<BigInt> = Option<i64>,
        send_at: Nullable<Timestamptz> = Option<DateTime<Utc>>,
        state: Nullable<Text> = Option<&'static str>,
        lease_ms: BigInt = i64,
    } -> (Text, Nullable<Timestamptz>, Bool);
    "SELECT outcome, leased_until, is_stale FROM messaging.change_scheduled({}, {}, {}, {}, {}, {}, {}, {})",
}

statement! {
    /// In how many milliseconds the next row is due.
    NextDue {} -> (BigInt,);
    "SELECT greatest(ceil(extract(epoch FROM due_at - clock_timestamp()) * 1000), 0)::bigint
     FROM messaging.scheduled WHERE state = 'waiting' ORDER BY due_at, id LIMIT 1",
}

statement! {
    /// Takes rows that are due, the longest due first; none that another replica is taking.
    Claim { row_limit: BigInt = i64, bytes_max: BigInt = i64, lease_ms: BigInt = i64 } -> (RowSql, Bool, Timestamptz);
    "WITH due AS MATERIALIZED (
         SELECT sender_id, id, due_at, octet_length(message) AS bytes FROM messaging.scheduled
         WHERE state = 'waiting' AND due_at <= now()
         ORDER BY due_at, id LIMIT {} FOR UPDATE SKIP LOCKED
     ), placed AS (
         SELECT sender_id, id, row_number() OVER by_due AS place, sum(bytes) OVER by_due AS up_to FROM due
         WINDOW by_due AS (ORDER BY due_at, id)
     ), s AS (
         UPDATE messaging.scheduled s SET due_at = p.lease_end, leased_until = p.lease_end
         FROM (SELECT d.*, b.lease_end
               FROM placed d,
                    (SELECT {} AS bytes_max,
                            date_trunc('milliseconds', now() + {} * interval '1 millisecond') AS lease_end) b
               WHERE d.place = 1 OR d.up_to <= b.bytes_max) p
         WHERE s.sender_id = p.sender_id AND s.id = p.id
         RETURNING p.place, s.*
     )
     SELECT ", row_columns!(), ", coalesce(s.epoch < h.epoch, false), s.leased_until
     FROM s LEFT JOIN messaging.heads h ON h.conversation_id = s.conversation_id
     ORDER BY s.place",
}

statement! {
    /// Deletes what was sent.
    Conclude {
        sender_ids: Array<SqlUuid> = Vec<Uuid>, ids: Array<SqlUuid> = Vec<Uuid>, leased_until: Timestamptz = DateTime<Utc>,
    } -> (SqlUuid, SqlUuid);
    "DELETE FROM messaging.scheduled s USING unnest({}, {}) AS i (sender_id, id)
     WHERE s.sender_id = i.sender_id AND s.id = i.id AND s.leased_until = {}
     RETURNING s.sender_id, s.id",
}

statement! {
    /// Notes what cannot be sent.
    Fail {
        sender_ids: Array<SqlUuid> = Vec<Uuid>, ids: Array<SqlUuid> = Vec<Uuid>, leased_until: Timestamptz = DateTime<Utc>,
    } -> (SqlUuid, SqlUuid);
    "UPDATE messaging.scheduled s SET state = 'failed', revision = s.revision + 1, leased_until = NULL
     FROM unnest({}, {}) AS i (sender_id, id)
     WHERE s.sender_id = i.sender_id AND s.id = i.id AND s.leased_until = {}
     RETURNING s.sender_id, s.id",
}

statement! {
    /// Leaves a row for later that is known not to have been sent.
    Defer {
        wait_ms: BigInt = i64, sender_id: SqlUuid = Uuid, id: SqlUuid = Uuid, leased_until: Timestamptz = DateTime<Utc>,
    } -> (SqlUuid,);
    "UPDATE messaging.scheduled s SET due_at = clock_timestamp() + {} * interval '1 millisecond', leased_until = NULL
     WHERE s.sender_id = {} AND s.id = {} AND s.leased_until = {}",
}

statement! {
    /// See `messaging.expire_scheduled`.
    Expire { sender_id: SqlUuid = Uuid, id: SqlUuid = Uuid, leased_until: Timestamptz = DateTime<Utc> } -> (Text,);
    "SELECT messaging.expire_scheduled({}, {}, {})",
}

statement! {
    /// Forgets what could not be sent, the longest ago first; nothing that its author is changing.
    Forget { kept_days: Integer = i32, row_limit: BigInt = i64 } -> (SqlUuid,);
    "WITH old AS MATERIALIZED (
         SELECT sender_id, id FROM messaging.scheduled
         WHERE state <> 'waiting' AND due_at < now() - {} * interval '1 day'
         ORDER BY due_at LIMIT {} FOR UPDATE SKIP LOCKED
     )
     DELETE FROM messaging.scheduled s USING old WHERE s.sender_id = old.sender_id AND s.id = old.id",
}

impl ScheduledRow {
    /// Which row.
    pub(crate) fn key(&self) -> Key {
        (self.sender_id, self.id)
    }

    /// Its state.
    pub(crate) fn state(&self) -> diesel::QueryResult<ScheduledState> {
        parse(&self.state, ScheduledState::parse)
    }

    /// What is to be appended.
    pub(crate) fn append_message(&self) -> diesel::QueryResult<AppendMessage> {
        let message: NewMessage = serde_json::from_slice(&self.message)
            .map_err(|error| diesel::result::Error::DeserializationError(error.into()))?;
        Ok(AppendMessage {
            conversation_id: self.conversation_id.into(),
            direct_with: None,
            sender_id: self.sender_id.into(),
            sender_device_id: self.sender_device_id.into(),
            origin: 0,
            message,
            trace: None,
        })
    }

    /// As its author sees it.
    pub(crate) fn resource(&self) -> diesel::QueryResult<ScheduledMessage> {
        Ok(resource(self.append_message()?, self.send_at, self.state()?, self.created_at))
    }

    /// The row with what a change has made of it.
    pub(crate) fn changed(&self, kept: &Kept<'_>) -> diesel::QueryResult<Self> {
        Ok(Self {
            message: text_of(&kept.message.message)?,
            send_at: kept.send_at,
            state: kept.state.as_str().to_owned(),
            ..self.clone()
        })
    }

    /// Where the page after it begins.
    pub(crate) fn position(&self) -> (DateTime<Utc>, EntryId) {
        (self.send_at, self.id.into())
    }
}

fn resource(
    message: AppendMessage,
    send_at: DateTime<Utc>,
    state: ScheduledState,
    created_at: DateTime<Utc>,
) -> ScheduledMessage {
    let AppendMessage { conversation_id, sender_id, sender_device_id, message, .. } = message;
    ScheduledMessage {
        id: message.id,
        conversation_id,
        sender_id,
        sender_device_id,
        message_type: message.message_type,
        content: message.content,
        reply_to: message.reply_to,
        thread_id: message.thread_id,
        attachments: message.attachments,
        mentions: message.mentions,
        metadata: message.metadata,
        signature: message.signature,
        send_at: send_at.into(),
        state,
        created_at: created_at.into(),
    }
}

fn text_of(message: &NewMessage) -> diesel::QueryResult<Vec<u8>> {
    serde_json::to_vec(message).map_err(|error| diesel::result::Error::SerializationError(error.into()))
}

/// The epoch that a ciphertext names.
fn epoch_of(message: &NewMessage) -> Option<i64> {
    #[derive(Deserialize)]
    struct Content {
        epoch: Option<i64>,
    }
    serde_json::from_str::<Content>(message.content.get()).ok()?.epoch
}

/// What became of a message that was to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheduled {
    Kept,
    /// Its author has one with this id.
    Exists,
    TooMany,
}

/// Keeps a message, of at most so many of its author's.
pub(crate) async fn schedule(
    connection: &mut AsyncPgConnection,
    message: &AppendMessage,
    send_at: DateTime<Utc>,
    rows_max: u32,
) -> diesel::QueryResult<Scheduled> {
    let statement = Schedule {
        sender_id: message.sender_id.as_uuid(),
        id: message.message.id.as_uuid(),
        conversation_id: message.conversation_id.as_uuid(),
        device_id: message.sender_device_id.as_uuid(),
        message: text_of(&message.message)?,
        epoch: epoch_of(&message.message),
        send_at,
        rows_max: rows_max.into(),
    };
    let (outcome,): (String,) = statement.get_result(connection).await?;
    parse(&outcome, |name| match name {
        "kept" => Some(Scheduled::Kept),
        "exists" => Some(Scheduled::Exists),
        "too_many" => Some(Scheduled::TooMany),
        _ => None,
    })
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Changed {
    Done {
        /// It is due, and the caller's to send until then.
        leased_until: Option<DateTime<Utc>>,
        /// The conversation's epoch is later than the content's.
        is_stale: bool,
    },
    /// There is none, or it was sent.
    Gone,
    /// Somebody is sending it, or changed it meanwhile: try again.
    Again,
}

/// Changes a row that has not changed since it was read.
pub(crate) async fn change(
    connection: &mut AsyncPgConnection,
    row: &ScheduledRow,
    kept: &Kept<'_>,
    lease: Duration,
) -> diesel::QueryResult<Changed> {
    let statement = Change {
        sender_id: row.sender_id,
        id: row.id,
        revision: Some(row.revision),
        message: Some(text_of(&kept.message.message)?),
        epoch: epoch_of(&kept.message.message),
        send_at: Some(kept.send_at),
        state: Some(kept.state.as_str()),
        lease_ms: milliseconds(lease),
    };
    run_change(connection, statement).await
}

/// Deletes a row.
pub(crate) async fn cancel(connection: &mut AsyncPgConnection, key: Key) -> diesel::QueryResult<Changed> {
    let (sender_id, id) = key;
    let statement =
        Change { sender_id, id, revision: None, message: None, epoch: None, send_at: None, state: None, lease_ms: 0 };
    run_change(connection, statement).await
}

async fn run_change(connection: &mut AsyncPgConnection, statement: Change) -> diesel::QueryResult<Changed> {
    let (outcome, leased_until, is_stale): (String, _, _) = statement.get_result(connection).await?;
    parse(&outcome, |name| match name {
        "done" => Some(Changed::Done { leased_until, is_stale }),
        "gone" => Some(Changed::Gone),
        "sending" | "changed" => Some(Changed::Again),
        _ => None,
    })
}

/// One row.
pub(crate) async fn get(
    connection: &mut AsyncPgConnection,
    (sender_id, id): Key,
) -> diesel::QueryResult<Option<ScheduledRow>> {
    let rows: Vec<ScheduledRow> = One { sender_id, id }.load(connection).await?;
    Ok(rows.into_iter().next())
}

/// The database's clock.
pub(crate) async fn now(connection: &mut AsyncPgConnection) -> diesel::QueryResult<DateTime<Utc>> {
    let (now,) = Now {}.get_result(connection).await?;
    Ok(now)
}

/// A user's rows after a position, soonest first; and whether there are more.
pub(crate) async fn list(
    connection: &mut AsyncPgConnection,
    sender_id: UserId,
    after: Option<(DateTime<Utc>, EntryId)>,
    limit: u32,
) -> diesel::QueryResult<(Vec<ScheduledRow>, bool)> {
    let (send_at, id) = after.unzip();
    let statement = PageOf {
        sender_id: sender_id.as_uuid(),
        send_at,
        id: id.map(EntryId::as_uuid),
        row_limit: limit.into(),
        bytes_max: to_i64(u64::try_from(PAGE_BYTES_MAX).unwrap_or(u64::MAX)),
    };
    let rows: Vec<(ScheduledRow, bool)> = statement.load(connection).await?;
    let has_more = rows.last().is_some_and(|(_, has_more)| *has_more);
    Ok((rows.into_iter().map(|(row, _)| row).collect(), has_more))
}

/// How long until the next row is due; none where none waits.
pub(crate) async fn next_due(connection: &mut AsyncPgConnection) -> diesel::QueryResult<Option<Duration>> {
    let rows: Vec<(i64,)> = NextDue {}.load(connection).await?;
    Ok(rows.into_iter().next().map(|(wait_ms,)| Duration::from_millis(to_u64(wait_ms))))
}

/// Forgets up to so many rows that could not be sent, so many days ago; gives how many.
pub(crate) async fn forget(
    connection: &mut AsyncPgConnection,
    kept_days: u16,
    rows_max: u32,
) -> diesel::QueryResult<u64> {
    let statement = Forget { kept_days: kept_days.into(), row_limit: rows_max.into() };
    statement.execute(connection).await.map(|count| u64::try_from(count).unwrap_or(u64::MAX))
}

/// Takes rows that are due; and tells until when they are the caller's.
pub(crate) async fn claim(
    connection: &mut AsyncPgConnection,
    lease: Duration,
) -> diesel::QueryResult<Option<(Vec<Claimed>, DateTime<Utc>)>> {
    let statement = Claim { row_limit: CLAIM_ROWS, bytes_max: CLAIM_BYTES, lease_ms: milliseconds(lease) };
    let rows: Vec<(ScheduledRow, bool, DateTime<Utc>)> = statement.load(connection).await?;
    let Some(leased_until) = rows.last().map(|(_, _, leased_until)| *leased_until) else { return Ok(None) };
    let claimed = rows.into_iter().map(|(row, is_stale, _)| Claimed { row, is_stale }).collect();
    Ok(Some((claimed, leased_until)))
}

/// Deletes what was sent under this lease; gives what was there.
pub(crate) async fn conclude(
    connection: &mut AsyncPgConnection,
    keys: &[Key],
    leased_until: DateTime<Utc>,
) -> diesel::QueryResult<Vec<Key>> {
    let (sender_ids, ids) = keys.iter().copied().unzip();
    Conclude { sender_ids, ids, leased_until }.load(connection).await
}

/// Notes what cannot be sent; gives what was there.
pub(crate) async fn fail(
    connection: &mut AsyncPgConnection,
    keys: &[Key],
    leased_until: DateTime<Utc>,
) -> diesel::QueryResult<Vec<Key>> {
    let (sender_ids, ids) = keys.iter().copied().unzip();
    Fail { sender_ids, ids, leased_until }.load(connection).await
}

/// Leaves a row for later that is known not to have been sent.
pub(crate) async fn defer(
    connection: &mut AsyncPgConnection,
    (sender_id, id): Key,
    leased_until: DateTime<Utc>,
    wait: Duration,
) -> diesel::QueryResult<()> {
    Defer { wait_ms: milliseconds(wait), sender_id, id, leased_until }.execute(connection).await.map(drop)
}

/// What became of a message whose epoch is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expired {
    Stale,
    /// An earlier lease did send it.
    Sent,
    /// The lease is another's by now.
    Gone,
}

/// Notes that the epoch of a message is over.
pub(crate) async fn expire(
    connection: &mut AsyncPgConnection,
    (sender_id, id): Key,
    leased_until: DateTime<Utc>,
) -> diesel::QueryResult<Expired> {
    let (outcome,): (String,) = Expire { sender_id, id, leased_until }.get_result(connection).await?;
    parse(&outcome, |name| match name {
        "stale" => Some(Expired::Stale),
        "sent" => Some(Expired::Sent),
        "gone" => Some(Expired::Gone),
        _ => None,
    })
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
