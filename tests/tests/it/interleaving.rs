//! Whatever three people do on two devices each, and in whatever order it takes effect: in the end every device has exactly
//! the log that it may read, and every number is what its definition says.

mod device;
mod op;

use std::{fmt, io::Write};

use entrenous_client::Url;
use entrenous_model::{ConversationId, EntryId, UserId};
use entrenous_protocol::{
    Code, Entry,
    entry::{ConversationKind, EntryKind, MemberContent},
    limits::LOG_PAGE_MAX,
};
use entrenous_system_tests::{Person, Shape, System};
use futures::future::join_all;
use rand::{SeedableRng, rngs::StdRng};

use self::{
    device::Device,
    op::{Op, PEOPLE, ROOMS, owner_of},
};
use crate::support::{conversation, group, unread_by_definition, until, whole_log};

/// Histories in one run: each takes two or three seconds.
const HISTORIES: u64 = 8;
/// What each device does in one of them.
const OPS: usize = 30;
const DEVICES_EACH: usize = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_interleaving_leaves_logs_and_numbers_that_are_right() {
    let system = System::start(&Shape { gateways: 2, ..Shape::one_process() }).await.unwrap();
    let first: u64 = rand::random();
    for seed in (0..HISTORIES).map(|number| first.wrapping_add(number)) {
        History::of(seed).check(system.gateways()).await;
    }
}

/// What is done, by each device in its order, all devices at once. Prints itself when a test fails.
#[derive(Debug)]
struct History {
    seed: u64,
    ops: Vec<Vec<Op>>,
}

impl Drop for History {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The test's own failure counts, not that of telling more about it.
            drop(writeln!(std::io::stderr(), "--- seed {}", self.seed));
            for (number, ops) in self.ops.iter().enumerate() {
                drop(writeln!(std::io::stderr(), "device {number} of user {}: {ops:?}", number / DEVICES_EACH));
            }
        }
    }
}

/// What everybody shares.
struct World {
    people: Vec<Person>,
    rooms: Vec<ConversationId>,
}

impl World {
    fn user(&self, number: usize) -> UserId {
        self.people[number].user_id
    }
}

impl History {
    fn of(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let ops = (0..PEOPLE * DEVICES_EACH).map(|number| op::some(&mut rng, number / DEVICES_EACH, OPS)).collect();
        Self { seed, ops }
    }

    async fn check(&self, gateways: &[Url]) {
        let (world, mut devices) = self.begin(gateways).await;
        join_all(devices.iter_mut().zip(&self.ops).map(async |(device, ops)| {
            for op in ops {
                device.apply(*op, &world).await;
            }
        }))
        .await;
        // Whatever is without an answer is asked again; then nothing more is said, and all of it arrives.
        join_all(devices.iter_mut().map(|device| device.finish(&world))).await;
        join_all(devices.iter_mut().map(|device| device.catch_up(&world))).await;
        for (number, room) in world.rooms.iter().copied().enumerate() {
            let log = whole_log(&world.people[owner_of(number)].api, room).await;
            for user in 0..PEOPLE {
                let (from, to) = (user * DEVICES_EACH, (user + 1) * DEVICES_EACH);
                self.check_user(&world, number, user, &log, &devices[from..to]).await;
            }
        }
        for device in &devices {
            self.check_undelivered(device, &world).await;
        }
    }

    async fn begin(&self, gateways: &[Url]) -> (World, Vec<Device>) {
        let (mut people, mut devices) = (Vec::new(), Vec::new());
        for number in 0..PEOPLE {
            let name = format!("{:x}-{number}", self.seed);
            let person = Person::new(&gateways[0], &name).await.unwrap();
            let other = Person::login(&gateways[number % gateways.len()], &name, "second").await.unwrap();
            devices.extend([&person, &other].map(|person| Device::new(person.clone())));
            people.push(person);
        }
        let [anna, bert, carl] = people.as_slice() else { unreachable!("three people") };
        let direct = anna.api.create_conversation(&conversation(ConversationKind::Direct, &[bert])).await.unwrap().id;
        let rooms = vec![direct, group(anna, &[bert, carl]).await, group(bert, &[anna, carl]).await];
        assert_eq!(rooms.len(), ROOMS);
        (World { people, rooms }, devices)
    }

    /// What a user may read is what their devices have, and what they have not read is what the definition says.
    async fn check_user(&self, world: &World, number: usize, user: usize, log: &[Entry], devices: &[Device]) {
        let (room, person) = (world.rooms[number], &world.people[user]);
        let periods = periods(log, person.user_id, number == 0 && user < 2);
        for device in devices {
            for (seq, id) in &device.places[number].held {
                let is_visible = periods.iter().any(|(from, to)| (*from..=*to).contains(seq));
                assert!(is_visible, "{self}: user {user} has {seq} of room {number}, a member in {periods:?}");
                assert_eq!(log.iter().find(|entry| entry.seq == *seq).map(|entry| entry.id), Some(*id), "{self}");
            }
        }
        let Some((joined, _)) = periods.last().filter(|(_, to)| *to == u64::MAX) else {
            assert!(person.api.log(room, 0, 1).await.unwrap_err().is(Code::NotFound), "{self}");
            assert!(person.api.unread(room).await.unwrap_err().is(Code::NotFound), "{self}");
            let listed = person.api.conversations(None).await.unwrap().items;
            assert!(listed.iter().all(|one| one.id != room), "{self}: who is no member has it in no list");
            return;
        };
        let readable = whole_log(&person.api, room).await;
        let places = |log: &[Entry]| -> Vec<(u64, EntryId)> {
            log.iter().filter(|entry| entry.seq >= *joined).map(|entry| (entry.seq, entry.id)).collect()
        };
        assert_eq!(places(&readable), places(log), "{self}: one log for all");
        assert_eq!(readable.len(), places(log).len(), "{self}: from where they joined");
        for device in devices {
            let held: Vec<_> = device.places[number].held.range(joined..).map(|(seq, id)| (*seq, *id)).collect();
            assert_eq!(held, places(log), "{self}: what user {user} has of room {number}");
        }
        let said = devices.iter().map(|device| device.places[number].read).max().unwrap_or(0);
        let (read_seq, unread) = unread_by_definition(&readable, person.user_id, said);
        let wanted = format!("{self}: room {number}, user {user}: {read_seq}, {}, {unread:?}", unread.len());
        until(&wanted, async || {
            let found = person.api.conversation(room).await.unwrap();
            let listed = person.api.conversations(None).await.unwrap().items;
            let listed = listed.iter().find(|one| one.id == room).unwrap();
            let same = (listed.read_seq, listed.unread_count) == (found.read_seq, found.unread_count);
            let seqs = person.api.unread(room).await.unwrap().seqs;
            let told = format!("{}, {}, {seqs:?}", found.read_seq, found.unread_count);
            Some(format!("{self}: room {number}, user {user}: {}", if same { told } else { "two answers".to_owned() }))
        })
        .await;
    }

    /// What a device has not acknowledged is listed, and nothing else.
    async fn check_undelivered(&self, device: &Device, world: &World) {
        let mut wanted = Vec::new();
        for (place, room) in device.places.iter().zip(&world.rooms) {
            let Ok(page) = device.person.api.log(*room, place.delivered, LOG_PAGE_MAX).await else { continue };
            wanted.extend(page.items.iter().map(|entry| (*room, entry.seq)));
        }
        wanted.sort_unstable();
        until(&format!("{self}: {wanted:?}"), async || {
            let page = device.person.api.undelivered(LOG_PAGE_MAX).await.unwrap();
            let mut found: Vec<_> = page.items.iter().map(|entry| (entry.conversation_id, entry.seq)).collect();
            found.sort_unstable();
            Some(format!("{self}: {found:?}"))
        })
        .await;
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}", self.seed)
    }
}

/// When somebody was a member, from the raw log: from their first entry to that of their end, which they still see.
fn periods(log: &[Entry], user: UserId, is_of_direct: bool) -> Vec<(u64, u64)> {
    let mut periods = Vec::new();
    if is_of_direct {
        periods.push((1, u64::MAX));
    }
    for entry in log.iter().filter(|entry| entry.kind == EntryKind::Member) {
        let content: MemberContent = serde_json::from_str(entry.content.as_ref().unwrap().get()).unwrap();
        let is_first = entry.seq == 1;
        if !is_first && content.user_id != user {
            continue;
        }
        match (is_first || content.change.leaves_a_member(), periods.last_mut()) {
            (true, Some((_, to))) if *to == u64::MAX => {}
            (true, _) => periods.push((entry.seq, u64::MAX)),
            (false, Some((_, to))) => *to = entry.seq,
            (false, None) => {}
        }
    }
    periods
}
