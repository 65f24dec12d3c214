//! `/api/v1/users`: profiles.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, ServiceConfig},
};
use entrenous_model::UserId;
use entrenous_protocol::{
    Failure,
    rest::{Page, Profile, ProfilePatch, User},
    rpc::identity,
};

use super::Answer;
use crate::{
    http::{
        extract::{Caller, JsonBody, Query, path_id},
        resource::at,
    },
    openapi::NotFound,
    state::Gateway,
};

pub(super) fn configure(config: &mut ServiceConfig) {
    at("/api/v1/users").get(find).register(config);
    at("/api/v1/users/me").get(me).patch(update_me).register(config);
    at("/api/v1/users/{id}").get(profile).register(config);
}

/// One's own profile.
#[utoipa::path(
    get, path = "/api/v1/users/me", tag = "users", operation_id = "get_own_profile",
    security(("bearer" = [])),
    responses((status = 200, description = "The profile", body = User), NotFound)
)]
pub(crate) async fn me(caller: Caller, gateway: Data<Gateway>) -> Answer {
    Ok(HttpResponse::Ok().json(user(&gateway, caller.0.sub).await?))
}

/// Changes one's own profile. A field that is absent stays; `null` clears.
#[utoipa::path(
    patch, path = "/api/v1/users/me", tag = "users", operation_id = "update_own_profile",
    security(("bearer" = [])), request_body = ProfilePatch,
    responses((status = 200, description = "The profile", body = User), NotFound)
)]
pub(crate) async fn update_me(caller: Caller, gateway: Data<Gateway>, body: JsonBody<ProfilePatch>) -> Answer {
    let update = identity::UpdateProfileRequest { user_id: caller.0.sub, patch: body.0 };
    Ok(HttpResponse::Ok().json(gateway.call::<identity::UpdateProfile>(&update).await?))
}

/// A public profile.
#[utoipa::path(
    get, path = "/api/v1/users/{id}", tag = "users", operation_id = "get_profile",
    security(("bearer" = [])),
    params(("id" = UserId, Path, description = "The user")),
    responses((status = 200, description = "The profile", body = Profile), NotFound)
)]
pub(crate) async fn profile(_caller: Caller, request: HttpRequest, gateway: Data<Gateway>) -> Answer {
    let user = user(&gateway, path_id(&request, "id")?).await?;
    Ok(HttpResponse::Ok().json(Profile::from(user)))
}

/// The user of a name, compared without case: a list of none or one.
#[utoipa::path(
    get, path = "/api/v1/users", tag = "users", operation_id = "find_user",
    security(("bearer" = [])),
    params(("username" = String, Query, description = "The name")),
    responses((status = 200, description = "None or one", body = Page<Profile>))
)]
pub(crate) async fn find(_caller: Caller, gateway: Data<Gateway>, query: Query) -> Answer {
    let username = query.text("username")?.ok_or_else(|| Failure::invalid("username", "is required"))?.to_owned();
    let found = gateway.call::<identity::FindUser>(&identity::FindUserRequest { username }).await?;
    Ok(HttpResponse::Ok().json(Page::whole(found.map(Profile::from).into_iter().collect())))
}

async fn user(gateway: &Gateway, id: UserId) -> Result<User, Failure> {
    let users = gateway.call::<identity::Users>(&identity::UsersRequest { ids: vec![id] }).await?;
    users.into_iter().find(|user| user.id == id).ok_or_else(Failure::not_found)
}
