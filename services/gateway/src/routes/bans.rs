//! `/api/v1/conversations/{id}/bans`: who may not come back.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, ServiceConfig},
};
use entrenous_model::{ConversationId, UserId};
use entrenous_protocol::{
    rest::{Ban, Page},
    rpc::store,
};

use super::Answer;
use crate::{
    http::{
        extract::{Caller, Query, path_id},
        problem::Problem,
        resource::at,
    },
    openapi::{Forbidden, NotFound},
    state::Gateway,
};

pub(super) fn configure(config: &mut ServiceConfig) {
    at("/api/v1/conversations/{id}/bans").get(list).register(config);
    at("/api/v1/conversations/{id}/bans/{user_id}").put(add).delete(remove).register(config);
}

/// Who is kept out, by id: for moderators and owners.
#[utoipa::path(
    get, path = "/api/v1/conversations/{id}/bans", tag = "members", operation_id = "list_bans",
    security(("bearer" = [])),
    params(
        ("id" = ConversationId, Path, description = "The conversation"),
        ("cursor" = Option<UserId>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 1,000, 1,000 by default", minimum = 1, maximum = 1_000)
    ),
    responses((status = 200, description = "A page", body = Page<Ban>), Forbidden, NotFound)
)]
pub(crate) async fn list(caller: Caller, request: HttpRequest, gateway: Data<Gateway>, query: Query) -> Answer {
    let request = store::ListMembersRequest {
        caller: caller.0.sub,
        conversation_id: path_id(&request, "id")?,
        after: query.id("cursor")?,
        limit: query.limit(store::BANS_PAGE_MAX, store::BANS_PAGE_MAX)?,
    };
    Ok(HttpResponse::Ok().json(gateway.call::<store::ListBans>(&request).await?))
}

/// Removes somebody, if they are there, and keeps them out. Doing it twice changes nothing.
#[utoipa::path(
    put, path = "/api/v1/conversations/{id}/bans/{user_id}", tag = "members", operation_id = "ban_member",
    security(("bearer" = [])),
    params(
        ("id" = ConversationId, Path, description = "The conversation"),
        ("user_id" = UserId, Path, description = "Who is to stay out")
    ),
    responses((status = 204, description = "It is so"), Forbidden, NotFound)
)]
pub(crate) async fn add(caller: Caller, request: HttpRequest, gateway: Data<Gateway>) -> Answer {
    gateway.call::<store::BanMember>(&member(&caller, &request)?).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Lets somebody come back. Doing it twice changes nothing.
#[utoipa::path(
    delete, path = "/api/v1/conversations/{id}/bans/{user_id}", tag = "members", operation_id = "unban_member",
    security(("bearer" = [])),
    params(
        ("id" = ConversationId, Path, description = "The conversation"),
        ("user_id" = UserId, Path, description = "Who may come back")
    ),
    responses((status = 204, description = "It is not so any more"), Forbidden, NotFound)
)]
pub(crate) async fn remove(caller: Caller, request: HttpRequest, gateway: Data<Gateway>) -> Answer {
    gateway.call::<store::UnbanMember>(&member(&caller, &request)?).await?;
    Ok(HttpResponse::NoContent().finish())
}

fn member(caller: &Caller, request: &HttpRequest) -> Result<store::MemberRequest, Problem> {
    Ok(store::MemberRequest {
        caller: caller.0.sub,
        conversation_id: path_id(request, "id")?,
        user_id: path_id(request, "user_id")?,
    })
}
