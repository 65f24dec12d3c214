//! `/api/v1/scheduled`: what the caller has scheduled.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, ServiceConfig},
};
use entrenous_model::EntryId;
use entrenous_protocol::{
    Entry, Failure,
    rest::Page,
    rpc::store::{self, SCHEDULED_PAGE_MAX, ScheduleResponse},
    scheduled::{SchedulePatch, ScheduledMessage},
};

use super::Answer;
use crate::{
    http::{
        extract::{Caller, JsonBody, Query, path_id},
        resource::at,
    },
    openapi::{Forbidden, IdConflict, NotFound},
    state::{CALL_MAX, Gateway},
};

/// Messages in a page where the client does not say.
const PAGE_DEFAULT: u32 = 50;

pub(super) fn configure(config: &mut ServiceConfig) {
    at("/api/v1/scheduled").get(list).register(config);
    at("/api/v1/scheduled/{message_id}").patch(change).delete(cancel).register(config);
}

/// What the caller has scheduled, soonest first.
#[utoipa::path(
    get, path = "/api/v1/scheduled", tag = "messages", operation_id = "list_scheduled",
    security(("bearer" = [])),
    params(
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 100, 50 by default", minimum = 1, maximum = 100)
    ),
    responses((status = 200, description = "A page", body = Page<ScheduledMessage>))
)]
pub(crate) async fn list(caller: Caller, gateway: Data<Gateway>, query: Query) -> Answer {
    let request = store::ListScheduledRequest {
        caller: caller.0.sub,
        cursor: query.text("cursor")?.map(str::to_owned),
        limit: query.limit(PAGE_DEFAULT, SCHEDULED_PAGE_MAX)?,
    };
    Ok(HttpResponse::Ok().json(gateway.call::<store::ListScheduled>(&request).await?))
}

/// Changes a scheduled message. A `send_at` that has passed sends it at once.
#[utoipa::path(
    patch, path = "/api/v1/scheduled/{message_id}", tag = "messages", operation_id = "change_scheduled",
    security(("bearer" = [])), request_body = SchedulePatch,
    params(("message_id" = EntryId, Path, description = "The message")),
    responses(
        (status = 200, description = "The message as it waits", body = ScheduledMessage),
        (status = 201, description = "The message, sent", body = Entry),
        Forbidden, NotFound, IdConflict
    )
)]
pub(crate) async fn change(
    caller: Caller,
    request: HttpRequest,
    gateway: Data<Gateway>,
    body: JsonBody<SchedulePatch>,
) -> Answer {
    let message_id = path_id(&request, "message_id")?;
    let change = body.0.check(message_id, &gateway.limits)?;
    let request = store::ChangeScheduledRequest { caller: caller.0.sub, message_id, change };
    // Asked once: what the first one had sent, a second one would not find.
    match gateway.bus.call_once::<store::ChangeScheduled>(&request, CALL_MAX).await? {
        ScheduleResponse::Kept(message) => Ok(HttpResponse::Ok().json(message)),
        ScheduleResponse::Sent { message, .. } => Ok(HttpResponse::Created().json(message)),
        ScheduleResponse::Due => Err(Failure::internal().into()),
    }
}

/// Deletes a scheduled message: it is not sent.
#[utoipa::path(
    delete, path = "/api/v1/scheduled/{message_id}", tag = "messages", operation_id = "cancel_scheduled",
    security(("bearer" = [])),
    params(("message_id" = EntryId, Path, description = "The message")),
    responses((status = 204, description = "It is not sent"), NotFound)
)]
pub(crate) async fn cancel(caller: Caller, request: HttpRequest, gateway: Data<Gateway>) -> Answer {
    let request = store::CancelScheduledRequest { caller: caller.0.sub, message_id: path_id(&request, "message_id")? };
    gateway.bus.call_once::<store::CancelScheduled>(&request, CALL_MAX).await?;
    Ok(HttpResponse::NoContent().finish())
}
