//! A connection's clocks: heartbeats, silence, and the end of its token.

mod times;

use std::{cell::RefCell, time::Duration};

use entrenous_model::Clock as _;
use entrenous_protocol::{CloseCode, frame};
use tokio::{sync::Notify, time::Instant};

use super::{Connection, Outgoing};
use crate::state::Gateway;
use times::{Due, Times};

/// When something is due.
pub(super) struct Clock {
    times: RefCell<Times>,
    renewed: Notify,
}

impl Clock {
    /// For a token that ends at `exp`, in seconds since the Unix epoch.
    pub(super) fn new(gateway: &Gateway, exp: i64) -> Self {
        let heartbeat_interval = Duration::from_millis(gateway.limits.heartbeat_interval_ms);
        let times = Times::new(Instant::now(), heartbeat_interval, time_left(gateway, exp));
        Self { times: RefCell::new(times), renewed: Notify::new() }
    }

    /// The client sent something: it lives.
    pub(super) fn heard(&self) {
        self.times.borrow_mut().heard(Instant::now());
    }

    /// Another token, which ends at `exp`.
    pub(super) fn renew(&self, gateway: &Gateway, exp: i64) {
        self.times.borrow_mut().renew(Instant::now(), time_left(gateway, exp));
        self.renewed.notify_one();
    }

    /// Until the client is silent for too long or its token ends.
    pub(super) async fn run(&self, gateway: &Gateway, connection: &Connection) -> CloseCode {
        loop {
            let next = self.times.borrow().next();
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = self.renewed.notified() => {}
            }
            loop {
                let due = self.times.borrow_mut().take_due(Instant::now());
                match due {
                    Some(Due::End(code)) => return code,
                    Some(Due::Expiring(left)) => {
                        let left = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
                        connection.send(frame::token_expiring(left));
                    }
                    Some(Due::Heartbeat) => {
                        connection.outbox.push(Outgoing::Ping);
                        let digest = (!gateway.is_degraded()).then(|| connection.digest.get());
                        connection.send(frame::heartbeat(digest, connection.device_queue.sent()));
                    }
                    None => break,
                }
            }
        }
    }
}

fn time_left(gateway: &Gateway, exp: i64) -> Duration {
    let seconds = exp.saturating_sub(gateway.clock.now().unix_seconds());
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}
