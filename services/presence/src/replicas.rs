//! Tells the other replicas that this one is there, and what users chose.

use std::time::Duration;

use entrenous_bus::{Bus, subjects};
use entrenous_runtime::Shutdown;

use crate::{metrics, shared::Shared};

/// Between two beats.
const BEAT_INTERVAL: Duration = Duration::from_secs(1);
/// How long choices are gathered.
const GATHER: Duration = Duration::from_millis(20);

/// Beats until the stop, and says goodbye.
pub(crate) async fn beat(shared: Shared, bus: Bus, stop: Shutdown) {
    while !stop.is_triggered() {
        send(&shared, &bus).await;
        let news = async {
            shared.has_news().await;
            tokio::time::sleep(GATHER).await;
        };
        tokio::select! {
            () = stop.triggered() => {}
            () = news => {}
            () = tokio::time::sleep(BEAT_INTERVAL) => {}
        }
    }
    shared.set_ready(false);
    send(&shared, &bus).await;
}

async fn send(shared: &Shared, bus: &Bus) {
    if !bus.state().is_connected() {
        // What waits would all leave at once; the others see by the number that they missed something.
        return;
    }
    let beat = shared.next_beat();
    if let Err(error) = bus.broadcast(subjects::PRESENCE_REPLICA, &beat).await {
        metrics::background_failed("beat", &error);
    }
}
