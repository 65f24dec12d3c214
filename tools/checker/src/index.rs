//! What a history says about each message, log and membership, looked up by the checks.

use std::collections::{BTreeMap, BTreeSet};

use entrenous_model::{ConversationId, EntryId, UserId};
use entrenous_protocol::entry::Role;

use crate::{Change, ConnectionNumber, Event, History, LogEntry, OperationNumber, What};

/// What was done to the servers last before a violation is shown with it.
const FAULTS_SHOWN: usize = 2;

/// What was answered faster than this was asked for once: a gateway asks a second store, and may leave a first one to do the
/// same later, only where the first has not answered for longer.
const QUICK_US: u64 = 1_000_000;

/// A position in the history.
pub(crate) type At = usize;

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Acknowledged {
        seq: u64,
    },
    /// The same of what is no message.
    Done {
        seq: Option<u64>,
    },
    Refused,
    Indeterminate {
        is_answer: bool,
    },
}

/// An attempt to send a message, or to have something else done.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) began: At,
    pub(crate) conversation: ConversationId,
    pub(crate) outcome: Option<(At, Outcome)>,
}

impl Attempt {
    pub(crate) fn acknowledged(&self) -> Option<(At, u64)> {
        match self.outcome {
            Some((at, Outcome::Acknowledged { seq })) => Some((at, seq)),
            _ => None,
        }
    }

    pub(crate) fn is_refused(&self) -> bool {
        matches!(self.outcome, Some((_, Outcome::Refused)))
    }

    /// Whether the server answered with an error, of whichever kind.
    pub(crate) fn is_error_answer(&self) -> bool {
        matches!(self.outcome, Some((_, Outcome::Refused | Outcome::Indeterminate { is_answer: true })))
    }
}

/// From one seq on, up to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interval {
    pub(crate) from: u64,
    pub(crate) to: Option<u64>,
}

impl Interval {
    fn contains(self, seq: u64) -> bool {
        self.from <= seq && self.to.is_none_or(|to| seq <= to)
    }
}

/// All logs of a conversation laid over each other; where they differ, the one read first counts.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) entries: BTreeMap<u64, (LogEntry, At)>,
    pub(crate) seqs: BTreeMap<EntryId, BTreeSet<u64>>,
    pub(crate) read_last: At,
}

impl Log {
    pub(crate) fn head(&self) -> u64 {
        self.entries.last_key_value().map_or(0, |(seq, _)| *seq)
    }
}

/// Everything the checks look up.
#[derive(Debug)]
pub(crate) struct Index<'a> {
    pub(crate) events: &'a [Event],
    pub(crate) attempts: BTreeMap<OperationNumber, Attempt>,
    pub(crate) messages: BTreeMap<(ConversationId, EntryId), Vec<OperationNumber>>,
    /// Attempts to have something done that is no message.
    pub(crate) asked: BTreeMap<OperationNumber, Attempt>,
    /// Frames by which somebody comes (true) or goes.
    pub(crate) moves: BTreeMap<(ConversationId, EntryId), (UserId, bool)>,
    /// What was asked for with messages that are sent later.
    pub(crate) planned: BTreeMap<(ConversationId, EntryId), Vec<OperationNumber>>,
    pub(crate) logs: BTreeMap<ConversationId, Log>,
    memberships: BTreeMap<ConversationId, BTreeMap<UserId, Vec<Interval>>>,
    pub(crate) users: BTreeMap<ConnectionNumber, UserId>,
    faults: Vec<At>,
}

impl<'a> Index<'a> {
    pub(crate) fn new(history: &'a History) -> Self {
        let mut index = Self {
            events: &history.events,
            attempts: BTreeMap::new(),
            messages: BTreeMap::new(),
            asked: BTreeMap::new(),
            moves: BTreeMap::new(),
            planned: BTreeMap::new(),
            logs: BTreeMap::new(),
            memberships: BTreeMap::new(),
            users: BTreeMap::new(),
            faults: Vec::new(),
        };
        for (at, event) in history.events.iter().enumerate() {
            index.add(at, &event.what);
        }
        index.follow_members();
        index
    }

    fn add(&mut self, at: At, what: &What) {
        match what {
            What::Began { conversation, members } => self.add_beginning(*conversation, members),
            What::Sending { operation, conversation, id, .. } => {
                let attempt = Attempt { began: at, conversation: *conversation, outcome: None };
                self.attempts.insert(*operation, attempt);
                self.messages.entry((*conversation, *id)).or_default().push(*operation);
            }
            What::Changing { operation, conversation, id, change, .. } => {
                self.ask(at, *operation, *conversation);
                let moved = match change {
                    Change::Come(user) => Some((*user, true)),
                    Change::Go(user) => Some((*user, false)),
                    _ => None,
                };
                self.moves.extend(id.map(|id| (*conversation, id)).zip(moved));
            }
            What::Planning { operation, conversation, id, .. } => {
                self.ask(at, *operation, *conversation);
                self.planned.entry((*conversation, *id)).or_default().push(*operation);
            }
            What::Peeking { operation, conversation, .. } => self.ask(at, *operation, *conversation),
            What::Peeked { operation, .. } => self.end(*operation, at, Outcome::Done { seq: None }),
            What::Done { operation, seq } => self.end(*operation, at, Outcome::Done { seq: *seq }),
            What::Acknowledged { operation, seq } => {
                self.end(*operation, at, Outcome::Acknowledged { seq: *seq });
            }
            What::Refused { operation, .. } => self.end(*operation, at, Outcome::Refused),
            What::Indeterminate { operation, is_answer, .. } => {
                self.end(*operation, at, Outcome::Indeterminate { is_answer: *is_answer });
            }
            What::Connected { connection, user, .. } => {
                self.users.insert(*connection, *user);
            }
            What::ReadLog { conversation, entries, .. } => self.add_log(at, *conversation, entries),
            What::Fault { .. } => self.faults.push(at),
            What::Said { .. }
            | What::Disconnected { .. }
            | What::SyncBegan { .. }
            | What::SyncEnded { .. }
            | What::Saw { .. }
            | What::SawAck { .. }
            | What::Joined { .. }
            | What::Left { .. }
            | What::Settled { .. }
            | What::Reading { .. }
            | What::HasRead { .. }
            | What::ReadUnread { .. }
            | What::ReadRoom { .. }
            | What::ReadPlanned { .. }
            | What::Tried { .. }
            | What::Unexpected { .. } => {}
        }
    }

    fn add_beginning(&mut self, conversation: ConversationId, members: &[UserId]) {
        let memberships = self.memberships.entry(conversation).or_default();
        for member in members {
            memberships.insert(*member, vec![Interval { from: 1, to: None }]);
        }
    }

    fn end(&mut self, operation: OperationNumber, at: At, outcome: Outcome) {
        if let Some(attempt) = self.attempts.get_mut(&operation).or_else(|| self.asked.get_mut(&operation)) {
            attempt.outcome = Some((at, outcome));
        }
    }

    fn ask(&mut self, at: At, operation: OperationNumber, conversation: ConversationId) {
        self.asked.insert(operation, Attempt { began: at, conversation, outcome: None });
    }

    /// Where an attempt was answered for good, and so fast that nothing of it can have an effect any later.
    pub(crate) fn closed(&self, attempt: &Attempt) -> Option<At> {
        let (at, outcome) = attempt.outcome?;
        let time = |at: At| self.events.get(at).map_or(0, |event| event.at_us);
        let is_open = matches!(outcome, Outcome::Indeterminate { .. })
            || time(at).saturating_sub(time(attempt.began)) >= QUICK_US;
        (!is_open).then_some(at)
    }

    /// The members with whom a group began and what they were, where its log was read from the beginning.
    pub(crate) fn first_roles(&self, conversation: ConversationId, log: &Log) -> Option<BTreeMap<UserId, Role>> {
        let (first, _) = log.entries.get(&1)?;
        first.member?;
        let memberships = self.memberships.get(&conversation)?.iter();
        let began = |intervals: &[Interval]| intervals.first().is_some_and(|interval| interval.from == 1);
        Some(memberships.filter(|(_, intervals)| began(intervals)).map(|(user, _)| (*user, Role::Member)).collect())
    }

    /// The code with which an attempt was refused.
    pub(crate) fn code(&self, attempt: &Attempt) -> Option<&str> {
        let (at, _) = attempt.outcome?;
        match &self.events.get(at)?.what {
            What::Refused { code, .. } => Some(code),
            _ => None,
        }
    }

    /// Whether the `ack` of a frame by which somebody comes or goes may name an entry: theirs, or an earlier one that says the
    /// same of them.
    pub(crate) fn is_move(&self, conversation: ConversationId, id: EntryId, entry: &LogEntry) -> bool {
        let (Some((user, is_coming)), Some(change)) = (self.moves.get(&(conversation, id)), entry.member) else {
            return false;
        };
        // The first entry names one of those who were there from the beginning.
        change.is_member() == *is_coming && (change.user == *user || entry.seq == 1)
    }

    fn add_log(&mut self, at: At, conversation: ConversationId, entries: &[LogEntry]) {
        let log = self.logs.entry(conversation).or_default();
        log.read_last = at;
        for entry in entries {
            log.entries.entry(entry.seq).or_insert((*entry, at));
            log.seqs.entry(entry.id).or_default().insert(entry.seq);
        }
    }

    fn follow_members(&mut self) {
        for (conversation, log) in &self.logs {
            let Some(memberships) = self.memberships.get_mut(conversation) else { continue };
            for (seq, (entry, _)) in &log.entries {
                let Some(change) = entry.member else { continue };
                let intervals = memberships.entry(change.user).or_default();
                let open = intervals.last_mut().filter(|interval| interval.to.is_none());
                match (open, change.is_member()) {
                    (None, true) => intervals.push(Interval { from: *seq, to: None }),
                    (Some(interval), false) => interval.to = Some(*seq),
                    (Some(_), true) | (None, false) => {}
                }
            }
        }
    }

    /// The seqs that a user may see; none where the history does not tell who the members are.
    pub(crate) fn intervals(&self, conversation: ConversationId, user: UserId) -> Option<&[Interval]> {
        let memberships = self.memberships.get(&conversation)?;
        Some(memberships.get(&user).map_or(&[], Vec::as_slice))
    }

    /// Whether a user may see an entry, as far as the history tells.
    pub(crate) fn is_visible(&self, conversation: ConversationId, user: UserId, seq: u64) -> bool {
        self.intervals(conversation, user)
            .is_none_or(|intervals| intervals.iter().any(|interval| interval.contains(seq)))
    }

    /// The first seq after this one that a user may see.
    pub(crate) fn next_visible(&self, conversation: ConversationId, user: UserId, after: u64) -> Option<u64> {
        let next = after + 1;
        let Some(intervals) = self.intervals(conversation, user) else { return Some(next) };
        intervals
            .iter()
            .find(|interval| interval.to.is_none_or(|to| next <= to))
            .map(|interval| interval.from.max(next))
    }

    /// Whether a stretch that a user may see begins here.
    pub(crate) fn begins_at(&self, conversation: ConversationId, user: UserId, seq: u64) -> bool {
        self.intervals(conversation, user).unwrap_or_default().iter().any(|interval| interval.from == seq)
    }

    /// Since which seq a user is a member, if they still are at the end.
    pub(crate) fn member_since(&self, conversation: ConversationId, user: UserId) -> Option<u64> {
        self.intervals(conversation, user)?
            .last()
            .filter(|interval| interval.to.is_none())
            .map(|interval| interval.from)
    }

    /// The place of a message: as acknowledged, else as the log has it.
    pub(crate) fn seq_of(&self, conversation: ConversationId, id: EntryId) -> Option<u64> {
        let attempts = self.messages.get(&(conversation, id)).into_iter().flatten();
        let acknowledged =
            attempts.filter_map(|operation| self.attempts.get(operation)?.acknowledged()).map(|(_, seq)| seq).next();
        acknowledged.or_else(|| self.logs.get(&conversation)?.seqs.get(&id)?.first().copied())
    }

    /// Whether a log has an entry with this id.
    pub(crate) fn is_logged(&self, conversation: ConversationId, id: EntryId) -> bool {
        self.logs.get(&conversation).is_some_and(|log| log.seqs.contains_key(&id))
    }

    /// The first attempt at a message.
    pub(crate) fn first_attempt(&self, conversation: ConversationId, id: EntryId) -> Option<&Attempt> {
        self.attempts.get(self.messages.get(&(conversation, id))?.first()?)
    }

    /// Whether a message was tried more than once.
    pub(crate) fn is_repeated(&self, conversation: ConversationId, id: EntryId) -> bool {
        self.messages.get(&(conversation, id)).is_some_and(|attempts| attempts.len() > 1)
    }

    /// Copies of events, in the order of the history, each once, and of what was done to the servers shortly before the
    /// last of them. Of a log that was read only the entries beside these seqs.
    pub(crate) fn copy(&self, ats: &[At], seqs: &[u64]) -> Vec<Event> {
        let before = self.faults.partition_point(|fault| ats.iter().any(|at| fault < at));
        let faults = self.faults.iter().take(before).rev().take(FAULTS_SHOWN);
        let ats: BTreeSet<_> = ats.iter().chain(faults).copied().collect();
        ats.into_iter().filter_map(|at| self.events.get(at)).map(|event| shorten(event, seqs)).collect()
    }
}

fn shorten(event: &Event, seqs: &[u64]) -> Event {
    let mut event = event.clone();
    if let What::ReadLog { entries, .. } = &mut event.what {
        entries.retain(|entry| seqs.iter().any(|seq| entry.seq.abs_diff(*seq) <= 1));
    }
    event
}
