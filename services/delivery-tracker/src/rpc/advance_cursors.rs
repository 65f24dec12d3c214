//! Method `advance_cursors`.

use entrenous_protocol::rpc::{
    Done,
    tracker::{AdvanceCursorsRequest, CURSORS_MAX},
};
use tokio::time::Instant;

use super::Context;
use crate::{domain::cursors, error::RequestError, metrics, store::device_cursors};

pub(super) async fn handle(context: Context, request: AdvanceCursorsRequest) -> Result<Done, RequestError> {
    let count = request.cursors.len();
    if count > CURSORS_MAX {
        return Err(RequestError::TooManyCursors { count });
    }
    let advances = cursors::merge(request.cursors);
    if advances.is_empty() {
        return Ok(Done {});
    }
    let mut connection = context.database.get().await?;
    let start = Instant::now();
    let moved = device_cursors::advance_batch(&mut connection, &advances, context.clock.now()).await?;
    metrics::statement("advance_device_cursors", start.elapsed());
    metrics::cursors_advanced(count, moved);
    Ok(Done {})
}
