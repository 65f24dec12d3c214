//! Changes of members, roles, bans and titles: what was answered holds until something else may have been done.
//!
//! What was not answered, or not at once, may have its effect at any later time. Nothing is said of a change after which, or
//! at the same time as which, something may have been done that undoes it.

use std::collections::BTreeMap;

use entrenous_model::{ConversationId, EntryId, UserId};
use entrenous_protocol::{Code, entry::Role};

use super::Findings;
use crate::{
    Change, Check, What,
    index::{At, Attempt, Index, Outcome},
};

/// What is so once a change was made.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fact {
    Member(UserId, bool),
    Role(UserId, Role),
    Banned(UserId, bool),
    Title(String),
}

impl Fact {
    fn all_of(change: &Change) -> Vec<Self> {
        match change {
            Change::Come(user) => vec![Self::Member(*user, true)],
            Change::Go(user) => vec![Self::Member(*user, false)],
            Change::Role(user, role) => vec![Self::Role(*user, *role)],
            Change::Ban(user) => vec![Self::Banned(*user, true), Self::Member(*user, false)],
            Change::Unban(user) => vec![Self::Banned(*user, false)],
            Change::Title(title) => vec![Self::Title(title.clone())],
        }
    }

    /// Whether a change ends it.
    fn is_undone_by(&self, change: &Change) -> bool {
        match (self, change) {
            (Self::Member(user, true) | Self::Role(user, _), Change::Go(other) | Change::Ban(other))
            | (Self::Member(user, false), Change::Come(other))
            | (Self::Banned(user, true), Change::Unban(other))
            | (Self::Banned(user, false), Change::Ban(other)) => user == other,
            (Self::Role(user, role), Change::Role(other, given)) => user == other && role != given,
            (Self::Title(title), Change::Title(given)) => title != given,
            _ => false,
        }
    }
}

/// An attempt at a change.
#[derive(Debug)]
struct Step<'a> {
    change: &'a Change,
    attempt: &'a Attempt,
    /// Of a frame that was repeated: its answer tells of the first time.
    is_repeated: bool,
}

pub(super) fn check(found: &mut Findings<'_>) {
    let index = found.index;
    let mut steps: BTreeMap<ConversationId, Vec<Step<'_>>> = BTreeMap::new();
    let mut frames: BTreeMap<EntryId, u64> = BTreeMap::new();
    for attempt in index.asked.values() {
        if let Some(What::Changing { change, id, .. }) = index.events.get(attempt.began).map(|event| &event.what) {
            let tries = id.map_or(0, |id| *frames.entry(id).and_modify(|tries| *tries += 1).or_insert(1));
            let step = Step { change, attempt, is_repeated: tries > 1 };
            check_place(found, &step);
            steps.entry(attempt.conversation).or_default().push(step);
        }
    }
    for (at, event) in index.events.iter().enumerate() {
        let What::ReadRoom { conversation, members, banned, title } = &event.what else { continue };
        let is_so = |fact: &Fact| match fact {
            Fact::Member(user, is_member) => members.contains_key(user) == *is_member,
            Fact::Role(user, role) => members.get(user) == Some(role),
            Fact::Banned(user, is_banned) => banned.contains(user) == *is_banned,
            Fact::Title(told) => title.as_ref() == Some(told),
        };
        let read = Seen { conversation: *conversation, began: at, ended: at };
        check_facts(found, &read, steps.get(conversation).map_or(&[], Vec::as_slice), is_so);
    }
    for attempt in index.asked.values() {
        check_attempt(found, attempt, steps.get(&attempt.conversation).map_or(&[], Vec::as_slice));
    }
}

/// The place that the answer to coming or going names.
fn check_place(found: &mut Findings<'_>, step: &Step<'_>) {
    let Some((at, Outcome::Done { seq: Some(seq) })) = step.attempt.outcome else { return };
    let (user, is_coming) = match step.change {
        Change::Come(user) => (*user, true),
        Change::Go(user) => (*user, false),
        _ => return,
    };
    let conversation = step.attempt.conversation;
    let Some(log) = found.index.logs.get(&conversation) else { return };
    let change = log.entries.get(&seq).and_then(|(entry, _)| entry.member);
    // The first entry names one of those who were there from the beginning.
    if change.is_none_or(|change| change.is_member() != is_coming || (change.user != user && seq > 1)) {
        let what = if is_coming { "came" } else { "went" };
        let summary = format!("{user} was answered to have {what} at seq {seq}, where the log says nothing of it");
        found.add_read(Check::Changes, conversation, summary, (&[step.attempt.began, at], &[seq]));
    }
}

/// What an attempt denies: who reads is a member, who is told that there is nothing is none, and who comes is not kept out.
fn check_attempt(found: &mut Findings<'_>, attempt: &Attempt, steps: &[Step<'_>]) {
    let index = found.index;
    let Some((ended, outcome)) = attempt.outcome else { return };
    let denied = match (index.events.get(attempt.began).map(|event| &event.what), outcome) {
        (Some(What::Peeking { user, .. }), Outcome::Done { .. }) => Fact::Member(*user, false),
        (Some(What::Peeking { user, .. }), Outcome::Refused) if is_not_found(index, attempt) => {
            Fact::Member(*user, true)
        }
        (Some(What::Changing { change: Change::Come(user), id: None, .. }), Outcome::Done { .. }) => {
            Fact::Banned(*user, true)
        }
        _ => return,
    };
    let seen = Seen { conversation: attempt.conversation, began: attempt.began, ended };
    check_facts(found, &seen, steps, |fact| *fact != denied);
}

/// When and where something was seen.
struct Seen {
    conversation: ConversationId,
    began: At,
    ended: At,
}

fn check_facts(found: &mut Findings<'_>, seen: &Seen, steps: &[Step<'_>], is_so: impl Fn(&Fact) -> bool) {
    for step in steps {
        let Some((answered, Outcome::Done { .. })) = step.attempt.outcome else { continue };
        if answered >= seen.began || step.is_repeated {
            continue;
        }
        for fact in Fact::all_of(step.change) {
            let undone = |other: &Step<'_>| fact.is_undone_by(other.change) && may_follow(found, other, step, seen);
            if is_so(&fact) || steps.iter().any(undone) {
                continue;
            }
            let summary = format!("{fact:?} was answered, nothing undid it, and it does not hold");
            let ats = [step.attempt.began, answered, seen.began, seen.ended];
            found.add(Check::Changes, seen.conversation, summary, &ats);
        }
    }
}

/// Whether a step may have its effect after another one has begun and before something was seen.
fn may_follow(found: &Findings<'_>, step: &Step<'_>, other: &Step<'_>, seen: &Seen) -> bool {
    let attempt = step.attempt;
    if attempt.began >= seen.ended {
        return false;
    }
    match found.index.closed(attempt) {
        Some(at) if at < other.attempt.began => false,
        // Who comes, and is removed before they are told, is told that there is nothing.
        Some(_) if attempt.is_refused() => matches!(step.change, Change::Come(_)) && is_not_found(found.index, attempt),
        Some(_) | None => true,
    }
}

fn is_not_found(index: &Index<'_>, attempt: &Attempt) -> bool {
    index.code(attempt) == Some(Code::NotFound.as_str())
}
