//! How far this client is in each conversation. Pure.
//!
//! Decides of every entry and `ack` whether it stands next in its conversation, and which conversations the next `sync`
//! must name. Source: docs/protocol.md, section 3, "Sync" and promise 4.

use std::collections::HashMap;

use entrenous_model::{ConversationId, EntryId};
use entrenous_protocol::frame::SyncedConversation;
use sha2::{Digest, Sha256};

use super::{Begin, Violation};
use crate::{SyncFrom, SyncStart, frame::Stored};

/// Cursors in one `sync`: each takes up to 62 bytes of the frame, which holds 96 KiB by default. Who has more
/// conversations syncs in several steps.
const CURSORS_PER_SYNC_MAX: usize = 1_400;

/// What becomes of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Take {
    /// It stands next: the user gets it.
    Deliver,
    /// The user has it already, or a `sync` will bring it in its place.
    Pass,
    /// The server broke promise 4; the entry is not taken.
    Violation(Violation),
}

/// What an `ack` is to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AckPlace {
    /// It stands for its entry, which will not come.
    InPlace,
    /// Its entry has come, or comes by itself.
    Apart,
    /// That is found out by a `sync`: see [`Places::take_settled`].
    Unclear,
    /// The server broke promise 4.
    Violation(Violation),
}

/// An own message whose `ack` came when nothing was known of the conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) id: EntryId,
    pub(super) stored: Stored,
    pub(super) in_place: bool,
}

/// What the end of a `sync` showed.
#[derive(Debug, Default)]
pub(super) struct SyncEnd {
    /// Holes that the `sync` itself left.
    pub(super) violations: Vec<Violation>,
    /// Conversations whose log is shorter than what this client had seen of it.
    pub(super) rewound: Vec<ConversationId>,
}

#[derive(Debug)]
pub(super) struct Places {
    begin: Begin,
    by_conversation: HashMap<ConversationId, Place>,
    /// Whether this connection's first `sync` has ended: until then nothing is live.
    is_first_sync_over: bool,
    unclear: HashMap<ConversationId, Unclear>,
    settled: Vec<Settled>,
}

#[derive(Debug)]
struct Place {
    /// Everything up to here has been given to the user.
    cursor: u64,
    phase: Phase,
    /// The last seq of which the entry, or an `ack` in its place, came on this connection: it counts in the digest. 0: none.
    last_received: u64,
}

/// A conversation of which nothing is known but own acks. Either it was live all the time, and they stand in place; or
/// it begins only now, and their entries will come, with those before them. A `sync` that does not name it tells which:
/// it replays what was not live.
#[derive(Debug, Default)]
struct Unclear {
    is_asked: bool,
    /// In the order of their seqs. As many as messages are under way at most.
    held: Vec<(EntryId, Stored)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No `sync` of this connection has named it yet.
    Idle,
    /// A `sync` under way replays it. `is_quiet`: nothing of it can come but the replay, so that a hole is a fault.
    Replaying { is_quiet: bool, has_begun: bool },
    /// Its entries come as they happen.
    Live,
    /// A `sync` left some over.
    Paused,
    /// Entries are missing: a `sync` must bring them.
    Broken,
    /// The log is shorter than it was: to be read from its start.
    Rewound,
}

impl Places {
    pub(super) fn new(begin: Begin, cursors: HashMap<ConversationId, u64>) -> Self {
        let by_conversation = cursors.into_iter().map(|(id, cursor)| (id, Place::new(cursor, Phase::Idle))).collect();
        Self { begin, by_conversation, is_first_sync_over: false, unclear: HashMap::new(), settled: Vec::new() }
    }

    /// A new connection: nothing is live on it.
    pub(super) fn begin_connection(&mut self) {
        self.is_first_sync_over = false;
        for (_, unclear) in std::mem::take(&mut self.unclear) {
            self.settle(unclear, false);
        }
        for place in self.by_conversation.values_mut() {
            place.phase = Phase::Idle;
            place.last_received = 0;
        }
    }

    pub(super) fn clear(&mut self) {
        self.by_conversation.clear();
    }

    /// Sets where a conversation begins.
    pub(super) fn set(&mut self, conversation: ConversationId, cursor: u64) {
        self.by_conversation.insert(conversation, Place::new(cursor, Phase::Idle));
    }

    /// The user is no longer a member, or what was known of it no longer holds.
    pub(super) fn forget(&mut self, conversation: ConversationId) {
        self.by_conversation.remove(&conversation);
        if let Some(unclear) = self.unclear.remove(&conversation) {
            self.settle(unclear, false);
        }
    }

    /// The membership begins (again) at this seq: an older cursor belongs to an earlier one.
    pub(super) fn join(&mut self, conversation: ConversationId, seq: u64) {
        if self.by_conversation.get(&conversation).is_some_and(|place| place.cursor < seq) {
            self.by_conversation.remove(&conversation);
        }
    }

    /// Whether something is left for another `sync`.
    pub(super) fn needs_sync(&self) -> bool {
        !self.is_first_sync_over
            || self.by_conversation.values().any(Place::needs_sync)
            || self.unclear.values().any(|unclear| !unclear.is_asked)
    }

    /// The next `sync`: everything on a new connection, later what is not live.
    pub(super) fn begin_sync(&mut self, limit: Option<u32>) -> SyncStart {
        let is_first = !self.is_first_sync_over;
        let (chosen, names_all) = self.choose(is_first);
        if names_all {
            self.unclear.values_mut().for_each(|unclear| unclear.is_asked = true);
        }
        let from = self.begin.from();
        let mut start = SyncStart { from, limit, ..SyncStart::default() };
        for conversation in chosen {
            let Some(place) = self.by_conversation.get_mut(&conversation) else { continue };
            if place.phase == Phase::Rewound {
                start.from = Some(SyncFrom::Start);
            } else {
                start.cursors.insert(conversation, place.cursor);
            }
            let is_quiet = is_first || matches!(place.phase, Phase::Paused | Phase::Rewound);
            place.phase = Phase::Replaying { is_quiet, has_begun: false };
        }
        start
    }

    /// What the next `sync` names. Those that no sync has named yet go first: until then the server begins them where it
    /// thinks best. Rewound ones go last, because their sync restarts whatever is not live and not named. Tells too
    /// whether everything that is not live is named.
    fn choose(&self, is_first: bool) -> (Vec<ConversationId>, bool) {
        let wanted = |place: &&Place| is_first || place.needs_sync();
        let (rewound, others): (Vec<_>, Vec<_>) = self
            .by_conversation
            .iter()
            .filter(|(_, place)| wanted(place))
            .partition(|(_, place)| place.phase == Phase::Rewound);
        let (idle, begun): (Vec<_>, Vec<_>) = others.into_iter().partition(|(_, place)| place.phase == Phase::Idle);
        let names_all = begun.len() <= CURSORS_PER_SYNC_MAX && (is_first || idle.is_empty());
        let takes_rewound = names_all && idle.is_empty();
        let mut chosen: Vec<_> = idle.into_iter().chain(begun).take(CURSORS_PER_SYNC_MAX).map(|(id, _)| *id).collect();
        chosen.extend(rewound.into_iter().filter(|_| takes_rewound).map(|(id, _)| *id));
        (chosen, names_all)
    }

    /// Every conversation, live or not, is to be compared with the server's log.
    pub(super) fn doubt_all(&mut self) {
        for place in self.by_conversation.values_mut() {
            place.phase = Phase::Broken;
        }
    }

    /// The `sync` under way did not take place.
    pub(super) fn fail_sync(&mut self) {
        self.unclear.values_mut().for_each(|unclear| unclear.is_asked = false);
        for place in self.by_conversation.values_mut() {
            if matches!(place.phase, Phase::Replaying { .. }) {
                place.phase = if self.is_first_sync_over { Phase::Broken } else { Phase::Idle };
            }
        }
    }

    pub(super) fn end_sync(&mut self, listed: &[SyncedConversation]) -> SyncEnd {
        let mut end = SyncEnd::default();
        self.is_first_sync_over = true;
        for synced in listed {
            let place = self
                .by_conversation
                .entry(synced.conversation_id)
                .or_insert_with(|| Place::new(synced.sent_up_to, Phase::Replaying { is_quiet: true, has_begun: true }));
            match place.phase {
                Phase::Replaying { is_quiet, .. } => place.end_replay(synced, is_quiet, &mut end),
                // It began while the sync was under way, which replayed it.
                Phase::Live => place.end_replay(synced, false, &mut end),
                // A later sync will name it: this one's word on it does not count.
                Phase::Idle | Phase::Paused | Phase::Broken | Phase::Rewound => {}
            }
            if let Some(unclear) = self.unclear.remove(&synced.conversation_id) {
                self.settle(unclear, false);
            }
        }
        // Of the others it has replayed nothing: they were live all the time.
        let asked: Vec<_> = self.unclear.extract_if(|_, unclear| unclear.is_asked).collect();
        for (conversation, unclear) in asked {
            self.end_unclear(conversation, unclear, u64::MAX);
        }
        for place in self.by_conversation.values_mut() {
            if matches!(place.phase, Phase::Replaying { .. }) {
                place.phase = Phase::Live;
            }
        }
        end
    }

    /// `is_own`: this device sent it.
    pub(super) fn take_entry(&mut self, conversation: ConversationId, seq: u64, is_own: bool) -> Take {
        if let Some(unclear) = self.unclear.remove(&conversation) {
            self.end_unclear(conversation, unclear, seq);
        }
        let Some(place) = self.by_conversation.get_mut(&conversation) else {
            let place = Place { last_received: seq, ..Place::new(seq, self.phase_of_new()) };
            self.by_conversation.insert(conversation, place);
            return Take::Deliver;
        };
        place.last_received = seq;
        let violation = Violation { conversation, expected: place.cursor.saturating_add(1), seen: seq };
        let is_next = seq == violation.expected;
        let is_known = seq <= place.cursor;
        match place.phase {
            Phase::Idle | Phase::Paused | Phase::Broken | Phase::Rewound => return Take::Pass,
            Phase::Replaying { is_quiet: false, .. } if !is_next => return Take::Pass,
            Phase::Replaying { is_quiet: true, has_begun } if is_known || (has_begun && !is_next) => {
                place.phase = Phase::Replaying { is_quiet: false, has_begun };
                return Take::Violation(violation);
            }
            // Its ack was taken in its place. Where a conversation begins the server may not yet have counted it as live,
            // and the ack of a repeat may come at any time.
            Phase::Live if is_known && is_own => return Take::Pass,
            Phase::Live if !is_next => {
                place.phase = Phase::Broken;
                return Take::Violation(violation);
            }
            Phase::Replaying { is_quiet, .. } => place.phase = Phase::Replaying { is_quiet, has_begun: true },
            Phase::Live => {}
        }
        place.cursor = seq;
        Take::Deliver
    }

    /// `is_repeat`: the message had been sent before, so that its `ack` may come at any time.
    pub(super) fn take_ack(&mut self, id: EntryId, stored: Stored, is_repeat: bool) -> AckPlace {
        let Stored { conversation_id: conversation, seq, .. } = stored;
        let Some(place) = self.by_conversation.get_mut(&conversation) else {
            if !self.is_first_sync_over {
                return AckPlace::Apart;
            }
            self.unclear.entry(conversation).or_default().held.push((id, stored));
            return AckPlace::Unclear;
        };
        if place.phase != Phase::Live {
            if place.phase == Phase::Broken {
                place.last_received = seq;
            }
            return AckPlace::Apart;
        }
        let expected = place.cursor.saturating_add(1);
        if seq < expected || (is_repeat && seq > expected) {
            return AckPlace::Apart;
        }
        place.last_received = seq;
        if seq > expected {
            place.phase = Phase::Broken;
            return AckPlace::Violation(Violation { conversation, expected, seen: seq });
        }
        place.cursor = seq;
        AckPlace::InPlace
    }

    /// The digest as this client sees it; none while a `sync` is under way or owed.
    pub(super) fn digest(&self) -> Option<u64> {
        let is_settled = self.is_first_sync_over
            && self.unclear.is_empty()
            && self.by_conversation.values().all(|place| place.phase == Phase::Live);
        is_settled.then(|| {
            self.by_conversation
                .iter()
                .filter(|(_, place)| place.last_received > 0)
                .fold(0, |digest, (id, place)| digest ^ digest_of(*id, place.last_received))
        })
    }

    /// Own messages of which it has turned out since the last call how they stand.
    pub(super) fn take_settled(&mut self) -> Vec<Settled> {
        std::mem::take(&mut self.settled)
    }

    fn settle(&mut self, unclear: Unclear, in_place: bool) {
        self.settled.extend(unclear.held.into_iter().map(|(id, stored)| Settled { id, stored, in_place }));
    }

    /// Own messages below this seq stand in place, one after another; the entries of others come by themselves.
    fn end_unclear(&mut self, conversation: ConversationId, unclear: Unclear, below: u64) {
        let mut begun: Option<Place> = None;
        for (id, stored) in unclear.held {
            let is_next =
                begun.as_ref().is_none_or(|place| place.phase == Phase::Live && stored.seq == place.cursor + 1);
            let in_place = stored.seq < below && is_next;
            match &mut begun {
                _ if stored.seq >= below => {}
                Some(place) if is_next => (place.cursor, place.last_received) = (stored.seq, stored.seq),
                Some(place) => place.phase = Phase::Broken,
                None => begun = Some(Place { last_received: stored.seq, ..Place::new(stored.seq, Phase::Live) }),
            }
            self.settled.push(Settled { id, stored, in_place });
        }
        if let Some(place) = begun {
            self.by_conversation.insert(conversation, place);
        }
    }

    /// What comes of a conversation that nothing is known of: before the first `sync` has ended it is its replay.
    fn phase_of_new(&self) -> Phase {
        if self.is_first_sync_over { Phase::Live } else { Phase::Replaying { is_quiet: true, has_begun: true } }
    }
}

impl Place {
    fn new(cursor: u64, phase: Phase) -> Self {
        Self { cursor, phase, last_received: 0 }
    }

    fn needs_sync(&self) -> bool {
        matches!(self.phase, Phase::Idle | Phase::Paused | Phase::Broken | Phase::Rewound)
    }

    fn end_replay(&mut self, synced: &SyncedConversation, is_quiet: bool, end: &mut SyncEnd) {
        let conversation = synced.conversation_id;
        if synced.last_seq < self.cursor {
            *self = Self::new(0, Phase::Rewound);
            end.rewound.push(conversation);
            return;
        }
        // The beginning may have been cut off, or may not be this user's to read.
        self.cursor = self.cursor.max(synced.starts_at.saturating_sub(1));
        if self.cursor < synced.sent_up_to {
            if is_quiet {
                let expected = self.cursor.saturating_add(1);
                end.violations.push(Violation { conversation, expected, seen: synced.sent_up_to });
            }
            self.phase = Phase::Broken;
        } else if synced.has_more {
            self.phase = Phase::Paused;
        } else {
            self.phase = Phase::Live;
        }
    }
}

impl Begin {
    /// What a `sync` says of conversations without a cursor. A later one does so too: a conversation that begins in
    /// these moments must not begin elsewhere.
    fn from(self) -> Option<SyncFrom> {
        match self {
            Self::Acknowledged => None,
            // All conversations that there were have a cursor by then: what is left began later.
            Self::Now | Self::Start => Some(SyncFrom::Start),
        }
    }
}

/// The first 8 bytes of SHA-256(conversation id ‖ seq). Source: docs/protocol.md, section 3, heartbeats.
fn digest_of(conversation: ConversationId, seq: u64) -> u64 {
    let hash = Sha256::new().chain_update(conversation.as_bytes()).chain_update(seq.to_be_bytes()).finalize();
    hash.iter().take(8).fold(0, |digest, byte| digest << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests;
