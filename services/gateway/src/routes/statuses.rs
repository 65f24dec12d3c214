//! `/api/v1/users/{id}/status`: presence.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, ServiceConfig},
};
use entrenous_model::UserId;
use entrenous_protocol::{
    Failure,
    rpc::{
        presence::{GetOwnStatus, OwnStatusRequest, SetStatus, SetStatusRequest, Statuses, StatusesRequest},
        store::{ReadVisible, ReadVisibleRequest},
    },
    status::{OwnStatus, StatusChoice, UserStatus},
};

use super::Answer;
use crate::{
    http::{
        extract::{Caller, JsonBody, path_id},
        resource::at,
    },
    state::Gateway,
};

pub(super) fn configure(config: &mut ServiceConfig) {
    at("/api/v1/users/me/status").get(own).put(set).register(config);
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
