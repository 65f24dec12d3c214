//! `/api/v1/devices`: one's own devices.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, ServiceConfig},
};
use entrenous_model::DeviceId;
use entrenous_protocol::{
    rest::{Device, Page},
    rpc::{identity, tracker},
};

use super::{Answer, end_login};
use crate::{
    http::{
        extract::{Caller, path_id},
        resource::at,
    },
    openapi::NotFound,
    state::Gateway,
};

pub(super) fn configure(config: &mut ServiceConfig) {
    at("/api/v1/devices").get(list).register(config);
    at("/api/v1/devices/{id}").delete(delete).register(config);
}

/// One's own devices, oldest first.
#[utoipa::path(
    get, path = "/api/v1/devices", tag = "devices", operation_id = "list_devices",
    security(("bearer" = [])),
    responses((status = 200, description = "The devices", body = Page<Device>))
)]
pub(crate) async fn list(caller: Caller, gateway: Data<Gateway>) -> Answer {
    let request = identity::ListDevicesRequest { user_id: caller.0.sub };
    Ok(HttpResponse::Ok().json(Page::whole(gateway.call::<identity::ListDevices>(&request).await?)))
}

/// Removes a device with what waits for it, and ends its logins and connections.
#[utoipa::path(
    delete, path = "/api/v1/devices/{id}", tag = "devices", operation_id = "delete_device",
    security(("bearer" = [])),
    params(("id" = DeviceId, Path, description = "The device")),
    responses((status = 204, description = "The device is gone"), NotFound)
)]
pub(crate) async fn delete(caller: Caller, request: HttpRequest, gateway: Data<Gateway>) -> Answer {
    let device_id = path_id(&request, "id")?;
    let removal = identity::DeleteDeviceRequest { user_id: caller.0.sub, device_id };
    gateway.call::<identity::DeleteDevice>(&removal).await?;
    if device_id == caller.0.device_id {
        end_login(&gateway, caller.0.sid).await;
    }
    // Where this fails, the removal is asked for again. What nobody removes expires.
    gateway.call::<tracker::RemoveDeviceQueue>(&tracker::RemoveDeviceQueueRequest { device_id }).await?;
    Ok(HttpResponse::NoContent().finish())
}
