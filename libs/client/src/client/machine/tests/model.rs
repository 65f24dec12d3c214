//! A server as docs/protocol.md, section 3, describes it, the network before it, and the user behind the machine.

use std::collections::{BTreeMap, HashMap, VecDeque};

use entrenous_protocol::{
    Limits,
    device_message::NewDeviceMessage,
    entry::EntryKind,
    frame::{ClientFrame, SyncFrom, SyncRequest, SyncedConversation, SyncedQueue, parse},
};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::*;
use crate::OutgoingMessage;

pub(super) const CONVERSATIONS: usize = 3;
/// Rounds until everything must be at rest.
const ROUNDS_MAX: usize = 2_000;

#[derive(Debug, Clone, Copy)]
pub(super) enum Op {
    Send(usize),
    OtherWrites(usize),
    /// The client sends messages to devices.
    SendToDevices,
    /// Somebody sends one to this device.
    DeviceMessage,
    /// The user keeps so many of the device messages that they were told, and says so.
    KeepDeviceMessages(usize),
    /// The connection is told of a conversation that has begun.
    Begin(usize),
    /// The server takes so many of the client's frames; how lucky they are.
    ServerWorks(usize, u8),
    NetworkDelivers(usize),
    Break(Option<u16>),
    /// Nothing arrives until the client gives the connection up.
    Silence,
    /// Milliseconds.
    Pass(u64),
    /// The wait is over; whether the attempt succeeds.
    Attempt(bool),
    Heartbeat,
    TokenExpiring,
    Draining(u64),
    Fault(Fault),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    Lose,
    Repeat,
    /// All further device messages of this connection: a single one cannot be told from one whose time was over.
    LoseDeviceMessages,
}

#[derive(Debug, Clone, Copy)]
struct Stored {
    id: EntryId,
    is_own: bool,
}

/// The server's side of a connection.
#[derive(Debug, Default)]
struct Peer {
    from_client: VecDeque<String>,
    to_client: VecDeque<ServerFrame>,
    /// Per live conversation the last seq that the server believes it sent.
    live: HashMap<usize, u64>,
    /// The last seq sent on this connection.
    last_sent: [u64; CONVERSATIONS],
    has_synced: bool,
    /// The last device message that the server believes it sent.
    device_seq: u64,
    loses_device_messages: bool,
}

pub(super) struct World {
    pub(super) machine: Machine,
    pub(super) now: Duration,
    pub(super) renewals: u32,
    pub(super) told_rewound: Vec<Option<ConversationId>>,
    logs: [Vec<Stored>; CONVERSATIONS],
    /// Entries that this device had acknowledged before.
    acknowledged: [usize; CONVERSATIONS],
    /// Whether connections know of it; one that has not begun is created by its first message.
    has_begun: [bool; CONVERSATIONS],
    incarnation: String,
    peer: Option<Peer>,
    is_opening: bool,
    is_renewing: bool,
    answers_tokens: bool,
    fault: Option<Fault>,
    next_id: u128,
    /// What the user has been told of each log.
    told: [Vec<EntryId>; CONVERSATIONS],
    fates: BTreeMap<EntryId, Result<Option<crate::frame::Stored>, SendError>>,
    /// Not yet resolved, in the order of the calls.
    queued: [Vec<EntryId>; CONVERSATIONS],
    /// Of those the ones that were sent on this connection and not answered.
    under_way: Vec<EntryId>,
    /// Seqs that wait for this device, and the last one that was given.
    queue: VecDeque<u64>,
    device_seq: u64,
    /// Seqs of device messages that the user was told, and up to where they have kept them.
    told_device: Vec<u64>,
    kept_device: u64,
    /// Device messages that the client was given to send, and those that the server has, by their frames.
    sent_to_devices: Vec<EntryId>,
    at_devices: Vec<EntryId>,
}

fn id<T: From<uuid::Uuid>>(number: u128) -> T {
    uuid::Uuid::from_u128(number).into()
}

pub(super) fn conversation(number: usize) -> ConversationId {
    id(0xc0 + u128::try_from(number).unwrap())
}

fn number_of(conversation: ConversationId) -> usize {
    usize::try_from(conversation.as_uuid().as_u128() - 0xc0).unwrap()
}

fn seq_of(length: usize) -> u64 {
    u64::try_from(length).unwrap()
}

fn sent_at() -> entrenous_model::Timestamp {
    serde_json::from_str("\"2026-11-20T10:30:00.123Z\"").unwrap()
}

fn own_device() -> DeviceId {
    id(2)
}

fn entry(conversation_id: ConversationId, seq: u64, stored: Stored) -> ServerFrame {
    let entry = Entry {
        id: stored.id,
        conversation_id,
        seq,
        kind: EntryKind::Message,
        sender_id: id(1),
        sender_device_id: stored.is_own.then(own_device),
        message_type: None,
        content: None,
        target_id: None,
        superseded_by: None,
        reply_to: None,
        thread_id: None,
        attachments: Vec::new(),
        mentions: Vec::new(),
        metadata: RawValue::NULL.to_owned(),
        signature: None,
        sent_at: sent_at(),
        edited_at: None,
        edit_count: 0,
        deleted: false,
        expires_at: None,
    };
    ServerFrame { id: Some(stored.id), body: Body::Entry(Box::new(entry)) }
}

fn ack(id: EntryId, conversation_id: ConversationId, seq: u64) -> ServerFrame {
    let stored = crate::frame::Stored { conversation_id, seq, sent_at: sent_at() };
    ServerFrame { id: Some(id), body: Body::Ack(Some(stored)) }
}

fn event(body: Body) -> ServerFrame {
    ServerFrame { id: None, body }
}

impl World {
    pub(super) fn new(seed: u64, sync_limit: Option<u32>) -> Self {
        Self::with(seed, Options { begin: Begin::Start, sync_limit, ..Options::default() })
    }

    pub(super) fn with(seed: u64, options: Options) -> Self {
        Self {
            machine: Machine::new(id(1), own_device(), Cursors::default(), options, seed),
            now: Duration::ZERO,
            renewals: 0,
            told_rewound: Vec::new(),
            logs: Default::default(),
            acknowledged: [0; CONVERSATIONS],
            has_begun: [true; CONVERSATIONS],
            incarnation: "1".to_owned(),
            peer: None,
            is_opening: false,
            is_renewing: false,
            answers_tokens: true,
            fault: None,
            next_id: 1_000,
            told: Default::default(),
            fates: BTreeMap::new(),
            queued: Default::default(),
            under_way: Vec::new(),
            queue: VecDeque::new(),
            device_seq: 0,
            told_device: Vec::new(),
            kept_device: 0,
            sent_to_devices: Vec::new(),
            at_devices: Vec::new(),
        }
    }

    /// Conversations of all kinds: with entries of old, without any, and some that only begin.
    pub(super) fn mixed(seed: u64, sync_limit: Option<u32>) -> Self {
        let mut world = Self::with(seed, Options { sync_limit, ..Options::default() });
        for (lane, kind) in [seed, seed / 3, seed / 9].into_iter().enumerate() {
            match kind % 3 {
                0 => {
                    world.logs[lane] = (1..=2).map(|number| Stored { id: id(number), is_own: false }).collect();
                    world.acknowledged[lane] = 2;
                }
                1 => world.has_begun[lane] = false,
                _ => {}
            }
        }
        world
    }

    pub(super) fn apply(&mut self, op: Op) {
        match op {
            Op::Send(lane) => self.send(lane),
            Op::OtherWrites(lane) => {
                let stored = Stored { id: self.make_id(), is_own: false };
                self.store(lane, stored, None);
            }
            Op::SendToDevices => self.send_to_devices(),
            Op::DeviceMessage => self.queue_device_message(),
            Op::KeepDeviceMessages(count) => self.keep_device_messages(count),
            Op::Begin(lane) => self.begin(lane),
            Op::ServerWorks(count, luck) => (0..count).for_each(|_| self.serve(luck)),
            Op::NetworkDelivers(count) => (0..count).for_each(|_| self.deliver()),
            Op::Break(code) => self.end_connection(code),
            Op::Silence => self.be_silent(),
            Op::Pass(ms) => self.pass(at(ms)),
            Op::Attempt(succeeds) => self.attempt(succeeds),
            Op::Heartbeat => self.heartbeat(),
            Op::TokenExpiring => self.say(Body::TokenExpiring { expires_in_ms: 60_000 }),
            Op::Draining(reconnect_after_ms) => self.say(Body::Draining { reconnect_after_ms }),
            Op::Fault(fault) => self.fault = Some(fault),
        }
        self.act();
    }

    /// Everything works from here on: in the end everything must be as it should.
    pub(super) fn come_to_rest(&mut self) {
        self.fault = None;
        self.answers_tokens = true;
        for round in 0.. {
            self.settle();
            if self.is_at_rest() {
                break;
            }
            let told: Vec<_> = self.told.iter().map(Vec::len).collect();
            let length: Vec<_> = self.logs.iter().map(Vec::len).collect();
            assert!(round < ROUNDS_MAX, "no rest: {:?} told {told:?} of {length:?}", self.machine.link);
            (0..CONVERSATIONS).for_each(|lane| self.begin(lane));
            self.keep_device_messages(usize::MAX);
            self.heartbeat();
            self.pass(at(500));
        }
        for (lane, told) in self.told.iter().enumerate() {
            let ids: Vec<_> = self.wanted(lane).iter().map(|stored| stored.id).collect();
            assert_eq!(told, &ids, "every entry once and in order");
        }
        let every = (1..=self.device_seq).collect::<Vec<_>>();
        assert_eq!(self.told_device, every, "every device message once and in order");
        self.at_devices.sort_unstable();
        assert_eq!(self.at_devices, self.sent_to_devices, "everything that was sent to devices");
    }

    /// What the user must be told of a log.
    fn wanted(&self, lane: usize) -> &[Stored] {
        &self.logs[lane][self.acknowledged[lane]..]
    }

    fn is_at_rest(&self) -> bool {
        let is_told = self.told.iter().enumerate().all(|(lane, told)| told.len() == self.wanted(lane).len());
        let is_queue_empty = self.queue.is_empty() && self.told_device.len() == self.kept_device_count();
        let are_sent = self.at_devices.len() == self.sent_to_devices.len();
        is_told && is_queue_empty && are_sent && self.queued.iter().all(Vec::is_empty) && self.is_live()
    }

    pub(super) fn is_live(&self) -> bool {
        matches!(&self.machine.link, Link::Up(up) if up.stage == Stage::Live)
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.machine.link, Link::Up(_))
    }

    /// Until nothing more happens without time.
    pub(super) fn settle(&mut self) {
        self.attempt(true);
        self.settle_network();
        while self.peer.as_ref().is_some_and(|peer| !peer.from_client.is_empty() || !peer.to_client.is_empty()) {
            self.serve(0);
            self.settle_network();
        }
    }

    pub(super) fn settle_network(&mut self) {
        self.act();
        while self.peer.as_ref().is_some_and(|peer| !peer.to_client.is_empty()) {
            self.deliver();
        }
    }

    pub(super) fn hold_token(&mut self) {
        self.answers_tokens = false;
    }

    pub(super) fn ended_sends(&self) -> usize {
        self.fates.values().filter(|fate| matches!(fate, Err(SendError::Ended(_)))).count()
    }

    pub(super) fn waiting_at_server(&self) -> usize {
        self.peer.as_ref().map_or(0, |peer| peer.from_client.len())
    }

    pub(super) fn forget_client_frames(&mut self) {
        self.act();
        if let Some(peer) = &mut self.peer {
            peer.from_client.clear();
        }
        self.under_way.clear();
    }

    pub(super) fn last_sent(&self) -> EntryId {
        id(self.next_id)
    }

    pub(super) fn fate(&self, id: EntryId) -> Option<&Result<Option<crate::frame::Stored>, SendError>> {
        self.fates.get(&id)
    }

    /// The server comes back from a backup, in which so many entries of the first conversation are left.
    pub(super) fn restore(&mut self, incarnation: &str, left: usize) {
        self.end_connection(None);
        self.incarnation = incarnation.to_owned();
        self.logs[0].truncate(left);
    }

    /// How long until the machine wants to be called.
    pub(super) fn due_in(&mut self) -> Duration {
        self.machine.deadline().unwrap().saturating_sub(self.now)
    }

    fn make_id(&mut self) -> EntryId {
        self.next_id += 1;
        id(self.next_id)
    }

    fn send(&mut self, lane: usize) {
        let id = self.make_id();
        let message = OutgoingMessage::text(id, "x");
        let target = Target::Conversation(conversation(lane));
        self.queued[lane].push(id);
        self.machine.send(self.now, Draft::Message(target), id, message.frame(target).into());
    }

    fn send_to_devices(&mut self) {
        let id = self.make_id();
        let content = RawValue::from_string("{}".to_owned()).unwrap();
        let message = NewDeviceMessage { id, user_id: super::model::id(1), device_id: own_device(), content };
        self.sent_to_devices.push(id);
        self.machine.send(self.now, Draft::DeviceMessages, id, outgoing::device_message(id, &[message], None).into());
    }

    fn queue_device_message(&mut self) {
        self.device_seq += 1;
        self.queue.push_back(self.device_seq);
        self.send_queue();
    }

    /// What waits and was not sent on this connection.
    fn send_queue(&mut self) {
        let Some(peer) = self.peer.as_mut().filter(|peer| peer.has_synced) else { return };
        for seq in self.queue.iter().copied().filter(|seq| *seq > peer.device_seq) {
            let content = RawValue::NULL.to_owned();
            let (sender_id, sender_device_id) = (id(7), id(8));
            let message =
                DeviceMessage { seq, id: id(seq.into()), sender_id, sender_device_id, content, sent_at: sent_at() };
            if self.fault.take_if(|fault| matches!(fault, Fault::LoseDeviceMessages)).is_some() {
                peer.loses_device_messages = true;
            }
            if !peer.loses_device_messages {
                peer.to_client.push_back(event(Body::DeviceMessage(Box::new(message))));
            }
        }
        peer.device_seq = self.queue.back().copied().unwrap_or(0).max(peer.device_seq);
    }

    fn kept_device_count(&self) -> usize {
        self.told_device.iter().filter(|seq| **seq <= self.kept_device).count()
    }

    fn keep_device_messages(&mut self, count: usize) {
        let next = self.told_device.iter().copied().filter(|seq| *seq > self.kept_device).take(count).last();
        if let Some(seq) = next {
            self.kept_device = seq;
            self.machine.acknowledge_device_messages(self.now, seq);
        }
    }

    fn attempt(&mut self, succeeds: bool) {
        if let Link::Waiting { until: due } = self.machine.link {
            self.now = self.now.max(due);
            self.machine.on_time(self.now);
        }
        self.act();
        if std::mem::take(&mut self.is_opening) {
            if succeeds {
                self.peer = Some(Peer::default());
                let connected = Connected {
                    connection_id: id(5),
                    user_id: id(1),
                    device_id: own_device(),
                    heartbeat_interval_ms: 30_000,
                    server_time: sent_at(),
                    incarnation: self.incarnation.clone(),
                };
                self.machine.on_opened(self.now, connected);
            } else {
                self.machine.on_open_failed(self.now, ConnectError::TimedOut { after: at(1) });
            }
        }
        self.act();
    }

    fn end_connection(&mut self, code: Option<u16>) {
        if self.peer.take().is_some() {
            self.under_way.clear();
            self.machine.on_closed(self.now, ClosedError { code, reason: String::new() });
        }
        self.act();
    }

    fn be_silent(&mut self) {
        if let Some(peer) = &mut self.peer {
            peer.to_client.clear();
            while self.is_up() {
                let due = self.machine.deadline().unwrap();
                self.now = self.now.max(due);
                self.machine.on_time(self.now);
                self.act();
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        self.act();
        while let Some(due) = self.machine.deadline().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.machine.on_time(self.now);
            self.act();
            if self.is_opening {
                self.attempt(true);
            }
        }
        self.now = end;
    }

    fn say(&mut self, body: Body) {
        if let Some(peer) = &mut self.peer {
            peer.to_client.push_back(event(body));
        }
    }

    fn heartbeat(&mut self) {
        let Some(peer) = &mut self.peer else { return };
        let live = peer.live.keys().map(|lane| (*lane, peer.last_sent[*lane])).filter(|(_, seq)| *seq > 0);
        let digest = live.fold(0, |digest, (lane, seq)| {
            let conversation = conversation(lane);
            let hash = Sha256::new().chain_update(conversation.as_bytes()).chain_update(seq.to_be_bytes()).finalize();
            digest ^ u64::from_be_bytes(hash[..8].try_into().unwrap())
        });
        let device_seq = peer.device_seq;
        self.say(Body::Heartbeat(Heartbeat { digest: Some(format!("{digest:016x}")), device_seq }));
    }

    fn begin(&mut self, lane: usize) {
        let Some(peer) = &mut self.peer else { return };
        if self.has_begun[lane] || self.logs[lane].is_empty() || !peer.has_synced {
            return;
        }
        self.has_begun[lane] = true;
        let conversation_id = conversation(lane);
        let payload = RawValue::NULL.to_owned();
        let event_name = "conversation_joined".to_owned();
        let note = Notification { event: event_name, conversation_id: Some(conversation_id), seq: Some(1), payload };
        peer.to_client.push_back(event(Body::Notification(note)));
        for (at, stored) in self.logs[lane].iter().enumerate() {
            peer.to_client.push_back(entry(conversation_id, seq_of(at + 1), *stored));
        }
        peer.live.insert(lane, seq_of(self.logs[lane].len()));
        peer.last_sent[lane] = seq_of(self.logs[lane].len());
    }

    /// Stores what is not there yet and forwards it; `origin`: who sent it waits for the ack on this connection.
    fn store(&mut self, lane: usize, stored: Stored, origin: Option<EntryId>) {
        let log = &mut self.logs[lane];
        log.push(stored);
        let seq = seq_of(log.len());
        let Some(peer) = &mut self.peer else { return };
        let is_live = peer.live.contains_key(&lane);
        let conversation = conversation(lane);
        match origin {
            Some(id) if !is_live => peer.to_client.push_back(ack(id, conversation, seq)),
            Some(_) | None => {}
        }
        if !is_live {
            return;
        }
        peer.live.insert(lane, seq);
        peer.last_sent[lane] = seq;
        let frame = || match origin {
            Some(id) => ack(id, conversation, seq),
            None => entry(conversation, seq, stored),
        };
        match self.fault {
            // An own message keeps its ack: without it there would be nothing to wait for. The first entry of a log is not
            // missed by who knows nothing of it.
            Some(Fault::Lose) if origin.is_none() && seq > seq_of(self.acknowledged[lane]) + 1 => self.fault = None,
            Some(Fault::Repeat) => {
                self.fault = None;
                peer.to_client.extend([frame(), entry(conversation, seq, stored)]);
            }
            Some(Fault::Lose | Fault::LoseDeviceMessages) | None => peer.to_client.push_back(frame()),
        }
    }

    fn serve(&mut self, luck: u8) {
        let Some(text) = self.peer.as_mut().and_then(|peer| peer.from_client.pop_front()) else { return };
        let (id, frame) = parse(&text, &Limits::default()).unwrap();
        match frame {
            ClientFrame::GroupMessage { conversation_id, .. } => {
                self.serve_message(number_of(conversation_id), id.unwrap(), luck);
            }
            ClientFrame::Sync(sync) => self.serve_sync(id.unwrap(), &sync, luck),
            ClientFrame::Authenticate { .. } | ClientFrame::DeliveryReceipt { .. } => {
                self.say_to(id.unwrap(), Body::Ack(None));
            }
            ClientFrame::DeviceMessage(_) => self.serve_device_message(id.unwrap(), luck),
            ClientFrame::DeviceMessageAck { up_to } => self.serve_device_ack(id.unwrap(), up_to, luck),
            frame => panic!("{frame:?}"),
        }
    }

    /// A repeat is stored once.
    fn serve_device_message(&mut self, id: EntryId, luck: u8) {
        if luck % 5 == 4 {
            return self.say_unavailable(id);
        }
        if !self.at_devices.contains(&id) {
            self.at_devices.push(id);
        }
        self.say_to(id, Body::Ack(None));
    }

    fn serve_device_ack(&mut self, id: EntryId, up_to: u64, luck: u8) {
        assert!(up_to <= self.kept_device, "what the user has not kept is forgotten");
        if luck % 5 == 4 {
            return self.say_unavailable(id);
        }
        self.queue.retain(|seq| *seq > up_to);
        self.say_to(id, Body::Ack(None));
    }

    fn say_unavailable(&mut self, id: EntryId) {
        let refusal = Refusal::from_frame(r#"{"code":"unavailable"}"#).unwrap();
        self.say_to(id, Body::Error(Box::new(refusal)));
    }

    fn say_to(&mut self, id: EntryId, body: Body) {
        if let Some(peer) = &mut self.peer {
            peer.to_client.push_back(ServerFrame { id: Some(id), body });
        }
    }

    fn serve_message(&mut self, lane: usize, id: EntryId, luck: u8) {
        let known = self.logs[lane].iter().position(|stored| stored.id == id);
        let is_failing = luck % 5 == 4;
        match known {
            Some(at) if !is_failing => self.say_to_front(ack(id, conversation(lane), seq_of(at + 1))),
            Some(_) => self.fail(lane, id),
            None if luck % 10 == 9 => {
                // Stored, but the server could not find out.
                self.fail(lane, id);
                self.store(lane, Stored { id, is_own: true }, None);
            }
            None if is_failing => self.fail(lane, id),
            None => self.store(lane, Stored { id, is_own: true }, Some(id)),
        }
    }

    /// The ack of a repeat may come at any time.
    fn say_to_front(&mut self, frame: ServerFrame) {
        if let Some(peer) = &mut self.peer {
            peer.to_client.push_back(frame);
        }
    }

    /// This one and those that wait behind it.
    fn fail(&mut self, lane: usize, id: EntryId) {
        let mut failed = vec![id];
        if let Some(peer) = &mut self.peer {
            peer.from_client.retain(|text| match parse(text, &Limits::default()).unwrap() {
                (Some(id), ClientFrame::GroupMessage { conversation_id, .. })
                    if conversation_id == conversation(lane) =>
                {
                    failed.push(id);
                    false
                }
                _ => true,
            });
        }
        for id in failed {
            self.say_unavailable(id);
        }
    }

    fn serve_sync(&mut self, id: EntryId, sync: &SyncRequest, luck: u8) {
        if luck % 7 == 6 {
            return self.say_unavailable(id);
        }
        let Some(peer) = &mut self.peer else { return };
        peer.has_synced = true;
        let limit = usize::try_from(sync.limit.unwrap_or(200)).unwrap();
        let mut listed = Vec::new();
        for (lane, log) in self.logs.iter().enumerate() {
            let conversation_id = conversation(lane);
            let cursor = sync.cursors.get(&conversation_id).copied();
            self.has_begun[lane] |= !log.is_empty();
            if !self.has_begun[lane] {
                continue;
            }
            if peer.live.contains_key(&lane) && cursor.is_none() {
                continue;
            }
            let head = seq_of(log.len());
            let start = match sync.from {
                Some(SyncFrom::Start) => 0,
                Some(SyncFrom::Now) => head,
                None => seq_of(self.acknowledged[lane]),
            };
            let start = cursor.unwrap_or(start);
            peer.live.remove(&lane);
            let mut synced = SyncedConversation {
                conversation_id,
                first_seq: 1,
                starts_at: start + 1,
                last_seq: head,
                sent_up_to: start,
                has_more: false,
            };
            if start > head {
                listed.push(SyncedConversation { starts_at: head + 1, sent_up_to: head, ..synced });
                continue;
            }
            for (at, stored) in log.iter().enumerate().skip(usize::try_from(start).unwrap()).take(limit) {
                synced.sent_up_to = seq_of(at + 1);
                peer.to_client.push_back(entry(conversation_id, synced.sent_up_to, *stored));
            }
            synced.has_more = synced.sent_up_to < head;
            if synced.sent_up_to > start {
                peer.last_sent[lane] = synced.sent_up_to;
            }
            if synced.sent_up_to > start || synced.has_more {
                listed.push(synced);
            }
            if !synced.has_more {
                peer.live.insert(lane, head);
            }
        }
        self.send_queue();
        let device_messages = SyncedQueue { last_seq: self.device_seq, has_more: false };
        self.say_to(id, Body::SyncComplete(SyncComplete { conversations: listed, device_messages }));
    }

    fn deliver(&mut self) {
        let Some(frame) = self.peer.as_mut().and_then(|peer| peer.to_client.pop_front()) else { return };
        if let (Some(id), Body::Ack(_) | Body::Error(_)) = (frame.id, &frame.body) {
            self.under_way.retain(|under_way| *under_way != id);
        }
        self.machine.on_frame(self.now, frame);
        self.act();
    }

    fn act(&mut self) {
        while let Some(action) = self.machine.next_action() {
            match action {
                Action::Open => self.is_opening = true,
                Action::Drop | Action::Close => {
                    self.peer = None;
                    self.under_way.clear();
                }
                Action::Transmit(text) => self.transmit(text.as_str()),
                Action::RenewToken => {
                    self.renewals += 1;
                    self.is_renewing = true;
                }
                Action::ListHeads => panic!("nobody asked for it"),
                Action::Tell(item) => self.hear(*item),
                Action::Resolve(id, fate) => {
                    assert!(self.fates.insert(id, fate).is_none(), "resolved twice");
                    self.queued.iter_mut().for_each(|lane| lane.retain(|queued| *queued != id));
                }
            }
        }
        if self.answers_tokens && std::mem::take(&mut self.is_renewing) {
            self.machine.on_token(self.now, Ok("token".to_owned()));
            self.act();
        }
    }

    fn transmit(&mut self, text: &str) {
        if let (Some(id), ClientFrame::GroupMessage { conversation_id, .. }) = parse(text, &Limits::default()).unwrap()
        {
            let queued = &self.queued[number_of(conversation_id)];
            let place = queued.iter().position(|queued| *queued == id).expect("sent though it is resolved");
            let is_under_way = |id: &EntryId| self.under_way.contains(id);
            assert!(queued[..place].iter().all(is_under_way), "sent before what was said before it");
            assert!(!queued[place..].iter().any(is_under_way), "repeated while later ones are under way");
            self.under_way.push(id);
        }
        if let Some(peer) = &mut self.peer {
            peer.from_client.push_back(text.to_owned());
        }
    }

    fn hear(&mut self, item: Item) {
        let mut told = |conversation, seq: u64, id| {
            let lane = number_of(conversation);
            let told = &mut self.told[lane];
            assert_eq!(seq, seq_of(self.acknowledged[lane] + told.len()) + 1, "not the next one of {conversation}");
            told.push(id);
        };
        match item.event {
            Some(Event::Entry(entry)) => told(entry.conversation_id, entry.seq, entry.id),
            Some(Event::Acknowledged { id, stored, in_place: true }) => told(stored.conversation_id, stored.seq, id),
            Some(Event::DeviceMessage(message)) => self.told_device.push(message.seq),
            Some(Event::Rewound { conversation_id }) => {
                self.told_rewound.push(conversation_id);
                match conversation_id {
                    Some(conversation) => self.told[number_of(conversation)].clear(),
                    None => self.told.iter_mut().for_each(Vec::clear),
                }
            }
            _ => {}
        }
    }
}
