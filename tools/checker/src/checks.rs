//! The checks: pure functions over a whole history.

mod changes;
mod live;
mod logs;
mod members;
mod messages;
mod order;
mod planned;
mod unread;
mod visibility;

use std::collections::BTreeSet;

use entrenous_model::ConversationId;

use crate::{
    Check, Counts, History, Report, Violation, What,
    index::{At, Index},
};

/// Checks everything that the protocol promises of a history that has ended.
pub fn check(history: &History) -> Report {
    let index = Index::new(history);
    let mut found = Findings { index: &index, violations: Vec::new() };
    messages::check_acknowledged(&mut found);
    messages::check_refused(&mut found);
    messages::check_ids(&mut found);
    logs::check(&mut found);
    order::check_senders(&mut found);
    order::check_real_time(&mut found);
    visibility::check(&mut found);
    live::check(&mut found);
    unread::check(&mut found);
    members::check(&mut found);
    changes::check(&mut found);
    planned::check(&mut found);
    check_answers(&mut found);
    let violations = found.violations;
    Report { counts: count(&index), violations }
}

/// The history, and what was found in it.
struct Findings<'a> {
    index: &'a Index<'a>,
    violations: Vec<Violation>,
}

impl Findings<'_> {
    fn add(&mut self, check: Check, conversation: ConversationId, summary: String, ats: &[At]) {
        self.add_read(check, conversation, summary, (ats, &[]));
    }

    /// The same where logs that were read show it: at these seqs.
    fn add_read(&mut self, check: Check, conversation: ConversationId, summary: String, (ats, seqs): (&[At], &[u64])) {
        let events = self.index.copy(ats, seqs);
        self.violations.push(Violation { check, conversation: Some(conversation), summary, events });
    }
}

/// No answer was one that the protocol does not know.
fn check_answers(found: &mut Findings<'_>) {
    for (at, event) in found.index.events.iter().enumerate() {
        if let What::Unexpected { summary } = &event.what {
            let (summary, events) = (summary.clone(), found.index.copy(&[at], &[]));
            found.violations.push(Violation { check: Check::Answers, conversation: None, summary, events });
        }
    }
}

fn count(index: &Index<'_>) -> Counts {
    let mut counts = Counts {
        sends: index.attempts.len(),
        messages: index.messages.len(),
        repeated: index.messages.values().filter(|attempts| attempts.len() > 1).count(),
        connections: index.users.len(),
        planned: index.planned.len(),
        planned_sent: index.planned.keys().filter(|(room, id)| index.is_logged(*room, *id)).count(),
        entries: index.logs.values().map(|log| log.entries.len()).sum(),
        ..Counts::default()
    };
    let mut changes = BTreeSet::new();
    for event in index.events {
        match &event.what {
            What::Acknowledged { .. } => counts.acknowledged += 1,
            What::Done { .. } => counts.changed += 1,
            What::Refused { .. } => counts.refused += 1,
            What::Indeterminate { .. } => counts.indeterminate += 1,
            What::Saw { .. } => counts.seen += 1,
            What::Settled { .. } => counts.settled += 1,
            What::Fault { .. } => counts.faults += 1,
            What::ReadUnread { .. } => counts.unread_read += 1,
            What::ReadLog { conversation, entries, .. } => {
                counts.logs_read += 1;
                let of_members = entries.iter().filter(|entry| entry.member.is_some() && entry.seq > 1);
                changes.extend(of_members.map(|entry| (*conversation, entry.seq)));
            }
            _ => {}
        }
    }
    counts.member_changes = changes.len();
    counts
}

#[cfg(test)]
mod tests;
