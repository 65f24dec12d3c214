//! One log: without gaps, the same for all, and what was seen is what it holds.

use entrenous_model::{ConversationId, UserId};

use super::Findings;
use crate::{Check, LogEntry, What, index::At};

pub(super) fn check(found: &mut Findings<'_>) {
    for (at, event) in found.index.events.iter().enumerate() {
        match &event.what {
            What::ReadLog { user, conversation, entries } => check_read(found, at, *user, *conversation, entries),
            What::Saw { conversation, seq, id, .. } | What::SawAck { conversation, seq, id, .. } => {
                let Some(log) = found.index.logs.get(conversation) else { continue };
                match log.entries.get(seq) {
                    Some((entry, _)) if entry.id == *id || found.index.is_move(*conversation, *id, entry) => {}
                    Some((entry, _)) => {
                        let summary = format!("seq {seq} was seen as {id}; the log has {}", entry.id);
                        found.add(Check::OneLog, *conversation, summary, &[at]);
                    }
                    None if at < log.read_last => {
                        let summary = format!("seq {seq} was seen and is in no log that was read later");
                        found.add(Check::OneLog, *conversation, summary, &[at]);
                    }
                    None => {}
                }
            }
            _ => {}
        }
    }
}

fn check_read(found: &mut Findings<'_>, at: At, user: UserId, conversation: ConversationId, entries: &[LogEntry]) {
    let index = found.index;
    let mut complain = |summary: String, ats: &[At], seqs: &[u64]| {
        found.add_read(Check::OneLog, conversation, summary, (ats, seqs));
    };
    if let Some(pair) = entries.windows(2).find(|pair| matches!(pair, [one, next] if next.seq != one.seq + 1)) {
        let seqs: Vec<_> = pair.iter().map(|entry| entry.seq).collect();
        complain(format!("the log that {user} read jumps between seqs {seqs:?}"), &[at], &seqs);
    }
    if let Some(expected) = first_visible(index.intervals(conversation, user))
        && let Some(first) = entries.first().filter(|first| first.seq != expected)
    {
        let summary = format!("the log that {user} read begins at seq {}, not at {expected}", first.seq);
        complain(summary, &[at], &[first.seq]);
    }
    let Some(log) = index.logs.get(&conversation) else { return };
    for entry in entries {
        if let Some((first, first_at)) = log.entries.get(&entry.seq).filter(|(first, _)| first != entry) {
            let seq = entry.seq;
            let summary = format!("seq {seq} is {} in one log and {} in the one that {user} read", first.id, entry.id);
            complain(summary, &[*first_at, at], &[seq]);
        }
    }
}

/// Where a member's log begins: at their last joining; where members are not known, at 1.
fn first_visible(intervals: Option<&[crate::index::Interval]>) -> Option<u64> {
    match intervals {
        None => Some(1),
        Some(intervals) => intervals.last().map(|interval| interval.from),
    }
}
