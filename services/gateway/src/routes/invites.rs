//! `/api/v1/conversations/{id}/invites` and `/api/v1/invites`: links that let people in.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, ServiceConfig},
};
use entrenous_model::{ConversationId, InviteId};
use entrenous_protocol::{
    rest::{Conversation, Invite, NewInvite, Page},
    rpc::store,
};

use super::{Answer, joins};
use crate::{
    http::{
        extract::{Caller, JsonBody, path_id},
        resource::at,
    },
    openapi::{Forbidden, NotFound, TooLarge},
    state::Gateway,
};

pub(super) fn configure(config: &mut ServiceConfig) {
    at("/api/v1/conversations/{id}/invites").get(list).post(create).register(config);
    at("/api/v1/conversations/{id}/invites/{invite_id}").delete(revoke).register(config);
    at("/api/v1/invites/{token}/join").post(join).register(config);
}

/// The invites that let somebody in, the oldest first, without their tokens: for moderators and owners.
#[utoipa::path(
    get, path = "/api/v1/conversations/{id}/invites", tag = "members", operation_id = "list_invites",
    security(("bearer" = [])),
    params(("id" = ConversationId, Path, description = "The conversation")),
    responses((status = 200, description = "All of them", body = Page<Invite>), Forbidden, NotFound)
)]
pub(crate) async fn list(caller: Caller, request: HttpRequest, gateway: Data<Gateway>) -> Answer {
    let request = store::ConversationRequest { caller: caller.0.sub, conversation_id: path_id(&request, "id")? };
    Ok(HttpResponse::Ok().json(gateway.call::<store::ListInvites>(&request).await?))
}

/// Makes an invite. Its token is told this once.
#[utoipa::path(
    post, path = "/api/v1/conversations/{id}/invites", tag = "members", operation_id = "create_invite",
    security(("bearer" = [])), request_body = NewInvite,
    params(("id" = ConversationId, Path, description = "The conversation")),
    responses((status = 201, description = "The invite, with its token", body = Invite), Forbidden, NotFound, TooLarge)
)]
pub(crate) async fn create(
    caller: Caller,
    request: HttpRequest,
    gateway: Data<Gateway>,
    body: JsonBody<NewInvite>,
) -> Answer {
    let conversation_id = path_id(&request, "id")?;
    let request = store::CreateInviteRequest { caller: caller.0.sub, conversation_id, invite: body.0 };
    Ok(HttpResponse::Created().json(gateway.call::<store::CreateInvite>(&request).await?))
}

/// Takes an invite back. Doing it twice changes nothing.
#[utoipa::path(
    delete, path = "/api/v1/conversations/{id}/invites/{invite_id}", tag = "members", operation_id = "revoke_invite",
    security(("bearer" = [])),
    params(
        ("id" = ConversationId, Path, description = "The conversation"),
        ("invite_id" = InviteId, Path, description = "The invite")
    ),
    responses((status = 204, description = "It lets nobody in any more"), Forbidden, NotFound)
)]
pub(crate) async fn revoke(caller: Caller, request: HttpRequest, gateway: Data<Gateway>) -> Answer {
    let revocation = store::RevokeInviteRequest {
        caller: caller.0.sub,
        conversation_id: path_id(&request, "id")?,
        invite_id: path_id(&request, "invite_id")?,
    };
    gateway.call::<store::RevokeInvite>(&revocation).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Joins by an invite. Who is a member already stays one, and uses nothing up.
#[utoipa::path(
    post, path = "/api/v1/invites/{token}/join", tag = "members", operation_id = "join_by_invite",
    security(("bearer" = [])),
    params(("token" = String, Path, description = "The invite's token")),
    responses((status = 200, description = "The conversation", body = Conversation), Forbidden, NotFound, TooLarge)
)]
pub(crate) async fn join(caller: Caller, request: HttpRequest, gateway: Data<Gateway>) -> Answer {
    let token = request.match_info().query("token").to_owned();
    joins::answer(&gateway, &caller, store::JoinBy::Invite(token)).await
}
