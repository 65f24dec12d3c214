//! Scheduled messages: each is sent once, not before its time and as it was last changed, or told to have failed; what was
//! deleted is not sent.
//!
//! What was not answered may have been done, or may be done later: then nothing is said that depends on it.

use std::collections::{BTreeMap, BTreeSet};

use entrenous_model::{ConversationId, EntryId, Timestamp, UserId};
use entrenous_protocol::scheduled::ScheduledState;

use super::Findings;
use crate::{
    Check, LogEntry, Plan, Planned, What,
    index::{At, Attempt, Index, Outcome},
};

/// What a scheduled message may be: when it is sent, and which version of it.
type States = BTreeSet<(Timestamp, u64)>;

/// What was asked for with one message.
struct Story<'a> {
    conversation: ConversationId,
    id: EntryId,
    author: UserId,
    steps: Vec<(Plan, &'a Attempt)>,
}

pub(super) fn check(found: &mut Findings<'_>) {
    let index = found.index;
    let told = told_last(index);
    for (conversation, id) in index.planned.keys() {
        let Some(story) = Story::of(index, *conversation, *id) else { continue };
        story.check_places(found);
        if let Some((at, listed)) = told.get(&story.author) {
            let listed = listed.iter().find(|planned| (planned.conversation, planned.id) == (*conversation, *id));
            story.check_end(found, *at, listed);
        }
    }
}

/// What everybody was told last of their scheduled messages.
fn told_last<'a>(index: &Index<'a>) -> BTreeMap<UserId, (At, &'a [Planned])> {
    let mut told = BTreeMap::new();
    for (at, event) in index.events.iter().enumerate() {
        if let What::ReadPlanned { user, messages } = &event.what {
            told.insert(*user, (at, messages.as_slice()));
        }
    }
    told
}

impl<'a> Story<'a> {
    fn of(index: &'a Index<'_>, conversation: ConversationId, id: EntryId) -> Option<Self> {
        let operations = index.planned.get(&(conversation, id))?;
        let mut author = None;
        let mut steps = Vec::new();
        for attempt in operations.iter().filter_map(|operation| index.asked.get(operation)) {
            if let Some(What::Planning { user, plan, .. }) = index.events.get(attempt.began).map(|event| &event.what) {
                author = Some(*user);
                steps.push((*plan, attempt));
            }
        }
        Some(Self { conversation, id, author: author?, steps })
    }

    fn is_done(attempt: &Attempt) -> bool {
        matches!(attempt.outcome, Some((_, Outcome::Done { .. })))
    }

    /// Whether it may have come to be kept after it was deleted, or at any other time that is not known.
    fn may_be_kept_later(&self, index: &Index<'_>) -> bool {
        self.steps.iter().any(|(plan, attempt)| matches!(plan, Plan::Send { .. }) && index.closed(attempt).is_none())
    }

    fn is_kept(&self) -> bool {
        self.steps.iter().any(|(plan, attempt)| matches!(plan, Plan::Send { .. }) && Self::is_done(attempt))
    }

    fn is_deleted(&self) -> bool {
        self.steps.iter().any(|(plan, attempt)| *plan == Plan::Cancel && Self::is_done(attempt))
    }

    fn may_be_deleted(&self) -> bool {
        self.steps.iter().any(|(plan, attempt)| *plan == Plan::Cancel && !attempt.is_refused())
    }

    /// What it may be. A change whose end is not known, or that was refused when it was tried at once, may count or not.
    fn states(&self) -> States {
        let (mut states, mut open) = (States::new(), Vec::new());
        let apply = |states: &States, at: Option<Timestamp>, version: Option<u64>| -> States {
            states.iter().map(|(old_at, old)| (at.unwrap_or(*old_at), version.unwrap_or(*old))).collect()
        };
        for (plan, attempt) in &self.steps {
            match *plan {
                Plan::Send { send_at, version } if states.is_empty() => drop(states.insert((send_at, version))),
                Plan::Change { send_at, version } if Self::is_done(attempt) => {
                    states = apply(&states, send_at, version);
                }
                Plan::Change { send_at, version } => open.push((send_at, version)),
                Plan::Send { .. } | Plan::Cancel => {}
            }
            for (send_at, version) in &open {
                let others = apply(&states, *send_at, *version);
                states.extend(others);
            }
        }
        states
    }

    /// Where the log has it.
    fn entry<'i>(&self, index: &'i Index<'_>) -> Option<(&'i LogEntry, At)> {
        let log = index.logs.get(&self.conversation)?;
        let seq = log.seqs.get(&self.id)?.first()?;
        log.entries.get(seq).map(|(entry, at)| (entry, *at))
    }

    fn ats(&self) -> Vec<At> {
        let ends = self.steps.iter().filter_map(|(_, attempt)| attempt.outcome).map(|(at, _)| at);
        self.steps.iter().map(|(_, attempt)| attempt.began).chain(ends).collect()
    }

    fn complain(&self, found: &mut Findings<'_>, what: &str, read: Option<(At, u64)>) {
        let summary = format!("scheduled message {} of {} {what}", self.id, self.author);
        let ats: Vec<At> = self.ats().into_iter().chain(read.map(|(at, _)| at)).collect();
        let seqs: Vec<u64> = read.map(|(_, seq)| seq).into_iter().collect();
        found.add_read(Check::Planned, self.conversation, summary, (&ats, &seqs));
    }

    /// What the log says, and the answers that name a place in it.
    fn check_places(&self, found: &mut Findings<'_>) {
        let index = found.index;
        let entry = self.entry(index);
        for (_, attempt) in &self.steps {
            if let Some((_, Outcome::Done { seq: Some(seq) })) = attempt.outcome
                && index.logs.contains_key(&self.conversation)
                && entry.is_none_or(|(entry, _)| entry.seq != seq)
            {
                self.complain(found, &format!("was answered to be sent at seq {seq} and is not there"), None);
            }
        }
        let Some((entry, at)) = entry else { return };
        let read = Some((at, entry.seq));
        let states = self.states();
        if !states.iter().any(|(send_at, _)| *send_at <= entry.sent_at) {
            self.complain(found, &format!("was sent at {}, before its time: {states:?}", entry.sent_at), read);
        } else if let Some(version) = entry.version
            && !states.iter().any(|(send_at, known)| *known == version && *send_at <= entry.sent_at)
        {
            self.complain(found, &format!("was sent as version {version}; it was to be one of {states:?}"), read);
        }
        if !self.may_be_kept_later(index) {
            if self.is_deleted() {
                self.complain(found, "was deleted and is sent", read);
            }
            if self.steps.iter().all(|(_, attempt)| attempt.is_refused()) {
                self.complain(found, "was refused and is sent", read);
            }
        }
    }

    /// What its author was told at the end.
    fn check_end(&self, found: &mut Findings<'_>, at: At, listed: Option<&Planned>) {
        let index = found.index;
        if !index.logs.contains_key(&self.conversation) {
            return;
        }
        let is_sent = self.entry(index).is_some();
        let place = Some((at, 0));
        match listed {
            None if self.is_kept() && !is_sent && !self.may_be_deleted() => {
                self.complain(found, "is gone: neither in the log nor in the list of its author", place);
            }
            Some(_) if is_sent => self.complain(found, "was sent and is in the list of its author", place),
            Some(_) if self.is_deleted() && !self.may_be_kept_later(index) => {
                self.complain(found, "was deleted and is in the list of its author", place);
            }
            Some(planned) => self.check_listed(found, at, planned),
            None => {}
        }
    }

    fn check_listed(&self, found: &mut Findings<'_>, at: At, planned: &Planned) {
        let place = Some((at, 0));
        let states = self.states();
        if !planned.version.is_some_and(|version| states.contains(&(planned.send_at, version))) {
            let told = (planned.send_at, planned.version);
            self.complain(found, &format!("is told to be {told:?}; it is one of {states:?}"), place);
        }
        if planned.state == ScheduledState::Stale {
            self.complain(found, "is stale, and nothing has an epoch", place);
        }
        if planned.state == ScheduledState::Failed && self.might_always_be_sent(found.index) {
            self.complain(found, "failed, and its author might write there all the time", place);
        }
    }

    /// Whether its author was never anything but a member who may write.
    fn might_always_be_sent(&self, index: &Index<'_>) -> bool {
        let is_changed = |log: &crate::index::Log| {
            let mut entries = log.entries.values().map(|(entry, _)| entry).filter(|entry| entry.seq > 1);
            entries.any(|entry| entry.member.is_some_and(|change| change.user == self.author))
        };
        index.member_since(self.conversation, self.author).is_some_and(|since| since <= 1)
            && index.logs.get(&self.conversation).is_some_and(|log| !is_changed(log))
    }
}
