//! The queue of device messages, as this device sees it: what it has been told, and what of that the server may forget. Pure.
//!
//! Source: docs/protocol.md, section 6: each seq comes once on a connection and in order, what was not acknowledged comes
//! again on the next one, and a gap is no fault.

use std::time::Duration;

use entrenous_model::EntryId;

/// How long an acknowledgement that the server could not take waits.
const REPEAT_AFTER: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct DeviceQueue {
    /// The last seq that the user was told, over all connections.
    told: u64,
    /// The last seq that came on this connection; 0: none.
    received: u64,
    /// Up to where the user has everything, and the server is to hear of it, from when on.
    owed: Option<(Duration, u64)>,
    /// One at a time: those that are said meanwhile are said together.
    under_way: Option<(EntryId, u64)>,
}

impl DeviceQueue {
    /// A message has come; whether the user is to get it.
    pub(super) fn take(&mut self, seq: u64) -> bool {
        self.received = seq.max(self.received);
        let is_new = seq > self.told;
        self.told = seq.max(self.told);
        is_new
    }

    /// Whether the server has sent more on this connection than has come.
    pub(super) fn is_behind(&self, theirs: u64) -> bool {
        theirs > self.received
    }

    /// The user has everything up to here, as far as they were told of it.
    pub(super) fn acknowledge(&mut self, now: Duration, up_to: u64) {
        let up_to = up_to.min(self.told);
        if up_to > 0 {
            self.owe_at(now, up_to);
        }
    }

    /// What to acknowledge next; `id` is its frame's.
    pub(super) fn next(&mut self, now: Duration, id: EntryId) -> Option<u64> {
        if self.due()? > now {
            return None;
        }
        let (_, up_to) = self.owed.take()?;
        self.under_way = Some((id, up_to));
        Some(up_to)
    }

    /// When something is to be sent.
    pub(super) fn due(&self) -> Option<Duration> {
        self.owed.filter(|_| self.under_way.is_none()).map(|(due, _)| due)
    }

    /// The server has answered; whether it asks for it again. False where the answer is to something else.
    pub(super) fn answer(&mut self, now: Duration, id: EntryId, is_wanted_again: bool) -> bool {
        let Some((_, up_to)) = self.under_way.take_if(|(under_way, _)| *under_way == id) else { return false };
        if is_wanted_again {
            self.owe_at(now + REPEAT_AFTER, up_to);
        }
        true
    }

    /// The connection has ended: what was not acknowledged may not have arrived, and comes again.
    pub(super) fn lose_connection(&mut self, now: Duration) {
        self.received = 0;
        if let Some((_, up_to)) = self.under_way.take() {
            self.owe_at(now, up_to);
        }
    }

    fn owe_at(&mut self, due: Duration, up_to: u64) {
        let (due, owed) = self.owed.map_or((due, 0), |(at, owed)| (at.max(due), owed));
        self.owed = Some((due, owed.max(up_to)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> EntryId {
        uuid::Uuid::from_u128(number).into()
    }

    #[test]
    fn a_message_is_told_once_and_acknowledged_when_the_user_says_so() {
        let (mut queue, at) = (DeviceQueue::default(), Duration::from_millis);
        assert!(queue.take(3) && queue.take(5), "a gap is no fault");
        assert_eq!((queue.is_behind(5), queue.is_behind(6)), (false, true));
        assert_eq!(queue.due(), None, "nobody has said that it may go");
        queue.acknowledge(at(0), 99);
        assert_eq!(queue.next(at(0), id(1)), Some(5), "not what was never told");
        assert!(queue.take(6));
        queue.acknowledge(at(1), 6);
        assert_eq!(queue.next(at(1), id(2)), None, "one at a time");
        queue.lose_connection(at(2));
        assert!(!queue.take(6) && queue.take(7), "only what is new");
        assert_eq!(queue.next(at(2), id(3)), Some(6), "those that got no answer and those that wait, as one");
        assert!(!queue.answer(at(2), id(1), false) && queue.answer(at(2), id(3), true));
        assert_eq!((queue.next(at(5_001), id(4)), queue.next(at(5_002), id(5))), (None, Some(6)));
        assert!(queue.answer(at(5_003), id(5), false));
        assert_eq!(queue.due(), None);
    }
}
