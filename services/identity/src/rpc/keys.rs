//! What gateways need to check access tokens.

use std::time::Duration;

use entrenous_db::DbError;
use entrenous_model::LoginId;
use entrenous_protocol::rpc::Done;
use serde_json::Value;

use crate::{
    error::RequestError,
    keyring,
    state::AppState,
    store::{logins, signing_keys},
};

/// Access tokens made just before a login's end live a little longer where clocks differ.
const REVOKED_SLACK: Duration = Duration::from_secs(60);

/// Read from the table: a key that another replica has just made is in it.
pub(super) async fn jwks(state: AppState, _: Done) -> Result<Value, RequestError> {
    let mut connection = state.connection().await?;
    let rows = signing_keys::list(&mut connection, state.now()).await.map_err(DbError::from)?;
    Ok(keyring::jwks(&rows))
}

pub(super) async fn revoked_logins(state: AppState, _: Done) -> Result<Vec<LoginId>, RequestError> {
    let after = state.now() - state.limits().access_token - REVOKED_SLACK;
    let mut connection = state.connection().await?;
    Ok(logins::ended_after(&mut connection, after).await.map_err(DbError::from)?)
}
