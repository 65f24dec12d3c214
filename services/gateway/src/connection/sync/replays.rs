//! The replays of one `sync`: what is to be read next, what becomes of it, and when a conversation is live or paused.
//! Without I/O: who drives it reads what it asks for. Between two reads everything happens in one breath.

use std::rc::Rc;

use entrenous_protocol::{
    frame::SyncedConversation,
    rpc::store::{Range, RangeRead},
};

use super::plan::Replay;
use crate::{
    connection::{Connection, Mode},
    fanout::Fanout,
};

/// Conversations read in one request.
const RANGES_AT_ONCE: usize = 64;

/// What a `sync` may still send.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    pub(super) entries: usize,
    pub(super) bytes: usize,
    pub(super) entries_per_conversation: u32,
    /// Of a conversation, and of a read.
    pub(super) page_bytes: usize,
}

/// What is to be read of the store.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) ranges: Vec<Range>,
    pub(super) bytes_max: usize,
}

pub(super) struct Replays {
    connection: Rc<Connection>,
    all: Vec<Replay>,
    budget: Budget,
    /// Those that the present page is of.
    reading: Vec<usize>,
}

impl Replays {
    pub(super) fn start(
        fanout: &mut Fanout,
        connection: &Rc<Connection>,
        replays: Vec<Replay>,
        budget: Budget,
    ) -> Self {
        for replay in &replays {
            if replay.is_ahead {
                fanout.pause(connection, replay.conversation);
                continue;
            }
            fanout.start_syncing(connection, &replay.standing());
            fanout.note_head(replay.conversation, replay.head);
        }
        Self { connection: Rc::clone(connection), all: replays, budget, reading: Vec::new() }
    }

    /// What is to be read now; nothing once all are live or paused.
    pub(super) fn next_page(&mut self, fanout: &mut Fanout) -> Option<Page> {
        self.reading = self.settle(fanout);
        self.reading.truncate(RANGES_AT_ONCE);
        let behind = self.reading.iter().filter_map(|at| self.all.get(*at));
        let ranges: Vec<Range> = behind.map(|replay| replay.range(&self.budget)).collect();
        let bytes_max = self.budget.bytes.min(self.budget.page_bytes);
        (!ranges.is_empty()).then_some(Page { ranges, bytes_max })
    }

    /// Hands over what has caught up, pauses what has used up its share, and gives what is still behind.
    fn settle(&mut self, fanout: &mut Fanout) -> Vec<usize> {
        let mut behind = Vec::new();
        for (at, replay) in self.all.iter_mut().enumerate().filter(|(_, replay)| !replay.is_settled) {
            if self.connection.mode(replay.conversation) != Mode::Syncing {
                // Removed meanwhile, or unsubscribed.
                replay.is_settled = true;
                continue;
            }
            let target = replay.head.max(fanout.forwarded(replay.conversation).unwrap_or(0));
            // Somebody has left a channel meanwhile: whether this user is a member still, only a read tells.
            let is_member = replay.leaves >= fanout.carried_out(replay.conversation).unwrap_or(0);
            if replay.position >= target && is_member {
                replay.is_settled = true;
                replay.head = replay.position;
                fanout.go_live(&self.connection, replay.conversation, replay.position, false);
            } else if self.budget.is_used_up(replay) {
                replay.is_settled = true;
                replay.has_more = true;
                replay.head = target;
                fanout.pause(&self.connection, replay.conversation);
            } else {
                behind.push(at);
            }
        }
        behind
    }

    /// The page was read: one read for each of its ranges.
    pub(super) fn on_page(&mut self, fanout: &mut Fanout, reads: Vec<RangeRead>) {
        for (at, read) in std::mem::take(&mut self.reading).into_iter().zip(reads) {
            if let Some(replay) = self.all.get_mut(at) {
                send(&self.connection, fanout, replay, read, &mut self.budget);
            }
        }
    }

    /// The page cannot be read: what is behind is left for another `sync`.
    pub(super) fn on_unreadable(&mut self) {
        self.budget.entries = 0;
    }

    pub(super) fn has_more(&self) -> bool {
        self.all.iter().any(|replay| replay.has_more)
    }

    /// All are live or paused. Gives what `sync_complete` says, which is to be sent in the same breath.
    pub(super) fn complete(mut self, fanout: &mut Fanout) -> Vec<SyncedConversation> {
        for replay in &mut self.all {
            // What came live since the replay had caught up was sent before the `sync_complete` too.
            if let Some(last_seq) = fanout.become_origin(&self.connection, replay.conversation) {
                replay.note_live(last_seq);
            }
        }
        self.all.iter().filter_map(Replay::listed).collect()
    }
}

fn send(connection: &Rc<Connection>, fanout: &mut Fanout, replay: &mut Replay, read: RangeRead, budget: &mut Budget) {
    if !read.is_readable {
        fanout.tell_left(connection, replay.conversation, replay.head);
        return;
    }
    if connection.mode(replay.conversation) != Mode::Syncing {
        return;
    }
    replay.first_seq = read.first_seq;
    replay.leaves = replay.leaves.max(read.leaves);
    replay.head = replay.head.max(read.last_seq);
    // Each range of a page may be as long as what was left for all of them together.
    for entry in read.entries.into_iter().take(budget.entries) {
        let bytes = entry.frame.get().len();
        replay.starts_at.get_or_insert(entry.seq);
        replay.position = entry.seq;
        replay.sent += 1;
        replay.bytes += bytes;
        budget.entries = budget.entries.saturating_sub(1);
        budget.bytes = budget.bytes.saturating_sub(bytes);
        connection.send(String::from(Box::<str>::from(entry.frame)));
    }
    if replay.sent > 0 {
        connection.note_sent(replay.conversation, replay.position);
    }
}

impl Replay {
    fn range(&self, budget: &Budget) -> Range {
        let left = budget.entries_per_conversation.saturating_sub(self.sent);
        let limit = left.min(u32::try_from(budget.entries).unwrap_or(u32::MAX));
        Range { conversation_id: self.conversation, after: self.position, limit, leaves_after: 0 }
    }
}

impl Budget {
    fn is_used_up(&self, replay: &Replay) -> bool {
        self.entries == 0
            || self.bytes == 0
            || replay.sent >= self.entries_per_conversation
            || replay.bytes >= self.page_bytes
    }
}
