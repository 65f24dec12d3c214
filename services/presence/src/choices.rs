//! Learns what users chose to show: of those who came, and of all when a replica's word was missed.

use std::time::Duration;

use entrenous_db::{Database, DbError};
use entrenous_model::UserId;
use entrenous_protocol::rpc::presence::Chosen;
use entrenous_runtime::Shutdown;
use tokio::time::Instant;

use crate::{metrics, shared::Shared, store::choices};

/// Users of one statement.
const BATCH_MAX: usize = 1_000;
/// Between two tries while the database is away.
const RETRY: Duration = Duration::from_secs(1);

/// Learns until the stop. While the database is away those who come look offline: nobody may see who is invisible.
pub(crate) async fn learn(shared: Shared, database: Database, stop: Shutdown) {
    loop {
        let user_ids = tokio::select! {
            () = stop.triggered() => return,
            user_ids = shared.unlearnt(BATCH_MAX) => user_ids,
        };
        match read(&database, &user_ids).await {
            Ok(chosen) => shared.learn(chosen),
            Err(error) => {
                metrics::background_failed("choices", &error);
                shared.still_unlearnt(user_ids);
                tokio::select! {
                    () = stop.triggered() => return,
                    () = tokio::time::sleep(RETRY) => {}
                }
            }
        }
    }
}

/// What users chose, one each, in the order of the request.
pub(crate) async fn read(database: &Database, user_ids: &[UserId]) -> Result<Vec<Chosen>, DbError> {
    let mut connection = database.get().await?;
    let start = Instant::now();
    let chosen = choices::list(&mut connection, user_ids).await?;
    metrics::statement("list_choices", start.elapsed());
    Ok(chosen)
}
