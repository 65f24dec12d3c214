//! Makes an account.

use entrenous_db::DbError;
use entrenous_model::IdGenerator;
use entrenous_protocol::rest::{Register, User};

use crate::{
    domain::fields,
    error::RequestError,
    state::AppState,
    store::users::{self, NewUser},
};

pub(super) async fn register(state: AppState, request: Register) -> Result<User, RequestError> {
    fields::check_registration(&request, state.limits()).map_err(RequestError::Invalid)?;
    let password_hash = state.passwords().hash(request.password).await?;
    let now = state.now().as_datetime();
    let user = NewUser {
        id: IdGenerator.next(),
        username: fields::normalise_username(&request.username),
        display_name: request.display_name,
        email: request.email,
        password_hash,
        created_at: now,
        updated_at: now,
    };
    let mut connection = state.connection().await?;
    let inserted = users::insert(&mut connection, &user).await.map_err(DbError::from)?;
    inserted.map(User::from).ok_or(RequestError::NameTaken)
}
