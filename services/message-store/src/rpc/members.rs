//! Methods `add_member` and `remove_member`, and what is common to coming and going.

use diesel_async::AsyncPgConnection;
use entrenous_bus::Deadline;
use entrenous_model::ConversationId;
use entrenous_protocol::{
    Code, Failure,
    entry::{ConversationKind, MemberChange, MemberContent, Role},
    message::too_large,
    rest::Member,
    rpc::store::{AddMemberRequest, FrameOrigin, MembershipChanged, RemoveMemberRequest},
};
use futures::FutureExt;
use serde_json::json;

use super::{
    Context,
    change::{self, Change, Known, Move, Told, finish, lock, member_entry, membership_entry},
    channels,
};
use crate::{
    domain::rights::{Removal, limit_name, may_add, may_remove},
    error::RequestError,
    store::{
        audit::{self, Audited},
        changes::{self, StandingRow},
        entries::Setting,
        to_u64,
    },
};

pub(super) async fn add(
    context: Context,
    request: AddMemberRequest,
    deadline: Deadline,
) -> Result<Member, RequestError> {
    context.check_users(&[request.user_id], deadline).await?;
    change::make(context, "add_member", request, deadline, |context, connection, request, deadline| {
        add_locked(context, connection, request, deadline).boxed()
    })
    .await
}

pub(super) async fn remove(
    context: Context,
    request: RemoveMemberRequest,
    deadline: Deadline,
) -> Result<MembershipChanged, RequestError> {
    change::make(context, "remove_member", request, deadline, |context, connection, request, deadline| {
        remove_locked(context, connection, request, deadline).boxed()
    })
    .await
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
        let (joined_at, joined_seq) = (joined_at.into(), to_u64(joined_seq));
        return Ok(Change::None(Member { user_id, role, joined_at, joined_seq, settings: None }));
    }
    may_add(kind, caller_role, role)?;
    check_room(&standing)?;
    if standing.is_blocked() {
        // As if; who is blocked sees in the list of members that nobody came.
        let (joined_at, joined_seq) = (context.clock.now(), to_u64(standing.room.last_seq) + 1);
        return Ok(Change::None(Member { user_id, role, joined_at, joined_seq, settings: None }));
    }
    let member_content =
        MemberContent { user_id, change: MemberChange::Added, role: Some(role), by: caller, members: Vec::new() };
    come(context, connection, conversation_id, &standing, member_content, None).await
}

/// Whether one more may come: who is kept out may not, and nobody where it is full.
pub(super) fn check_room(standing: &StandingRow) -> Result<(), RequestError> {
    if standing.is_banned() {
        return Err(Failure::new(Code::Forbidden, "this user is banned").into());
    }
    if standing.room.member_count >= standing.room.max_members {
        let max = usize::try_from(standing.room.max_members).unwrap_or_default();
        return Err(too_large(limit_name(standing.kind()?), max).into());
    }
    Ok(())
}

/// Makes somebody a member: with an entry, or with the next one of a channel. The head is locked.
pub(super) async fn come(
    context: &Context,
    connection: &mut AsyncPgConnection,
    conversation_id: ConversationId,
    standing: &StandingRow,
    member_content: MemberContent,
    frame: Option<&FrameOrigin>,
) -> Result<Change<Member>, RequestError> {
    let (user_id, role, kind) = (member_content.user_id, member_content.role.unwrap_or(Role::Member), standing.kind()?);
    let moved = Move { conversation_id, user_id, difference: 1 };
    if kind == ConversationKind::Channel {
        let joined = channels::join(connection, conversation_id, standing, member_content, role).await?;
        finish(context, connection, standing, moved).await?;
        return Ok(joined);
    }
    let entry = member_entry(context, conversation_id, &member_content, frame)?;
    let placed = changes::append_entry(connection, &entry).await?;
    changes::upsert_member(connection, conversation_id, user_id, role, placed).await?;
    finish(context, connection, standing, moved).await?;
    let (joined_at, joined_seq) = (placed.sent_at.into(), to_u64(placed.seq));
    let setting = Setting { conversation_id, kind, direct: None };
    let origin = frame.map_or(0, |frame| frame.origin);
    let told = Told { setting, joined: vec![user_id], entry: &entry, placed, leaves: 0, origin };
    Ok(Change::Swept(Member { user_id, role, joined_at, joined_seq, settings: None }, told.publication()?))
}

async fn remove_locked(
    context: &Context,
    connection: &mut AsyncPgConnection,
    request: &RemoveMemberRequest,
    deadline: Deadline,
) -> Result<Change<MembershipChanged>, RequestError> {
    let RemoveMemberRequest { caller, conversation_id, user_id, ref frame } = *request;
    let standing = lock(connection, conversation_id, caller, user_id, deadline).await?;
    let is_self = caller == user_id;
    let known = Known::read(connection, conversation_id, caller, frame.as_ref()).await?;
    if let Known::Repeat(entry) = known {
        return Ok(Change::None(MembershipChanged { conversation_id, entry: Some(entry) }));
    }
    if is_self && standing.target_left().is_some() {
        return has_left(conversation_id, &standing);
    }
    let caller_role = standing.caller_role()?.ok_or_else(Failure::not_found)?;
    let Some(target) = standing.target_role()? else {
        // Removed before: as then. Never a member: nobody to remove.
        return if standing.target_left().is_some() {
            has_left(conversation_id, &standing)
        } else {
            Err(Failure::not_found().into())
        };
    };
    let kind = standing.kind()?;
    let (owners, members) = (standing.owners(), i64::from(standing.room.member_count));
    may_remove(Removal { kind, caller: caller_role, target, is_self, owners, members })?;
    known.check()?;
    let change = if is_self { MemberChange::Left } else { MemberChange::Removed };
    let member_content = MemberContent { user_id, change, role: None, by: caller, members: Vec::new() };
    go(context, connection, conversation_id, &standing, member_content, frame.as_ref()).await
}

fn has_left(
    conversation_id: ConversationId,
    standing: &StandingRow,
) -> Result<Change<MembershipChanged>, RequestError> {
    let is_entry = standing.kind()? != ConversationKind::Channel;
    let entry = standing.target_left().filter(|_| is_entry).map(|(at, seq)| membership_entry(at, seq));
    Ok(Change::None(MembershipChanged { conversation_id, entry }))
}

/// Ends a membership: with an entry, or with the last one of a channel. Who removes another is noted for ever. The head is
/// locked.
pub(super) async fn go(
    context: &Context,
    connection: &mut AsyncPgConnection,
    conversation_id: ConversationId,
    standing: &StandingRow,
    member_content: MemberContent,
    frame: Option<&FrameOrigin>,
) -> Result<Change<MembershipChanged>, RequestError> {
    let (user_id, kind) = (member_content.user_id, standing.kind()?);
    if member_content.change == MemberChange::Removed {
        let (actor_id, target_id) = (member_content.by, Some(user_id.as_uuid()));
        let (id, action, detail) = (context.ids.next(), "member_removed", json!({}));
        audit::note(connection, Audited { id, actor_id, action, conversation_id, target_id, detail }).await?;
    }
    let moved = Move { conversation_id, user_id, difference: -1 };
    if kind == ConversationKind::Channel {
        let left = channels::leave(connection, conversation_id, standing, member_content).await?;
        finish(context, connection, standing, moved).await?;
        return Ok(left);
    }
    let entry = member_entry(context, conversation_id, &member_content, frame)?;
    let placed = changes::append_entry(connection, &entry).await?;
    changes::end_member(connection, conversation_id, user_id, placed).await?;
    finish(context, connection, standing, moved).await?;
    let setting = Setting { conversation_id, kind, direct: None };
    let origin = frame.map_or(0, |frame| frame.origin);
    let told = Told { setting, joined: Vec::new(), entry: &entry, placed, leaves: 0, origin };
    let left = MembershipChanged { conversation_id, entry: Some(membership_entry(placed.sent_at, placed.seq)) };
    Ok(Change::Swept(left, told.publication()?))
}
