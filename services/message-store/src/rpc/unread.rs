//! Methods `read_unread`, `list_unread` and `read_authors`.

use entrenous_bus::Deadline;
use entrenous_protocol::{
    Code, Failure,
    rpc::store::{
        AUTHORS_MAX, Authors, ListUnreadRequest, ReadAuthorsRequest, ReadUnreadRequest, UNREAD_MAX, UNREAD_SEQS_MAX,
        Unread, UnreadSeqs,
    },
};

use super::Context;
use crate::{error::RequestError, store::unread};

pub(super) async fn read(
    context: Context,
    request: ReadUnreadRequest,
    deadline: Deadline,
) -> Result<Vec<Unread>, RequestError> {
    if request.cursors.len() > UNREAD_MAX {
        return Err(Failure::invalid("cursors", format!("must be at most {UNREAD_MAX}")).into());
    }
    let mut connection = context.connection(deadline).await?;
    Ok(context.measured("read_unread", unread::read(&mut connection, &request)).await?)
}

pub(super) async fn list(
    context: Context,
    request: ListUnreadRequest,
    deadline: Deadline,
) -> Result<UnreadSeqs, RequestError> {
    let mut connection = context.connection(deadline).await?;
    let listed = unread::list(&mut connection, &request, UNREAD_SEQS_MAX + 1);
    let seqs = context.measured("list_unread", listed).await?.ok_or_else(Failure::not_found)?;
    if seqs.len() > UNREAD_SEQS_MAX {
        return Err(Failure::new(Code::TooLarge, format!("more than {UNREAD_SEQS_MAX} messages are unread")).into());
    }
    Ok(UnreadSeqs { seqs })
}

pub(super) async fn authors(
    context: Context,
    request: ReadAuthorsRequest,
    deadline: Deadline,
) -> Result<Vec<Authors>, RequestError> {
    if request.receipts.len() > AUTHORS_MAX {
        return Err(Failure::invalid("receipts", format!("must be at most {AUTHORS_MAX}")).into());
    }
    let mut connection = context.connection(deadline).await?;
    Ok(context.measured("read_authors", unread::authors(&mut connection, &request.receipts)).await?)
}
