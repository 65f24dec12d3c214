//! Deletes device messages that have waited for too long, a small batch at a time.

use std::{sync::Arc, time::Duration};

use entrenous_db::Database;
use entrenous_model::Clock;
use entrenous_runtime::Shutdown;

use crate::store::device_queues;

/// Between two looks whether something has waited for too long.
const INTERVAL: Duration = Duration::from_secs(60);
/// Between two batches.
const PAUSE: Duration = Duration::from_millis(250);

/// Deletes until the stop. Replicas leave each other alone.
pub(crate) async fn run(database: Database, clock: Arc<dyn Clock>, stop: Shutdown) {
    loop {
        let has_more = match database.get().await {
            Ok(mut connection) => device_queues::expire(&mut connection, clock.now()).await,
            Err(error) => Err(error),
        };
        let pause = match has_more {
            Ok(true) => PAUSE,
            Ok(false) => INTERVAL,
            Err(error) => {
                tracing::debug!(%error, "no device message was looked at that may have expired");
                INTERVAL
            }
        };
        tokio::select! {
            () = stop.triggered() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}
