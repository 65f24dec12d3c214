//! Somebody on a WebSocket: says things, repeats what was not answered, reconnects and syncs, and records it all.

pub(super) mod outbox;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use entrenous_checker::{Synced, What};
use entrenous_client::{
    Connection, Credential, Refusal, ServerFrame, SocketOptions, SyncFrom, SyncStart,
    frame::{Body, Notification, Stored, SyncComplete},
    outgoing,
};
use entrenous_model::{ConversationId, EntryId, IdGenerator};
use entrenous_protocol::{
    Code, Entry,
    entry::{EntryKind, MemberContent},
};
use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use tokio::time::Instant;

use self::outbox::{Outbox, Saying};
use super::{
    between,
    world::{Live, Phase, World},
};
use crate::Person;

/// How long a repeat waits where the server does not say.
const REPEAT_AFTER: Duration = Duration::from_millis(200);

/// The longest that a device which listens takes nothing, in milliseconds.
const NAP_MAX_MS: u64 = 8_000;

/// What a device does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Habit {
    /// Whether it sends; else it takes what comes now and then only.
    pub(super) is_talking: bool,
    /// Whether it goes by itself.
    pub(super) is_restless: bool,
}

impl Habit {
    pub(super) const TALKS: Self = Self { is_talking: true, is_restless: false };
    pub(super) const LISTENS: Self = Self { is_talking: false, is_restless: false };
}

pub(super) struct Talker {
    world: Arc<World>,
    person: Person,
    habit: Habit,
    rng: StdRng,
    /// Per conversation the last seq up to which everything is here.
    cursors: BTreeMap<ConversationId, u64>,
    outbox: Outbox,
    repeat_at: Instant,
}

/// What happened on a connection.
enum Happened {
    Frame(Option<ServerFrame>),
    Tick,
    Phase,
}

impl Talker {
    pub(super) fn new(world: Arc<World>, person: Person, habit: Habit, rng: StdRng) -> Self {
        let repeat_at = Instant::now();
        Self { world, person, habit, rng, cursors: BTreeMap::new(), outbox: Outbox::default(), repeat_at }
    }

    pub(super) async fn run(mut self) {
        while !self.world.is_in(Phase::Done) {
            if let Some(connection) = self.connect().await {
                self.stay(connection).await;
            }
            tokio::time::sleep(between(&mut self.rng, 20..400)).await;
        }
    }

    async fn connect(&mut self) -> Option<Connection> {
        let gateway = self.world.any_gateway(&mut self.rng);
        let credential = Credential::Header(self.person.token().to_owned());
        let options = SocketOptions { connect_timeout: Duration::from_secs(5), ..SocketOptions::default() };
        Connection::connect(&gateway, &credential, options).await.ok()
    }

    async fn stay(&mut self, mut connection: Connection) {
        let world = Arc::clone(&self.world);
        let number = world.next_connection();
        let (user, device) = (self.person.user_id, self.person.device_id);
        world.recorder.record(What::Connected { connection: number, user, device });
        let mut visit = Visit { number, syncing: None, live: None };
        self.sync(&connection, &mut visit, self.cursors.clone()).await;
        let mut phase = world.phase();
        loop {
            let happened = tokio::select! {
                frame = connection.next() => Happened::Frame(frame),
                () = tokio::time::sleep(between(&mut self.rng, 20..150)) => Happened::Tick,
                _ = phase.wait_for(|phase| *phase == Phase::Done) => Happened::Phase,
            };
            match happened {
                Happened::Frame(Some(frame)) => self.take(&world, &connection, &mut visit, frame).await,
                Happened::Frame(None) => return self.lose(&connection, number),
                Happened::Tick if self.is_leaving() => {
                    self.lose(&connection, number);
                    return self.go(connection).await;
                }
                Happened::Tick => self.act(&connection, number).await,
                Happened::Phase => {
                    world.recorder.record(What::Settled { connection: number });
                    return connection.close().await;
                }
            }
        }
    }

    fn is_leaving(&mut self) -> bool {
        self.habit.is_restless && self.world.is_in(Phase::Talking) && self.rng.random_bool(0.005)
    }

    /// With a word or without one.
    async fn go(&mut self, connection: Connection) {
        if self.rng.random_bool(0.5) {
            connection.close().await;
        }
    }

    async fn act(&mut self, connection: &Connection, number: u64) {
        self.acknowledge(connection).await;
        if self.habit.is_talking {
            self.talk(connection, number).await;
        } else if self.world.is_in(Phase::Talking) && self.rng.random_bool(0.05) {
            let nap = between(&mut self.rng, 500..NAP_MAX_MS);
            let mut phase = self.world.phase();
            tokio::select! {
                () = tokio::time::sleep(nap) => {}
                // Who sleeps reads nothing: all must be awake when it is looked whether everything has come.
                _ = phase.wait_for(|phase| *phase != Phase::Talking) => {}
            }
        }
    }

    /// Now and then says how far it has come, and how far its user has read.
    async fn acknowledge(&mut self, connection: &Connection) {
        if !self.world.is_in(Phase::Talking) || !self.rng.random_bool(0.1) {
            return;
        }
        let known: Vec<_> = self.cursors.iter().map(|(conversation, seq)| (*conversation, *seq)).collect();
        let Some((conversation, seq)) = known.choose(&mut self.rng).copied() else { return };
        let (user, id) = (self.person.user_id, Some(IdGenerator.next()));
        let text = if self.rng.random_bool(0.5) {
            let (action, outcome) = ("delivery receipt".to_owned(), "unknown".to_owned());
            self.world.recorder.record(What::Tried { action, user, conversation: Some(conversation), outcome });
            outgoing::delivery_receipt(id, conversation, seq)
        } else {
            self.world.recorder.record(What::Reading { user, conversation, seq });
            outgoing::read_receipt(id, conversation, seq)
        };
        drop(connection.handle().tell(text).await);
    }

    /// What was under way may or may not have arrived.
    fn lose(&mut self, connection: &Connection, number: u64) {
        let code = connection.end().and_then(|end| end.code);
        self.world.recorder.record(What::Disconnected { connection: number, code });
        for operation in self.outbox.lose() {
            let reason = "disconnected".to_owned();
            self.world.recorder.record(What::Indeterminate { operation, reason, is_answer: false });
        }
    }

    async fn sync(&mut self, connection: &Connection, visit: &mut Visit<'_>, cursors: BTreeMap<ConversationId, u64>) {
        let id = IdGenerator.next();
        visit.syncing = Some(id);
        let start = SyncStart {
            cursors: cursors.iter().map(|(id, seq)| (*id, *seq)).collect(),
            from: Some(SyncFrom::Start),
            // Small ones pause conversations, which go on with the next sync.
            limit: self.rng.random_bool(0.5).then(|| self.rng.random_range(1..30)),
        };
        self.world.recorder.record(What::SyncBegan { connection: visit.number, cursors, from_start: true });
        // A connection that has ended says so by itself, here and below.
        drop(connection.handle().tell(outgoing::sync(id, &start)).await);
    }

    async fn talk(&mut self, connection: &Connection, number: u64) {
        // More devices say less each: what is measured is the servers, not a crowd that waits for itself.
        let eagerness = if self.habit.is_restless { 0.15 } else { 0.7 };
        if self.world.is_in(Phase::Talking) && self.rng.random_bool(eagerness) {
            for _ in 0..self.rng.random_range(1..4) {
                let Some(conversation) = self.world.any_room(self.person.user_id, &mut self.rng) else { return };
                let saying = self.world.any_saying(conversation, self.person.user_id, &mut self.rng);
                if saying.is_entry() {
                    self.world.begin_message(conversation, saying.id());
                } else {
                    self.world.begin();
                }
                self.outbox.add(conversation, saying);
            }
        }
        if Instant::now() < self.repeat_at {
            return;
        }
        while let Some((conversation, saying, operation)) = self.outbox.next(|| self.world.next_operation()) {
            let text = saying.frame(conversation);
            let attempt = saying.attempt(operation, number, self.person.user_id, conversation);
            self.world.recorder.record(attempt);
            drop(connection.handle().tell(text).await);
        }
    }

    async fn take<'w>(&mut self, world: &'w World, connection: &Connection, visit: &mut Visit<'w>, frame: ServerFrame) {
        match frame.body {
            Body::Entry(entry) => self.take_entry(visit.number, &entry),
            Body::Ack(Some(stored)) => self.take_ack(visit.number, frame.id, stored),
            Body::Ack(None) => self.take_plain_ack(frame.id),
            Body::Error(refusal) if frame.id == visit.syncing => self.sync_again(connection, visit, &refusal).await,
            Body::Error(refusal) => self.take_refusal(frame.id, &refusal),
            Body::Draining { .. } => self.world.announce(),
            Body::Notification(note) => self.take_notification(visit.number, &note),
            Body::SyncComplete(complete) => {
                self.take_sync_complete(connection, visit, &complete).await;
                if visit.syncing.is_none() && visit.live.is_none() {
                    visit.live = Some(world.go_live());
                }
            }
            Body::Unknown { r#type, .. } => world.complain(format!("the server sent a frame of type {type}")),
            _ => {}
        }
    }

    fn take_entry(&mut self, connection: u64, entry: &Entry) {
        let conversation = entry.conversation_id;
        self.world.see(entry);
        self.world.recorder.record(What::Saw { connection, conversation, seq: entry.seq, id: entry.id });
        if self.is_own_removal(entry) {
            // From here on it is not live: a send after a return that is not told yet is acknowledged at once.
            self.world.recorder.record(What::Left { connection, conversation });
            self.cursors.remove(&conversation);
        } else {
            let cursor = self.cursors.entry(conversation).or_insert(entry.seq);
            *cursor = entry.seq.max(*cursor);
        }
    }

    fn is_own_removal(&self, entry: &Entry) -> bool {
        let content = entry.content.as_ref().filter(|_| entry.kind == EntryKind::Member);
        content
            .and_then(|content| serde_json::from_str::<MemberContent>(content.get()).ok())
            .is_some_and(|content| content.user_id == self.person.user_id && !content.change.leaves_a_member())
    }

    fn take_ack(&mut self, connection: u64, id: Option<EntryId>, stored: Stored) {
        let Some(id) = id else { return self.world.complain("an ack of a stored entry without an id".to_owned()) };
        let Stored { conversation_id: conversation, seq, .. } = stored;
        self.world.recorder.record(What::SawAck { connection, conversation, seq, id });
        if let Some(cursor) = self.cursors.get_mut(&conversation)
            && *cursor + 1 == seq
        {
            *cursor = seq;
        }
        if let Some((_, saying, operation)) = self.outbox.finish(id) {
            self.world.recorder.record(if saying.is_entry() {
                What::Acknowledged { operation, seq }
            } else {
                What::Done { operation, seq: Some(seq) }
            });
            self.world.end();
        }
    }

    /// Of what is no entry, or none yet.
    fn take_plain_ack(&mut self, id: Option<EntryId>) {
        let Some((conversation, saying, operation)) = id.and_then(|id| self.outbox.finish(id)) else { return };
        if let Saying::Later { message, .. } = &saying {
            self.world.keep(self.person.user_id, conversation, message.id);
        } else {
            self.world.complain(format!("an ack without a place in the log of {saying:?}"));
        }
        self.world.recorder.record(What::Done { operation, seq: None });
        self.world.end();
    }

    async fn sync_again(&mut self, connection: &Connection, visit: &mut Visit<'_>, refusal: &Refusal) {
        if !refusal.is_outcome_unknown() {
            self.world.complain(format!("sync was refused: {refusal}"));
        }
        tokio::time::sleep(refusal.retry_after.unwrap_or(REPEAT_AFTER).min(Duration::from_secs(1))).await;
        self.sync(connection, visit, self.cursors.clone()).await;
    }

    fn take_refusal(&mut self, id: Option<EntryId>, refusal: &Refusal) {
        let Some(id) = id else { return self.world.complain(format!("an error without an id: {refusal}")) };
        let is_known = !refusal.is_outcome_unknown();
        if is_known && !refusal.is(Code::RateLimited) {
            if let Some((_, _, operation)) = self.outbox.finish(id) {
                self.world.recorder.record(What::Refused { operation, code: refusal.code.clone() });
                self.world.end();
            }
            return;
        }
        self.repeat_at = Instant::now() + refusal.retry_after.unwrap_or(REPEAT_AFTER).min(Duration::from_secs(1));
        if let Some(operation) = self.outbox.repeat(id) {
            let reason = refusal.to_string();
            self.world.recorder.record(if is_known {
                What::Refused { operation, code: refusal.code.clone() }
            } else {
                What::Indeterminate { operation, reason, is_answer: true }
            });
        }
    }

    fn take_notification(&mut self, connection: u64, note: &Notification) {
        let Some(conversation) = note.conversation_id else { return };
        match (note.event.as_str(), note.seq) {
            ("conversation_joined", Some(seq)) => {
                self.world.recorder.record(What::Joined { connection, conversation, seq });
                // A cursor of an earlier membership, from before it ended.
                if self.cursors.get(&conversation).is_some_and(|cursor| *cursor < seq) {
                    self.cursors.remove(&conversation);
                }
            }
            ("conversation_left", _) => {
                self.world.recorder.record(What::Left { connection, conversation });
                self.cursors.remove(&conversation);
            }
            _ => {}
        }
    }

    async fn take_sync_complete(&mut self, connection: &Connection, visit: &mut Visit<'_>, complete: &SyncComplete) {
        let conversations: Vec<_> = complete
            .conversations
            .iter()
            .map(|synced| Synced {
                conversation: synced.conversation_id,
                starts_at: synced.starts_at,
                last_seq: synced.last_seq,
                sent_up_to: synced.sent_up_to,
                has_more: synced.has_more,
            })
            .collect();
        let more: BTreeMap<_, _> = conversations
            .iter()
            .filter(|synced| synced.has_more)
            .map(|synced| (synced.conversation, synced.sent_up_to))
            .collect();
        self.world.recorder.record(What::SyncEnded { connection: visit.number, conversations });
        visit.syncing = None;
        if !more.is_empty() {
            self.sync(connection, visit, more).await;
        }
    }
}

/// One stay on a connection.
struct Visit<'w> {
    number: u64,
    syncing: Option<EntryId>,
    live: Option<Live<'w>>,
}
