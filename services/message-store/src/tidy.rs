//! Keeps tables short: drops partitions of the feed that are done with, and deletes such rows of the default one; forgets
//! scheduled messages that could not be sent and that nobody has looked after.

use std::time::Duration;

use entrenous_db::{Database, DbError};
use entrenous_runtime::Shutdown;

use crate::{
    metrics::Metrics,
    store::{feed, scheduled},
};

/// Between two looks whether something is done with.
const INTERVAL: Duration = Duration::from_secs(60);
/// Between two tries to have a lock that others hold, and between two steps.
const PAUSE: Duration = Duration::from_millis(250);
/// Tries to have a lock, at most; and steps of deleting: what is left waits for the next time.
const TRIES_MAX: usize = 40;

/// Scheduled messages that are forgotten in one step.
const FORGOTTEN_MAX: u32 = 500;

/// Tidies until the stop. Replicas leave each other alone.
pub(crate) async fn run(database: Database, metrics: Metrics, scheduled_kept_days: u16, stop: Shutdown) {
    let tidying = async {
        loop {
            if let Err(error) = tidy_feed(&database, metrics).await {
                tracing::debug!(%error, "the feed was not tidied");
            }
            if let Err(error) = forget_scheduled(&database, metrics, scheduled_kept_days).await {
                tracing::debug!(%error, "old scheduled messages were not forgotten");
            }
            tokio::time::sleep(INTERVAL).await;
        }
    };
    tokio::select! {
        () = stop.triggered() => {}
        () = tidying => {}
    }
}

async fn forget_scheduled(database: &Database, metrics: Metrics, kept_days: u16) -> Result<(), DbError> {
    for _ in 0..TRIES_MAX {
        let forgotten = scheduled::forget(&mut *database.get().await?, kept_days, FORGOTTEN_MAX).await?;
        metrics.scheduled_forgotten(forgotten);
        if forgotten < u64::from(FORGOTTEN_MAX) {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

async fn tidy_feed(database: &Database, metrics: Metrics) -> Result<(), DbError> {
    for _ in 0..TRIES_MAX {
        let dropped = feed::drop_partition(&mut *database.get().await?).await.map_err(DbError::Query);
        match dropped {
            Ok(None) => break,
            Ok(Some(partition)) => {
                tracing::debug!(partition, "a partition of the feed was dropped");
                metrics.partition_dropped();
            }
            // Its lock is not to be had at once: whoever appends must not wait for us.
            Err(error) if error.is_transient() => tracing::debug!(%error, "a partition of the feed is in use"),
            Err(error) => return Err(error),
        }
        tokio::time::sleep(PAUSE).await;
    }
    for _ in 0..TRIES_MAX {
        if !feed::trim_default(&mut *database.get().await?).await? {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}
