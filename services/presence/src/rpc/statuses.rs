//! Method `statuses`.

use std::collections::HashMap;

use entrenous_model::{Timestamp, UserId};
use entrenous_protocol::rpc::presence::{STATUSES_MAX, Status, StatusesRequest};
use tokio::time::Instant;

use super::Context;
use crate::{error::RequestError, metrics, shared::Answer, store::last_seen};

pub(super) async fn handle(context: Context, request: StatusesRequest) -> Result<Vec<Status>, RequestError> {
    let user_ids = request.user_ids;
    let count = user_ids.len();
    if count > STATUSES_MAX {
        return Err(RequestError::TooManyUsers { count });
    }
    let answers = context.shared.answers(&user_ids);
    let offline = user_ids.iter().zip(&answers).filter(|(_, answer)| **answer != Answer::Online);
    let offline: Vec<UserId> = offline.map(|(user_id, _)| *user_id).collect();
    let stored = stored(&context, &offline).await?;
    Ok(user_ids.into_iter().zip(answers).map(|(user_id, answer)| status(user_id, answer, &stored)).collect())
}

/// The table's word on users who are offline; the table is not asked when there are none.
async fn stored(context: &Context, offline: &[UserId]) -> Result<HashMap<UserId, Timestamp>, RequestError> {
    if offline.is_empty() {
        return Ok(HashMap::new());
    }
    let mut connection = context.database.get().await?;
    let start = Instant::now();
    let stored = last_seen::list(&mut connection, offline).await?;
    metrics::statement("list_last_seen", start.elapsed());
    Ok(stored)
}

fn status(user_id: UserId, answer: Answer, stored: &HashMap<UserId, Timestamp>) -> Status {
    match answer {
        Answer::Online => Status { user_id, is_online: true, last_seen_at: None },
        Answer::Offline(known) => {
            Status { user_id, is_online: false, last_seen_at: known.max(stored.get(&user_id).copied()) }
        }
    }
}
