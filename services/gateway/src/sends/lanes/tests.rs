//! Whatever the store answers, and in whatever order: every message gets one reply, in its sender's order nobody is
//! overtaken, and nobody waits for another's conversation.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use entrenous_model::{DeviceId, UserId};
use entrenous_protocol::{
    Act,
    entry::MessageType,
    message::NewMessage,
    rpc::store::{ActRequest, AppendMessage},
};
use proptest::prelude::*;
use serde_json::value::RawValue;
use tokio::sync::oneshot;
use tracing::Span;
use uuid::Uuid;

use super::{super::ReplyTo, *};

const PATIENCE: Duration = Duration::from_millis(300);
const CONVERSATIONS: usize = 3;

#[derive(Debug, Clone)]
enum Step {
    Submit { origin: u64, conversation: usize, bytes: usize, count: usize },
    Act { origin: u64, conversation: usize },
    Launch,
    Land { which: usize, outcome: Outcome },
    Pass(u64),
}

/// What the store does with a batch.
#[derive(Debug, Clone)]
enum Outcome {
    Failed(Code),
    /// By conversation.
    Answered(Vec<Answer>),
}

/// In the order of the request: so many are taken up, so many are busy, and for the rest the store is away.
#[derive(Debug, Clone)]
struct Answer {
    taken: usize,
    busy: usize,
    is_member: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let bytes = prop_oneof![4 => Just(600), 1 => Just(APPEND_BYTES_MAX / 3), 1 => Just(APPEND_BYTES_MAX * 2)];
    let count = prop_oneof![20 => 1..4_usize, 1 => Just(APPEND_MAX + 10)];
    let submit = (0..3_u64, 0..CONVERSATIONS, bytes, count)
        .prop_map(|(origin, conversation, bytes, count)| Step::Submit { origin, conversation, bytes, count });
    let act = (0..3_u64, 0..CONVERSATIONS).prop_map(|(origin, conversation)| Step::Act { origin, conversation });
    let some = || prop_oneof![0..3_usize, Just(usize::MAX)];
    let answer = (some(), some(), prop::bool::weighted(0.9)).prop_map(|(taken, busy, is_member)| Answer {
        taken,
        busy,
        is_member,
    });
    let outcome = prop_oneof![
        1 => prop_oneof![Just(Code::Unavailable), Just(Code::Internal)].prop_map(Outcome::Failed),
        6 => prop::collection::vec(answer, CONVERSATIONS).prop_map(Outcome::Answered),
    ];
    let land = (0..4_usize, outcome).prop_map(|(which, outcome)| Step::Land { which, outcome });
    prop::collection::vec(
        prop_oneof![4 => submit, 1 => act, 4 => Just(Step::Launch), 4 => land, 2 => (1..250_u64).prop_map(Step::Pass)],
        1..60,
    )
}

/// The partition's driver, its senders and the store.
struct World {
    lanes: Lanes,
    now: Instant,
    flights: Vec<(Lane, Vec<Queued>)>,
    submitted: u128,
    /// Messages by number that await their reply.
    unanswered: BTreeMap<u128, Sequence>,
    /// Conversations that were busy and still have messages, and when they were so last.
    busy: HashMap<ConversationId, Instant>,
}

impl World {
    fn new() -> Self {
        Self {
            lanes: Lanes::default(),
            now: Instant::now(),
            flights: Vec::new(),
            submitted: 0,
            unanswered: BTreeMap::new(),
            busy: HashMap::new(),
        }
    }

    fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Submit { origin, conversation, bytes, count } => {
                for _ in 0..count {
                    self.submit(origin, conversation, bytes);
                }
            }
            Step::Act { origin, conversation } => self.act(origin, conversation),
            Step::Launch => self.launch()?,
            Step::Land { which, outcome } if !self.flights.is_empty() => {
                self.land(which % self.flights.len(), &outcome)?;
            }
            Step::Land { .. } => {}
            Step::Pass(milliseconds) => self.now += Duration::from_millis(milliseconds),
        }
        let is_idle = self.unanswered.is_empty();
        prop_assert_eq!(self.lanes.is_idle(), is_idle, "idle");
        Ok(())
    }

    fn submit(&mut self, origin: u64, conversation: usize, bytes: usize) {
        self.submitted += 1;
        self.route(queued(self.submitted, origin, conversation, bytes, self.now + PATIENCE));
    }

    fn act(&mut self, origin: u64, conversation: usize) {
        self.submitted += 1;
        self.route(act(self.submitted, origin, conversation, self.now + PATIENCE));
    }

    fn route(&mut self, queued: Queued) {
        self.unanswered.insert(self.submitted, sequence(&queued));
        self.lanes.route(queued);
    }

    fn launch(&mut self) -> Result<(), TestCaseError> {
        for (lane, batch) in self.lanes.launch(self.now) {
            prop_assert!(self.flights.iter().all(|(other, _)| *other != lane), "two batches of {lane:?}");
            prop_assert!(!batch.is_empty() && batch.len() <= APPEND_MAX);
            let bytes: usize = batch.iter().map(|queued| queued.bytes).sum();
            prop_assert!(batch.len() == 1 || bytes <= APPEND_BYTES_MAX);
            let is_act = |queued: &Queued| matches!(queued.item, Item::Act(_));
            prop_assert!(batch.len() == 1 || !batch.iter().any(is_act), "an act takes a call of its own");
            self.is_next(&batch)?;
            self.flights.push((lane, batch));
        }
        self.nobody_waits_for_nothing()
    }

    /// Of each sequence the batch has those that were submitted first among all that are not answered.
    fn is_next(&self, batch: &[Queued]) -> Result<(), TestCaseError> {
        let mut sequences: HashMap<Sequence, Vec<u128>> = HashMap::new();
        for queued in batch {
            sequences.entry(sequence(queued)).or_default().push(number(queued));
        }
        for (sequence, numbers) in sequences {
            let waiting = self.unanswered.iter().filter(|(_, of)| **of == sequence).map(|(number, _)| *number);
            prop_assert_eq!(waiting.take(numbers.len()).collect::<Vec<_>>(), numbers);
        }
        Ok(())
    }

    /// What has not left waits for a batch of its own queue, or because its own conversation was busy just now.
    fn nobody_waits_for_nothing(&self) -> Result<(), TestCaseError> {
        prop_assert!(self.lanes.next_retry().is_none_or(|at| at > self.now), "the driver would spin");
        let left: BTreeSet<u128> = self.flights.iter().flat_map(|(_, batch)| batch).map(number).collect();
        let is_under_way = |lane: Lane| self.flights.iter().any(|(other, _)| *other == lane);
        for (number, (_, conversation)) in self.unanswered.iter().filter(|(number, _)| !left.contains(number)) {
            let has_reason = match self.busy.get(conversation) {
                None => is_under_way(None) || is_under_way(Some(*conversation)),
                Some(_) if is_under_way(Some(*conversation)) => true,
                Some(at) => *at + BACKOFF_MAX > self.now && self.lanes.next_retry().is_some(),
            };
            prop_assert!(has_reason, "{number} is held up");
        }
        Ok(())
    }

    fn land(&mut self, which: usize, outcome: &Outcome) -> Result<(), TestCaseError> {
        let (lane, batch) = self.flights.remove(which);
        let results = match outcome {
            Outcome::Failed(code) => Err(Failure::new(*code, "")),
            Outcome::Answered(answers) => Ok(append(&batch, answers)),
        };
        let pairs = || batch.iter().zip(results.iter().flatten());
        let said: HashMap<u128, AppendResult> =
            pairs().map(|(queued, result)| (number(queued), result.clone())).collect();
        let busy = pairs().filter(|(queued, result)| **result == AppendResult::Busy && queued.deadline > self.now);
        self.busy.extend(busy.map(|(queued, _)| (queued.item.conversation_id(), self.now)));
        let replies = self.lanes.land(lane, batch, results, self.now);
        self.check_replies(&said, &replies)?;
        let unanswered: BTreeSet<ConversationId> = self.unanswered.values().map(|(_, of)| *of).collect();
        self.busy.retain(|conversation, _| unanswered.contains(conversation));
        Ok(())
    }

    /// Each has one reply, which is what the store said of it; and behind one that is `unavailable` nothing waits.
    fn check_replies(&mut self, said: &HashMap<u128, AppendResult>, replies: &[Reply]) -> Result<(), TestCaseError> {
        for (queued, result) in replies {
            let number = number(queued);
            prop_assert!(self.unanswered.remove(&number).is_some(), "{number} has its reply already");
            match said.get(&number) {
                Some(AppendResult::Stored(stored)) => prop_assert_eq!(result, &Ok(Some(*stored))),
                Some(AppendResult::Done) => prop_assert_eq!(result, &Ok(None)),
                Some(AppendResult::Refused(failure)) => prop_assert_eq!(result, &Err(failure.clone())),
                Some(AppendResult::Busy) => prop_assert!(queued.deadline <= self.now || is_unavailable(result)),
                None => prop_assert!(result.is_err()),
            }
        }
        for (queued, _) in replies.iter().filter(|(queued, result)| queued.item.origin() != 0 && is_unavailable(result))
        {
            let mut later = self.unanswered.range(number(queued)..).filter(|(_, of)| **of == sequence(queued));
            prop_assert_eq!(later.next(), None, "waits behind {}", number(queued));
        }
        for number in said.iter().filter(|(_, result)| **result != AppendResult::Busy).map(|(number, _)| number) {
            prop_assert!(!self.unanswered.contains_key(number), "{number} has no reply");
        }
        Ok(())
    }

    /// The store answers everything, and time passes where somebody waits for it.
    fn finish(&mut self) -> Result<(), TestCaseError> {
        let all = Answer { taken: usize::MAX, busy: 0, is_member: true };
        let stored = Outcome::Answered(vec![all; CONVERSATIONS]);
        while !self.unanswered.is_empty() {
            self.launch()?;
            match self.lanes.next_retry() {
                _ if !self.flights.is_empty() => self.land(0, &stored)?,
                Some(at) => self.now = at,
                None => prop_assert!(false, "nothing would ever happen again"),
            }
        }
        prop_assert!(self.lanes.is_idle());
        prop_assert_eq!(self.lanes.next_retry(), None);
        Ok(())
    }
}

/// Once a conversation is busy or the store is away it stays so for the rest of the batch.
fn append(batch: &[Queued], answers: &[Answer]) -> Vec<AppendResult> {
    let mut places: HashMap<ConversationId, usize> = HashMap::new();
    let results = batch.iter().map(|queued| {
        let conversation = queued.item.conversation_id();
        let answer = &answers[usize::try_from(conversation.as_uuid().as_u128()).unwrap()];
        let place = places.entry(conversation).or_insert(0);
        *place += 1;
        if *place > answer.taken.saturating_add(answer.busy) {
            AppendResult::Refused(Failure::unavailable("away"))
        } else if *place > answer.taken {
            AppendResult::Busy
        } else if matches!(queued.item, Item::Act(_)) {
            AppendResult::Done
        } else if answer.is_member {
            AppendResult::Stored(stored(number(queued)))
        } else {
            AppendResult::Refused(Failure::not_found())
        }
    });
    results.collect()
}

fn stored(number: u128) -> Stored {
    let sent_at = chrono::DateTime::UNIX_EPOCH.into();
    Stored { seq: u64::try_from(number).unwrap(), sent_at, expires_at: None, is_repeat: false, may_differ: false }
}

fn is_unavailable(result: &Result<Option<Stored>, Failure>) -> bool {
    result.as_ref().is_err_and(|failure| failure.code == Code::Unavailable)
}

fn number(queued: &Queued) -> u128 {
    let id = match &queued.item {
        Item::Message(message) => message.message.id,
        Item::Act(act) => act.id,
        Item::Membership(change) => change.frame.entry_id,
    };
    id.as_uuid().as_u128()
}

fn queued(number: u128, origin: u64, conversation: usize, bytes: usize, deadline: Instant) -> Queued {
    let object = || RawValue::from_string("{}".to_owned()).unwrap();
    let message = NewMessage {
        id: Uuid::from_u128(number).into(),
        message_type: MessageType::Text,
        content: object(),
        is_sealed: false,
        reply_to: None,
        thread_id: None,
        attachments: Vec::new(),
        mentions: Vec::new(),
        metadata: object(),
        signature: None,
    };
    let message = AppendMessage {
        conversation_id: Uuid::from_u128(u128::try_from(conversation).unwrap()).into(),
        direct_with: None,
        sender_id: UserId::from(Uuid::nil()),
        sender_device_id: DeviceId::from(Uuid::nil()),
        origin,
        message,
        trace: None,
    };
    let reply = ReplyTo::Request(oneshot::channel().0);
    Queued { item: Item::Message(Box::new(message)), bytes, deadline, reply, span: Span::none() }
}

fn act(number: u128, origin: u64, conversation: usize, deadline: Instant) -> Queued {
    let act = ActRequest {
        conversation_id: Uuid::from_u128(u128::try_from(conversation).unwrap()).into(),
        caller: UserId::from(Uuid::nil()),
        device_id: DeviceId::from(Uuid::nil()),
        origin,
        id: Uuid::from_u128(number).into(),
        act: Act::Pin { message_id: Uuid::nil().into() },
        not_after: None,
    };
    let reply = ReplyTo::Request(oneshot::channel().0);
    Queued { item: Item::Act(Box::new(act)), bytes: 600, deadline, reply, span: Span::none() }
}

#[test]
fn an_act_comes_after_what_was_sent_before_it_and_holds_up_nobody_else() {
    let mut lanes = Lanes::default();
    let now = Instant::now();
    let deadline = now + PATIENCE;
    let numbers = |batch: &[Queued]| batch.iter().map(number).collect::<Vec<_>>();
    lanes.route(queued(1, 7, 0, 600, deadline));
    let (lane, under_way) = lanes.launch(now).remove(0);
    lanes.route(queued(2, 7, 0, 600, deadline));
    lanes.route(act(3, 7, 0, deadline));
    lanes.route(queued(4, 7, 0, 600, deadline));
    lanes.route(queued(5, 7, 1, 600, deadline));
    assert!(lanes.launch(now).is_empty(), "the first message of the conversation is under way");
    lanes.land(lane, under_way, Ok(vec![AppendResult::Stored(stored(1))]), now);
    let launched = lanes.launch(now);
    let launched: BTreeMap<_, _> = launched.into_iter().collect();
    let own = Some(Uuid::from_u128(0).into());
    assert_eq!((numbers(&launched[&None]), numbers(&launched[&own])), (vec![5], vec![2]));
    for next in [3, 4] {
        lanes.land(own, Vec::new(), Ok(Vec::new()), now);
        assert_eq!(numbers(&lanes.launch(now).remove(0).1), [next]);
    }
}

#[test]
fn a_lane_whose_last_message_follows_one_that_failed_is_gone() {
    let mut lanes = Lanes::default();
    let now = Instant::now();
    let first_deadline = now + PATIENCE;
    lanes.route(queued(1, 7, 0, 600, first_deadline));
    lanes.route(queued(2, 7, 0, 600, first_deadline + PATIENCE));
    let (lane, batch) = lanes.launch(now).remove(0);
    let replies = lanes.land(lane, batch, Ok(vec![AppendResult::Busy, AppendResult::Busy]), first_deadline);
    assert!(replies.len() == 2 && replies.iter().all(|(_, result)| is_unavailable(result)));
    assert_eq!((lanes.is_idle(), lanes.next_retry()), (true, None));
}

proptest! {
    #[test]
    fn whatever_lands_everyone_has_one_reply_and_nobody_is_overtaken_or_held_up(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.take(step)?;
        }
        world.finish()?;
    }
}
