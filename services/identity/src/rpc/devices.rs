//! One's own devices.

use entrenous_db::DbError;
use entrenous_protocol::{
    rest::Device,
    rpc::{
        Done,
        identity::{DeleteDeviceRequest, ListDevicesRequest},
    },
};

use crate::{
    error::RequestError,
    state::AppState,
    store::devices::{self, Removed},
};

pub(super) async fn list_devices(state: AppState, request: ListDevicesRequest) -> Result<Vec<Device>, RequestError> {
    let mut connection = state.connection().await?;
    Ok(devices::list(&mut connection, request.user_id).await.map_err(DbError::from)?)
}

pub(super) async fn delete_device(state: AppState, request: DeleteDeviceRequest) -> Result<Done, RequestError> {
    let mut connection = state.connection().await?;
    let removed = devices::remove(&mut connection, request.user_id, request.device_id, state.now()).await;
    drop(connection);
    match removed.map_err(DbError::from)? {
        Removed::Gone(ended) => {
            state.announce_ended(request.user_id, ended).await;
            Ok(Done {})
        }
        Removed::Unknown => Err(RequestError::NotFound),
    }
}
