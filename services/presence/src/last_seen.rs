//! Writes the last moments of users, gathered, about once a second.

use std::time::Duration;

use entrenous_db::{Database, DbError};
use entrenous_runtime::Shutdown;
use tokio::time::{Instant, MissedTickBehavior};

use crate::{metrics, shared::Shared, store::last_seen};

/// Between two writes.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// Rows of one statement.
const BATCH_MAX: usize = 10_000;

/// Writes until the stop, and then what is left. What cannot be written waits for the next time.
pub(crate) async fn write(shared: Shared, database: Database, stop: Shutdown) {
    let mut interval = tokio::time::interval(WRITE_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.triggered() => break,
            _ = interval.tick() => {}
        }
        write_all(&shared, &database).await;
    }
    write_all(&shared, &database).await;
}

async fn write_all(shared: &Shared, database: &Database) {
    loop {
        let batch = shared.batch(BATCH_MAX);
        if batch.is_empty() {
            return;
        }
        if let Err(error) = write_batch(database, &batch).await {
            metrics::write_failed(&error, batch.len());
            return;
        }
        shared.written(&batch);
    }
}

async fn write_batch(database: &Database, batch: &[crate::domain::Seen]) -> Result<(), DbError> {
    let mut connection = database.get().await?;
    let start = Instant::now();
    let changed = last_seen::keep_latest(&mut connection, batch).await?;
    metrics::statement("keep_last_seen", start.elapsed());
    metrics::last_seen_written(changed);
    Ok(())
}
