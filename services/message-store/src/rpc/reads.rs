//! What gateways read: memberships, versions, heads, and what changed.

use std::time::Duration;

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
    store::{devices, feed, memberships},
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
    Ok(context.measured("memberships", memberships::read(&mut connection, &request.devices)).await?)
}

/// Looks back by what may have become visible late besides: a row gets its time before its transaction commits, so that at
/// the moment when the caller was sure, rows of earlier times may still have been on their way, `late_max` at most; and the
/// caller took its `age_ms` when it asked, not when it is answered.
pub(super) async fn changed_since(
    context: Context,
    request: ChangedSinceRequest,
    deadline: Deadline,
) -> Result<ChangedSinceResponse, RequestError> {
    let margin = context.late_max + super::REQUEST_MAX;
    let age = Duration::from_millis(request.age_ms).saturating_add(margin);
    let mut connection = context.connection(deadline).await?;
    let heads = context.measured("changed_since", feed::changed_since(&mut connection, age)).await?;
    Ok(heads.map_or(ChangedSinceResponse::Unknown, ChangedSinceResponse::Heads))
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
