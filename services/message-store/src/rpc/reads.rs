//! Methods `memberships` and `heads`.

use entrenous_bus::Deadline;
use entrenous_protocol::{
    Failure,
    rpc::store::{
        CHECKS_MAX, ChangedSinceRequest, ChangedSinceResponse, CheckConnectionsRequest, ConnectionCheck, HEADS_MAX,
        Head, HeadsRequest, MEMBERSHIPS_MAX, Memberships, ReadMembershipsRequest,
    },
};

use super::Context;
use crate::{
    error::RequestError,
    store::{devices, memberships},
};

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

pub(super) async fn changed_since(
    context: Context,
    request: ChangedSinceRequest,
    deadline: Deadline,
) -> Result<ChangedSinceResponse, RequestError> {
    let mut connection = context.connection(deadline).await?;
    Ok(ChangedSinceResponse::Heads(memberships::changed_since(&mut connection, request.age_ms).await?))
}

pub(super) async fn check_connections(
    context: Context,
    request: CheckConnectionsRequest,
    deadline: Deadline,
) -> Result<Vec<ConnectionCheck>, RequestError> {
    if request.connections.len() > CHECKS_MAX {
        return Err(Failure::invalid("connections", format!("must be at most {CHECKS_MAX}")).into());
    }
    let mut connection = context.connection(deadline).await?;
    let checks = devices::check(&mut connection, &request.connections);
    Ok(context.measured("check_connections", checks).await?)
}
