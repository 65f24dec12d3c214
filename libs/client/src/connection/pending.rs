//! Which answers are waited for. Pure.

use std::collections::{HashMap, VecDeque};

use entrenous_model::EntryId;

use super::{Reply, ReplySender};
use crate::{ClosedError, RequestError, ServerFrame, frame::Body};

/// Who waits for the answer to which frame. One id may be sent several times: the first answer goes to the first.
#[derive(Debug, Default)]
pub(super) struct Pending {
    waiting: HashMap<EntryId, VecDeque<ReplySender>>,
}

impl Pending {
    pub(super) fn add(&mut self, id: EntryId, sender: ReplySender) {
        self.waiting.entry(id).or_default().push_back(sender);
    }

    /// Hands an answer to who waits for it; any other frame changes nothing.
    pub(super) fn resolve(&mut self, frame: &ServerFrame) {
        if let (Some(id), Some(reply)) = (frame.id, reply_of(&frame.body))
            && let Some(sender) = self.remove(id)
        {
            // Who no longer waits does not mind.
            drop(sender.send(reply));
        }
    }

    pub(super) fn fail_all(&mut self, end: &ClosedError) {
        for (_, senders) in self.waiting.drain() {
            for sender in senders {
                drop(sender.send(Err(RequestError::Closed(end.clone()))));
            }
        }
    }

    fn remove(&mut self, id: EntryId) -> Option<ReplySender> {
        let senders = self.waiting.get_mut(&id)?;
        let sender = senders.pop_front();
        if senders.is_empty() {
            self.waiting.remove(&id);
        }
        sender
    }
}

fn reply_of(body: &Body) -> Option<Result<Reply, RequestError>> {
    match body {
        Body::Ack(stored) => Some(Ok(Reply::Ack(*stored))),
        Body::SyncComplete(complete) => Some(Ok(Reply::SyncComplete(complete.clone()))),
        Body::Pong => Some(Ok(Reply::Pong)),
        Body::Error(refusal) => Some(Err(RequestError::Refused(refusal.clone()))),
        _ => None,
    }
}
