//! Methods `memberships` and `heads`.

use entrenous_bus::Deadline;
use entrenous_protocol::{
    Failure,
    rpc::store::{HEADS_MAX, Head, HeadsRequest, Memberships, MembershipsRequest},
};

use super::Context;
use crate::{error::RequestError, store::memberships};

pub(super) async fn memberships(
    context: Context,
    request: MembershipsRequest,
    deadline: Deadline,
) -> Result<Memberships, RequestError> {
    let mut connection = context.connection(deadline).await?;
    Ok(context.measured("memberships", memberships::read(&mut connection, &request)).await?)
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
