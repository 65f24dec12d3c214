//! One partition: carries the batches of its [`Lanes`] to the store, and the results back to those who sent.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use entrenous_bus::Bus;
use entrenous_protocol::{
    Code, Failure,
    rpc::store::{
        self, ActRequest, Append, AppendRequest, AppendResponse, AppendResult, Join, JoinBy, JoinRequest,
        MembershipChanged, MembershipEntry, RemoveMember, RemoveMemberRequest, Stored,
    },
};
use entrenous_runtime::{Shutdown, trace};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{sync::mpsc, time::Instant};
use tracing::{Instrument as _, Span};

use super::{
    Item, MembershipChange, Queued, ReplyTo, SendResult,
    lanes::{BACKOFF_MAX, BACKOFF_MIN, Lane, Lanes},
};
use crate::{store_clock::StoreClock, worker::WorkerEvent};

/// One try. The store ends its transaction by then, so that the next try cannot be overtaken by this one.
const TRY_MAX: Duration = Duration::from_secs(3);

/// What came of a batch.
struct Landed {
    lane: Lane,
    batch: Vec<Queued>,
    results: Result<Vec<AppendResult>, Failure>,
}

pub(super) struct Partition {
    bus: Bus,
    clock: Arc<StoreClock>,
    pending_bytes: Arc<AtomicUsize>,
    lanes: Lanes,
    flights: FuturesUnordered<BoxFuture<'static, Landed>>,
}

impl Partition {
    pub(super) fn new(bus: Bus, clock: Arc<StoreClock>, pending_bytes: Arc<AtomicUsize>) -> Self {
        Self { bus, clock, pending_bytes, lanes: Lanes::default(), flights: FuturesUnordered::new() }
    }

    /// Works until nobody can send any more, or the stop is asked for and nothing waits.
    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Queued>, shutdown: Shutdown) {
        loop {
            self.route_all(&mut inbox);
            self.launch();
            let retry_at = self.lanes.next_retry();
            tokio::select! {
                queued = inbox.recv() => match queued {
                    Some(queued) => self.lanes.route(queued),
                    None if self.flights.is_empty() => return,
                    None => self.land_next().await,
                },
                Some(landed) = self.flights.next() => {
                    // Those that wait behind one that failed were sent before its failure is told.
                    self.route_all(&mut inbox);
                    self.land(landed).await;
                }
                () = sleep_until(retry_at) => {}
                () = shutdown.triggered(), if self.lanes.is_idle() && inbox.is_empty() => return,
            }
        }
    }

    fn route_all(&mut self, inbox: &mut mpsc::Receiver<Queued>) {
        while let Ok(queued) = inbox.try_recv() {
            self.lanes.route(queued);
        }
    }

    async fn land_next(&mut self) {
        if let Some(landed) = self.flights.next().await {
            self.land(landed).await;
        }
    }

    fn launch(&mut self) {
        for (lane, batch) in self.lanes.launch(Instant::now()) {
            self.flights.push(fly(self.bus.clone(), Arc::clone(&self.clock), lane, batch).boxed());
        }
    }

    async fn land(&mut self, landed: Landed) {
        let Landed { lane, batch, results } = landed;
        let mut replies = Replies::default();
        for (queued, result) in self.lanes.land(lane, batch, results, Instant::now()) {
            self.pending_bytes.fetch_sub(queued.bytes, Ordering::Relaxed);
            replies.add(queued, result);
        }
        replies.send().await;
    }
}

/// Results on their way back, gathered per worker.
#[derive(Default)]
struct Replies {
    workers: Vec<(mpsc::Sender<WorkerEvent>, Vec<SendResult>)>,
}

impl Replies {
    fn add(&mut self, queued: Queued, result: Result<Option<Stored>, Failure>) {
        let Queued { item, reply, .. } = queued;
        match reply {
            // A request that has gone needs no answer.
            ReplyTo::Request(sender) => drop(sender.send(result)),
            ReplyTo::Connection { worker, origin, id } => {
                let (conversation_id, is_counted) = (item.conversation_id(), item.is_counted());
                let result = SendResult { origin, conversation_id, id, is_counted, result };
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

/// Asks the store until it answers or the oldest message's deadline has passed.
async fn fly(bus: Bus, clock: Arc<StoreClock>, lane: Lane, batch: Vec<Queued>) -> Landed {
    let deadline = batch.iter().map(|queued| queued.deadline).min().unwrap_or_else(Instant::now);
    let mut request = Request::of(&batch);
    let mut backoff = BACKOFF_MIN;
    // A batch belongs to the first of its messages that is traced; the others show when they were sent and handed on.
    let is_traced = |queued: &&Queued| matches!(&queued.item, Item::Message(message) if message.trace.is_some());
    let parent = batch.iter().find(is_traced).map_or_else(Span::none, |one| one.span.clone());
    let span = tracing::trace_span!(target: trace::TARGET, parent: &parent, "append", messages = batch.len());
    metrics::histogram!("chat_append_batch_messages").record(f64::from(u32::try_from(batch.len()).unwrap_or(u32::MAX)));
    loop {
        let timeout = TRY_MAX.min(deadline.saturating_duration_since(Instant::now()));
        if timeout.is_zero() {
            let failure = Failure::unavailable("the message store does not answer");
            return Landed { lane, batch, results: Err(failure) };
        }
        match request.call(&bus, &clock, timeout).instrument(span.clone()).await {
            Ok(results) if results.len() == batch.len() => return Landed { lane, batch, results: Ok(results) },
            Ok(_) => return Landed { lane, batch, results: Err(Failure::internal()) },
            Err(failure) if failure.code == Code::Unavailable => {}
            Err(failure) => return Landed { lane, batch, results: Err(failure) },
        }
        tokio::time::sleep(backoff.mul_f64(rand::random_range(0.5..1.0))).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// What a batch asks the store for: one act, one coming or leaving, or messages.
enum Request {
    Append(AppendRequest),
    Act(Box<ActRequest>),
    Membership(MembershipChange),
}

impl Request {
    fn of(batch: &[Queued]) -> Self {
        match batch {
            [Queued { item: Item::Act(act), .. }] => return Self::Act(act.clone()),
            [Queued { item: Item::Membership(change), .. }] => return Self::Membership(*change),
            _ => {}
        }
        let message = |queued: &Queued| match &queued.item {
            Item::Message(message) => Some((**message).clone()),
            Item::Act(_) | Item::Membership(_) => None,
        };
        Self::Append(AppendRequest { not_after: None, messages: batch.iter().filter_map(message).collect() })
    }

    async fn call(&mut self, bus: &Bus, clock: &StoreClock, timeout: Duration) -> Result<Vec<AppendResult>, Failure> {
        match self {
            Self::Append(request) => {
                request.not_after = clock.after(timeout);
                let response = bus.call_once::<Append>(request, timeout).await?;
                note_time(clock, &response);
                Ok(response.results)
            }
            Self::Act(request) => {
                request.not_after = clock.after(timeout);
                bus.call_once::<store::Act>(request, timeout).await.map(|result| vec![result])
            }
            Self::Membership(change) => change_membership(bus, change, timeout).await.map(|result| vec![result]),
        }
    }
}

async fn change_membership(
    bus: &Bus,
    &mut MembershipChange { conversation_id, user_id, is_join, frame }: &mut MembershipChange,
    timeout: Duration,
) -> Result<AppendResult, Failure> {
    let (caller, frame) = (user_id, Some(frame));
    let changed = if is_join {
        let request = JoinRequest { caller, by: JoinBy::Conversation(conversation_id), frame };
        bus.call_once::<Join>(&request, timeout).await
    } else {
        bus.call_once::<RemoveMember>(&RemoveMemberRequest { caller, conversation_id, user_id, frame }, timeout).await
    };
    match changed {
        Ok(MembershipChanged { entry: Some(MembershipEntry { seq, sent_at }), .. }) => {
            Ok(AppendResult::Stored(Stored { seq, sent_at, expires_at: None, is_repeat: false, may_differ: false }))
        }
        Ok(MembershipChanged { entry: None, .. }) => Ok(AppendResult::Done),
        Err(failure) if failure.code == Code::Unavailable => Err(failure),
        Err(failure) => Ok(AppendResult::Refused(failure)),
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
