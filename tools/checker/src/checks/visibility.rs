//! Nobody sees what stands outside their membership.
//!
//! An `ack` shows nothing of others, and a repeated send gets it also after the sender's removal: it does not count.

use entrenous_model::{ConversationId, UserId};

use super::Findings;
use crate::{Check, OperationNumber, What, index::At};

pub(super) fn check(found: &mut Findings<'_>) {
    let index = found.index;
    for (at, event) in index.events.iter().enumerate() {
        match &event.what {
            What::Saw { connection, conversation, seq, .. } => {
                let Some(user) = index.users.get(connection) else { continue };
                check_entry(found, at, *user, *conversation, *seq);
            }
            What::ReadLog { user, conversation, entries } => {
                if let Some(entry) = entries.iter().find(|entry| !index.is_visible(*conversation, *user, entry.seq)) {
                    let summary = format!("{user} read seq {} without being a member then", entry.seq);
                    found.add_read(Check::Visibility, *conversation, summary, (&[at], &[entry.seq]));
                }
            }
            What::Peeked { operation, seqs } => check_peek(found, at, *operation, seqs),
            _ => {}
        }
    }
}

fn check_peek(found: &mut Findings<'_>, at: At, operation: OperationNumber, seqs: &[u64]) {
    let index = found.index;
    let Some(began) = index.asked.get(&operation).map(|attempt| attempt.began) else { return };
    let Some(What::Peeking { user, conversation, .. }) = index.events.get(began).map(|event| &event.what) else {
        return;
    };
    if let Some(seq) = seqs.iter().find(|seq| !index.is_visible(*conversation, *user, **seq)) {
        let summary = format!("{user} read seq {seq} without being a member then");
        found.add(Check::Visibility, *conversation, summary, &[began, at]);
    }
}

fn check_entry(found: &mut Findings<'_>, at: At, user: UserId, conversation: ConversationId, seq: u64) {
    if found.index.is_visible(conversation, user, seq) {
        return;
    }
    let members = found.index.intervals(conversation, user).unwrap_or_default();
    let summary = format!("{user} saw seq {seq} without being a member then: {members:?}");
    let change = found.index.logs.get(&conversation).and_then(|log| {
        let mut before = log.entries.range(..seq).rev();
        before.find(|(_, (entry, _))| entry.member.is_some_and(|change| change.user == user))
    });
    match change {
        Some((removal, (_, read))) => {
            let summary = format!("{summary}; the change stands at seq {removal}");
            found.add_read(Check::Visibility, conversation, summary, (&[at, *read], &[*removal]));
        }
        None => found.add(Check::Visibility, conversation, summary, &[at]),
    }
}
