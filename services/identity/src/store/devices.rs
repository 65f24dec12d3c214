//! Devices.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use entrenous_model::{DeviceId, LoginId, Timestamp, UserId};
use entrenous_protocol::rest::Device;
use uuid::Uuid;

use super::{
    audit,
    logins::{self, EndReason},
    observe,
    schema::devices,
    users,
};

#[derive(Queryable, Selectable)]
#[diesel(table_name = devices, check_for_backend(diesel::pg::Pg))]
struct DeviceRow {
    id: Uuid,
    name: String,
    platform: Option<String>,
    created_at: DateTime<Utc>,
    last_login_at: Option<DateTime<Utc>>,
}

impl From<DeviceRow> for Device {
    fn from(row: DeviceRow) -> Self {
        Self {
            id: row.id.into(),
            name: row.name,
            platform: row.platform,
            created_at: row.created_at.into(),
            last_login_at: row.last_login_at.map(Into::into),
        }
    }
}

/// A user's devices, oldest first. As many as a user may have: no paging.
pub(crate) async fn list(connection: &mut AsyncPgConnection, user_id: UserId) -> QueryResult<Vec<Device>> {
    let query = devices::table
        .filter(devices::user_id.eq(user_id.as_uuid()))
        .filter(devices::removed_at.is_null())
        .order((devices::created_at, devices::id))
        .select(DeviceRow::as_select());
    let rows = observe("list_devices", query.load(connection)).await?;
    Ok(rows.into_iter().map(Device::from).collect())
}

/// The devices of users.
pub(crate) async fn list_of(
    connection: &mut AsyncPgConnection,
    user_ids: &[UserId],
) -> QueryResult<Vec<(UserId, DeviceId)>> {
    let user_ids: Vec<Uuid> = user_ids.iter().map(|id| id.as_uuid()).collect();
    let query = devices::table
        .filter(devices::user_id.eq_any(user_ids))
        .filter(devices::removed_at.is_null())
        .select((devices::user_id, devices::id));
    let rows: Vec<(Uuid, Uuid)> = observe("list_devices_of_users", query.load(connection)).await?;
    Ok(rows.into_iter().map(|(user, device)| (user.into(), device.into())).collect())
}

/// How many devices a user has. Exact under the user's lock.
pub(super) async fn count(connection: &mut AsyncPgConnection, user_id: UserId) -> QueryResult<i64> {
    devices::table
        .filter(devices::user_id.eq(user_id.as_uuid()))
        .filter(devices::removed_at.is_null())
        .count()
        .get_result(connection)
        .await
}

/// Adds a device.
pub(super) async fn insert(
    connection: &mut AsyncPgConnection,
    user_id: UserId,
    device_id: DeviceId,
    (name, platform): (&str, Option<&str>),
    now: Timestamp,
) -> QueryResult<usize> {
    diesel::insert_into(devices::table)
        .values((
            devices::id.eq(device_id.as_uuid()),
            devices::user_id.eq(user_id.as_uuid()),
            devices::name.eq(name),
            devices::platform.eq(platform),
            devices::created_at.eq(now.as_datetime()),
            devices::last_login_at.eq(now.as_datetime()),
        ))
        .execute(connection)
        .await
}

/// Notes a login on a device of the user's; tells whether there is such a device.
pub(super) async fn note_login(
    connection: &mut AsyncPgConnection,
    user_id: UserId,
    device_id: DeviceId,
    (name, platform): (&str, Option<&str>),
    now: Timestamp,
) -> QueryResult<bool> {
    let device = devices::table
        .find(device_id.as_uuid())
        .filter(devices::user_id.eq(user_id.as_uuid()))
        .filter(devices::removed_at.is_null());
    let count = diesel::update(device)
        .set((
            devices::name.eq(name),
            // One that is not named stays as it was.
            platform.map(|platform| devices::platform.eq(platform)),
            devices::last_login_at.eq(now.as_datetime()),
        ))
        .execute(connection)
        .await?;
    Ok(count > 0)
}

/// Notes a login now, on a device that is there.
pub(super) async fn touch(
    connection: &mut AsyncPgConnection,
    device_id: DeviceId,
    now: Timestamp,
) -> QueryResult<usize> {
    diesel::update(devices::table.find(device_id.as_uuid()))
        .set(devices::last_login_at.eq(now.as_datetime()))
        .execute(connection)
        .await
}

/// How a device stands with a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nobody has it.
    Unknown,
    /// The user has it.
    There,
    /// It was removed, or is somebody else's.
    Gone,
}

/// How a device stands with a user. Exact under the user's lock.
pub(super) async fn standing(
    connection: &mut AsyncPgConnection,
    user_id: UserId,
    device_id: DeviceId,
) -> QueryResult<Standing> {
    let query = devices::table.find(device_id.as_uuid()).select((devices::user_id, devices::removed_at));
    let device: Option<(Uuid, Option<DateTime<Utc>>)> = query.first(connection).await.optional()?;
    Ok(match device {
        None => Standing::Unknown,
        Some((owner, None)) if owner == user_id.as_uuid() => Standing::There,
        Some(_) => Standing::Gone,
    })
}

/// What became of a device that was to be removed.
#[derive(Debug)]
pub(crate) enum Removed {
    /// It is gone, and these logins with it. Removing it again ends none.
    Gone(Vec<LoginId>),
    /// The user has and had no such device.
    Unknown,
}

/// Removes a device and ends its logins.
pub(crate) async fn remove(
    connection: &mut AsyncPgConnection,
    user_id: UserId,
    device_id: DeviceId,
    now: Timestamp,
) -> QueryResult<Removed> {
    let work = connection.transaction(async |connection| {
        users::lock(connection, user_id).await?;
        let device = devices::table.find(device_id.as_uuid()).filter(devices::user_id.eq(user_id.as_uuid()));
        let removed_at: Option<Option<DateTime<Utc>>> =
            device.select(devices::removed_at).first(connection).await.optional()?;
        match removed_at {
            None => return Ok(Removed::Unknown),
            Some(Some(_)) => return Ok(Removed::Gone(Vec::new())),
            Some(None) => {}
        }
        diesel::update(device).set(devices::removed_at.eq(now.as_datetime())).execute(connection).await?;
        delete_keys(connection, device_id).await?;
        let ended = logins::end_of_device(connection, device_id, EndReason::DeviceRemoved, now).await?;
        audit::append(connection, user_id, "device_removed", device_id.as_uuid(), now).await?;
        Ok(Removed::Gone(ended))
    });
    observe("remove_device", work).await
}

/// The ids of one-time keys stay, so that none is ever given out again.
async fn delete_keys(connection: &mut AsyncPgConnection, device_id: DeviceId) -> QueryResult<()> {
    diesel::sql_query("DELETE FROM identity.device_keys WHERE device_id = $1")
        .bind::<diesel::sql_types::Uuid, _>(device_id.as_uuid())
        .execute(connection)
        .await?;
    diesel::sql_query(
        "UPDATE identity.one_time_keys SET claimed_at = now(), public_key = NULL, signature = NULL
         WHERE device_id = $1 AND claimed_at IS NULL",
    )
    .bind::<diesel::sql_types::Uuid, _>(device_id.as_uuid())
    .execute(connection)
    .await?;
    Ok(())
}
