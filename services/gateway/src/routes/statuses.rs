//! `/api/v1/users/{id}/status`: presence.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, ServiceConfig},
};
use entrenous_model::UserId;
use entrenous_protocol::{
    Failure,
    rest::Page,
    rpc::{
        identity::ListFollowing,
        presence::{GetOwnStatus, OwnStatusRequest, SetStatus, SetStatusRequest, Statuses, StatusesRequest},
        store::{ReadVisible, ReadVisibleRequest},
    },
    status::{OwnStatus, StatusChoice, UserStatus},
};

use super::{Answer, follows};
use crate::{
    http::{
        extract::{Caller, JsonBody, Query, path_id},
        resource::at,
    },
    state::Gateway,
};

pub(super) fn configure(config: &mut ServiceConfig) {
    at("/api/v1/users/me/status").get(own).put(set).register(config);
    at("/api/v1/users/following/status").get(following).register(config);
    at("/api/v1/users/{id}/status").get(get).register(config);
}

/// A user's status. Of whom the caller may not see, and of who does not exist: `offline` without a time.
#[utoipa::path(
    get, path = "/api/v1/users/{id}/status", tag = "presence", operation_id = "get_status",
    security(("bearer" = [])),
    params(("id" = UserId, Path, description = "The user")),
    responses((status = 200, description = "The status", body = UserStatus))
)]
pub(crate) async fn get(caller: Caller, request: HttpRequest, gateway: Data<Gateway>) -> Answer {
    let user_id = path_id(&request, "id")?;
    let statuses = visible(&gateway, caller.0.sub, vec![user_id]).await?;
    let status = statuses.into_iter().next().unwrap_or_else(|| UserStatus::hidden(user_id));
    Ok(HttpResponse::Ok().json(status))
}

/// One's own status: as others see it, and what was chosen.
#[utoipa::path(
    get, path = "/api/v1/users/me/status", tag = "presence", operation_id = "get_own_status",
    security(("bearer" = [])),
    responses((status = 200, description = "The status", body = OwnStatus))
)]
pub(crate) async fn own(caller: Caller, gateway: Data<Gateway>) -> Answer {
    let request = OwnStatusRequest { user_id: caller.0.sub };
    Ok(HttpResponse::Ok().json(gateway.call::<GetOwnStatus>(&request).await?))
}

/// Chooses what to show while one is there. It stays until something else is chosen.
#[utoipa::path(
    put, path = "/api/v1/users/me/status", tag = "presence", operation_id = "set_status",
    security(("bearer" = [])), request_body = StatusChoice,
    responses((status = 200, description = "The status", body = OwnStatus))
)]
pub(crate) async fn set(caller: Caller, gateway: Data<Gateway>, body: JsonBody<StatusChoice>) -> Answer {
    let request = SetStatusRequest { user_id: caller.0.sub, choice: body.0.check()? };
    Ok(HttpResponse::Ok().json(gateway.call::<SetStatus>(&request).await?))
}

/// The status of those whom one follows, in the order in which they were added.
#[utoipa::path(
    get, path = "/api/v1/users/following/status", tag = "presence", operation_id = "list_following_status",
    security(("bearer" = [])),
    params(
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 100, 50 by default", minimum = 1, maximum = 100)
    ),
    responses((status = 200, description = "A page", body = Page<UserStatus>))
)]
pub(crate) async fn following(caller: Caller, gateway: Data<Gateway>, query: Query) -> Answer {
    let request = follows::page(&caller, &query)?;
    let Page { items, has_more, next } = gateway.call::<ListFollowing>(&request).await?;
    let user_ids = items.into_iter().map(|profile| profile.id).collect();
    let items = visible(&gateway, caller.0.sub, user_ids).await?;
    Ok(HttpResponse::Ok().json(Page { items, has_more, next }))
}

/// What the viewer may see of these users, in their order; at most as many as the store judges at once.
async fn visible(gateway: &Gateway, viewer: UserId, user_ids: Vec<UserId>) -> Result<Vec<UserStatus>, Failure> {
    let sight = ReadVisibleRequest { viewer, user_ids: user_ids.clone() };
    let request = StatusesRequest { user_ids };
    let (may_see, statuses) =
        tokio::try_join!(gateway.call::<ReadVisible>(&sight), gateway.call::<Statuses>(&request))?;
    let shown =
        |(status, may_see): (UserStatus, bool)| if may_see { status } else { UserStatus::hidden(status.user_id) };
    Ok(statuses.into_iter().zip(may_see).map(shown).collect())
}
