//! How groups and channels are changed: each change is one transaction on the conversation's locked head, tried again where
//! that may help, and told once it is committed.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use entrenous_bus::Deadline;
use entrenous_model::{ConversationId, UserId};
use entrenous_protocol::{
    Code, Entry, EntryKind, Failure, RawValue,
    entry::{ConversationKind, MemberContent},
    live::UserNotice,
    message::too_large,
    rpc::store::{FrameOrigin, MembershipEntry},
};
use futures::{FutureExt, future::BoxFuture};
use serde::Serialize;

use super::Context;
use crate::{
    error::RequestError,
    publish::Publication,
    store::{
        changes::{self, NewEntry, Placed, StandingRow},
        channels,
        entries::{Setting, empty_object},
        to_u64,
    },
};

/// Tries to change a conversation that is busy, or where two changes got into each other's way.
const TRIES_MAX: u32 = 6;
/// Between two tries, at most; the wait is drawn.
const PAUSE_MAX_MS: u64 = 40;

/// What a change came to: an answer alone, or with something to be told once it is committed.
pub(super) enum Change<T> {
    None(T),
    /// What has a row in the feed.
    Swept(T, Publication),
    /// What has none.
    Unswept(T, Publication),
}

impl<T> Change<T> {
    /// With another answer.
    pub(super) fn map<U>(self, answer: impl FnOnce(T) -> U) -> Change<U> {
        match self {
            Self::None(one) => Change::None(answer(one)),
            Self::Swept(one, publication) => Change::Swept(answer(one), publication),
            Self::Unswept(one, publication) => Change::Unswept(answer(one), publication),
        }
    }
}

/// One change, inside its transaction.
pub(super) type Locked<R, T> = for<'a> fn(
    &'a Context,
    &'a mut AsyncPgConnection,
    &'a R,
    Deadline,
) -> BoxFuture<'a, Result<Change<T>, RequestError>>;

/// Makes a change in a transaction, and tells of it. Every change may be made twice without harm.
pub(super) async fn make<R, T>(
    context: Context,
    operation: &'static str,
    request: R,
    deadline: Deadline,
    locked: Locked<R, T>,
) -> Result<T, RequestError>
where
    R: Send + Sync + 'static,
    T: Send + 'static,
{
    let (worker, request) = (context.clone(), Arc::new(request));
    let work = move || try_make(worker.clone(), operation, Arc::clone(&request), deadline, locked).boxed();
    context.write(deadline, retried(deadline, work)).await
}

/// Tries again where the database says that it may help.
pub(super) async fn retried<T>(
    deadline: Deadline,
    work: impl Fn() -> BoxFuture<'static, Result<T, RequestError>>,
) -> Result<T, RequestError> {
    let mut tries = 1;
    loop {
        match work().await {
            Err(RequestError::Store(error))
                if error.is_transient() && tries < TRIES_MAX && !deadline.remaining().is_zero() =>
            {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(rand::random_range(1..=PAUSE_MAX_MS))).await;
            }
            outcome => return outcome,
        }
    }
}

async fn try_make<R: Send + Sync, T: Send>(
    context: Context,
    operation: &'static str,
    request: Arc<R>,
    deadline: Deadline,
    locked: Locked<R, T>,
) -> Result<T, RequestError> {
    let mut connection = context.connection(deadline).await?;
    context.know_incarnation(&mut connection).await?;
    let transaction = connection.transaction(async |connection| {
        let change = locked(&context, connection, &request, deadline).await?;
        check_in_time(deadline)?;
        Ok::<Change<T>, RequestError>(change)
    });
    match context.measured(operation, transaction).await? {
        Change::None(answer) => Ok(answer),
        Change::Swept(answer, publication) => {
            context.publisher.publish(publication);
            Ok(answer)
        }
        Change::Unswept(answer, publication) => {
            context.publisher.publish_unswept(publication).await;
            Ok(answer)
        }
    }
}

/// Nothing is committed when the caller has given up.
pub(super) fn check_in_time(deadline: Deadline) -> Result<(), RequestError> {
    if deadline.remaining().is_zero() { Err(RequestError::Late) } else { Ok(()) }
}

/// Locks the head.
pub(super) async fn lock_head(
    connection: &mut AsyncPgConnection,
    conversation_id: ConversationId,
    deadline: Deadline,
) -> Result<(), RequestError> {
    changes::bound(connection, deadline).await?;
    if changes::lock_head(connection, conversation_id).await? { Ok(()) } else { Err(Failure::not_found().into()) }
}

/// Locks the head; then reads, on a snapshot that sees what those who held it before have committed.
pub(super) async fn lock(
    connection: &mut AsyncPgConnection,
    conversation_id: ConversationId,
    caller: UserId,
    target: UserId,
    deadline: Deadline,
) -> Result<StandingRow, RequestError> {
    lock_head(connection, conversation_id, deadline).await?;
    let standing = changes::read_standing(connection, conversation_id, caller, target).await?;
    Ok(standing.ok_or_else(Failure::not_found)?)
}

/// Somebody came (1) or went (-1).
pub(super) struct Move {
    pub(super) conversation_id: ConversationId,
    pub(super) user_id: UserId,
    pub(super) difference: i32,
}

/// What follows every coming and going; the last statements of the transaction.
pub(super) async fn finish(
    context: &Context,
    connection: &mut AsyncPgConnection,
    standing: &StandingRow,
    Move { conversation_id, user_id, difference }: Move,
) -> Result<(), RequestError> {
    changes::count_member(connection, conversation_id, difference).await?;
    if standing.room.is_public && standing.kind()? == ConversationKind::Channel {
        channels::note_size(connection, conversation_id, standing.room.member_count + difference).await?;
    }
    changes::bump_versions(connection, &[user_id]).await?;
    if difference > 0 {
        check_conversations(context, connection, &[user_id]).await?;
    }
    Ok(())
}

/// Whether these users, who are in one more group or channel now, are in too many. Their versions are locked: where they
/// come to two at the same time, the second one sees the first.
pub(super) async fn check_conversations(
    context: &Context,
    connection: &mut AsyncPgConnection,
    user_ids: &[UserId],
) -> Result<(), RequestError> {
    let max = context.bounds.conversations_per_user;
    if changes::count_conversations_max(connection, user_ids).await? > i64::from(max) {
        return Err(too_large("conversations_per_user", usize::try_from(max).unwrap_or(usize::MAX)).into());
    }
    Ok(())
}

/// An entry that says how the members changed. A frame that asked for it gives it its id.
pub(super) fn member_entry(
    context: &Context,
    conversation_id: ConversationId,
    member_content: &MemberContent,
    frame: Option<&FrameOrigin>,
) -> Result<NewEntry, RequestError> {
    Ok(NewEntry {
        batch_id: context.ids.next(),
        conversation_id,
        id: frame.map_or_else(|| context.ids.next(), |frame| frame.entry_id),
        kind: EntryKind::Member,
        sender_id: member_content.by,
        target_id: Some(member_content.user_id.as_uuid()),
        sender_device_id: frame.map(|frame| frame.device_id),
        content: content_text(member_content)?,
    })
}

/// The JSON text of a change.
pub(super) fn content_text(content: &impl Serialize) -> Result<Vec<u8>, RequestError> {
    serde_json::to_vec(content).map_err(|_| Failure::internal().into())
}

/// What the id of a frame stands for already.
pub(super) enum Known {
    Nothing,
    /// What the same frame did before.
    Repeat(MembershipEntry),
    Other,
}

impl Known {
    /// Looks it up. The head is locked.
    pub(super) async fn read(
        connection: &mut AsyncPgConnection,
        conversation_id: ConversationId,
        caller: UserId,
        frame: Option<&FrameOrigin>,
    ) -> Result<Self, RequestError> {
        let Some(frame) = frame else {
            return Ok(Self::Nothing);
        };
        let Some(entry) = changes::find_entry(connection, conversation_id, frame.entry_id).await? else {
            return Ok(Self::Nothing);
        };
        let is_same = entry.kind == EntryKind::Member
            && entry.sender_id == caller
            && entry.sender_device_id == Some(frame.device_id);
        Ok(if is_same { Self::Repeat(membership_entry(entry.sent_at, entry.seq)) } else { Self::Other })
    }

    /// Whether an entry may have the id.
    pub(super) fn check(&self) -> Result<(), Failure> {
        match self {
            Self::Nothing => Ok(()),
            Self::Repeat(_) | Self::Other => {
                Err(Failure::new(Code::IdConflict, "the conversation has another entry with this id"))
            }
        }
    }
}

/// Where the entry of a membership stands.
pub(super) fn membership_entry(sent_at: DateTime<Utc>, seq: i64) -> MembershipEntry {
    MembershipEntry { seq: to_u64(seq), sent_at: sent_at.into() }
}

/// A change that was given its place in a log.
pub(super) struct Told<'a> {
    pub(super) setting: Setting,
    /// Told before the entry that they are members.
    pub(super) joined: Vec<UserId>,
    pub(super) entry: &'a NewEntry,
    pub(super) placed: Placed,
    /// How many have left the channel.
    pub(super) leaves: u64,
    /// Of the connection that asked, 0 where it came by REST.
    pub(super) origin: u64,
}

impl Told<'_> {
    /// What is to be told once it is committed.
    pub(super) fn publication(&self) -> Result<Publication, RequestError> {
        let Setting { conversation_id, kind, .. } = self.setting;
        let mut publication = Publication::of_row(self.placed.feed);
        let joined_seq = to_u64(self.placed.seq);
        for user_id in &self.joined {
            publication.notice(*user_id, UserNotice::ConversationJoined { conversation_id, kind, joined_seq });
        }
        let entry = self.as_entry()?;
        publication.entry(&self.setting, &entry, self.origin, to_u64(self.placed.countable_no), self.leaves);
        Ok(publication)
    }

    fn as_entry(&self) -> Result<Entry, RequestError> {
        let content: Box<RawValue> = serde_json::from_slice(&self.entry.content).map_err(|_| Failure::internal())?;
        Ok(Entry {
            id: self.entry.id,
            conversation_id: self.entry.conversation_id,
            seq: to_u64(self.placed.seq),
            kind: self.entry.kind,
            sender_id: self.entry.sender_id,
            sender_device_id: self.entry.sender_device_id,
            message_type: None,
            content: Some(content),
            target_id: self.entry.target_id.map(Into::into),
            superseded_by: None,
            reply_to: None,
            thread_id: None,
            attachments: Vec::new(),
            mentions: Vec::new(),
            metadata: empty_object(),
            signature: None,
            sent_at: self.placed.sent_at.into(),
            edited_at: None,
            edit_count: 0,
            deleted: false,
            expires_at: None,
        })
    }
}
