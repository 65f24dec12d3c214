//! Methods `history`, `get_message`, `list_pins` and `list_reactions`.

use entrenous_bus::Deadline;
use entrenous_model::{ConversationId, Timestamp, UserId};
use entrenous_protocol::{
    Code, Failure, RawValue,
    limits::{HISTORY_PAGE_MAX, PAGE_BYTES_MAX, PINS_MAX},
    rest::{Message, MessageReaction, Page},
    rpc::store::{
        ConversationRequest, GetMessageRequest, HistoryPosition, HistoryRequest, ListReactionsRequest, MEMBERS_PAGE_MAX,
    },
};

use super::Context;
use crate::{
    domain::rights::sees_members,
    error::RequestError,
    store::history::{self, HistoryRow, Listed, PinnedRow, ReactionRow},
};

/// A message, ready to be sent.
pub(super) struct Shown {
    seq: u64,
    pub(super) text: Box<RawValue>,
}

pub(super) async fn get(
    context: Context,
    request: GetMessageRequest,
    deadline: Deadline,
) -> Result<Box<RawValue>, RequestError> {
    let mut connection = context.connection(deadline).await?;
    let found = history::get_message(&mut connection, request.caller, request.conversation_id, request.message_id);
    let row = context.measured("get_message", found).await?.ok_or_else(Failure::not_found)?;
    let shown = show(&context, request.conversation_id, row)?.ok_or_else(Failure::not_found)?;
    Ok(shown.text)
}

pub(super) async fn list(
    context: Context,
    request: HistoryRequest,
    deadline: Deadline,
) -> Result<Page<Box<RawValue>>, RequestError> {
    if !(1..=HISTORY_PAGE_MAX).contains(&request.limit) {
        return Err(Failure::invalid("limit", format!("must be 1 to {HISTORY_PAGE_MAX}")).into());
    }
    let limit = usize::try_from(request.limit).unwrap_or_default();
    let part = match request.position {
        HistoryPosition::Latest => older(&context, &request, u64::MAX, limit, deadline).await?,
        HistoryPosition::Before(before) => older(&context, &request, before, limit, deadline).await?,
        HistoryPosition::After(after) => newer(&context, &request, after, limit, deadline).await?,
        HistoryPosition::Around(around) => {
            // Half on each side of it, and no more than the limit in all.
            let mut items = newer(&context, &request, around, limit / 2, deadline).await?.items;
            items.reverse();
            let before = around.saturating_add(1);
            let older = older(&context, &request, before, limit - limit / 2, deadline).await?;
            items.extend(older.items);
            Part { items, next: older.next }
        }
    };
    if part.items.is_empty() {
        check_thread(&context, &request, deadline).await?;
    }
    let items = part.items.into_iter().map(|shown| shown.text).collect();
    Ok(Page { items, has_more: part.next.is_some(), next: part.next.map(|seq| seq.to_string()) })
}

/// Tells a thread without replies from a message that does not exist.
async fn check_thread(context: &Context, request: &HistoryRequest, deadline: Deadline) -> Result<(), RequestError> {
    let Some(message_id) = request.filter.thread_id else { return Ok(()) };
    let mut connection = context.connection(deadline).await?;
    let root = history::get_message(&mut connection, request.caller, request.conversation_id, message_id);
    context.measured("get_message", root).await?.map(drop).ok_or_else(|| Failure::not_found().into())
}

struct Part {
    items: Vec<Shown>,
    /// Where the next page begins, if there is more.
    next: Option<u64>,
}

async fn older(
    context: &Context,
    request: &HistoryRequest,
    before: u64,
    limit: usize,
    deadline: Deadline,
) -> Result<Part, RequestError> {
    let mut connection = context.connection(deadline).await?;
    let listed = history::list_before(&mut connection, request, before, limit + 1);
    let listed = context.measured("history", listed).await?.ok_or_else(Failure::not_found)?;
    part(context, request.conversation_id, listed, limit)
}

async fn newer(
    context: &Context,
    request: &HistoryRequest,
    after: u64,
    limit: usize,
    deadline: Deadline,
) -> Result<Part, RequestError> {
    let mut connection = context.connection(deadline).await?;
    let listed = history::list_after(&mut connection, request, after, limit + 1);
    let listed = context.measured("history", listed).await?.ok_or_else(Failure::not_found)?;
    part(context, request.conversation_id, listed, limit)
}

/// Cuts to the limit and to the bytes of a page.
fn part(
    context: &Context,
    conversation_id: ConversationId,
    Listed { rows, looked_to }: Listed,
    limit: usize,
) -> Result<Part, RequestError> {
    let mut is_cut = rows.len() > limit;
    let mut items: Vec<Shown> = Vec::with_capacity(rows.len());
    let mut bytes = 0;
    for row in rows.into_iter().take(limit) {
        let Some(shown) = show(context, conversation_id, row)? else {
            continue;
        };
        bytes += shown.text.get().len();
        if bytes > PAGE_BYTES_MAX && !items.is_empty() {
            is_cut = true;
            break;
        }
        items.push(shown);
    }
    let last = items.last().filter(|_| is_cut).map(|shown| shown.seq);
    Ok(Part { next: last.or(looked_to), items })
}

pub(super) fn show(
    context: &Context,
    conversation_id: ConversationId,
    row: HistoryRow,
) -> Result<Option<Shown>, RequestError> {
    row.message(conversation_id, context.now())?.map(|message| shown(&message)).transpose()
}

fn shown(message: &Message) -> Result<Shown, RequestError> {
    let text = serde_json::value::to_raw_value(message);
    let text = text.map_err(|error| diesel::result::Error::DeserializationError(error.into()))?;
    Ok(Shown { seq: message.entry.seq, text })
}

pub(super) async fn pins(
    context: Context,
    request: ConversationRequest,
    deadline: Deadline,
) -> Result<Vec<Box<RawValue>>, RequestError> {
    let ConversationRequest { caller, conversation_id } = request;
    let mut connection = context.connection(deadline).await?;
    let rows = history::list_pinned(&mut connection, caller, conversation_id, PINS_MAX);
    let rows = context.measured("list_pins", rows).await?.ok_or_else(Failure::not_found)?;
    let mut items = Vec::with_capacity(rows.len());
    for PinnedRow { message, pinned_by, pinned_at } in rows {
        let Some(mut message) = message.message(conversation_id, context.now())? else { continue };
        message.state.pinned_by = pinned_by.map(UserId::from);
        message.state.pinned_at = pinned_at.map(Timestamp::from);
        items.push(shown(&message)?.text);
    }
    Ok(items)
}

pub(super) async fn reactions(
    context: Context,
    request: ListReactionsRequest,
    deadline: Deadline,
) -> Result<Page<MessageReaction>, RequestError> {
    if !(1..=MEMBERS_PAGE_MAX).contains(&request.limit) {
        return Err(Failure::invalid("limit", format!("must be 1 to {MEMBERS_PAGE_MAX}")).into());
    }
    let mut connection = context.connection(deadline).await?;
    let rows = context.measured("list_reactions", history::list_reactions(&mut connection, &request)).await?;
    let (kind, role) = rows.first().ok_or_else(Failure::not_found)?.standing()?;
    if !sees_members(kind, role) {
        return Err(Failure::new(Code::Forbidden, "only moderators and owners see who is in a channel").into());
    }
    let mut items: Vec<_> = rows.into_iter().filter_map(ReactionRow::reaction).collect();
    let limit = usize::try_from(request.limit).unwrap_or(usize::MAX);
    let has_more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| has_more).map(|item| item.user_id.to_string());
    Ok(Page { items, has_more, next })
}
