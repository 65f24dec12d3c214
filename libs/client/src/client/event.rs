//! What a client tells its user.

use std::{sync::Arc, time::Duration};

use entrenous_model::{ConversationId, EntryId};
use entrenous_protocol::{Entry, device_message::DeviceMessage};

use super::cursors::CursorChange;
use crate::{
    ClosedError, ConnectError, Refusal,
    frame::{Body, Connected, Stored},
};

/// What happened, in the order in which it must be dealt with.
#[derive(Debug, Clone)]
pub enum Event {
    /// The next entry of a conversation.
    Entry(Box<Entry>),
    /// A message of this client's is kept. With `in_place` this stands for its entry, which does not come; otherwise
    /// the entry comes by itself, or has come.
    Acknowledged {
        /// The message.
        id: EntryId,
        /// Where it stands.
        stored: Stored,
        /// Whether it stands for the entry.
        in_place: bool,
    },
    /// A message of this client's is not kept and will not be sent again; or device messages that were sent together.
    Refused {
        /// The message, or the frame of the device messages.
        id: EntryId,
        /// What the server said.
        refusal: Box<Refusal>,
    },
    /// How the connection is.
    Status(Status),
    /// The log is no longer the one that this client saw (the server was restored from a backup): what is known of this
    /// conversation, or of all, counts no more, and its entries come again.
    Rewound {
        /// Which; none: all.
        conversation_id: Option<ConversationId>,
    },
    /// The server broke its word; the entries concerned come by a `sync`.
    Violation(Violation),
    /// The next message of this device's queue. It waits with the server until
    /// [`Handle::acknowledge_device_messages`](super::Handle::acknowledge_device_messages), and comes again to a client that
    /// is started anew before that; to this one it comes once.
    DeviceMessage(Box<DeviceMessage>),
    /// Anything else that the server says, as it came: receipts, typing, statuses, notifications, unknown types.
    Frame(Box<Body>),
}

/// How the connection is.
#[derive(Debug, Clone)]
pub enum Status {
    /// A connection is there and catches up.
    Connected(Connected),
    /// Everything up to now has been told, and what happens comes as it happens.
    Live,
    /// There is no connection; the next attempt is made after this wait.
    Reconnecting {
        /// How many attempts have failed in a row.
        attempts: u32,
        /// How long the wait is.
        after: Duration,
    },
    /// The server itself is not sure to be up to date.
    Degraded,
    /// The server is up to date again.
    Restored,
    /// There will be no connection any more, and no event after this one.
    Ended(End),
}

/// Why a client has ended for good.
#[derive(Debug, Clone, thiserror::Error)]
pub enum End {
    /// The program asked for it, or gave up the client.
    #[error("closed by this program")]
    Closed,
    /// The server closed with a code that means: do not come back until something has changed.
    #[error("the server wants no further connection")]
    NotWanted(#[source] ClosedError),
    /// The login has ended and cannot be renewed.
    #[error("the login has ended")]
    LoginEnded(#[source] Box<Refusal>),
    /// No connection ever came about, and none will at this address.
    #[error("there is no server to talk with at this address")]
    NoServer(#[source] Arc<ConnectError>),
    /// The server does not accept this client's `sync`.
    #[error("the server refuses to sync")]
    SyncRefused(#[source] Box<Refusal>),
}

/// Why a message is not known to be kept.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SendError {
    /// The server refused it for good.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// The client ended before an answer came; the message may be kept all the same.
    #[error("the client ended before the message was acknowledged")]
    Ended(#[source] End),
    /// A message with this id waits already.
    #[error("message {id} is already on its way")]
    Duplicate {
        /// The id.
        id: EntryId,
    },
    /// The server would close the connection over a frame of this size.
    #[error("the message takes a frame of {bytes} bytes, of which {bytes_max} are allowed")]
    TooLarge {
        /// The size of its frame.
        bytes: usize,
        /// The most that the server takes.
        bytes_max: usize,
    },
}

/// An entry, or an `ack` in its place, that was not the next one of a live conversation.
///
/// Source: docs/protocol.md, section 3, promise 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation {
    /// Where.
    pub conversation: ConversationId,
    /// The seq that should have come.
    pub expected: u64,
    /// The seq that came.
    pub seen: u64,
}

/// Counts since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Attempts to connect.
    pub attempts: u64,
    /// Connections that came about.
    pub connections: u64,
    /// `sync` frames sent.
    pub syncs: u64,
    /// Messages sent again.
    pub repeats: u64,
    /// Times that the server broke promise 4.
    pub violations: u64,
    /// Heartbeats whose digest was another than this client's.
    pub digest_mismatches: u64,
    /// Heartbeats that named device messages which this client had not got.
    pub device_seq_mismatches: u64,
}

/// An event on its way to the user, with what is kept once it has been dealt with.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) event: Option<Event>,
    pub(super) change: Option<CursorChange>,
}
