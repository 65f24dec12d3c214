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
    store::{devices, feed, memberships},
};

/// Memberships in one answer, beyond those of its first user: about 2 MiB. A user alone fits up to some 40,000.
const MEMBERSHIPS_IN_ANSWER_MAX: usize = 10_000;
/// A feed row has the time at which its append had its locks; it is seen when that has committed. An append is ended by
/// PostgreSQL after `DATABASE_STATEMENT_TIMEOUT_MS`, 10 s by default.
const LATE_SECONDS_MAX: i64 = 20;
/// Pairs of batch and conversation in one answer to `changed_since`; an answer of as many is about 2 MiB.
const CHANGED_MAX: i64 = 25_000;

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
    let mut size = 0;
    for device in &request.devices {
        let memberships = context.measured("memberships", memberships::read(&mut connection, device)).await?;
        size += memberships.conversations.len() + memberships.left.len();
        if size > MEMBERSHIPS_IN_ANSWER_MAX && !read.is_empty() {
            break;
        }
        read.push(memberships);
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
    let age_seconds = i64::try_from(request.age_ms / 1_000).unwrap_or(i64::MAX).saturating_add(LATE_SECONDS_MAX);
    if age_seconds > i64::from(feed::KEPT_SECONDS) {
        return Ok(ChangedSinceResponse::Unknown);
    }
    let mut connection = context.connection(deadline).await?;
    let changed = feed::changed_since(&mut connection, age_seconds, CHANGED_MAX);
    let changed = context.measured("changed_since", changed).await?;
    Ok(changed.map_or(ChangedSinceResponse::Unknown, ChangedSinceResponse::Heads))
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
