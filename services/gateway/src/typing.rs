//! Who is typing: told to the live members of the conversation, not kept, and the first thing that gives way.
//!
//! The gateway of who types tells all gateways, at most once in 2 s, and tells the end by itself: 6 s after the last word of
//! the client, or when its connection ends. Time is given by the caller. It also tells from whom it is hidden: without an
//! answer of the store nobody is told anything.

mod hidden;

use std::{collections::HashMap, sync::Arc, time::Duration};

use entrenous_bus::subjects;
use entrenous_model::{ConversationId, UserId};
use entrenous_protocol::{
    Failure,
    live::{Typing, TypingBroadcast},
    rpc::store::{ReadBlocked, ReadBlockedRequest},
};
use futures::StreamExt;
use tokio::{runtime::Handle, time::Instant};

use crate::{state::Gateway, worker::WorkerEvent};
pub(crate) use hidden::HiddenFrom;

/// After this it has ended, unless the client says it again.
const LASTS: Duration = Duration::from_secs(6);
/// Between two tellings of the same.
const TELL_INTERVAL: Duration = Duration::from_secs(2);
/// Conversations in which a connection may type at once; above it nothing is told.
const PER_CONNECTION_MAX: usize = 8;

/// The connections of one worker that are typing.
#[derive(Debug, Default)]
pub(crate) struct Typists {
    by_connection: HashMap<u64, HashMap<ConversationId, Since>>,
}

#[derive(Debug, Clone, Copy)]
struct Since {
    user_id: UserId,
    until: Instant,
    told_at: Instant,
}

impl Typists {
    /// A client says that its user types, or no longer. Gives what is to be told, if anything.
    pub(crate) fn note(&mut self, origin: u64, typing: Typing, now: Instant) -> Option<Typing> {
        let Typing { conversation_id, user_id, typing: is_typing } = typing;
        if !is_typing {
            return self.stop(origin, conversation_id).map(|_| typing);
        }
        let conversations = self.by_connection.entry(origin).or_default();
        if let Some(since) = conversations.get_mut(&conversation_id) {
            since.until = now + LASTS;
            let is_due = now.duration_since(since.told_at) >= TELL_INTERVAL;
            if is_due {
                since.told_at = now;
            }
            return is_due.then_some(typing);
        }
        if conversations.len() >= PER_CONNECTION_MAX {
            return None;
        }
        conversations.insert(conversation_id, Since { user_id, until: now + LASTS, told_at: now });
        Some(typing)
    }

    fn stop(&mut self, origin: u64, conversation_id: ConversationId) -> Option<Since> {
        let conversations = self.by_connection.get_mut(&origin)?;
        let since = conversations.remove(&conversation_id);
        if conversations.is_empty() {
            self.by_connection.remove(&origin);
        }
        since
    }

    /// A connection has ended. Gives what is to be told.
    pub(crate) fn leave(&mut self, origin: u64) -> Vec<Typing> {
        let conversations = self.by_connection.remove(&origin).unwrap_or_default();
        conversations.into_iter().map(|(conversation_id, since)| ended(conversation_id, since)).collect()
    }

    /// Those who have not said it again in time.
    pub(crate) fn take_ended(&mut self, now: Instant) -> Vec<Typing> {
        let mut all = Vec::new();
        self.by_connection.retain(|_, conversations| {
            all.extend(conversations.extract_if(|_, since| since.until <= now).map(|(id, since)| ended(id, since)));
            !conversations.is_empty()
        });
        all
    }
}

fn ended(conversation_id: ConversationId, since: Since) -> Typing {
    Typing { conversation_id, user_id: since.user_id, typing: false }
}

/// Tells all gateways. Nobody waits for it, and nothing is tried again. Also called as connections are dropped, when the
/// worker's runtime may be about to end.
pub(crate) fn tell(gateway: &Arc<Gateway>, all: Vec<Typing>) {
    if all.is_empty() || !gateway.bus.state().is_connected() {
        return;
    }
    let Ok(runtime) = Handle::try_current() else { return };
    let gateway = Arc::clone(gateway);
    runtime.spawn(async move {
        for typing in all {
            if let Err(error) = tell_one(&gateway, typing).await {
                tracing::debug!(%error, "typing was not told");
            }
        }
    });
}

async fn tell_one(gateway: &Gateway, typing: Typing) -> Result<(), Failure> {
    let Typing { user_id, conversation_id, .. } = typing;
    let request = ReadBlockedRequest { user_id, conversation_id };
    let hidden_from =
        gateway.typing_hidden.of((user_id, conversation_id), || gateway.call::<ReadBlocked>(&request)).await?;
    let told = TypingBroadcast { typing, hidden_from: hidden_from.to_vec() };
    let sent = gateway.bus.broadcast(subjects::TYPING, &told).await;
    sent.map_err(|error| Failure::unavailable(error.to_string()))
}

/// Hears what all gateways tell, until the connection to NATS has ended.
pub(crate) async fn run(gateway: Arc<Gateway>) {
    let Ok(mut heard) = gateway.bus.hear::<TypingBroadcast>(subjects::TYPING).await else { return };
    while let Some(typing) = heard.next().await {
        let typing = Arc::new(typing);
        for worker in gateway.workers() {
            // A worker that is behind has better things to do.
            let _ = worker.try_send(WorkerEvent::Typing(Arc::clone(&typing)));
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const ORIGIN: u64 = 7;

    fn typing(conversation: u128, is_typing: bool) -> Typing {
        let (conversation_id, user_id) = (Uuid::from_u128(conversation).into(), Uuid::from_u128(1).into());
        Typing { conversation_id, user_id, typing: is_typing }
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_told_every_two_seconds_and_ends_by_itself() {
        let (mut typists, start) = (Typists::default(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        let (begins, ends) = (typing(1, true), typing(1, false));
        assert_eq!(typists.note(ORIGIN, begins, at(0)), Some(begins));
        assert_eq!(typists.note(ORIGIN, begins, at(1_999)), None);
        assert_eq!(typists.note(ORIGIN, begins, at(2_000)), Some(begins));
        assert_eq!(typists.take_ended(at(7_999)), []);
        assert_eq!(typists.take_ended(at(8_000)), [ends]);
        assert_eq!(typists.take_ended(at(9_000)), [], "once");
        assert_eq!(typists.note(ORIGIN, ends, at(9_000)), None, "it has ended");
        assert_eq!(typists.note(ORIGIN, begins, at(9_100)), Some(begins));
        assert_eq!(typists.note(ORIGIN, ends, at(9_200)), Some(ends), "an end is told at once");
        assert!(typists.by_connection.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_has_ended_everywhere_and_nobody_types_in_many_places() {
        let (mut typists, now) = (Typists::default(), Instant::now());
        for conversation in 0..20 {
            typists.note(ORIGIN, typing(conversation, true), now);
        }
        typists.note(ORIGIN + 1, typing(0, true), now);
        let ended = typists.leave(ORIGIN);
        assert_eq!(ended.len(), PER_CONNECTION_MAX);
        assert!(ended.iter().all(|one| !one.typing));
        assert_eq!(typists.leave(ORIGIN), []);
        assert_eq!(typists.leave(ORIGIN + 1), [typing(0, false)]);
    }
}
