//! One partition: its queue, its batch under way, and the lanes of conversations that were busy.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use entrenous_bus::Bus;
use entrenous_model::ConversationId;
use entrenous_protocol::{
    Code, Failure,
    rpc::store::{APPEND_BYTES_MAX, APPEND_MAX, Append, AppendRequest, AppendResponse, AppendResult, Stored},
};
use entrenous_runtime::{Shutdown, trace};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{sync::mpsc, time::Instant};
use tracing::{Instrument as _, Span};

use super::{Queued, ReplyTo, SendResult};
use crate::{store_clock::StoreClock, worker::WorkerEvent};

/// One try. The store ends its transaction by then, so that the next try cannot be overtaken by this one.
const TRY_MAX: Duration = Duration::from_secs(3);
/// The first wait between two tries; doubles up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(25);
const BACKOFF_MAX: Duration = Duration::from_millis(400);

/// Which queue a batch was taken from.
type Lane = Option<ConversationId>;

/// What came of a batch.
struct Landed {
    lane: Lane,
    batch: Vec<Queued>,
    results: Result<Vec<AppendResult>, Failure>,
}

#[derive(Default)]
struct LaneState {
    queue: VecDeque<Queued>,
    is_in_flight: bool,
    backoff: Duration,
    retry_at: Option<Instant>,
}

pub(super) struct Partition {
    bus: Bus,
    clock: Arc<StoreClock>,
    pending_bytes: Arc<AtomicUsize>,
    main: LaneState,
    lanes: HashMap<ConversationId, LaneState>,
    flights: FuturesUnordered<BoxFuture<'static, Landed>>,
}

impl Partition {
    pub(super) fn new(bus: Bus, clock: Arc<StoreClock>, pending_bytes: Arc<AtomicUsize>) -> Self {
        Self {
            bus,
            clock,
            pending_bytes,
            main: LaneState::default(),
            lanes: HashMap::new(),
            flights: FuturesUnordered::new(),
        }
    }

    /// Works until nobody can send any more, or the stop is asked for and nothing waits.
    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Queued>, shutdown: Shutdown) {
        loop {
            while let Ok(queued) = inbox.try_recv() {
                self.route(queued);
            }
            self.launch();
            let retry_at = self.next_retry();
            tokio::select! {
                queued = inbox.recv() => match queued {
                    Some(queued) => self.route(queued),
                    None if self.flights.is_empty() => return,
                    None => self.land_next().await,
                },
                Some(landed) = self.flights.next() => self.land(landed).await,
                () = sleep_until(retry_at) => {}
                () = shutdown.triggered(), if self.is_idle() && inbox.is_empty() => return,
            }
        }
    }

    async fn land_next(&mut self) {
        if let Some(landed) = self.flights.next().await {
            self.land(landed).await;
        }
    }

    fn is_idle(&self) -> bool {
        self.flights.is_empty() && self.main.queue.is_empty() && self.lanes.is_empty()
    }

    fn route(&mut self, queued: Queued) {
        match self.lanes.get_mut(&queued.message.conversation_id) {
            Some(lane) => lane.queue.push_back(queued),
            None => self.main.queue.push_back(queued),
        }
    }

    fn next_retry(&self) -> Option<Instant> {
        self.lanes.values().filter(|lane| !lane.is_in_flight).filter_map(|lane| lane.retry_at).min()
    }

    /// Sends every queue on its way that has something, nothing under way and no reason to wait.
    fn launch(&mut self) {
        let now = Instant::now();
        let due = self.lanes.iter_mut().filter(|(_, lane)| lane.retry_at.is_none_or(|at| at <= now));
        let lanes = due.map(|(conversation, lane)| (Some(*conversation), lane));
        for (key, lane) in lanes.chain([(None, &mut self.main)]) {
            if !lane.is_in_flight && !lane.queue.is_empty() {
                lane.is_in_flight = true;
                lane.retry_at = None;
                let batch = take_batch(&mut lane.queue);
                self.flights.push(fly(self.bus.clone(), Arc::clone(&self.clock), key, batch).boxed());
            }
        }
    }

    async fn land(&mut self, landed: Landed) {
        let Landed { lane, batch, results } = landed;
        match results {
            Ok(results) => self.settle(lane, batch, results).await,
            Err(failure) => self.give_up(batch, failure).await,
        }
        if let Some(conversation) = lane
            && self.lanes.get(&conversation).is_some_and(|lane| lane.queue.is_empty())
        {
            self.lanes.remove(&conversation);
        } else if let Some(lane) = self.lane_mut(lane) {
            lane.is_in_flight = false;
        }
    }

    fn lane_mut(&mut self, lane: Lane) -> Option<&mut LaneState> {
        match lane {
            None => Some(&mut self.main),
            Some(conversation) => self.lanes.get_mut(&conversation),
        }
    }

    async fn settle(&mut self, lane: Lane, batch: Vec<Queued>, results: Vec<AppendResult>) {
        let now = Instant::now();
        let mut replies = Replies::default();
        let mut busy: Vec<Queued> = Vec::new();
        let mut broken: HashSet<(u64, ConversationId)> = HashSet::new();
        for (queued, result) in batch.into_iter().zip(results) {
            let key = (queued.message.origin, queued.message.conversation_id);
            match result {
                AppendResult::Stored(stored) => self.reply(&mut replies, queued, Ok(stored)),
                AppendResult::Busy if queued.deadline <= now => {
                    broken.insert(key);
                    self.reply(&mut replies, queued, Err(Failure::unavailable("the conversation is locked")));
                }
                AppendResult::Busy => busy.push(queued),
                AppendResult::Refused(failure) => {
                    if failure.code == Code::Unavailable {
                        broken.insert(key);
                    }
                    self.reply(&mut replies, queued, Err(failure));
                }
            }
        }
        self.put_back(lane, busy);
        self.break_followers(&mut replies, &broken);
        replies.send().await;
    }

    /// What was busy waits in its conversation's lane, before everything of that conversation that came later.
    fn put_back(&mut self, lane: Lane, busy: Vec<Queued>) {
        if busy.is_empty() {
            if let Some(lane) = lane.and_then(|conversation| self.lanes.get_mut(&conversation)) {
                lane.backoff = Duration::ZERO;
            }
            return;
        }
        let conversations: HashSet<_> = busy.iter().map(|queued| queued.message.conversation_id).collect();
        let (behind, others) = std::mem::take(&mut self.main.queue)
            .into_iter()
            .partition::<VecDeque<_>, _>(|queued| conversations.contains(&queued.message.conversation_id));
        self.main.queue = others;
        for queued in busy.into_iter().rev() {
            self.lanes.entry(queued.message.conversation_id).or_default().queue.push_front(queued);
        }
        for queued in behind {
            self.lanes.entry(queued.message.conversation_id).or_default().queue.push_back(queued);
        }
        for conversation in conversations {
            if let Some(lane) = self.lanes.get_mut(&conversation) {
                lane.backoff = (lane.backoff * 2).clamp(BACKOFF_MIN, BACKOFF_MAX);
                lane.retry_at = Some(Instant::now() + lane.backoff);
            }
        }
    }

    async fn give_up(&mut self, batch: Vec<Queued>, failure: Failure) {
        let mut replies = Replies::default();
        let broken: HashSet<_> =
            batch.iter().map(|queued| (queued.message.origin, queued.message.conversation_id)).collect();
        for queued in batch {
            self.reply(&mut replies, queued, Err(failure.clone()));
        }
        self.break_followers(&mut replies, &broken);
        replies.send().await;
    }

    /// When a connection's send ends in `unavailable`, those of the same conversation that wait behind it end so too:
    /// else they could overtake it when the client repeats it.
    fn break_followers(&mut self, replies: &mut Replies, broken: &HashSet<(u64, ConversationId)>) {
        if broken.is_empty() {
            return;
        }
        let is_follower = |queued: &Queued| {
            queued.message.origin != 0 && broken.contains(&(queued.message.origin, queued.message.conversation_id))
        };
        let mut followers = Vec::new();
        for lane in self.lanes.values_mut().chain([&mut self.main]) {
            let (broken, kept): (VecDeque<_>, VecDeque<_>) =
                std::mem::take(&mut lane.queue).into_iter().partition(is_follower);
            lane.queue = kept;
            followers.extend(broken);
        }
        for queued in followers {
            self.reply(replies, queued, Err(Failure::unavailable("a message before it has failed")));
        }
    }

    fn reply(&self, replies: &mut Replies, queued: Queued, result: Result<Stored, Failure>) {
        self.pending_bytes.fetch_sub(queued.bytes, Ordering::Relaxed);
        replies.add(queued, result);
    }
}

/// Results on their way back, gathered per worker.
#[derive(Default)]
struct Replies {
    workers: Vec<(mpsc::Sender<WorkerEvent>, Vec<SendResult>)>,
}

impl Replies {
    fn add(&mut self, queued: Queued, result: Result<Stored, Failure>) {
        let Queued { message, reply, .. } = queued;
        match reply {
            // A request that has gone needs no answer.
            ReplyTo::Request(sender) => drop(sender.send(result)),
            ReplyTo::Connection { worker, origin } => {
                let result =
                    SendResult { origin, conversation_id: message.conversation_id, id: message.message.id, result };
                match self.workers.iter_mut().find(|(known, _)| known.same_channel(&worker)) {
                    Some((_, results)) => results.push(result),
                    None => self.workers.push((worker, vec![result])),
                }
            }
        }
    }

    async fn send(self) {
        for (worker, results) in self.workers {
            // A worker that is gone has no connections.
            let _ = worker.send(WorkerEvent::Sent(results.into())).await;
        }
    }
}

fn take_batch(queue: &mut VecDeque<Queued>) -> Vec<Queued> {
    let mut bytes = 0;
    let fitting = queue
        .iter()
        .take(APPEND_MAX)
        .take_while(|queued| {
            let is_first = bytes == 0;
            bytes += queued.bytes;
            is_first || bytes <= APPEND_BYTES_MAX
        })
        .count();
    queue.drain(..fitting).collect()
}

/// Asks the store until it answers or the oldest message's deadline has passed.
async fn fly(bus: Bus, clock: Arc<StoreClock>, lane: Lane, batch: Vec<Queued>) -> Landed {
    let deadline = batch.iter().map(|queued| queued.deadline).min().unwrap_or_else(Instant::now);
    let mut request =
        AppendRequest { not_after: None, messages: batch.iter().map(|queued| queued.message.clone()).collect() };
    let mut backoff = BACKOFF_MIN;
    // A batch belongs to the first of its messages that is traced; the others show when they were sent and handed on.
    let parent =
        batch.iter().find(|queued| queued.message.trace.is_some()).map_or_else(Span::none, |one| one.span.clone());
    let span = tracing::trace_span!(target: trace::TARGET, parent: &parent, "append", messages = batch.len());
    metrics::histogram!("chat_append_batch_messages").record(f64::from(u32::try_from(batch.len()).unwrap_or(u32::MAX)));
    loop {
        let timeout = TRY_MAX.min(deadline.saturating_duration_since(Instant::now()));
        if timeout.is_zero() {
            let failure = Failure::unavailable("the message store does not answer");
            return Landed { lane, batch, results: Err(failure) };
        }
        request.not_after = clock.after(timeout);
        match bus.call_once::<Append>(&request, timeout).instrument(span.clone()).await {
            Ok(response) if response.results.len() == batch.len() => {
                note_time(&clock, &response);
                return Landed { lane, batch, results: Ok(response.results) };
            }
            Ok(_) => return Landed { lane, batch, results: Err(Failure::internal()) },
            Err(failure) if failure.code == Code::Unavailable => {}
            Err(failure) => return Landed { lane, batch, results: Err(failure) },
        }
        tokio::time::sleep(backoff.mul_f64(rand::random_range(0.5..1.0))).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// What was refused as late shows that the clock is not what it seemed.
fn note_time(clock: &StoreClock, response: &AppendResponse) {
    let is_late = |result: &AppendResult| matches!(result, AppendResult::Refused(why) if why.code == Code::Unavailable);
    match response.at {
        Some(at) => clock.note(at),
        None if response.results.iter().any(is_late) => clock.forget(),
        None => {}
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
