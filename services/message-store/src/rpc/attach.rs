//! Methods `attach` and `add_device`.

use entrenous_bus::Deadline;
use entrenous_protocol::{
    Failure,
    live::UserNotice,
    rpc::{
        Done,
        store::{ATTACH_MAX, AddDeviceRequest, AttachRequest, AttachResponse},
    },
};

use super::Context;
use crate::{error::RequestError, publish::Publication, store::devices};

pub(super) async fn handle(
    context: Context,
    request: AttachRequest,
    deadline: Deadline,
) -> Result<AttachResponse, RequestError> {
    if request.connections.len() > ATTACH_MAX {
        return Err(Failure::invalid("connections", format!("must be at most {ATTACH_MAX}")).into());
    }
    let worker = context.clone();
    context
        .write(deadline, async move {
            let mut connection = worker.connection(deadline).await?;
            let attached = devices::attach(&mut connection, &request, worker.now());
            let response = worker.measured("attach", attached).await?;
            worker.incarnation.set(response.incarnation);
            let mut publication = Publication::default();
            for (attaching, connection_no) in request.connections.iter().zip(&response.connection_nos) {
                let (device_id, connection_no) = (attaching.device_id, *connection_no);
                publication.notice(attaching.user_id, UserNotice::DeviceConnected { device_id, connection_no });
            }
            worker.publisher.publish(publication);
            Ok(response)
        })
        .await
}

pub(super) async fn add_device(
    context: Context,
    request: AddDeviceRequest,
    deadline: Deadline,
) -> Result<Done, RequestError> {
    let mut connection = context.connection(deadline).await?;
    context.measured("add_device", devices::add(&mut connection, request.user_id, request.device_id)).await?;
    Ok(Done {})
}
