//! Direct conversations, made when the first message comes.

use std::sync::{Arc, Mutex, PoisonError};

use ahash::{AHashMap, AHashSet};
use entrenous_bus::Deadline;
use entrenous_model::{ConversationId, UserId};
use entrenous_protocol::{
    Failure,
    entry::{ConversationKind, Encryption},
    live::UserNotice,
    rpc::store::AppendMessage,
};

use super::Context;
use crate::{
    domain::rights::unwanted,
    error::RequestError,
    publish::Publication,
    store::{
        directs::{self, Direct},
        privacy,
    },
};

/// Direct conversations remembered as existing: 16 bytes each, and room. Above, all are forgotten and asked for anew.
const KNOWN_MAX: usize = 500_000;

/// Direct conversations that exist. They are never deleted, so that what is known stays true.
#[derive(Debug, Clone, Default)]
pub(crate) struct KnownDirects(Arc<Mutex<AHashSet<ConversationId>>>);

impl KnownDirects {
    fn contains(&self, id: ConversationId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }

    fn extend(&self, ids: impl IntoIterator<Item = ConversationId>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.extend(ids);
    }
}

/// Why messages of a sender into a direct conversation cannot be stored.
pub(super) type Refusals = AHashMap<(ConversationId, UserId), Failure>;

/// Whether a `chat_message` names the right conversation.
pub(super) fn check_direct(message: &AppendMessage, other: UserId) -> Result<(), Failure> {
    if other == message.sender_id {
        return Err(Failure::invalid("target_id", "must be another user"));
    }
    if ConversationId::direct(message.sender_id, other) != message.conversation_id {
        return Err(Failure::invalid("conversation_id", "is not the direct conversation of the two"));
    }
    Ok(())
}

impl Context {
    /// Makes those of the direct conversations of a batch that do not exist; tells which cannot be made.
    pub(super) async fn make_directs_of(
        &self,
        messages: &[AppendMessage],
        deadline: Deadline,
    ) -> Result<Refusals, RequestError> {
        let mut unknown = self.unknown_directs_of(messages);
        if unknown.is_empty() {
            return Ok(Refusals::new());
        }
        self.forget_existing(&mut unknown, deadline).await?;
        let mut refusals = self.refuse_unwanted(&mut unknown, deadline).await?;
        self.refuse_strangers(&mut unknown, &mut refusals, deadline).await;
        // Where both write at once, the first one made it.
        let mut ids = AHashSet::with_capacity(unknown.len());
        unknown.retain(|direct| ids.insert(direct.id));
        self.make_directs(unknown, deadline).await?;
        Ok(refusals)
    }

    /// The direct conversations that may not exist, once for each sender, in the order of the messages.
    fn unknown_directs_of(&self, messages: &[AppendMessage]) -> Vec<Direct> {
        let mut seen = AHashSet::new();
        let unknown = |message: &AppendMessage| {
            let (id, created_by) = (message.conversation_id, message.sender_id);
            let other = message.direct_with.filter(|other| check_direct(message, *other).is_ok())?;
            let is_unknown = !self.known_directs.contains(id) && seen.insert((id, created_by));
            is_unknown.then_some(Direct { id, created_by, other, encryption: Encryption::E2ee })
        };
        messages.iter().filter_map(unknown).collect()
    }

    /// Leaves only those that do not exist.
    async fn forget_existing(&self, directs: &mut Vec<Direct>, deadline: Deadline) -> Result<(), RequestError> {
        let ids: Vec<_> = directs.iter().map(|direct| direct.id).collect();
        let mut connection = self.append_connection(deadline).await?;
        let existing = self.measured("existing_directs", directs::existing(&mut connection, &ids)).await?;
        directs.retain(|direct| !existing.contains(&direct.id));
        self.known_directs.extend(existing);
        Ok(())
    }

    /// Takes out those whose other person does not take messages from who writes: they are not made.
    async fn refuse_unwanted(&self, directs: &mut Vec<Direct>, deadline: Deadline) -> Result<Refusals, RequestError> {
        let refusals: Refusals =
            self.unwanted(directs, deadline).await?.into_iter().map(|refused| (refused, unwanted())).collect();
        directs.retain(|direct| !refusals.contains_key(&(direct.id, direct.created_by)));
        Ok(refusals)
    }

    /// Of direct conversations that do not exist, those whose maker may not write to the other: with the maker.
    pub(super) async fn unwanted(
        &self,
        directs: &[Direct],
        deadline: Deadline,
    ) -> Result<Vec<(ConversationId, UserId)>, RequestError> {
        if directs.is_empty() {
            return Ok(Vec::new());
        }
        let mut connection = self.append_connection(deadline).await?;
        Ok(self.measured("unwanted_directs", privacy::unwanted(&mut connection, directs)).await?)
    }

    /// Takes out those whose other person does not exist, or cannot be asked for.
    async fn refuse_strangers(&self, directs: &mut Vec<Direct>, refusals: &mut Refusals, deadline: Deadline) {
        let others: Vec<_> = directs.iter().map(|direct| direct.other).collect();
        if others.is_empty() {
            return;
        }
        let existing = self.existing_users(&others, deadline).await;
        directs.retain(|direct| {
            let refusal = match &existing {
                Ok(users) if users.contains(&direct.other) => return true,
                Ok(_) => Failure::not_found(),
                Err(_) => Failure::unavailable("identity is away"),
            };
            refusals.insert((direct.id, direct.created_by), refusal);
            false
        });
    }

    /// Makes direct conversations; both people are told of those that are new. Returns the new ones.
    pub(super) async fn make_directs(
        &self,
        directs: Vec<Direct>,
        deadline: Deadline,
    ) -> Result<Vec<ConversationId>, RequestError> {
        if directs.is_empty() {
            return Ok(Vec::new());
        }
        let context = self.clone();
        self.write(deadline, async move {
            let mut connection = context.append_connection(deadline).await?;
            context.know_incarnation(&mut connection).await?;
            let made = context.measured("make_directs", directs::make(&mut connection, &directs)).await?;
            context.publisher.publish(joined(&directs, &made));
            context.known_directs.extend(directs.iter().map(|direct| direct.id));
            Ok(made)
        })
        .await
    }
}

fn joined(directs: &[Direct], made: &[ConversationId]) -> Publication {
    let mut publication = Publication::default();
    for direct in directs.iter().filter(|direct| made.contains(&direct.id)) {
        for user_id in [direct.created_by, direct.other] {
            let (conversation_id, kind) = (direct.id, ConversationKind::Direct);
            publication.notice(user_id, UserNotice::ConversationJoined { conversation_id, kind, joined_seq: 1 });
        }
    }
    publication
}
