//! Methods `history` and `get_message`.

use entrenous_bus::Deadline;
use entrenous_model::ConversationId;
use entrenous_protocol::{
    Entry, Failure, RawValue,
    limits::{HISTORY_PAGE_MAX, PAGE_BYTES_MAX},
    rest::Page,
    rpc::store::{GetMessageRequest, HistoryPosition, HistoryRequest},
};
use serde::Serialize;

use super::Context;
use crate::{
    error::RequestError,
    store::{
        entries::{self, HistoryRow},
        to_u64,
    },
};

/// A message as history shows it.
#[derive(Serialize)]
struct HistoryMessage<'a> {
    #[serde(flatten)]
    entry: &'a Entry,
    reactions: &'a RawValue,
    pinned: bool,
    thread_count: u64,
}

/// A message, ready to be sent.
struct Shown {
    seq: u64,
    text: Box<RawValue>,
}

pub(super) async fn get(
    context: Context,
    request: GetMessageRequest,
    deadline: Deadline,
) -> Result<Box<RawValue>, RequestError> {
    let mut connection = context.connection(deadline).await?;
    let found = entries::get_message(&mut connection, request.caller, request.conversation_id, request.message_id);
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
    match request.position {
        HistoryPosition::Latest => older(&context, &request, u64::MAX, limit, deadline).await.map(page),
        HistoryPosition::Before(before) => older(&context, &request, before, limit, deadline).await.map(page),
        HistoryPosition::After(after) => newer(&context, &request, after, limit, deadline).await.map(page),
        HistoryPosition::Around(around) => {
            // Half on each side of it, and no more than the limit in all.
            let mut items = newer(&context, &request, around, limit / 2, deadline).await?.items;
            items.reverse();
            let before = around.saturating_add(1);
            let older = older(&context, &request, before, limit - limit / 2, deadline).await?;
            items.extend(older.items);
            Ok(page(Part { items, has_more: older.has_more }))
        }
    }
}

struct Part {
    items: Vec<Shown>,
    has_more: bool,
}

fn page(part: Part) -> Page<Box<RawValue>> {
    let next = part.items.last().filter(|_| part.has_more).map(|shown| shown.seq.to_string());
    Page { items: part.items.into_iter().map(|shown| shown.text).collect(), has_more: part.has_more, next }
}

async fn older(
    context: &Context,
    request: &HistoryRequest,
    before: u64,
    limit: usize,
    deadline: Deadline,
) -> Result<Part, RequestError> {
    let mut connection = context.connection(deadline).await?;
    let rows = entries::list_before(&mut connection, request, before, limit + 1);
    let rows = context.measured("history", rows).await?.ok_or_else(Failure::not_found)?;
    part(context, request.conversation_id, rows, limit)
}

async fn newer(
    context: &Context,
    request: &HistoryRequest,
    after: u64,
    limit: usize,
    deadline: Deadline,
) -> Result<Part, RequestError> {
    let mut connection = context.connection(deadline).await?;
    let rows = entries::list_after(&mut connection, request, after, limit + 1);
    let rows = context.measured("history", rows).await?.ok_or_else(Failure::not_found)?;
    part(context, request.conversation_id, rows, limit)
}

/// Cuts to the limit and to the bytes of a page.
fn part(
    context: &Context,
    conversation_id: ConversationId,
    rows: Vec<HistoryRow>,
    limit: usize,
) -> Result<Part, RequestError> {
    let mut part = Part { items: Vec::with_capacity(rows.len()), has_more: rows.len() > limit };
    let mut bytes = 0;
    for row in rows.into_iter().take(limit) {
        let Some(shown) = show(context, conversation_id, row)? else {
            continue;
        };
        bytes += shown.text.get().len();
        if bytes > PAGE_BYTES_MAX && !part.items.is_empty() {
            part.has_more = true;
            break;
        }
        part.items.push(shown);
    }
    Ok(part)
}

fn show(context: &Context, conversation_id: ConversationId, row: HistoryRow) -> Result<Option<Shown>, RequestError> {
    let none = || RawValue::from_string("[]".to_owned());
    let reactions = row.reactions.map_or_else(none, RawValue::from_string);
    let Some(entry) = row.entry.entry(conversation_id, context.now())? else {
        return Ok(None);
    };
    let written = reactions.and_then(|reactions| {
        serde_json::value::to_raw_value(&HistoryMessage {
            entry: &entry,
            reactions: &reactions,
            pinned: row.is_pinned,
            thread_count: to_u64(row.thread_count),
        })
    });
    let text = written.map_err(|error| diesel::result::Error::DeserializationError(error.into()))?;
    Ok(Some(Shown { seq: entry.seq, text }))
}
