//! What was said and is not answered, per conversation in the order in which it was said.

use std::collections::{BTreeMap, VecDeque};

use entrenous_client::{OutgoingMessage, Target, outgoing};
use entrenous_model::{ConversationId, EntryId};
use entrenous_protocol::Act;

/// Messages of one conversation under way at a time.
const UNDER_WAY_MAX: usize = 4;

/// What is said: something new, or something done with what was said before. Either is an entry with the id of its frame.
#[derive(Debug)]
pub(in crate::talk) enum Saying {
    Message(OutgoingMessage),
    Act { id: EntryId, act: Act },
}

impl Saying {
    pub(super) fn id(&self) -> EntryId {
        match self {
            Self::Message(message) => message.id,
            Self::Act { id, .. } => *id,
        }
    }

    pub(super) fn frame(&self, conversation: ConversationId) -> String {
        match self {
            Self::Message(message) => message.frame(Target::Conversation(conversation)),
            Self::Act { id, act } => outgoing::act(Some(*id), conversation, act),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    conversations: BTreeMap<ConversationId, VecDeque<Draft>>,
}

#[derive(Debug)]
struct Draft {
    saying: Saying,
    /// The attempt that is under way.
    operation: Option<u64>,
}

impl Outbox {
    pub(super) fn add(&mut self, conversation: ConversationId, saying: Saying) {
        self.conversations.entry(conversation).or_default().push_back(Draft { saying, operation: None });
    }

    /// What to send next. A repeat waits until everything said after it is answered, so that the order stays.
    pub(super) fn next(&mut self, next_operation: impl FnOnce() -> u64) -> Option<(ConversationId, &Saying, u64)> {
        for (conversation, drafts) in &mut self.conversations {
            let under_way = drafts.iter().take_while(|draft| draft.operation.is_some()).count();
            let is_blocked = drafts.iter().skip(under_way).any(|draft| draft.operation.is_some());
            if is_blocked || under_way >= UNDER_WAY_MAX {
                continue;
            }
            if let Some(draft) = drafts.get_mut(under_way) {
                let operation = next_operation();
                draft.operation = Some(operation);
                return Some((*conversation, &draft.saying, operation));
            }
        }
        None
    }

    /// Takes a message out; tells its attempt.
    pub(super) fn finish(&mut self, id: EntryId) -> Option<u64> {
        for drafts in self.conversations.values_mut() {
            if let Some(at) = drafts.iter().position(|draft| draft.saying.id() == id) {
                return drafts.remove(at)?.operation;
            }
        }
        None
    }

    /// A message must be sent again; tells the attempt that is over.
    pub(super) fn repeat(&mut self, id: EntryId) -> Option<u64> {
        let mut drafts = self.conversations.values_mut().flatten();
        drafts.find(|draft| draft.saying.id() == id)?.operation.take()
    }

    /// Everything under way must be sent again; tells the attempts that are over.
    pub(super) fn lose(&mut self) -> Vec<u64> {
        self.conversations.values_mut().flatten().filter_map(|draft| draft.operation.take()).collect()
    }
}
