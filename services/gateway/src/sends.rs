//! Messages, and acts on messages, on their way to the store.
//!
//! A message goes into the batch of its partition. A partition has at most one batch under way: while one is out, the
//! next one fills. At low load a batch is one message and leaves at once; under load batches grow by themselves. So
//! the order of each sender is kept, PostgreSQL gets group commits, and NATS carries one request a batch.
//!
//! A conversation that the store found locked (`busy`) leaves its partition for a lane of its own, with its later
//! messages behind it, so that it holds up nobody else. So does a conversation with an act (an edit, a reaction, …): it
//! comes after what was sent before it, and takes a transaction of its own; and so do coming and leaving.

mod lanes;
mod partition;

use std::{
    num::NonZeroU16,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use entrenous_bus::Bus;
use entrenous_model::{ConversationId, EntryId, UserId};
use entrenous_protocol::{
    Failure,
    entry::MessageType,
    live::stable_hash,
    rpc::store::{ActRequest, AppendMessage, FrameOrigin, Stored},
};
use entrenous_runtime::{Shutdown, Tasks, trace};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tracing::Span;

use crate::{store_clock::StoreClock, worker::WorkerEvent};

/// Messages that wait for one partition; above it sends are answered `unavailable`.
const QUEUE_MAX: usize = 16_384;
/// What a message weighs beside its content.
const OVERHEAD_BYTES: usize = 512;

/// Where the result of a send goes.
#[derive(Debug)]
pub enum ReplyTo {
    /// To a connection, through its worker.
    Connection {
        /// The worker that has it.
        worker: mpsc::Sender<WorkerEvent>,
        /// The connection.
        origin: u64,
        /// What it is to be answered by; none where the client gave no id.
        id: Option<EntryId>,
    },
    /// To a REST request.
    Request(oneshot::Sender<Result<Option<Stored>, Failure>>),
}

/// What became of a send.
#[derive(Debug, Clone)]
pub struct SendResult {
    /// The connection that sent it.
    pub origin: u64,
    /// Into which conversation.
    pub conversation_id: ConversationId,
    /// What it is to be answered by; none where the client gave no id.
    pub id: Option<EntryId>,
    /// It counts as unread for others, and moves its sender's cursor.
    pub is_counted: bool,
    /// Stored (done, where it is no entry), or why not.
    pub result: Result<Option<Stored>, Failure>,
}

/// Somebody comes into a public conversation, or leaves one.
#[derive(Debug, Clone, Copy)]
pub struct MembershipChange {
    /// Which.
    pub conversation_id: ConversationId,
    /// Who.
    pub user_id: UserId,
    /// Comes; else leaves.
    pub is_join: bool,
    /// The frame that asked for it.
    pub frame: FrameOrigin,
}

/// What the store is asked for.
#[derive(Debug)]
enum Item {
    Message(Box<AppendMessage>),
    Act(Box<ActRequest>),
    Membership(MembershipChange),
}

impl Item {
    fn conversation_id(&self) -> ConversationId {
        match self {
            Self::Message(message) => message.conversation_id,
            Self::Act(act) => act.conversation_id,
            Self::Membership(change) => change.conversation_id,
        }
    }

    fn origin(&self) -> u64 {
        match self {
            Self::Message(message) => message.origin,
            Self::Act(act) => act.origin,
            Self::Membership(change) => change.frame.origin,
        }
    }

    /// It counts as unread for others, and moves its sender's cursor.
    fn is_counted(&self) -> bool {
        matches!(self, Self::Message(message) if message.message.message_type != MessageType::Control)
    }

    fn bytes(&self) -> usize {
        let bytes = match self {
            Self::Message(message) => message.message.content.get().len() + message.message.metadata.get().len(),
            Self::Act(act) => act.act.bytes(),
            Self::Membership(_) => 0,
        };
        bytes + OVERHEAD_BYTES
    }
}

/// An item in a queue.
#[derive(Debug)]
struct Queued {
    item: Item,
    bytes: usize,
    deadline: Instant,
    reply: ReplyTo,
    /// From when the message came until its sender is answered.
    span: Span,
}

/// How much may be under way.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Batches at once: the order within one is strict.
    pub partitions: NonZeroU16,
    /// Content that awaits its ack.
    pub bytes_max: usize,
    /// How long a send may take.
    pub deadline: Duration,
}

/// The way to the store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sends {
    partitions: Arc<[mpsc::Sender<Queued>]>,
    pending_bytes: Arc<AtomicUsize>,
    bytes_max: usize,
    deadline: Duration,
}

impl Sends {
    /// Starts the partitions. They end when the last `Sends` is dropped or the stop is asked for and nothing waits.
    pub(crate) fn start(
        bus: &Bus,
        clock: &Arc<StoreClock>,
        tasks: &Tasks,
        shutdown: &Shutdown,
        bounds: Bounds,
    ) -> Self {
        let Bounds { partitions, bytes_max, deadline } = bounds;
        let pending_bytes = Arc::new(AtomicUsize::new(0));
        let partitions = (0..partitions.get())
            .map(|_| {
                let (sender, receiver) = mpsc::channel(QUEUE_MAX);
                let partition = partition::Partition::new(bus.clone(), Arc::clone(clock), Arc::clone(&pending_bytes));
                tasks.spawn(partition.run(receiver, shutdown.clone()));
                sender
            })
            .collect();
        Self { partitions, pending_bytes, bytes_max, deadline }
    }

    /// Puts a message on its way. The result comes through `reply`, whatever happens, within the deadline and a little.
    ///
    /// # Errors
    /// `unavailable` when too much is under way already; then nothing comes through `reply`.
    pub fn submit(&self, message: AppendMessage, reply: ReplyTo) -> Result<(), Failure> {
        self.enqueue(Item::Message(Box::new(message)), reply)
    }

    /// The same for an act.
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub fn submit_act(&self, act: ActRequest, reply: ReplyTo) -> Result<(), Failure> {
        self.enqueue(Item::Act(Box::new(act)), reply)
    }

    /// The same for who comes or leaves.
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub fn submit_membership(&self, change: MembershipChange, reply: ReplyTo) -> Result<(), Failure> {
        self.enqueue(Item::Membership(change), reply)
    }

    fn enqueue(&self, mut item: Item, reply: ReplyTo) -> Result<(), Failure> {
        let bytes = item.bytes();
        if self.pending_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > self.bytes_max {
            self.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(Failure::unavailable("too many messages await their ack"));
        }
        let partitions = u16::try_from(self.partitions.len()).unwrap_or(u16::MAX);
        let conversation_id = item.conversation_id();
        let partition = usize::from(stable_hash(conversation_id.as_uuid(), partitions));
        let span = tracing::trace_span!(target: trace::TARGET, "send", %conversation_id);
        if let Item::Message(message) = &mut item {
            message.trace = trace::parent_of(&span);
        }
        let queued = Queued { item, bytes, deadline: Instant::now() + self.deadline, reply, span };
        let queue = self.partitions.get(partition).ok_or_else(Failure::internal)?;
        queue.try_send(queued).map_err(|_full| {
            self.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
            Failure::unavailable("too many messages await their ack")
        })
    }

    /// Sends a message and awaits what becomes of it.
    ///
    /// # Errors
    /// The store's refusal, or `unavailable` (outcome unknown: repeat with the same id).
    pub async fn send(&self, message: AppendMessage) -> Result<Stored, Failure> {
        self.ask(Item::Message(Box::new(message))).await?.ok_or_else(Failure::internal)
    }

    /// Has an act done; gives the entry that it is, if it is one.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn act(&self, act: ActRequest) -> Result<Option<Stored>, Failure> {
        self.ask(Item::Act(Box::new(act))).await
    }

    async fn ask(&self, item: Item) -> Result<Option<Stored>, Failure> {
        let (sender, receiver) = oneshot::channel();
        self.enqueue(item, ReplyTo::Request(sender))?;
        receiver.await.unwrap_or_else(|_| Err(Failure::unavailable("the gateway stops")))
    }
}
