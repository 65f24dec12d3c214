//! `/api/v1/conversations/{id}/pins`.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, ServiceConfig},
};
use entrenous_model::{ConversationId, EntryId};
use entrenous_protocol::{
    Act,
    rest::{Message, Page},
    rpc::store,
};

use super::{Answer, messages::act_on};
use crate::{
    http::{
        extract::{Caller, path_id},
        resource::at,
    },
    openapi::{Conflict, Forbidden, NotFound, TooLarge},
    state::Gateway,
};

pub(super) fn configure(config: &mut ServiceConfig) {
    at("/api/v1/conversations/{id}/pins").get(list).register(config);
    at("/api/v1/conversations/{id}/pins/{message_id}").put(add).delete(remove).register(config);
}

/// The pinned messages, latest pin first, each with `pinned_by` and `pinned_at`.
#[utoipa::path(
    get, path = "/api/v1/conversations/{id}/pins", tag = "messages", operation_id = "list_pins",
    security(("bearer" = [])),
    params(("id" = ConversationId, Path, description = "The conversation")),
    responses((status = 200, description = "All of them", body = Page<Message>), NotFound)
)]
pub(crate) async fn list(caller: Caller, request: HttpRequest, gateway: Data<Gateway>) -> Answer {
    let request = store::ConversationRequest { caller: caller.0.sub, conversation_id: path_id(&request, "id")? };
    Ok(HttpResponse::Ok().json(Page::whole(gateway.call::<store::ListPins>(&request).await?)))
}

/// Pins a message.
#[utoipa::path(
    put, path = "/api/v1/conversations/{id}/pins/{message_id}", tag = "messages", operation_id = "pin_message",
    security(("bearer" = [])),
    params(
        ("id" = ConversationId, Path, description = "The conversation"),
        ("message_id" = EntryId, Path, description = "The message")
    ),
    responses((status = 204, description = "It is pinned"), Forbidden, NotFound, Conflict, TooLarge)
)]
pub(crate) async fn add(caller: Caller, request: HttpRequest, gateway: Data<Gateway>) -> Answer {
    let message_id = path_id(&request, "message_id")?;
    act_on(&gateway, &caller, &request, None, Act::Pin { message_id }).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Takes a pin away.
#[utoipa::path(
    delete, path = "/api/v1/conversations/{id}/pins/{message_id}", tag = "messages", operation_id = "unpin_message",
    security(("bearer" = [])),
    params(
        ("id" = ConversationId, Path, description = "The conversation"),
        ("message_id" = EntryId, Path, description = "The message")
    ),
    responses((status = 204, description = "It is not pinned"), Forbidden, NotFound, Conflict)
)]
pub(crate) async fn remove(caller: Caller, request: HttpRequest, gateway: Data<Gateway>) -> Answer {
    let message_id = path_id(&request, "message_id")?;
    act_on(&gateway, &caller, &request, None, Act::Unpin { message_id }).await?;
    Ok(HttpResponse::NoContent().finish())
}
