//! Where conversations stood that nobody here wanted when their live message came.
//!
//! Between a read of where a conversation stands and the moment when the worker begins to follow it, entries may be committed
//! and their live messages may pass by. They are remembered here, so that the conversation is known to be behind.

use ahash::AHashMap;
use entrenous_model::ConversationId;

/// A place in a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Mark {
    pub(super) seq: u64,
    /// How many have left the channel.
    pub(super) leaves: u64,
}

impl Mark {
    pub(super) fn max(self, other: Self) -> Self {
        Self { seq: self.seq.max(other.seq), leaves: self.leaves.max(other.leaves) }
    }
}

/// Two generations: what is noted stays for at least one [`Unclaimed::age`], which must be longer than a read may take.
#[derive(Debug, Default)]
pub(super) struct Unclaimed {
    young: AHashMap<ConversationId, Mark>,
    old: AHashMap<ConversationId, Mark>,
}

impl Unclaimed {
    pub(super) fn note(&mut self, conversation: ConversationId, mark: Mark) {
        let noted = self.young.entry(conversation).or_default();
        *noted = noted.max(mark);
    }

    /// The furthest place that passed by lately, or the beginning.
    pub(super) fn mark(&self, conversation: ConversationId) -> Mark {
        let of = |marks: &AHashMap<ConversationId, Mark>| marks.get(&conversation).copied().unwrap_or_default();
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
        unclaimed.note(id, Mark { seq: 7, leaves: 1 });
        unclaimed.note(id, Mark { seq: 5, leaves: 2 });
        unclaimed.age();
        assert_eq!(unclaimed.mark(id), Mark { seq: 7, leaves: 2 });
        unclaimed.age();
        assert_eq!(unclaimed.mark(id), Mark::default());
    }
}
