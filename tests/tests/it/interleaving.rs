//! Whatever three people do on two devices each, and in whatever order it takes effect: in the end every device has exactly
//! the log that it may read, and every number is what its definition says.

mod device;
mod doing;
mod op;
mod replay;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    io::Write,
    sync::Mutex,
};

use entrenous_client::{Api, Url, api};
use entrenous_model::{ConversationId, EntryId, UserId};
use entrenous_protocol::{
    Code, Entry,
    entry::{ConversationKind, EntryKind, MemberContent},
    limits::LOG_PAGE_MAX,
    rest::{Ban, CreateConversation, Message, Page},
    scheduled::{ScheduledMessage, ScheduledState},
};
use entrenous_system_tests::{Person, Shape, System};
use futures::future::join_all;
use rand::{SeedableRng, rngs::StdRng};
use reqwest::Method;

use self::{
    device::Device,
    op::{Op, PEOPLE, PUBLIC, ROOMS, owner_of},
    replay::{Replay, Shown, Standing},
};
use crate::support::{conversation, group, unread_by_definition, until, whole_log};

/// Histories in one run: each takes some seven seconds on two busy cores.
const HISTORIES: u64 = 3;
/// What each device does in one of them.
const OPS: usize = 40;
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
    invites: Mutex<Vec<Invited>>,
}

/// A link that somebody made.
struct Invited {
    room: usize,
    token: String,
    max_uses: u32,
}

impl World {
    fn user(&self, number: usize) -> UserId {
        self.people[number].user_id
    }

    /// The two of the direct conversation.
    fn direct(&self, room: usize) -> Vec<UserId> {
        if room == 0 { vec![self.user(0), self.user(1)] } else { Vec::new() }
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
        let failed = self.scheduled_failed(&world).await;
        join_all(devices.iter_mut().map(|device| device.catch_up(&world))).await;
        for (number, room) in world.rooms.iter().copied().enumerate() {
            let log = whole_log(&world.people[owner_of(number)].api, room).await;
            let replay = Replay::of(&world.direct(number), &log);
            self.check_members(&world, number, &replay, gateways).await;
            self.check_scheduled(number, &log, &failed, &devices);
            for user in 0..PEOPLE {
                let (from, to) = (user * DEVICES_EACH, (user + 1) * DEVICES_EACH);
                self.check_user(&world, number, user, &log, &devices[from..to]).await;
                self.check_history(&world, number, user, &replay, &devices[from..to]).await;
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
        let public = CreateConversation { is_public: true, ..conversation(ConversationKind::Group, &[]) };
        let public = carl.api.create_conversation(&public).await.unwrap().id;
        let rooms = vec![direct, group(anna, &[bert, carl]).await, group(bert, &[anna, carl]).await, public];
        assert_eq!(rooms.len(), ROOMS);
        (World { people, rooms, invites: Mutex::default() }, devices)
    }

    /// What a user may read is what their devices have, and what they have not read is what the definition says.
    async fn check_user(&self, world: &World, number: usize, user: usize, log: &[Entry], devices: &[Device]) {
        let (room, person) = (world.rooms[number], &world.people[user]);
        let periods = periods(log, person.user_id, number == 0 && user < 2);
        for device in devices {
            for (seq, id) in &device.places[number].has(log) {
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
            let has = device.places[number].has(log);
            let held: Vec<_> = has.range(joined..).map(|(seq, id)| (*seq, *id)).collect();
            assert_eq!(held, places(log), "{self}: what user {user} has of room {number}");
        }
        let said = devices.iter().map(|device| device.places[number].read).max().unwrap_or(0);
        // What somebody deleted for themselves is empty for them, and counts all the same.
        let hidden = hidden_by(devices, number);
        for (shown, entry) in readable.iter().zip(log.iter().filter(|entry| entry.seq >= *joined)) {
            let is_hidden = [Some(entry.id), entry.target_id].into_iter().flatten().any(|id| hidden.contains(&id));
            let content = |entry: &Entry| entry.content.as_ref().map(|content| content.get().to_owned());
            let wanted = if is_hidden { (true, None) } else { (entry.deleted, content(entry)) };
            assert_eq!((shown.deleted, content(shown)), wanted, "{self}: user {user}, {shown:?}");
        }
        let log: Vec<Entry> = log.iter().filter(|entry| entry.seq >= *joined).cloned().collect();
        let (read_seq, unread) = unread_by_definition(&log, person.user_id, said);
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

    /// Waits until nothing is to be sent any more; gives what could not be.
    async fn scheduled_failed(&self, world: &World) -> BTreeSet<EntryId> {
        let mut failed = BTreeSet::new();
        for person in &world.people {
            let mut items = Vec::new();
            until(&format!("{self}: nothing waits"), async || {
                let request = person.api.request(Method::GET, "scheduled").query(&[("limit", 100)]);
                items = api::json::<Page<ScheduledMessage>>(request).await.unwrap().items;
                let waits = items.iter().filter(|one| one.state == ScheduledState::Waiting).count();
                Some(format!(
                    "{self}: {}",
                    if waits == 0 { "nothing waits".to_owned() } else { format!("{waits} wait") }
                ))
            })
            .await;
            failed.extend(items.iter().map(|one| one.id));
        }
        failed
    }

    /// What was scheduled stands once, or is still its author's; what was taken back does neither.
    fn check_scheduled(&self, number: usize, log: &[Entry], failed: &BTreeSet<EntryId>, devices: &[Device]) {
        for scheduled in devices.iter().flat_map(|device| &device.scheduled).filter(|one| one.room == number) {
            let stands = log.iter().filter(|entry| entry.id == scheduled.id).count();
            let is_kept = failed.contains(&scheduled.id);
            let wanted = usize::from(!scheduled.is_cancelled);
            assert_eq!(stands + usize::from(is_kept), wanted, "{self}: {scheduled:?}, kept: {is_kept}");
        }
    }

    /// Every gateway lists the members that the log makes; nobody came in who was not let in.
    async fn check_members(&self, world: &World, number: usize, replay: &Replay, gateways: &[Url]) {
        let (room, owner) = (world.rooms[number], &world.people[owner_of(number)]);
        for gateway in gateways {
            let api: Api = owner.api.with_base(gateway.clone());
            let listed = api.members(room, None).await.unwrap().items;
            let standing = |role, joined_seq| Standing { role, joined_seq };
            let listed: BTreeMap<UserId, Standing> =
                listed.iter().map(|one| (one.user_id, standing(one.role, one.joined_seq))).collect();
            assert_eq!(listed, replay.members, "{self}: members of room {number}");
            let found = api.conversation(room).await.unwrap();
            assert_eq!(usize::try_from(found.member_count).unwrap(), replay.members.len(), "{self}: room {number}");
        }
        if number == 0 {
            return;
        }
        let uses: u32 = {
            let invites = world.invites.lock().unwrap();
            invites.iter().filter(|one| one.room == number).map(|one| one.max_uses).sum()
        };
        assert!(number == PUBLIC || replay.joins <= usize::try_from(uses).unwrap(), "{self}: {replay:?}, {uses} uses");
        let bans = owner.api.request(Method::GET, &format!("conversations/{room}/bans"));
        for ban in api::json::<Page<Ban>>(bans).await.unwrap().items {
            assert!(!replay.members.contains_key(&ban.user_id), "{self}: {ban:?} is in room {number}");
            let banned = world.people.iter().find(|person| person.user_id == ban.user_id).unwrap();
            let code = if number == PUBLIC { Code::Forbidden } else { Code::NotFound };
            assert!(banned.api.join(room).await.unwrap_err().is(code), "{self}: {ban:?} comes into room {number}");
        }
    }

    /// History and pins show somebody what the log makes of each message since they joined, but for what they hid.
    async fn check_history(&self, world: &World, number: usize, user: usize, replay: &Replay, devices: &[Device]) {
        let (room, person) = (world.rooms[number], &world.people[user]);
        let request = person.api.request(Method::GET, &format!("conversations/{room}/messages"));
        let page = api::json::<Page<Message>>(request.query(&[("limit", 100)])).await;
        let Some(standing) = replay.members.get(&person.user_id) else {
            assert!(page.unwrap_err().is(Code::NotFound), "{self}");
            assert!(person.api.pins(room).await.unwrap_err().is(Code::NotFound), "{self}");
            return;
        };
        assert_eq!(person.api.conversation(room).await.unwrap().role, standing.role, "{self}: user {user}");
        let hidden = hidden_by(devices, number);
        let is_shown = |id: &EntryId, seq: u64| seq >= standing.joined_seq && !hidden.contains(id);
        let readable = replay.messages.iter().filter(|(id, outcome)| is_shown(id, outcome.seq));
        let wanted: BTreeMap<EntryId, Shown> =
            readable.clone().map(|(id, outcome)| (*id, outcome.shown_to(person.user_id))).collect();
        let found = page.unwrap().items;
        let found: BTreeMap<EntryId, Shown> = found.iter().map(|message| (message.entry.id, message.into())).collect();
        assert_eq!(found, wanted, "{self}: history of room {number} for user {user}");
        let wanted: BTreeSet<EntryId> = readable.filter(|(_, one)| one.is_pinned).map(|(id, _)| *id).collect();
        let pins = person.api.pins(room).await.unwrap().items;
        let pins: BTreeSet<EntryId> = pins.iter().map(|message| message.entry.id).collect();
        assert_eq!(pins, wanted, "{self}: pins of room {number} for user {user}");
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

/// What a user has deleted for themselves, on whichever device.
fn hidden_by(devices: &[Device], room: usize) -> BTreeSet<EntryId> {
    devices.iter().flat_map(|device| &device.places[room].hidden).copied().collect()
}

/// When somebody was a member, from the raw log: from their first entry to that of their end, which they still see.
fn periods(log: &[Entry], user: UserId, is_of_direct: bool) -> Vec<(u64, u64)> {
    let mut periods = Vec::new();
    if is_of_direct {
        periods.push((1, u64::MAX));
    }
    for entry in log.iter().filter(|entry| entry.kind == EntryKind::Member) {
        let content: MemberContent = serde_json::from_str(entry.content.as_ref().unwrap().get()).unwrap();
        if content.user_id != user && !content.members.contains(&user) {
            continue;
        }
        match (content.change.leaves_a_member(), periods.last_mut()) {
            (true, Some((_, to))) if *to == u64::MAX => {}
            (true, _) => periods.push((entry.seq, u64::MAX)),
            (false, Some((_, to))) => *to = entry.seq,
            (false, None) => {}
        }
    }
    periods
}
