//! What is to be sent and is not known to be kept, in order per conversation. Pure.
//!
//! A message leaves when everything before it has left; a repeat waits until everything after it is answered, so that
//! the order of the log is the order of the calls. Source: docs/protocol.md, section 3, promises 2 and 3.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    time::Duration,
};

use entrenous_model::{ConversationId, EntryId};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::Backoff;

/// `internal` is the server's fault and may pass; one that stays must not hold back the conversation for ever.
const INTERNAL_ERRORS_MAX: u32 = 3;
/// How long a repeat waits at first and at most, where the server does not say.
const REPEAT_BASE: Duration = Duration::from_millis(500);
const REPEAT_CEILING: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Outbox {
    lanes: HashMap<ConversationId, Lane>,
    /// In which conversation a message waits.
    lane_of: HashMap<EntryId, ConversationId>,
    /// Sent on this connection and not answered on it, with the moment: as the server counts.
    unanswered: HashSet<EntryId>,
    sent: VecDeque<(Duration, EntryId)>,
    unanswered_max: usize,
    /// Conversations that may have something to send, each once.
    ready: VecDeque<ConversationId>,
    /// Conversations that wait for a repeat.
    delayed: BTreeSet<(Duration, ConversationId)>,
    repeats: u64,
}

#[derive(Debug)]
struct Lane {
    drafts: VecDeque<Draft>,
    is_ready: bool,
    repeat_at: Option<Duration>,
    backoff: Backoff,
}

#[derive(Debug)]
struct Draft {
    id: EntryId,
    text: Utf8Bytes,
    is_under_way: bool,
    times_sent: u32,
    internal_errors: u32,
}

/// How a server refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RefusalKind {
    /// What was asked did not happen and will not.
    Definite,
    /// It may have happened.
    OutcomeUnknown { is_internal: bool, retry_after: Option<Duration> },
}

/// What becomes of a refused message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is out of the queue.
    Failed,
    /// It will be sent again.
    Repeats,
    /// It is not in the queue.
    Unknown,
}

impl Outbox {
    /// With so many messages awaiting their answer on one connection.
    pub(super) fn new(unanswered_max: usize) -> Self {
        Self {
            lanes: HashMap::new(),
            lane_of: HashMap::new(),
            unanswered: HashSet::new(),
            sent: VecDeque::new(),
            unanswered_max,
            ready: VecDeque::new(),
            delayed: BTreeSet::new(),
            repeats: 0,
        }
    }

    /// False where the id waits already.
    pub(super) fn add(&mut self, conversation: ConversationId, id: EntryId, text: Utf8Bytes) -> bool {
        if self.lane_of.contains_key(&id) {
            return false;
        }
        self.lane_of.insert(id, conversation);
        let draft = Draft { id, text, is_under_way: false, times_sent: 0, internal_errors: 0 };
        self.lanes.entry(conversation).or_insert_with(Lane::new).drafts.push_back(draft);
        self.mark_ready(conversation);
        true
    }

    /// The next frame to send, if one may leave now.
    pub(super) fn next(&mut self, now: Duration) -> Option<Utf8Bytes> {
        while let Some((at, conversation)) = self.delayed.first().copied() {
            if at > now {
                break;
            }
            self.delayed.pop_first();
            if let Some(lane) = self.lanes.get_mut(&conversation) {
                lane.repeat_at = None;
            }
            self.mark_ready(conversation);
        }
        while self.unanswered.len() < self.unanswered_max {
            let conversation = self.ready.pop_front()?;
            let Some(lane) = self.lanes.get_mut(&conversation) else { continue };
            lane.is_ready = false;
            if let Some(draft) = lane.next() {
                draft.is_under_way = true;
                draft.times_sent += 1;
                self.repeats += u64::from(draft.times_sent > 1);
                let (id, text) = (draft.id, draft.text.clone());
                self.unanswered.insert(id);
                self.sent.push_back((now, id));
                // Takes its turn behind the others.
                self.mark_ready(conversation);
                return Some(text);
            }
        }
        None
    }

    /// When to ask for the next frame; none where only an answer can change what may leave.
    pub(super) fn due(&self) -> Option<Duration> {
        if self.unanswered.len() >= self.unanswered_max {
            None
        } else if self.ready.is_empty() {
            self.delayed.first().map(|(at, _)| *at)
        } else {
            Some(Duration::ZERO)
        }
    }

    /// When the message was sent that has waited longest for its answer.
    pub(super) fn oldest(&mut self) -> Option<Duration> {
        while let Some((at, id)) = self.sent.front() {
            if self.unanswered.contains(id) {
                return Some(*at);
            }
            self.sent.pop_front();
        }
        None
    }

    /// Whether the message had been sent before this connection, or more than once on it.
    pub(super) fn is_repeat(&self, id: EntryId) -> bool {
        let draft = self.lane_of.get(&id).and_then(|lane| self.lanes.get(lane)?.drafts.iter().find(|one| one.id == id));
        draft.is_none_or(|draft| draft.times_sent > 1)
    }

    /// The server has answered with an `ack`; true where somebody waits for it.
    pub(super) fn acknowledge(&mut self, id: EntryId) -> bool {
        self.unanswered.remove(&id);
        self.remove(id)
    }

    /// The entry itself came: the message is kept, whatever its answer says.
    pub(super) fn see(&mut self, conversation: ConversationId, id: EntryId) -> bool {
        self.lane_of.get(&id) == Some(&conversation) && self.remove(id)
    }

    /// The server has answered with an `error`. `point` (0 to 1) is where in its range the wait is taken.
    pub(super) fn refuse(&mut self, now: Duration, id: EntryId, kind: RefusalKind, point: f64) -> Refused {
        self.unanswered.remove(&id);
        let Some(conversation) = self.lane_of.get(&id).copied() else { return Refused::Unknown };
        let Some(lane) = self.lanes.get_mut(&conversation) else { return Refused::Unknown };
        let Some(draft) = lane.drafts.iter_mut().find(|draft| draft.id == id) else { return Refused::Unknown };
        draft.is_under_way = false;
        let RefusalKind::OutcomeUnknown { is_internal, retry_after } = kind else {
            self.remove(id);
            return Refused::Failed;
        };
        draft.internal_errors += u32::from(is_internal);
        if draft.internal_errors > INTERNAL_ERRORS_MAX {
            self.remove(id);
            return Refused::Failed;
        }
        if lane.repeat_at.is_none() {
            let at = now + retry_after.unwrap_or_default() + lane.backoff.next_delay_at(point);
            lane.repeat_at = Some(at);
            self.delayed.insert((at, conversation));
        }
        Refused::Repeats
    }

    /// The connection has ended: what was under way will be sent again.
    pub(super) fn lose_connection(&mut self) {
        self.unanswered.clear();
        self.sent.clear();
        self.delayed.clear();
        let conversations: Vec<_> = self.lanes.keys().copied().collect();
        for conversation in conversations {
            if let Some(lane) = self.lanes.get_mut(&conversation) {
                lane.repeat_at = None;
                for draft in &mut lane.drafts {
                    draft.is_under_way = false;
                }
            }
            self.mark_ready(conversation);
        }
    }

    /// Takes everything out.
    pub(super) fn drain(&mut self) -> Vec<EntryId> {
        let ids = self.lanes.drain().flat_map(|(_, lane)| lane.drafts).map(|draft| draft.id).collect();
        *self = Self { repeats: self.repeats, ..Self::new(self.unanswered_max) };
        ids
    }

    /// Frames that were repeats so far.
    pub(super) fn repeats(&self) -> u64 {
        self.repeats
    }

    fn remove(&mut self, id: EntryId) -> bool {
        let Some(conversation) = self.lane_of.remove(&id) else { return false };
        let Some(lane) = self.lanes.get_mut(&conversation) else { return false };
        lane.drafts.retain(|draft| draft.id != id);
        lane.backoff.reset();
        if lane.drafts.is_empty() {
            if let Some(at) = lane.repeat_at {
                self.delayed.remove(&(at, conversation));
            }
            self.lanes.remove(&conversation);
        } else {
            self.mark_ready(conversation);
        }
        true
    }

    fn mark_ready(&mut self, conversation: ConversationId) {
        if let Some(lane) = self.lanes.get_mut(&conversation)
            && !std::mem::replace(&mut lane.is_ready, true)
        {
            self.ready.push_back(conversation);
        }
    }
}

impl Lane {
    fn new() -> Self {
        let backoff = Backoff::new(REPEAT_BASE, REPEAT_CEILING);
        Self { drafts: VecDeque::new(), is_ready: false, repeat_at: None, backoff }
    }

    /// The first draft that is not under way, unless a later one is, or a repeat is not due yet.
    fn next(&mut self) -> Option<&mut Draft> {
        if self.repeat_at.is_some() {
            return None;
        }
        let under_way = self.drafts.iter().take_while(|draft| draft.is_under_way).count();
        let is_blocked = self.drafts.iter().skip(under_way).any(|draft| draft.is_under_way);
        if is_blocked { None } else { self.drafts.get_mut(under_way) }
    }
}

#[cfg(test)]
mod tests;
