//! What gateways read: memberships, versions, heads, and what changed.

use std::time::Duration;

use entrenous_bus::Deadline;
use entrenous_protocol::{
    Failure,
    rpc::store::{
        ChangedSinceRequest, ChangedSinceResponse, HEADS_MAX, Head, HeadsRequest, MEMBERSHIPS_MAX,
        MembershipVersionsRequest, Memberships, ReadMembershipsRequest, VERSIONS_MAX,
    },
};

use super::Context;
use crate::{
    error::RequestError,
    store::{feed, memberships},
};

pub(super) async fn memberships(
    context: Context,
    request: ReadMembershipsRequest,
    deadline: Deadline,
) -> Result<Vec<Memberships>, RequestError> {
    read_memberships(context, request, true, deadline).await
}

pub(super) async fn refresh_memberships(
    context: Context,
    request: ReadMembershipsRequest,
    deadline: Deadline,
) -> Result<Vec<Memberships>, RequestError> {
    read_memberships(context, request, false, deadline).await
}

async fn read_memberships(
    context: Context,
    request: ReadMembershipsRequest,
    with_starts: bool,
    deadline: Deadline,
) -> Result<Vec<Memberships>, RequestError> {
    if request.devices.len() > MEMBERSHIPS_MAX {
        return Err(Failure::invalid("devices", format!("must be at most {MEMBERSHIPS_MAX}")).into());
    }
    let mut connection = context.connection(deadline).await?;
    let read = memberships::read(&mut connection, &request.devices, with_starts);
    Ok(context.measured("memberships", read).await?)
}

pub(super) async fn versions(
    context: Context,
    request: MembershipVersionsRequest,
    deadline: Deadline,
) -> Result<Vec<u64>, RequestError> {
    if request.user_ids.len() > VERSIONS_MAX {
        return Err(Failure::invalid("user_ids", format!("must be at most {VERSIONS_MAX}")).into());
    }
    let mut connection = context.connection(deadline).await?;
    Ok(context.measured("versions", memberships::versions(&mut connection, &request.user_ids)).await?)
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
