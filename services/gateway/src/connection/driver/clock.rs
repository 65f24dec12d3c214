//! A connection's clocks: heartbeats, silence, and the end of its token.

use std::{cell::Cell, time::Duration};

use entrenous_model::Clock as _;
use entrenous_protocol::{CloseCode, frame};
use tokio::{sync::Notify, time::Instant};

use super::{Connection, Outgoing};
use crate::state::Gateway;

/// How long before its end a token is said to end.
const EXPIRY_NOTICE: Duration = Duration::from_secs(60);

/// When something is due.
pub(super) struct Clock {
    heartbeat_interval: Duration,
    heard_at: Cell<Instant>,
    expires_at: Cell<Instant>,
    is_expiry_told: Cell<bool>,
    renewed: Notify,
}

impl Clock {
    /// For a token that ends at `exp`, in seconds since the Unix epoch.
    pub(super) fn new(gateway: &Gateway, exp: i64) -> Self {
        let clock = Self {
            heartbeat_interval: Duration::from_millis(gateway.limits.heartbeat_interval_ms),
            heard_at: Cell::new(Instant::now()),
            expires_at: Cell::new(Instant::now()),
            is_expiry_told: Cell::new(false),
            renewed: Notify::new(),
        };
        clock.renew(gateway, exp);
        clock
    }

    /// The client sent something: it lives.
    pub(super) fn heard(&self) {
        self.heard_at.set(Instant::now());
    }

    /// Another token, which ends at `exp`.
    pub(super) fn renew(&self, gateway: &Gateway, exp: i64) {
        let seconds = exp.saturating_sub(gateway.clock.now().unix_seconds());
        let left = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        self.expires_at.set(Instant::now() + left);
        self.is_expiry_told.set(false);
        self.renewed.notify_one();
    }

    /// Until the client is silent for too long or its token ends.
    pub(super) async fn run(&self, gateway: &Gateway, connection: &Connection) -> CloseCode {
        let mut heartbeat_at = Instant::now() + self.heartbeat_interval;
        loop {
            let silent_at = self.heard_at.get() + self.heartbeat_interval * 2;
            let notice_at = self.expires_at.get().checked_sub(EXPIRY_NOTICE).filter(|_| !self.is_expiry_told.get());
            let next = heartbeat_at.min(silent_at).min(notice_at.unwrap_or(self.expires_at.get()));
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = self.renewed.notified() => continue,
            }
            let now = Instant::now();
            if now >= self.expires_at.get() {
                return CloseCode::TokenExpired;
            }
            if now >= self.heard_at.get() + self.heartbeat_interval * 2 {
                // Nobody is there to read a close frame.
                return CloseCode::Normal;
            }
            if notice_at.is_some_and(|at| now >= at) {
                self.is_expiry_told.set(true);
                let left = self.expires_at.get().duration_since(now).as_millis();
                connection.send(frame::token_expiring(u64::try_from(left).unwrap_or(0)));
            }
            if now >= heartbeat_at {
                heartbeat_at = now + self.heartbeat_interval;
                connection.outbox.push(Outgoing::Ping);
                let digest = (!gateway.is_degraded()).then(|| connection.digest.get());
                connection.send(frame::heartbeat(digest, connection.device_queue.sent()));
            }
        }
    }
}
