//! Which conversations a `sync` replays, from where, and in which order.

use entrenous_model::ConversationId;
use entrenous_protocol::{
    entry::ConversationKind,
    frame::{SyncRequest, SyncedConversation},
    rpc::store::{Cursors, Membership, Memberships},
};

use super::default_start;
use crate::{
    connection::{Connection, Mode},
    fanout::Standing,
};

/// One conversation on its way to being live.
#[derive(Debug)]
pub(super) struct Replay {
    pub(super) conversation: ConversationId,
    pub(super) kind: ConversationKind,
    /// The user is known to be a member after so many leaves of the channel.
    pub(super) leaves: u64,
    /// The last seq that the connection has.
    pub(super) position: u64,
    pub(super) starts_at: Option<u64>,
    pub(super) first_seq: u64,
    /// The head as last heard of.
    pub(super) head: u64,
    pub(super) sent: u32,
    pub(super) bytes: usize,
    pub(super) has_more: bool,
    /// The client's cursor is ahead of the head: it stays paused.
    pub(super) is_ahead: bool,
    /// Live or paused: nothing more is read.
    pub(super) is_settled: bool,
}

impl Replay {
    /// From the head on.
    pub(super) fn catch_up(standing: Standing) -> Self {
        let Standing { conversation, kind, head, leaves } = standing;
        Self {
            conversation,
            kind,
            leaves,
            position: head,
            starts_at: None,
            first_seq: 0,
            head,
            sent: 0,
            bytes: 0,
            has_more: false,
            is_ahead: false,
            is_settled: false,
        }
    }

    fn new(membership: &Membership, cursor: Option<u64>, start: u64) -> Self {
        let is_ahead = cursor.is_some_and(|cursor| cursor > membership.last_seq);
        let position = cursor.unwrap_or(start).max(membership.readable_from.saturating_sub(1));
        Self {
            position: if is_ahead { membership.last_seq } else { position },
            first_seq: membership.first_seq,
            is_ahead,
            is_settled: is_ahead,
            ..Self::catch_up(Standing::of(membership))
        }
    }

    /// Where the conversation stood when it was read.
    pub(super) fn standing(&self) -> Standing {
        Standing { conversation: self.conversation, kind: self.kind, head: self.head, leaves: self.leaves }
    }

    /// The conversation is live, and this was its last seq there.
    pub(super) fn note_live(&mut self, last_seq: u64) {
        if last_seq > self.position {
            self.starts_at.get_or_insert(self.position + 1);
            self.sent += 1;
            self.position = last_seq;
            self.head = self.head.max(last_seq);
        }
    }

    /// What `sync_complete` says of it: those that sent something, have more, or are behind the client's cursor.
    pub(super) fn listed(&self) -> Option<SyncedConversation> {
        (self.sent > 0 || self.has_more || self.is_ahead).then(|| SyncedConversation {
            conversation_id: self.conversation,
            first_seq: self.first_seq,
            starts_at: self.starts_at.unwrap_or(self.position + 1),
            last_seq: self.head,
            sent_up_to: self.position,
            has_more: self.has_more,
        })
    }
}

/// The replays of a `sync`: direct conversations and those that mention the user first, then groups, then channels.
pub(super) fn replays(
    connection: &Connection,
    memberships: &Memberships,
    acknowledged: &Cursors,
    sync: &SyncRequest,
) -> Vec<Replay> {
    let mut wanted: Vec<(&Membership, Replay)> = memberships
        .conversations
        .iter()
        .filter_map(|membership| {
            let conversation = membership.conversation_id;
            let cursor = sync.cursors.get(&conversation).copied();
            let view = connection.views.borrow().get(&conversation).copied();
            let is_untouched = view.is_some_and(|view| {
                view.is_unsubscribed || view.mode == Mode::Syncing || (view.mode == Mode::Live && cursor.is_none())
            });
            if is_untouched {
                return None;
            }
            let start = default_start(sync.from, membership, acknowledged.get(&conversation).copied());
            Some((membership, Replay::new(membership, cursor, start)))
        })
        .collect();
    wanted.sort_by_key(|(membership, replay)| rank(membership, replay.position));
    wanted.into_iter().map(|(_, replay)| replay).collect()
}

/// What is told first, to somebody who has everything up to `position`.
pub(crate) fn rank(membership: &Membership, position: u64) -> u8 {
    match membership.kind {
        ConversationKind::Direct => 0,
        _ if membership.last_mention_seq > position => 0,
        ConversationKind::Group => 1,
        ConversationKind::Channel => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mention_that_somebody_has_is_no_reason_to_hurry() {
        let membership = Membership {
            conversation_id: ConversationId::from(uuid::Uuid::from_u128(1)),
            kind: ConversationKind::Channel,
            readable_from: 1,
            first_seq: 1,
            last_seq: 9,
            device_start_seq: 0,
            has_mention: true,
            last_mention_seq: 5,
            leaves: 0,
        };
        assert_eq!((rank(&membership, 4), rank(&membership, 5)), (0, 2));
    }
}
