//! One worker's conversations: which seq was forwarded last, and to which connections.
//!
//! Live messages are hints: a repeat is dropped; a hole makes the worker read that conversation on from the store until
//! it has caught up, and what comes meanwhile is only noted. So every live connection gets every entry once, in order.
//! Who joins or leaves a channel is no entry; a leave is counted instead, and an entry is forwarded only when every leave
//! before it has been carried out.
//! Everything here is synchronous and on one thread: between two awaits nothing moves.

mod channels;
#[cfg(test)]
mod tests;
mod unclaimed;

use std::rc::Rc;

use ahash::{AHashMap, AHashSet};
use bytestring::ByteString;
use entrenous_model::{ConversationId, EntryId, Timestamp, UserId};
use entrenous_protocol::{
    entry::{ConversationKind, EntryKind, MemberContent},
    frame,
    live::{FLAG_END, FLAG_MEMBER, LiveMessage, TypingBroadcast},
    rpc::store::{Head, LogEntry, Memberships, RangeRead, Stored},
};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::connection::{Connection, Mode};
use unclaimed::{Mark, Unclaimed};

/// Where a conversation stood when something was read of it in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) conversation: ConversationId,
    pub(crate) kind: ConversationKind,
    /// The last seq.
    pub(crate) head: u64,
    /// How many had left the channel.
    pub(crate) leaves: u64,
}

/// A conversation that at least one connection of this worker has live or replays.
#[derive(Debug)]
struct Feed {
    kind: ConversationKind,
    /// The last seq handed to the live connections.
    forwarded: u64,
    /// How many leaves of the channel have been carried out.
    leaves: u64,
    /// The furthest place heard of.
    heard: Mark,
    live: Vec<LiveEntry>,
    /// Connections that replay it.
    syncing: usize,
    is_repairing: bool,
}

#[derive(Debug)]
struct LiveEntry {
    connection: Rc<Connection>,
    /// Where the connection is: it gets what comes after.
    last_seq: u64,
    /// As in the connection's view.
    last_sent: u64,
    /// Own sends are acknowledged in place; not while a `sync` is under way.
    is_origin: bool,
}

/// A log entry on its way to connections.
struct Forward<'a> {
    seq: u64,
    text: ByteString,
    /// The entry's id, where some connection of this worker may await its ack.
    id: Option<EntryId>,
    sent_at: Option<Timestamp>,
    member: Option<&'a MemberContent>,
    /// The conversation was deleted with it.
    is_end: bool,
}

/// The worker's conversations and connections.
#[derive(Debug, Default)]
pub(crate) struct Fanout {
    feeds: AHashMap<ConversationId, Feed>,
    users: AHashMap<UserId, Vec<Rc<Connection>>>,
    origins: AHashMap<u64, Rc<Connection>>,
    unclaimed: Unclaimed,
    /// Holes that nobody repairs yet.
    holes: Vec<ConversationId>,
    /// Users who left a conversation here, and may be members again.
    to_check: Vec<UserId>,
    /// Conversations behind what was heard of them, by the tick at which that was first seen.
    lagging: AHashSet<ConversationId>,
}

/// What of an entry's frame the gateway looks at, and only where it must.
#[derive(Deserialize)]
struct FrameHead {
    id: EntryId,
    meta: FrameMeta,
}

#[derive(Deserialize)]
struct FrameMeta {
    timestamp: i64,
}

#[derive(Deserialize)]
struct MemberFrame {
    payload: MemberPayload,
}

#[derive(Deserialize)]
struct MemberPayload {
    content: MemberContent,
}

impl Fanout {
    /// A connection was let in: from now on it hears what concerns its user.
    pub(crate) fn add_connection(&mut self, connection: &Rc<Connection>) {
        self.users.entry(connection.user_id).or_default().push(Rc::clone(connection));
        self.origins.insert(connection.origin, Rc::clone(connection));
    }

    /// A connection is gone.
    pub(crate) fn remove_connection(&mut self, connection: &Rc<Connection>) {
        self.origins.remove(&connection.origin);
        if let Some(connections) = self.users.get_mut(&connection.user_id) {
            connections.retain(|other| !Rc::ptr_eq(other, connection));
            if connections.is_empty() {
                self.users.remove(&connection.user_id);
            }
        }
        let views = std::mem::take(&mut *connection.views.borrow_mut());
        for (conversation, view) in views {
            match view.mode {
                Mode::Live => drop(self.take_live(conversation, connection)),
                Mode::Syncing => self.end_syncing(conversation),
                Mode::Paused => {}
            }
        }
    }

    /// The connection with this origin.
    pub(crate) fn connection(&self, origin: u64) -> Option<Rc<Connection>> {
        self.origins.get(&origin).map(Rc::clone)
    }

    /// A user's connections.
    pub(crate) fn connections_of(&self, user: UserId) -> &[Rc<Connection>] {
        self.users.get(&user).map_or(&[], Vec::as_slice)
    }

    /// All connections.
    pub(crate) fn connections(&self) -> impl Iterator<Item = &Rc<Connection>> {
        self.origins.values()
    }

    /// An entry came on the live plane.
    pub(crate) fn on_live_entry(&mut self, message: &LiveMessage) {
        let conversation = ConversationId::from(message.preamble.subject);
        let seq = message.preamble.seq;
        let leaves = u64::from(message.preamble.leaves);
        let mark = Mark { seq, leaves };
        let Some(feed) = self.feeds.get_mut(&conversation) else {
            self.unclaimed.note(conversation, mark);
            return;
        };
        feed.heard = feed.heard.max(mark);
        if seq <= feed.forwarded {
            if feed.is_behind() {
                self.lagging.insert(conversation);
            }
            return;
        }
        if feed.is_repairing {
            return;
        }
        if seq != feed.forwarded + 1 || leaves > feed.leaves {
            self.holes.push(conversation);
            return;
        }
        let Ok(text) = ByteString::try_from(message.body.clone()) else { return };
        let member = (message.preamble.flags & FLAG_MEMBER != 0).then(|| member_of(&text)).flatten();
        let head = if self.may_await_ack(conversation, message.preamble.origin) {
            serde_json::from_str::<FrameHead>(&text).ok()
        } else {
            None
        };
        let (id, sent_at) = match head {
            Some(head) => (Some(head.id), chrono::DateTime::from_timestamp_millis(head.meta.timestamp)),
            None => (None, None),
        };
        let is_end = message.preamble.flags & FLAG_END != 0;
        let forward = Forward { seq, text, id, sent_at: sent_at.map(Timestamp::from), member: member.as_ref(), is_end };
        self.forward(conversation, &forward);
    }

    /// Something says that a conversation is at least here. Nothing where it is not followed.
    fn hear(&mut self, conversation: ConversationId, mark: Mark) -> Option<&mut Feed> {
        let Some(feed) = self.feeds.get_mut(&conversation) else {
            self.unclaimed.note(conversation, mark);
            return None;
        };
        feed.heard = feed.heard.max(mark);
        if feed.is_behind() {
            self.lagging.insert(conversation);
        }
        Some(feed)
    }

    /// Whether some connection may wait for the ack of an entry of this origin. One that was rebuilt from the log has lost
    /// its origin (0). One of another origin has been repeated where an ack waits for its place already.
    fn may_await_ack(&self, conversation: ConversationId, origin: u64) -> bool {
        if self.origins.get(&origin).is_some_and(|connection| connection.has_pending()) {
            return true;
        }
        let awaits = |live: &LiveEntry| match origin {
            0 => live.connection.has_pending(),
            _ => live.connection.holds_acks(),
        };
        self.feeds.get(&conversation).is_some_and(|feed| feed.live.iter().any(awaits))
    }

    /// Somebody is typing, or no longer: told to the others that have the conversation live and may know, where nothing else
    /// waits.
    pub(crate) fn on_typing(&self, TypingBroadcast { typing, hidden_from }: &TypingBroadcast) {
        let Some(feed) = self.feeds.get(&typing.conversation_id) else { return };
        let is_told = |user_id: UserId| user_id != typing.user_id && !hidden_from.contains(&user_id);
        let others = feed.live.iter().filter(|live| is_told(live.connection.user_id));
        let text = ByteString::from(frame::typing(typing));
        for live in others {
            live.connection.offer(text.clone());
        }
    }

    /// The reactions to a message of a channel are others.
    pub(crate) fn on_reactions(&self, message: &LiveMessage) {
        let Some(feed) = self.feeds.get(&ConversationId::from(message.preamble.subject)) else { return };
        let Ok(text) = ByteString::try_from(message.body.clone()) else { return };
        for live in &feed.live {
            live.connection.send(text.clone());
        }
    }

    /// What was read from the log to repair a hole. Gives whether the conversation has caught up.
    pub(crate) fn on_repaired(&mut self, read: RangeRead) -> bool {
        let conversation = read.conversation_id;
        let known = self.carried_out(conversation).unwrap_or(read.leaves);
        // Of very many leaves only the first ones were read: what comes after them waits.
        let up_to = match read.left.last() {
            Some(last) if last.leave_no < read.leaves => last.seq,
            None if known < read.leaves => 0,
            _ => u64::MAX,
        };
        let mut left = read.left.into_iter().peekable();
        for entry in read.entries.into_iter().take_while(|entry| entry.seq <= up_to) {
            let mut before = std::iter::from_fn(|| left.next_if(|leave| leave.seq < entry.seq));
            if !before.all(|leave| self.carry_out(conversation, leave)) {
                break;
            }
            self.forward_logged(conversation, entry);
        }
        for leave in left {
            self.carry_out(conversation, leave);
        }
        let Some(feed) = self.feeds.get_mut(&conversation) else { return true };
        feed.heard = feed.heard.max(Mark { seq: read.last_seq, leaves: read.leaves });
        let has_caught_up = !feed.is_behind();
        if has_caught_up {
            feed.is_repairing = false;
        }
        has_caught_up
    }

    fn forward_logged(&mut self, conversation: ConversationId, entry: LogEntry) {
        if self.forwarded(conversation) != Some(entry.seq - 1) {
            return;
        }
        let text = ByteString::from(String::from(Box::<str>::from(entry.frame)));
        let member = (entry.kind == EntryKind::Member).then(|| member_of(&text)).flatten();
        let sent_at = serde_json::from_str::<FrameHead>(&text)
            .ok()
            .and_then(|head| chrono::DateTime::from_timestamp_millis(head.meta.timestamp))
            .map(Timestamp::from);
        let (seq, id) = (entry.seq, Some(entry.id));
        // Of a conversation that was deleted nothing is read, its end neither.
        let forward = Forward { seq, text, id, sent_at, member: member.as_ref(), is_end: false };
        self.forward(conversation, &forward);
    }

    /// A repair could not read the log: it is tried again at the next tick.
    pub(crate) fn on_repair_failed(&mut self, conversation: ConversationId) {
        if let Some(feed) = self.feeds.get_mut(&conversation) {
            feed.is_repairing = false;
            self.lagging.insert(conversation);
        }
    }

    /// Conversations whose hole somebody must repair now, each with the last seq forwarded. They count as being
    /// repaired from here on.
    pub(crate) fn take_holes(&mut self) -> Vec<(ConversationId, u64)> {
        let holes = std::mem::take(&mut self.holes);
        holes.into_iter().filter_map(|conversation| self.start_repair(conversation)).collect()
    }

    fn start_repair(&mut self, conversation: ConversationId) -> Option<(ConversationId, u64)> {
        let feed = self.feeds.get_mut(&conversation)?;
        if feed.is_repairing {
            return None;
        }
        feed.is_repairing = true;
        Some((conversation, feed.forwarded))
    }

    /// Something says that a conversation's head is at least here: its live message should come, or have come.
    pub(crate) fn note_head(&mut self, conversation: ConversationId, head: u64) {
        if self.feeds.contains_key(&conversation) {
            self.hear(conversation, Mark { seq: head, leaves: 0 });
        }
    }

    /// Where a conversation was behind at the last tick and still is, a live message was lost: a hole.
    pub(crate) fn tick(&mut self) {
        for conversation in std::mem::take(&mut self.lagging) {
            if self.feeds.get(&conversation).is_some_and(|feed| feed.is_behind() && !feed.is_repairing) {
                self.holes.push(conversation);
            }
        }
    }

    /// Heads as the store had them. Conversations that are behind theirs are holes; gives whether there are any.
    pub(crate) fn note_heads(&mut self, heads: &[Head]) -> bool {
        let mut is_behind = false;
        for head in heads {
            if let Some(feed) = self.feeds.get_mut(&head.conversation_id) {
                feed.heard.seq = feed.heard.seq.max(head.last_seq);
                if feed.forwarded < head.last_seq {
                    is_behind = true;
                    self.holes.push(head.conversation_id);
                }
            }
        }
        is_behind
    }

    /// A conversation is no more, and its end was missed: nothing of it is missing any more.
    pub(crate) fn on_gone(&mut self, conversation: ConversationId) {
        if let Some(feed) = self.feeds.get_mut(&conversation) {
            (feed.forwarded, feed.leaves) = (feed.heard.seq, feed.heard.leaves);
            feed.is_repairing = false;
            let seq = feed.forwarded;
            self.end(conversation, seq);
        }
    }

    /// Nobody is a member any more: all who have the conversation live are told so. (Who replays it finds out by that; who
    /// has it paused, with the next `sync`.)
    fn end(&mut self, conversation: ConversationId, seq: u64) {
        let Some(feed) = self.feeds.get(&conversation) else { return };
        let connections: Vec<_> = feed.live.iter().map(|live| Rc::clone(&live.connection)).collect();
        let text = ByteString::from(frame::conversation_left(conversation, seq));
        for connection in connections {
            connection.send(text.clone());
            self.drop_view(&connection, conversation);
        }
    }

    /// What a user's memberships are now, where their connections may not have heard of all changes.
    pub(crate) fn on_memberships(&mut self, user: UserId, memberships: &Memberships) {
        for (conversation, left_seq) in &memberships.left {
            for connection in self.connections_of(user).to_vec() {
                self.tell_left(&connection, *conversation, *left_seq);
            }
        }
        for membership in &memberships.conversations {
            // Only who joined later than the last `sync` is told: from the first seq that the membership covers.
            self.join(user, Standing { head: membership.device_start_seq, ..Standing::of(membership) });
            self.note_head(membership.conversation_id, membership.last_seq);
        }
        for connection in self.connections_of(user) {
            connection.membership_version.set(memberships.membership_version);
        }
    }

    /// Forgets the oldest of what nobody here wanted.
    pub(crate) fn age_unclaimed(&mut self) {
        self.unclaimed.age();
    }

    /// Conversations of this worker, for a comparison with the store after an interruption.
    pub(crate) fn conversations(&self) -> Vec<ConversationId> {
        self.feeds.keys().copied().collect()
    }

    fn forward(&mut self, conversation: ConversationId, forward: &Forward<'_>) {
        if let Some(member) = forward.member
            && member.change.leaves_a_member()
            && let Some(&Feed { kind, leaves, .. }) = self.feeds.get(&conversation)
        {
            let standing = Standing { conversation, kind, head: forward.seq.saturating_sub(1), leaves };
            for user in std::iter::once(member.user_id).chain(member.members.iter().copied()) {
                self.join(user, standing);
            }
        }
        let Some(feed) = self.feeds.get_mut(&conversation) else { return };
        feed.forwarded = forward.seq;
        let mut digests = Digests::new(conversation, forward.seq);
        for live in &mut feed.live {
            if live.last_seq < forward.seq {
                live.forward(conversation, forward, &mut digests);
            }
        }
        if let Some(member) = forward.member
            && !member.change.leaves_a_member()
        {
            self.leave(member.user_id, conversation);
        }
        if forward.is_end {
            self.end(conversation, forward.seq);
        }
    }

    /// A user is a member after this head: their connections that have synced have the conversation live from there.
    pub(crate) fn join(&mut self, user: UserId, standing: Standing) {
        let Standing { conversation, kind, head, leaves } = standing;
        let joined_seq = head + 1;
        for connection in self.connections_of(user).to_vec() {
            if !connection.has_synced.get() {
                // What is new to it and what is not, only its `sync` can tell.
                connection.is_outdated.set(true);
                continue;
            }
            if connection.knows(conversation) {
                continue;
            }
            let feed = self.open(&standing);
            connection.send(frame::conversation_joined(conversation, joined_seq));
            if feed.forwarded >= joined_seq || feed.leaves > leaves {
                // The news came late: this connection reads what it has missed by itself, and whether it is a member still.
                connection.set_mode(conversation, Mode::Paused);
                connection.request_catch_up(standing);
                continue;
            }
            if kind == ConversationKind::Group {
                // It is an entry.
                feed.heard.seq = feed.heard.seq.max(joined_seq);
                self.lagging.insert(conversation);
            }
            self.go_live(&connection, conversation, head, true);
        }
    }

    fn leave(&mut self, user: UserId, conversation: ConversationId) {
        for connection in self.connections_of(user).to_vec() {
            self.drop_view(&connection, conversation);
        }
    }

    /// The connection has nothing of the conversation any more.
    pub(crate) fn drop_view(&mut self, connection: &Rc<Connection>, conversation: ConversationId) {
        let view = connection.views.borrow_mut().remove(&conversation);
        match view.map(|view| view.mode) {
            Some(Mode::Live) => {
                self.take_live(conversation, connection);
                connection.release_acks(conversation);
            }
            Some(Mode::Syncing) => self.end_syncing(conversation),
            Some(Mode::Paused) | None => {}
        }
    }

    /// Makes sure that the conversation is followed. Where it stands was read from the store just before.
    fn open(&mut self, standing: &Standing) -> &mut Feed {
        let Standing { conversation, kind, head, leaves } = *standing;
        let seen = self.unclaimed.mark(conversation);
        let feed = self.feeds.entry(conversation).or_insert(Feed {
            kind,
            forwarded: head,
            leaves,
            heard: seen.max(Mark { seq: head, leaves }),
            live: Vec::new(),
            syncing: 0,
            is_repairing: false,
        });
        feed.heard.leaves = feed.heard.leaves.max(leaves);
        if feed.is_behind() {
            self.lagging.insert(conversation);
        }
        feed
    }

    /// A connection begins to replay a conversation. Where it stands was read from the store just before.
    pub(crate) fn start_syncing(&mut self, connection: &Rc<Connection>, standing: &Standing) {
        let conversation = standing.conversation;
        let before = connection.set_mode(conversation, Mode::Syncing).map(|view| view.mode);
        if before == Some(Mode::Syncing) {
            return;
        }
        self.open(standing).syncing += 1;
        if before == Some(Mode::Live) {
            if let Some(live) = self.take_live(conversation, connection) {
                connection.note_sent(conversation, live.last_sent);
            }
            connection.release_acks(conversation);
        }
    }

    fn end_syncing(&mut self, conversation: ConversationId) {
        if let Some(feed) = self.feeds.get_mut(&conversation) {
            feed.syncing = feed.syncing.saturating_sub(1);
        }
        self.close_if_unused(conversation);
    }

    /// The connection gets nothing of the conversation until another `sync`.
    pub(crate) fn pause(&mut self, connection: &Rc<Connection>, conversation: ConversationId) {
        match connection.set_mode(conversation, Mode::Paused).map(|view| view.mode) {
            Some(Mode::Live) => {
                if let Some(live) = self.take_live(conversation, connection) {
                    connection.note_sent(conversation, live.last_sent);
                }
                connection.release_acks(conversation);
            }
            Some(Mode::Syncing) => self.end_syncing(conversation),
            Some(Mode::Paused) | None => {}
        }
    }

    /// The last seq that was forwarded, which a replay must reach.
    pub(crate) fn forwarded(&self, conversation: ConversationId) -> Option<u64> {
        self.feeds.get(&conversation).map(|feed| feed.forwarded)
    }

    /// The highest seq heard of.
    pub(crate) fn head(&self, conversation: ConversationId) -> Option<u64> {
        self.feeds.get(&conversation).map(|feed| feed.heard.seq)
    }

    /// From here on the connection gets the live entries after `position`, which must not be behind what was forwarded, of a
    /// conversation that is followed.
    pub(crate) fn go_live(
        &mut self,
        connection: &Rc<Connection>,
        conversation: ConversationId,
        position: u64,
        is_origin: bool,
    ) {
        let Some(feed) = self.feeds.get_mut(&conversation) else { return };
        let before = connection.set_mode(conversation, Mode::Live);
        let last_sent = before.map_or(0, |view| view.last_sent);
        if before.map(|view| view.mode) == Some(Mode::Syncing) {
            feed.syncing = feed.syncing.saturating_sub(1);
        }
        if feed.live.iter().any(|live| Rc::ptr_eq(&live.connection, connection)) {
            return;
        }
        feed.live.push(LiveEntry { connection: Rc::clone(connection), last_seq: position, last_sent, is_origin });
        if last_sent > 0 {
            connection.digest.set(connection.digest.get() ^ digest_of(conversation, last_sent));
        }
    }

    /// A `sync` is complete: own sends are acknowledged in place again. Gives the last seq that was sent, where the
    /// conversation is live.
    pub(crate) fn become_origin(&mut self, connection: &Rc<Connection>, conversation: ConversationId) -> Option<u64> {
        let live = self.live_mut(connection, conversation)?;
        live.is_origin = true;
        Some(live.last_seq)
    }

    fn live_mut(&mut self, connection: &Rc<Connection>, conversation: ConversationId) -> Option<&mut LiveEntry> {
        let feed = self.feeds.get_mut(&conversation)?;
        feed.live.iter_mut().find(|live| Rc::ptr_eq(&live.connection, connection))
    }

    /// The store has committed a connection's send: the ack goes out, now or in its entry's place.
    pub(crate) fn on_stored(
        &mut self,
        connection: &Rc<Connection>,
        conversation: ConversationId,
        id: Option<EntryId>,
        stored: Stored,
    ) {
        self.note_head(conversation, stored.seq);
        let Some(id) = id else { return };
        if connection.mode(conversation) == Mode::Live
            && let Some(live) = self.live_mut(connection, conversation)
            && live.is_origin
            && live.last_seq < stored.seq
        {
            connection.hold_ack(id, stored);
            return;
        }
        if connection.take_pending(id) {
            connection.send(frame::ack_entry(id, conversation, stored.seq, stored.sent_at));
        }
    }

    fn take_live(&mut self, conversation: ConversationId, connection: &Rc<Connection>) -> Option<LiveEntry> {
        let feed = self.feeds.get_mut(&conversation)?;
        let at = feed.live.iter().position(|live| Rc::ptr_eq(&live.connection, connection))?;
        let live = feed.live.swap_remove(at);
        if live.last_sent > 0 {
            connection.digest.set(connection.digest.get() ^ digest_of(conversation, live.last_sent));
        }
        self.close_if_unused(conversation);
        Some(live)
    }

    fn close_if_unused(&mut self, conversation: ConversationId) {
        let is_unused = |feed: &Feed| feed.live.is_empty() && feed.syncing == 0;
        if self.feeds.get(&conversation).is_some_and(is_unused)
            && let Some(feed) = self.feeds.remove(&conversation)
        {
            // Somebody may be about to open it with a head that was read before.
            self.unclaimed.note(conversation, feed.heard);
        }
    }
}

impl Feed {
    /// Something that was heard of has not been forwarded or carried out.
    fn is_behind(&self) -> bool {
        self.forwarded < self.heard.seq || self.leaves < self.heard.leaves
    }
}

impl LiveEntry {
    fn forward(&mut self, conversation: ConversationId, forward: &Forward<'_>, digests: &mut Digests) {
        let ack = forward.id.zip(forward.sent_at).filter(|(id, _)| self.is_origin && self.connection.take_pending(*id));
        match ack {
            Some((id, sent_at)) => {
                self.connection.send(frame::ack_entry(id, conversation, forward.seq, sent_at));
            }
            None => self.connection.send(forward.text.clone()),
        }
        let before = if self.last_sent > 0 { digests.of(self.last_sent) } else { 0 };
        self.connection.digest.set(self.connection.digest.get() ^ before ^ digests.of(forward.seq));
        (self.last_seq, self.last_sent) = (forward.seq, forward.seq);
    }
}

/// Digest values of one conversation: nearly all connections need the same two.
struct Digests {
    conversation: ConversationId,
    known: [(u64, u64); 2],
}

impl Digests {
    fn new(conversation: ConversationId, seq: u64) -> Self {
        let before = seq.saturating_sub(1);
        let known = [(seq, digest_of(conversation, seq)), (before, digest_of(conversation, before))];
        Self { conversation, known }
    }

    fn of(&self, seq: u64) -> u64 {
        let known = self.known.iter().find(|(known, _)| *known == seq);
        known.map_or_else(|| digest_of(self.conversation, seq), |(_, digest)| *digest)
    }
}

/// The first 8 bytes of SHA-256(conversation id ‖ seq). Source: docs/protocol.md, section 3, heartbeats.
fn digest_of(conversation: ConversationId, seq: u64) -> u64 {
    let hash = Sha256::new().chain_update(conversation.as_bytes()).chain_update(seq.to_be_bytes()).finalize();
    hash.iter().take(8).fold(0, |digest, byte| digest << 8 | u64::from(*byte))
}

/// Whom the frame of a `member` entry is about.
pub(crate) fn member_of(text: &str) -> Option<MemberContent> {
    serde_json::from_str::<MemberFrame>(text)
        .inspect_err(|error| tracing::error!(%error, "a member entry that cannot be read"))
        .ok()
        .map(|frame| frame.payload.content)
}
