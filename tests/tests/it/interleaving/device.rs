//! A client as docs/protocol.md asks for: it keeps what it gets, says what it has, and repeats what got no answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use entrenous_client::{ApiError, Connection, OutgoingMessage, SyncStart, Target, frame::Body, outgoing};
use entrenous_model::{EntryId, IdGenerator};
use entrenous_protocol::{Code, Entry, EntryKind, entry::MessageType, frame::SyncedConversation, rest::MarkRead};
use entrenous_system_tests::Person;
use futures::FutureExt;

use super::{Op, ROOMS, World, op::PUBLIC};

/// How long an answer may take: late, because a busy machine is no failure.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// Why something may be refused: who asks is no member (any more), has no such role, or speaks of what was deleted.
pub(super) const REFUSALS: [Code; 3] = [Code::NotFound, Code::Forbidden, Code::Conflict];

/// How far a device is in a conversation.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// What it has got, whenever that was.
    pub(super) held: BTreeMap<u64, EntryId>,
    /// It has everything that it may have up to here.
    position: u64,
    /// The highest seqs that it has said to have, and to have read.
    pub(super) delivered: u64,
    pub(super) read: u64,
    /// What acts, joins and leaves were answered: the place of their own entry, or of one that did the same before.
    acked: Vec<(u64, EntryId)>,
    /// Messages that it knows, and which of them are its user's.
    pub(super) messages: Vec<EntryId>,
    pub(super) own: Vec<EntryId>,
    /// What was deleted for its user alone.
    pub(super) hidden: BTreeSet<EntryId>,
}

/// A message without an answer.
#[derive(Debug, Clone, Copy)]
struct Draft {
    id: EntryId,
    room: usize,
    is_control: bool,
}

/// A message that was to be sent later.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scheduled {
    pub(super) id: EntryId,
    pub(super) room: usize,
    pub(super) is_cancelled: bool,
}

pub(super) struct Device {
    pub(super) person: Person,
    connection: Option<Connection>,
    pub(super) places: [Place; ROOMS],
    drafts: Vec<Draft>,
    /// Other frames without an answer.
    unanswered: Vec<EntryId>,
    pub(super) scheduled: Vec<Scheduled>,
}

impl Draft {
    fn message(self) -> OutgoingMessage {
        let message_type = if self.is_control { MessageType::Control } else { MessageType::Text };
        OutgoingMessage { message_type, ..OutgoingMessage::text(self.id, self.id.to_string()) }
    }
}

impl Device {
    pub(super) fn new(person: Person) -> Self {
        let (places, drafts) = (Default::default(), Vec::new());
        Self { person, connection: None, places, drafts, unanswered: Vec::new(), scheduled: Vec::new() }
    }

    pub(super) async fn apply(&mut self, op: Op, world: &World) {
        self.take(world);
        match op {
            Op::Connect => self.connect(world).await,
            Op::Disconnect { is_polite } => {
                if let Some(connection) = self.connection.take().filter(|_| is_polite) {
                    connection.close().await;
                }
            }
            Op::Sync { with_cursors, limit } => drop(self.sync(world, with_cursors, limit).await),
            Op::Send { room, by_rest, is_control } => {
                let draft = Draft { id: IdGenerator.next(), room, is_control };
                if by_rest {
                    self.send_by_rest(world, draft).await;
                } else {
                    self.drafts.push(draft);
                    self.send(world, draft).await;
                }
            }
            Op::Delivered { room, less } => {
                let seq = self.places[room].position.saturating_sub(less);
                self.say_delivered(world, room, seq).await;
            }
            Op::Read { room, less, by_rest } => {
                let seq = self.places[room].position.saturating_sub(less);
                if by_rest { self.mark_read(world, room, seq).await } else { self.say_read(world, room, seq).await }
            }
            Op::Schedule { room, wait_ms } => self.schedule(world, room, wait_ms).await,
            Op::Cancel => self.cancel().await,
            Op::Touch { room, touch, back, by_rest } => self.touch(world, room, touch, back, by_rest).await,
            Op::Join { by_rest } => self.come_or_go(world, PUBLIC, true, by_rest).await,
            Op::Leave { room, by_rest } => self.come_or_go(world, room, false, by_rest).await,
            Op::Add { .. }
            | Op::Remove { .. }
            | Op::Give { .. }
            | Op::Ban { .. }
            | Op::Unban { .. }
            | Op::Invite { .. }
            | Op::JoinBy { .. } => self.look_after(op, world).await,
            Op::Take => tokio::task::yield_now().await,
        }
    }

    /// Asks again for everything that has no answer, and waits for it.
    pub(super) async fn finish(&mut self, world: &World) {
        self.connect(world).await;
        for room in 0..ROOMS {
            let Place { delivered, read, .. } = self.places[room];
            self.say_delivered(world, room, delivered).await;
            self.say_read(world, room, read).await;
        }
        let answered = async {
            while !self.drafts.is_empty() || !self.unanswered.is_empty() {
                self.take_next(world).await;
            }
        };
        let is_answered = tokio::time::timeout(ANSWER_LIMIT, answered).await.is_ok();
        assert!(is_answered, "without an answer: {:?} {:?}", self.drafts, self.unanswered);
    }

    /// Gets everything that there is.
    pub(super) async fn catch_up(&mut self, world: &World) {
        self.connect(world).await;
        while self.sync(world, true, None).await.iter().any(|synced| synced.has_more) {}
    }

    /// Opens a connection where there is none, and sends again what has no answer.
    async fn connect(&mut self, world: &World) {
        if self.connection.is_some() {
            return;
        }
        self.unanswered.clear();
        self.connection = Some(self.person.connect().await.unwrap());
        for draft in self.drafts.clone() {
            self.send(world, draft).await;
        }
    }

    /// What the server says of it; nothing where there is no connection.
    async fn sync(&mut self, world: &World, with_cursors: bool, limit: Option<u32>) -> Vec<SyncedConversation> {
        let Some(connection) = &self.connection else { return Vec::new() };
        let id = IdGenerator.next();
        let known = world.rooms.iter().zip(&self.places).filter(|_| with_cursors);
        let cursors = known.map(|(room, place)| (*room, place.position)).collect();
        let start = SyncStart { cursors, limit, ..SyncStart::default() };
        connection.handle().tell(outgoing::sync(id, &start)).await.unwrap();
        let complete = async {
            loop {
                if let Body::SyncComplete(complete) = self.take_next(world).await {
                    return complete.conversations;
                }
            }
        };
        tokio::time::timeout(ANSWER_LIMIT, complete).await.unwrap_or_else(|_| panic!("no sync_complete"))
    }

    async fn send(&self, world: &World, draft: Draft) {
        let Some(connection) = &self.connection else { return };
        let frame = draft.message().frame(Target::Conversation(world.rooms[draft.room]));
        connection.handle().tell(frame).await.unwrap();
    }

    /// Sends, and looks at once: who has sent has read up to there.
    async fn send_by_rest(&mut self, world: &World, draft: Draft) {
        let sent = self.person.api.send_message(world.rooms[draft.room], &draft.message()).await;
        let sent = done_or_refused(sent, &[Code::NotFound, Code::Forbidden]);
        if let Some(entry) = sent.filter(|_| !draft.is_control) {
            self.places[draft.room].know(entry.id, true);
            self.has_read(world, draft.room, entry.seq).await;
        }
    }

    async fn mark_read(&mut self, world: &World, room: usize, seq: u64) {
        let read = MarkRead { conversation_id: world.rooms[room], seq: Some(seq), message_ids: None };
        if done_or_refused(self.person.api.mark_read(&read).await, &[Code::NotFound]).is_some() {
            self.places[room].read = seq.max(self.places[room].read);
            self.has_read(world, room, seq).await;
        }
    }

    async fn has_read(&self, world: &World, room: usize, seq: u64) {
        let found = self.person.api.conversation(world.rooms[room]).await;
        if let Some(found) = done_or_refused(found, &[Code::NotFound]) {
            assert!(found.read_seq >= seq, "room {room}: {} after {seq}", found.read_seq);
        }
    }

    async fn say_delivered(&mut self, world: &World, room: usize, seq: u64) {
        let id = IdGenerator.next();
        let frame = outgoing::delivery_receipt(Some(id), world.rooms[room], seq);
        if self.say(id, frame).await {
            self.places[room].delivered = seq.max(self.places[room].delivered);
        }
    }

    /// What was read is on the device, too.
    async fn say_read(&mut self, world: &World, room: usize, seq: u64) {
        let id = IdGenerator.next();
        if self.say(id, outgoing::read_receipt(Some(id), world.rooms[room], seq)).await {
            let place = &mut self.places[room];
            (place.delivered, place.read) = (seq.max(place.delivered), seq.max(place.read));
        }
    }

    pub(super) async fn say(&mut self, id: EntryId, frame: String) -> bool {
        let Some(connection) = &self.connection else { return false };
        connection.handle().tell(frame).await.unwrap();
        self.unanswered.push(id);
        true
    }

    /// Takes what has come already.
    fn take(&mut self, world: &World) {
        while let Some(frame) =
            self.connection.as_mut().and_then(|connection| connection.next().now_or_never().flatten())
        {
            self.keep(world, frame.id, &frame.body);
        }
    }

    async fn take_next(&mut self, world: &World) -> Body {
        let connection = self.connection.as_mut().unwrap();
        let Some(frame) = connection.next().await else { panic!("the connection ended: {:?}", connection.end()) };
        self.keep(world, frame.id, &frame.body);
        frame.body
    }

    fn keep(&mut self, world: &World, id: Option<EntryId>, body: &Body) {
        let room_of = |id| world.rooms.iter().position(|room| *room == id).unwrap();
        match body {
            Body::Entry(entry) => {
                let is_own = entry.sender_id == self.person.user_id;
                let place = &mut self.places[room_of(entry.conversation_id)];
                place.hold(entry.seq, entry.id);
                place.position = entry.seq.max(place.position);
                if entry.kind == EntryKind::Message && entry.message_type != Some(MessageType::Control) {
                    place.know(entry.id, is_own);
                }
            }
            Body::Ack(Some(stored)) => {
                let (id, room) = (id.unwrap(), room_of(stored.conversation_id));
                let place = &mut self.places[room];
                let Some(at) = self.drafts.iter().position(|draft| draft.id == id) else {
                    place.acked.push((stored.seq, id));
                    self.unanswered.retain(|one| *one != id);
                    return;
                };
                place.hold(stored.seq, id);
                // Apart from its place there may be others before it.
                if stored.seq == place.position + 1 {
                    place.position = stored.seq;
                }
                if !self.drafts.remove(at).is_control {
                    place.know(id, true);
                }
            }
            Body::Ack(None) => self.unanswered.retain(|one| Some(*one) != id),
            Body::Error(refusal) => {
                assert!(REFUSALS.iter().any(|code| refusal.is(*code)), "{refusal}");
                self.unanswered.retain(|one| Some(*one) != id);
                self.drafts.retain(|draft| Some(draft.id) != id);
            }
            _ => {}
        }
    }
}

impl Place {
    fn hold(&mut self, seq: u64, id: EntryId) {
        let known = *self.held.entry(seq).or_insert(id);
        assert_eq!(known, id, "two entries with seq {seq}");
    }

    fn know(&mut self, id: EntryId, is_own: bool) {
        if !self.messages.contains(&id) {
            self.messages.push(id);
            self.own.extend(is_own.then_some(id));
        }
    }

    /// What it has got, with the entries in whose place an answer stood.
    pub(super) fn has(&self, log: &[Entry]) -> BTreeMap<u64, EntryId> {
        let is_logged = |(seq, id): &&(u64, EntryId)| log.iter().any(|entry| (entry.seq, entry.id) == (*seq, *id));
        self.held.iter().map(|(seq, id)| (*seq, *id)).chain(self.acked.iter().filter(is_logged).copied()).collect()
    }
}

/// None where it was refused for one of these reasons.
pub(super) fn done_or_refused<T>(result: Result<T, ApiError>, refusals: &[Code]) -> Option<T> {
    match result {
        Ok(done) => Some(done),
        Err(error) if refusals.iter().any(|code| error.is(*code)) => None,
        Err(error) => panic!("{error}"),
    }
}
