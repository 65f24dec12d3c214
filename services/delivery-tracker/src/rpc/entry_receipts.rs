//! Method `entry_receipts`.

use entrenous_protocol::rpc::tracker::{CURSORS_MAX, EntryReceipt, EntryReceiptsRequest};
use tokio::time::Instant;

use super::Context;
use crate::{error::RequestError, metrics, store::receipts};

pub(super) async fn handle(context: Context, request: EntryReceiptsRequest) -> Result<Vec<EntryReceipt>, RequestError> {
    let count = request.user_ids.len();
    if count > CURSORS_MAX {
        return Err(RequestError::TooManyCursors { count });
    }
    let mut connection = context.database.get().await?;
    let start = Instant::now();
    let receipts = receipts::of_entry(&mut connection, &request).await?;
    metrics::statement("entry_receipts", start.elapsed());
    Ok(receipts)
}
