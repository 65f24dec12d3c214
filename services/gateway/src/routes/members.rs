//! `/api/v1/conversations/{id}/members`.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, ServiceConfig},
};
use entrenous_model::{ConversationId, UserId};
use entrenous_protocol::{
    rest::{AddMember, Member, Page},
    rpc::store,
};

use super::Answer;
use crate::{
    http::{
        extract::{Caller, JsonBody, path_id},
        resource::at,
    },
    openapi::{Conflict, Forbidden, NotFound, TooLarge},
    state::Gateway,
};

pub(super) fn configure(config: &mut ServiceConfig) {
    at("/api/v1/conversations/{id}/members").get(list).post(add).register(config);
    at("/api/v1/conversations/{id}/members/{user_id}").delete(remove).register(config);
}

/// The members, by id.
#[utoipa::path(
    get, path = "/api/v1/conversations/{id}/members", tag = "members", operation_id = "list_members",
    security(("bearer" = [])),
    params(("id" = ConversationId, Path, description = "The conversation")),
    responses((status = 200, description = "The members", body = Page<Member>), NotFound)
)]
pub(crate) async fn list(caller: Caller, request: HttpRequest, gateway: Data<Gateway>) -> Answer {
    let request = store::ConversationRequest { caller: caller.0.sub, conversation_id: path_id(&request, "id")? };
    Ok(HttpResponse::Ok().json(Page::whole(gateway.call::<store::ListMembers>(&request).await?)))
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
    };
    gateway.call::<store::RemoveMember>(&removal).await?;
    Ok(HttpResponse::NoContent().finish())
}
