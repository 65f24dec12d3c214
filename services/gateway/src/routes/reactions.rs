//! `/api/v1/conversations/{id}/messages/{message_id}/reactions`.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, ServiceConfig},
};
use entrenous_model::{ConversationId, EntryId, UserId};
use entrenous_protocol::{
    Act,
    act::Reaction,
    rest::{MessageReaction, Page},
    rpc::store,
};

use super::{Answer, messages::act_on};
use crate::{
    http::{
        extract::{Caller, Query, path_id, path_text},
        resource::at,
    },
    openapi::{Conflict, Forbidden, NotFound, TooLarge},
    state::Gateway,
};

pub(super) fn configure(config: &mut ServiceConfig) {
    at("/api/v1/conversations/{id}/messages/{message_id}/reactions").get(list).register(config);
    at("/api/v1/conversations/{id}/messages/{message_id}/reactions/{reaction}")
        .put(add)
        .delete(remove)
        .register(config);
}

/// Who reacted, by user. Of a channel only its moderators and owners see them.
#[utoipa::path(
    get, path = "/api/v1/conversations/{id}/messages/{message_id}/reactions", tag = "messages",
    operation_id = "list_reactions", security(("bearer" = [])),
    params(
        ("id" = ConversationId, Path, description = "The conversation"),
        ("message_id" = EntryId, Path, description = "The message"),
        ("cursor" = Option<UserId>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 1,000, 1,000 by default", minimum = 1, maximum = 1_000)
    ),
    responses((status = 200, description = "A page", body = Page<MessageReaction>), Forbidden, NotFound)
)]
pub(crate) async fn list(caller: Caller, request: HttpRequest, gateway: Data<Gateway>, query: Query) -> Answer {
    let request = store::ListReactionsRequest {
        caller: caller.0.sub,
        conversation_id: path_id(&request, "id")?,
        message_id: path_id(&request, "message_id")?,
        after: query.id("cursor")?,
        limit: query.limit(store::MEMBERS_PAGE_MAX, store::MEMBERS_PAGE_MAX)?,
    };
    Ok(HttpResponse::Ok().json(gateway.call::<store::ListReactions>(&request).await?))
}

/// Reacts. A reaction is text of up to 64 bytes, usually an emoji.
#[utoipa::path(
    put, path = "/api/v1/conversations/{id}/messages/{message_id}/reactions/{reaction}", tag = "messages",
    operation_id = "add_reaction", security(("bearer" = [])),
    params(
        ("id" = ConversationId, Path, description = "The conversation"),
        ("message_id" = EntryId, Path, description = "The message"),
        ("reaction" = String, Path, description = "The reaction")
    ),
    responses((status = 204, description = "It is there"), Forbidden, NotFound, Conflict, TooLarge)
)]
pub(crate) async fn add(caller: Caller, request: HttpRequest, gateway: Data<Gateway>) -> Answer {
    let reaction = reaction(&request)?;
    act_on(&gateway, &caller, &request, None, Act::React(reaction)).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Takes a reaction back.
#[utoipa::path(
    delete, path = "/api/v1/conversations/{id}/messages/{message_id}/reactions/{reaction}", tag = "messages",
    operation_id = "remove_reaction", security(("bearer" = [])),
    params(
        ("id" = ConversationId, Path, description = "The conversation"),
        ("message_id" = EntryId, Path, description = "The message"),
        ("reaction" = String, Path, description = "The reaction")
    ),
    responses((status = 204, description = "It is not there"), Forbidden, NotFound, Conflict)
)]
pub(crate) async fn remove(caller: Caller, request: HttpRequest, gateway: Data<Gateway>) -> Answer {
    let reaction = reaction(&request)?;
    act_on(&gateway, &caller, &request, None, Act::Unreact(reaction)).await?;
    Ok(HttpResponse::NoContent().finish())
}

fn reaction(request: &HttpRequest) -> Result<Reaction, entrenous_protocol::Failure> {
    Reaction::check(path_id(request, "message_id")?, path_text(request, "reaction")?)
}
