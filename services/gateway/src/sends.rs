//! Messages on their way to the store.
//!
//! A message goes into the batch of its partition. A partition has at most one batch under way: while one is out, the
//! next one fills. At low load a batch is one message and leaves at once; under load batches grow by themselves. So
//! the order of each sender is kept, PostgreSQL gets group commits, and NATS carries one request a batch.
//!
//! A conversation that the store found locked (`busy`) leaves its partition for a lane of its own, with its later
//! messages behind it, so that it holds up nobody else.

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
use entrenous_model::{ConversationId, EntryId};
use entrenous_protocol::{
    Failure,
    live::stable_hash,
    rpc::store::{AppendMessage, Stored},
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
    },
    /// To a REST request.
    Request(oneshot::Sender<Result<Stored, Failure>>),
}

/// What became of a send.
#[derive(Debug, Clone)]
pub struct SendResult {
    /// The connection that sent it.
    pub origin: u64,
    /// Into which conversation.
    pub conversation_id: ConversationId,
    /// The message.
    pub id: EntryId,
    /// It counts as unread for others, and moves its sender's cursor.
    pub is_counted: bool,
    /// Stored, or why not.
    pub result: Result<Stored, Failure>,
}

/// A message in a queue.
#[derive(Debug)]
struct Queued {
    message: AppendMessage,
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
    pub fn submit(&self, mut message: AppendMessage, reply: ReplyTo) -> Result<(), Failure> {
        let bytes = message.message.content.get().len() + message.message.metadata.get().len() + OVERHEAD_BYTES;
        if self.pending_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > self.bytes_max {
            self.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(Failure::unavailable("too many messages await their ack"));
        }
        let partitions = u16::try_from(self.partitions.len()).unwrap_or(u16::MAX);
        let partition = usize::from(stable_hash(message.conversation_id.as_uuid(), partitions));
        let span = tracing::trace_span!(target: trace::TARGET, "send", conversation_id = %message.conversation_id);
        message.trace = trace::parent_of(&span);
        let queued = Queued { message, bytes, deadline: Instant::now() + self.deadline, reply, span };
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
        let (sender, receiver) = oneshot::channel();
        self.submit(message, ReplyTo::Request(sender))?;
        receiver.await.unwrap_or_else(|_| Err(Failure::unavailable("the gateway stops")))
    }
}
