//! Clear text on its way into a log: what moderation makes of it. Ciphertext does not come here, and what is sent into a
//! conversation that takes ciphertext is looked at by nobody.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ahash::{AHashMap, AHashSet};
use entrenous_bus::Deadline;
use entrenous_model::{ConversationId, EntryId, UserId};
use entrenous_protocol::{
    Failure, RawValue,
    entry::Encryption,
    rpc::store::{AppendMessage, AppendResult},
};
use futures::future::join_all;
use uuid::Uuid;

use super::Context;
use crate::{
    error::RequestError,
    moderation::{Question, Recent},
    store::screening::{self, Sending},
};

/// How long a batch waits for an outside service: what it has not answered by then is `busy`, and comes again alone.
const PATIENCE: Duration = Duration::from_millis(25);
/// Conversations whose encryption is remembered: it never changes. Above, all are forgotten and read anew.
const KNOWN_MAX: usize = 500_000;

/// What conversations take: ciphertext or clear text.
#[derive(Debug, Clone, Default)]
pub(crate) struct KnownEncryptions(Arc<Mutex<AHashMap<ConversationId, Encryption>>>);

/// New content in clear text, of a message or an edit.
pub(super) struct Draft<'a> {
    pub(super) conversation_id: ConversationId,
    pub(super) sender_id: UserId,
    /// Of the entry.
    pub(super) id: EntryId,
    pub(super) content: &'a RawValue,
    /// How many people it mentions.
    pub(super) mentions: usize,
}

/// What becomes of a draft.
#[derive(Debug)]
pub(super) enum Screening {
    /// Nobody looked at it: the conversation takes ciphertext, or has an entry with this id.
    Unseen,
    /// This is what may be stored.
    Passed(Box<RawValue>),
    /// It may not.
    Refused(Failure),
    /// An outside service has not yet said.
    Pending,
}

impl Context {
    /// What may be stored of one content in clear text. Who calls this holds no lock.
    ///
    /// # Errors
    /// Why it may not.
    pub(super) async fn screen_one(
        &self,
        draft: Draft<'_>,
        deadline: Deadline,
    ) -> Result<Option<Box<RawValue>>, RequestError> {
        match self.screen(&[draft], deadline.remaining(), deadline).await?.pop() {
            None | Some(Screening::Unseen) => Ok(None),
            Some(Screening::Passed(content)) => Ok(Some(content)),
            Some(Screening::Refused(failure)) => Err(failure.into()),
            Some(Screening::Pending) => Err(RequestError::Late),
        }
    }

    /// Screens the messages of a batch that are in clear text and have no result yet: puts in place what is to be stored, and
    /// gives results to the others. Returns the places of those that were changed.
    pub(super) async fn screen_batch(
        &self,
        messages: &mut [AppendMessage],
        results: &mut [Option<AppendResult>],
        deadline: Deadline,
    ) -> Result<AHashSet<usize>, RequestError> {
        let mut changed = AHashSet::new();
        let is_open = |(message, result): &(&AppendMessage, &Option<AppendResult>)| {
            !message.message.is_sealed && result.is_none()
        };
        let open: Vec<usize> = messages
            .iter()
            .zip(&*results)
            .enumerate()
            .filter(|(_, pair)| is_open(pair))
            .map(|(index, _)| index)
            .collect();
        if open.is_empty() {
            return Ok(changed);
        }
        let drafts: Vec<_> = open.iter().filter_map(|index| messages.get(*index)).map(draft).collect();
        let screenings = self.screen(&drafts, PATIENCE, deadline).await?;
        drop(drafts);
        let mut pending = AHashSet::new();
        for (index, screening) in open.into_iter().zip(screenings) {
            let (Some(message), Some(result)) = (messages.get_mut(index), results.get_mut(index)) else {
                continue;
            };
            match screening {
                Screening::Unseen => {}
                Screening::Passed(content) if content.get() == message.message.content.get() => {}
                Screening::Passed(content) => {
                    message.message.content = content;
                    changed.insert(index);
                }
                Screening::Refused(failure) => {
                    self.metrics.message_judged(failure.code.as_str());
                    *result = Some(AppendResult::Refused(failure));
                }
                Screening::Pending => {
                    pending.insert(message.conversation_id);
                    *result = Some(AppendResult::Busy);
                }
            }
            // What comes behind must not overtake.
            if result.is_none() && pending.contains(&message.conversation_id) {
                *result = Some(AppendResult::Busy);
            }
        }
        Ok(changed)
    }

    /// What becomes of each draft.
    async fn screen(
        &self,
        drafts: &[Draft<'_>],
        patience: Duration,
        deadline: Deadline,
    ) -> Result<Vec<Screening>, RequestError> {
        let encryptions = self.encryptions_of(drafts, deadline).await?;
        let first = |draft: &Draft<'_>| match encryptions.get(&draft.conversation_id) {
            Some(Encryption::E2ee) => Screening::Unseen,
            Some(Encryption::None) => match self.moderation.clean(draft.content, draft.mentions) {
                Ok(content) => Screening::Passed(content),
                Err(failure) => Screening::Refused(failure),
            },
            None => Screening::Refused(Failure::not_found()),
        };
        let mut screenings: Vec<_> = drafts.iter().map(first).collect();
        let is_refused = screenings.iter().any(|screening| matches!(screening, Screening::Refused(_)));
        if is_refused || self.moderation.judges_senders() || self.moderation.asks_outside() {
            self.judge_standings(drafts, &mut screenings, deadline).await?;
        }
        if self.moderation.asks_outside() {
            self.ask_outside(drafts, &mut screenings, patience).await;
        }
        Ok(screenings)
    }

    async fn encryptions_of(
        &self,
        drafts: &[Draft<'_>],
        deadline: Deadline,
    ) -> Result<AHashMap<ConversationId, Encryption>, RequestError> {
        let mut found = AHashMap::with_capacity(drafts.len());
        let mut unknown = AHashSet::new();
        {
            let known = self.known_encryptions.0.lock().unwrap_or_else(PoisonError::into_inner);
            for draft in drafts {
                match known.get(&draft.conversation_id) {
                    Some(encryption) => drop(found.insert(draft.conversation_id, *encryption)),
                    None => drop(unknown.insert(draft.conversation_id.as_uuid())),
                }
            }
        }
        if unknown.is_empty() {
            return Ok(found);
        }
        let mut connection = self.append_connection(deadline).await?;
        let read = screening::encryptions(&mut connection, unknown.into_iter().collect());
        let read = self.measured("read_encryptions", read).await?;
        let mut known = self.known_encryptions.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.extend(read.iter().map(|(id, encryption)| (*id, *encryption)));
        found.extend(read);
        Ok(found)
    }

    /// A repeat gets the first one's answer, whatever would be said of it today; who is no member is told nothing; and who
    /// sends too much waits.
    async fn judge_standings(
        &self,
        drafts: &[Draft<'_>],
        screenings: &mut [Screening],
        deadline: Deadline,
    ) -> Result<(), RequestError> {
        let sendings: Vec<_> = drafts.iter().zip(&*screenings).map(sending).collect();
        let mut connection = self.append_connection(deadline).await?;
        let read = screening::standings(&mut connection, &sendings, self.moderation.windows_seconds());
        let standings = self.measured("read_standings", read).await?;
        drop(connection);
        let mut before = Before::default();
        for ((screening, standing), sending) in screenings.iter_mut().zip(standings).zip(sendings) {
            if matches!(screening, Screening::Unseen) {
                continue;
            }
            if standing.is_known {
                *screening = Screening::Unseen;
            } else if !standing.is_member {
                *screening = Screening::Refused(Failure::not_found());
            } else if matches!(screening, Screening::Passed(_))
                && let Err(failure) = self.moderation.judge_sender(before.add(sending, standing.recent()))
            {
                *screening = Screening::Refused(failure);
            }
        }
        Ok(())
    }

    async fn ask_outside(&self, drafts: &[Draft<'_>], screenings: &mut [Screening], patience: Duration) {
        let asking = |(draft, screening): (&Draft<'_>, &Screening)| match screening {
            Screening::Passed(content) => {
                let Draft { conversation_id, sender_id, id, .. } = *draft;
                Some(self.moderation.ask(&Question { conversation_id, sender_id, id, content }))
            }
            Screening::Unseen | Screening::Refused(_) | Screening::Pending => None,
        };
        let asked: Vec<_> = drafts.iter().zip(&*screenings).map(asking).collect();
        let wait = |asking| async move {
            match asking {
                Some(asking) => tokio::time::timeout(patience, asking).await.ok(),
                None => None,
            }
        };
        let verdicts = join_all(asked.into_iter().map(wait)).await;
        for (screening, verdict) in screenings.iter_mut().zip(verdicts) {
            if let Screening::Passed(content) = screening {
                *screening = match verdict.map(|verdict| self.moderation.conclude(content.clone(), &verdict)) {
                    Some(Ok(content)) => Screening::Passed(content),
                    Some(Err(failure)) => Screening::Refused(failure),
                    None => Screening::Pending,
                };
            }
        }
    }
}

fn draft(message: &AppendMessage) -> Draft<'_> {
    Draft {
        conversation_id: message.conversation_id,
        sender_id: message.sender_id,
        id: message.message.id,
        content: &message.message.content,
        mentions: message.message.mentions.len(),
    }
}

fn sending((draft, screening): (&Draft<'_>, &Screening)) -> Sending {
    Sending {
        conversation_id: draft.conversation_id.as_uuid(),
        id: draft.id.as_uuid(),
        sender_id: draft.sender_id.as_uuid(),
        content: match screening {
            Screening::Passed(content) => content.get().as_bytes().to_vec(),
            Screening::Unseen | Screening::Refused(_) | Screening::Pending => Vec::new(),
        },
    }
}

/// What the same batch holds before a message, which no log has yet.
#[derive(Default)]
struct Before {
    entries: AHashMap<(Uuid, Uuid), u64>,
    same: AHashMap<(Uuid, Uuid, Vec<u8>), u64>,
}

impl Before {
    /// Adds what stands before a message to what the log says, and the message to what stands before others.
    fn add(&mut self, sending: Sending, recent: Recent) -> Recent {
        let Sending { conversation_id, sender_id, content, .. } = sending;
        let entries = self.entries.entry((conversation_id, sender_id)).or_default();
        let same = self.same.entry((conversation_id, sender_id, content)).or_default();
        let judged = Recent { entries: recent.entries + *entries, same: recent.same + *same, ..recent };
        *entries += 1;
        *same += 1;
        judged
    }
}
