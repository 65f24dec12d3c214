//! Method `statuses`.

use entrenous_protocol::{
    rpc::presence::{STATUSES_MAX, StatusesRequest},
    status::UserStatus,
};

use super::Context;
use crate::{error::RequestError, statuses};

pub(super) async fn handle(context: Context, request: StatusesRequest) -> Result<Vec<UserStatus>, RequestError> {
    let count = request.user_ids.len();
    if count > STATUSES_MAX {
        return Err(RequestError::TooManyUsers { count });
    }
    Ok(statuses::read(&context.shared, &context.database, &request.user_ids).await?)
}
