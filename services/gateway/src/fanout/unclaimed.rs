//! Heads of conversations that nobody here wanted when their live message came.
//!
//! Between a read of a conversation's head and the moment when the worker begins to follow it, entries may be committed
//! and their live messages may pass by. They are remembered here, so that the conversation is known to be behind.

use ahash::AHashMap;
use entrenous_model::ConversationId;

/// Two generations: what is noted stays for at least one [`Unclaimed::age`], which must be longer than a read may take.
#[derive(Debug, Default)]
pub(super) struct Unclaimed {
    young: AHashMap<ConversationId, u64>,
    old: AHashMap<ConversationId, u64>,
}

impl Unclaimed {
    pub(super) fn note(&mut self, conversation: ConversationId, seq: u64) {
        let head = self.young.entry(conversation).or_insert(0);
        *head = (*head).max(seq);
    }

    /// The highest seq that passed by lately, or 0.
    pub(super) fn head(&self, conversation: ConversationId) -> u64 {
        let of = |heads: &AHashMap<ConversationId, u64>| heads.get(&conversation).copied().unwrap_or(0);
        of(&self.young).max(of(&self.old))
    }

    pub(super) fn age(&mut self) {
        self.old = std::mem::take(&mut self.young);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passed_by_is_known_for_one_generation() {
        let id = ConversationId::from(uuid::Uuid::nil());
        let mut unclaimed = Unclaimed::default();
        unclaimed.note(id, 7);
        unclaimed.note(id, 5);
        unclaimed.age();
        assert_eq!(unclaimed.head(id), 7);
        unclaimed.age();
        assert_eq!(unclaimed.head(id), 0);
    }
}
