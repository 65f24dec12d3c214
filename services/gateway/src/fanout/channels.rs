//! Joins and leaves of channels, which are no entries of their logs.

use std::rc::Rc;

use ahash::AHashSet;
use bytestring::ByteString;
use entrenous_model::{ConversationId, UserId};
use entrenous_protocol::{
    entry::ConversationKind,
    frame,
    live::{ChannelMembership, Preamble},
    rpc::store::{Leave, Membership},
};

use super::{Fanout, Mark, Standing};
use crate::connection::Connection;

impl Standing {
    /// What a membership says.
    pub(crate) fn of(membership: &Membership) -> Self {
        let Membership { conversation_id: conversation, kind, last_seq: head, leaves, .. } = *membership;
        Self { conversation, kind, head, leaves }
    }
}

impl Fanout {
    /// Somebody joined or left a channel, as the live plane tells it.
    pub(crate) fn on_membership(&mut self, preamble: &Preamble, membership: &ChannelMembership) {
        let conversation = ConversationId::from(preamble.subject);
        let (user, seq, leaves) = (membership.content.user_id, preamble.seq, u64::from(preamble.leaves));
        for connection in self.connections_of(user) {
            // What a `sync` is reading of it may be from before.
            connection.is_outdated.set(true);
        }
        if membership.content.change.leaves_a_member() {
            self.hear(conversation, Mark { seq, leaves });
            self.join(user, Standing { conversation, kind: ConversationKind::Channel, head: seq, leaves });
        } else {
            self.on_leave(conversation, Leave { leave_no: leaves, user_id: user, seq });
        }
        self.tell_moderators(conversation, seq, membership);
    }

    fn on_leave(&mut self, conversation: ConversationId, leave: Leave) {
        let Leave { leave_no, seq, .. } = leave;
        let Some(feed) = self.hear(conversation, Mark { seq, leaves: leave_no }) else {
            return self.end_membership(conversation, leave);
        };
        if leave_no <= feed.leaves || feed.is_repairing {
            return;
        }
        if leave_no == feed.leaves + 1 && feed.forwarded == seq {
            self.carry_out(conversation, leave);
        } else {
            self.holes.push(conversation);
        }
    }

    /// Carries out the next leave of a channel; not before everything up to its head has been forwarded. Gives whether it has
    /// been carried out, now or before.
    pub(super) fn carry_out(&mut self, conversation: ConversationId, leave: Leave) -> bool {
        let Some(feed) = self.feeds.get_mut(&conversation) else { return false };
        if leave.leave_no == feed.leaves + 1 && feed.forwarded >= leave.seq {
            feed.leaves = leave.leave_no;
            self.end_membership(conversation, leave);
            return true;
        }
        leave.leave_no <= feed.leaves
    }

    fn end_membership(&mut self, conversation: ConversationId, leave: Leave) {
        for connection in self.connections_of(leave.user_id).to_vec() {
            connection.is_outdated.set(true);
            self.tell_left(&connection, conversation, leave.seq);
        }
    }

    /// The user is no member any more: nothing more comes to this connection. Whether they are one again, only the store
    /// knows: news of that may have come before.
    pub(crate) fn tell_left(&mut self, connection: &Rc<Connection>, conversation: ConversationId, seq: u64) {
        if connection.knows(conversation) {
            connection.send(frame::conversation_left(conversation, seq));
            self.drop_view(connection, conversation);
            self.to_check.push(connection.user_id);
        }
    }

    fn tell_moderators(&self, conversation: ConversationId, seq: u64, membership: &ChannelMembership) {
        let mut connections = membership.moderators.iter().flat_map(|user| self.connections_of(*user)).peekable();
        if connections.peek().is_none() {
            return;
        }
        let text = ByteString::from(frame::channel_member_changed(conversation, seq, &membership.content));
        for connection in connections.filter(|connection| connection.has_synced.get()) {
            connection.send(text.clone());
        }
    }

    /// How many leaves of a channel have been carried out here; nothing where it is not followed.
    pub(crate) fn carried_out(&self, conversation: ConversationId) -> Option<u64> {
        self.feeds.get(&conversation).map(|feed| feed.leaves)
    }

    /// Whether it is a channel that is followed.
    pub(crate) fn is_channel(&self, conversation: ConversationId) -> bool {
        self.feeds.get(&conversation).is_some_and(|feed| feed.kind == ConversationKind::Channel)
    }

    /// Users whose memberships are to be read again.
    pub(crate) fn take_to_check(&mut self) -> AHashSet<UserId> {
        std::mem::take(&mut self.to_check).into_iter().collect()
    }
}
