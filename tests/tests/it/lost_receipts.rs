//! Clients lose receipts on the way, and say them in any order: one that arrives makes up for all before it.

use std::collections::HashMap;

use entrenous_client::{
    Connection,
    frame::{Body, Receipt},
    outgoing,
};
use entrenous_model::{ConversationId, IdGenerator, UserId};
use entrenous_protocol::{entry::ConversationKind, rest::MarkRead};
use entrenous_system_tests::{Person, Shape, System};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};

use crate::support::{conversation, group, live, next_entry, text, unread_by_definition, until, whole_log};

/// Messages in each conversation.
const MESSAGES: u64 = 60;
/// Up to where receipts are told before the last one: below what that one says.
const TOLD_MAX: u64 = MESSAGES - 10;
/// Receipts that are lost, of a hundred.
const LOST: u32 = 30;

/// A device that loses receipts.
struct Device {
    person: Person,
    connection: Connection,
    rng: StdRng,
    lost: u32,
}

impl Device {
    async fn open(person: &Person, seed: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        Self { person: person.clone(), connection: live(person).await, rng, lost: 0 }
    }

    /// Takes what was said, and tells of each entry that it has come and perhaps that it was read, in some disorder.
    async fn take(&mut self, rooms: &[ConversationId]) {
        let mut seqs: HashMap<ConversationId, Vec<u64>> = HashMap::new();
        while rooms.iter().any(|room| seqs.get(room).is_none_or(|seqs| seqs.last() < Some(&(MESSAGES + 1)))) {
            let entry = next_entry(&mut self.connection).await;
            let of_room = seqs.entry(entry.conversation_id).or_default();
            of_room.push(entry.seq);
            if of_room.len().is_multiple_of(5) {
                let mut latest = of_room[of_room.len() - 5..].to_vec();
                latest.shuffle(&mut self.rng);
                for seq in latest.into_iter().filter(|seq| *seq <= TOLD_MAX) {
                    let is_read = self.rng.random_ratio(1, 3);
                    self.tell_or_lose(entry.conversation_id, seq, is_read).await;
                }
            }
        }
    }

    async fn tell_or_lose(&mut self, room: ConversationId, seq: u64, is_read: bool) {
        if self.rng.random_ratio(LOST, 100) {
            self.lost += 1;
        } else {
            let receipt = if is_read { outgoing::read_receipt } else { outgoing::delivery_receipt };
            self.connection.handle().tell(receipt(None, room, seq)).await.unwrap();
        }
    }

    /// The last receipt, which is not lost.
    async fn tell(&self, room: ConversationId, delivered: u64, read: u64) {
        let ids = [IdGenerator.next(), IdGenerator.next()];
        let receipts = [
            outgoing::delivery_receipt(Some(ids[0]), room, delivered),
            outgoing::read_receipt(Some(ids[1]), room, read),
        ];
        for (id, receipt) in ids.into_iter().zip(receipts) {
            self.connection.handle().request(id, receipt).await.unwrap().wait().await.unwrap();
        }
    }
}

/// What the author has been told: never anything lower than before.
#[derive(Debug, Default)]
struct Told(HashMap<(ConversationId, UserId, bool), u64>);

impl Told {
    fn note(&mut self, receipt: &Receipt, is_read: bool) {
        assert_eq!(receipt.device_id, None, "authors see people, not devices");
        let known = self.0.entry((receipt.conversation_id, receipt.user_id, is_read)).or_default();
        assert!(receipt.seq > *known, "{receipt:?} after {known}");
        *known = receipt.seq;
    }

    /// Takes what comes until all these have been told.
    async fn take_until(&mut self, connection: &mut Connection, wanted: &HashMap<(ConversationId, UserId, bool), u64>) {
        while !wanted.iter().all(|(key, seq)| self.0.get(key) == Some(seq)) {
            let (receipt, is_read) = crate::support::next(connection, |body| match body {
                Body::Delivered(receipt) => Some((receipt, false)),
                Body::Read(receipt) => Some((receipt, true)),
                _ => None,
            })
            .await;
            self.note(&receipt, is_read);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_receipts_are_made_up_for_by_the_next() {
    let system = System::start(&Shape::one_process()).await.unwrap();
    let alice = Person::new(system.gateway(), "alice").await.unwrap();
    let bob = Person::new(system.gateway(), "bob").await.unwrap();
    let bobs_laptop = Person::login(system.gateway(), "bob", "laptop").await.unwrap();
    let carol = Person::new(system.gateway(), "carol").await.unwrap();
    let direct = alice.api.create_conversation(&conversation(ConversationKind::Direct, &[&bob])).await.unwrap().id;
    let rooms = [direct, group(&alice, &[&bob, &carol]).await, group(&alice, &[&bob, &carol]).await];
    let (mut at_alice, seed) = (live(&alice).await, rand::random());
    let mut devices = [
        Device::open(&bob, seed).await,
        Device::open(&bobs_laptop, seed + 1).await,
        Device::open(&carol, seed + 2).await,
    ];
    let [phone, laptop, carols] = &mut devices;
    let looking = watch(&bob, &rooms);
    tokio::pin!(looking);
    let everything = async {
        tokio::join!(
            async {
                // A direct conversation begins empty, a group with an entry of its own.
                alice.api.send_message(direct, &text("first")).await.unwrap();
                for number in 0..MESSAGES {
                    for room in rooms {
                        alice.api.send_message(room, &text(&number.to_string())).await.unwrap();
                    }
                }
            },
            phone.take(&rooms),
            laptop.take(&rooms),
            carols.take(&rooms[1..]),
        );
    };
    tokio::select! {
        () = everything => {}
        () = &mut looking => unreachable!("it never ends"),
    }
    let lost: u32 = devices.iter().map(|device| device.lost).sum();
    assert!(lost > 50, "seed {seed}: {lost} were lost");

    let head = MESSAGES + 1;
    let mut told = HashMap::new();
    for (place, room) in rooms.into_iter().enumerate() {
        let read = head - u64::try_from(place).unwrap() * 3;
        devices[0].tell(room, head, read).await;
        devices[1].tell(room, head - 1, read - 1).await;
        told.extend([((room, bob.user_id, false), head), ((room, bob.user_id, true), read)]);
        if place > 0 {
            devices[2].tell(room, head, head).await;
            told.extend([((room, carol.user_id, false), head), ((room, carol.user_id, true), head)]);
        }
    }
    let mut so_far = Told::default();
    so_far.take_until(&mut at_alice, &told).await;
    for room in rooms {
        // One that comes much later, and is old, moves nothing.
        bob.api.mark_read(&MarkRead { conversation_id: room, seq: Some(3), message_ids: None }).await.unwrap();
        agree(&alice, room, &told, seed).await;
        for device in &devices {
            let Some(read) = told.get(&(room, device.person.user_id, true)) else { continue };
            let log = whole_log(&device.person.api, room).await;
            let (read_seq, unread) = unread_by_definition(&log, device.person.user_id, *read);
            let found = device.person.api.conversation(room).await.unwrap();
            let count = u64::try_from(unread.len()).unwrap();
            assert_eq!((found.read_seq, found.unread_count), (read_seq, count), "seed {seed}");
            assert_eq!(device.person.api.unread(room).await.unwrap().seqs, unread, "seed {seed}");
        }
    }
    let left = bob.api.undelivered(10).await.unwrap();
    assert!(left.items.is_empty(), "seed {seed}: {left:?}");
    until("the last of each", async || {
        let left = bobs_laptop.api.undelivered(10).await.unwrap().items;
        let is_last = left.len() == rooms.len() && left.iter().all(|entry| entry.seq == head);
        Some(if is_last { "the last of each" } else { "others" }.to_owned())
    })
    .await;
}

/// Looks at the cursors and counts for as long as it may: a cursor never goes back.
async fn watch(bob: &Person, rooms: &[ConversationId]) {
    let mut seen: HashMap<ConversationId, u64> = HashMap::new();
    loop {
        for room in rooms {
            let found = bob.api.conversation(*room).await.unwrap();
            let known = seen.entry(*room).or_default();
            assert!(found.read_seq >= *known, "{} after {known}", found.read_seq);
            *known = found.read_seq;
        }
    }
}

/// What the author can look up of each message is what was said, and later messages were never read earlier.
async fn agree(alice: &Person, room: ConversationId, told: &HashMap<(ConversationId, UserId, bool), u64>, seed: u64) {
    let mut before = HashMap::new();
    for entry in whole_log(&alice.api, room).await.into_iter().filter(|entry| entry.message_type.is_some()) {
        for item in alice.api.receipts(room, entry.id).await.unwrap().items {
            let up_to = |is_read| told[&(room, item.user_id, is_read)];
            let is = (item.delivered_at.is_some(), item.read_at.is_some());
            assert_eq!(is, (entry.seq <= up_to(false), entry.seq <= up_to(true)), "seed {seed}, entry {}", entry.seq);
            assert!(item.read_at.is_none_or(|at| item.delivered_at.is_some_and(|delivered| delivered <= at)));
            let (delivered_at, read_at) =
                before.insert(item.user_id, (item.delivered_at, item.read_at)).unwrap_or_default();
            assert!(item.delivered_at.is_none_or(|at| Some(at) >= delivered_at), "seed {seed}");
            assert!(item.read_at.is_none_or(|at| Some(at) >= read_at), "seed {seed}");
        }
    }
}
