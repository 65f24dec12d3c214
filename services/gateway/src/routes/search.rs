//! `/api/v1/messages/search`: full text of conversations in clear.

use actix_web::{
    HttpResponse,
    web::{Data, ServiceConfig},
};
use entrenous_model::{ConversationId, Timestamp, UserId};
use entrenous_protocol::{
    Failure,
    limits::HISTORY_PAGE_MAX,
    rest::{Message, Page},
    rpc::store,
};

use super::{Answer, messages::PAGE_DEFAULT};
use crate::{
    http::{
        extract::{Caller, OfDate, Query},
        resource::at,
    },
    openapi::NotFound,
    state::Gateway,
};

pub(super) fn configure(config: &mut ServiceConfig) {
    at("/api/v1/messages/search").get(search).register(config);
}

/// Full text of the `none` conversations that the caller is a member of, newest first. What nobody may read any more is not
/// found. A page may hold fewer than `limit`, even none, and have more.
#[utoipa::path(
    get, path = "/api/v1/messages/search", tag = "messages", operation_id = "search_messages",
    security(("bearer" = [])),
    params(
        ("q" = String, Query, description = "Words that all must be there; \"words in this order\"; `or`; `-without`. At most 256 characters"),
        ("conversation_id" = Option<ConversationId>, Query, description = "Only in this conversation"),
        ("sender_id" = Option<UserId>, Query, description = "Only of this user"),
        ("from" = Option<Timestamp>, Query, description = "Only what was sent then or later; a time or a date (UTC)"),
        ("to" = Option<Timestamp>, Query, description = "Only what was sent then or before; a time or a date (UTC)"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 100, 50 by default", minimum = 1, maximum = 100)
    ),
    responses((status = 200, description = "A page, as in history", body = Page<Message>), NotFound)
)]
pub(crate) async fn search(caller: Caller, gateway: Data<Gateway>, query: Query) -> Answer {
    let request = store::SearchRequest {
        caller: caller.0.sub,
        query: query.text("q")?.ok_or_else(|| Failure::invalid("q", "is required"))?.to_owned(),
        conversation_id: query.id("conversation_id")?,
        sender_id: query.id("sender_id")?,
        from: query.moment("from", OfDate::Begin)?,
        to: query.moment("to", OfDate::End)?,
        cursor: query.text("cursor")?.map(str::to_owned),
        limit: query.limit(PAGE_DEFAULT, HISTORY_PAGE_MAX)?,
    };
    Ok(HttpResponse::Ok().json(gateway.call::<store::Search>(&request).await?))
}
