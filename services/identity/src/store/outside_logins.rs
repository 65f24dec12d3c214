//! Logins that an outside issuer made: users and devices come into being with them.

use diesel::{
    prelude::*,
    result::{DatabaseErrorKind, Error},
};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use entrenous_model::{DeviceId, LoginId, Timestamp, UserId};
use entrenous_protocol::rest::UserRole;

use super::{
    audit,
    devices::{self, Standing},
    logins::{self, EndReason},
    observe,
    users::{self, NewUser, UserRow},
};

/// What a device is called that an outside issuer made: nobody was asked for a name.
const DEVICE_NAME: &str = "device";

/// A login as a token tells of it.
pub(crate) struct OutsideLogin<'a> {
    pub(crate) user_id: UserId,
    pub(crate) device_id: DeviceId,
    pub(crate) login_id: LoginId,
    /// In lower case; none where the token has none that may be a name.
    pub(crate) username: Option<&'a str>,
    pub(crate) role: UserRole,
    pub(crate) devices_max: u32,
    pub(crate) now: Timestamp,
}

/// What became of it.
#[derive(Debug)]
pub(crate) enum AdmitOutcome {
    /// It stands; these logins of the device ended for it.
    Admitted { is_new_device: bool, ended: Vec<LoginId> },
    /// It has ended, or its device was removed or is somebody else's.
    Ended,
    /// The account is suspended.
    Suspended,
    /// The user has as many devices as allowed.
    TooManyDevices,
    /// Somebody has the name that nobody else should have: the user's id.
    NameTaken,
}

/// Notes a login. Doing it again changes nothing.
pub(crate) async fn admit(connection: &mut AsyncPgConnection, login: &OutsideLogin<'_>) -> QueryResult<AdmitOutcome> {
    let work = connection.transaction(async |connection| {
        users::insert(connection, &new_user(login)).await?;
        let Some(user) = users::lock(connection, login.user_id).await? else {
            return Ok(AdmitOutcome::NameTaken);
        };
        if user.suspended_at.is_some() {
            return Ok(AdmitOutcome::Suspended);
        }
        let is_new_device = match devices::standing(connection, login.user_id, login.device_id).await? {
            Standing::Unknown if devices::count(connection, login.user_id).await? >= i64::from(login.devices_max) => {
                return Ok(AdmitOutcome::TooManyDevices);
            }
            Standing::Unknown => true,
            Standing::There => false,
            Standing::Gone => return Ok(AdmitOutcome::Ended),
        };
        match logins::lock(connection, login.login_id.as_uuid()).await? {
            Some(known) if known.ended_at.is_some() => Ok(AdmitOutcome::Ended),
            known => {
                update_user(connection, &user, login).await?;
                let ended = if known.is_some() { Vec::new() } else { begin(connection, login, is_new_device).await? };
                Ok(AdmitOutcome::Admitted { is_new_device, ended })
            }
        }
    });
    observe("admit_login", work).await
}

fn new_user(login: &OutsideLogin<'_>) -> NewUser {
    let now = login.now.as_datetime();
    NewUser {
        id: login.user_id.as_uuid(),
        username: name_of(login.user_id),
        display_name: None,
        email: None,
        password_hash: users::NO_PASSWORD.to_owned(),
        created_at: now,
        updated_at: now,
    }
}

/// The name of somebody who has none: 32 hexadecimal digits.
fn name_of(user_id: UserId) -> String {
    user_id.as_uuid().simple().to_string()
}

/// Whether it looks like the name of somebody who has none, who would then have nothing to be called by.
fn is_name_of_nobody(username: &str) -> bool {
    username.len() == 32 && username.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Name and role are the issuer's to say. A name that somebody else has is left out.
async fn update_user(connection: &mut AsyncPgConnection, user: &UserRow, login: &OutsideLogin<'_>) -> QueryResult<()> {
    if user.role() != login.role {
        users::set_role(connection, login.user_id, login.role, login.now).await?;
    }
    let Some(username) = login.username.filter(|name| *name != user.username && !is_name_of_nobody(name)) else {
        return Ok(());
    };
    let renamed = connection
        .transaction(async |connection| users::rename(connection, login.user_id, username, login.now).await)
        .await;
    match renamed {
        Ok(_) | Err(Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => Ok(()),
        Err(error) => Err(error),
    }
}

async fn begin(
    connection: &mut AsyncPgConnection,
    login: &OutsideLogin<'_>,
    is_new_device: bool,
) -> QueryResult<Vec<LoginId>> {
    let OutsideLogin { user_id, device_id, now, .. } = *login;
    if is_new_device {
        devices::insert(connection, user_id, device_id, (DEVICE_NAME, None), now).await?;
        audit::append(connection, user_id, "login_new_device", device_id.as_uuid(), now).await?;
    } else {
        devices::touch(connection, device_id, now).await?;
    }
    let ended = logins::end_of_device(connection, device_id, EndReason::Replaced, now).await?;
    logins::insert(connection, user_id, login.login_id, device_id, now).await?;
    Ok(ended)
}
