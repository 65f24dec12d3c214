//! What became of each message.

use std::collections::BTreeMap;

use entrenous_model::{ConversationId, EntryId};

use super::Findings;
use crate::{
    Check, OperationNumber, What,
    index::{At, Attempt, Index},
};

/// Every acknowledged message is in the log exactly once, at the acknowledged seq, and in every log read later.
pub(super) fn check_acknowledged(found: &mut Findings<'_>) {
    let index = found.index;
    for ((conversation, id), operations) in &index.messages {
        let acknowledged: Vec<_> =
            operations.iter().filter_map(|operation| index.attempts.get(operation)).filter_map(with_ack).collect();
        let Some((attempt, at, seq)) = acknowledged.first().copied() else { continue };
        if let Some((other, other_at, other_seq)) = acknowledged.iter().find(|(_, _, other)| *other != seq) {
            let summary = format!("message {id} was acknowledged at seq {seq} and at seq {other_seq}");
            let ats = [attempt.began, at, other.began, *other_at];
            found.add(Check::Acknowledged, *conversation, summary, &ats);
        }
        check_stored(found, *conversation, *id, (attempt.began, at, seq));
    }
    check_later_reads(found);
}

fn with_ack(attempt: &Attempt) -> Option<(&Attempt, At, u64)> {
    attempt.acknowledged().map(|(at, seq)| (attempt, at, seq))
}

fn check_stored(found: &mut Findings<'_>, conversation: ConversationId, id: EntryId, ack: (At, At, u64)) {
    let (began, at, seq) = ack;
    let log = found.index.logs.get(&conversation);
    let seqs: Vec<_> = log.and_then(|log| log.seqs.get(&id)).into_iter().flatten().copied().collect();
    if seqs == [seq] {
        return;
    }
    let summary = match log {
        None => format!("message {id} was acknowledged at seq {seq}, but nobody read that log"),
        Some(_) if seqs.is_empty() => format!("message {id} was acknowledged at seq {seq} and is not in the log"),
        Some(_) => format!("message {id} was acknowledged at seq {seq} and is in the log at {seqs:?}"),
    };
    found.add(Check::Acknowledged, conversation, summary, &[began, at]);
}

/// A log that was read after an `ack` reaches at least as far.
fn check_later_reads(found: &mut Findings<'_>) {
    let index = found.index;
    let mut highest: BTreeMap<ConversationId, (u64, At)> = BTreeMap::new();
    for (at, event) in index.events.iter().enumerate() {
        match &event.what {
            What::Acknowledged { operation, seq } => note_highest(index, &mut highest, *operation, *seq, at),
            What::ReadLog { conversation, entries, user } => {
                let Some((seq, ack)) = highest.get(conversation) else { continue };
                let last = entries.last().map_or(0, |entry| entry.seq);
                if last < *seq {
                    let summary = format!("{user} read the log up to seq {last} after seq {seq} had been acknowledged");
                    found.add_read(Check::Acknowledged, *conversation, summary, (&[*ack, at], &[last]));
                }
            }
            _ => {}
        }
    }
}

fn note_highest(
    index: &Index<'_>,
    highest: &mut BTreeMap<ConversationId, (u64, At)>,
    operation: OperationNumber,
    seq: u64,
    at: At,
) {
    if let Some(attempt) = index.attempts.get(&operation) {
        let highest = highest.entry(attempt.conversation).or_insert((seq, at));
        if highest.0 < seq {
            *highest = (seq, at);
        }
    }
}

/// What was refused each time is in no log.
pub(super) fn check_refused(found: &mut Findings<'_>) {
    let index = found.index;
    for ((conversation, id), operations) in &index.messages {
        let attempts: Vec<_> = operations.iter().filter_map(|operation| index.attempts.get(operation)).collect();
        let Some(seqs) = index.logs.get(conversation).and_then(|log| log.seqs.get(id)) else { continue };
        if attempts.iter().all(|attempt| attempt.is_refused()) {
            let ats: Vec<_> = attempts.iter().filter_map(|attempt| attempt.outcome).map(|(at, _)| at).collect();
            let summary = format!("message {id} was refused and is in the log at {seqs:?}");
            found.add(Check::RefusedNotStored, *conversation, summary, &ats);
        }
    }
}

/// No id stands twice in a log, and none was seen in two places.
pub(super) fn check_ids(found: &mut Findings<'_>) {
    let index = found.index;
    for (conversation, log) in &index.logs {
        for (id, seqs) in log.seqs.iter().filter(|(_, seqs)| seqs.len() > 1) {
            let seqs: Vec<_> = seqs.iter().copied().collect();
            let ats: Vec<_> = seqs.iter().filter_map(|seq| log.entries.get(seq)).map(|(_, at)| *at).collect();
            let summary = format!("id {id} is in the log at {seqs:?}");
            found.add_read(Check::NoIdTwice, *conversation, summary, (&ats, &seqs));
        }
    }
    let mut places: BTreeMap<(ConversationId, EntryId), (u64, At)> = BTreeMap::new();
    for (at, event) in index.events.iter().enumerate() {
        let (What::Saw { conversation, seq, id, .. } | What::SawAck { conversation, seq, id, .. }) = &event.what else {
            continue;
        };
        // Who comes or goes and has come or gone before gets the `ack` of that.
        if index.moves.contains_key(&(*conversation, *id)) && matches!(event.what, What::SawAck { .. }) {
            continue;
        }
        let (first, first_at) = *places.entry((*conversation, *id)).or_insert((*seq, at));
        if first != *seq {
            let summary = format!("id {id} was seen at seq {first} and at seq {seq}");
            found.add(Check::NoIdTwice, *conversation, summary, &[first_at, at]);
        }
    }
}
