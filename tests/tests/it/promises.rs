//! People talk in direct and group conversations, over WebSocket and REST, and members come and go, while something happens
//! to the servers. Afterwards the history of everything that they did and saw must keep every promise of docs/protocol.md,
//! section 3.

mod caller;
mod killed;
mod nemesis;
mod talker;
mod updated;
mod world;

use std::{fs::File, path::Path, sync::Arc, time::Duration};

use entrenous_checker::{LogEntry, MemberChange, Report, What, check};
use entrenous_model::{ConversationId, UserId};
use entrenous_protocol::{
    Entry,
    entry::{ConversationKind, EntryKind, MemberContent, MessageType},
};
use entrenous_system_tests::Person;
use entrenous_test_support::Proxy;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::{task::JoinSet, time::Instant};

use self::world::{Phase, Room, World};
use crate::support::conversation;

/// How long it may take afterwards until everything sent is acknowledged.
const FINISH_LIMIT: Duration = Duration::from_secs(60);
/// Nothing new for so long means that everything has come.
const QUIET_FOR: Duration = Duration::from_secs(3);
/// How long that may take.
const QUIET_LIMIT: Duration = Duration::from_secs(30);
/// Entries in one page of a log.
const LOG_PAGE: u32 = 500;

/// People who talk.
struct Talk {
    world: Arc<World>,
    people: JoinSet<()>,
    seed: u64,
}

impl Talk {
    /// Starts it, over these lines to gateways.
    async fn begin(lines: Vec<Proxy>) -> Self {
        let seed: u64 = rand::random();
        let mut people = Vec::new();
        for name in ["anna", "bert", "cleo", "dora", "emil", "fritz"] {
            people.push(Person::new(&world::url_of(&lines[0]), name).await.unwrap());
        }
        let world = Arc::new(World::new(lines, people));
        world.recorder.record(What::Fault { name: format!("seed {seed}") });
        world.rooms.set(rooms(&world).await).unwrap_or_else(|_| panic!("set once"));
        let mut people = JoinSet::new();
        start_people(&world, seed, &mut people);
        Self { world, people, seed }
    }

    /// What may happen by chance.
    fn rng(&self) -> StdRng {
        StdRng::seed_from_u64(self.seed)
    }

    /// Nobody says anything new; ends when everything is acknowledged and has come, and checks it all. A history with fewer
    /// acknowledged messages and member changes would prove little.
    async fn finish(mut self, acknowledged_min: usize, member_changes_min: usize) -> Report {
        wait_finished(&self.world).await;
        wait_quiet(&self.world).await;
        self.world.enter(Phase::Done);
        while let Some(ended) = self.people.join_next().await {
            ended.unwrap();
        }
        read_logs(&self.world).await;
        let report = check(&self.world.recorder.history());
        let kept = (!report.is_ok()).then(|| save(&self.world));
        assert!(report.is_ok(), "seed {}, history in {kept:?}\n{report}", self.seed);
        let counts = report.counts;
        assert!(counts.acknowledged >= acknowledged_min && counts.member_changes >= member_changes_min, "{report}");
        assert_eq!(counts.settled, self.world.people.len(), "{report}");
        report
    }
}

async fn rooms(world: &World) -> Vec<Room> {
    let [anna, bert, cleo, dora, emil, fritz] = world.people.as_slice() else { panic!("six people") };
    let mut rooms = Vec::new();
    for (kind, members) in [
        (ConversationKind::Group, vec![anna, bert, cleo, dora]),
        (ConversationKind::Group, vec![anna, bert, cleo, emil, fritz]),
        (ConversationKind::Direct, vec![anna, bert]),
        (ConversationKind::Direct, vec![cleo, dora]),
        (ConversationKind::Direct, vec![emil, fritz]),
    ] {
        rooms.push(begin(world, kind, &members).await);
    }
    rooms
}

async fn begin(world: &World, kind: ConversationKind, members: &[&Person]) -> Room {
    let [first, others @ ..] = members else { panic!("nobody") };
    let id = first.api.create_conversation(&conversation(kind, others)).await.unwrap().id;
    let ids: Vec<UserId> = members.iter().map(|member| member.user_id).collect();
    world.recorder.record(What::Began { conversation: id, members: ids.clone() });
    Room { id, members: ids }
}

fn start_people(world: &Arc<World>, seed: u64, people: &mut JoinSet<()>) {
    for (index, person) in world.people.iter().enumerate() {
        let rng = |salt: u64| StdRng::seed_from_u64(seed ^ (u64::try_from(index).unwrap() << 8) ^ (salt << 32));
        people.spawn(talker::Talker::new(Arc::clone(world), person.clone(), rng(1)).run());
        people.spawn(caller::send(Arc::clone(world), person.clone(), rng(2)));
    }
    let coming_and_going = world.people.get(4..).unwrap_or_default().iter().map(|person| person.user_id).collect();
    let rng = StdRng::seed_from_u64(seed ^ 0xface);
    people.spawn(caller::change_members(Arc::clone(world), coming_and_going, rng));
}

async fn wait_finished(world: &World) {
    let finished = async {
        while world.unfinished() > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    if tokio::time::timeout(FINISH_LIMIT, finished).await.is_err() {
        save(world);
        panic!(
            "{} sends are still without an answer {} s after the last kill",
            world.unfinished(),
            FINISH_LIMIT.as_secs()
        );
    }
}

/// Until nothing has been recorded for a while, and everybody is connected and live.
async fn wait_quiet(world: &World) {
    let deadline = Instant::now() + QUIET_LIMIT;
    let (mut length, mut since) = (world.recorder.len(), Instant::now());
    while since.elapsed() < QUIET_FOR || world.live() < world.people.len() {
        if Instant::now() >= deadline {
            save(world);
            panic!("not quiet: {} of {} people are live", world.live(), world.people.len());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        if world.recorder.len() != length {
            (length, since) = (world.recorder.len(), Instant::now());
        }
    }
}

/// Everybody reads every log that they may, at every gateway; who may not is told so.
async fn read_logs(world: &World) {
    let anna = world.people.first().unwrap();
    for room in world.rooms() {
        let reader =
            if room.members.contains(&anna.user_id) { anna } else { world.person(*room.members.first().unwrap()) };
        let members: Vec<_> =
            reader.api.members(room.id).await.unwrap().items.into_iter().map(|member| member.user_id).collect();
        for (person, line) in world.people.iter().flat_map(|person| world.lines.iter().map(move |line| (person, line)))
        {
            let api = person.api.with_base(world::url_of(line));
            if members.contains(&person.user_id) {
                let entries = read_log(&api, room.id).await;
                world.recorder.record(What::ReadLog { user: person.user_id, conversation: room.id, entries });
            } else {
                assert_eq!(api.log(room.id, 0, 1).await.unwrap_err().code(), Some("not_found"), "{}", person.name);
            }
        }
    }
}

async fn read_log(api: &entrenous_client::Api, conversation: ConversationId) -> Vec<LogEntry> {
    let mut entries: Vec<LogEntry> = Vec::new();
    loop {
        let after = entries.last().map_or(0, |entry| entry.seq);
        let page = api.log(conversation, after, LOG_PAGE).await.unwrap();
        entries.extend(page.items.iter().map(log_entry));
        if !page.has_more {
            return entries;
        }
    }
}

fn log_entry(entry: &Entry) -> LogEntry {
    let member = (entry.kind == EntryKind::Member).then(|| {
        let content: MemberContent = serde_json::from_str(entry.content.as_ref().unwrap().get()).unwrap();
        MemberChange { user: content.user_id, is_member: content.change.leaves_a_member() }
    });
    let is_message = entry.kind == EntryKind::Message && entry.message_type != Some(MessageType::Control);
    LogEntry {
        seq: entry.seq,
        id: entry.id,
        sender: entry.sender_id,
        member,
        is_countable: is_message && !entry.deleted,
    }
}

/// Keeps the history for whoever looks for the fault.
fn save(world: &World) -> std::path::PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("broken-promise.jsonl");
    world.recorder.history().write(std::io::BufWriter::new(File::create(&path).unwrap())).unwrap();
    path
}

/// A pause between these.
fn between(rng: &mut StdRng, milliseconds: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(rng.random_range(milliseconds))
}
