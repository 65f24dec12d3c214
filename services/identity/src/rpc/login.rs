//! Signs in on a device.

use entrenous_bus::Deadline;
use entrenous_db::DbError;
use entrenous_model::{IdGenerator, UserId};
use entrenous_protocol::rpc::identity::{LoginGranted, LoginRequest};

use super::credentials;
use crate::{
    domain::{
        fields,
        secrets::{hash, random_refresh_token},
    },
    error::RequestError,
    passwords::Verified,
    state::AppState,
    store::{
        logins::{self, LoginOutcome, NewLogin},
        refresh_tokens::NewRefreshToken,
        users::{self, UserRow},
    },
};

pub(super) async fn login(
    state: AppState,
    mut request: LoginRequest,
    deadline: Deadline,
) -> Result<LoginGranted, RequestError> {
    fields::check_device(&request.device).map_err(RequestError::Invalid)?;
    request.username = fields::normalise_username(&request.username);
    let (user, new_hash) = authenticate(&state, &mut request).await?;
    if state.keyring().signer(state.now()).is_none() {
        return Err(RequestError::NoSigningKey);
    }
    if deadline.remaining().is_zero() {
        // Nobody would hear of the device that it adds, and it would count.
        return Err(RequestError::Late);
    }
    begin(&state, &request, &user, new_hash.as_deref()).await
}

/// The user whose password it is, and the hash that is to replace the one that is kept.
async fn authenticate(state: &AppState, request: &mut LoginRequest) -> Result<(UserRow, Option<String>), RequestError> {
    let user = find(state, &request.username).await?;
    let password = std::mem::take(&mut request.password);
    let whom = (request.username.as_str(), request.address.as_str());
    match (credentials::verify(state, whom, user.as_ref(), password).await?, user) {
        (Verified::Right { new_hash }, Some(user)) => Ok((user, new_hash)),
        (Verified::Right { .. } | Verified::Wrong, _) => Err(RequestError::WrongCredentials),
    }
}

/// PostgreSQL refuses texts with a NUL character; nobody has such a name.
async fn find(state: &AppState, username: &str) -> Result<Option<UserRow>, RequestError> {
    let username = if username.contains('\0') { "" } else { username };
    let mut connection = state.connection().await?;
    Ok(users::find_by_name(&mut connection, username).await.map_err(DbError::from)?)
}

async fn begin(
    state: &AppState,
    request: &LoginRequest,
    user: &UserRow,
    new_hash: Option<&str>,
) -> Result<LoginGranted, RequestError> {
    let refresh_token = random_refresh_token()?;
    let now = state.now();
    let new = NewLogin {
        user_id: UserId::from(user.id),
        password_version: user.password_version,
        new_hash,
        login_id: IdGenerator.next(),
        device_id: request.device.id,
        new_device_id: IdGenerator.next(),
        device_name: &request.device.name,
        device_platform: request.device.platform.as_deref(),
        devices_max: state.limits().devices_per_user,
        refresh_token: NewRefreshToken { hash: hash(&refresh_token), expires_at: now + state.limits().refresh_token },
        now,
    };
    let mut connection = state.connection().await?;
    let begun = logins::begin(&mut connection, &new).await.map_err(DbError::from)?;
    drop(connection);
    match begun {
        LoginOutcome::Begun { user, device_id, ended } => {
            state.announce_ended(new.user_id, ended).await;
            let tokens = state.tokens(*user, device_id, new.login_id, refresh_token)?;
            Ok(LoginGranted { tokens, is_new_device: new.device_id.is_none() })
        }
        LoginOutcome::PasswordChanged => Err(RequestError::WrongCredentials),
        LoginOutcome::Suspended => Err(RequestError::Suspended),
        LoginOutcome::UnknownDevice => Err(RequestError::NotFound),
        LoginOutcome::TooManyDevices => Err(RequestError::TooManyDevices { limit: new.devices_max }),
    }
}
