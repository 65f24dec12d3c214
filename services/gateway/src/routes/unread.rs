//! What a user has read: counts, and exactly which entries make them up.

use std::collections::HashMap;

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, ServiceConfig},
};
use entrenous_model::{ConversationId, EntryId, UserId};
use entrenous_protocol::{
    Code, Failure,
    rest::{Conversation, MarkRead, UnreadEntries},
    rpc::{
        store::{self, ReadCursor},
        tracker::{self, CursorAdvance},
    },
};
use serde::Deserialize;

use super::Answer;
use crate::{
    http::{
        extract::{Caller, JsonBody, path_id},
        resource::at,
    },
    openapi::NotFound,
    state::Gateway,
};

/// Messages that one call may name.
const MESSAGES_MAX: usize = 100;

pub(super) fn configure(config: &mut ServiceConfig) {
    at("/api/v1/conversations/{id}/unread").get(list).register(config);
    at("/api/v1/messages/read").post(mark).register(config);
}

/// Fills in what the tracker and the store know together: the caller's `read_seq` and `unread_count`. Without one of them
/// there is no honest number, and the call is `unavailable`. What the caller has left meanwhile is left out.
pub(super) async fn compose(
    gateway: &Gateway,
    user_id: UserId,
    mut conversations: Vec<Conversation>,
) -> Result<Vec<Conversation>, Failure> {
    if conversations.is_empty() {
        return Ok(conversations);
    }
    let conversation_ids = conversations.iter().map(|conversation| conversation.id).collect();
    let cursors = cursors(gateway, user_id, conversation_ids).await?;
    let unread = gateway.call::<store::ReadUnread>(&store::ReadUnreadRequest { user_id, cursors }).await?;
    let unread: HashMap<_, _> = unread.into_iter().map(|one| (one.conversation_id, one)).collect();
    conversations.retain_mut(|conversation| {
        let one = unread.get(&conversation.id);
        if let Some(one) = one {
            (conversation.read_seq, conversation.unread_count) = (one.read_seq, one.unread_count);
        }
        one.is_some()
    });
    Ok(conversations)
}

/// As [`compose`]; `not_found` where the caller has left it meanwhile.
pub(super) async fn compose_one(
    gateway: &Gateway,
    user_id: UserId,
    conversation: Conversation,
) -> Result<Conversation, Failure> {
    compose(gateway, user_id, vec![conversation]).await?.pop().ok_or_else(Failure::not_found)
}

async fn cursors(
    gateway: &Gateway,
    user_id: UserId,
    conversation_ids: Vec<ConversationId>,
) -> Result<Vec<ReadCursor>, Failure> {
    let request = tracker::ReadCursorsRequest { user_id, conversation_ids };
    let read = gateway.call::<tracker::ReadCursors>(&request).await?;
    let cursor = |(conversation_id, read_seq)| ReadCursor { conversation_id, read_seq };
    Ok(request.conversation_ids.into_iter().zip(read).map(cursor).collect())
}

/// How many messages of others are unread, and which.
#[utoipa::path(
    get, path = "/api/v1/conversations/{id}/unread", tag = "messages", operation_id = "list_unread",
    security(("bearer" = [])),
    params(("id" = ConversationId, Path, description = "The conversation")),
    responses((status = 200, description = "The number, and the seqs that make it up", body = UnreadEntries), NotFound)
)]
pub(crate) async fn list(caller: Caller, request: HttpRequest, gateway: Data<Gateway>) -> Answer {
    let user_id = caller.0.sub;
    let cursors = cursors(&gateway, user_id, vec![path_id(&request, "id")?]).await?;
    let cursor = cursors.into_iter().next().ok_or_else(Failure::internal)?;
    let listed = gateway.call::<store::ListUnread>(&store::ListUnreadRequest { user_id, cursor }).await?;
    let count = u64::try_from(listed.seqs.len()).unwrap_or(u64::MAX);
    Ok(HttpResponse::Ok().json(UnreadEntries { count, seqs: listed.seqs }))
}

/// Everything up to a message is read, on all of one's devices.
#[utoipa::path(
    post, path = "/api/v1/messages/read", tag = "messages", operation_id = "mark_read",
    security(("bearer" = [])), request_body = MarkRead,
    responses((status = 204, description = "It is read"), NotFound)
)]
pub(crate) async fn mark(caller: Caller, gateway: Data<Gateway>, body: JsonBody<MarkRead>) -> Answer {
    let (caller, MarkRead { conversation_id, seq, message_ids }) = (caller.0, body.0);
    let request = store::ConversationRequest { caller: caller.sub, conversation_id };
    let head = gateway.call::<store::GetConversation>(&request).await?.last_seq;
    let seq = match (seq, message_ids) {
        (Some(seq), None) => seq.min(head),
        (None, Some(ids)) => highest(&gateway, caller.sub, conversation_id, &ids).await?,
        _ => return Err(Failure::invalid("seq", "either this or message_ids must be given").into()),
    };
    let advance = CursorAdvance {
        user_id: caller.sub,
        device_id: caller.device_id,
        conversation_id,
        delivered_seq: 0,
        read_seq: seq,
        sent_seq: 0,
    };
    gateway.call::<tracker::AdvanceCursors>(&tracker::AdvanceCursorsRequest { cursors: vec![advance] }).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn highest(
    gateway: &Gateway,
    caller: UserId,
    conversation_id: ConversationId,
    ids: &[EntryId],
) -> Result<u64, Failure> {
    #[derive(Deserialize)]
    struct Place {
        seq: u64,
    }
    if ids.is_empty() || ids.len() > MESSAGES_MAX {
        return Err(Failure::invalid("message_ids", format!("must be 1 to {MESSAGES_MAX}")));
    }
    let read = ids.iter().map(async |message_id| {
        let request = store::GetMessageRequest { caller, conversation_id, message_id: *message_id };
        let message = gateway.call::<store::GetMessage>(&request).await?;
        serde_json::from_str::<Place>(message.get()).map_err(|error| Failure::new(Code::Internal, error.to_string()))
    });
    let places = futures::future::try_join_all(read).await?;
    Ok(places.into_iter().map(|place| place.seq).max().unwrap_or(0))
}
