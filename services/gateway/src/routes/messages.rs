//! `/api/v1/conversations/{id}/messages`: sending, history, edits and deletions.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, ServiceConfig},
};
use entrenous_model::{ConversationId, EntryId, Timestamp, UserId};
use entrenous_protocol::{
    Act, Code, Entry, EntryKind, Failure, NewMessage, RawValue,
    act::{DeleteScope, EditFields},
    entry::{MessageType, frame_payload},
    limits::{HISTORY_PAGE_MAX, PAGE_BYTES_MAX},
    message::MessageFields,
    rest::{Message, Page},
    rpc::store::{
        self, ActRequest, AppendMessage, Attaching, HistoryFilter, HistoryPosition, ScheduleResponse, Stored,
    },
    scheduled::ScheduledMessage,
};

use super::Answer;
use crate::{
    http::{
        extract::{Caller, JsonBody, OfDate, Query, path_id},
        resource::at,
    },
    openapi::{Forbidden, IdConflict, NotFound, RateLimited, TooLarge},
    state::Gateway,
};

/// Messages in a page where the client does not say.
pub(super) const PAGE_DEFAULT: u32 = 50;

pub(super) fn configure(config: &mut ServiceConfig) {
    at("/api/v1/conversations/{id}/messages").get(history).post(send).register(config);
    at("/api/v1/conversations/{id}/messages/{message_id}").get(get).patch(edit).delete(delete).register(config);
    at("/api/v1/conversations/{id}/threads/{message_id}").get(thread).register(config);
    at("/api/v1/messages/user/{user_id}").get(history_with).register(config);
    at("/api/v1/messages/group/{conversation_id}").get(history_of).register(config);
}

/// Has an act on a message done by the caller. Without an id the server makes the entry's.
pub(super) async fn act_on(
    gateway: &Gateway,
    caller: &Caller,
    request: &HttpRequest,
    id: Option<EntryId>,
    act: Act,
) -> Result<(), Failure> {
    let request = ActRequest {
        conversation_id: path_id(request, "id")?,
        caller: caller.0.sub,
        device_id: caller.0.device_id,
        origin: 0,
        id: id.unwrap_or_else(|| gateway.ids.next()),
        act,
        not_after: None,
    };
    gateway.sends.act(request).await.map(drop)
}

/// Sends a message, or keeps it until its `send_at`. The `id` is the client's: the same again, from the same device, is stored once and answered alike.
#[utoipa::path(
    post, path = "/api/v1/conversations/{id}/messages", tag = "messages", operation_id = "send_message",
    security(("bearer" = [])), request_body = MessageFields,
    params(("id" = ConversationId, Path, description = "The conversation")),
    responses(
        (status = 201, description = "The message as it was stored, committed", body = Entry),
        (status = 202, description = "The message, kept until `send_at`", body = ScheduledMessage),
        Forbidden, NotFound, IdConflict, RateLimited
    )
)]
pub(crate) async fn send(
    caller: Caller,
    request: HttpRequest,
    gateway: Data<Gateway>,
    body: JsonBody<MessageFields>,
) -> Answer {
    let id = body.0.id.ok_or_else(|| Failure::invalid("id", "is required"))?;
    let send_at = body.0.send_at;
    let append = AppendMessage {
        trace: None,
        conversation_id: path_id(&request, "id")?,
        direct_with: None,
        sender_id: caller.0.sub,
        sender_device_id: caller.0.device_id,
        origin: 0,
        message: body.0.check(id, &gateway.limits)?,
    };
    if let Some(send_at) = send_at {
        let request = store::ScheduleRequest { message: append.clone(), send_at };
        match gateway.call::<store::Schedule>(&request).await? {
            ScheduleResponse::Kept(message) => return Ok(HttpResponse::Accepted().json(message)),
            ScheduleResponse::Sent { message, .. } => return Ok(HttpResponse::Created().json(message)),
            ScheduleResponse::Due => {}
        }
    }
    let stored = gateway.sends.send(append.clone()).await?;
    if append.message.message_type != MessageType::Control {
        let sender = Attaching { user_id: append.sender_id, device_id: append.sender_device_id };
        gateway.receipts.note_sent(&sender, append.conversation_id, stored.seq);
    }
    let logged = if stored.may_differ { logged(&gateway, &append, stored.seq).await? } else { None };
    Ok(match logged {
        Some(logged) => HttpResponse::Created().json(logged),
        None => HttpResponse::Created().json(resource(append, stored)),
    })
}

/// The entry as the log has it; none for who may not read it any more.
async fn logged(gateway: &Gateway, append: &AppendMessage, seq: u64) -> Result<Option<Box<RawValue>>, Failure> {
    let range = store::Range {
        conversation_id: append.conversation_id,
        after: seq.saturating_sub(1),
        limit: 1,
        leaves_after: 0,
    };
    let reader = Some(append.sender_id);
    let request = store::ReadRangesRequest { reader, ranges: vec![range], bytes_max: PAGE_BYTES_MAX };
    let read = gateway.call::<store::ReadRanges>(&request).await?.into_iter().next();
    let entry = read.and_then(|read| read.entries.into_iter().next()).filter(|entry| entry.seq == seq);
    entry.map(|entry| frame_payload(&entry.frame)).transpose().map_err(|error| {
        tracing::error!(%error, "the store gave a frame that cannot be read");
        Failure::internal()
    })
}

/// The message as it was stored, from what was asked for and what the store added.
fn resource(append: AppendMessage, stored: Stored) -> Entry {
    let NewMessage {
        id,
        message_type,
        content,
        is_sealed: _,
        reply_to,
        thread_id,
        attachments,
        mentions,
        metadata,
        signature,
    } = append.message;
    Entry {
        id,
        conversation_id: append.conversation_id,
        seq: stored.seq,
        kind: EntryKind::Message,
        sender_id: append.sender_id,
        sender_device_id: Some(append.sender_device_id),
        message_type: Some(message_type),
        content: Some(content),
        target_id: None,
        superseded_by: None,
        reply_to,
        thread_id,
        attachments,
        mentions,
        metadata,
        signature,
        sent_at: stored.sent_at,
        edited_at: None,
        edit_count: 0,
        deleted: false,
        expires_at: stored.expires_at,
    }
}

/// History: messages only, newest first (`after`: oldest first). A page may hold fewer than `limit`, even none, and have more:
/// each looks at so many entries only.
#[utoipa::path(
    get, path = "/api/v1/conversations/{id}/messages", tag = "messages", operation_id = "list_messages",
    security(("bearer" = [])),
    params(
        ("id" = ConversationId, Path, description = "The conversation"),
        ("limit" = Option<u32>, Query, description = "1 to 100, 50 by default", minimum = 1, maximum = 100),
        ("before" = Option<u64>, Query, description = "Only messages before this seq", minimum = 0),
        ("after" = Option<u64>, Query, description = "Only messages after this seq, oldest first", minimum = 0),
        ("around" = Option<u64>, Query, description = "Messages on both sides of this seq, and it", minimum = 0),
        ("from" = Option<Timestamp>, Query, description = "Only what was sent then or later; a time or a date (UTC)"),
        ("to" = Option<Timestamp>, Query, description = "Only what was sent then or before; a time or a date (UTC)"),
        ("sender_id" = Option<UserId>, Query, description = "Only of this user"),
        ("type" = Option<MessageType>, Query, description = "Only of this type")
    ),
    responses((status = 200, description = "A page", body = Page<Message>), NotFound)
)]
pub(crate) async fn history(caller: Caller, request: HttpRequest, gateway: Data<Gateway>, query: Query) -> Answer {
    list(&caller, path_id(&request, "id")?, &gateway, &query).await
}

/// History of the direct conversation with a user; see `list_messages`.
#[utoipa::path(
    get, path = "/api/v1/messages/user/{user_id}", tag = "messages", operation_id = "list_messages_with_user",
    security(("bearer" = [])),
    params(
        ("user_id" = UserId, Path, description = "The other person"),
        ("limit" = Option<u32>, Query, description = "1 to 100, 50 by default", minimum = 1, maximum = 100),
        ("before" = Option<u64>, Query, description = "Only messages before this seq", minimum = 0),
        ("after" = Option<u64>, Query, description = "Only messages after this seq, oldest first", minimum = 0),
        ("around" = Option<u64>, Query, description = "Messages on both sides of this seq, and it", minimum = 0),
        ("from" = Option<Timestamp>, Query, description = "Only what was sent then or later; a time or a date (UTC)"),
        ("to" = Option<Timestamp>, Query, description = "Only what was sent then or before; a time or a date (UTC)"),
        ("sender_id" = Option<UserId>, Query, description = "Only of this user"),
        ("type" = Option<MessageType>, Query, description = "Only of this type")
    ),
    responses((status = 200, description = "A page", body = Page<Message>), NotFound)
)]
pub(crate) async fn history_with(caller: Caller, request: HttpRequest, gateway: Data<Gateway>, query: Query) -> Answer {
    let conversation_id = ConversationId::direct(caller.0.sub, path_id(&request, "user_id")?);
    list(&caller, conversation_id, &gateway, &query).await
}

/// History of a group or channel; see `list_messages`.
#[utoipa::path(
    get, path = "/api/v1/messages/group/{conversation_id}", tag = "messages", operation_id = "list_messages_of_group",
    security(("bearer" = [])),
    params(
        ("conversation_id" = ConversationId, Path, description = "The conversation"),
        ("limit" = Option<u32>, Query, description = "1 to 100, 50 by default", minimum = 1, maximum = 100),
        ("before" = Option<u64>, Query, description = "Only messages before this seq", minimum = 0),
        ("after" = Option<u64>, Query, description = "Only messages after this seq, oldest first", minimum = 0),
        ("around" = Option<u64>, Query, description = "Messages on both sides of this seq, and it", minimum = 0),
        ("from" = Option<Timestamp>, Query, description = "Only what was sent then or later; a time or a date (UTC)"),
        ("to" = Option<Timestamp>, Query, description = "Only what was sent then or before; a time or a date (UTC)"),
        ("sender_id" = Option<UserId>, Query, description = "Only of this user"),
        ("type" = Option<MessageType>, Query, description = "Only of this type")
    ),
    responses((status = 200, description = "A page", body = Page<Message>), NotFound)
)]
pub(crate) async fn history_of(caller: Caller, request: HttpRequest, gateway: Data<Gateway>, query: Query) -> Answer {
    list(&caller, path_id(&request, "conversation_id")?, &gateway, &query).await
}

async fn list(caller: &Caller, conversation_id: ConversationId, gateway: &Gateway, query: &Query) -> Answer {
    let request = store::HistoryRequest {
        caller: caller.0.sub,
        conversation_id,
        position: position(query)?,
        limit: query.limit(PAGE_DEFAULT, HISTORY_PAGE_MAX)?,
        filter: HistoryFilter {
            from: query.moment("from", OfDate::Begin)?,
            to: query.moment("to", OfDate::End)?,
            sender_id: query.id("sender_id")?,
            message_type: message_type(query)?,
            thread_id: None,
        },
    };
    Ok(HttpResponse::Ok().json(gateway.call::<store::History>(&request).await?))
}

fn message_type(query: &Query) -> Result<Option<MessageType>, Failure> {
    let parse = |name| MessageType::parse(name).ok_or_else(|| Failure::invalid("type", "is no message_type"));
    query.text("type")?.map(parse).transpose()
}

/// The replies in a thread, oldest first (`before`: newest first, as in history).
#[utoipa::path(
    get, path = "/api/v1/conversations/{id}/threads/{message_id}", tag = "messages", operation_id = "list_thread",
    security(("bearer" = [])),
    params(
        ("id" = ConversationId, Path, description = "The conversation"),
        ("message_id" = EntryId, Path, description = "The message that the thread began with"),
        ("limit" = Option<u32>, Query, description = "1 to 100, 50 by default", minimum = 1, maximum = 100),
        ("before" = Option<u64>, Query, description = "Only replies before this seq, newest first", minimum = 0),
        ("after" = Option<u64>, Query, description = "Only replies after this seq", minimum = 0)
    ),
    responses((status = 200, description = "A page, as in history", body = Page<Message>), NotFound)
)]
pub(crate) async fn thread(caller: Caller, request: HttpRequest, gateway: Data<Gateway>, query: Query) -> Answer {
    let position = match position(&query)? {
        HistoryPosition::Latest => HistoryPosition::After(0),
        HistoryPosition::Around(_) => return Err(Failure::invalid("around", "is not for threads").into()),
        position => position,
    };
    let request = store::HistoryRequest {
        caller: caller.0.sub,
        conversation_id: path_id(&request, "id")?,
        position,
        limit: query.limit(PAGE_DEFAULT, HISTORY_PAGE_MAX)?,
        filter: HistoryFilter { thread_id: Some(path_id(&request, "message_id")?), ..HistoryFilter::default() },
    };
    Ok(HttpResponse::Ok().json(gateway.call::<store::History>(&request).await?))
}

fn position(query: &Query) -> Result<HistoryPosition, Failure> {
    match (query.seq("before")?, query.seq("after")?, query.seq("around")?) {
        (None, None, None) => Ok(HistoryPosition::Latest),
        (Some(seq), None, None) => Ok(HistoryPosition::Before(seq)),
        (None, Some(seq), None) => Ok(HistoryPosition::After(seq)),
        (None, None, Some(seq)) => Ok(HistoryPosition::Around(seq)),
        (before, after, around) => {
            let given = [("before", before), ("after", after), ("around", around)];
            let given = given.iter().filter(|(_, seq)| seq.is_some());
            let faults = Failure::new(Code::Invalid, "");
            Err(given.fold(faults, |faults, (name, _)| faults.with_error(name, "must stand alone")))
        }
    }
}

/// One message, as history shows it.
#[utoipa::path(
    get, path = "/api/v1/conversations/{id}/messages/{message_id}", tag = "messages", operation_id = "get_message",
    security(("bearer" = [])),
    params(
        ("id" = ConversationId, Path, description = "The conversation"),
        ("message_id" = EntryId, Path, description = "The message")
    ),
    responses((status = 200, description = "The message", body = Message), NotFound)
)]
pub(crate) async fn get(caller: Caller, request: HttpRequest, gateway: Data<Gateway>) -> Answer {
    show(&caller, &request, &gateway).await
}

/// The message that the path names.
async fn show(caller: &Caller, request: &HttpRequest, gateway: &Gateway) -> Answer {
    let request = store::GetMessageRequest {
        caller: caller.0.sub,
        conversation_id: path_id(request, "id")?,
        message_id: path_id(request, "message_id")?,
    };
    Ok(HttpResponse::Ok().json(gateway.call::<store::GetMessage>(&request).await?))
}

/// Edits one's own message. The `id` is the edit's and made by the client: the same again is done once.
#[utoipa::path(
    patch, path = "/api/v1/conversations/{id}/messages/{message_id}", tag = "messages", operation_id = "edit_message",
    security(("bearer" = [])), request_body = EditFields,
    params(
        ("id" = ConversationId, Path, description = "The conversation"),
        ("message_id" = EntryId, Path, description = "The message")
    ),
    responses(
        (status = 200, description = "The message with its new content", body = Message),
        Forbidden, NotFound, IdConflict, TooLarge, RateLimited
    )
)]
pub(crate) async fn edit(
    caller: Caller,
    request: HttpRequest,
    gateway: Data<Gateway>,
    body: JsonBody<EditFields>,
) -> Answer {
    let message_id = path_id(&request, "message_id")?;
    let id = body.0.id.ok_or_else(|| Failure::invalid("id", "is required"))?;
    let edit = body.0.check(message_id, &gateway.limits)?;
    act_on(&gateway, &caller, &request, Some(id), Act::Edit(edit)).await?;
    show(&caller, &request, &gateway).await
}

/// Deletes a message: for everyone, which erases its content for good, or for oneself.
#[utoipa::path(
    delete, path = "/api/v1/conversations/{id}/messages/{message_id}", tag = "messages",
    operation_id = "delete_message", security(("bearer" = [])),
    params(
        ("id" = ConversationId, Path, description = "The conversation"),
        ("message_id" = EntryId, Path, description = "The message"),
        ("scope" = Option<DeleteScope>, Query, description = "`all` by default")
    ),
    responses((status = 204, description = "It is deleted"), Forbidden, NotFound)
)]
pub(crate) async fn delete(caller: Caller, request: HttpRequest, gateway: Data<Gateway>, query: Query) -> Answer {
    let scope = match query.text("scope")? {
        None | Some("all") => DeleteScope::All,
        Some("me") => DeleteScope::Me,
        Some(_) => return Err(Failure::invalid("scope", "must be all or me").into()),
    };
    let message_id = path_id(&request, "message_id")?;
    act_on(&gateway, &caller, &request, None, Act::Delete { message_id, scope }).await?;
    Ok(HttpResponse::NoContent().finish())
}
