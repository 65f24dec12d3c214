//! Method `advance_cursors`.

use std::collections::{HashMap, HashSet};

use entrenous_bus::Deadline;
use entrenous_model::{ConversationId, Timestamp, UserId};
use entrenous_protocol::{
    live::{Receipt, UserNotice},
    rpc::{
        Done,
        store::{Authors, Covered, RECEIPT_MEMBERS_MAX, ReadAuthors, ReadAuthorsRequest},
        tracker::{AdvanceCursorsRequest, CURSORS_MAX, CursorAdvance},
    },
};
use tokio::time::Instant;

use super::Context;
use crate::{
    domain::cursors,
    error::RequestError,
    metrics,
    store::receipts::{self, Moved},
};

pub(super) async fn handle(
    context: Context,
    request: AdvanceCursorsRequest,
    deadline: Deadline,
) -> Result<Done, RequestError> {
    let count = request.cursors.len();
    if count > CURSORS_MAX {
        return Err(RequestError::TooManyCursors { count });
    }
    let advances = cursors::merge(request.cursors);
    if advances.is_empty() {
        return Ok(Done {});
    }
    let authors = authors(&context, &advances, deadline).await?;
    // In a task of its own: what was committed is told, also when the caller has given up. A repeat would find no news.
    context.tasks.clone().spawn(advance(context, advances, authors, count)).await?
}

async fn advance(
    context: Context,
    advances: Vec<CursorAdvance>,
    authors: Vec<Authors>,
    count: usize,
) -> Result<Done, RequestError> {
    let keeps = authors.iter().map(|one| one.member_count <= RECEIPT_MEMBERS_MAX).collect();
    let mut connection = context.database.get().await?;
    let (start, now) = (Instant::now(), context.clock.now());
    let moved = receipts::advance(&mut connection, &advances, keeps, now).await?;
    drop(connection);
    metrics::statement("advance_cursors", start.elapsed());
    metrics::cursors_advanced(count, moved.len());
    tell(&context, &advances, &authors, &moved, now).await;
    Ok(Done {})
}

/// Whom each advance concerns. The store is asked only for those that say something new of their person: not for the
/// second device of somebody, nor for repeats.
async fn authors(
    context: &Context,
    advances: &[CursorAdvance],
    deadline: Deadline,
) -> Result<Vec<Authors>, RequestError> {
    let mut connection = context.database.get().await?;
    let start = Instant::now();
    let positions = receipts::positions(&mut connection, advances).await?;
    drop(connection);
    metrics::statement("read_positions", start.elapsed());
    let news = advances.iter().zip(&positions).enumerate().filter_map(|(index, (advance, known))| {
        // What was read was delivered, so that the cursor of what was read is never the higher one.
        let read_seq = advance.known_read_seq();
        let up_to = advance.delivered_seq.max(read_seq);
        let after = match (read_seq > known.read_seq, up_to > known.delivered_seq) {
            (true, _) => known.read_seq,
            (false, true) => known.delivered_seq,
            (false, false) => return None,
        };
        let CursorAdvance { user_id, conversation_id, .. } = *advance;
        Some((index, Covered { user_id, conversation_id, after, up_to }))
    });
    let (indices, covered): (Vec<usize>, Vec<Covered>) = news.unzip();
    let mut authors = vec![Authors { member_count: 0, user_ids: Vec::new() }; advances.len()];
    if covered.is_empty() {
        return Ok(authors);
    }
    let request = ReadAuthorsRequest { receipts: covered };
    let found = context.bus.call::<ReadAuthors>(&request, deadline.remaining()).await?;
    for (index, found) in indices.into_iter().zip(found) {
        if let Some(authors) = authors.get_mut(index) {
            *authors = found;
        }
    }
    Ok(authors)
}

/// Who hears of what a person has received and read in a conversation.
#[derive(Default)]
struct Concerned {
    authors: HashSet<UserId>,
    /// The person's own devices know of what is up to here.
    sent_seq: u64,
}

/// Tells the authors, and the person's own devices. What gets lost here is told by the next receipt, and by REST.
async fn tell(context: &Context, advances: &[CursorAdvance], authors: &[Authors], moved: &[Moved], now: Timestamp) {
    let mut concerned: HashMap<(UserId, ConversationId), Concerned> = HashMap::new();
    for (advance, authors) in advances.iter().zip(authors) {
        let concerned = concerned.entry((advance.user_id, advance.conversation_id)).or_default();
        concerned.authors.extend(&authors.user_ids);
        concerned.sent_seq = concerned.sent_seq.max(advance.sent_seq);
    }
    for one in moved {
        let own = Receipt {
            kind: one.kind,
            conversation_id: one.conversation_id,
            user_id: one.user_id,
            device_id: Some(one.device_id),
            seq: one.up_to,
            at: now,
        };
        let Some(concerned) = concerned.get(&(one.user_id, one.conversation_id)) else { continue };
        let is_news = one.up_to > concerned.sent_seq;
        let others = concerned.authors.iter().map(|author| (*author, Receipt { device_id: None, ..own }));
        let told = others.chain(is_news.then_some((one.user_id, own)));
        for (user, receipt) in told {
            let sent = context.live.publish_notice(user.as_uuid(), 0, &UserNotice::Receipt(receipt)).await;
            if let Err(error) = sent {
                tracing::debug!(%error, "a receipt was not told");
                return;
            }
        }
    }
}
