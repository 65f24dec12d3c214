//! What was said and is not answered, per conversation in the order in which it was said.

use std::collections::{BTreeMap, VecDeque};

use entrenous_checker::{Change, Plan, What};
use entrenous_client::{OutgoingMessage, Target, outgoing};
use entrenous_model::{ConversationId, EntryId, Timestamp, UserId};
use entrenous_protocol::Act;
use serde_json::{Value, json};

/// Messages of one conversation under way at a time.
const UNDER_WAY_MAX: usize = 4;

/// What is said: something new, something done with what was said before, or that one comes or goes. Each is an entry with the
/// id of its frame.
#[derive(Debug)]
pub(in crate::talk) enum Saying {
    Message(OutgoingMessage),
    Later { message: OutgoingMessage, send_at: Timestamp },
    Act { id: EntryId, act: Act },
    Move { id: EntryId, is_join: bool },
}

impl Saying {
    pub(super) fn id(&self) -> EntryId {
        match self {
            Self::Message(message) | Self::Later { message, .. } => message.id,
            Self::Act { id, .. } | Self::Move { id, .. } => *id,
        }
    }

    pub(super) fn frame(&self, conversation: ConversationId) -> String {
        match self {
            Self::Message(message) => message.frame(Target::Conversation(conversation)),
            Self::Later { message, send_at } => later_frame(message, conversation, *send_at),
            Self::Act { id, act } => outgoing::act(Some(*id), conversation, act),
            Self::Move { id, is_join } => outgoing::membership(Some(*id), conversation, *is_join),
        }
    }

    /// Whether an `ack` of it names a place in the log at once.
    pub(super) fn is_entry(&self) -> bool {
        matches!(self, Self::Message(_) | Self::Act { .. })
    }

    /// An attempt to send it.
    pub(super) fn attempt(&self, operation: u64, connection: u64, user: UserId, conversation: ConversationId) -> What {
        let id = self.id();
        match self {
            Self::Message(_) | Self::Act { .. } => {
                What::Sending { operation, connection: Some(connection), user, conversation, id }
            }
            Self::Later { send_at, .. } => {
                let plan = Plan::Send { send_at: *send_at, version: 0 };
                What::Planning { operation, user, conversation, id, plan }
            }
            Self::Move { is_join, .. } => {
                let change = if *is_join { Change::Come(user) } else { Change::Go(user) };
                let action = if *is_join { "join by WebSocket" } else { "leave by WebSocket" }.to_owned();
                What::Changing { operation, action, user, conversation, id: Some(id), change }
            }
        }
    }
}

fn later_frame(message: &OutgoingMessage, conversation: ConversationId, send_at: Timestamp) -> String {
    let frame = message.frame(Target::Conversation(conversation));
    let mut frame: Value = serde_json::from_str(&frame).unwrap_or_default();
    frame["payload"]["send_at"] = json!(send_at);
    frame.to_string()
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

    /// Takes something out that is under way; tells what it is and its attempt.
    pub(super) fn finish(&mut self, id: EntryId) -> Option<(ConversationId, Saying, u64)> {
        for (conversation, drafts) in &mut self.conversations {
            let is_it = |draft: &Draft| draft.saying.id() == id && draft.operation.is_some();
            if let Some(at) = drafts.iter().position(is_it) {
                let Draft { saying, operation } = drafts.remove(at)?;
                return Some((*conversation, saying, operation?));
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
