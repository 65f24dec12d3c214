//! Whether a password is right, under the limit on wrong ones.

use std::time::Duration;

use entrenous_db::DbError;
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    domain::attempts::Verdict,
    error::RequestError,
    passwords::{PasswordError, Verified},
    state::AppState,
    store::{attempts, users::UserRow},
};

/// How long a try waits for others under way that might reach the limit.
const WAIT_MAX: Duration = Duration::from_secs(3);
/// Between two looks at them.
const POLL: Duration = Duration::from_millis(25);

/// Compares a password with a user's. Takes as long, and counts as much, where there is no such user.
pub(super) async fn verify(
    state: &AppState,
    (username, address): (&str, &str),
    user: Option<&UserRow>,
    password: String,
) -> Result<Verified, RequestError> {
    let attempt = admit(state, &state.secrets().attempt_key(username, address)).await?;
    let verified = state.passwords().verify(password, user.and_then(UserRow::password_hash).map(str::to_owned)).await;
    finish(state, attempt, &verified).await?;
    Ok(verified?)
}

async fn admit(state: &AppState, key: &[u8; 32]) -> Result<Uuid, RequestError> {
    let start = Instant::now();
    loop {
        let mut connection = state.connection().await?;
        let admitted = attempts::admit(&mut connection, key, state.attempt_limit(), state.now()).await;
        drop(connection);
        match admitted.map_err(DbError::from)? {
            Ok(attempt) => return Ok(attempt),
            Err(Verdict::Refuse { retry_after }) => return Err(RequestError::TooManyFailures { retry_after }),
            Err(Verdict::Admit | Verdict::Wait) if start.elapsed() > WAIT_MAX => {
                return Err(RequestError::TooManyAtOnce);
            }
            Err(Verdict::Admit | Verdict::Wait) => tokio::time::sleep(POLL).await,
        }
    }
}

async fn finish(state: &AppState, attempt: Uuid, verified: &Result<Verified, PasswordError>) -> Result<(), DbError> {
    let mut connection = state.connection().await?;
    match verified {
        Ok(Verified::Wrong) => attempts::settle(&mut connection, attempt).await?,
        Ok(Verified::Right { .. }) | Err(_) => attempts::strike_off(&mut connection, attempt).await?,
    };
    Ok(())
}
