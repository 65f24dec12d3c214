//! One's own devices, and which devices others have.

use std::collections::HashMap;

use entrenous_db::DbError;
use entrenous_protocol::{
    rest::Device,
    rpc::{
        Done,
        identity::{DeleteDeviceRequest, DevicesOfUser, ListDevicesRequest, USERS_MAX, UsersRequest},
    },
};

use crate::{
    domain::fields,
    error::RequestError,
    state::AppState,
    store::devices::{self, Removed},
};

pub(super) async fn list_devices(state: AppState, request: ListDevicesRequest) -> Result<Vec<Device>, RequestError> {
    let mut connection = state.connection().await?;
    Ok(devices::list(&mut connection, request.user_id).await.map_err(DbError::from)?)
}

pub(super) async fn user_devices(state: AppState, request: UsersRequest) -> Result<Vec<DevicesOfUser>, RequestError> {
    if request.ids.len() > USERS_MAX {
        return Err(RequestError::Invalid(fields::invalid("ids", format!("must be at most {USERS_MAX}"))));
    }
    let mut connection = state.connection().await?;
    let rows = devices::list_of(&mut connection, &request.ids).await.map_err(DbError::from)?;
    let mut of_users: HashMap<_, Vec<_>> = HashMap::new();
    for (user_id, device_id) in rows {
        of_users.entry(user_id).or_default().push(device_id);
    }
    Ok(of_users.into_iter().map(|(user_id, device_ids)| DevicesOfUser { user_id, device_ids }).collect())
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
