//! Tells the message store what users allow others, and then the gateways that it has changed.
//!
//! What is told is always the whole present state with its version, so that it may be told twice, by any replica, in any
//! order. A change is answered when the store has it; what could not be told then is told here, until it was.

use std::time::Duration;

use entrenous_db::DbError;
use entrenous_model::UserId;
use entrenous_protocol::{Code, rpc::store::TakePrivacy};
use entrenous_runtime::Shutdown;

use crate::{error::RequestError, metrics::chain, state::AppState, store::privacy};

/// How long the store may take.
const TELL_MAX: Duration = Duration::from_secs(2);
/// Between two looks at what is untold: this long, or as long as between two looks at the keys where that is less.
const INTERVAL: Duration = Duration::from_secs(2);
/// Users told in one look, at most; more are looked for at once.
const PAGE: i64 = 100;

/// Tells the store what a user allows others, unless it is known to have it.
///
/// # Errors
/// [`RequestError::Untold`]: the store may not have it; it is tried again by [`run`].
pub(crate) async fn tell(state: &AppState, user_id: UserId) -> Result<(), RequestError> {
    let mut connection = state.connection().await?;
    let untold = privacy::read_untold(&mut connection, user_id).await.map_err(DbError::from)?;
    // No connection is held while another service is asked.
    drop(connection);
    let Some(untold) = untold else { return Ok(()) };
    state.bus().call::<TakePrivacy>(&untold, TELL_MAX).await.map_err(RequestError::Untold)?;
    if state.announce_privacy(user_id).await {
        let mut connection = state.connection().await?;
        privacy::note_told(&mut connection, &untold).await.map_err(DbError::from)?;
    }
    Ok(())
}

/// Tells what was not told with the change itself, until the stop.
pub(crate) async fn run(state: AppState, interval: Duration, stop: Shutdown) {
    loop {
        let is_more = tell_some(&state).await.unwrap_or_else(|error| {
            tracing::warn!(error = chain(&error), "the message store does not know what some users allow others");
            false
        });
        tokio::select! {
            () = stop.triggered() => return,
            () = tokio::time::sleep(interval.min(INTERVAL)), if !is_more => {}
            () = std::future::ready(()), if is_more => {}
        }
    }
}

/// Tells of some users, and whether there are more. What the store does not take holds up nobody else; when it is away,
/// nobody else is tried.
async fn tell_some(state: &AppState) -> Result<bool, RequestError> {
    let mut connection = state.connection().await?;
    let user_ids = privacy::list_untold(&mut connection, PAGE).await.map_err(DbError::from)?;
    drop(connection);
    let mut is_all_told = true;
    for user_id in &user_ids {
        match tell(state, *user_id).await {
            Err(RequestError::Untold(failure)) if failure.code != Code::Unavailable => {
                tracing::error!(user.id = %user_id, error = %failure, "the message store refuses what user {user_id} allows others");
                is_all_told = false;
            }
            told => told?,
        }
    }
    Ok(is_all_told && i64::try_from(user_ids.len()).is_ok_and(|count| count == PAGE))
}
