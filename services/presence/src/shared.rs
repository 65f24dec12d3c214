//! The state that listener, writer and requests share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use entrenous_model::{Clock, Timestamp, UserId};
use entrenous_protocol::rpc::presence::GatewayReport;
use tokio::time::Instant;

use crate::{
    Config,
    domain::{Known, LastSeenBuffer, Moment, Seen, Settings, State},
    metrics,
};

/// Gateways at most. Far above what one NATS cluster serves.
const GATEWAYS_MAX: usize = 1_000;
/// Users whose last moment waits to be written, at about 40 bytes each.
const WAITING_MAX: usize = 200_000;

/// The machine, what it still has to write, and the time. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Shared(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Arc<dyn Clock>,
    started: Instant,
    parts: Mutex<Parts>,
}

#[derive(Debug)]
struct Parts {
    state: State,
    buffer: LastSeenBuffer,
}

/// What is known of a user without the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Online,
    /// Gone; the moment is the latest that memory knows, if any: the table may know a later one.
    Offline(Option<Timestamp>),
}

impl Shared {
    pub(crate) fn new(config: &Config, clock: Arc<dyn Clock>) -> Self {
        let settings = Settings { connections_max: config.presence_connections_max.get(), gateways_max: GATEWAYS_MAX };
        let parts = Parts { state: State::new(settings), buffer: LastSeenBuffer::new(WAITING_MAX) };
        Self(Arc::new(Inner { clock, started: Instant::now(), parts: Mutex::new(parts) }))
    }

    /// Takes a gateway's report.
    pub(crate) fn report(&self, report: GatewayReport) {
        let now = self.now();
        let mut parts = self.parts();
        let came = parts.state.report(report, now);
        keep(&mut parts, came);
    }

    /// Lets time pass.
    pub(crate) fn advance(&self) {
        let now = self.now();
        let mut parts = self.parts();
        let left = parts.state.advance(now);
        keep(&mut parts, left);
        metrics::known(&parts.state, &parts.buffer);
    }

    /// After nobody could be heard.
    pub(crate) fn resume(&self) {
        let now = self.now();
        self.parts().state.resume(now);
    }

    /// Whether all that gateways said so far is known.
    pub(crate) fn is_complete(&self) -> bool {
        self.parts().state.is_complete()
    }

    /// What is known of these users, in their order.
    pub(crate) fn answers(&self, user_ids: &[UserId]) -> Vec<Answer> {
        let now = self.now();
        let parts = self.parts();
        let answer = |user_id: &UserId| match parts.state.user(*user_id, now) {
            Known::Online => Answer::Online,
            Known::Left(at) => Answer::Offline(Some(at)),
            Known::Absent => Answer::Offline(parts.buffer.get(*user_id)),
        };
        user_ids.iter().map(answer).collect()
    }

    /// What is to be written next; it waits until it is [`Self::written`].
    pub(crate) fn batch(&self, rows_max: usize) -> Vec<Seen> {
        self.parts().buffer.batch(rows_max)
    }

    /// Forgets what was written.
    pub(crate) fn written(&self, batch: &[Seen]) {
        self.parts().buffer.written(batch);
    }

    fn now(&self) -> Moment {
        Moment { uptime: self.0.started.elapsed(), wall: self.0.clock.now() }
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.0.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keep(parts: &mut Parts, seen: Vec<Seen>) {
    let left_out = parts.buffer.add(seen);
    if left_out > 0 {
        metrics::last_seen_left_out(left_out);
    }
}
