//! Methods `set_role`, `ban_member`, `unban_member` and `list_bans`.

use diesel_async::AsyncPgConnection;
use entrenous_bus::Deadline;
use entrenous_protocol::{
    Failure,
    entry::{MemberChange, MemberContent},
    rest::{Ban, Member, Page},
    rpc::{
        Done,
        store::{BANS_PAGE_MAX, ListMembersRequest, MemberRequest, SetRoleRequest},
    },
};
use futures::FutureExt;
use serde_json::json;

use super::{
    Context,
    change::{self, Change, Told, lock, member_entry},
    members,
};
use crate::{
    domain::rights::{Action, RoleChange, may, may_ban, may_give},
    error::RequestError,
    store::{
        audit::{self, Audited},
        bans, changes,
        entries::Setting,
        memberships, to_u64,
    },
};

pub(super) async fn set(context: Context, request: SetRoleRequest, deadline: Deadline) -> Result<Member, RequestError> {
    change::make(context, "set_role", request, deadline, |context, connection, request, deadline| {
        set_locked(context, connection, *request, deadline).boxed()
    })
    .await
}

/// An entry in channels too: who looks after a channel, and who may not write there, is nothing that comes and goes.
async fn set_locked(
    context: &Context,
    connection: &mut AsyncPgConnection,
    SetRoleRequest { caller, conversation_id, user_id, role }: SetRoleRequest,
    deadline: Deadline,
) -> Result<Change<Member>, RequestError> {
    let standing = lock(connection, conversation_id, caller, user_id, deadline).await?;
    let caller_role = standing.caller_role()?.ok_or_else(Failure::not_found)?;
    let kind = standing.kind()?;
    let (Some(target), Some((joined_at, joined_seq))) = (standing.target_role()?, standing.target_joined()) else {
        return Err(Failure::not_found().into());
    };
    let (is_self, owners) = (caller == user_id, standing.owners());
    may_give(RoleChange { kind, caller: caller_role, target, given: role, is_self, owners })?;
    let (joined_at, joined_seq) = (joined_at.into(), to_u64(joined_seq));
    let member = Member { user_id, role, joined_at, joined_seq, settings: None };
    if target == role {
        return Ok(Change::None(member));
    }
    let member_content =
        MemberContent { user_id, change: MemberChange::Role, role: Some(role), by: caller, members: Vec::new() };
    let entry = member_entry(context, conversation_id, &member_content, None)?;
    let placed = changes::append_entry(connection, &entry).await?;
    changes::set_role(connection, conversation_id, user_id, role).await?;
    let (id, action, detail) = (context.ids.next(), "role_changed", json!({"from": target, "to": role}));
    let audited = Audited { id, actor_id: caller, action, conversation_id, target_id: Some(user_id.as_uuid()), detail };
    audit::note(connection, audited).await?;
    let setting = Setting { conversation_id, kind, direct: None };
    let leaves = to_u64(standing.room.leaves);
    let told = Told { setting, joined: Vec::new(), entry: &entry, placed, leaves, origin: 0 };
    Ok(Change::Swept(member, told.publication()?))
}

pub(super) async fn ban(context: Context, request: MemberRequest, deadline: Deadline) -> Result<Done, RequestError> {
    if request.caller == request.user_id {
        return Err(Failure::invalid("user_id", "must be another user").into());
    }
    context.check_users(&[request.user_id], deadline).await?;
    change::make(context, "ban_member", request, deadline, |context, connection, request, deadline| {
        ban_locked(context, connection, *request, deadline).boxed()
    })
    .await
}

async fn ban_locked(
    context: &Context,
    connection: &mut AsyncPgConnection,
    MemberRequest { caller, conversation_id, user_id }: MemberRequest,
    deadline: Deadline,
) -> Result<Change<Done>, RequestError> {
    let standing = lock(connection, conversation_id, caller, user_id, deadline).await?;
    let caller_role = standing.caller_role()?.ok_or_else(Failure::not_found)?;
    let target = standing.target_role()?;
    may_ban(standing.kind()?, caller_role, target)?;
    if !bans::insert(connection, conversation_id, user_id, caller).await? {
        return Ok(Change::None(Done {}));
    }
    let (id, action, detail) = (context.ids.next(), "member_banned", json!({}));
    let audited = Audited { id, actor_id: caller, action, conversation_id, target_id: Some(user_id.as_uuid()), detail };
    audit::note(connection, audited).await?;
    if target.is_none() {
        return Ok(Change::None(Done {}));
    }
    let member_content =
        MemberContent { user_id, change: MemberChange::Banned, role: None, by: caller, members: Vec::new() };
    let gone = members::go(context, connection, conversation_id, &standing, member_content, None).await?;
    Ok(gone.map(|_| Done {}))
}

pub(super) async fn unban(context: Context, request: MemberRequest, deadline: Deadline) -> Result<Done, RequestError> {
    change::make(context, "unban_member", request, deadline, |context, connection, request, deadline| {
        unban_locked(context, connection, *request, deadline).boxed()
    })
    .await
}

async fn unban_locked(
    context: &Context,
    connection: &mut AsyncPgConnection,
    MemberRequest { caller, conversation_id, user_id }: MemberRequest,
    deadline: Deadline,
) -> Result<Change<Done>, RequestError> {
    let standing = lock(connection, conversation_id, caller, user_id, deadline).await?;
    let caller_role = standing.caller_role()?.ok_or_else(Failure::not_found)?;
    may(standing.kind()?, caller_role, Action::Ban)?;
    if bans::delete(connection, conversation_id, user_id).await? {
        let (id, action, detail) = (context.ids.next(), "member_unbanned", json!({}));
        let audited =
            Audited { id, actor_id: caller, action, conversation_id, target_id: Some(user_id.as_uuid()), detail };
        audit::note(connection, audited).await?;
    }
    Ok(Change::None(Done {}))
}

pub(super) async fn list_bans(
    context: Context,
    request: ListMembersRequest,
    deadline: Deadline,
) -> Result<Page<Ban>, RequestError> {
    let ListMembersRequest { caller, conversation_id, after, limit } = request;
    if !(1..=BANS_PAGE_MAX).contains(&limit) {
        return Err(Failure::invalid("limit", format!("must be 1 to {BANS_PAGE_MAX}")).into());
    }
    let mut connection = context.connection(deadline).await?;
    let role = memberships::read_role(&mut connection, caller, conversation_id);
    let (kind, role) = context.measured("read_role", role).await?.ok_or_else(Failure::not_found)?;
    may(kind, role, Action::Ban)?;
    let listed = bans::list(&mut connection, conversation_id, after, limit + 1);
    let mut items = context.measured("list_bans", listed).await?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| has_more).map(|ban| ban.user_id.to_string());
    Ok(Page { items, has_more, next })
}
