//! What waits in one partition, and what may leave it next: the main queue, and a lane for each conversation that was
//! busy. Without I/O and without a clock: [`super::partition`] carries the batches and tells what came of them.

#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use entrenous_model::ConversationId;
use entrenous_protocol::{
    Code, Failure,
    rpc::store::{APPEND_BYTES_MAX, APPEND_MAX, AppendResult, Stored},
};
use tokio::time::Instant;

use super::{Item, Queued};

/// The first wait between two tries; doubles up to [`BACKOFF_MAX`].
pub(super) const BACKOFF_MIN: Duration = Duration::from_millis(25);
pub(super) const BACKOFF_MAX: Duration = Duration::from_millis(400);

/// Which queue a batch was taken from.
pub(super) type Lane = Option<ConversationId>;

/// What became of an item.
pub(super) type Reply = (Queued, Result<Option<Stored>, Failure>);

/// Sends of one connection into one conversation: their order is kept.
type Sequence = (u64, ConversationId);

#[derive(Default)]
struct LaneState {
    queue: VecDeque<Queued>,
    is_in_flight: bool,
    backoff: Duration,
    retry_at: Option<Instant>,
    /// The main queue's batch under way has something of this conversation, which comes first.
    waits_for_main: bool,
}

/// The queues of a partition.
#[derive(Default)]
pub(super) struct Lanes {
    main: LaneState,
    /// Of the main queue's batch under way.
    in_flight: HashSet<ConversationId>,
    own: HashMap<ConversationId, LaneState>,
}

impl Lanes {
    /// Nothing waits and nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        !self.main.is_in_flight && self.main.queue.is_empty() && self.own.is_empty()
    }

    /// Something came.
    pub(super) fn route(&mut self, queued: Queued) {
        let conversation = queued.item.conversation_id();
        if let Some(lane) = self.own.get_mut(&conversation) {
            lane.queue.push_back(queued);
        } else if !matches!(queued.item, Item::Message(_)) {
            let mut queue = self.take_from_main(&HashSet::from([conversation]));
            queue.push_back(queued);
            let waits_for_main = self.in_flight.contains(&conversation);
            self.own.insert(conversation, LaneState { queue, waits_for_main, ..LaneState::default() });
        } else {
            self.main.queue.push_back(queued);
        }
    }

    /// What of these conversations waits in the main queue.
    fn take_from_main(&mut self, conversations: &HashSet<ConversationId>) -> VecDeque<Queued> {
        let (taken, others) = std::mem::take(&mut self.main.queue)
            .into_iter()
            .partition(|queued| conversations.contains(&queued.item.conversation_id()));
        self.main.queue = others;
        taken
    }

    /// When the next lane has waited long enough.
    pub(super) fn next_retry(&self) -> Option<Instant> {
        self.own.values().filter(|lane| !lane.is_in_flight).filter_map(|lane| lane.retry_at).min()
    }

    /// A batch of every queue that has something, nothing under way and no reason to wait.
    pub(super) fn launch(&mut self, now: Instant) -> Vec<(Lane, Vec<Queued>)> {
        let is_due = |lane: &LaneState| !lane.waits_for_main && lane.retry_at.is_none_or(|at| at <= now);
        let due = self.own.iter_mut().filter(|(_, lane)| is_due(lane));
        let lanes = due.map(|(conversation, lane)| (Some(*conversation), lane));
        let batches: Vec<_> = lanes
            .chain([(None, &mut self.main)])
            .filter(|(_, lane)| !lane.is_in_flight && !lane.queue.is_empty())
            .map(|(key, lane)| {
                lane.is_in_flight = true;
                lane.retry_at = None;
                (key, take_batch(&mut lane.queue))
            })
            .collect();
        if let Some((None, batch)) = batches.last() {
            self.in_flight = batch.iter().map(|queued| queued.item.conversation_id()).collect();
        }
        batches
    }

    /// What came of a batch: one result for each message, or a failure of all. Gives who is to be answered.
    pub(super) fn land(
        &mut self,
        lane: Lane,
        batch: Vec<Queued>,
        results: Result<Vec<AppendResult>, Failure>,
        now: Instant,
    ) -> Vec<Reply> {
        if let Some(lane) = self.lane_mut(lane) {
            lane.is_in_flight = false;
        }
        if lane.is_none() {
            for conversation in std::mem::take(&mut self.in_flight) {
                if let Some(lane) = self.own.get_mut(&conversation) {
                    lane.waits_for_main = false;
                }
            }
        }
        let replies = match results {
            Ok(results) => self.settle(lane, batch, results, now),
            Err(failure) => self.give_up(batch, &failure),
        };
        self.own.retain(|_, lane| lane.is_in_flight || !lane.queue.is_empty());
        replies
    }

    fn lane_mut(&mut self, lane: Lane) -> Option<&mut LaneState> {
        match lane {
            None => Some(&mut self.main),
            Some(conversation) => self.own.get_mut(&conversation),
        }
    }

    fn settle(&mut self, lane: Lane, batch: Vec<Queued>, results: Vec<AppendResult>, now: Instant) -> Vec<Reply> {
        let mut replies = Vec::with_capacity(batch.len());
        let mut busy: Vec<Queued> = Vec::new();
        let mut broken: HashSet<Sequence> = HashSet::new();
        for (queued, result) in batch.into_iter().zip(results) {
            let result = match result {
                AppendResult::Stored(stored) => Ok(Some(stored)),
                AppendResult::Done => Ok(None),
                AppendResult::Busy if queued.deadline > now => {
                    busy.push(queued);
                    continue;
                }
                AppendResult::Busy => Err(Failure::unavailable("the conversation is locked")),
                AppendResult::Refused(failure) => Err(failure),
            };
            if result.as_ref().is_err_and(|failure| failure.code == Code::Unavailable) {
                broken.insert(sequence(&queued));
            }
            replies.push((queued, result));
        }
        self.put_back(lane, busy, now);
        self.break_followers(&mut replies, &broken);
        replies
    }

    /// What was busy waits in its conversation's lane, before everything of that conversation that came later.
    fn put_back(&mut self, lane: Lane, busy: Vec<Queued>, now: Instant) {
        if busy.is_empty() {
            if let Some(lane) = lane.and_then(|conversation| self.own.get_mut(&conversation)) {
                lane.backoff = Duration::ZERO;
            }
            return;
        }
        let conversations: HashSet<_> = busy.iter().map(|queued| queued.item.conversation_id()).collect();
        let behind = self.take_from_main(&conversations);
        for queued in busy.into_iter().rev() {
            self.own.entry(queued.item.conversation_id()).or_default().queue.push_front(queued);
        }
        for queued in behind {
            self.own.entry(queued.item.conversation_id()).or_default().queue.push_back(queued);
        }
        for conversation in conversations {
            if let Some(lane) = self.own.get_mut(&conversation) {
                lane.backoff = (lane.backoff * 2).clamp(BACKOFF_MIN, BACKOFF_MAX);
                lane.retry_at = Some(now + lane.backoff);
            }
        }
    }

    fn give_up(&mut self, batch: Vec<Queued>, failure: &Failure) -> Vec<Reply> {
        let broken = batch.iter().map(sequence).collect();
        let mut replies = batch.into_iter().map(|queued| (queued, Err(failure.clone()))).collect();
        self.break_followers(&mut replies, &broken);
        replies
    }

    /// When a connection's send ends in `unavailable`, those of the same conversation that wait behind it end so too:
    /// else they could overtake it when the client repeats it.
    fn break_followers(&mut self, replies: &mut Vec<Reply>, broken: &HashSet<Sequence>) {
        if broken.is_empty() {
            return;
        }
        let is_follower = |queued: &Queued| queued.item.origin() != 0 && broken.contains(&sequence(queued));
        for lane in self.own.values_mut().chain([&mut self.main]) {
            let (followers, kept): (VecDeque<_>, VecDeque<_>) =
                std::mem::take(&mut lane.queue).into_iter().partition(is_follower);
            lane.queue = kept;
            let failure = || Err(Failure::unavailable("a message before it has failed"));
            replies.extend(followers.into_iter().map(|queued| (queued, failure())));
        }
    }
}

fn sequence(queued: &Queued) -> Sequence {
    (queued.item.origin(), queued.item.conversation_id())
}

/// One act or change of a membership, or as many messages as fit.
fn take_batch(queue: &mut VecDeque<Queued>) -> Vec<Queued> {
    let is_message = |queued: &&Queued| matches!(queued.item, Item::Message(_));
    if !queue.front().as_ref().is_some_and(is_message) {
        return queue.pop_front().into_iter().collect();
    }
    let mut bytes = 0;
    let fitting = queue
        .iter()
        .take(APPEND_MAX)
        .take_while(is_message)
        .take_while(|queued| {
            let is_first = bytes == 0;
            bytes += queued.bytes;
            is_first || bytes <= APPEND_BYTES_MAX
        })
        .count();
    queue.drain(..fitting).collect()
}
