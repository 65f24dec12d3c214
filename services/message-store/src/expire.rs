//! Erases messages whose time has come, for good. Until then they are shown empty, whoever reads them.

use std::time::Duration;

use entrenous_db::{Database, DbError};
use entrenous_runtime::Shutdown;

use crate::{metrics::Metrics, store::expired};

/// Between two looks whether something has expired.
const INTERVAL: Duration = Duration::from_secs(1);
/// Messages erased in one transaction: their heads are locked for so long.
const ROWS_MAX: i32 = 100;

/// Erases until the stop. Replicas leave each other's conversations alone.
pub(crate) async fn run(database: Database, metrics: Metrics, stop: Shutdown) {
    let erasing = async {
        loop {
            if let Err(error) = erase(&database, metrics).await {
                tracing::debug!(%error, "what has expired was not erased");
            }
            // Not all replicas at the same moment.
            tokio::time::sleep(INTERVAL.mul_f64(rand::random_range(0.5..1.5))).await;
        }
    };
    tokio::select! {
        () = stop.triggered() => {}
        () = erasing => {}
    }
}

/// Batch after batch, as long as they are full and nobody else is at it.
async fn erase(database: &Database, metrics: Metrics) -> Result<(), DbError> {
    loop {
        let (due, erased) = expired::erase(&mut *database.get().await?, ROWS_MAX).await?;
        metrics.messages_expired(erased);
        if erased < due || due < u64::from(ROWS_MAX.unsigned_abs()) {
            return Ok(());
        }
    }
}
