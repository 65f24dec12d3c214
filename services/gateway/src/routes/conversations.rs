//! `/api/v1/conversations`: conversations as their members see them.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, ServiceConfig},
};
use entrenous_model::ConversationId;
use entrenous_protocol::{
    rest::{Conversation, ConversationPatch, CreateConversation, Page},
    rpc::store,
};

use super::{Answer, unread};
use crate::{
    http::{
        extract::{Caller, JsonBody, Query, path_id},
        resource::at,
    },
    openapi::{Conflict, Forbidden, NotFound, TooLarge},
    state::Gateway,
};

/// Conversations in a page where the client does not say.
const PAGE_DEFAULT: u32 = 50;
/// Conversations in a page, at most.
const PAGE_MAX: u32 = 100;

pub(super) fn configure(config: &mut ServiceConfig) {
    at("/api/v1/conversations").get(list).post(create).register(config);
    at("/api/v1/conversations/{id}").get(get).patch(update).delete(delete).register(config);
}

/// Makes a conversation, or finds the direct one that exists.
#[utoipa::path(
    post, path = "/api/v1/conversations", tag = "conversations", operation_id = "create_conversation",
    security(("bearer" = [])), request_body = CreateConversation,
    responses(
        (status = 201, description = "The conversation", body = Conversation),
        (status = 200, description = "The direct conversation, which existed", body = Conversation),
        Forbidden, NotFound, TooLarge
    )
)]
pub(crate) async fn create(caller: Caller, gateway: Data<Gateway>, body: JsonBody<CreateConversation>) -> Answer {
    let request = store::CreateRequest { caller: caller.0.sub, conversation: body.0 };
    let mut created = gateway.call::<store::Create>(&request).await?;
    // In a new one there is nothing to read, and it is there now, whatever else is away.
    if !created.is_new {
        created.conversation = unread::compose_one(&gateway, caller.0.sub, created.conversation).await?;
    }
    let mut response = if created.is_new { HttpResponse::Created() } else { HttpResponse::Ok() };
    Ok(response.json(created.conversation))
}

/// One's own conversations, latest activity first.
#[utoipa::path(
    get, path = "/api/v1/conversations", tag = "conversations", operation_id = "list_conversations",
    security(("bearer" = [])),
    params(
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 100, 50 by default", minimum = 1, maximum = 100)
    ),
    responses((status = 200, description = "A page", body = Page<Conversation>))
)]
pub(crate) async fn list(caller: Caller, gateway: Data<Gateway>, query: Query) -> Answer {
    let request = store::ListConversationsRequest {
        caller: caller.0.sub,
        cursor: query.text("cursor")?.map(str::to_owned),
        limit: query.limit(PAGE_DEFAULT, PAGE_MAX)?,
    };
    let mut page = gateway.call::<store::ListConversations>(&request).await?;
    page.items = unread::compose(&gateway, caller.0.sub, page.items).await?;
    Ok(HttpResponse::Ok().json(page))
}

/// One conversation.
#[utoipa::path(
    get, path = "/api/v1/conversations/{id}", tag = "conversations", operation_id = "get_conversation",
    security(("bearer" = [])),
    params(("id" = ConversationId, Path, description = "The conversation")),
    responses((status = 200, description = "The conversation", body = Conversation), NotFound)
)]
pub(crate) async fn get(caller: Caller, request: HttpRequest, gateway: Data<Gateway>) -> Answer {
    let request = store::ConversationRequest { caller: caller.0.sub, conversation_id: path_id(&request, "id")? };
    let conversation = gateway.call::<store::GetConversation>(&request).await?;
    let conversation = unread::compose_one(&gateway, caller.0.sub, conversation).await?;
    Ok(HttpResponse::Ok().json(conversation))
}

/// Changes settings: moderators and owners; `is_public` and `max_members` owners alone; of a direct conversation either of
/// the two `retention_seconds` alone.
#[utoipa::path(
    patch, path = "/api/v1/conversations/{id}", tag = "conversations", operation_id = "update_conversation",
    security(("bearer" = [])), request_body = ConversationPatch,
    params(("id" = ConversationId, Path, description = "The conversation")),
    responses(
        (status = 200, description = "The conversation", body = Conversation),
        Forbidden, NotFound, Conflict, TooLarge
    )
)]
pub(crate) async fn update(
    caller: Caller,
    request: HttpRequest,
    gateway: Data<Gateway>,
    body: JsonBody<ConversationPatch>,
) -> Answer {
    let (caller, conversation_id) = (caller.0.sub, path_id(&request, "id")?);
    let request = store::UpdateConversationRequest { caller, conversation_id, patch: body.0 };
    let conversation = gateway.call::<store::UpdateConversation>(&request).await?;
    Ok(HttpResponse::Ok().json(unread::compose_one(&gateway, caller, conversation).await?))
}

/// Deletes a group or channel, for everyone: its owner alone. Doing it twice changes nothing.
#[utoipa::path(
    delete, path = "/api/v1/conversations/{id}", tag = "conversations", operation_id = "delete_conversation",
    security(("bearer" = [])),
    params(("id" = ConversationId, Path, description = "The conversation")),
    responses((status = 204, description = "It is no more"), Forbidden, NotFound)
)]
pub(crate) async fn delete(caller: Caller, request: HttpRequest, gateway: Data<Gateway>) -> Answer {
    let request = store::ConversationRequest { caller: caller.0.sub, conversation_id: path_id(&request, "id")? };
    gateway.call::<store::DeleteConversation>(&request).await?;
    Ok(HttpResponse::NoContent().finish())
}
