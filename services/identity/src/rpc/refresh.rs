//! Trades a refresh token.

use entrenous_db::DbError;
use entrenous_protocol::{rest::Tokens, rpc::identity::RefreshRequest};

use crate::{
    domain::secrets::hash,
    error::RequestError,
    state::AppState,
    store::refresh_tokens::{self, NewRefreshToken, Traded},
};

pub(super) async fn refresh(state: AppState, request: RefreshRequest) -> Result<Tokens, RequestError> {
    let now = state.now();
    if state.keyring().signer(now).is_none() {
        // Before the token is spent.
        return Err(RequestError::NoSigningKey);
    }
    let successor = state.secrets().successor(&request.refresh_token);
    let kept = NewRefreshToken { hash: hash(&successor), expires_at: now + state.limits().refresh_token };
    let mut connection = state.connection().await?;
    let traded = refresh_tokens::trade(&mut connection, &hash(&request.refresh_token), &kept, now).await;
    drop(connection);
    match traded.map_err(DbError::from)? {
        Traded::Good { user, device_id, login_id } => state.tokens(*user, device_id, login_id, successor),
        Traded::NotGood => Err(RequestError::NotLoggedIn),
        Traded::Reused { user_id, login_id } => {
            tracing::warn!("a spent refresh token came again: its login has ended");
            state.announce_ended(user_id, vec![login_id]).await;
            Err(RequestError::RefreshTokenReused)
        }
    }
}
