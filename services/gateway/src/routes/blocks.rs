//! `/api/v1/users/{id}/block` and `/api/v1/users/blocked`: with whom one wants nothing to do.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, ServiceConfig},
};
use entrenous_model::UserId;
use entrenous_protocol::{
    rest::{Page, Profile},
    rpc::identity,
};

use super::{Answer, follows};
use crate::{
    http::{
        extract::{Caller, Query, path_id},
        resource::at,
    },
    openapi::{NotFound, TooLarge},
    state::Gateway,
};

/// Before what has the same paths with an id: the first one counts.
pub(super) fn configure(config: &mut ServiceConfig) {
    at("/api/v1/users/blocked").get(list).register(config);
    at("/api/v1/users/{id}/block").put(add).delete(remove).register(config);
}

/// Blocks somebody. Doing it twice changes nothing; answered when it holds everywhere.
#[utoipa::path(
    put, path = "/api/v1/users/{id}/block", tag = "users", operation_id = "block_user",
    security(("bearer" = [])),
    params(("id" = UserId, Path, description = "The user")),
    responses((status = 204, description = "It is so"), NotFound, TooLarge)
)]
pub(crate) async fn add(caller: Caller, request: HttpRequest, gateway: Data<Gateway>) -> Answer {
    let person = identity::PersonRequest { user_id: caller.0.sub, person: path_id(&request, "id")? };
    gateway.call::<identity::Block>(&person).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Blocks somebody no longer.
#[utoipa::path(
    delete, path = "/api/v1/users/{id}/block", tag = "users", operation_id = "unblock_user",
    security(("bearer" = [])),
    params(("id" = UserId, Path, description = "The user")),
    responses((status = 204, description = "It is not so any more"))
)]
pub(crate) async fn remove(caller: Caller, request: HttpRequest, gateway: Data<Gateway>) -> Answer {
    let person = identity::PersonRequest { user_id: caller.0.sub, person: path_id(&request, "id")? };
    gateway.call::<identity::Unblock>(&person).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Whom one has blocked, in the order in which they were added.
#[utoipa::path(
    get, path = "/api/v1/users/blocked", tag = "users", operation_id = "list_blocked",
    security(("bearer" = [])),
    params(
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 100, 50 by default", minimum = 1, maximum = 100)
    ),
    responses((status = 200, description = "A page", body = Page<Profile>))
)]
pub(crate) async fn list(caller: Caller, gateway: Data<Gateway>, query: Query) -> Answer {
    let page = follows::page(&caller, &query)?;
    Ok(HttpResponse::Ok().json(gateway.call::<identity::ListBlocked>(&page).await?))
}
