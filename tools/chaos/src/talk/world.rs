//! What all who take part share.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use anyhow::Context;
use entrenous_checker::{Recorder, What};
use entrenous_client::{OutgoingMessage, Url, outgoing};
use entrenous_model::{Clock, ConversationId, EntryId, IdGenerator, SystemClock, Timestamp, UserId};
use entrenous_protocol::{
    Act, Entry, EntryKind,
    act::{DeleteScope, Reaction},
    entry::ConversationKind,
    rest::CreateConversation,
};
use entrenous_test_support::Proxy;
use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use tokio::sync::watch;

use super::{between, talker::outbox::Saying};
use crate::Person;

/// How much of what is said is about what was said before.
const ACTS_SHARE: f64 = 0.35;
/// How much is said to be sent later.
const LATER_SHARE: f64 = 0.03;
/// How often somebody comes or goes instead.
const MOVES_SHARE: f64 = 0.01;
/// The longest that what is sent soon waits, in milliseconds.
const SOON_MS: u64 = 12_000;
/// A time ahead that is later than the end of any run.
pub(super) const NEVER: Duration = Duration::from_secs(100 * 24 * 3_600);
/// Scheduled messages of which somebody chooses one.
const KEPT_CHOICE: usize = 6;
/// Invites that somebody may still come by.
const INVITES_KNOWN_MAX: usize = 40;
/// Messages of a conversation that somebody may still do something with.
const MESSAGES_KNOWN_MAX: usize = 50;

/// What people do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Say new things.
    Talking,
    /// Repeat until all of it is acknowledged.
    Finishing,
    /// Leave.
    Done,
}

#[derive(Debug, Clone)]
pub(super) struct Room {
    pub(super) id: ConversationId,
    kind: ConversationKind,
    /// Everybody may join.
    pub(super) is_public: bool,
    /// Those who are or were members, as far as is known; the first one began it.
    pub(super) members: Vec<UserId>,
}

impl Room {
    pub(super) fn is_group(&self) -> bool {
        self.kind == ConversationKind::Group
    }

    pub(super) fn is_owned_by(&self, user: UserId) -> bool {
        self.is_group() && self.members.first() == Some(&user)
    }
}

/// What anybody has seen of a conversation.
#[derive(Debug, Default)]
struct Seen {
    /// The last entry.
    head: u64,
    /// The last messages, with which something can be done.
    messages: VecDeque<Known>,
}

/// A message that is to be sent later.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    pub(super) conversation: ConversationId,
    pub(super) id: EntryId,
    /// The last version that anybody tried to make of it.
    pub(super) version: u64,
}

#[derive(Debug)]
struct Known {
    id: EntryId,
    author: UserId,
    /// Somebody deletes it: once only, since another deletion would be answered with the first one's place.
    is_doomed: bool,
}

/// What all who take part share.
#[derive(Debug)]
pub struct World {
    /// Lines to the gateways, which can be cut.
    pub lines: Vec<Proxy>,
    /// What they do and see.
    pub recorder: Recorder,
    /// Who takes part, on their first devices.
    pub people: Vec<Person>,
    gateways: Vec<Url>,
    devices: usize,
    rooms: Mutex<Vec<Room>>,
    seen: Mutex<BTreeMap<ConversationId, Seen>>,
    /// Tokens that let people in.
    invites: Mutex<VecDeque<(ConversationId, String)>>,
    /// What each has scheduled.
    kept: Mutex<BTreeMap<UserId, Vec<Kept>>>,
    phase: watch::Sender<Phase>,
    operations: AtomicU64,
    connections: AtomicU64,
    unfinished: AtomicUsize,
    announced: AtomicUsize,
    live: AtomicUsize,
}

impl World {
    pub(super) fn new(lines: Vec<Proxy>, people: Vec<Person>, devices: usize) -> anyhow::Result<Self> {
        let gateways = lines.iter().map(url_of).collect::<anyhow::Result<_>>()?;
        Ok(Self {
            lines,
            recorder: Recorder::default(),
            people,
            gateways,
            devices,
            rooms: Mutex::default(),
            seen: Mutex::default(),
            invites: Mutex::default(),
            kept: Mutex::default(),
            phase: watch::Sender::new(Phase::Talking),
            operations: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            unfinished: AtomicUsize::new(0),
            announced: AtomicUsize::new(0),
            live: AtomicUsize::new(0),
        })
    }

    pub(super) fn rooms(&self) -> Vec<Room> {
        lock(&self.rooms).clone()
    }

    /// A conversation began, or one that is there already was found.
    pub(super) fn add_room(&self, id: ConversationId, new: &CreateConversation) {
        let (kind, is_public, members) = (new.kind, new.is_public, new.members.clone());
        let mut rooms = lock(&self.rooms);
        if rooms.iter().all(|room| room.id != id) {
            self.recorder.record(What::Began { conversation: id, members: members.clone() });
            rooms.push(Room { id, kind, is_public, members });
        }
    }

    /// Somebody may be a member from here on, and tries to talk there.
    pub(super) fn invite(&self, conversation: ConversationId, user: UserId) {
        let mut rooms = lock(&self.rooms);
        let room = rooms.iter_mut().find(|room| room.id == conversation);
        if let Some(room) = room.filter(|room| !room.members.contains(&user)) {
            room.members.push(user);
        }
    }

    pub(super) fn person(&self, id: UserId) -> Option<&Person> {
        self.people.iter().find(|person| person.user_id == id)
    }

    /// From now on people do this.
    pub fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    pub(super) fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    pub(super) fn is_in(&self, phase: Phase) -> bool {
        *self.phase.borrow() == phase
    }

    /// The server did what the protocol does not allow.
    pub(super) fn complain(&self, summary: String) {
        self.recorder.record(What::Unexpected { summary });
    }

    pub(super) fn next_operation(&self) -> u64 {
        self.operations.fetch_add(1, SeqCst)
    }

    pub(super) fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, SeqCst)
    }

    pub(super) fn keep_invite(&self, conversation: ConversationId, token: String) {
        let mut invites = lock(&self.invites);
        invites.push_back((conversation, token));
        if invites.len() > INVITES_KNOWN_MAX {
            invites.pop_front();
        }
    }

    pub(super) fn any_invite(&self, rng: &mut StdRng) -> Option<(ConversationId, String)> {
        let invites = lock(&self.invites);
        invites.get(rng.random_range(0..invites.len().max(1))).cloned()
    }

    /// A message waits for its time.
    pub(super) fn keep(&self, user: UserId, conversation: ConversationId, id: EntryId) {
        lock(&self.kept).entry(user).or_default().push(Kept { conversation, id, version: 0 });
    }

    /// One that somebody has scheduled; nobody else does anything with it meanwhile.
    pub(super) fn take_kept(&self, user: UserId, rng: &mut StdRng) -> Option<Kept> {
        let mut kept = lock(&self.kept);
        let kept = kept.get_mut(&user)?;
        // The newest have the best chance not to have been sent.
        let from = kept.len().saturating_sub(KEPT_CHOICE);
        (!kept.is_empty()).then(|| kept.remove(rng.random_range(from..kept.len())))
    }

    pub(super) fn put_back(&self, user: UserId, kept: Kept) {
        lock(&self.kept).entry(user).or_default().push(kept);
    }

    /// What was begun and is neither acknowledged nor refused.
    pub(super) fn unfinished(&self) -> usize {
        self.unfinished.load(SeqCst)
    }

    pub(super) fn begin_message(&self, conversation: ConversationId, id: EntryId) {
        self.recorder.record(What::Said { conversation, id });
        self.begin();
    }

    /// Something is under way until its outcome is known.
    pub(super) fn begin(&self) {
        self.unfinished.fetch_add(1, SeqCst);
    }

    pub(super) fn end(&self) {
        self.unfinished.fetch_sub(1, SeqCst);
    }

    /// An entry that the log has reached.
    pub(super) fn see(&self, entry: &Entry) {
        let mut seen = lock(&self.seen);
        let seen = seen.entry(entry.conversation_id).or_default();
        seen.head = seen.head.max(entry.seq);
        let is_new = entry.kind == EntryKind::Message && seen.messages.iter().all(|known| known.id != entry.id);
        if is_new && !entry.deleted {
            seen.messages.push_back(Known { id: entry.id, author: entry.sender_id, is_doomed: false });
            if seen.messages.len() > MESSAGES_KNOWN_MAX {
                seen.messages.pop_front();
            }
        }
    }

    /// The last entry that anybody has seen; 0 where nobody has.
    pub(super) fn seen(&self, conversation: ConversationId) -> u64 {
        lock(&self.seen).get(&conversation).map_or(0, |seen| seen.head)
    }

    /// Connections that were told that the server stops, and when to come back.
    pub fn announced(&self) -> usize {
        self.announced.load(SeqCst)
    }

    pub(super) fn announce(&self) {
        self.announced.fetch_add(1, SeqCst);
    }

    /// How many devices take part.
    pub fn devices(&self) -> usize {
        self.devices
    }

    /// Devices with a connection whose sync is complete.
    pub(super) fn live(&self) -> usize {
        self.live.load(SeqCst)
    }

    /// Counts as live until it is dropped.
    pub(super) fn go_live(&self) -> Live<'_> {
        self.live.fetch_add(1, SeqCst);
        Live(&self.live)
    }

    pub(super) fn any_gateway(&self, rng: &mut StdRng) -> Url {
        let any = self.gateways.choose(rng).cloned();
        any.unwrap_or_else(|| unreachable!("a talk begins at a gateway"))
    }

    /// A room that this person is or was a member of.
    pub(super) fn any_room(&self, person: UserId, rng: &mut StdRng) -> Option<ConversationId> {
        let rooms = lock(&self.rooms);
        let own: Vec<_> = rooms.iter().filter(|room| room.members.contains(&person)).collect();
        own.choose(rng).map(|room| room.id)
    }

    /// Something new, at once or later, or something to do with what was said: an edit or a deletion of one's own, a reaction
    /// to anything. Now and then somebody goes instead, or comes to where everybody may. Each reaction is another one: what is
    /// so already would be answered with the first one's place.
    pub(super) fn any_saying(&self, conversation: ConversationId, user: UserId, rng: &mut StdRng) -> Saying {
        let id = IdGenerator.next();
        if rng.random_bool(LATER_SHARE) {
            return Saying::Later { message: Self::any_later(rng), send_at: soon(rng) };
        }
        if rng.random_bool(MOVES_SHARE)
            && let Some(is_join) = self.any_move(conversation, user, rng)
        {
            return Saying::Move { id, is_join };
        }
        if rng.random_bool(ACTS_SHARE)
            && let Some(act) = self.any_act(conversation, user, rng)
        {
            return Saying::Act { id, act };
        }
        Saying::Message(Self::any_message(rng))
    }

    /// Whether somebody comes by themselves (true), or goes; none where neither can be.
    fn any_move(&self, conversation: ConversationId, user: UserId, rng: &mut StdRng) -> Option<bool> {
        let rooms = lock(&self.rooms);
        let room = rooms.iter().find(|room| room.id == conversation && room.is_group())?;
        let is_join = room.is_public && rng.random_bool(0.7);
        (is_join || !room.is_owned_by(user)).then_some(is_join)
    }

    fn any_act(&self, conversation: ConversationId, user: UserId, rng: &mut StdRng) -> Option<Act> {
        let mut seen = lock(&self.seen);
        let messages = &mut seen.get_mut(&conversation)?.messages;
        let at = rng.random_range(0..messages.len().max(1));
        let known = messages.get_mut(at)?;
        let message_id = known.id;
        Some(match rng.random_range(0..10) {
            0..4 if known.author == user => outgoing::edit_to_text(message_id, &"y".repeat(rng.random_range(1..200))),
            4..6 if known.author == user && !known.is_doomed => {
                known.is_doomed = true;
                Act::Delete { message_id, scope: DeleteScope::All }
            }
            _ => Act::React(Reaction { message_id, reaction: self.next_operation().to_string() }),
        })
    }

    /// A message that somebody has seen.
    pub(super) fn any_known(&self, conversation: ConversationId, rng: &mut StdRng) -> Option<EntryId> {
        let seen = lock(&self.seen);
        let messages = &seen.get(&conversation)?.messages;
        messages.get(rng.random_range(0..messages.len().max(1))).map(|known| known.id)
    }

    /// What is to be sent later: the log tells which version of it was.
    pub(super) fn any_later(rng: &mut StdRng) -> OutgoingMessage {
        let metadata = [("version".to_owned(), 0.into())].into_iter().collect();
        OutgoingMessage { metadata, ..Self::any_message(rng) }
    }

    /// Words of any length; now and then long ones.
    pub(super) fn any_message(rng: &mut StdRng) -> OutgoingMessage {
        let length = if rng.random_bool(0.05) { rng.random_range(5_000..20_000) } else { rng.random_range(1..200) };
        OutgoingMessage::text(IdGenerator.next(), "x".repeat(length))
    }
}

/// A time that comes soon, or now and then one that never comes here.
pub(super) fn soon(rng: &mut StdRng) -> Timestamp {
    let ahead = if rng.random_bool(0.1) { NEVER } else { between(rng, 300..SOON_MS) };
    SystemClock.now() + ahead
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked while they held it has left a whole value behind.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a line begins.
pub(super) fn url_of(line: &Proxy) -> anyhow::Result<Url> {
    format!("http://{}", line.addr()).parse().context("an address makes a URL")
}

/// A device is live.
#[derive(Debug)]
pub(super) struct Live<'a>(&'a AtomicUsize);

impl Drop for Live<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}
