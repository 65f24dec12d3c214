//! Makes an account.

use entrenous_db::DbError;
use entrenous_protocol::{
    rest::{Register, User},
    rpc::identity::RegisterRequest,
};

use crate::{
    domain::fields,
    error::RequestError,
    state::AppState,
    store::users::{self, NewUser},
};

pub(super) async fn register(state: AppState, request: RegisterRequest) -> Result<User, RequestError> {
    let RegisterRequest { user_id, registration } = request;
    fields::check_registration(&registration, state.limits()).map_err(RequestError::Invalid)?;
    let Register { username, password, email, display_name } = registration;
    let password_hash = state.passwords().hash(password).await?;
    let now = state.now().as_datetime();
    let user = NewUser {
        id: user_id.as_uuid(),
        username: fields::normalise_username(&username),
        display_name,
        email,
        password_hash,
        created_at: now,
        updated_at: now,
    };
    let mut connection = state.connection().await?;
    if let Some(inserted) = users::insert(&mut connection, &user).await.map_err(DbError::from)? {
        return Ok(inserted.into());
    }
    // The answer to an earlier try was lost: the bus asks again.
    let known = users::find(&mut connection, user_id).await.map_err(DbError::from)?;
    known.map(User::from).ok_or(RequestError::NameTaken)
}
