//! `/api/v1/users/{id}/follow` and `/api/v1/users/following`: whose status one wants to see.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, ServiceConfig},
};
use entrenous_model::UserId;
use entrenous_protocol::{
    Failure,
    rest::{Page, Profile},
    rpc::identity,
};

use super::Answer;
use crate::{
    http::{
        extract::{Caller, Query, path_id},
        resource::at,
    },
    openapi::{NotFound, TooLarge},
    state::Gateway,
};

/// People in a page where the client does not say.
const PAGE_DEFAULT: u32 = 50;

/// Before what has the same paths with an id: the first one counts.
pub(super) fn configure(config: &mut ServiceConfig) {
    at("/api/v1/users/following").get(list).register(config);
    at("/api/v1/users/{id}/follow").put(add).delete(remove).register(config);
}

/// Follows somebody. Doing it twice changes nothing.
#[utoipa::path(
    put, path = "/api/v1/users/{id}/follow", tag = "users", operation_id = "follow_user",
    security(("bearer" = [])),
    params(("id" = UserId, Path, description = "The user")),
    responses((status = 204, description = "It is so"), NotFound, TooLarge)
)]
pub(crate) async fn add(caller: Caller, request: HttpRequest, gateway: Data<Gateway>) -> Answer {
    let person = identity::PersonRequest { user_id: caller.0.sub, person: path_id(&request, "id")? };
    gateway.call::<identity::Follow>(&person).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Follows somebody no longer.
#[utoipa::path(
    delete, path = "/api/v1/users/{id}/follow", tag = "users", operation_id = "unfollow_user",
    security(("bearer" = [])),
    params(("id" = UserId, Path, description = "The user")),
    responses((status = 204, description = "It is not so any more"))
)]
pub(crate) async fn remove(caller: Caller, request: HttpRequest, gateway: Data<Gateway>) -> Answer {
    let person = identity::PersonRequest { user_id: caller.0.sub, person: path_id(&request, "id")? };
    gateway.call::<identity::Unfollow>(&person).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Whom one follows, in the order in which they were added.
#[utoipa::path(
    get, path = "/api/v1/users/following", tag = "users", operation_id = "list_following",
    security(("bearer" = [])),
    params(
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 100, 50 by default", minimum = 1, maximum = 100)
    ),
    responses((status = 200, description = "A page", body = Page<Profile>))
)]
pub(crate) async fn list(caller: Caller, gateway: Data<Gateway>, query: Query) -> Answer {
    Ok(HttpResponse::Ok().json(gateway.call::<identity::ListFollowing>(&page(&caller, &query)?).await?))
}

/// Which page of one's people is asked for.
pub(super) fn page(caller: &Caller, query: &Query) -> Result<identity::ListPeopleRequest, Failure> {
    Ok(identity::ListPeopleRequest {
        user_id: caller.0.sub,
        cursor: query.text("cursor")?.map(str::to_owned),
        limit: query.limit(PAGE_DEFAULT, identity::PEOPLE_PAGE_MAX)?,
    })
}
