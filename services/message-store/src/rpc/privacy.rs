//! Methods `take_privacy`, `read_visible` and `read_blocked`.

use entrenous_bus::Deadline;
use entrenous_model::UserId;
use entrenous_protocol::{
    Failure,
    rpc::{
        Done,
        store::{Privacy, ReadBlockedRequest, ReadVisibleRequest, VISIBLE_MAX},
    },
};

use super::Context;
use crate::{error::RequestError, store::privacy};

pub(super) async fn take(context: Context, request: Privacy, deadline: Deadline) -> Result<Done, RequestError> {
    let worker = context.clone();
    let work = async move {
        let mut connection = worker.connection(deadline).await?;
        worker.measured("take_privacy", privacy::take(&mut connection, &request)).await?;
        Ok(Done {})
    };
    context.write(deadline, work).await
}

impl Context {
    /// Those of these users who have blocked one: nobody is invited by whom they have blocked.
    pub(super) async fn blockers(
        &self,
        blocked: UserId,
        user_ids: &[UserId],
        deadline: Deadline,
    ) -> Result<Vec<UserId>, RequestError> {
        if user_ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut connection = self.connection(deadline).await?;
        Ok(self.measured("read_blockers", privacy::blockers(&mut connection, blocked, user_ids)).await?)
    }
}

pub(super) async fn visible(
    context: Context,
    request: ReadVisibleRequest,
    deadline: Deadline,
) -> Result<Vec<bool>, RequestError> {
    if request.user_ids.len() > VISIBLE_MAX {
        return Err(Failure::invalid("user_ids", format!("must be at most {VISIBLE_MAX}")).into());
    }
    let mut connection = context.connection(deadline).await?;
    Ok(context.measured("read_visible", privacy::visible(&mut connection, &request)).await?)
}

pub(super) async fn blocked(
    context: Context,
    request: ReadBlockedRequest,
    deadline: Deadline,
) -> Result<Vec<UserId>, RequestError> {
    let mut connection = context.connection(deadline).await?;
    Ok(context.measured("read_blocked", privacy::blocked(&mut connection, request)).await?)
}
