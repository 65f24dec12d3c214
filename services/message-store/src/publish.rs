//! What happens after a commit: live frames, events, and the marks in the feed that tell that both are done.
//!
//! Nothing here is waited for by a request, and every queue is bounded. What is not published (a queue is full, NATS is
//! away, the process dies) keeps its row in the feed without a mark, and is published by whoever sweeps the feed.

mod events;
mod live;
mod marks;
mod reactions;
mod sweeper;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use entrenous_bus::{Bus, BusError};
use entrenous_db::Database;
use entrenous_model::{Clock, ConversationId, EntryId, UserId};
use entrenous_protocol::{
    Entry, EntryKind, RawValue,
    entry::MessageType,
    event::EntryAppended,
    live::{ChannelMembership, FLAG_END, FLAG_MEMBER, UserNotice},
};
use entrenous_runtime::{Shutdown, Tasks};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::{
    metrics::Metrics,
    store::{
        entries::Setting,
        feed::{FeedRow, Mark, Plane},
    },
};

/// Batches that wait for the live plane; each is at most about 1 MiB. Above, they are left to the sweeper.
const LIVE_QUEUE: usize = 1_024;
/// Reactions in channels that wait to be told. Above, their counts are told with the next one.
const REACTION_QUEUE: usize = 4_096;
/// Batches that wait for the event plane. Above, they are left to the sweeper.
const EVENT_QUEUE: usize = 8_192;
/// Marks that wait for the database. Above, the planes wait.
const MARK_QUEUE: usize = 8_192;

/// Connections to the database that the sweepers may use at once: what is published now goes first.
const SWEEPER_CONNECTIONS: usize = 1;

/// A frame to be sent to the connections of a conversation.
#[derive(Debug)]
pub(crate) struct LiveFrame {
    conversation_id: ConversationId,
    seq: u64,
    /// How many have left the channel before.
    leaves: u64,
    origin: u64,
    flags: u16,
    frame: Box<RawValue>,
    /// The `traceparent` of the message, where it is traced.
    trace: Option<String>,
}

/// Somebody joined or left a channel.
#[derive(Debug)]
pub(crate) struct MembershipFrame {
    pub(crate) conversation_id: ConversationId,
    /// The last seq before a join, or of the membership that ended.
    pub(crate) head: u64,
    /// How many have left, this one included.
    pub(crate) leaves: u64,
    pub(crate) membership: ChannelMembership,
}

/// How often a message of a channel has each reaction.
#[derive(Debug)]
pub(crate) struct ReactionsFrame {
    conversation_id: ConversationId,
    frame: String,
}

/// What one transaction has to tell.
#[derive(Debug, Default)]
pub(crate) struct Publication {
    /// The feed row; none where only users are told something.
    row: Option<FeedRow>,
    /// Told before the frames.
    notices: Vec<(UserId, UserNotice)>,
    memberships: Vec<MembershipFrame>,
    frames: Vec<LiveFrame>,
    reactions: Vec<ReactionsFrame>,
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

    /// Tells of a join or leave of a channel.
    pub(crate) fn membership(&mut self, frame: MembershipFrame) {
        self.memberships.push(frame);
    }

    /// Adds an entry that was appended; those of a conversation in the order of their seqs.
    pub(crate) fn entry(&mut self, setting: &Setting, entry: &Entry, origin: u64, countable_no: u64, leaves: u64) {
        let flags = match entry.kind {
            EntryKind::Member => FLAG_MEMBER,
            EntryKind::Settings if entry.is_end() => FLAG_END,
            _ => 0,
        };
        self.frames.push(LiveFrame {
            conversation_id: entry.conversation_id,
            seq: entry.seq,
            leaves,
            origin,
            flags,
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
        self.notices.is_empty() && self.memberships.is_empty() && self.frames.is_empty() && self.reactions.is_empty()
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
    reactions: mpsc::Sender<reactions::Changed>,
    metrics: Metrics,
}

/// What publishing needs.
#[derive(Debug)]
pub(crate) struct Means {
    pub(crate) bus: Bus,
    pub(crate) database: Database,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) incarnation: Incarnation,
    pub(crate) metrics: Metrics,
    /// How long after its time a feed row may become visible, at most.
    pub(crate) late_max: Duration,
}

impl Publisher {
    /// Connects, and starts the tasks. The sweepers end at the stop, the others with the last publisher.
    pub(crate) async fn start(means: Means, tasks: &Tasks, stop: &Shutdown) -> Result<Self, BusError> {
        let Means { bus, database, clock, incarnation, metrics, late_max } = means;
        let (live_sender, live_receiver) = mpsc::channel(LIVE_QUEUE);
        let (event_sender, event_receiver) = mpsc::channel(EVENT_QUEUE);
        let (reaction_sender, reaction_receiver) = mpsc::channel(REACTION_QUEUE);
        let (mark_sender, mark_receiver) = mpsc::channel::<Mark>(MARK_QUEUE);
        let live = live::Live {
            publisher: bus.live_publisher().await?,
            incarnation: incarnation.clone(),
            marks: mark_sender.clone(),
            events: event_sender,
            metrics,
        };
        tasks.spawn(live.run(live_receiver));
        tasks.spawn(reactions::run(database.clone(), live_sender.clone(), reaction_receiver));
        tasks.spawn(events::run(bus.clone(), event_receiver, mark_sender.clone()));
        tasks.spawn(marks::run(database.clone(), mark_receiver, metrics));
        let database = database.share(SWEEPER_CONNECTIONS);
        let means = sweeper::Means { bus, database, clock, incarnation, marks: mark_sender, metrics, late_max };
        for plane in [Plane::Live, Plane::Event] {
            let sweeper = sweeper::Sweeper::new(means.clone(), plane);
            tasks.spawn_vital("sweeper", stop.clone(), sweeper.run(stop.clone()));
        }
        Ok(Self { live: live_sender, reactions: reaction_sender, metrics })
    }

    /// A publisher that loses everything, as if the process had died at that moment: for tests.
    pub(crate) fn lost(metrics: Metrics) -> Self {
        let ((live, _), (reactions, _)) = (mpsc::channel(1), mpsc::channel(1));
        Self { live, reactions, metrics }
    }

    /// Publishes; what does not fit into the queue is left to the sweeper.
    pub(crate) fn publish(&self, publication: Publication) {
        if !publication.is_empty() && self.live.try_send(publication).is_err() {
            self.metrics.publication_dropped("live");
        }
    }

    /// The counts of a message in a channel are others: told soon, together with what changes meanwhile.
    pub(crate) fn reactions_changed(&self, conversation_id: ConversationId, message_id: EntryId) {
        if self.reactions.try_send((conversation_id, message_id)).is_err() {
            self.metrics.publication_dropped("reactions");
        }
    }

    /// Publishes what has no row in the feed, where a sweeper would find it: waits until there is room in the queue.
    pub(crate) async fn publish_unswept(&self, publication: Publication) {
        if self.live.send(publication).await.is_err() {
            self.metrics.publication_dropped("live");
        }
    }
}
