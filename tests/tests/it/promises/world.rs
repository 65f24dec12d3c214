//! What all who take part share.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
};

use entrenous_checker::Recorder;
use entrenous_client::{OutgoingMessage, Url};
use entrenous_model::{ConversationId, UserId};
use entrenous_system_tests::Person;
use entrenous_test_support::Proxy;
use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use tokio::sync::watch;

use crate::support::text;

/// What people do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Say new things.
    Talking,
    /// Repeat until all of it is acknowledged.
    Finishing,
    /// Leave.
    Done,
}

#[derive(Debug)]
pub(super) struct Room {
    pub(super) id: ConversationId,
    /// Those who are members at the beginning.
    pub(super) members: Vec<UserId>,
}

#[derive(Debug)]
pub(super) struct World {
    /// Lines to the gateways, which can be cut.
    pub(super) lines: Vec<Proxy>,
    pub(super) recorder: Recorder,
    pub(super) people: Vec<Person>,
    pub(super) rooms: OnceLock<Vec<Room>>,
    phase: watch::Sender<Phase>,
    operations: AtomicU64,
    connections: AtomicU64,
    unfinished: AtomicUsize,
    announced: AtomicUsize,
    live: AtomicUsize,
}

impl World {
    pub(super) fn new(lines: Vec<Proxy>, people: Vec<Person>) -> Self {
        Self {
            lines,
            recorder: Recorder::default(),
            people,
            rooms: OnceLock::new(),
            phase: watch::Sender::new(Phase::Talking),
            operations: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            unfinished: AtomicUsize::new(0),
            announced: AtomicUsize::new(0),
            live: AtomicUsize::new(0),
        }
    }

    pub(super) fn rooms(&self) -> &[Room] {
        self.rooms.get().map_or(&[], Vec::as_slice)
    }

    pub(super) fn person(&self, id: UserId) -> &Person {
        self.people.iter().find(|person| person.user_id == id).unwrap()
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    pub(super) fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    pub(super) fn is_in(&self, phase: Phase) -> bool {
        *self.phase.borrow() == phase
    }

    pub(super) fn next_operation(&self) -> u64 {
        self.operations.fetch_add(1, SeqCst)
    }

    pub(super) fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, SeqCst)
    }

    /// Messages begun that are neither acknowledged nor refused.
    pub(super) fn unfinished(&self) -> usize {
        self.unfinished.load(SeqCst)
    }

    pub(super) fn begin_message(&self) {
        self.unfinished.fetch_add(1, SeqCst);
    }

    pub(super) fn end_message(&self) {
        self.unfinished.fetch_sub(1, SeqCst);
    }

    /// Connections that were told that the server stops, and when to come back.
    pub(super) fn announced(&self) -> usize {
        self.announced.load(SeqCst)
    }

    pub(super) fn announce(&self) {
        self.announced.fetch_add(1, SeqCst);
    }

    /// People with a connection whose sync is complete.
    pub(super) fn live(&self) -> usize {
        self.live.load(SeqCst)
    }

    /// Counts as live until it is dropped.
    pub(super) fn go_live(&self) -> Live<'_> {
        self.live.fetch_add(1, SeqCst);
        Live(&self.live)
    }

    pub(super) fn any_gateway(&self, rng: &mut StdRng) -> Url {
        url_of(self.lines.choose(rng).unwrap())
    }

    /// A room that this person was a member of at the beginning.
    pub(super) fn any_room(&self, person: UserId, rng: &mut StdRng) -> ConversationId {
        let own: Vec<_> = self.rooms().iter().filter(|room| room.members.contains(&person)).collect();
        own.choose(rng).unwrap().id
    }

    /// Words of any length; now and then long ones.
    pub(super) fn any_message(rng: &mut StdRng) -> OutgoingMessage {
        let length = if rng.random_bool(0.05) { rng.random_range(5_000..20_000) } else { rng.random_range(1..200) };
        text(&"x".repeat(length))
    }
}

/// Where a line begins.
pub(super) fn url_of(line: &Proxy) -> Url {
    format!("http://{}", line.addr()).parse().unwrap()
}

/// A person is live.
#[derive(Debug)]
pub(super) struct Live<'a>(&'a AtomicUsize);

impl Drop for Live<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}
