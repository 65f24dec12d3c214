//! Real servers, started, killed and started again.

mod nats;
mod orphans;
mod permissions;
mod postgres;

use std::{future::Future, time::Duration};

/// How long things may take before a test fails.
const LIMIT: Duration = Duration::from_secs(30);

/// Waits until the condition holds.
async fn wait_for<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) -> anyhow::Result<()> {
    let poll = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, poll).await.map_err(|_| anyhow::anyhow!("waited too long for {what}"))
}
