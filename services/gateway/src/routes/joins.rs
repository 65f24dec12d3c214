//! `/api/v1/conversations/{id}/join` and `/api/v1/channels`: what people enter by themselves, and find.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, ServiceConfig},
};
use entrenous_model::ConversationId;
use entrenous_protocol::{
    rest::{Conversation, Page, PublicChannel},
    rpc::store,
};

use super::{Answer, unread};
use crate::{
    http::{
        extract::{Caller, Query, path_id},
        resource::at,
    },
    openapi::{Forbidden, NotFound, TooLarge},
    state::Gateway,
};

/// Channels in a page where the client does not say.
const PAGE_DEFAULT: u32 = 50;

pub(super) fn configure(config: &mut ServiceConfig) {
    at("/api/v1/conversations/{id}/join").post(join).register(config);
    at("/api/v1/channels").get(list).register(config);
}

/// Joins a public group or channel. Who is a member already stays one.
#[utoipa::path(
    post, path = "/api/v1/conversations/{id}/join", tag = "members", operation_id = "join_conversation",
    security(("bearer" = [])),
    params(("id" = ConversationId, Path, description = "The conversation")),
    responses((status = 200, description = "The conversation", body = Conversation), Forbidden, NotFound, TooLarge)
)]
pub(crate) async fn join(caller: Caller, request: HttpRequest, gateway: Data<Gateway>) -> Answer {
    let conversation_id = path_id(&request, "id")?;
    answer(&gateway, &caller, store::JoinBy::Conversation(conversation_id)).await
}

/// Joins, and shows what was joined.
pub(super) async fn answer(gateway: &Gateway, caller: &Caller, by: store::JoinBy) -> Answer {
    let caller = caller.0.sub;
    let joined = gateway.call::<store::Join>(&store::JoinRequest { caller, by, frame: None }).await?;
    let request = store::ConversationRequest { caller, conversation_id: joined.conversation_id };
    let conversation = gateway.call::<store::GetConversation>(&request).await?;
    Ok(HttpResponse::Ok().json(unread::compose_one(gateway, caller, conversation).await?))
}

/// Public channels, the largest first; those with these words in title or description, or all.
#[utoipa::path(
    get, path = "/api/v1/channels", tag = "conversations", operation_id = "list_channels",
    security(("bearer" = [])),
    params(
        ("query" = Option<String>, Query, description = "Words; the last one may be the beginning of one"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 100, 50 by default", minimum = 1, maximum = 100)
    ),
    responses((status = 200, description = "A page", body = Page<PublicChannel>))
)]
pub(crate) async fn list(caller: Caller, gateway: Data<Gateway>, query: Query) -> Answer {
    let request = store::ListChannelsRequest {
        caller: caller.0.sub,
        query: query.text("query")?.map(str::to_owned),
        cursor: query.text("cursor")?.map(str::to_owned),
        limit: query.limit(PAGE_DEFAULT, store::CHANNELS_PAGE_MAX)?,
    };
    Ok(HttpResponse::Ok().json(gateway.call::<store::ListChannels>(&request).await?))
}
