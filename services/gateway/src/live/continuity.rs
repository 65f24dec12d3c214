//! Whether this gateway can be sure to have heard everything on the live plane, and what to do where it cannot.
//!
//! Pure: what was heard and what time it is goes in, what to do comes out. Publishers number what they publish in each
//! shard and say once a second how far they are, so a lost message shows at the next one in its shard or at the next
//! beat, and a publisher that died shows by its silence.

use std::time::Duration;

use ahash::AHashMap;
use entrenous_protocol::live::{LIVE_SHARDS, LiveKind, LiveMessage, decode_numbers, shard_of};
use tokio::time::Instant;

/// A publisher that was silent for so long may have died before its last messages came.
const SILENT_MAX: Duration = Duration::from_secs(3);
/// A publisher that was silent for so long is forgotten: it will not come back.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);
/// Between two tries to catch up.
const RETRY: Duration = Duration::from_millis(500);

/// How long the gateway bears not to be sure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// After this it says so, and is not ready.
    pub(super) degraded_after: Duration,
    /// Having heard nothing from NATS for this long, it sends its clients elsewhere.
    pub(super) cut_off_after: Duration,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Find out what was missed since then; [`Continuity::on_caught_up`] ends it.
    CatchUp(Instant),
    /// Tell the clients that something may be missing.
    Degrade,
    /// Tell them that nothing is missing any more.
    Restore,
    /// Send them elsewhere.
    CutOff,
}

#[derive(Debug)]
struct Publisher {
    /// The last number heard in each shard.
    numbers: Vec<u64>,
    /// Everything that it published before was heard, or was caught up with.
    sure_at: Instant,
    heard_at: Instant,
    /// It has beaten: before that nothing is known of its numbers.
    is_known: bool,
    /// It is silent, and this is when to look again.
    look_at: Instant,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Continuity {
    bounds: Bounds,
    started_at: Instant,
    publishers: AHashMap<u64, Publisher>,
    heard_at: Instant,
    missing_since: Option<Instant>,
    catching_up: Option<CatchingUp>,
    retry_at: Instant,
    /// Since when it is not sure without a break.
    unsure_since: Option<Instant>,
    is_degraded: bool,
    is_cut_off: bool,
}

#[derive(Debug, Clone, Copy)]
struct CatchingUp {
    since: Instant,
    started_at: Instant,
}

impl Publisher {
    fn new(now: Instant) -> Self {
        let numbers = vec![0; usize::from(LIVE_SHARDS)];
        Self { numbers, sure_at: now, heard_at: now, is_known: false, look_at: now + SILENT_MAX }
    }

    /// Takes a number of a shard; gives whether one before it is missing.
    fn take(&mut self, shard: u16, number: u64) -> bool {
        let Some(last) = self.numbers.get_mut(usize::from(shard)) else { return false };
        let is_gap = number > *last + 1;
        *last = (*last).max(number);
        is_gap
    }

    /// Takes what it says of itself; gives whether something is missing.
    fn take_beat(&mut self, body: &[u8]) -> bool {
        let mut is_behind = false;
        for (shard, number) in decode_numbers(body) {
            let Some(last) = self.numbers.get_mut(usize::from(shard)) else { continue };
            is_behind |= number > *last;
            *last = (*last).max(number);
        }
        is_behind
    }
}

impl Continuity {
    pub(super) fn new(bounds: Bounds, now: Instant) -> Self {
        Self {
            bounds,
            started_at: now,
            publishers: AHashMap::new(),
            heard_at: now,
            missing_since: None,
            catching_up: None,
            retry_at: now,
            unsure_since: None,
            is_degraded: false,
            is_cut_off: false,
        }
    }

    /// NATS answered, or something came.
    pub(super) fn on_heard(&mut self, now: Instant) {
        if now.duration_since(self.heard_at) >= self.bounds.degraded_after {
            self.miss(self.sure_at());
        }
        self.heard_at = now;
        self.is_cut_off = false;
    }

    /// The connection was lost and stands again.
    pub(super) fn on_interrupted(&mut self, now: Instant) {
        self.miss(self.sure_at());
        self.on_heard(now);
    }

    /// A live message or a beat came.
    pub(super) fn on_message(&mut self, message: &LiveMessage, now: Instant) {
        self.on_heard(now);
        let preamble = &message.preamble;
        let publisher = self.publishers.entry(preamble.publisher).or_insert_with(|| Publisher::new(now));
        let missing = if preamble.kind == LiveKind::Beat {
            let is_behind = publisher.take_beat(&message.body);
            let was_known = std::mem::replace(&mut publisher.is_known, true);
            (publisher.heard_at, publisher.look_at) = (now, now + SILENT_MAX);
            let born_at = now.checked_sub(Duration::from_millis(preamble.seq)).unwrap_or(self.started_at);
            let since = if was_known { publisher.sure_at } else { born_at };
            publisher.sure_at = now;
            // One that is met for the first time and has published before may have published to us in vain.
            let is_missing = if was_known { is_behind } else { !message.body.is_empty() };
            is_missing.then_some(since)
        } else {
            let is_gap = publisher.take(shard_of(preamble.subject), preamble.number);
            (is_gap && publisher.is_known).then_some(publisher.sure_at)
        };
        if let Some(since) = missing {
            self.miss(since);
        }
    }

    /// A [`Action::CatchUp`] has ended.
    pub(super) fn on_caught_up(&mut self, is_done: bool, now: Instant) {
        let Some(CatchingUp { since, started_at }) = self.catching_up.take() else { return };
        if is_done {
            for publisher in self.publishers.values_mut() {
                publisher.sure_at = publisher.sure_at.max(started_at);
            }
        } else {
            self.miss(since);
            self.retry_at = now + RETRY;
        }
    }

    /// Whether NATS was heard lately.
    pub(super) fn is_heard(&self, now: Instant) -> bool {
        now.duration_since(self.heard_at) < self.bounds.degraded_after
    }

    /// The next thing to do, if any: called again until there is none.
    pub(super) fn next(&mut self, now: Instant) -> Option<Action> {
        let is_heard = self.is_heard(now);
        self.look_for_silence();
        if now.duration_since(self.heard_at) >= self.bounds.cut_off_after && !self.is_cut_off {
            self.is_cut_off = true;
            return Some(Action::CutOff);
        }
        if is_heard
            && self.catching_up.is_none()
            && now >= self.retry_at
            && let Some(since) = self.missing_since.take()
        {
            self.catching_up = Some(CatchingUp { since, started_at: now });
            self.unsure_since.get_or_insert(now);
            return Some(Action::CatchUp(since));
        }
        let is_missing = self.missing_since.is_some() || self.catching_up.is_some();
        self.unsure_since = is_missing.then(|| self.unsure_since.unwrap_or(now));
        let is_unsure_for_long =
            self.unsure_since.is_some_and(|since| now.duration_since(since) >= self.bounds.degraded_after);
        if !self.is_degraded && (!is_heard || is_unsure_for_long) {
            self.is_degraded = true;
            return Some(Action::Degrade);
        }
        if self.is_degraded && is_heard && !is_missing {
            self.is_degraded = false;
            return Some(Action::Restore);
        }
        None
    }

    fn miss(&mut self, since: Instant) {
        let since = since.max(self.started_at);
        self.missing_since = Some(self.missing_since.map_or(since, |before| before.min(since)));
    }

    /// Until when everything was heard that anybody published, but for those who have been silent for longer.
    fn sure_at(&self) -> Instant {
        let spoke = self.publishers.values().filter(|one| self.heard_at.duration_since(one.heard_at) < SILENT_MAX);
        spoke.map(|publisher| publisher.sure_at).min().unwrap_or(self.heard_at).min(self.heard_at)
    }

    /// Looks at those who are silent, ever more seldom. Only as long as NATS itself is heard does silence mean anything.
    fn look_for_silence(&mut self) {
        let now = self.heard_at;
        self.publishers.retain(|_, publisher| now.duration_since(publisher.heard_at) < FORGOTTEN_AFTER);
        let mut missing: Option<Instant> = None;
        for publisher in self.publishers.values_mut().filter(|publisher| publisher.look_at <= now) {
            publisher.look_at = now + now.duration_since(publisher.heard_at);
            missing = Some(missing.map_or(publisher.sure_at, |before| before.min(publisher.sure_at)));
        }
        if let Some(since) = missing {
            self.miss(since);
        }
    }
}
