//! What a client does on what happens. Pure: no clock, no I/O. Time is what has passed since the client began.
//!
//! The driver tells what happened by the methods, takes what is to be done from [`Machine::next_action`] until there is
//! nothing more, and calls [`Machine::on_time`] when [`Machine::deadline`] has come.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use entrenous_model::{ConversationId, DeviceId, EntryId, UserId};
use entrenous_protocol::{Code, Entry, device_message::DeviceMessage, live::ReceiptKind};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::{
    Begin, End, Event, Options, SendError, Stats, Status, Violation,
    cursors::{CursorChange, Cursors},
    device_queue::DeviceQueue,
    event::Item,
    outbox::{Outbox, RefusalKind, Refused},
    pace::Pace,
    places::{AckPlace, Places, Settled, Take},
    receipts::{Receipt, Receipts},
    tokens::RenewError,
};
use crate::{
    Backoff, ClosedError, ConnectError, Refusal, ServerFrame, Target, Verdict,
    frame::{Body, Connected, Heartbeat, Notification, Stored, SyncComplete},
    outgoing,
};

/// A connection on which no frame came for two heartbeats and this is dead.
const HEARTBEAT_SLACK: Duration = Duration::from_secs(5);
/// Heartbeats are not expected more often than this, whatever the server says.
const HEARTBEAT_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// A frame that is not answered for so long is not going to be: the connection is given up.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// Digests, or last seqs of device messages, that differ in a row before a `sync`. Source: docs/protocol.md, section 3, heartbeats.
const DIGEST_MISMATCHES_MAX: u32 = 2;
/// Times in a row that a `sync` may leave holes, bringing nothing, before the connection is given up.
const FRUITLESS_SYNCS_MAX: u32 = 3;
/// How long a `sync` or a renewal that did not succeed waits at first and at most.
const RETRY_BASE: Duration = Duration::from_secs(1);
const RETRY_CEILING: Duration = Duration::from_secs(20);

/// Something for the driver to do.
#[derive(Debug)]
pub(super) enum Action {
    /// Open a connection with the newest token and wait for `connected`.
    Open,
    /// Give the connection up.
    Drop,
    /// Close the connection with a goodbye.
    Close,
    /// Send a text.
    Transmit(Utf8Bytes),
    /// Ask the token source.
    RenewToken,
    /// List the user's conversations and where their heads are.
    ListHeads,
    /// Tell the user.
    Tell(Box<Item>),
    /// The fate of a message; of device messages that are kept there is no more to say.
    Resolve(EntryId, Result<Option<Stored>, SendError>),
}

/// What is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Draft {
    Message(Target),
    DeviceMessages,
}

/// In the outbox device messages stand where no conversation can.
const DEVICE_MESSAGES_LANE: uuid::Uuid = uuid::Uuid::nil();

/// Why the list of heads did not come.
#[derive(Debug)]
pub(super) struct ListError {
    pub(super) is_token: bool,
}

#[derive(Debug)]
pub(super) struct Machine {
    user_id: UserId,
    device_id: DeviceId,
    options: Options,
    rng: StdRng,
    link: Link,
    backoff: Backoff,
    /// The token that there is will not do.
    needs_token: bool,
    is_renewing: bool,
    /// A connection has come about before: then the address is no mistake.
    has_connected: bool,
    incarnation: Option<String>,
    places: Places,
    outbox: Outbox,
    receipts: Receipts,
    device_queue: DeviceQueue,
    pace: Pace,
    actions: VecDeque<Action>,
    stats: Stats,
}

#[derive(Debug)]
enum Link {
    /// Between two connections.
    Waiting {
        until: Duration,
    },
    /// A token must come before the next attempt.
    Renewing,
    Opening,
    Up(Box<Up>),
    Ended(End),
}

/// A connection.
#[derive(Debug)]
struct Up {
    heard_at: Duration,
    silence_max: Duration,
    /// False while the user is too slow to take more: what has not been read cannot be missed.
    is_listening: bool,
    stage: Stage,
    /// Since when everything is live.
    live_since: Option<Duration>,
    fruitless_syncs: u32,
    digest_mismatches: u32,
    /// A `sync` for a digest was of no use.
    is_doubted: bool,
    device_seq_mismatches: u32,
    /// A `sync` for missing device messages was of no use.
    is_queue_doubted: bool,
    retry: Backoff,
    renew_at: Option<Duration>,
    authenticating: Option<(Duration, EntryId)>,
    /// When to come back after the server has stopped.
    come_back_at: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Waits for the heads of all conversations.
    Listing,
    /// Waits with the next `sync`; `is_answered`: one was sent, and refused for now.
    Pausing {
        until: Duration,
        is_answered: bool,
    },
    Syncing {
        id: EntryId,
        since: Duration,
        is_first: bool,
        has_brought: bool,
    },
    Live,
}

impl Machine {
    pub(super) fn new(user_id: UserId, device_id: DeviceId, cursors: Cursors, options: Options, seed: u64) -> Self {
        let seqs = if cursors.incarnation.is_some() { cursors.seqs } else { HashMap::new() };
        Self {
            user_id,
            device_id,
            rng: StdRng::seed_from_u64(seed),
            link: Link::Waiting { until: Duration::ZERO },
            backoff: options.backoff.clone(),
            needs_token: false,
            is_renewing: false,
            has_connected: false,
            incarnation: cursors.incarnation,
            places: Places::new(options.begin, seqs),
            // Half of what the server allows: it may still count some that this client has seen answered.
            outbox: Outbox::new((options.limits.sends_awaiting_ack / 2).max(1)),
            receipts: Receipts::default(),
            device_queue: DeviceQueue::default(),
            pace: Pace::below(options.limits.frames_per_second),
            options,
            actions: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    /// The next thing to do.
    pub(super) fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub(super) fn stats(&self) -> Stats {
        Stats { repeats: self.outbox.repeats(), ..self.stats }
    }

    /// How it ended.
    pub(super) fn end(&self) -> Option<&End> {
        match &self.link {
            Link::Ended(end) => Some(end),
            Link::Waiting { .. } | Link::Renewing | Link::Opening | Link::Up(_) => None,
        }
    }

    /// When [`Machine::on_time`] is to be called.
    pub(super) fn deadline(&mut self) -> Option<Duration> {
        let up = match &self.link {
            Link::Waiting { until } => return Some(*until),
            Link::Renewing | Link::Opening | Link::Ended(_) => return None,
            Link::Up(up) => up,
        };
        let answers =
            [up.answer_due(), self.outbox.oldest().map(|at| at + ANSWER_MAX), Some(up.heard_at + up.silence_max)];
        let answers = answers.into_iter().filter(|_| up.is_listening);
        let frames = [self.outbox_due(), self.receipts_due(), self.device_queue_due()]
            .map(|due| due.map(|due| due.max(self.pace.due())));
        let others = [up.renew_at, up.stage.due()];
        answers.chain(frames).chain(others).flatten().min()
    }

    /// Time has passed.
    pub(super) fn on_time(&mut self, now: Duration) {
        match &mut self.link {
            Link::Waiting { until } if *until <= now => self.come_back(),
            Link::Waiting { .. } | Link::Renewing | Link::Opening | Link::Ended(_) => {}
            Link::Up(up) => {
                if up.is_listening
                    && (up.is_silent(now) || self.outbox.oldest().is_some_and(|at| at + ANSWER_MAX <= now))
                {
                    return self.give_up(now);
                }
                if up.renew_at.is_some_and(|at| at <= now) {
                    up.renew_at = None;
                    self.renew_token();
                }
                self.begin_sync_if_due(now);
            }
        }
        self.transmit(now);
    }

    /// A connection is open and the server has said `connected`.
    pub(super) fn on_opened(&mut self, now: Duration, connected: Connected) {
        self.stats.connections += 1;
        self.has_connected = true;
        self.places.begin_connection();
        let is_new_log = self.incarnation.as_deref() != Some(connected.incarnation.as_str());
        self.link = Link::Up(Box::new(Up::new(now, &connected, self.options.begin == Begin::Now && is_new_log)));
        if is_new_log {
            self.forget_all(&connected.incarnation);
        }
        self.status(Status::Connected(connected));
        if is_new_log && self.options.begin == Begin::Now {
            self.actions.push_back(Action::ListHeads);
        }
        self.begin_sync_if_due(now);
        self.transmit(now);
    }

    /// No connection came about.
    pub(super) fn on_open_failed(&mut self, now: Duration, error: ConnectError) {
        match error {
            ConnectError::Closed(end) => self.on_closed(now, end),
            error if self.has_connected || error.may_pass() => {
                self.wait(now, error.retry_after().unwrap_or_default());
            }
            error => self.finish(End::NoServer(Arc::new(error))),
        }
    }

    /// The connection has ended.
    pub(super) fn on_closed(&mut self, now: Duration, end: ClosedError) {
        match Verdict::of(end.code) {
            Verdict::StayAway => self.finish(End::NotWanted(end)),
            Verdict::RenewToken => {
                self.needs_token = true;
                self.lose(now);
            }
            Verdict::ComeBack => self.lose(now),
        }
    }

    /// The program wants another connection, because it knows more of the network.
    pub(super) fn reconnect(&mut self, now: Duration) {
        match &mut self.link {
            Link::Up(_) => self.give_up(now),
            Link::Waiting { until } => *until = now,
            Link::Renewing | Link::Opening | Link::Ended(_) => {}
        }
    }

    /// The program is done.
    pub(super) fn close(&mut self) {
        self.finish(End::Closed);
    }

    /// The token source has answered; the driver has kept the new token.
    pub(super) fn on_token(&mut self, now: Duration, answer: Result<String, RenewError>) {
        self.is_renewing = false;
        match answer {
            Ok(token) => {
                self.needs_token = false;
                match &mut self.link {
                    Link::Up(up) => {
                        let id = make_id(&mut self.rng);
                        up.authenticating = Some((now, id));
                        self.transmit_now(now, outgoing::authenticate(Some(id), &token).into());
                    }
                    Link::Renewing => self.open(),
                    Link::Waiting { .. } | Link::Opening | Link::Ended(_) => {}
                }
            }
            Err(RenewError::LoginEnded { source }) => self.finish(End::LoginEnded(source)),
            Err(RenewError::NotNow { retry_after }) => match &mut self.link {
                Link::Up(up) => {
                    let wait = up.retry.next_delay_at(self.rng.random());
                    up.renew_at = Some(now + retry_after.unwrap_or_default() + wait);
                }
                Link::Renewing => self.wait(now, retry_after.unwrap_or_default()),
                Link::Waiting { .. } | Link::Opening | Link::Ended(_) => {}
            },
        }
    }

    /// The heads of the user's conversations have come.
    pub(super) fn on_heads(&mut self, now: Duration, heads: Result<Vec<(ConversationId, u64)>, ListError>) {
        let Link::Up(up) = &mut self.link else { return };
        if up.stage != Stage::Listing {
            return;
        }
        match heads {
            Ok(heads) => {
                up.stage = Stage::Pausing { until: now, is_answered: false };
                for (conversation_id, seq) in heads {
                    self.places.set(conversation_id, seq);
                    self.keep(CursorChange::Advance { conversation_id, seq });
                }
                self.begin_sync_if_due(now);
                self.transmit(now);
            }
            Err(error) => {
                // Without its heads the next connection must list them again.
                self.incarnation = None;
                self.needs_token |= error.is_token;
                self.give_up(now);
            }
        }
    }

    /// Takes a message on its way. Its id must not wait already: two under one id could not be told apart.
    pub(super) fn send(&mut self, now: Duration, draft: Draft, id: EntryId, text: Utf8Bytes) {
        if let Link::Ended(end) = &self.link {
            let error = SendError::Ended(end.clone());
            return self.actions.push_back(Action::Resolve(id, Err(error)));
        }
        let conversation = match draft {
            Draft::Message(Target::User(user_id)) => ConversationId::direct(self.user_id, user_id),
            Draft::Message(Target::Conversation(conversation_id)) => conversation_id,
            Draft::DeviceMessages => DEVICE_MESSAGES_LANE.into(),
        };
        self.outbox.add(conversation, id, text);
        self.transmit(now);
    }

    /// The server is to hear of this.
    pub(super) fn owe_receipt(&mut self, now: Duration, receipt: Receipt) {
        self.receipts.owe(now, receipt);
        self.transmit(now);
    }

    /// The program has what it was told up to here.
    pub(super) fn acknowledge_device_messages(&mut self, now: Duration, up_to: u64) {
        self.device_queue.acknowledge(now, up_to);
        self.transmit(now);
    }

    /// Whether frames are read: while the user is too slow they are not, and then none can be missed.
    pub(super) fn set_listening(&mut self, now: Duration, is_listening: bool) {
        if let Link::Up(up) = &mut self.link
            && up.is_listening != is_listening
        {
            up.is_listening = is_listening;
            up.heard_at = now;
        }
    }

    /// The server has said something.
    pub(super) fn on_frame(&mut self, now: Duration, frame: ServerFrame) {
        let Link::Up(up) = &mut self.link else { return };
        up.heard_at = now;
        match frame.body {
            Body::Entry(entry) => self.take_entry(entry),
            Body::Ack(stored) => self.take_ack(now, frame.id, stored),
            Body::Error(refusal) => self.take_refusal(now, frame.id, refusal),
            Body::SyncComplete(complete) => self.end_sync(now, frame.id, &complete),
            Body::Heartbeat(heartbeat) => {
                self.compare_digest(now, &heartbeat);
                self.compare_device_seq(now, heartbeat.device_seq);
            }
            Body::DeviceMessage(message) => self.take_device_message(message),
            Body::TokenExpiring { .. } => self.renew_token(),
            Body::Draining { reconnect_after_ms } => {
                up.come_back_at = Some(now + Duration::from_millis(reconnect_after_ms));
            }
            Body::Degraded => self.status(Status::Degraded),
            Body::Restored => self.status(Status::Restored),
            Body::Notification(note) => self.take_notification(note),
            Body::Pong | Body::Connected(_) => {}
            body @ (Body::Delivered(_) | Body::Read(_) | Body::Typing(_) | Body::Status(_) | Body::Unknown { .. }) => {
                self.tell(Event::Frame(Box::new(body)));
            }
        }
        self.begin_sync_if_due(now);
        self.transmit(now);
    }

    fn take_entry(&mut self, entry: Box<Entry>) {
        let (conversation_id, id, seq) = (entry.conversation_id, entry.id, entry.seq);
        let is_own = entry.sender_device_id == Some(self.device_id);
        let take = self.places.take_entry(conversation_id, seq, is_own);
        self.tell_settled();
        match take {
            Take::Deliver => {
                self.note_progress();
                let stored = Stored { conversation_id, seq, sent_at: entry.sent_at };
                let event = Some(Event::Entry(entry));
                let change = Some(CursorChange::Advance { conversation_id, seq });
                self.actions.push_back(Action::Tell(Box::new(Item { event, change })));
                if is_own && self.outbox.see(conversation_id, id) {
                    self.acknowledge(id, stored, false, None);
                }
            }
            Take::Pass => {}
            Take::Violation(violation) => self.tell_violation(violation),
        }
    }

    fn take_ack(&mut self, now: Duration, id: Option<EntryId>, stored: Option<Stored>) {
        let Some(id) = id else { return };
        let Some(stored) = stored else {
            self.receipts.answer(now, id, false);
            self.device_queue.answer(now, id, false);
            if self.outbox.acknowledge(id) {
                self.actions.push_back(Action::Resolve(id, Ok(None)));
            }
            if let Link::Up(up) = &mut self.link
                && up.authenticating.is_some_and(|(_, authenticating)| authenticating == id)
            {
                up.authenticating = None;
            }
            return;
        };
        let Stored { conversation_id, seq, .. } = stored;
        let is_repeat = self.outbox.is_repeat(id);
        let is_awaited = self.outbox.acknowledge(id);
        match self.places.take_ack(id, stored, is_repeat) {
            AckPlace::InPlace => {
                self.note_progress();
                self.acknowledge(id, stored, true, Some(CursorChange::Advance { conversation_id, seq }));
            }
            AckPlace::Unclear => self.actions.push_back(Action::Resolve(id, Ok(Some(stored)))),
            AckPlace::Apart if is_awaited => self.acknowledge(id, stored, false, None),
            AckPlace::Apart => {}
            AckPlace::Violation(violation) => {
                if is_awaited {
                    self.acknowledge(id, stored, false, None);
                }
                self.tell_violation(violation);
            }
        }
    }

    fn acknowledge(&mut self, id: EntryId, stored: Stored, in_place: bool, change: Option<CursorChange>) {
        let event = Some(Event::Acknowledged { id, stored, in_place });
        self.actions.push_back(Action::Tell(Box::new(Item { event, change })));
        self.actions.push_back(Action::Resolve(id, Ok(Some(stored))));
    }

    fn take_refusal(&mut self, now: Duration, id: Option<EntryId>, refusal: Box<Refusal>) {
        let Link::Up(up) = &mut self.link else { return };
        let Some(id) = id else { return };
        if let Stage::Syncing { id: syncing, .. } = up.stage
            && syncing == id
        {
            return self.take_sync_refusal(now, refusal);
        }
        if up.authenticating.is_some_and(|(_, authenticating)| authenticating == id) {
            up.authenticating = None;
            up.renew_at = Some(now + up.retry.next_delay_at(self.rng.random()));
            return;
        }
        let is_unknown = refusal.is_outcome_unknown();
        if self.receipts.answer(now, id, is_unknown) || self.device_queue.answer(now, id, is_unknown) {
            return;
        }
        let kind = if is_unknown {
            RefusalKind::OutcomeUnknown { is_internal: refusal.is(Code::Internal), retry_after: refusal.retry_after }
        } else {
            RefusalKind::Definite
        };
        match self.outbox.refuse(now, id, kind, self.rng.random()) {
            Refused::Failed => {
                self.tell(Event::Refused { id, refusal: refusal.clone() });
                self.actions.push_back(Action::Resolve(id, Err(SendError::Refused(refusal))));
            }
            Refused::Repeats | Refused::Unknown => {}
        }
    }

    fn take_sync_refusal(&mut self, now: Duration, refusal: Box<Refusal>) {
        let Link::Up(up) = &mut self.link else { return };
        if !refusal.is_outcome_unknown() {
            return self.finish(End::SyncRefused(refusal));
        }
        let wait = refusal.retry_after.unwrap_or_default() + up.retry.next_delay_at(self.rng.random());
        up.stage = Stage::Pausing { until: now + wait, is_answered: true };
        self.places.fail_sync();
    }

    fn take_notification(&mut self, note: Notification) {
        let mut change = None;
        match (note.event.as_str(), note.conversation_id, note.seq) {
            ("conversation_joined", Some(conversation), Some(seq)) => self.places.join(conversation, seq),
            ("conversation_left", Some(conversation_id), _) => {
                self.places.forget(conversation_id);
                self.tell_settled();
                self.receipts.forget(conversation_id);
                change = Some(CursorChange::Forget { conversation_id });
            }
            _ => {}
        }
        let event = Some(Event::Frame(Box::new(Body::Notification(note))));
        self.actions.push_back(Action::Tell(Box::new(Item { event, change })));
    }

    fn end_sync(&mut self, now: Duration, id: Option<EntryId>, complete: &SyncComplete) {
        let Link::Up(up) = &mut self.link else { return };
        let Stage::Syncing { id: syncing, has_brought, .. } = up.stage else { return };
        if id != Some(syncing) {
            return;
        }
        up.retry.reset();
        let end = self.places.end_sync(&complete.conversations);
        self.tell_settled();
        let Link::Up(up) = &mut self.link else { return };
        let is_fruitless = !has_brought && end.rewound.is_empty() && self.places.needs_sync();
        up.fruitless_syncs = if is_fruitless { up.fruitless_syncs + 1 } else { 0 };
        if up.fruitless_syncs >= FRUITLESS_SYNCS_MAX {
            return self.give_up(now);
        }
        if self.places.needs_sync() {
            up.stage = Stage::Pausing { until: now, is_answered: true };
        } else {
            up.stage = Stage::Live;
            if up.live_since.replace(now).is_none() {
                self.status(Status::Live);
            }
        }
        for conversation_id in end.rewound {
            self.receipts.forget(conversation_id);
            let event = Some(Event::Rewound { conversation_id: Some(conversation_id) });
            let change = Some(CursorChange::Forget { conversation_id });
            self.actions.push_back(Action::Tell(Box::new(Item { event, change })));
        }
        for violation in end.violations {
            self.tell_violation(violation);
        }
    }

    fn compare_digest(&mut self, now: Duration, heartbeat: &Heartbeat) {
        let Link::Up(up) = &mut self.link else { return };
        let (Some(theirs), Some(own), Stage::Live) = (&heartbeat.digest, self.places.digest(), up.stage) else {
            up.digest_mismatches = 0;
            return;
        };
        if u64::from_str_radix(theirs, 16) == Ok(own) {
            (up.digest_mismatches, up.is_doubted) = (0, false);
            return;
        }
        self.stats.digest_mismatches += 1;
        up.digest_mismatches += 1;
        if up.digest_mismatches < DIGEST_MISMATCHES_MAX {
            return;
        }
        up.digest_mismatches = 0;
        if std::mem::replace(&mut up.is_doubted, true) {
            return self.give_up(now);
        }
        self.places.doubt_all();
    }

    fn take_device_message(&mut self, message: Box<DeviceMessage>) {
        if self.device_queue.take(message.seq) {
            self.tell(Event::DeviceMessage(message));
        }
    }

    fn compare_device_seq(&mut self, now: Duration, theirs: u64) {
        let Link::Up(up) = &mut self.link else { return };
        if up.stage != Stage::Live {
            up.device_seq_mismatches = 0;
            return;
        }
        if !self.device_queue.is_behind(theirs) {
            (up.device_seq_mismatches, up.is_queue_doubted) = (0, false);
            return;
        }
        self.stats.device_seq_mismatches += 1;
        up.device_seq_mismatches += 1;
        if up.device_seq_mismatches < DIGEST_MISMATCHES_MAX {
            return;
        }
        up.device_seq_mismatches = 0;
        // A server that believes that it has sent them sends them again on another connection only.
        if std::mem::replace(&mut up.is_queue_doubted, true) {
            return self.give_up(now);
        }
        up.stage = Stage::Pausing { until: now, is_answered: true };
    }

    /// Begins a `sync` where one is owed and none is under way.
    fn begin_sync_if_due(&mut self, now: Duration) {
        let Link::Up(up) = &mut self.link else { return };
        let is_due = match up.stage {
            Stage::Pausing { until, .. } => until <= now,
            Stage::Live => self.places.needs_sync(),
            Stage::Listing | Stage::Syncing { .. } => false,
        };
        if !is_due {
            return;
        }
        let id = make_id(&mut self.rng);
        let is_first = matches!(up.stage, Stage::Pausing { is_answered: false, .. });
        up.stage = Stage::Syncing { id, since: now, is_first, has_brought: false };
        let start = self.places.begin_sync(self.options.sync_limit);
        self.stats.syncs += 1;
        self.transmit_now(now, outgoing::sync(id, &start).into());
    }

    /// Something of use has come.
    fn note_progress(&mut self) {
        if let Link::Up(up) = &mut self.link
            && let Stage::Syncing { has_brought, .. } = &mut up.stage
        {
            *has_brought = true;
        }
    }

    /// Sends what may leave. Messages wait until the connection's first `sync` has been answered: until then the server
    /// does not say in which place their `ack` stands.
    fn transmit(&mut self, now: Duration) {
        while self.pace.due() <= now && self.outbox_due().is_some() {
            let Some(text) = self.outbox.next(now) else { break };
            self.transmit_now(now, text);
        }
        while self.pace.due() <= now && self.receipts_due().is_some() {
            let id = make_id(&mut self.rng);
            let Some(Receipt { kind, conversation, seq }) = self.receipts.next(now, id) else { break };
            let text = match kind {
                ReceiptKind::Delivered => outgoing::delivery_receipt(Some(id), conversation, seq),
                ReceiptKind::Read => outgoing::read_receipt(Some(id), conversation, seq),
            };
            self.transmit_now(now, text.into());
        }
        if self.pace.due() <= now && self.device_queue_due().is_some() {
            let id = make_id(&mut self.rng);
            if let Some(up_to) = self.device_queue.next(now, id) {
                self.transmit_now(now, outgoing::device_message_ack(Some(id), up_to).into());
            }
        }
    }

    fn transmit_now(&mut self, now: Duration, text: Utf8Bytes) {
        self.pace.count(now);
        self.actions.push_back(Action::Transmit(text));
    }

    fn outbox_due(&self) -> Option<Duration> {
        if self.may_send() { self.outbox.due() } else { None }
    }

    fn receipts_due(&self) -> Option<Duration> {
        if self.may_send() { self.receipts.due() } else { None }
    }

    fn device_queue_due(&self) -> Option<Duration> {
        if self.may_send() { self.device_queue.due() } else { None }
    }

    fn may_send(&self) -> bool {
        let Link::Up(up) = &self.link else { return false };
        match up.stage {
            Stage::Listing | Stage::Pausing { is_answered: false, .. } | Stage::Syncing { is_first: true, .. } => false,
            Stage::Pausing { is_answered: true, .. } | Stage::Syncing { is_first: false, .. } | Stage::Live => true,
        }
    }

    fn renew_token(&mut self) {
        if !std::mem::replace(&mut self.is_renewing, true) {
            self.actions.push_back(Action::RenewToken);
        }
    }

    fn come_back(&mut self) {
        if self.needs_token || self.is_renewing {
            self.link = Link::Renewing;
            self.renew_token();
        } else {
            self.open();
        }
    }

    fn open(&mut self) {
        self.link = Link::Opening;
        self.stats.attempts += 1;
        self.actions.push_back(Action::Open);
    }

    /// The connection is of no use any more.
    fn give_up(&mut self, now: Duration) {
        self.actions.push_back(Action::Drop);
        self.lose(now);
    }

    /// The connection is gone; another one will come.
    fn lose(&mut self, now: Duration) {
        self.outbox.lose_connection();
        self.receipts.lose_connection(now);
        self.device_queue.lose_connection(now);
        self.places.begin_connection();
        self.tell_settled();
        let mut told = None;
        if let Link::Up(up) = &self.link {
            told = up.come_back_at;
            if up.live_since.is_some_and(|since| now.saturating_sub(since) >= self.options.stable_after) {
                self.backoff.reset();
            }
        }
        match told {
            // The server has spread its clients over the time that it names.
            Some(at) => self.wait_until(now, at.max(now)),
            None => self.wait(now, Duration::ZERO),
        }
    }

    /// Waits at least so long.
    fn wait(&mut self, now: Duration, least: Duration) {
        let point = if self.options.has_jitter { self.rng.random() } else { 1.0 };
        let until = now + least + self.backoff.next_delay_at(point);
        self.wait_until(now, until);
    }

    fn wait_until(&mut self, now: Duration, until: Duration) {
        self.link = Link::Waiting { until };
        self.status(Status::Reconnecting { attempts: self.backoff.attempts(), after: until.saturating_sub(now) });
    }

    fn finish(&mut self, end: End) {
        match self.link {
            Link::Ended(_) => return,
            Link::Up(_) => self.actions.push_back(Action::Close),
            Link::Waiting { .. } | Link::Renewing | Link::Opening => {}
        }
        for id in self.outbox.drain() {
            self.actions.push_back(Action::Resolve(id, Err(SendError::Ended(end.clone()))));
        }
        self.status(Status::Ended(end.clone()));
        self.link = Link::Ended(end);
    }

    fn forget_all(&mut self, incarnation: &str) {
        let is_restored = self.incarnation.replace(incarnation.to_owned()).is_some();
        self.places.clear();
        self.receipts = Receipts::default();
        self.device_queue = DeviceQueue::default();
        let event = is_restored.then_some(Event::Rewound { conversation_id: None });
        let change = Some(CursorChange::Reset { incarnation: incarnation.to_owned() });
        self.actions.push_back(Action::Tell(Box::new(Item { event, change })));
    }

    fn tell_settled(&mut self) {
        for Settled { id, stored, in_place } in self.places.take_settled() {
            let Stored { conversation_id, seq, .. } = stored;
            let event = Some(Event::Acknowledged { id, stored, in_place });
            let change = in_place.then_some(CursorChange::Advance { conversation_id, seq });
            self.actions.push_back(Action::Tell(Box::new(Item { event, change })));
        }
    }

    fn tell_violation(&mut self, violation: Violation) {
        self.stats.violations += 1;
        self.tell(Event::Violation(violation));
    }

    fn status(&mut self, status: Status) {
        self.tell(Event::Status(status));
    }

    fn tell(&mut self, event: Event) {
        self.actions.push_back(Action::Tell(Box::new(Item { event: Some(event), change: None })));
    }

    fn keep(&mut self, change: CursorChange) {
        self.actions.push_back(Action::Tell(Box::new(Item { event: None, change: Some(change) })));
    }
}

impl Up {
    fn new(now: Duration, connected: &Connected, is_listing: bool) -> Self {
        let interval = Duration::from_millis(connected.heartbeat_interval_ms).max(HEARTBEAT_INTERVAL_MIN);
        Self {
            heard_at: now,
            silence_max: interval * 2 + HEARTBEAT_SLACK,
            is_listening: true,
            stage: if is_listing { Stage::Listing } else { Stage::Pausing { until: now, is_answered: false } },
            live_since: None,
            fruitless_syncs: 0,
            digest_mismatches: 0,
            is_doubted: false,
            device_seq_mismatches: 0,
            is_queue_doubted: false,
            retry: Backoff::new(RETRY_BASE, RETRY_CEILING),
            renew_at: None,
            authenticating: None,
            come_back_at: None,
        }
    }

    /// Until when the server must have answered to `sync` and `authenticate`.
    fn answer_due(&self) -> Option<Duration> {
        let syncing = match self.stage {
            // What a sync brings is its answer too.
            Stage::Syncing { since, .. } => Some(since.max(self.heard_at)),
            Stage::Listing | Stage::Pausing { .. } | Stage::Live => None,
        };
        let authenticating = self.authenticating.map(|(since, _)| since);
        syncing.into_iter().chain(authenticating).min().map(|since| since + ANSWER_MAX)
    }

    fn is_silent(&self, now: Duration) -> bool {
        self.heard_at + self.silence_max <= now || self.answer_due().is_some_and(|at| at <= now)
    }
}

impl Stage {
    fn due(self) -> Option<Duration> {
        match self {
            Self::Pausing { until, .. } => Some(until),
            Self::Listing | Self::Syncing { .. } | Self::Live => None,
        }
    }
}

/// Frames that create nothing need an id only to find their answer.
fn make_id(rng: &mut StdRng) -> EntryId {
    uuid::Builder::from_random_bytes(rng.random()).into_uuid().into()
}

#[cfg(test)]
mod tests;
