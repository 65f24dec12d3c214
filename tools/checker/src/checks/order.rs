//! The order of messages: as each connection sent them, and as time went by.

use std::collections::BTreeMap;

use entrenous_model::{ConversationId, EntryId};

use super::Findings;
use crate::{
    Check, ConnectionNumber, What,
    index::{At, Index},
};

/// The newest message of a connection that counts: its seq, id and where it was sent.
type Newest = (u64, EntryId, At);

/// A connection's messages keep the order in which it sent them, as long as none of them is answered with an error.
///
/// A message counts where it was sent first; where it was repeated, its order was decided earlier. One that got no answer and
/// was repeated may have been answered with an error that was lost with the connection: it ends the promise as well.
pub(super) fn check_senders(found: &mut Findings<'_>) {
    let index = found.index;
    let mut newest: BTreeMap<(ConnectionNumber, ConversationId), Newest> = BTreeMap::new();
    for event in index.events {
        let What::Sending { operation, connection: Some(connection), conversation, id, .. } = event.what else {
            continue;
        };
        let Some(attempt) = index.attempts.get(&operation) else { continue };
        let key = (connection, conversation);
        let is_open = attempt.acknowledged().is_none() && index.is_repeated(conversation, id);
        if attempt.is_error_answer() || is_open {
            newest.remove(&key);
            continue;
        }
        let is_first = index.first_attempt(conversation, id).is_some_and(|first| first.began == attempt.began);
        let Some(seq) = index.seq_of(conversation, id).filter(|_| is_first) else { continue };
        if let Some((before, before_id, before_at)) = newest.insert(key, (seq, id, attempt.began))
            && before >= seq
        {
            let summary = format!("{before_id} (seq {before}) was sent before {id} (seq {seq}) on one connection");
            found.add(Check::SenderOrder, conversation, summary, &[before_at, attempt.began]);
        }
    }
}

/// What was sent after another message had been acknowledged stands behind it.
pub(super) fn check_real_time(found: &mut Findings<'_>) {
    let index = found.index;
    let mut highest: BTreeMap<ConversationId, (u64, At)> = BTreeMap::new();
    for (at, event) in index.events.iter().enumerate() {
        match event.what {
            What::Sending { conversation, id, .. } => {
                let Some(seq) = first_sent(index, conversation, id, at) else { continue };
                if let Some((before, ack)) = highest.get(&conversation).filter(|(before, _)| *before >= seq) {
                    let summary = format!("{id} (seq {seq}) was sent after seq {before} had been acknowledged");
                    found.add(Check::RealTimeOrder, conversation, summary, &[*ack, at]);
                }
            }
            What::Acknowledged { operation, seq } => {
                let Some(attempt) = index.attempts.get(&operation) else { continue };
                let highest = highest.entry(attempt.conversation).or_insert((seq, at));
                if highest.0 < seq {
                    *highest = (seq, at);
                }
            }
            _ => {}
        }
    }
}

/// The seq of a message that is sent here for the first time.
fn first_sent(index: &Index<'_>, conversation: ConversationId, id: EntryId, at: At) -> Option<u64> {
    index.first_attempt(conversation, id).filter(|first| first.began == at)?;
    index.seq_of(conversation, id)
}
