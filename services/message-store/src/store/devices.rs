//! Table `messaging.devices`, and the incarnation.

use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, BigInt, Nullable, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use entrenous_model::{DeviceId, Timestamp, UserId};
use entrenous_protocol::rpc::store::{AttachRequest, AttachResponse, Attaching, ConnectionCheck};
use uuid::Uuid;

use super::{statement, to_u64};
use crate::error::is_late;

statement! {
    /// See `messaging.attach_before`.
    Attach {
        not_after: Nullable<Timestamptz> = Option<DateTime<Utc>>,
        device_ids: Array<SqlUuid> = Vec<Uuid>,
        user_ids: Array<SqlUuid> = Vec<Uuid>,
        added_ats: Array<Timestamptz> = Vec<DateTime<Utc>>,
    } -> (BigInt, BigInt, BigInt, Timestamptz);
    "SELECT * FROM messaging.attach_before({}, {}, {}, {})",
}

statement! {
    /// What connections may have missed the news of.
    Check { user_ids: Array<SqlUuid> = Vec<Uuid>, device_ids: Array<SqlUuid> = Vec<Uuid> } -> (BigInt, BigInt);
    "SELECT coalesce(v.membership_version, 0), coalesce(d.connection_no, 0)
     FROM unnest({}, {}) WITH ORDINALITY AS i (user_id, device_id, place)
     LEFT JOIN messaging.user_versions v ON v.user_id = i.user_id
     LEFT JOIN messaging.devices d ON d.device_id = i.device_id
     ORDER BY i.place",
}

statement! {
    /// Notes when a device was added.
    AddDevice { device_id: SqlUuid = Uuid, user_id: SqlUuid = Uuid } -> (SqlUuid,);
    "INSERT INTO messaging.devices (device_id, user_id, added_at)
     VALUES ({}, {}, date_trunc('milliseconds', clock_timestamp())) ON CONFLICT (device_id) DO NOTHING",
}

statement! {
    /// The incarnation.
    Incarnation {} -> (BigInt,);
    "SELECT incarnation FROM messaging.incarnation",
}

/// Counts connections; see [`Attach`].
pub(crate) async fn attach(
    connection: &mut AsyncPgConnection,
    AttachRequest { connections, not_after }: &AttachRequest,
    now: DateTime<Utc>,
) -> diesel::QueryResult<AttachResponse> {
    let added_at = |attaching: &Attaching| made_at(attaching.device_id).unwrap_or(now);
    let statement = Attach {
        not_after: not_after.map(Timestamp::as_datetime),
        device_ids: connections.iter().map(|attaching| attaching.device_id.as_uuid()).collect(),
        user_ids: connections.iter().map(|attaching| attaching.user_id.as_uuid()).collect(),
        added_ats: connections.iter().map(added_at).collect(),
    };
    let rows: Vec<(i64, i64, i64, DateTime<Utc>)> = match statement.load(connection).await {
        Err(error) if is_late(&error) => Vec::new(),
        rows => rows?,
    };
    let (incarnation, at) = match rows.as_slice() {
        [(_, _, incarnation, at), ..] => (to_u64(*incarnation), Some(Timestamp::from(*at))),
        [] => (read_incarnation(connection).await?, None),
    };
    Ok(AttachResponse { incarnation, connection_nos: rows.iter().map(|(_, number, ..)| to_u64(*number)).collect(), at })
}

/// What connections may have missed the news of, in their order.
pub(crate) async fn check(
    connection: &mut AsyncPgConnection,
    connections: &[Attaching],
) -> diesel::QueryResult<Vec<ConnectionCheck>> {
    let statement = Check {
        user_ids: connections.iter().map(|one| one.user_id.as_uuid()).collect(),
        device_ids: connections.iter().map(|one| one.device_id.as_uuid()).collect(),
    };
    let rows: Vec<(i64, i64)> = statement.load(connection).await?;
    let check =
        |(version, number)| ConnectionCheck { membership_version: to_u64(version), connection_no: to_u64(number) };
    Ok(rows.into_iter().map(check).collect())
}

/// Notes that a device was added now. Doing it twice changes nothing.
pub(crate) async fn add(
    connection: &mut AsyncPgConnection,
    user_id: UserId,
    device_id: DeviceId,
) -> diesel::QueryResult<()> {
    AddDevice { device_id: device_id.as_uuid(), user_id: user_id.as_uuid() }.execute(connection).await.map(drop)
}

/// The incarnation.
pub(crate) async fn read_incarnation(connection: &mut AsyncPgConnection) -> diesel::QueryResult<u64> {
    let (incarnation,): (i64,) = Incarnation {}.get_result(connection).await?;
    Ok(to_u64(incarnation))
}

/// The moment inside a UUIDv7. Source: RFC 9562 5.7.
pub(crate) fn made_at(device_id: DeviceId) -> Option<DateTime<Utc>> {
    let (seconds, nanos) = device_id.as_uuid().get_timestamp()?.to_unix();
    DateTime::from_timestamp(i64::try_from(seconds).ok()?, nanos)
}
