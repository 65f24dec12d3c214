//! Logins: how they begin and end.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use entrenous_model::{DeviceId, LoginId, Timestamp, UserId};
use uuid::Uuid;

use super::{
    audit, devices, observe,
    refresh_tokens::{self, NewRefreshToken},
    schema::logins,
    users::{self, UserRow},
};

/// Logins in one answer about those that ended; at the bound the oldest are left out.
const REVOKED_MAX: i64 = 100_000;

/// Why a login ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndReason {
    Logout,
    Replaced,
    PasswordChanged,
    DeviceRemoved,
    TokenReused,
}

impl EndReason {
    /// As it stands in the table.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::Replaced => "replaced",
            Self::PasswordChanged => "password_changed",
            Self::DeviceRemoved => "device_removed",
            Self::TokenReused => "token_reused",
        }
    }
}

/// A login that is to begin.
pub(crate) struct NewLogin<'a> {
    pub(crate) user_id: UserId,
    /// That of the password that was shown.
    pub(crate) password_version: i32,
    /// A new hash of it, to be kept.
    pub(crate) new_hash: Option<&'a str>,
    pub(crate) login_id: LoginId,
    /// The device that the client names.
    pub(crate) device_id: Option<DeviceId>,
    /// The id of the device that is added where the client names none.
    pub(crate) new_device_id: DeviceId,
    pub(crate) device_name: &'a str,
    pub(crate) device_platform: Option<&'a str>,
    pub(crate) devices_max: u32,
    pub(crate) refresh_token: NewRefreshToken,
    pub(crate) now: Timestamp,
}

/// What became of it.
pub(crate) enum LoginOutcome {
    /// It stands; these logins ended for it.
    Begun { user: Box<UserRow>, device_id: DeviceId, ended: Vec<LoginId> },
    /// The password was changed meanwhile, or the user is gone.
    PasswordChanged,
    /// The account is suspended.
    Suspended,
    /// The user has no such device.
    UnknownDevice,
    /// The user has as many devices as allowed.
    TooManyDevices,
}

/// Begins a login, on a new device or on one that there is, whose login ends.
pub(crate) async fn begin(connection: &mut AsyncPgConnection, new: &NewLogin<'_>) -> QueryResult<LoginOutcome> {
    let work = connection.transaction(async |connection| {
        let Some(user) = users::lock(connection, new.user_id).await? else {
            return Ok(LoginOutcome::PasswordChanged);
        };
        if user.password_version != new.password_version {
            return Ok(LoginOutcome::PasswordChanged);
        }
        if user.suspended_at.is_some() {
            return Ok(LoginOutcome::Suspended);
        }
        let device_id = match use_device(connection, new).await? {
            Ok(device_id) => device_id,
            Err(refusal) => return Ok(refusal),
        };
        let ended = end_of_device(connection, device_id, EndReason::Replaced, new.now).await?;
        insert_with_token(connection, new, device_id).await?;
        Ok(LoginOutcome::Begun { user: Box::new(user), device_id, ended })
    });
    observe("begin_login", work).await
}

async fn use_device(
    connection: &mut AsyncPgConnection,
    new: &NewLogin<'_>,
) -> QueryResult<Result<DeviceId, LoginOutcome>> {
    let about = (new.device_name, new.device_platform);
    if let Some(device_id) = new.device_id {
        let is_known = devices::note_login(connection, new.user_id, device_id, about, new.now).await?;
        return Ok(if is_known { Ok(device_id) } else { Err(LoginOutcome::UnknownDevice) });
    }
    if devices::count(connection, new.user_id).await? >= i64::from(new.devices_max) {
        return Ok(Err(LoginOutcome::TooManyDevices));
    }
    devices::insert(connection, new.user_id, new.new_device_id, about, new.now).await?;
    audit::append(connection, new.user_id, "login_new_device", new.new_device_id.as_uuid(), new.now).await?;
    Ok(Ok(new.new_device_id))
}

async fn insert_with_token(
    connection: &mut AsyncPgConnection,
    new: &NewLogin<'_>,
    device_id: DeviceId,
) -> QueryResult<()> {
    if let Some(new_hash) = new.new_hash {
        users::renew_hash(connection, new.user_id, new_hash).await?;
    }
    insert(connection, new.user_id, new.login_id, device_id, new.now).await?;
    refresh_tokens::insert(connection, new.login_id, &new.refresh_token, new.now).await
}

/// Adds a login.
pub(super) async fn insert(
    connection: &mut AsyncPgConnection,
    user_id: UserId,
    login_id: LoginId,
    device_id: DeviceId,
    now: Timestamp,
) -> QueryResult<usize> {
    diesel::insert_into(logins::table)
        .values((
            logins::id.eq(login_id.as_uuid()),
            logins::user_id.eq(user_id.as_uuid()),
            logins::device_id.eq(device_id.as_uuid()),
            logins::created_at.eq(now.as_datetime()),
        ))
        .execute(connection)
        .await
}

/// Ends a login of a user; nothing if there is none or it has ended.
pub(crate) async fn end(
    connection: &mut AsyncPgConnection,
    user_id: UserId,
    login_id: LoginId,
    now: Timestamp,
) -> QueryResult<Vec<LoginId>> {
    let query = logins::table.find(login_id.as_uuid()).filter(logins::user_id.eq(user_id.as_uuid()));
    let statement = diesel::update(query.filter(logins::ended_at.is_null()))
        .set(ending(EndReason::Logout, now))
        .returning(logins::id);
    Ok(to_ids(observe("end_login", statement.get_results(connection)).await?))
}

/// Ends the logins of a device.
pub(super) async fn end_of_device(
    connection: &mut AsyncPgConnection,
    device_id: DeviceId,
    reason: EndReason,
    now: Timestamp,
) -> QueryResult<Vec<LoginId>> {
    let query = logins::table.filter(logins::device_id.eq(device_id.as_uuid())).filter(logins::ended_at.is_null());
    let statement = diesel::update(query).set(ending(reason, now)).returning(logins::id);
    Ok(to_ids(statement.get_results(connection).await?))
}

/// Ends one login, whosever it is.
pub(super) async fn end_reused(
    connection: &mut AsyncPgConnection,
    login_id: LoginId,
    now: Timestamp,
) -> QueryResult<()> {
    let query = logins::table.find(login_id.as_uuid()).filter(logins::ended_at.is_null());
    diesel::update(query).set(ending(EndReason::TokenReused, now)).execute(connection).await?;
    Ok(())
}

/// Another password for a user.
pub(crate) struct PasswordChange<'a> {
    pub(crate) user_id: UserId,
    /// The login that stays.
    pub(crate) login_id: LoginId,
    /// That of the current password that was shown.
    pub(crate) password_version: i32,
    pub(crate) password_hash: &'a str,
    pub(crate) now: Timestamp,
}

/// What became of it.
#[derive(Debug)]
pub(crate) enum PasswordOutcome {
    /// It is kept; these logins ended.
    Changed(Vec<LoginId>),
    /// It was changed meanwhile.
    PasswordChanged,
    /// The login that asks has ended.
    LoginEnded,
}

/// Changes a password and ends every other login of the user.
pub(crate) async fn change_password(
    connection: &mut AsyncPgConnection,
    change: &PasswordChange<'_>,
) -> QueryResult<PasswordOutcome> {
    let PasswordChange { user_id, login_id, password_version, password_hash, now } = *change;
    let work = connection.transaction(async |connection| {
        let user = users::lock(connection, user_id).await?;
        if user.is_none_or(|user| user.password_version != password_version) {
            return Ok(PasswordOutcome::PasswordChanged);
        }
        let of_user = logins::table.filter(logins::user_id.eq(user_id.as_uuid())).filter(logins::ended_at.is_null());
        let own = of_user.filter(logins::id.eq(login_id.as_uuid())).select(logins::id).for_no_key_update();
        if own.first::<Uuid>(connection).await.optional()?.is_none() {
            return Ok(PasswordOutcome::LoginEnded);
        }
        users::change_password(connection, user_id, password_hash, now).await?;
        let ended = diesel::update(of_user.filter(logins::id.ne(login_id.as_uuid())))
            .set(ending(EndReason::PasswordChanged, now))
            .returning(logins::id)
            .get_results(connection)
            .await?;
        audit::append(connection, user_id, "password_changed", user_id.as_uuid(), now).await?;
        Ok(PasswordOutcome::Changed(to_ids(ended)))
    });
    observe("change_password", work).await
}

/// Logins that ended after a moment, newest first.
pub(crate) async fn ended_after(connection: &mut AsyncPgConnection, after: Timestamp) -> QueryResult<Vec<LoginId>> {
    let query = logins::table
        .filter(logins::ended_at.gt(after.as_datetime()))
        .order(logins::ended_at.desc())
        .limit(REVOKED_MAX)
        .select(logins::id);
    Ok(to_ids(observe("list_ended_logins", query.load(connection)).await?))
}

/// A login as its refresh tokens see it.
#[derive(Queryable, Selectable)]
#[diesel(table_name = logins, check_for_backend(diesel::pg::Pg))]
pub(super) struct LoginRow {
    pub(super) id: Uuid,
    pub(super) user_id: Uuid,
    pub(super) device_id: Uuid,
    pub(super) ended_at: Option<DateTime<Utc>>,
    pub(super) end_reason: Option<String>,
}

/// A login, locked: nobody else ends it or trades its tokens until the transaction ends.
pub(super) async fn lock(connection: &mut AsyncPgConnection, login_id: Uuid) -> QueryResult<Option<LoginRow>> {
    let query = logins::table.find(login_id).select(LoginRow::as_select()).for_no_key_update();
    query.first(connection).await.optional()
}

type Ending = (
    diesel::dsl::Eq<logins::ended_at, Option<DateTime<Utc>>>,
    diesel::dsl::Eq<logins::end_reason, Option<&'static str>>,
);

fn ending(reason: EndReason, now: Timestamp) -> Ending {
    (logins::ended_at.eq(Some(now.as_datetime())), logins::end_reason.eq(Some(reason.as_str())))
}

fn to_ids(ids: Vec<Uuid>) -> Vec<LoginId> {
    ids.into_iter().map(LoginId::from).collect()
}
