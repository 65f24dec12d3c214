//! Ends a login.

use entrenous_db::DbError;
use entrenous_protocol::rpc::{Done, identity::LogoutRequest};

use crate::{error::RequestError, state::AppState, store::logins};

pub(super) async fn logout(state: AppState, request: LogoutRequest) -> Result<Done, RequestError> {
    let mut connection = state.connection().await?;
    let ended = logins::end(&mut connection, request.user_id, request.login_id, state.now()).await;
    drop(connection);
    state.announce_ended(request.user_id, ended.map_err(DbError::from)?).await;
    Ok(Done {})
}
