//! Where a client is in its conversations, kept between runs.

use std::collections::HashMap;

use entrenous_model::ConversationId;

/// What a store has kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cursors {
    /// The server's incarnation that the seqs belong to. Without one they do not count.
    pub incarnation: Option<String>,
    /// Per conversation the last seq that the program has dealt with.
    pub seqs: HashMap<ConversationId, u64>,
}

/// A change of what is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CursorChange {
    /// Forget all seqs; from now on they belong to this incarnation.
    Reset {
        /// As the server says it.
        incarnation: String,
    },
    /// Everything up to this seq has been dealt with.
    Advance {
        /// In which conversation.
        conversation_id: ConversationId,
        /// Up to where.
        seq: u64,
    },
    /// Forget the seq of this conversation.
    Forget {
        /// Which.
        conversation_id: ConversationId,
    },
}

/// Keeps cursors. A program that must not see an entry twice after a crash writes them where it writes what it makes of
/// the entries, in the same transaction, and ignores what comes here.
pub trait CursorStore: Send + 'static {
    /// What was kept; called once, at the start.
    fn load(&mut self) -> Cursors;

    /// Keeps a change. Called in [`Client::next`](super::Client::next), in order: for an entry when the event after it
    /// is asked for, since only then it has been dealt with. Should not take long.
    fn save(&mut self, change: CursorChange);
}

/// Cursors that end with the client: what a new one has missed then depends on [`Begin`](super::Begin).
#[derive(Debug, Default)]
pub struct MemoryCursors;

impl CursorStore for MemoryCursors {
    fn load(&mut self) -> Cursors {
        Cursors::default()
    }

    fn save(&mut self, _: CursorChange) {}
}

impl Cursors {
    /// Applies a change, as a store that keeps them whole would.
    pub fn apply(&mut self, change: CursorChange) {
        match change {
            CursorChange::Reset { incarnation } => {
                *self = Self { incarnation: Some(incarnation), seqs: HashMap::new() };
            }
            CursorChange::Advance { conversation_id, seq } => {
                self.seqs.insert(conversation_id, seq);
            }
            CursorChange::Forget { conversation_id } => {
                self.seqs.remove(&conversation_id);
            }
        }
    }
}
