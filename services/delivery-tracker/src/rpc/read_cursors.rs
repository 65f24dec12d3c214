//! Method `read_cursors`.

use entrenous_protocol::rpc::tracker::{CURSORS_MAX, ReadCursorsRequest};
use tokio::time::Instant;

use super::Context;
use crate::{error::RequestError, metrics, store::receipts};

pub(super) async fn handle(context: Context, request: ReadCursorsRequest) -> Result<Vec<u64>, RequestError> {
    let count = request.conversation_ids.len();
    if count > CURSORS_MAX {
        return Err(RequestError::TooManyCursors { count });
    }
    let mut connection = context.database.get().await?;
    let start = Instant::now();
    let read = receipts::read_seqs(&mut connection, &request).await?;
    metrics::statement("read_cursors", start.elapsed());
    Ok(read)
}
