//! Methods `memberships` and `heads`.

use entrenous_bus::Deadline;
use entrenous_protocol::{
    Failure,
    rpc::store::{HEADS_MAX, Head, HeadsRequest, MEMBERSHIPS_MAX, Memberships, ReadMembershipsRequest},
};

use super::Context;
use crate::{error::RequestError, store::memberships};

pub(super) async fn memberships(
    context: Context,
    request: ReadMembershipsRequest,
    deadline: Deadline,
) -> Result<Vec<Memberships>, RequestError> {
    if request.devices.len() > MEMBERSHIPS_MAX {
        return Err(Failure::invalid("devices", format!("must be at most {MEMBERSHIPS_MAX}")).into());
    }
    let mut connection = context.connection(deadline).await?;
    let mut read = Vec::with_capacity(request.devices.len());
    for device in &request.devices {
        read.push(context.measured("memberships", memberships::read(&mut connection, device)).await?);
    }
    Ok(read)
}

pub(super) async fn heads(
    context: Context,
    request: HeadsRequest,
    deadline: Deadline,
) -> Result<Vec<Head>, RequestError> {
    if request.conversation_ids.len() > HEADS_MAX {
        return Err(Failure::invalid("conversation_ids", format!("must be at most {HEADS_MAX}")).into());
    }
    let mut connection = context.connection(deadline).await?;
    Ok(context.measured("heads", memberships::heads(&mut connection, &request.conversation_ids)).await?)
}
