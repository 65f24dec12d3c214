//! Methods `create_invite`, `list_invites` and `revoke_invite`.

use diesel_async::AsyncPgConnection;
use entrenous_bus::Deadline;
use entrenous_model::{ConversationId, Timestamp, UserId};
use entrenous_protocol::{
    Failure,
    message::too_large,
    rest::{Invite, Page},
    rpc::{
        Done,
        store::{ConversationRequest, CreateInviteRequest, INVITES_MAX, RevokeInviteRequest},
    },
};
use futures::FutureExt;

use super::{
    Context,
    change::{self, Change, lock},
};
use crate::{
    domain::{
        rights::{Action, may},
        token::{new_token, token_digest},
    },
    error::RequestError,
    store::{
        invites::{self, NewInvite},
        memberships,
    },
};

pub(super) async fn create(
    context: Context,
    request: CreateInviteRequest,
    deadline: Deadline,
) -> Result<Invite, RequestError> {
    change::make(context, "create_invite", request, deadline, |context, connection, request, deadline| {
        create_locked(context, connection, *request, deadline).boxed()
    })
    .await
}

async fn create_locked(
    context: &Context,
    connection: &mut AsyncPgConnection,
    CreateInviteRequest { caller, conversation_id, invite }: CreateInviteRequest,
    deadline: Deadline,
) -> Result<Change<Invite>, RequestError> {
    let standing = lock(connection, conversation_id, caller, caller, deadline).await?;
    let role = standing.caller_role()?.ok_or_else(Failure::not_found)?;
    may(standing.kind()?, role, Action::Invite)?;
    if invite.expires_at.is_some_and(|at| at <= context.clock.now()) {
        return Err(Failure::invalid("expires_at", "must be in the future").into());
    }
    if invite.max_uses.is_some_and(|uses| i32::try_from(uses).unwrap_or(0) < 1) {
        return Err(Failure::invalid("max_uses", format!("must be 1 to {}", i32::MAX)).into());
    }
    let token = new_token();
    let new = NewInvite {
        id: context.ids.next(),
        conversation_id,
        token_digest: token_digest(&token),
        created_by: caller,
        expires_at: invite.expires_at.map(Timestamp::as_datetime),
        max_uses: invite.max_uses,
    };
    let made = invites::insert(connection, new, INVITES_MAX).await?;
    let made = made.ok_or_else(|| too_large("invites", INVITES_MAX))?;
    Ok(Change::None(Invite { token: Some(token), ..made }))
}

pub(super) async fn list(
    context: Context,
    ConversationRequest { caller, conversation_id }: ConversationRequest,
    deadline: Deadline,
) -> Result<Page<Invite>, RequestError> {
    let mut connection = context.connection(deadline).await?;
    check(&context, &mut connection, caller, conversation_id).await?;
    let listed = invites::list(&mut connection, conversation_id);
    Ok(Page::whole(context.measured("list_invites", listed).await?))
}

pub(super) async fn revoke(
    context: Context,
    request: RevokeInviteRequest,
    deadline: Deadline,
) -> Result<Done, RequestError> {
    let worker = context.clone();
    let work = async move {
        let RevokeInviteRequest { caller, conversation_id, invite_id } = request;
        let mut connection = worker.connection(deadline).await?;
        check(&worker, &mut connection, caller, conversation_id).await?;
        worker.measured("revoke_invite", invites::delete(&mut connection, conversation_id, invite_id)).await?;
        Ok(Done {})
    };
    context.write(deadline, work).await
}

async fn check(
    context: &Context,
    connection: &mut AsyncPgConnection,
    caller: UserId,
    conversation_id: ConversationId,
) -> Result<(), RequestError> {
    let role = memberships::read_role(connection, caller, conversation_id);
    let (kind, role) = context.measured("read_role", role).await?.ok_or_else(Failure::not_found)?;
    Ok(may(kind, role, Action::Invite)?)
}
