//! Methods `add_member` and `remove_member`: each one transaction on the conversation's locked head.

use std::time::Duration;

use diesel_async::{AsyncConnection, AsyncPgConnection};
use entrenous_bus::Deadline;
use entrenous_model::{ConversationId, UserId};
use entrenous_protocol::{
    Entry, EntryKind, Failure, RawValue,
    entry::{ConversationKind, MemberChange, MemberContent, Role},
    live::UserNotice,
    message::too_large,
    rest::Member,
    rpc::{
        Done,
        store::{AddMemberRequest, RemoveMemberRequest},
    },
};

use futures::{FutureExt, future::BoxFuture};

use super::{Context, channels};
use crate::{
    domain::rights::{Removal, limit_name, may_add, may_remove},
    error::RequestError,
    publish::Publication,
    store::{
        changes::{self, NewEntry, Placed, StandingRow},
        entries::{Setting, empty_object},
        to_u64,
    },
};

/// Tries to change the members of a conversation that is busy, or where two changes got into each other's way.
const TRIES_MAX: u32 = 6;
/// Between two tries, at most; the wait is drawn.
const PAUSE_MAX_MS: u64 = 40;

pub(super) async fn add(
    context: Context,
    request: AddMemberRequest,
    deadline: Deadline,
) -> Result<Member, RequestError> {
    context.check_users(&[request.user_id], deadline).await?;
    let worker = context.clone();
    let work = move || try_add(worker.clone(), request.clone(), deadline).boxed();
    context.write(deadline, retried(deadline, work)).await
}

pub(super) async fn remove(
    context: Context,
    request: RemoveMemberRequest,
    deadline: Deadline,
) -> Result<Done, RequestError> {
    let worker = context.clone();
    let work = move || try_remove(worker.clone(), request.clone(), deadline).boxed();
    context.write(deadline, retried(deadline, work)).await
}

/// Tries again where the database says that it may help. Both changes may be done twice without harm.
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

/// What a change came to: an answer alone, or with something to be told once it is committed.
pub(super) enum Change<T> {
    None(T),
    /// By an entry.
    Entry(T, Box<NewEntry>, Placed, Setting),
    /// In a channel.
    Channel(T, Publication),
}

async fn try_add(context: Context, request: AddMemberRequest, deadline: Deadline) -> Result<Member, RequestError> {
    let mut connection = context.connection(deadline).await?;
    context.know_incarnation(&mut connection).await?;
    let transaction =
        connection.transaction(async |connection| add_locked(&context, connection, &request, deadline).await);
    match context.measured("add_member", transaction).await? {
        Change::None(member) => Ok(member),
        Change::Entry(member, entry, placed, setting) => {
            Told { setting, joined: vec![request.user_id], entry: &entry, placed }.publish(&context)?;
            Ok(member)
        }
        Change::Channel(member, publication) => {
            context.publisher.publish_unswept(publication).await;
            Ok(member)
        }
    }
}

async fn add_locked(
    context: &Context,
    connection: &mut AsyncPgConnection,
    request: &AddMemberRequest,
    deadline: Deadline,
) -> Result<Change<Member>, RequestError> {
    let AddMemberRequest { caller, conversation_id, user_id, .. } = *request;
    let role = request.role.unwrap_or(Role::Member);
    let standing = lock(connection, conversation_id, caller, user_id, deadline).await?;
    let caller_role = standing.caller_role()?.ok_or_else(Failure::not_found)?;
    let kind = standing.kind()?;
    if let (Some(role), Some((joined_at, joined_seq))) = (standing.target_role()?, standing.target_joined()) {
        may_add(kind, caller_role, Role::Reader)?;
        let joined_seq = to_u64(joined_seq);
        return Ok(Change::None(Member { user_id, role, joined_at: joined_at.into(), joined_seq }));
    }
    may_add(kind, caller_role, role)?;
    if standing.member_count >= standing.max_members {
        let max = usize::try_from(standing.max_members).unwrap_or_default();
        return Err(too_large(limit_name(kind), max).into());
    }
    check_conversations(context, standing.target_conversations)?;
    if standing.is_blocked {
        // As if; who is blocked sees in the list of members that nobody came.
        let (joined_at, joined_seq) = (context.clock.now(), to_u64(standing.last_seq) + 1);
        return Ok(Change::None(Member { user_id, role, joined_at, joined_seq }));
    }
    let member_content =
        MemberContent { user_id, change: MemberChange::Added, role: Some(role), by: caller, members: Vec::new() };
    if kind == ConversationKind::Channel {
        let joined = channels::join(connection, conversation_id, &standing, member_content, role).await?;
        finish(connection, conversation_id, user_id, 1, deadline).await?;
        return Ok(joined);
    }
    let entry = new_entry(context, conversation_id, &member_content)?;
    let placed = changes::append_entry(connection, &entry).await?;
    changes::upsert_member(connection, conversation_id, user_id, role, placed).await?;
    finish(connection, conversation_id, user_id, 1, deadline).await?;
    let member = Member { user_id, role, joined_at: placed.sent_at.into(), joined_seq: to_u64(placed.seq) };
    Ok(Change::Entry(member, Box::new(entry), placed, Setting { conversation_id, kind, direct: None }))
}

async fn try_remove(context: Context, request: RemoveMemberRequest, deadline: Deadline) -> Result<Done, RequestError> {
    let mut connection = context.connection(deadline).await?;
    context.know_incarnation(&mut connection).await?;
    let transaction =
        connection.transaction(async |connection| remove_locked(&context, connection, &request, deadline).await);
    match context.measured("remove_member", transaction).await? {
        Change::None(done) => Ok(done),
        Change::Entry(done, entry, placed, setting) => {
            Told { setting, joined: Vec::new(), entry: &entry, placed }.publish(&context)?;
            Ok(done)
        }
        Change::Channel(done, publication) => {
            context.publisher.publish_unswept(publication).await;
            Ok(done)
        }
    }
}

async fn remove_locked(
    context: &Context,
    connection: &mut AsyncPgConnection,
    request: &RemoveMemberRequest,
    deadline: Deadline,
) -> Result<Change<Done>, RequestError> {
    let RemoveMemberRequest { caller, conversation_id, user_id } = *request;
    let standing = lock(connection, conversation_id, caller, user_id, deadline).await?;
    let is_self = caller == user_id;
    if is_self && standing.target_has_left() {
        return Ok(Change::None(Done {}));
    }
    let caller_role = standing.caller_role()?.ok_or_else(Failure::not_found)?;
    let Some(target) = standing.target_role()? else {
        // Removed before: as then. Never a member: nobody to remove.
        return if standing.target_has_left() { Ok(Change::None(Done {})) } else { Err(Failure::not_found().into()) };
    };
    let kind = standing.kind()?;
    let (owners, members) = (standing.owners, i64::from(standing.member_count));
    may_remove(Removal { kind, caller: caller_role, target, is_self, owners, members })?;
    let change = if is_self { MemberChange::Left } else { MemberChange::Removed };
    let member_content = MemberContent { user_id, change, role: None, by: caller, members: Vec::new() };
    if kind == ConversationKind::Channel {
        let left = channels::leave(connection, conversation_id, &standing, member_content).await?;
        finish(connection, conversation_id, user_id, -1, deadline).await?;
        return Ok(left);
    }
    let entry = new_entry(context, conversation_id, &member_content)?;
    let placed = changes::append_entry(connection, &entry).await?;
    changes::end_member(connection, conversation_id, user_id, placed).await?;
    finish(connection, conversation_id, user_id, -1, deadline).await?;
    Ok(Change::Entry(Done {}, Box::new(entry), placed, Setting { conversation_id, kind, direct: None }))
}

/// Locks the head; then reads, on a snapshot that sees what those who held it before have committed.
async fn lock(
    connection: &mut AsyncPgConnection,
    conversation_id: ConversationId,
    caller: UserId,
    target: UserId,
    deadline: Deadline,
) -> Result<StandingRow, RequestError> {
    changes::bound(connection, deadline).await?;
    if !changes::lock_head(connection, conversation_id).await? {
        return Err(Failure::not_found().into());
    }
    let standing = changes::read_standing(connection, conversation_id, caller, target).await?;
    Ok(standing.ok_or_else(Failure::not_found)?)
}

/// What follows every change of one member, who came (1) or went (-1).
async fn finish(
    connection: &mut AsyncPgConnection,
    conversation_id: ConversationId,
    user_id: UserId,
    difference: i32,
    deadline: Deadline,
) -> Result<(), RequestError> {
    changes::count_member(connection, conversation_id, difference).await?;
    changes::bump_versions(connection, &[user_id]).await?;
    check_in_time(deadline)
}

/// Nothing is committed when the caller has given up.
pub(super) fn check_in_time(deadline: Deadline) -> Result<(), RequestError> {
    if deadline.remaining().is_zero() { Err(RequestError::Late) } else { Ok(()) }
}

/// Whether somebody may be in one more group or channel.
pub(super) fn check_conversations(context: &Context, count: i64) -> Result<(), RequestError> {
    let max = context.bounds.conversations_per_user;
    if count >= i64::from(max) {
        return Err(too_large("conversations_per_user", usize::try_from(max).unwrap_or(usize::MAX)).into());
    }
    Ok(())
}

fn new_entry(
    context: &Context,
    conversation_id: ConversationId,
    member_content: &MemberContent,
) -> Result<NewEntry, RequestError> {
    Ok(NewEntry {
        batch_id: context.ids.next(),
        conversation_id,
        id: context.ids.next(),
        kind: EntryKind::Member,
        sender_id: member_content.by,
        target_id: Some(member_content.user_id.as_uuid()),
        content: content_text(member_content)?,
    })
}

/// The JSON text of a change.
pub(super) fn content_text(content: &MemberContent) -> Result<Vec<u8>, RequestError> {
    serde_json::to_vec(content).map_err(|_| Failure::internal().into())
}

/// A change of the members that was committed.
pub(super) struct Told<'a> {
    pub(super) setting: Setting,
    /// Told before the entry that they are members.
    pub(super) joined: Vec<UserId>,
    pub(super) entry: &'a NewEntry,
    pub(super) placed: Placed,
}

impl Told<'_> {
    pub(super) fn publish(self, context: &Context) -> Result<(), RequestError> {
        let Setting { conversation_id, kind, .. } = self.setting;
        let mut publication = Publication::of_row(self.placed.feed);
        let joined_seq = to_u64(self.placed.seq);
        for user_id in &self.joined {
            publication.notice(*user_id, UserNotice::ConversationJoined { conversation_id, kind, joined_seq });
        }
        let entry = self.as_entry()?;
        // Nobody has left yet where a channel has a `member` entry.
        publication.entry(&self.setting, &entry, 0, to_u64(self.placed.countable_no), 0);
        context.publisher.publish(publication);
        Ok(())
    }

    fn as_entry(&self) -> Result<Entry, RequestError> {
        let content: Box<RawValue> = serde_json::from_slice(&self.entry.content).map_err(|_| Failure::internal())?;
        Ok(Entry {
            id: self.entry.id,
            conversation_id: self.entry.conversation_id,
            seq: to_u64(self.placed.seq),
            kind: self.entry.kind,
            sender_id: self.entry.sender_id,
            sender_device_id: None,
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
