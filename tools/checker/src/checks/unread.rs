//! Read cursors and unread counts: what members were told at the end is what logs and receipts make of it.
//!
//! A cursor is the highest of what its user said to have read, what they sent, and what was there before they came. What
//! REST has answered counts. What it has not answered, or what went by WebSocket (there the `ack` says that a receipt was
//! taken, not that it is kept), may count.

use std::collections::BTreeMap;

use entrenous_model::{ConversationId, UserId};

use super::Findings;
use crate::{
    Check, What,
    index::{At, Index},
};

/// What a user has said to have read of a conversation, and has been told.
#[derive(Debug, Default)]
struct Reader {
    said: BTreeMap<u64, At>,
    answered: Option<(u64, At)>,
    told: Option<(u64, At)>,
}

pub(super) fn check(found: &mut Findings<'_>) {
    let mut readers: BTreeMap<(ConversationId, UserId), Reader> = BTreeMap::new();
    for (at, event) in found.index.events.iter().enumerate() {
        match &event.what {
            What::Reading { user, conversation, seq } => {
                readers.entry((*conversation, *user)).or_default().said.insert(*seq, at);
            }
            What::HasRead { user, conversation, seq } => {
                let reader = readers.entry((*conversation, *user)).or_default();
                reader.answered = reader.answered.max(Some((*seq, at)));
            }
            What::ReadUnread { user, conversation, read_seq, unread_count, seqs } => {
                let reader = readers.entry((*conversation, *user)).or_default();
                let told = Told { read_seq: *read_seq, unread_count: *unread_count, seqs };
                reader.check(found, (*conversation, *user), at, &told);
            }
            _ => {}
        }
    }
}

struct Told<'a> {
    read_seq: u64,
    unread_count: u64,
    seqs: &'a [u64],
}

impl Reader {
    fn check(
        &mut self,
        found: &mut Findings<'_>,
        (conversation, user): (ConversationId, UserId),
        at: At,
        told: &Told<'_>,
    ) {
        let index = found.index;
        let Some(joined) = index.member_since(conversation, user) else { return };
        let ats: Vec<At> = self.evidence().chain([at]).collect();
        let mut complain = |summary: String| found.add(Check::Unread, conversation, summary, &ats);
        let answered = self.answered.map_or(0, |(seq, _)| seq);
        let least = answered.max(joined.saturating_sub(1)).max(last_sent(index, conversation, user));
        let read_seq = told.read_seq;
        if read_seq != least && !(read_seq > least && self.said.contains_key(&read_seq)) {
            complain(format!(
                "{user} is told to have read up to seq {read_seq}; it must be {least}, or a receipt above"
            ));
        }
        let unread = unread_after(index, conversation, user, read_seq);
        if unread != told.seqs {
            complain(format!("{user} is told that {:?} are unread after seq {read_seq}, not {unread:?}", told.seqs));
        }
        if u64::try_from(unread.len()) != Ok(told.unread_count) {
            complain(format!("{user} is told that {} are unread, not {}", told.unread_count, unread.len()));
        }
        if let Some((before, _)) = self.told.filter(|(before, _)| read_seq < *before) {
            complain(format!("the read cursor of {user} went back from seq {before} to {read_seq}"));
        }
        self.told = self.told.max(Some((read_seq, at)));
    }

    /// What the cursor may come from.
    fn evidence(&self) -> impl Iterator<Item = At> {
        let said = self.said.last_key_value().map(|(_, at)| *at);
        let (answered, told) = (self.answered.map(|(_, at)| at), self.told.map(|(_, at)| at));
        said.into_iter().chain(answered).chain(told)
    }
}

/// The last message of the user's own: sending moves the cursor.
fn last_sent(index: &Index<'_>, conversation: ConversationId, user: UserId) -> u64 {
    let entries = index.logs.get(&conversation).into_iter().flat_map(|log| log.entries.values().rev());
    let mut sent = entries.filter(|(entry, _)| entry.sender == user && entry.is_message);
    sent.next().map_or(0, |(entry, _)| entry.seq)
}

fn unread_after(index: &Index<'_>, conversation: ConversationId, user: UserId, read_seq: u64) -> Vec<u64> {
    let Some(log) = index.logs.get(&conversation) else { return Vec::new() };
    let entries = log.entries.range(read_seq + 1..).map(|(_, (entry, _))| entry);
    entries.filter(|entry| entry.is_countable && entry.sender != user).map(|entry| entry.seq).collect()
}
