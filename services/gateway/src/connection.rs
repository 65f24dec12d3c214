//! One WebSocket connection: what it is, and what it has been told.
//!
//! Lives on one worker and is never shared between threads. [`handshake`] lets it in, [`driver`] moves its frames,
//! [`sync`] replays logs to it, [`device_queue`] sends its device's queue; [`crate::fanout`] gives it what is live.

pub(crate) mod device_queue;
pub(crate) mod device_work;
pub(crate) mod driver;
pub(crate) mod handshake;
pub(crate) mod outbox;
pub(crate) mod sync;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use ahash::AHashMap;
use bytestring::ByteString;
use entrenous_model::{ConnectionId, ConversationId, DeviceId, EntryId, LoginId, UserId};
use entrenous_protocol::{
    CloseCode, frame,
    live::origin_of,
    rpc::store::{Attaching, Stored},
};
use tokio::sync::Notify;

use device_queue::QueuePosition;
use device_work::DeviceLane;
use outbox::{Outbox, Outgoing};

/// What a connection has of a conversation. Where it is live, the list entry in the conversation's feed knows more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) mode: Mode,
    /// `unsubscribe` was asked for: `sync` passes it over until `subscribe`.
    pub(crate) is_unsubscribed: bool,
    /// The last seq of which the entry, or an ack in its place, was sent on this connection; 0: none. Counts in the digest
    /// while the conversation is live.
    pub(crate) last_sent: u64,
}

/// How a conversation stands on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Its live entries are forwarded.
    Live,
    /// A `sync` replays its log.
    Syncing,
    /// Nothing is sent.
    Paused,
}

/// A send that awaits its ack.
#[derive(Debug, Clone, Copy)]
struct PendingSend {
    conversation_id: ConversationId,
    /// Committed; the ack waits for its place among the live entries.
    stored: Option<Stored>,
}

/// One authenticated connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: ConnectionId,
    pub(crate) origin: u64,
    pub(crate) user_id: UserId,
    pub(crate) device_id: DeviceId,
    pub(crate) login_id: Cell<LoginId>,
    pub(crate) outbox: Outbox,
    pub(crate) views: RefCell<AHashMap<ConversationId, View>>,
    pub(crate) sync_requests: RefCell<std::collections::VecDeque<sync::Request>>,
    pub(crate) sync_requested: Notify,
    pub(crate) device_queue: QueuePosition,
    pub(crate) device_lane: DeviceLane,
    /// A first `sync` has read what there is: from here on the connection takes part in what is live.
    pub(crate) has_synced: Cell<bool>,
    /// Before that a change of memberships was heard of, which that `sync` may have read too early to know.
    pub(crate) is_outdated: Cell<bool>,
    /// XOR over the live conversations, as docs/protocol.md, section 3, defines it.
    pub(crate) digest: Cell<u64>,
    /// What `draining` is to say, where it came before the greeting.
    reconnect_after_ms: Cell<Option<u64>>,
    /// Of the memberships that this connection knows, as they were read last.
    pub(crate) membership_version: Cell<u64>,
    /// Grows per device; 0 until the store has told.
    number: Cell<u64>,
    /// The highest number of this device that was heard of.
    newest_number: Cell<u64>,
    pending: RefCell<AHashMap<EntryId, PendingSend>>,
}

impl Connection {
    pub(crate) fn new(
        id: ConnectionId,
        user_id: UserId,
        device_id: DeviceId,
        login_id: LoginId,
        outbox: Outbox,
    ) -> Rc<Self> {
        Rc::new(Self {
            id,
            origin: origin_of(id),
            user_id,
            device_id,
            login_id: Cell::new(login_id),
            outbox,
            views: RefCell::default(),
            sync_requests: RefCell::default(),
            sync_requested: Notify::new(),
            device_queue: QueuePosition::default(),
            device_lane: DeviceLane::default(),
            has_synced: Cell::new(false),
            is_outdated: Cell::new(false),
            digest: Cell::new(0),
            reconnect_after_ms: Cell::new(None),
            membership_version: Cell::new(0),
            number: Cell::new(0),
            newest_number: Cell::new(0),
            pending: RefCell::default(),
        })
    }

    /// Whose it is.
    pub(crate) fn device(&self) -> Attaching {
        Attaching { user_id: self.user_id, device_id: self.device_id }
    }

    /// Queues a frame; a connection that does not keep up is closed.
    pub(crate) fn send(&self, frame: impl Into<ByteString>) {
        self.outbox.push(Outgoing::Text(frame.into()));
    }

    /// Queues a frame for who has been greeted: `connected` is the first of all. It has its number just before.
    pub(crate) fn tell(&self, frame: impl Into<ByteString>) {
        if self.is_greeted() {
            self.send(frame);
        }
    }

    fn is_greeted(&self) -> bool {
        self.number.get() > 0
    }

    /// The gateway stops: the client is told when to come back, now or when it is greeted.
    pub(crate) fn tell_draining(&self, reconnect_after_ms: u64) {
        if self.is_greeted() {
            self.send(frame::draining(reconnect_after_ms));
        } else {
            self.reconnect_after_ms.set(Some(reconnect_after_ms));
        }
    }

    /// The first frame of all, and what had to wait for it.
    pub(crate) fn greet(&self, connected: String) {
        self.send(connected);
        if let Some(reconnect_after_ms) = self.reconnect_after_ms.take() {
            self.send(frame::draining(reconnect_after_ms));
        }
    }

    /// Queues a frame that nobody misses, unless something else waits.
    pub(crate) fn offer(&self, frame: ByteString) {
        if self.outbox.is_empty() {
            self.outbox.push(Outgoing::Text(frame));
        }
    }

    /// Asks for the end of the connection. The first reason counts.
    pub(crate) fn close(&self, code: CloseCode) {
        self.outbox.close(code);
    }

    /// A connection of the same device has this number: the higher one stays.
    pub(crate) fn note_connection_no(&self, number: u64, is_own: bool) {
        if is_own {
            self.number.set(number);
        }
        self.newest_number.set(self.newest_number.get().max(number));
        let own = self.number.get();
        if own != 0 && own < self.newest_number.get() {
            self.close(CloseCode::Replaced);
        }
    }

    /// How many sends await their ack.
    pub(crate) fn pending_count(&self) -> usize {
        self.pending.borrow().len()
    }

    /// A send is on its way. A repeat of one that is on its way already counts once.
    pub(crate) fn note_send(&self, id: EntryId, conversation_id: ConversationId) {
        self.pending.borrow_mut().insert(id, PendingSend { conversation_id, stored: None });
    }

    /// A send ended in an error.
    pub(crate) fn forget_send(&self, id: EntryId) -> bool {
        self.pending.borrow_mut().remove(&id).is_some()
    }

    /// The ack is to wait for the entry's place among the live ones.
    pub(crate) fn hold_ack(&self, id: EntryId, stored: Stored) {
        if let Some(pending) = self.pending.borrow_mut().get_mut(&id) {
            pending.stored = Some(stored);
        }
    }

    /// Whether the send awaits its ack; it does not any more.
    pub(crate) fn take_pending(&self, id: EntryId) -> bool {
        self.forget_send(id)
    }

    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.borrow().is_empty()
    }

    /// Whether acks wait for their places.
    pub(crate) fn holds_acks(&self) -> bool {
        self.pending.borrow().values().any(|pending| pending.stored.is_some())
    }

    /// A conversation is no longer live: acks that waited for their place go out at once.
    pub(crate) fn release_acks(&self, conversation_id: ConversationId) {
        let mut released: Vec<(EntryId, Stored)> = Vec::new();
        self.pending.borrow_mut().retain(|id, pending| match pending.stored {
            Some(stored) if pending.conversation_id == conversation_id => {
                released.push((*id, stored));
                false
            }
            _ => true,
        });
        released.sort_unstable_by_key(|(_, stored)| stored.seq);
        for (id, stored) in released {
            self.send(frame::ack_entry(id, conversation_id, stored.seq, stored.sent_at));
        }
    }

    /// How a conversation stands; paused where nothing is known.
    pub(crate) fn mode(&self, conversation_id: ConversationId) -> Mode {
        self.views.borrow().get(&conversation_id).map_or(Mode::Paused, |view| view.mode)
    }

    /// Whether the conversation was seen as one of the user's on this connection.
    pub(crate) fn knows(&self, conversation_id: ConversationId) -> bool {
        self.views.borrow().contains_key(&conversation_id)
    }

    /// Changes how a conversation stands, and gives what it was.
    pub(crate) fn set_mode(&self, conversation_id: ConversationId, mode: Mode) -> Option<View> {
        let mut views = self.views.borrow_mut();
        let before = views.get(&conversation_id).copied();
        let view = views.entry(conversation_id).or_insert(View { mode, is_unsubscribed: false, last_sent: 0 });
        view.mode = mode;
        before
    }

    /// Entries up to this seq, or acks in their place, were sent.
    pub(crate) fn note_sent(&self, conversation_id: ConversationId, seq: u64) {
        if let Some(view) = self.views.borrow_mut().get_mut(&conversation_id) {
            view.last_sent = seq;
        }
    }
}
