//! `/api/v1/conversations/{id}/messages/{message_id}/receipts`: whom a message has reached, and who has read it.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, ServiceConfig},
};
use entrenous_model::{ConversationId, EntryId, UserId};
use entrenous_protocol::{
    Failure,
    rest::{MemberReceipt, MessageReceipts},
    rpc::{
        store::{self, RECEIPT_MEMBERS_MAX},
        tracker::{self, CURSORS_MAX, EntryReceipt},
    },
};
use serde::Deserialize;

use super::Answer;
use crate::{
    http::{
        extract::{Caller, path_id},
        resource::at,
    },
    openapi::NotFound,
    state::Gateway,
};

pub(super) fn configure(config: &mut ServiceConfig) {
    at("/api/v1/conversations/{id}/messages/{message_id}/receipts").get(list).register(config);
}

/// What is needed of the message.
#[derive(Deserialize)]
struct Message {
    seq: u64,
    sender_id: UserId,
}

/// Whom a message has reached and who has read it: each member but the sender. Above 256 members the numbers alone.
#[utoipa::path(
    get, path = "/api/v1/conversations/{id}/messages/{message_id}/receipts", tag = "messages",
    operation_id = "list_receipts", security(("bearer" = [])),
    params(
        ("id" = ConversationId, Path, description = "The conversation"),
        ("message_id" = EntryId, Path, description = "The message")
    ),
    responses((status = 200, description = "By member", body = MessageReceipts), NotFound)
)]
pub(crate) async fn list(caller: Caller, request: HttpRequest, gateway: Data<Gateway>) -> Answer {
    let conversation_id = path_id(&request, "id")?;
    let caller = caller.0.sub;
    let message = store::GetMessageRequest { caller, conversation_id, message_id: path_id(&request, "message_id")? };
    let message = gateway.call::<store::GetMessage>(&message).await?;
    let message: Message = serde_json::from_str(message.get()).map_err(|_| Failure::internal())?;
    let members = gateway.call::<store::ListMembers>(&store::ConversationRequest { caller, conversation_id }).await?;
    let is_small = members.len() <= usize::try_from(RECEIPT_MEMBERS_MAX).unwrap_or(usize::MAX);
    let others = members.into_iter().map(|member| member.user_id).filter(|id| *id != message.sender_id).collect();
    let receipts = read(&gateway, conversation_id, message.seq, others).await?;
    let count = |is: fn(&EntryReceipt) -> bool| {
        u64::try_from(receipts.iter().filter(|(_, receipt)| is(receipt)).count()).unwrap_or(u64::MAX)
    };
    let delivered_count = count(|receipt| receipt.is_delivered);
    let read_count = count(|receipt| receipt.is_read);
    let item = |(user_id, receipt): (UserId, EntryReceipt)| MemberReceipt {
        user_id,
        delivered_at: receipt.delivered_at,
        read_at: receipt.read_at,
    };
    let items = if is_small { receipts.into_iter().map(item).collect() } else { Vec::new() };
    Ok(HttpResponse::Ok().json(MessageReceipts { items, has_more: false, delivered_count, read_count }))
}

async fn read(
    gateway: &Gateway,
    conversation_id: ConversationId,
    seq: u64,
    user_ids: Vec<UserId>,
) -> Result<Vec<(UserId, EntryReceipt)>, Failure> {
    let mut receipts = Vec::with_capacity(user_ids.len());
    for part in user_ids.chunks(CURSORS_MAX) {
        let request = tracker::EntryReceiptsRequest { conversation_id, seq, user_ids: part.to_vec() };
        let read = gateway.call::<tracker::EntryReceipts>(&request).await?;
        receipts.extend(part.iter().copied().zip(read));
    }
    Ok(receipts)
}
