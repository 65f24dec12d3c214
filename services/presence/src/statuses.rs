//! What users show: out of memory, and out of the tables where it is not there.

use std::collections::HashMap;

use entrenous_db::{Database, DbError};
use entrenous_model::{Timestamp, UserId};
use entrenous_protocol::status::{PresenceStatus, StatusChoice, UserStatus};
use tokio::time::Instant;

use crate::{
    choices, metrics,
    shared::{Answer, Shared},
    store::last_seen,
};

/// The status of each, in the order of the request. The tables are asked only for those who are not there, or whose choice
/// has not been learnt yet.
pub(crate) async fn read(
    shared: &Shared,
    database: &Database,
    user_ids: &[UserId],
) -> Result<Vec<UserStatus>, DbError> {
    let mut answers = shared.answers(user_ids);
    let unlearnt = of(user_ids, &answers, |answer| *answer == Answer::Unlearnt);
    if !unlearnt.is_empty() {
        shared.learn(choices::read(database, &unlearnt).await?);
        answers = shared.answers(user_ids);
    }
    let offline = of(user_ids, &answers, |answer| matches!(answer, Answer::Offline(_)));
    let stored = stored(database, &offline).await?;
    Ok(user_ids.iter().zip(answers).map(|(user_id, answer)| status(*user_id, answer, &stored)).collect())
}

fn of(user_ids: &[UserId], answers: &[Answer], is_wanted: impl Fn(&Answer) -> bool) -> Vec<UserId> {
    user_ids.iter().zip(answers).filter(|(_, answer)| is_wanted(answer)).map(|(user_id, _)| *user_id).collect()
}

/// The table's word on users who are offline; the table is not asked when there are none.
async fn stored(database: &Database, offline: &[UserId]) -> Result<HashMap<UserId, Timestamp>, DbError> {
    if offline.is_empty() {
        return Ok(HashMap::new());
    }
    let mut connection = database.get().await?;
    let start = Instant::now();
    let stored = last_seen::list(&mut connection, offline).await?;
    metrics::statement("list_last_seen", start.elapsed());
    Ok(stored)
}

fn status(user_id: UserId, answer: Answer, stored: &HashMap<UserId, Timestamp>) -> UserStatus {
    match answer {
        Answer::There(StatusChoice { status, text }) => {
            UserStatus { user_id, status: status.shown(), text, last_seen_at: None }
        }
        // Came this very moment, and may be invisible.
        Answer::Unlearnt => UserStatus::hidden(user_id),
        Answer::Offline(known) => UserStatus {
            user_id,
            status: PresenceStatus::Offline,
            text: None,
            last_seen_at: known.max(stored.get(&user_id).copied()),
        },
    }
}
