//! Tables `delivery.device_queues`, `delivery.device_messages` and `delivery.device_message_ids`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, BigInt, Binary, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use entrenous_db::{DbError, statement};
use entrenous_model::{DeviceId, Timestamp};
use entrenous_protocol::{
    Code, Failure, RawValue,
    device_message::DeviceMessage,
    rpc::tracker::{
        AckDeviceMessagesRequest, DeviceMessages, DeviceQueue, QUEUE_BYTES_MAX, QUEUE_MESSAGES_MAX,
        ReadDeviceMessagesRequest, SendDeviceMessagesRequest,
    },
};
use uuid::Uuid;

use crate::error::RequestError;

/// How long a message waits at most.
pub(crate) const WAITS_MAX: Duration = Duration::from_secs(30 * 24 * 3_600);
/// Messages in one page.
const PAGE_MESSAGES_MAX: i64 = 200;
/// Messages that are deleted at once when their time is over.
const EXPIRED_AT_ONCE: i64 = 500;

statement! {
    /// See `delivery.enqueue`.
    Enqueue {
        device_ids: Array<SqlUuid> = Vec<Uuid>,
        ids: Array<SqlUuid> = Vec<Uuid>,
        contents: Array<Binary> = Vec<Vec<u8>>,
        sender_id: SqlUuid = Uuid,
        sender_device_id: SqlUuid = Uuid,
        now: Timestamptz = DateTime<Utc>,
        expires_at: Timestamptz = DateTime<Utc>,
        count_max: BigInt = i64,
        bytes_max: BigInt = i64,
    } -> (SqlUuid, Nullable<SqlUuid>, Nullable<Text>, Nullable<BigInt>);
    "SELECT * FROM delivery.enqueue({}, {}, {}, {}, {}, {}, {}, {}, {})",
}

statement! {
    /// Where queues stand, by place.
    Queues { device_ids: Array<SqlUuid> = Vec<Uuid> } -> (BigInt, Bool, Nullable<BigInt>);
    "SELECT coalesce(q.last_seq, 0), coalesce(q.waiting_count > 0, false),
            CASE WHEN q.expired_seq > q.acknowledged_seq THEN q.expired_seq END
     FROM unnest({}) WITH ORDINALITY AS i (device_id, place)
     LEFT JOIN LATERAL (
         SELECT q.last_seq, q.waiting_count, q.expired_seq, q.acknowledged_seq
         FROM delivery.device_queues q WHERE q.device_id = i.device_id OFFSET 0
     ) q ON true
     ORDER BY i.place",
}

statement! {
    /// The queue's last seq with each message of a page, or alone where none waits; one message more than the page has.
    /// The content of that one is not read.
    Page {
        device_id: SqlUuid = Uuid, after: BigInt = i64, now: Timestamptz = DateTime<Utc>, count: BigInt = i64,
        bytes_max: BigInt = i64,
    } -> (
        BigInt, Nullable<BigInt>, Nullable<SqlUuid>, Nullable<SqlUuid>, Nullable<SqlUuid>, Nullable<Binary>,
        Nullable<Timestamptz>
    );
    "SELECT q.last_seq, m.seq, m.id, m.sender_id, m.sender_device_id,
            CASE WHEN m.fits THEN m.content END, m.sent_at
     FROM (SELECT {} AS device_id, {} AS after, {} AS now, {} AS count, {} AS bytes_max) p
     JOIN delivery.device_queues q ON q.device_id = p.device_id
     LEFT JOIN LATERAL (
         SELECT w.*, w.place = 1 OR (w.place <= p.count AND w.bytes <= p.bytes_max) AS fits
         FROM (
             SELECT c.*, row_number() OVER (ORDER BY c.seq) AS place,
                    sum(octet_length(c.content)) OVER (ORDER BY c.seq) AS bytes
             FROM (
                 SELECT k.* FROM delivery.device_messages k
                 WHERE k.device_id = $1 AND k.seq > $2 AND k.expires_at > $3
                 ORDER BY k.seq LIMIT $4 + 1
             ) c
         ) w
     ) m ON true
     ORDER BY m.seq",
}

statement! {
    /// See `delivery.acknowledge`.
    Acknowledge { device_id: SqlUuid = Uuid, up_to: BigInt = i64 } -> Text;
    "SELECT delivery.acknowledge({}, {})::text",
}

statement! {
    /// See `delivery.remove_queue`.
    Remove { device_id: SqlUuid = Uuid } -> Text;
    "SELECT delivery.remove_queue({})::text",
}

statement! {
    /// See `delivery.expire`.
    Expire { now: Timestamptz = DateTime<Utc>, limit: BigInt = i64 } -> BigInt;
    "SELECT delivery.expire({}, {})",
}

/// Device, message, fault, last seq.
type QueuedRow = (Uuid, Option<Uuid>, Option<String>, Option<i64>);

/// Queues messages, all or none, and gives the last seq of each queue that was named.
pub(crate) async fn enqueue(
    connection: &mut AsyncPgConnection,
    request: SendDeviceMessagesRequest,
    now: Timestamp,
) -> Result<Vec<(DeviceId, u64)>, RequestError> {
    let SendDeviceMessagesRequest { sender_id, sender_device_id, messages } = request;
    let statement = Enqueue {
        device_ids: messages.iter().map(|message| message.device_id.as_uuid()).collect(),
        ids: messages.iter().map(|message| message.id.as_uuid()).collect(),
        contents: messages.into_iter().map(|message| Box::<str>::from(message.content).into_string().into()).collect(),
        sender_id: sender_id.as_uuid(),
        sender_device_id: sender_device_id.as_uuid(),
        now: now.as_datetime(),
        expires_at: (now + WAITS_MAX).as_datetime(),
        count_max: i64::from(QUEUE_MESSAGES_MAX),
        bytes_max: i64::try_from(QUEUE_BYTES_MAX).unwrap_or(i64::MAX),
    };
    let rows: Vec<QueuedRow> = statement.load(connection).await.map_err(DbError::from)?;
    let queued = |(device, message, fault, last_seq): QueuedRow| match fault {
        Some(fault) => Err(RequestError::Refused(refusal(&fault, device, message))),
        None => Ok((device.into(), to_u64(last_seq.unwrap_or_default()))),
    };
    rows.into_iter().map(queued).collect()
}

fn refusal(fault: &str, device: Uuid, message: Option<Uuid>) -> Failure {
    match fault {
        "removed" => Failure::new(Code::NotFound, format!("device {device}")),
        "conflict" => {
            let message = message.unwrap_or_default();
            Failure::new(Code::IdConflict, format!("device message {message} for device {device}"))
        }
        _ => {
            let limits = format!("at most {QUEUE_MESSAGES_MAX} messages and {QUEUE_BYTES_MAX} bytes wait for a device");
            let mut failure = Failure::new(Code::TooLarge, format!("device {device}: {limits}"));
            failure.extra.insert("device_id".to_owned(), device.to_string().into());
            failure
        }
    }
}

/// Where queues stand, in the order of the devices.
pub(crate) async fn list(
    connection: &mut AsyncPgConnection,
    device_ids: &[DeviceId],
) -> Result<Vec<DeviceQueue>, RequestError> {
    let statement = Queues { device_ids: device_ids.iter().map(|id| id.as_uuid()).collect() };
    let rows: Vec<(i64, bool, Option<i64>)> = statement.load(connection).await.map_err(DbError::from)?;
    let queue = |(last_seq, has_waiting, expired): (i64, bool, Option<i64>)| DeviceQueue {
        last_seq: to_u64(last_seq),
        has_waiting,
        expired_up_to: expired.map(to_u64),
    };
    Ok(rows.into_iter().map(queue).collect())
}

type PageRow = (i64, Option<i64>, Option<Uuid>, Option<Uuid>, Option<Uuid>, Option<Vec<u8>>, Option<DateTime<Utc>>);

/// A page of what waits: one statement, so that nothing up to the last seq is missing from it.
pub(crate) async fn read(
    connection: &mut AsyncPgConnection,
    request: &ReadDeviceMessagesRequest,
    now: Timestamp,
) -> Result<DeviceMessages, RequestError> {
    let statement = Page {
        device_id: request.device_id.as_uuid(),
        after: i64::try_from(request.after).unwrap_or(i64::MAX),
        now: now.as_datetime(),
        count: PAGE_MESSAGES_MAX,
        bytes_max: i64::try_from(request.bytes_max).unwrap_or(i64::MAX),
    };
    let rows: Vec<PageRow> = statement.load(connection).await.map_err(DbError::from)?;
    let last_seq = rows.as_slice().first().map_or(0, |row| to_u64(row.0));
    let waiting = rows.iter().filter(|row| row.1.is_some()).count();
    let messages: Vec<DeviceMessage> = rows.into_iter().map_while(message).collect();
    let has_more = messages.len() < waiting;
    Ok(DeviceMessages { messages, last_seq, has_more })
}

fn message((_, seq, id, sender_id, sender_device_id, content, sent_at): PageRow) -> Option<DeviceMessage> {
    let content = String::from_utf8(content?).ok().and_then(|text| RawValue::from_string(text).ok());
    Some(DeviceMessage {
        seq: to_u64(seq?),
        id: id?.into(),
        sender_id: sender_id?.into(),
        sender_device_id: sender_device_id?.into(),
        // It was JSON when it was stored.
        content: content.unwrap_or_else(|| RawValue::NULL.to_owned()),
        sent_at: sent_at?.into(),
    })
}

/// Removes what a device has.
pub(crate) async fn acknowledge(
    connection: &mut AsyncPgConnection,
    request: AckDeviceMessagesRequest,
) -> Result<(), RequestError> {
    let statement =
        Acknowledge { device_id: request.device_id.as_uuid(), up_to: i64::try_from(request.up_to).unwrap_or(i64::MAX) };
    let _: Vec<String> = statement.load(connection).await.map_err(DbError::from)?;
    Ok(())
}

/// Removes a queue for good.
pub(crate) async fn remove(connection: &mut AsyncPgConnection, device_id: DeviceId) -> Result<(), RequestError> {
    let _: Vec<String> = Remove { device_id: device_id.as_uuid() }.load(connection).await.map_err(DbError::from)?;
    Ok(())
}

/// Deletes a batch of what has waited for too long; gives whether there may be more.
pub(crate) async fn expire(connection: &mut AsyncPgConnection, now: Timestamp) -> Result<bool, DbError> {
    let statement = Expire { now: now.as_datetime(), limit: EXPIRED_AT_ONCE };
    let counts: Vec<i64> = statement.load(connection).await.map_err(DbError::from)?;
    Ok(counts.into_iter().any(|count| count >= EXPIRED_AT_ONCE))
}

fn to_u64(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
