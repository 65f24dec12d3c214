//! Methods `set_status` and `get_own_status`.

use entrenous_model::UserId;
use entrenous_protocol::{
    rpc::presence::{OwnStatusRequest, SetStatusRequest},
    status::{ChosenStatus, OwnStatus, UserStatus},
};
use tokio::time::Instant;

use super::Context;
use crate::{choices, error::RequestError, metrics, statuses, store};

pub(super) async fn set(context: Context, request: SetStatusRequest) -> Result<OwnStatus, RequestError> {
    let SetStatusRequest { user_id, choice } = request;
    let chosen = choice.status;
    let mut connection = context.database.get().await?;
    let start = Instant::now();
    let kept = store::choices::keep(&mut connection, user_id, choice).await?;
    drop(connection);
    metrics::statement("keep_choice", start.elapsed());
    context.shared.chose(kept);
    own_status(&context, user_id, chosen).await
}

pub(super) async fn get(context: Context, request: OwnStatusRequest) -> Result<OwnStatus, RequestError> {
    let user_id = request.user_id;
    let chosen = choices::read(&context.database, &[user_id]).await?;
    let chosen = chosen.into_iter().next().map(|chosen| chosen.choice.status).unwrap_or_default();
    own_status(&context, user_id, chosen).await
}

/// As others see it, and what was chosen.
async fn own_status(context: &Context, user_id: UserId, chosen: ChosenStatus) -> Result<OwnStatus, RequestError> {
    let statuses = statuses::read(&context.shared, &context.database, &[user_id]).await?;
    let status = statuses.into_iter().next().unwrap_or_else(|| UserStatus::hidden(user_id));
    Ok(OwnStatus { status, chosen })
}
