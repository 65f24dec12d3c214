//! Receipts that are owed to the server: gathered, cumulative, told again until acknowledged. Pure.

use std::{collections::HashMap, time::Duration};

use entrenous_model::{ConversationId, EntryId};
use entrenous_protocol::live::ReceiptKind;

/// Receipts are gathered for so long.
const GATHER: Duration = Duration::from_millis(250);
/// How long a receipt that the server could not take waits.
const REPEAT_AFTER: Duration = Duration::from_secs(5);
/// Receipts under way at once.
const UNANSWERED_MAX: usize = 32;

/// Everything up to `seq` is on this device, or was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Receipt {
    pub(super) kind: ReceiptKind,
    pub(super) conversation: ConversationId,
    pub(super) seq: u64,
}

#[derive(Debug, Default)]
pub(super) struct Receipts {
    owed: HashMap<(ConversationId, ReceiptKind), u64>,
    under_way: HashMap<EntryId, Receipt>,
    due: Option<Duration>,
}

impl Receipts {
    /// The server is to hear of this.
    pub(super) fn owe(&mut self, now: Duration, receipt: Receipt) {
        self.owe_at(now + GATHER, receipt);
    }

    /// The next receipt to send; `id` is its frame's.
    pub(super) fn next(&mut self, now: Duration, id: EntryId) -> Option<Receipt> {
        if self.due()? > now {
            return None;
        }
        let (conversation, kind) = *self.owed.keys().next()?;
        let seq = self.owed.remove(&(conversation, kind))?;
        let receipt = Receipt { kind, conversation, seq };
        if self.owed.is_empty() {
            self.due = None;
        }
        self.under_way.insert(id, receipt);
        Some(receipt)
    }

    /// When something is to be sent.
    pub(super) fn due(&self) -> Option<Duration> {
        self.due.filter(|_| self.under_way.len() < UNANSWERED_MAX)
    }

    /// The server has answered; whether it asks for the receipt again. False where the answer is to something else.
    pub(super) fn answer(&mut self, now: Duration, id: EntryId, is_wanted_again: bool) -> bool {
        let Some(receipt) = self.under_way.remove(&id) else { return false };
        if is_wanted_again {
            self.owe_at(now + REPEAT_AFTER, receipt);
        }
        true
    }

    /// The connection has ended: what was not acknowledged may not have arrived.
    pub(super) fn lose_connection(&mut self, now: Duration) {
        for (_, receipt) in std::mem::take(&mut self.under_way) {
            self.owe_at(now, receipt);
        }
    }

    /// What is known of a conversation no longer holds.
    pub(super) fn forget(&mut self, conversation: ConversationId) {
        self.owed.retain(|(owed, _), _| *owed != conversation);
        self.under_way.retain(|_, receipt| receipt.conversation != conversation);
    }

    fn owe_at(&mut self, due: Duration, receipt: Receipt) {
        let owed = self.owed.entry((receipt.conversation, receipt.kind)).or_default();
        *owed = receipt.seq.max(*owed);
        self.due.get_or_insert(due);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id<T: From<uuid::Uuid>>(number: u128) -> T {
        uuid::Uuid::from_u128(number).into()
    }

    fn delivered(conversation: u128, seq: u64) -> Receipt {
        Receipt { kind: ReceiptKind::Delivered, conversation: id(conversation), seq }
    }

    #[test]
    fn what_is_read_is_told_beside_what_is_delivered() {
        let mut receipts = Receipts::default();
        let read = Receipt { kind: ReceiptKind::Read, ..delivered(1, 3) };
        for receipt in [delivered(1, 5), read] {
            receipts.owe(Duration::ZERO, receipt);
        }
        let told = [id(90), id(91)].map(|id| receipts.next(GATHER, id).unwrap());
        assert!(told.contains(&read) && told.contains(&delivered(1, 5)), "{told:?}");
        receipts.forget(id(1));
        receipts.lose_connection(GATHER);
        assert_eq!(receipts.due(), None);
    }

    #[test]
    fn receipts_are_gathered_and_told_until_they_are_acknowledged() {
        let (mut receipts, at) = (Receipts::default(), Duration::from_millis);
        receipts.owe(at(0), delivered(1, 3));
        receipts.owe(at(10), delivered(1, 5));
        assert_eq!(receipts.next(at(249), id(90)), None);
        assert_eq!(receipts.next(at(250), id(90)), Some(delivered(1, 5)));
        assert_eq!(receipts.next(at(250), id(91)), None);
        receipts.lose_connection(at(300));
        assert_eq!(receipts.next(at(300), id(92)), Some(delivered(1, 5)));
        assert!(receipts.answer(at(300), id(92), true), "the server could not take it");
        assert_eq!(receipts.due(), Some(at(5_300)));
        assert_eq!(receipts.next(at(5_300), id(93)), Some(delivered(1, 5)));
        assert!(receipts.answer(at(5_300), id(93), false));
        assert_eq!((receipts.due(), receipts.answer(at(0), id(93), false)), (None, false));
    }

    #[test]
    fn few_are_under_way_at_once() {
        let mut receipts = Receipts::default();
        for number in 0..100 {
            receipts.owe(Duration::ZERO, delivered(number, 1));
        }
        let now = Duration::from_secs(1);
        let sent = (0..100).map_while(|number| receipts.next(now, id(1_000 + number))).count();
        assert_eq!((sent, receipts.due()), (UNANSWERED_MAX, None));
        assert!(receipts.answer(now, id(1_000), false));
        assert_eq!(receipts.due(), Some(GATHER));
    }
}
