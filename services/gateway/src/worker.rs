//! One worker: the connections of one of the server's threads, and what reaches them.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use ahash::{AHashMap, AHashSet};
use bytestring::ByteString;
use entrenous_model::{ConversationId, LoginId, UserId};
use entrenous_protocol::{
    CloseCode, frame,
    limits::{LOG_PAGE_MAX, PAGE_BYTES_MAX},
    live::{ChannelMembership, FLAG_END, FLAG_MEMBER, LiveKind, LiveMessage, TypingBroadcast, UserNotice},
    rpc::{
        Method,
        store::{self, Attaching, CHECKS_MAX, HEADS_MAX, Head, Memberships, Range, ReadRangesRequest},
        tracker::{QUEUES_MAX, ReadDeviceQueues, ReadDeviceQueuesRequest},
    },
};
use entrenous_runtime::trace;
use futures::future::join_all;
use tokio::{sync::mpsc, time::Instant};

use crate::{
    connection::Connection,
    fanout::{self, Fanout, Standing},
    presence::watching::{self, Watching},
    sends::SendResult,
    state::Gateway,
    typing::{self, Typists},
};

/// Events that wait for a worker. It never waits for a client, so the queue is nearly always empty.
const EVENTS_MAX: usize = 4_096;
/// How often lost live messages are looked for.
const TICK: Duration = Duration::from_millis(250);
/// Conversations that are repaired by one request.
const REPAIRS_AT_ONCE: usize = 64;
/// How many ticks what nobody wanted is remembered at least: longer than a read of heads may take.
const UNCLAIMED_TICKS: u32 = 60;

/// What reaches a worker from outside its thread.
#[derive(Debug, Clone)]
pub enum WorkerEvent {
    /// Live messages, in the order of each publisher.
    Live(Arc<[LiveMessage]>),
    /// Live messages were lost.
    CatchUp(CatchUp),
    /// Live messages may be missing, or none is any more: the clients are told.
    Degraded(bool),
    /// What became of sends.
    Sent(Arc<[SendResult]>),
    /// Somebody is typing, or no longer.
    Typing(Arc<TypingBroadcast>),
    /// These users, whom somebody here watches, show something else.
    Statuses(Arc<[UserId]>),
    /// Logins that ended.
    LoginsEnded(Arc<[LoginId]>),
    /// The gateway stops: say so, then close with 1012, spread over this time.
    Drain(Duration),
}

/// What every worker has to catch up with.
#[derive(Debug, Clone)]
pub struct CatchUp {
    /// The conversations that moved; none where nobody knows which did.
    pub changed: Option<Arc<[Head]>>,
    /// Dropped when everything is there.
    pub done: mpsc::Sender<()>,
}

/// One worker's connections.
pub(crate) struct Worker {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) fanout: RefCell<Fanout>,
    /// Whose connections are typing.
    pub(crate) typists: RefCell<Typists>,
    /// Whose connections watch whom.
    pub(crate) watching: Watching,
    /// Where results of sends go.
    pub(crate) events: mpsc::Sender<WorkerEvent>,
    queue_check: Cell<QueueCheck>,
}

/// Whether it is looked how far the queues of devices are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum QueueCheck {
    #[default]
    Idle,
    Running,
    /// And must be looked once more.
    Again,
}

impl Worker {
    /// Starts the worker of the present thread.
    pub(crate) fn start(gateway: Arc<Gateway>) -> Rc<Self> {
        let (events, inbox) = mpsc::channel(EVENTS_MAX);
        gateway.add_worker(events.clone());
        let worker = Rc::new(Self {
            gateway,
            fanout: RefCell::default(),
            typists: RefCell::default(),
            watching: Watching::default(),
            events,
            queue_check: Cell::default(),
        });
        actix_web::rt::spawn(Rc::clone(&worker).run(inbox));
        actix_web::rt::spawn(watching::run(Rc::clone(&worker)));
        worker
    }

    async fn run(self: Rc<Self>, mut inbox: mpsc::Receiver<WorkerEvent>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut count = 0_u32;
        loop {
            tokio::select! {
                event = inbox.recv() => match event {
                    Some(event) => self.on_event(event),
                    None => return,
                },
                _ = ticks.tick() => {
                    count = count.wrapping_add(1);
                    self.fanout.borrow_mut().tick();
                    typing::tell(&self.gateway, self.typists.borrow_mut().take_ended(Instant::now()));
                    if count.is_multiple_of(UNCLAIMED_TICKS) {
                        self.fanout.borrow_mut().age_unclaimed();
                    }
                }
            }
            self.repair_holes();
            self.check_users();
        }
    }

    fn on_event(self: &Rc<Self>, event: WorkerEvent) {
        match event {
            WorkerEvent::Live(messages) => {
                for message in messages.iter() {
                    match message.preamble.kind {
                        LiveKind::Entry => self.on_entry(message),
                        LiveKind::UserNotice => self.on_notice(message),
                        LiveKind::Membership => self.on_membership(message),
                        LiveKind::Reactions => self.fanout.borrow().on_reactions(message),
                        LiveKind::Beat => {}
                    }
                }
            }
            WorkerEvent::CatchUp(request) => drop(actix_web::rt::spawn(Rc::clone(self).catch_up(request))),
            WorkerEvent::Degraded(is_degraded) => {
                for connection in self.fanout.borrow().connections() {
                    connection.tell(frame::degraded(is_degraded));
                }
            }
            WorkerEvent::Sent(results) => {
                for result in results.iter() {
                    self.on_sent(result);
                }
            }
            WorkerEvent::Typing(typing) => self.fanout.borrow().on_typing(&typing),
            WorkerEvent::Statuses(user_ids) => self.watching.note_changed(&user_ids),
            WorkerEvent::LoginsEnded(logins) => self.end_logins(&logins),
            WorkerEvent::Drain(spread) => self.drain(spread),
        }
    }

    fn on_entry(&self, message: &LiveMessage) {
        let conversation = ConversationId::from(message.preamble.subject);
        let is_followed = || self.fanout.borrow().forwarded(conversation).is_some();
        let span = message.trace.as_deref().filter(|_| is_followed()).map(|parent| {
            let span = tracing::trace_span!(target: trace::TARGET, "fan_out", seq = message.preamble.seq);
            trace::follow(&span, parent);
            span
        });
        let _entered = span.as_ref().map(tracing::Span::enter);
        let is_end = message.preamble.flags & FLAG_END != 0 && is_followed();
        self.fanout.borrow_mut().on_live_entry(message);
        if is_end && !self.watching.is_empty() {
            self.watching.judge_all_again();
        }
        if message.preamble.flags & FLAG_MEMBER != 0 && !self.watching.is_empty() {
            // Who shares a conversation may see each other.
            if let Some(member) = std::str::from_utf8(&message.body).ok().and_then(fanout::member_of) {
                self.watching.judge_again(member.user_id);
            }
        }
    }

    fn on_membership(&self, message: &LiveMessage) {
        let Ok(membership) = serde_json::from_slice::<ChannelMembership>(&message.body) else {
            // A newer service's; where somebody has left, the next entry tells so.
            return;
        };
        self.fanout.borrow_mut().on_membership(&message.preamble, &membership);
        if !self.watching.is_empty() {
            self.watching.judge_again(membership.content.user_id);
        }
    }

    fn on_notice(&self, message: &LiveMessage) {
        let Ok(notice) = serde_json::from_slice::<UserNotice>(&message.body) else {
            // A newer service's; ours to ignore.
            return;
        };
        let user = UserId::from(message.preamble.subject);
        match notice {
            UserNotice::ConversationJoined { conversation_id: conversation, kind, joined_seq } => {
                // Of a channel only its first members are told so: nobody had left.
                let standing = Standing { conversation, kind, head: joined_seq.saturating_sub(1), leaves: 0 };
                self.fanout.borrow_mut().join(user, standing);
                self.watching.judge_again(user);
            }
            UserNotice::LoginsEnded { login_ids } => {
                self.gateway.note_revoked(&login_ids);
                self.end_logins(&login_ids);
            }
            UserNotice::Receipt(receipt) => self.tell(user, frame::receipt(&receipt)),
            UserNotice::DeviceMessages { device_id, last_seq } => {
                for connection in self.fanout.borrow().connections_of(user) {
                    if connection.device_id == device_id {
                        connection.device_queue.note(last_seq);
                    }
                }
            }
            UserNotice::DeviceConnected { device_id, connection_no } => {
                for connection in self.fanout.borrow().connections_of(user) {
                    if connection.device_id == device_id {
                        connection.note_connection_no(connection_no, false);
                    }
                }
            }
            UserNotice::MessageHidden { conversation_id, message_id } => {
                self.tell(user, frame::message_hidden(conversation_id, message_id));
            }
            UserNotice::Scheduled { message_id, event } => self.tell(user, frame::scheduled(message_id, event)),
            UserNotice::SettingsChanged { conversation_id, settings } => {
                self.tell(user, frame::settings_changed(conversation_id, &settings));
            }
            UserNotice::PrivacyChanged {} => {
                self.gateway.typing_hidden.forget();
                self.watching.judge_again(user);
            }
        }
    }

    /// Tells all connections of a user.
    fn tell(&self, user: UserId, text: String) {
        let text = ByteString::from(text);
        for connection in self.fanout.borrow().connections_of(user) {
            connection.tell(text.clone());
        }
    }

    /// Tells a connection what became of a send.
    pub(crate) fn on_sent(&self, sent: &SendResult) {
        let mut fanout = self.fanout.borrow_mut();
        let Some(connection) = fanout.connection(sent.origin) else { return };
        match &sent.result {
            Ok(Some(stored)) => {
                if sent.is_counted {
                    self.gateway.receipts.note_sent(&connection.device(), sent.conversation_id, stored.seq);
                }
                fanout.on_stored(&connection, sent.conversation_id, sent.id, *stored);
            }
            Ok(None) => {
                if let Some(id) = sent.id
                    && connection.take_pending(id)
                {
                    connection.send(frame::ack(id));
                }
            }
            Err(failure) => {
                if sent.id.is_none_or(|id| connection.forget_send(id)) {
                    connection.send(failure.frame(sent.id));
                }
            }
        }
    }

    fn end_logins(&self, logins: &[LoginId]) {
        for connection in self.fanout.borrow().connections() {
            if logins.contains(&connection.login_id.get()) {
                connection.close(CloseCode::LoginEnded);
            }
        }
    }

    fn drain(&self, spread: Duration) {
        let connections: Vec<_> = self.fanout.borrow().connections().cloned().collect();
        for connection in connections {
            let wait = spread.mul_f64(rand::random());
            let reconnect_after_ms = u64::try_from(wait.as_millis()).unwrap_or(0);
            connection.tell_draining(reconnect_after_ms);
            actix_web::rt::spawn(async move {
                tokio::time::sleep(wait).await;
                connection.close(CloseCode::Restart);
            });
        }
    }

    /// Starts a read for the holes that were noticed.
    pub(crate) fn repair_holes(self: &Rc<Self>) {
        let holes = self.fanout.borrow_mut().take_holes();
        if !holes.is_empty() {
            actix_web::rt::spawn(Rc::clone(self).repair(holes));
        }
    }

    /// Starts a read of the memberships of those who left something, and may be members again.
    pub(crate) fn check_users(self: &Rc<Self>) {
        let users = self.fanout.borrow_mut().take_to_check();
        if !users.is_empty() {
            actix_web::rt::spawn(Rc::clone(self).read_again(users));
        }
    }

    async fn read_again(self: Rc<Self>, users: AHashSet<UserId>) {
        let devices: Vec<Attaching> = {
            let fanout = self.fanout.borrow();
            let first = |user: &UserId| fanout.connections_of(*user).first().map(|connection| connection.device());
            users.iter().filter_map(first).collect()
        };
        let reads = devices.iter().map(|device| self.read_memberships(*device));
        for (device, memberships) in devices.iter().zip(join_all(reads).await) {
            self.fanout.borrow_mut().on_memberships(device.user_id, &memberships);
        }
    }

    /// Reads conversations on from the store until they have caught up with their heads.
    async fn repair(self: Rc<Self>, mut behind: Vec<(ConversationId, u64)>) {
        metrics::counter!("chat_gap_repairs_total").increment(u64::try_from(behind.len()).unwrap_or(0));
        while !behind.is_empty() {
            let rest = behind.split_off(behind.len().min(REPAIRS_AT_ONCE));
            let still_behind = self.read_on(&behind).await;
            behind = rest;
            behind.extend(still_behind);
        }
    }

    /// One read; gives what is still behind. What could not be read is looked at again at the next tick.
    async fn read_on(&self, behind: &[(ConversationId, u64)]) -> Vec<(ConversationId, u64)> {
        let ranges = {
            let fanout = self.fanout.borrow();
            let range = |&(conversation_id, after): &(_, u64)| Range {
                conversation_id,
                after,
                limit: LOG_PAGE_MAX,
                leaves_after: fanout.carried_out(conversation_id).unwrap_or(0),
            };
            behind.iter().map(range).collect()
        };
        let request = ReadRangesRequest { reader: None, ranges, bytes_max: PAGE_BYTES_MAX };
        let reads = self.gateway.call::<store::ReadRanges>(&request).await.unwrap_or_default();
        let mut fanout = self.fanout.borrow_mut();
        let mut reads = reads.into_iter();
        let mut still_behind = Vec::new();
        for &(conversation, after) in behind {
            let Some(read) = reads.next() else {
                fanout.on_repair_failed(conversation);
                continue;
            };
            if !read.is_readable {
                fanout.on_gone(conversation);
                self.watching.judge_all_again();
                continue;
            }
            // The head that was heard of is not there yet, where nothing came although everything fitted.
            let is_stuck = read.entries.is_empty() && read.left.is_empty() && !read.has_more;
            if fanout.on_repaired(read) {
                continue;
            }
            if is_stuck {
                fanout.on_repair_failed(conversation);
            } else {
                still_behind.push((conversation, fanout.forwarded(conversation).unwrap_or(after)));
            }
        }
        still_behind
    }

    /// Live messages were lost: reads on what moved, and looks whether memberships or newer connections were missed.
    async fn catch_up(self: Rc<Self>, request: CatchUp) {
        let heads = match request.changed {
            Some(heads) => heads,
            None => self.read_heads().await.into(),
        };
        while self.fanout.borrow_mut().note_heads(&heads) {
            let holes = self.fanout.borrow_mut().take_holes();
            Rc::clone(&self).repair(holes).await;
            // What could not be read, or somebody else is reading, is looked at again.
            tokio::time::sleep(TICK).await;
        }
        self.check_connections().await;
        self.watching.judge_all_again();
        // Nobody waits for this one: what is live goes on without the tracker.
        actix_web::rt::spawn(Rc::clone(&self).check_queues());
        drop(request.done);
    }

    /// The heads of all conversations of this worker.
    async fn read_heads(&self) -> Vec<Head> {
        let conversations = self.fanout.borrow().conversations();
        let mut heads = Vec::with_capacity(conversations.len());
        for conversation_ids in conversations.chunks(HEADS_MAX) {
            let request = store::HeadsRequest { conversation_ids: conversation_ids.to_vec() };
            heads.extend(self.ask_until_answered::<store::Heads>(&request).await);
        }
        heads
    }

    /// Closes connections whose device has a newer one, and reads memberships again that are others than a connection
    /// knows.
    async fn check_connections(&self) {
        let connections: Vec<_> = self.fanout.borrow().connections().cloned().collect();
        for connections in connections.chunks(CHECKS_MAX) {
            let devices = connections.iter().map(|connection| connection.device()).collect();
            let request = store::CheckConnectionsRequest { connections: devices };
            let checks = self.ask_until_answered::<store::CheckConnections>(&request).await;
            let mut behind = AHashMap::new();
            for (connection, check) in connections.iter().zip(checks) {
                connection.note_connection_no(check.connection_no, false);
                if connection.membership_version.get() == check.membership_version {
                    continue;
                }
                if connection.has_synced.get() {
                    behind.insert(connection.user_id, connection.device());
                } else {
                    connection.is_outdated.set(true);
                }
            }
            let reads = behind.values().map(|device| self.read_memberships(*device));
            for (user, memberships) in behind.keys().zip(join_all(reads).await) {
                self.fanout.borrow_mut().on_memberships(*user, &memberships);
            }
        }
    }

    /// Has connections read on whose device's queue is further than they know.
    async fn check_queues(self: Rc<Self>) {
        if self.queue_check.get() != QueueCheck::Idle {
            self.queue_check.set(QueueCheck::Again);
            return;
        }
        self.queue_check.set(QueueCheck::Again);
        while self.queue_check.replace(QueueCheck::Running) == QueueCheck::Again {
            // The others look when they sync.
            let is_open = |connection: &&Rc<Connection>| connection.device_queue.is_open();
            let connections: Vec<_> = self.fanout.borrow().connections().filter(is_open).cloned().collect();
            for connections in connections.chunks(QUEUES_MAX) {
                let device_ids = connections.iter().map(|connection| connection.device_id).collect();
                let request = ReadDeviceQueuesRequest { device_ids };
                let queues = self.ask_until_answered::<ReadDeviceQueues>(&request).await;
                for (connection, queue) in connections.iter().zip(queues) {
                    connection.device_queue.note_queue(queue);
                }
            }
        }
        self.queue_check.set(QueueCheck::Idle);
    }

    async fn ask_until_answered<M: Method>(&self, request: &M::Request) -> M::Response {
        loop {
            match self.gateway.call::<M>(request).await {
                Ok(response) => return response,
                Err(_) => pause().await,
            }
        }
    }

    async fn read_memberships(&self, device: Attaching) -> Memberships {
        loop {
            match self.gateway.store.memberships(device, true).await {
                Ok(memberships) => return memberships,
                Err(_) => pause().await,
            }
        }
    }
}

/// Between two tries; not all workers and gateways at the same moment.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(rand::random_range(200..800))).await;
}
