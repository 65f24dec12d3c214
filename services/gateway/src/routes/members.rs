//! `/api/v1/conversations/{id}/members`.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, ServiceConfig},
};
use entrenous_model::{ConversationId, UserId};
use entrenous_protocol::{
    Code, Failure,
    rest::{AddMember, Member, MemberPatch, Page},
    rpc::store,
};

use super::Answer;
use crate::{
    http::{
        extract::{Caller, JsonBody, Query, path_id},
        resource::at,
    },
    openapi::{Conflict, Forbidden, NotFound, TooLarge},
    state::Gateway,
};

pub(super) fn configure(config: &mut ServiceConfig) {
    at("/api/v1/conversations/{id}/members").get(list).post(add).register(config);
    at("/api/v1/conversations/{id}/members/{user_id}").patch(update).delete(remove).register(config);
}

/// The members, by id. Of a channel only its moderators and owners see them.
#[utoipa::path(
    get, path = "/api/v1/conversations/{id}/members", tag = "members", operation_id = "list_members",
    security(("bearer" = [])),
    params(
        ("id" = ConversationId, Path, description = "The conversation"),
        ("cursor" = Option<UserId>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 1,000, 1,000 by default", minimum = 1, maximum = 1_000)
    ),
    responses((status = 200, description = "A page", body = Page<Member>), Forbidden, NotFound)
)]
pub(crate) async fn list(caller: Caller, request: HttpRequest, gateway: Data<Gateway>, query: Query) -> Answer {
    let request = store::ListMembersRequest {
        caller: caller.0.sub,
        conversation_id: path_id(&request, "id")?,
        after: query.id("cursor")?,
        limit: query.limit(store::MEMBERS_PAGE_MAX, store::MEMBERS_PAGE_MAX)?,
    };
    Ok(HttpResponse::Ok().json(gateway.call::<store::ListMembers>(&request).await?))
}

/// Adds somebody. Somebody who is a member already stays as they are.
#[utoipa::path(
    post, path = "/api/v1/conversations/{id}/members", tag = "members", operation_id = "add_member",
    security(("bearer" = [])), request_body = AddMember,
    params(("id" = ConversationId, Path, description = "The conversation")),
    responses((status = 201, description = "The member", body = Member), Forbidden, NotFound, TooLarge)
)]
pub(crate) async fn add(
    caller: Caller,
    request: HttpRequest,
    gateway: Data<Gateway>,
    body: JsonBody<AddMember>,
) -> Answer {
    let addition = store::AddMemberRequest {
        caller: caller.0.sub,
        conversation_id: path_id(&request, "id")?,
        user_id: body.0.user_id,
        role: body.0.role,
    };
    Ok(HttpResponse::Created().json(gateway.call::<store::AddMember>(&addition).await?))
}

/// Gives a member a role, or changes one's own settings (one's own id).
#[utoipa::path(
    patch, path = "/api/v1/conversations/{id}/members/{user_id}", tag = "members", operation_id = "update_member",
    security(("bearer" = [])), request_body = MemberPatch,
    params(
        ("id" = ConversationId, Path, description = "The conversation"),
        ("user_id" = UserId, Path, description = "The member")
    ),
    responses((status = 200, description = "The member", body = Member), Forbidden, NotFound, Conflict, TooLarge)
)]
pub(crate) async fn update(
    caller: Caller,
    request: HttpRequest,
    gateway: Data<Gateway>,
    body: JsonBody<MemberPatch>,
) -> Answer {
    let (caller, conversation_id, user_id) = (caller.0.sub, path_id(&request, "id")?, path_id(&request, "user_id")?);
    let member = match body.0 {
        MemberPatch { role: Some(role), settings: None } => {
            let request = store::SetRoleRequest { caller, conversation_id, user_id, role };
            gateway.call::<store::SetRole>(&request).await?
        }
        MemberPatch { role: None, settings: Some(settings) } => {
            if user_id != caller {
                // Who is no member is told that there is nothing, not that it is forbidden.
                gateway.call::<store::GetConversation>(&store::ConversationRequest { caller, conversation_id }).await?;
                return Err(Failure::new(Code::Forbidden, "these settings are their own").into());
            }
            let request = store::SetOwnSettingsRequest { caller, conversation_id, settings };
            gateway.call::<store::SetOwnSettings>(&request).await?
        }
        _ => return Err(Failure::invalid("role", "either role or settings is required").into()),
    };
    Ok(HttpResponse::Ok().json(member))
}

/// Removes somebody, or leaves (one's own id).
#[utoipa::path(
    delete, path = "/api/v1/conversations/{id}/members/{user_id}", tag = "members", operation_id = "remove_member",
    security(("bearer" = [])),
    params(
        ("id" = ConversationId, Path, description = "The conversation"),
        ("user_id" = UserId, Path, description = "Who is to go")
    ),
    responses((status = 204, description = "No member any more"), Forbidden, NotFound, Conflict)
)]
pub(crate) async fn remove(caller: Caller, request: HttpRequest, gateway: Data<Gateway>) -> Answer {
    let removal = store::RemoveMemberRequest {
        caller: caller.0.sub,
        conversation_id: path_id(&request, "id")?,
        user_id: path_id(&request, "user_id")?,
        frame: None,
    };
    gateway.call::<store::RemoveMember>(&removal).await?;
    Ok(HttpResponse::NoContent().finish())
}
