//! What happens after a commit: live frames, events, and the marks in the feed that tell that both are done.
//!
//! Nothing here is waited for by a request, and every queue is bounded. What is not published (a queue is full, NATS is
//! away, the process dies) keeps its row in the feed without a mark, and is published by whoever sweeps the feed.

mod events;
mod live;
mod marks;
pub(crate) mod sweeper;

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use entrenous_bus::{Bus, BusError};
use entrenous_db::Database;
use entrenous_model::{ConversationId, UserId};
use entrenous_protocol::{
    Entry, RawValue,
    entry::MessageType,
    event::EntryAppended,
    live::{FLAG_MEMBER, UserNotice},
};
use entrenous_runtime::Tasks;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::{
    metrics::Metrics,
    store::{
        entries::Setting,
        feed::{FeedRow, Mark},
    },
};

/// Batches that wait for the live plane; each is at most about 1 MiB. Above, they are left to the sweeper.
const LIVE_QUEUE: usize = 1_024;
/// Batches that wait for the event plane. Above, they are left to the sweeper.
const EVENT_QUEUE: usize = 8_192;
/// Marks that wait for the database. Above, the planes wait.
const MARK_QUEUE: usize = 8_192;

/// A frame to be sent to the connections of a conversation.
#[derive(Debug)]
pub(crate) struct LiveFrame {
    conversation_id: ConversationId,
    seq: u64,
    origin: u64,
    flags: u16,
    frame: Box<RawValue>,
    /// The `traceparent` of the message, where it is traced.
    trace: Option<String>,
}

/// What one transaction has to tell.
#[derive(Debug, Default)]
pub(crate) struct Publication {
    /// The feed row; none where only users are told something.
    row: Option<FeedRow>,
    /// Told before the frames.
    notices: Vec<(UserId, UserNotice)>,
    frames: Vec<LiveFrame>,
    events: Vec<(EntryAppended, entrenous_model::Timestamp)>,
}

impl Publication {
    /// With the feed row of the transaction.
    pub(crate) fn of_row(row: FeedRow) -> Self {
        Self { row: Some(row), ..Self::default() }
    }

    /// Tells a user something, before any frame.
    pub(crate) fn notice(&mut self, user_id: UserId, notice: UserNotice) {
        self.notices.push((user_id, notice));
    }

    /// Adds an entry that was appended; those of a conversation in the order of their seqs.
    pub(crate) fn entry(&mut self, setting: &Setting, entry: &Entry, origin: u64, countable_no: u64) {
        let is_member = entry.kind == entrenous_protocol::EntryKind::Member;
        self.frames.push(LiveFrame {
            conversation_id: entry.conversation_id,
            seq: entry.seq,
            origin,
            flags: if is_member { FLAG_MEMBER } else { 0 },
            frame: setting.frame(entry),
            trace: None,
        });
        let batch_id = self.row.map_or(Uuid::nil(), |row| row.batch_id);
        self.events.push((appended(entry, entry.message_type, countable_no, batch_id), entry.sent_at));
    }

    /// The entry added last belongs to this trace.
    pub(crate) fn trace(&mut self, trace: &str) {
        if let Some(frame) = self.frames.last_mut() {
            frame.trace = Some(trace.to_owned());
        }
    }

    fn is_empty(&self) -> bool {
        self.row.is_none() && self.notices.is_empty() && self.frames.is_empty()
    }
}

fn appended(entry: &Entry, message_type: Option<MessageType>, countable_no: u64, batch_id: Uuid) -> EntryAppended {
    EntryAppended {
        conversation_id: entry.conversation_id,
        seq: entry.seq,
        id: entry.id,
        kind: entry.kind,
        message_type,
        sender_id: entry.sender_id,
        countable_no,
        batch_id,
    }
}

/// The incarnation as it was read last; 0 before that.
#[derive(Debug, Clone, Default)]
pub(crate) struct Incarnation(Arc<AtomicU64>);

impl Incarnation {
    pub(crate) fn set(&self, incarnation: u64) {
        self.0.store(incarnation, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Takes publications; never waits. Those given one after another are published in that order. Cheap to clone; when the
/// last one is dropped, what was taken is published and the tasks end.
#[derive(Debug, Clone)]
pub(crate) struct Publisher {
    live: mpsc::Sender<Publication>,
    takes_events: Arc<AtomicBool>,
    metrics: Metrics,
}

impl Publisher {
    /// Connects, and starts the tasks.
    pub(crate) async fn start(
        bus: &Bus,
        database: Database,
        incarnation: Incarnation,
        tasks: &Tasks,
        metrics: Metrics,
    ) -> Result<Self, BusError> {
        let (live_sender, live_receiver) = mpsc::channel(LIVE_QUEUE);
        let (event_sender, event_receiver) = mpsc::channel(EVENT_QUEUE);
        let (mark_sender, mark_receiver) = mpsc::channel::<Mark>(MARK_QUEUE);
        let live = live::Live {
            publisher: bus.live_publisher().await?,
            incarnation,
            marks: mark_sender.clone(),
            events: event_sender,
            metrics,
        };
        let takes_events = Arc::new(AtomicBool::new(true));
        tasks.spawn(live.run(live_receiver));
        tasks.spawn(events::run(bus.clone(), event_receiver, mark_sender, Arc::clone(&takes_events)));
        tasks.spawn(marks::run(database, mark_receiver, metrics));
        Ok(Self { live: live_sender, takes_events, metrics })
    }

    /// Whether JetStream took the last event that it was offered.
    pub(crate) fn takes_events(&self) -> bool {
        self.takes_events.load(Ordering::Relaxed)
    }

    /// Publishes; what does not fit into the queue is left to the sweeper.
    pub(crate) fn publish(&self, publication: Publication) {
        if !publication.is_empty() && self.live.try_send(publication).is_err() {
            self.metrics.publication_dropped("live");
        }
    }
}
