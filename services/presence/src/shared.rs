//! The state that all tasks and requests share.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use entrenous_model::{Clock, Timestamp, UserId};
use entrenous_protocol::{
    rpc::presence::{Chosen, GatewayReport, REPORT_INTERVAL_SECONDS, ReplicaBeat, STATUS_REPORT_MAX},
    status::StatusChoice,
};
use tokio::{sync::Notify, time::Instant};
use uuid::Uuid;

use crate::{
    Config,
    domain::{DueReport, Effects, Known, LastSeenBuffer, Moment, Replicas, Seen, Settings, State, Watchers},
    metrics,
};

/// Gateways at most. Far above what one NATS cluster serves.
const GATEWAYS_MAX: usize = 1_000;
/// Users whose last moment waits to be written, at about 40 bytes each.
const WAITING_MAX: usize = 200_000;
/// Users whom one gateway watches.
const WATCHED_MAX: usize = 1_000_000;
/// Choices that wait to be told to the other replicas; above it they read them again.
const CHOSEN_MAX: usize = 10_000;

/// The machines, what is still to be written and told, and the time. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Shared(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Arc<dyn Clock>,
    started: Instant,
    parts: Mutex<Parts>,
    unlearnt: Notify,
    chosen: Notify,
}

#[derive(Debug)]
struct Parts {
    state: State,
    watchers: Watchers,
    replicas: Replicas,
    buffer: LastSeenBuffer,
    /// What users chose here, for the other replicas.
    chosen: Vec<Chosen>,
    beats: u64,
}

/// What is known of a user without the tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    There(StatusChoice),
    /// There, but what the user chose to show is in the table.
    Unlearnt,
    /// Gone or invisible; the moment is the latest that memory knows, if any: the table may know a later one.
    Offline(Option<Timestamp>),
}

impl Shared {
    pub(crate) fn new(config: &Config, replica_id: Uuid, clock: Arc<dyn Clock>) -> Self {
        let settings = Settings {
            connections_max: config.presence_connections_max.get(),
            gateways_max: GATEWAYS_MAX,
            watched_max: WATCHED_MAX,
            lease: config.lease(),
            grace: config.grace(),
        };
        let parts = Parts {
            state: State::new(settings),
            watchers: Watchers::new(WATCHED_MAX),
            replicas: Replicas::new(replica_id),
            buffer: LastSeenBuffer::new(WAITING_MAX),
            chosen: Vec::new(),
            beats: 0,
        };
        let (unlearnt, chosen) = (Notify::new(), Notify::new());
        Self(Arc::new(Inner { clock, started: Instant::now(), parts: Mutex::new(parts), unlearnt, chosen }))
    }

    /// Takes a gateway's report.
    pub(crate) fn report(&self, report: GatewayReport) {
        let now = self.now();
        let gateway_id = report.gateway_id;
        let mut parts = self.parts();
        let effects = parts.state.report(report, now);
        parts.apply(Some(gateway_id), effects);
        drop(parts);
        self.0.unlearnt.notify_one();
    }

    /// Lets time pass.
    pub(crate) fn advance(&self) {
        let now = self.now();
        let mut parts = self.parts();
        let effects = parts.state.advance(now);
        parts.apply(None, effects);
        if parts.replicas.advance(now.uptime) {
            parts.watchers.mark_all();
        }
        metrics::known(&parts.state, &parts.watchers, &parts.replicas, &parts.buffer);
    }

    /// After nobody could be heard, nor told.
    pub(crate) fn resume(&self) {
        let now = self.now();
        let mut parts = self.parts();
        parts.state.resume(now);
        parts.state.forget_all_choices();
        parts.watchers.mark_all();
        drop(parts);
        self.0.unlearnt.notify_one();
    }

    /// Gateways that must say everything again.
    pub(crate) fn incomplete(&self) -> Vec<Uuid> {
        self.parts().state.incomplete().collect()
    }

    /// This replica knows enough to tell, or stops.
    pub(crate) fn set_ready(&self, is_ready: bool) {
        let mut parts = self.parts();
        parts.replicas.set_ready(is_ready);
        parts.watchers.mark_all();
        drop(parts);
        self.0.chosen.notify_one();
    }

    /// Takes another replica's beat.
    pub(crate) fn hear_replica(&self, beat: ReplicaBeat) {
        let now = self.now();
        let mut parts = self.parts();
        let noted = parts.replicas.note(&beat, now.uptime);
        if noted.has_moved {
            parts.watchers.mark_all();
        }
        if noted.has_gap {
            parts.state.forget_all_choices();
        }
        let effects = parts.state.learn(beat.chosen, now);
        parts.apply(None, effects);
        drop(parts);
        self.0.unlearnt.notify_one();
    }

    /// The next beat to the other replicas.
    pub(crate) fn next_beat(&self) -> ReplicaBeat {
        let mut parts = self.parts();
        parts.beats += 1;
        let chosen = std::mem::take(&mut parts.chosen);
        let (replica_id, is_ready) = (parts.replicas.own_id(), parts.replicas.is_ready());
        ReplicaBeat { replica_id, number: parts.beats, is_ready, chosen }
    }

    /// Waits until the other replicas are to hear something soon.
    pub(crate) async fn has_news(&self) {
        self.0.chosen.notified().await;
    }

    /// A user chose: kept already.
    pub(crate) fn chose(&self, chosen: Chosen) {
        let mut parts = self.parts();
        if parts.chosen.len() < CHOSEN_MAX {
            parts.chosen.push(chosen.clone());
        } else {
            // A number is left out: the others see that they missed something.
            parts.beats += 1;
        }
        drop(parts);
        self.learn(vec![chosen]);
        self.0.chosen.notify_one();
    }

    /// What users chose.
    pub(crate) fn learn(&self, chosen: Vec<Chosen>) {
        let now = self.now();
        let mut parts = self.parts();
        let effects = parts.state.learn(chosen, now);
        parts.apply(None, effects);
    }

    /// Waits until somebody's choice is to be learnt; at most so many users.
    pub(crate) async fn unlearnt(&self, users_max: usize) -> Vec<UserId> {
        loop {
            let user_ids = self.parts().state.take_unlearnt(users_max);
            if !user_ids.is_empty() {
                return user_ids;
            }
            self.0.unlearnt.notified().await;
        }
    }

    /// These could not be learnt.
    pub(crate) fn still_unlearnt(&self, user_ids: Vec<UserId>) {
        self.parts().state.forget_choices(user_ids);
    }

    /// Reports that are due to gateways.
    pub(crate) fn due_reports(&self) -> Vec<DueReport> {
        let now = self.now().uptime;
        let mut parts = self.parts();
        let Parts { watchers, replicas, .. } = &mut *parts;
        if !replicas.is_ready() {
            return Vec::new();
        }
        let silence_max = Duration::from_secs(REPORT_INTERVAL_SECONDS);
        watchers.take_due(now, silence_max, STATUS_REPORT_MAX, |user_id| replicas.is_ours(user_id))
    }

    /// A gateway was not told of these.
    pub(crate) fn still_untold(&self, gateway_id: Uuid, user_ids: &[UserId]) {
        self.parts().watchers.mark_for(gateway_id, user_ids);
    }

    /// What is known of these users, in their order.
    pub(crate) fn answers(&self, user_ids: &[UserId]) -> Vec<Answer> {
        let now = self.now();
        let parts = self.parts();
        let answer = |user_id: &UserId| match parts.state.user(*user_id, now) {
            Known::There(shows) => Answer::There(shows),
            Known::Unlearnt => Answer::Unlearnt,
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

impl Parts {
    fn apply(&mut self, gateway_id: Option<Uuid>, effects: Effects) {
        let Effects { seen, changed, watching, ended } = effects;
        metrics::last_seen_left_out(self.buffer.add(seen));
        if let Some(gateway_id) = gateway_id {
            metrics::watched_left_out(self.watchers.watch(gateway_id, watching));
        }
        self.watchers.mark(&changed);
        for gateway_id in ended {
            self.watchers.end(gateway_id);
        }
    }
}
