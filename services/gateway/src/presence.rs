//! What presence is told: who connected and who disconnected, gathered over a second.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use entrenous_bus::subjects;
use entrenous_model::{ConnectionId, UserId};
use entrenous_protocol::rpc::presence::{GatewayReport, REPORT_INTERVAL_SECONDS};
use tokio::time::Instant;
use uuid::Uuid;

use crate::state::Gateway;

const TICK: Duration = Duration::from_secs(1);
/// How often a report lists all connections.
const FULL_INTERVAL: Duration = Duration::from_secs(30);

/// The gateway's connections, and what changed since the last report.
#[derive(Debug, Default)]
pub struct PresenceBook(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    connections: HashSet<(UserId, ConnectionId)>,
    connected: Vec<(UserId, ConnectionId)>,
    disconnected: Vec<(UserId, ConnectionId)>,
}

impl PresenceBook {
    /// A connection began.
    pub fn connected(&self, user: UserId, connection: ConnectionId) {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if book.connections.insert((user, connection)) {
            book.connected.push((user, connection));
        }
    }

    /// A connection ended.
    pub fn disconnected(&self, user: UserId, connection: ConnectionId) {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if book.connections.remove(&(user, connection)) {
            book.disconnected.push((user, connection));
        }
    }

    /// Whether any connection is left.
    pub fn has_connections(&self) -> bool {
        !self.0.lock().unwrap_or_else(PoisonError::into_inner).connections.is_empty()
    }

    fn has_changes(&self) -> bool {
        let book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        !book.connected.is_empty() || !book.disconnected.is_empty()
    }

    fn report(&self, gateway_id: Uuid, number: u64, is_full: bool) -> GatewayReport {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let connected = std::mem::take(&mut book.connected);
        let disconnected = std::mem::take(&mut book.disconnected);
        if is_full {
            let connected = book.connections.iter().copied().collect();
            return GatewayReport { gateway_id, number, is_full, connected, disconnected: Vec::new() };
        }
        GatewayReport { gateway_id, number, is_full, connected, disconnected }
    }
}

/// Reports every second while something changes, else every 5 s, until the stop.
pub async fn run(gateway: Arc<Gateway>, shutdown: entrenous_runtime::Shutdown) {
    let gateway_id: Uuid = gateway.ids.next();
    let (mut number, mut quiet) = (0, REPORT_INTERVAL_SECONDS);
    let mut full_at = Instant::now();
    let mut ticks = tokio::time::interval(TICK);
    while !shutdown.is_triggered() {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.triggered() => {}
        }
        quiet += 1;
        if !gateway.presence.has_changes() && quiet < REPORT_INTERVAL_SECONDS {
            continue;
        }
        (number, quiet) = (number + 1, 0);
        let is_full = Instant::now() >= full_at;
        if is_full {
            full_at = Instant::now() + FULL_INTERVAL;
        }
        let report = gateway.presence.report(gateway_id, number, is_full);
        if let Err(error) = gateway.bus.broadcast(subjects::PRESENCE_REPORT, &report).await {
            tracing::warn!(%error, "presence was not told");
        }
    }
}
