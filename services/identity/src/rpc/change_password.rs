//! Changes a password and ends every other login.

use entrenous_db::DbError;
use entrenous_protocol::rpc::{Done, identity::ChangePasswordRequest};

use super::credentials;
use crate::{
    domain::fields,
    error::RequestError,
    passwords::Verified,
    state::AppState,
    store::{
        logins::{self, PasswordChange, PasswordOutcome},
        users,
    },
};

pub(super) async fn change_password(state: AppState, request: ChangePasswordRequest) -> Result<Done, RequestError> {
    let ChangePasswordRequest { user_id, login_id, current_password, new_password, address } = request;
    fields::check_new_password(&new_password, state.limits()).map_err(RequestError::Invalid)?;
    let mut connection = state.connection().await?;
    let user = users::find(&mut connection, user_id).await.map_err(DbError::from)?;
    drop(connection);
    let user = user.ok_or(RequestError::NotLoggedIn)?;
    match credentials::verify(&state, (&user.username, &address), Some(&user), current_password).await? {
        Verified::Right { .. } => {}
        Verified::Wrong => return Err(RequestError::WrongCurrentPassword),
    }
    let password_hash = state.passwords().hash(new_password).await?;
    let change = PasswordChange {
        user_id,
        login_id,
        password_version: user.password_version,
        password_hash: &password_hash,
        now: state.now(),
    };
    let mut connection = state.connection().await?;
    let changed = logins::change_password(&mut connection, &change).await.map_err(DbError::from)?;
    drop(connection);
    match changed {
        PasswordOutcome::Changed(ended) => {
            state.announce_ended(user_id, ended).await;
            Ok(Done {})
        }
        PasswordOutcome::PasswordChanged => Err(RequestError::WrongCurrentPassword),
        PasswordOutcome::LoginEnded => Err(RequestError::NotLoggedIn),
    }
}
