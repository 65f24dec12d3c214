//! However a `sync` is interleaved with what is committed, comes live, is lost and is repaired: the connection gets each
//! entry once, in order and without a hole, and is told truly where it stands.

use std::collections::HashMap;

use entrenous_model::{ConnectionId, ConversationId, DeviceId, LoginId, UserId};
use entrenous_protocol::{
    entry::{ConversationKind, EntryKind},
    frame::SyncedConversation,
    live::{LiveKind, LiveMessage, Preamble},
    rpc::store::{Head, LogEntry, Membership, Range},
};
use futures::FutureExt as _;
use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::{
    connection::outbox::{Outbox, Outgoing},
    fanout::{Fanout, Standing},
};

type Check = Result<(), TestCaseError>;

#[derive(Debug, Clone)]
enum Step {
    Commit { conversation: usize },
    Deliver { which: usize, is_repeated: bool },
    Lose { which: usize },
    Tick,
    Repair { which: usize, page: Cut },
    Sync { asked: Asked, page: Cut },
}

/// How much of a page is read; nothing where the store is away.
#[derive(Debug, Clone, Copy)]
struct Cut(usize);

const WHOLE: Cut = Cut(usize::MAX);

/// What the next `sync` asks for, and what it may send.
#[derive(Debug, Clone)]
struct Asked {
    cursors: Vec<Option<u64>>,
    from: Option<SyncFrom>,
    budget: Budget,
}

/// How things stand in the beginning.
#[derive(Debug, Clone)]
struct Log {
    head: u64,
    first_seq: u64,
    device_start_seq: u64,
    acknowledged: Option<u64>,
    is_followed: bool,
}

fn cut() -> impl Strategy<Value = Cut> {
    prop_oneof![1 => Just(Cut(0)), 3 => (1..4_usize).prop_map(Cut), 3 => Just(WHOLE)]
}

fn log() -> impl Strategy<Value = Log> {
    (0..8_u64, 1..8_u64, 0..8_u64, prop::option::of(0..8_u64), any::<bool>()).prop_map(
        |(head, first_seq, device_start_seq, acknowledged, is_followed)| Log {
            head,
            first_seq: first_seq.min(head.max(1)),
            device_start_seq: device_start_seq.min(head),
            acknowledged: acknowledged.map(|seq| seq.min(head)),
            is_followed,
        },
    )
}

fn asked() -> impl Strategy<Value = Asked> {
    let cursors = prop::collection::vec(prop::option::of(0..12_u64), 2);
    let from = prop_oneof![Just(None), Just(Some(SyncFrom::Start)), Just(Some(SyncFrom::Now))];
    let budget = prop_oneof![
        1 => (0..12_usize, 0..2_000_usize, 0..6_u32, 1..1_000_usize),
        1 => Just((1_000, 1_000_000, 1_000, 100_000)),
    ]
    .prop_map(|(entries, bytes, entries_per_conversation, page_bytes)| Budget {
        entries,
        bytes,
        entries_per_conversation,
        page_bytes,
    });
    (cursors, from, budget).prop_map(|(cursors, from, budget)| Asked { cursors, from, budget })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..2_usize).prop_map(|conversation| Step::Commit { conversation }),
        4 => (0..4_usize, prop::bool::weighted(0.2))
            .prop_map(|(which, is_repeated)| Step::Deliver { which, is_repeated }),
        1 => (0..4_usize).prop_map(|which| Step::Lose { which }),
        1 => Just(Step::Tick),
        3 => (0..3_usize, cut()).prop_map(|(which, page)| Step::Repair { which, page }),
        8 => (asked(), cut()).prop_map(|(asked, page)| Step::Sync { asked, page }),
    ];
    prop::collection::vec(step, 1..80)
}

/// A repair of the worker's: what was read, once it was.
struct Repair {
    conversation: usize,
    after: u64,
    read: Option<RangeRead>,
}

/// Where the connection's `sync` stands.
enum Stage {
    Idle,
    /// The memberships were read.
    Positions(Memberships, Asked),
    /// A page is to be read.
    Asking(Replays, Page),
    /// It was read.
    Read(Replays, Option<Vec<RangeRead>>),
}

/// What the client was sent of a conversation.
#[derive(Debug, Default)]
struct Received {
    /// The only seq that may come; none while nothing may.
    next: Option<u64>,
    /// Since the last `sync` began.
    starts_at: Option<u64>,
    entries: u32,
    bytes: usize,
}

/// What the client knows of its `sync`.
struct Expected {
    budget: Budget,
    /// Conversations that are replayed, and the head when it began. The client's cursor may be ahead of that.
    replayed: HashMap<usize, (u64, bool)>,
    entries: usize,
    bytes: usize,
    was_away: bool,
}

struct World {
    logs: Vec<Log>,
    fanout: Fanout,
    connection: Rc<Connection>,
    received: Vec<Received>,
    other: Rc<Connection>,
    other_received: Vec<Received>,
    /// Live messages on their way.
    flying: Vec<(usize, u64)>,
    repairs: Vec<Repair>,
    stage: Stage,
    expected: Option<Expected>,
}

fn id_of(conversation: usize) -> ConversationId {
    Uuid::from_u128(0xc0 + u128::try_from(conversation).unwrap()).into()
}

fn place_of(conversation: ConversationId) -> usize {
    usize::try_from(conversation.as_uuid().as_u128() - 0xc0).unwrap()
}

fn frame_of(conversation: usize, seq: u64) -> Value {
    let text = "x".repeat(usize::try_from(seq * 7 % 5 * 30).unwrap());
    json!({
        "type": "group_message", "id": Uuid::from_u128(u128::from(seq)),
        "payload": {"conversation": conversation, "seq": seq, "text": text}, "meta": {"timestamp": 0},
    })
}

fn live(conversation: usize, seq: u64) -> LiveMessage {
    let preamble = Preamble { subject: id_of(conversation).as_uuid(), seq, ..Preamble::empty(LiveKind::Entry) };
    LiveMessage { preamble, body: frame_of(conversation, seq).to_string().into(), trace: None }
}

fn connection(fanout: &mut Fanout, number: u128) -> Rc<Connection> {
    let id = Uuid::from_u128(number << 64 | number);
    let (user, device, login) = (UserId::from(id), DeviceId::from(id), LoginId::from(id));
    let connection = Connection::new(ConnectionId::from(id), user, device, login, Outbox::new(10_000, 1 << 24));
    connection.has_synced.set(true);
    fanout.add_connection(&connection);
    connection
}

/// Takes what was sent to a connection: each seq must be the one that is next.
fn receive(connection: &Connection, received: &mut [Received]) -> Check {
    while let Some(Some(Outgoing::Text(text))) = connection.outbox.next().now_or_never() {
        let frame: Value = serde_json::from_str(&text).unwrap();
        let conversation = usize::try_from(frame["payload"]["conversation"].as_u64().unwrap()).unwrap();
        let seq = frame["payload"]["seq"].as_u64().unwrap();
        let received = &mut received[conversation];
        prop_assert_eq!(received.next, Some(seq), "conversation {}", conversation);
        received.next = Some(seq + 1);
        received.starts_at.get_or_insert(seq);
        received.entries += 1;
        received.bytes += text.len();
    }
    Ok(())
}

impl World {
    fn new(logs: Vec<Log>) -> Self {
        let mut fanout = Fanout::default();
        let (mine, other) = (connection(&mut fanout, 1), connection(&mut fanout, 2));
        let mut other_received = Vec::new();
        for (conversation, log) in logs.iter().enumerate() {
            if log.is_followed {
                let (id, kind) = (id_of(conversation), ConversationKind::Group);
                let standing = Standing { conversation: id, kind, head: log.head, leaves: 0 };
                fanout.start_syncing(&other, &standing);
                fanout.go_live(&other, id, log.head, true);
            }
            let next = log.is_followed.then_some(log.head + 1);
            other_received.push(Received { next, ..Received::default() });
        }
        let received = logs.iter().map(|_| Received::default()).collect();
        Self {
            logs,
            fanout,
            connection: mine,
            received,
            other,
            other_received,
            flying: Vec::new(),
            repairs: Vec::new(),
            stage: Stage::Idle,
            expected: None,
        }
    }

    fn take(&mut self, step: Step) -> Check {
        match step {
            Step::Commit { conversation } => {
                let log = &mut self.logs[conversation];
                log.head += 1;
                self.flying.push((conversation, log.head));
            }
            Step::Deliver { which, is_repeated } => {
                if let Some((conversation, seq)) = self.flying.get(which).copied() {
                    if !is_repeated {
                        self.flying.remove(which);
                    }
                    self.fanout.on_live_entry(&live(conversation, seq));
                    self.take_holes();
                }
            }
            Step::Lose { which } => {
                if which < self.flying.len() {
                    self.flying.remove(which);
                }
            }
            Step::Tick => {
                self.fanout.tick();
                self.take_holes();
            }
            Step::Repair { which, page } => self.repair(which, page),
            Step::Sync { asked, page } => self.sync(asked, page)?,
        }
        self.receive()
    }

    fn receive(&mut self) -> Check {
        receive(&self.connection, &mut self.received)?;
        receive(&self.other, &mut self.other_received)
    }

    fn take_holes(&mut self) {
        for (conversation, after) in self.fanout.take_holes() {
            self.repairs.push(Repair { conversation: place_of(conversation), after, read: None });
        }
    }

    /// As the store reads: the first entry always, the others as long as they fit.
    fn read(&self, ranges: &[Range], bytes_max: usize, page: Cut) -> Option<Vec<RangeRead>> {
        let mut left = page.0;
        let mut bytes = 0;
        let mut read = |range: &Range| {
            let conversation = place_of(range.conversation_id);
            let log = &self.logs[conversation];
            let seqs = (range.after + 1).max(log.first_seq)..=log.head;
            let mut entries = Vec::new();
            for seq in seqs.take(usize::try_from(range.limit).unwrap()) {
                let frame = serde_json::value::to_raw_value(&frame_of(conversation, seq)).unwrap();
                let is_first = bytes == 0;
                bytes += frame.get().len();
                if left == 0 || !(is_first || bytes <= bytes_max) {
                    left = 0;
                    break;
                }
                left -= 1;
                let id = Uuid::from_u128(u128::from(seq)).into();
                entries.push(LogEntry { seq, id, kind: EntryKind::Message, sender_device_id: None, frame });
            }
            let given = entries.last().map_or(range.after, |entry| entry.seq);
            RangeRead {
                conversation_id: range.conversation_id,
                is_readable: true,
                entries,
                first_seq: log.first_seq,
                readable_from: log.first_seq,
                last_seq: log.head,
                has_more: given < log.head,
                leaves: 0,
                left: Vec::new(),
            }
        };
        (page.0 > 0).then(|| ranges.iter().map(&mut read).collect())
    }

    /// What the worker does with a hole, with time between its read and what it does with that.
    fn repair(&mut self, which: usize, page: Cut) {
        if which >= self.repairs.len() {
            return;
        }
        let Repair { conversation, after, read } = self.repairs.remove(which);
        let id = id_of(conversation);
        let Some(read) = read else {
            match self.read(&[Range { conversation_id: id, after, limit: 100, leaves_after: 0 }], usize::MAX, page) {
                Some(mut reads) => self.repairs.push(Repair { conversation, after, read: reads.pop() }),
                None => self.fanout.on_repair_failed(id),
            }
            return;
        };
        let is_stuck = read.entries.is_empty() && !read.has_more;
        if self.fanout.on_repaired(read) {
            return;
        }
        if is_stuck {
            self.fanout.on_repair_failed(id);
        } else {
            let after = self.fanout.forwarded(id).unwrap_or(after);
            self.repairs.push(Repair { conversation, after, read: None });
        }
    }

    fn memberships(&self) -> Memberships {
        let membership = |(conversation, log): (usize, &Log)| Membership {
            conversation_id: id_of(conversation),
            kind: ConversationKind::Group,
            readable_from: log.first_seq,
            first_seq: log.first_seq,
            last_seq: log.head,
            device_start_seq: log.device_start_seq,
            has_mention: false,
            last_mention_seq: 0,
            leaves: 0,
        };
        let conversations = self.logs.iter().enumerate().map(membership).collect();
        Memberships { membership_version: 1, conversations, left: Vec::new() }
    }

    /// Goes on with the `sync` up to where it next awaits something.
    fn sync(&mut self, asked: Asked, page: Cut) -> Check {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Idle => Stage::Positions(self.memberships(), asked),
            Stage::Positions(memberships, asked) => {
                let replays = self.begin(&memberships, &asked);
                self.go_on(replays)?
            }
            Stage::Asking(replays, asked) => {
                let read = self.read(&asked.ranges, asked.bytes_max, page);
                Stage::Read(replays, read)
            }
            Stage::Read(mut replays, read) => {
                let expected = self.expected.as_mut().unwrap();
                let left = expected.budget.entries - expected.entries;
                let before = self.received.iter().map(|received| received.entries).sum::<u32>();
                if let Some(reads) = read {
                    let entries = reads.iter().flat_map(|read| &read.entries).take(left);
                    let frames = || entries.clone().map(|entry| entry.frame.get().len());
                    expected.entries += frames().count();
                    expected.bytes += frames().sum::<usize>();
                    replays.on_page(&mut self.fanout, reads);
                } else {
                    expected.was_away = true;
                    replays.on_unreadable();
                }
                self.receive()?;
                let sent = self.received.iter().map(|received| received.entries).sum::<u32>() - before;
                prop_assert!(usize::try_from(sent).unwrap() <= left, "{} entries instead of {}", sent, left);
                self.go_on(replays)?
            }
        };
        Ok(())
    }

    fn begin(&mut self, memberships: &Memberships, asked: &Asked) -> Replays {
        let cursors =
            asked.cursors.iter().enumerate().filter_map(|(at, cursor)| Some((id_of(at), (*cursor)?))).collect();
        let request = SyncRequest { cursors, from: asked.from, limit: None };
        let acknowledged = self.logs.iter().enumerate().filter_map(|(at, log)| Some((id_of(at), log.acknowledged?)));
        let wanted = plan::replays(&self.connection, memberships, &acknowledged.collect(), &request);
        let mut replayed = HashMap::new();
        for (conversation, membership) in memberships.conversations.iter().enumerate() {
            let cursor = asked.cursors[conversation];
            if cursor.is_none() && self.received[conversation].next.is_some() {
                continue;
            }
            let head = membership.last_seq;
            let log = &self.logs[conversation];
            let start = cursor.unwrap_or(match asked.from {
                Some(SyncFrom::Now) => head,
                Some(SyncFrom::Start) => 0,
                None => log.acknowledged.unwrap_or(log.device_start_seq),
            });
            let is_ahead = start > head;
            let next = (!is_ahead).then_some((start + 1).max(log.first_seq));
            self.received[conversation] = Received { next, ..Received::default() };
            replayed.insert(conversation, (head, is_ahead));
        }
        let budget = asked.budget.clone();
        self.expected = Some(Expected { budget, replayed, entries: 0, bytes: 0, was_away: false });
        Replays::start(&mut self.fanout, &self.connection, wanted, asked.budget.clone())
    }

    fn go_on(&mut self, mut replays: Replays) -> Result<Stage, TestCaseError> {
        if let Some(page) = replays.next_page(&mut self.fanout) {
            self.is_within_budget(&page)?;
            return Ok(Stage::Asking(replays, page));
        }
        let listed = replays.complete(&mut self.fanout);
        self.is_true(&listed)?;
        Ok(Stage::Idle)
    }

    /// Nothing is read when a bound is reached; so that of bytes is passed by one entry at most.
    fn is_within_budget(&self, page: &Page) -> Check {
        let Expected { budget, entries, bytes, .. } = self.expected.as_ref().unwrap();
        prop_assert!(*entries < budget.entries && *bytes < budget.bytes);
        prop_assert!(page.bytes_max <= (budget.bytes - bytes).min(budget.page_bytes));
        for range in &page.ranges {
            let received = &self.received[place_of(range.conversation_id)];
            prop_assert_eq!(received.next, Some(range.after + 1));
            prop_assert!(received.bytes < budget.page_bytes);
            prop_assert!((1..=budget.entries_per_conversation - received.entries).contains(&range.limit));
        }
        Ok(())
    }

    /// `sync_complete` says of each conversation what the client has seen.
    fn is_true(&mut self, listed: &[SyncedConversation]) -> Check {
        let expected = self.expected.take().unwrap();
        for synced in listed {
            prop_assert!(expected.replayed.contains_key(&place_of(synced.conversation_id)));
        }
        for (&conversation, &(head, is_ahead)) in &expected.replayed {
            let id = id_of(conversation);
            let synced = listed.iter().find(|synced| synced.conversation_id == id);
            let mode = self.connection.mode(id);
            let received = &mut self.received[conversation];
            let Some(next) = received.next else {
                let synced = synced.unwrap();
                prop_assert!(is_ahead && mode == Mode::Paused && !synced.has_more);
                prop_assert_eq!((synced.last_seq, synced.sent_up_to), (head, head));
                continue;
            };
            let position = next - 1;
            let has_more = synced.is_some_and(|synced| synced.has_more);
            prop_assert_eq!(synced.is_some(), has_more || received.entries > 0);
            if let Some(synced) = synced {
                prop_assert_eq!(synced.sent_up_to, position);
                prop_assert_eq!(synced.starts_at, received.starts_at.unwrap_or(next));
                prop_assert_eq!(synced.first_seq, self.logs[conversation].first_seq);
                prop_assert!(synced.last_seq <= self.logs[conversation].head);
                prop_assert_eq!(synced.last_seq > position, has_more);
            }
            if has_more {
                let Expected { budget, entries, bytes, was_away, .. } = &expected;
                let is_used_up = received.entries >= budget.entries_per_conversation
                    || received.bytes >= budget.page_bytes
                    || *entries >= budget.entries
                    || *bytes >= budget.bytes;
                prop_assert!(mode == Mode::Paused && (*was_away || is_used_up));
                received.next = None;
            } else {
                prop_assert!(mode == Mode::Live && position >= head);
            }
        }
        Ok(())
    }

    /// Whatever was under way ends, and what was lost is looked for.
    fn finish(&mut self) -> Check {
        while !matches!(self.stage, Stage::Idle) {
            let budget = Budget { entries: 0, bytes: 0, entries_per_conversation: 0, page_bytes: 0 };
            let asked = Asked { cursors: vec![None; self.logs.len()], from: None, budget };
            self.take(Step::Sync { asked, page: WHOLE })?;
        }
        self.flying.clear();
        self.catch_up()?;
        self.is_up_to_date()?;
        for conversation in 0..self.logs.len() {
            self.take(Step::Commit { conversation })?;
            self.take(Step::Deliver { which: 0, is_repeated: false })?;
        }
        self.is_up_to_date()
    }

    fn catch_up(&mut self) -> Check {
        let head =
            |(conversation, log): (usize, &Log)| Head { conversation_id: id_of(conversation), last_seq: log.head };
        let heads: Vec<Head> = self.logs.iter().enumerate().map(head).collect();
        for _ in 0..100 {
            while !self.repairs.is_empty() {
                self.take(Step::Repair { which: 0, page: WHOLE })?;
            }
            if !self.fanout.note_heads(&heads) {
                return Ok(());
            }
            self.take(Step::Tick)?;
        }
        prop_assert!(false, "a conversation stays behind");
        Ok(())
    }

    fn is_up_to_date(&self) -> Check {
        for (conversation, log) in self.logs.iter().enumerate() {
            let received = &self.received[conversation];
            let is_live = self.connection.mode(id_of(conversation)) == Mode::Live;
            prop_assert_eq!(received.next, is_live.then_some(log.head + 1));
            prop_assert_eq!(self.other_received[conversation].next, log.is_followed.then_some(log.head + 1));
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn a_sync_amid_anything_gives_every_entry_once_and_tells_the_truth(
        logs in prop::collection::vec(log(), 2),
        steps in steps(),
    ) {
        let mut world = World::new(logs);
        for step in steps {
            world.take(step)?;
        }
        world.finish()?;
    }
}

#[test]
fn nobody_goes_live_on_a_membership_from_before_the_last_leave() {
    for is_member in [true, false] {
        let mut fanout = Fanout::default();
        let (mine, other) = (connection(&mut fanout, 1), connection(&mut fanout, 2));
        let standing = |leaves| Standing { conversation: id_of(0), kind: ConversationKind::Channel, head: 3, leaves };
        fanout.start_syncing(&other, &standing(1));
        let budget = Budget { entries: 10, bytes: 1_000, entries_per_conversation: 10, page_bytes: 1_000 };
        let mut replays = Replays::start(&mut fanout, &mine, vec![Replay::catch_up(standing(0))], budget);
        let asked = replays.next_page(&mut fanout).expect("the head is reached, but somebody has left meanwhile");
        let read = RangeRead {
            conversation_id: id_of(0),
            is_readable: is_member,
            entries: Vec::new(),
            first_seq: 1,
            readable_from: 1,
            last_seq: 3,
            has_more: false,
            leaves: 1,
            left: Vec::new(),
        };
        assert_eq!(asked.ranges.len(), 1);
        replays.on_page(&mut fanout, vec![read]);
        assert!(replays.next_page(&mut fanout).is_none());
        assert_eq!(mine.mode(id_of(0)) == Mode::Live, is_member);
        assert_eq!(mine.knows(id_of(0)), is_member);
    }
}
