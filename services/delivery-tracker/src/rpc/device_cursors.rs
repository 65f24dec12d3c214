//! Method `device_cursors`.

use entrenous_protocol::rpc::tracker::{DeviceCursor, DeviceCursorsRequest};
use tokio::time::Instant;

use super::Context;
use crate::{error::RequestError, metrics, store::device_cursors};

pub(super) async fn handle(context: Context, request: DeviceCursorsRequest) -> Result<Vec<DeviceCursor>, RequestError> {
    let mut connection = context.database.get().await?;
    let start = Instant::now();
    let cursors = device_cursors::list_of_device(&mut connection, request.device_id).await?;
    metrics::statement("list_device_cursors", start.elapsed());
    Ok(cursors)
}
