//! Looks users up and changes profiles.

use entrenous_db::DbError;
use entrenous_protocol::{
    rest::User,
    rpc::identity::{FindUserRequest, USERS_MAX, UpdateProfileRequest, UsersRequest},
};

use crate::{domain::fields, error::RequestError, privacy, state::AppState, store::users};

pub(super) async fn users(state: AppState, request: UsersRequest) -> Result<Vec<User>, RequestError> {
    if request.ids.len() > USERS_MAX {
        return Err(RequestError::Invalid(fields::invalid("ids", format!("must be at most {USERS_MAX}"))));
    }
    let mut connection = state.connection().await?;
    let rows = users::list(&mut connection, &request.ids).await.map_err(DbError::from)?;
    Ok(rows.into_iter().map(User::from).collect())
}

pub(super) async fn find_user(state: AppState, request: FindUserRequest) -> Result<Option<User>, RequestError> {
    if request.username.contains('\0') {
        // PostgreSQL refuses such a text; nobody has such a name.
        return Ok(None);
    }
    let username = fields::normalise_username(&request.username);
    let mut connection = state.connection().await?;
    let row = users::find_by_name(&mut connection, &username).await.map_err(DbError::from)?;
    Ok(row.map(User::from))
}

pub(super) async fn update_profile(state: AppState, request: UpdateProfileRequest) -> Result<User, RequestError> {
    fields::check_patch(&request.patch).map_err(RequestError::Invalid)?;
    let UpdateProfileRequest { user_id, patch } = request;
    let is_of_privacy = patch.presence_visible_to.is_some() || patch.messages_from.is_some();
    let mut connection = state.connection().await?;
    let row = users::update_profile(&mut connection, user_id, patch, state.now()).await;
    drop(connection);
    let user = row.map_err(DbError::from)?.map(User::from).ok_or(RequestError::NotFound)?;
    if is_of_privacy {
        privacy::tell(&state, user_id).await?;
    }
    Ok(user)
}
