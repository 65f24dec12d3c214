//! What was typed and is not yet known to be kept. Pure.
//!
//! One message is under way at a time, so that a repeat with the same id can never change the order.

use std::collections::VecDeque;

use entrenous_client::OutgoingMessage;
use entrenous_model::EntryId;

/// Lines that wait; then no more are read from the input.
const WAITING_MAX: usize = 1_000;

/// A typed line.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) message: OutgoingMessage,
    pub(super) text: String,
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: VecDeque<Line>,
    is_under_way: bool,
}

impl Outbox {
    pub(super) fn add(&mut self, id: EntryId, text: String) {
        self.waiting.push_back(Line { message: OutgoingMessage::text(id, text.clone()), text });
    }

    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= WAITING_MAX
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// What to send now, if nothing is under way.
    pub(super) fn begin(&mut self) -> Option<&OutgoingMessage> {
        if self.is_under_way {
            return None;
        }
        let line = self.waiting.front()?;
        self.is_under_way = true;
        Some(&line.message)
    }

    /// What is under way must be sent again.
    pub(super) fn repeat(&mut self) {
        self.is_under_way = false;
    }

    /// Takes out the message with this id, if it is the one that waits longest.
    pub(super) fn finish(&mut self, id: EntryId) -> Option<Line> {
        if self.waiting.front()?.message.id != id {
            return None;
        }
        self.is_under_way = false;
        self.waiting.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> EntryId {
        uuid::Uuid::from_u128(number).into()
    }

    #[test]
    fn one_message_is_under_way_and_repeats_keep_the_order() {
        let mut outbox = Outbox::default();
        outbox.add(id(1), "a".into());
        outbox.add(id(2), "b".into());
        assert_eq!(outbox.begin().unwrap().id, id(1));
        assert!(outbox.begin().is_none());
        outbox.repeat();
        assert_eq!(outbox.begin().unwrap().id, id(1));
        assert!(outbox.finish(id(2)).is_none());
        assert_eq!(outbox.finish(id(1)).unwrap().text, "a");
        assert_eq!((outbox.begin().unwrap().id, outbox.len()), (id(2), 1));
    }
}
