//! What clients noticed: how long those who said something waited for its `ack`.

use std::collections::BTreeMap;

use entrenous_model::{ConversationId, EntryId};
use serde::Serialize;

use crate::{History, OperationNumber, What};

const US_PER_MS: u64 = 1_000;
const SECOND_US: u64 = 1_000_000;

/// How long clients waited. Messages that were refused for good are left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Availability {
    /// Messages that somebody wanted to say.
    pub messages: usize,
    /// Those acknowledged within 1 s, counted from when they were wanted, disconnected or not.
    pub within_1_s: usize,
    /// Those acknowledged within 10 s.
    pub within_10_s: usize,
    /// Half of them were acknowledged in this time, in milliseconds.
    pub median_ms: u64,
    /// The longest that one waited, in milliseconds.
    pub longest_wait_ms: u64,
    /// The longest time in which nobody got an `ack`, in milliseconds.
    pub longest_silence_ms: u64,
}

/// Computes it from a history that tells of each message when it was [`What::Said`].
pub fn availability(history: &History) -> Availability {
    let mut waiting = Waiting::default();
    for event in &history.events {
        waiting.follow(event.at_us, &event.what);
    }
    waiting.end()
}

type Message = (ConversationId, EntryId);

#[derive(Debug, Default)]
struct Waiting {
    said: BTreeMap<Message, u64>,
    operations: BTreeMap<OperationNumber, Message>,
    waits_us: Vec<u64>,
    last_ack_us: Option<u64>,
    silence_us: u64,
}

impl Waiting {
    fn follow(&mut self, at_us: u64, what: &What) {
        match what {
            What::Said { conversation, id } => {
                self.said.insert((*conversation, *id), at_us);
                self.last_ack_us.get_or_insert(at_us);
            }
            What::Sending { operation, conversation, id, .. } => {
                self.operations.insert(*operation, (*conversation, *id));
            }
            What::Acknowledged { operation, .. } => {
                let last = self.last_ack_us.replace(at_us).unwrap_or(at_us);
                self.silence_us = self.silence_us.max(at_us - last);
                let said = self.finish(*operation);
                self.waits_us.extend(said.map(|said| at_us - said));
            }
            What::Refused { operation, code } if code != "rate_limited" => {
                self.finish(*operation);
            }
            _ => {}
        }
    }

    fn finish(&mut self, operation: OperationNumber) -> Option<u64> {
        self.said.remove(self.operations.get(&operation)?)
    }

    fn end(mut self) -> Availability {
        self.waits_us.sort_unstable();
        let within = |limit| self.waits_us.partition_point(|wait| *wait <= limit);
        Availability {
            messages: self.waits_us.len() + self.said.len(),
            within_1_s: within(SECOND_US),
            within_10_s: within(10 * SECOND_US),
            median_ms: self.waits_us.get(self.waits_us.len() / 2).map_or(0, |wait| wait / US_PER_MS),
            longest_wait_ms: self.waits_us.last().map_or(0, |wait| wait / US_PER_MS),
            longest_silence_ms: self.silence_us / US_PER_MS,
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::Event;

    #[test]
    fn waits_count_from_when_something_was_wanted() {
        let conversation = ConversationId::from(Uuid::from_u128(1));
        let mut history = History::default();
        let mut tell = |at_ms: u64, what| history.events.push(Event { at_us: at_ms * US_PER_MS, what });
        let messages = [(0, 500, 600), (100, 200, 3_000), (200, 200, 20_000)];
        for (operation, (said, sent, answered)) in (0..).zip(messages) {
            let id = EntryId::from(Uuid::from_u128(u128::from(said)));
            tell(said, What::Said { conversation, id });
            let user = Uuid::from_u128(9).into();
            tell(sent, What::Sending { operation, connection: None, user, conversation, id });
            tell(answered, What::Acknowledged { operation, seq: operation });
        }
        let found = availability(&history);
        assert_eq!((found.messages, found.within_1_s, found.within_10_s), (3, 1, 2));
        assert_eq!((found.median_ms, found.longest_wait_ms, found.longest_silence_ms), (2_900, 19_800, 17_000));
    }
}
