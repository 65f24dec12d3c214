//! One worker: the connections of one of the server's threads, and what reaches them.

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use entrenous_bus::{LiveEvent, LiveSubscription};
use entrenous_model::{ConversationId, LoginId, UserId};
use entrenous_protocol::{
    CloseCode,
    limits::{LOG_PAGE_MAX, PAGE_BYTES_MAX},
    live::{LiveKind, LiveMessage, UserNotice},
    rpc::store::{self, HEADS_MAX, Range, ReadRangesRequest},
};
use tokio::sync::mpsc;

use crate::{fanout::Fanout, sends::SendResult, state::Gateway};

/// Events that wait for a worker. It never waits for a client, so the queue is nearly always empty.
const EVENTS_MAX: usize = 4_096;
/// How often lost live messages are looked for.
const TICK: Duration = Duration::from_millis(250);
/// How many ticks what nobody wanted is remembered at least: longer than a read of heads may take.
const UNCLAIMED_TICKS: u32 = 60;

/// What reaches a worker from outside its thread.
#[derive(Debug, Clone)]
pub enum WorkerEvent {
    /// Live messages, in the order of each publisher.
    Live(Arc<[LiveMessage]>),
    /// NATS was away: anything may have been missed.
    Interrupted,
    /// What became of sends.
    Sent(Arc<[SendResult]>),
    /// Logins that ended.
    LoginsEnded(Arc<[LoginId]>),
    /// The gateway stops: say so, then close with 1012, spread over this time.
    Drain(Duration),
}

/// One worker's connections.
pub(crate) struct Worker {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) fanout: RefCell<Fanout>,
    /// Where results of sends go.
    pub(crate) events: mpsc::Sender<WorkerEvent>,
}

impl Worker {
    /// Starts the worker of the present thread.
    pub(crate) fn start(gateway: Arc<Gateway>) -> Rc<Self> {
        let (events, inbox) = mpsc::channel(EVENTS_MAX);
        gateway.add_worker(events.clone());
        let worker = Rc::new(Self { gateway, fanout: RefCell::default(), events });
        actix_web::rt::spawn(Rc::clone(&worker).run(inbox));
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
                    if count.is_multiple_of(UNCLAIMED_TICKS) {
                        self.fanout.borrow_mut().age_unclaimed();
                    }
                }
            }
            self.repair_holes();
        }
    }

    fn on_event(self: &Rc<Self>, event: WorkerEvent) {
        match event {
            WorkerEvent::Live(messages) => {
                for message in messages.iter() {
                    match message.preamble.kind {
                        LiveKind::Entry => self.fanout.borrow_mut().on_live_entry(message),
                        LiveKind::UserNotice => self.on_notice(message),
                    }
                }
            }
            WorkerEvent::Interrupted => drop(actix_web::rt::spawn(Rc::clone(self).compare_heads())),
            WorkerEvent::Sent(results) => {
                for result in results.iter() {
                    self.on_sent(result);
                }
            }
            WorkerEvent::LoginsEnded(logins) => self.end_logins(&logins),
            WorkerEvent::Drain(spread) => self.drain(spread),
        }
    }

    fn on_notice(&self, message: &LiveMessage) {
        let Ok(notice) = serde_json::from_slice::<UserNotice>(&message.body) else {
            // A newer service's; ours to ignore.
            return;
        };
        let user = UserId::from(message.preamble.subject);
        match notice {
            UserNotice::ConversationJoined { conversation_id, joined_seq, .. } => {
                self.fanout.borrow_mut().join(user, conversation_id, joined_seq);
            }
            UserNotice::LoginsEnded { login_ids } => {
                self.gateway.note_revoked(&login_ids);
                self.end_logins(&login_ids);
            }
            UserNotice::DeviceConnected { device_id, connection_no } => {
                for connection in self.fanout.borrow().connections_of(user) {
                    if connection.device_id == device_id {
                        connection.note_connection_no(connection_no, false);
                    }
                }
            }
        }
    }

    fn on_sent(&self, sent: &SendResult) {
        let mut fanout = self.fanout.borrow_mut();
        let Some(connection) = fanout.connection(sent.origin) else { return };
        match &sent.result {
            Ok(stored) => fanout.on_stored(&connection, sent.conversation_id, sent.id, *stored),
            Err(failure) => {
                if connection.forget_send(sent.id) {
                    connection.send(failure.frame(Some(sent.id)));
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
            connection.send(entrenous_protocol::frame::draining(reconnect_after_ms));
            actix_web::rt::spawn(async move {
                tokio::time::sleep(wait).await;
                connection.close(CloseCode::Restart);
            });
        }
    }

    /// Starts a read for every hole that was noticed.
    pub(crate) fn repair_holes(self: &Rc<Self>) {
        for (conversation, after) in self.fanout.borrow_mut().take_holes() {
            actix_web::rt::spawn(Rc::clone(self).repair(conversation, after));
        }
    }

    async fn repair(self: Rc<Self>, conversation: ConversationId, mut after: u64) {
        metrics::counter!("chat_gap_repairs_total").increment(1);
        loop {
            let range = Range { conversation_id: conversation, after, limit: LOG_PAGE_MAX };
            let request = ReadRangesRequest { reader: None, ranges: vec![range], bytes_max: PAGE_BYTES_MAX };
            let read = self.gateway.call::<store::ReadRanges>(&request).await;
            let Some(read) = read.ok().and_then(|mut reads| reads.pop()).filter(|read| read.is_readable) else {
                self.fanout.borrow_mut().on_repair_failed(conversation);
                return;
            };
            let is_stuck = read.entries.is_empty() && read.last_seq <= after;
            let mut fanout = self.fanout.borrow_mut();
            if fanout.on_repaired(conversation, read.entries, read.last_seq) {
                return;
            }
            after = fanout.forwarded(conversation).unwrap_or(after);
            if is_stuck {
                // The head that we heard of is not there yet: the next tick looks again.
                fanout.on_repair_failed(conversation);
                return;
            }
        }
    }

    /// After an interruption: every conversation that moved meanwhile is behind its head.
    async fn compare_heads(self: Rc<Self>) {
        let conversations = self.fanout.borrow().conversations();
        for conversation_ids in conversations.chunks(HEADS_MAX) {
            let request = store::HeadsRequest { conversation_ids: conversation_ids.to_vec() };
            loop {
                match self.gateway.call::<store::Heads>(&request).await {
                    Ok(heads) => {
                        let mut fanout = self.fanout.borrow_mut();
                        for head in heads {
                            fanout.note_head(head.conversation_id, head.last_seq);
                        }
                        break;
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(rand::random_range(200..800))).await,
                }
            }
        }
    }
}

/// Hands live messages to all workers until the stop.
pub(crate) async fn distribute(gateway: Arc<Gateway>, mut live: LiveSubscription) {
    while let Some(event) = live.next().await {
        match event {
            LiveEvent::Messages(messages) if messages.is_empty() => {}
            LiveEvent::Messages(messages) => gateway.tell_workers(WorkerEvent::Live(messages.into())).await,
            LiveEvent::Interrupted => gateway.tell_workers(WorkerEvent::Interrupted).await,
        }
    }
}
