//! Recounts a sample of unread counts, so that an operator learns before the users do where one is wrong.

use std::time::Duration;

use entrenous_db::{Database, DbError};
use entrenous_runtime::Shutdown;

use crate::{metrics::Metrics, store::unread};

/// Between two samples.
const INTERVAL: Duration = Duration::from_secs(60);
/// Members in a sample.
const MEMBERS_MAX: i32 = 20;

/// Recounts until the stop.
pub(crate) async fn run(database: Database, metrics: Metrics, stop: Shutdown) {
    let recounting = async {
        loop {
            if let Err(error) = recount(&database, metrics).await {
                tracing::debug!(%error, "unread counts were not checked");
            }
            // Not all replicas at the same moment.
            tokio::time::sleep(INTERVAL.mul_f64(rand::random_range(0.5..1.5))).await;
        }
    };
    tokio::select! {
        () = stop.triggered() => {}
        () = recounting => {}
    }
}

async fn recount(database: &Database, metrics: Metrics) -> Result<(), DbError> {
    let (looked_at, drift) = unread::check(&mut *database.get().await?, MEMBERS_MAX).await?;
    metrics.unread_checked(looked_at, drift);
    if drift > 0 {
        tracing::error!(looked_at, drift, "unread counts are not what the log says");
    }
    Ok(())
}
