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
        store::{self, MEMBERS_PAGE_MAX, RECEIPT_MEMBERS_MAX},
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
    openapi::{Forbidden, NotFound},
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

/// Whom a message has reached and who has read it: each member but the sender. Above 256 members the numbers alone. Of a
/// channel only its moderators and owners see this.
#[utoipa::path(
    get, path = "/api/v1/conversations/{id}/messages/{message_id}/receipts", tag = "messages",
    operation_id = "list_receipts", security(("bearer" = [])),
    params(
        ("id" = ConversationId, Path, description = "The conversation"),
        ("message_id" = EntryId, Path, description = "The message")
    ),
    responses((status = 200, description = "By member", body = MessageReceipts), Forbidden, NotFound)
)]
pub(crate) async fn list(caller: Caller, request: HttpRequest, gateway: Data<Gateway>) -> Answer {
    let conversation_id = path_id(&request, "id")?;
    let caller = caller.0.sub;
    let message = store::GetMessageRequest { caller, conversation_id, message_id: path_id(&request, "message_id")? };
    let message = gateway.call::<store::GetMessage>(&message).await?;
    let message: Message = serde_json::from_str(message.get()).map_err(|_| Failure::internal())?;
    let mut receipts = MessageReceipts { items: Vec::new(), has_more: false, delivered_count: 0, read_count: 0 };
    let (mut after, mut member_count) = (None, 0_usize);
    loop {
        let page = store::ListMembersRequest { caller, conversation_id, after, limit: MEMBERS_PAGE_MAX };
        let page = gateway.call::<store::ListMembers>(&page).await?;
        member_count += page.items.len();
        after = page.items.last().map(|member| member.user_id);
        let others = page.items.into_iter().map(|member| member.user_id).filter(|id| *id != message.sender_id);
        add(&gateway, &mut receipts, (conversation_id, message.seq), others.collect()).await?;
        if member_count > usize::try_from(RECEIPT_MEMBERS_MAX).unwrap_or(usize::MAX) {
            receipts.items.clear();
        }
        if !page.has_more {
            return Ok(HttpResponse::Ok().json(receipts));
        }
    }
}

async fn add(
    gateway: &Gateway,
    receipts: &mut MessageReceipts,
    (conversation_id, seq): (ConversationId, u64),
    user_ids: Vec<UserId>,
) -> Result<(), Failure> {
    for part in user_ids.chunks(CURSORS_MAX) {
        let request = tracker::EntryReceiptsRequest { conversation_id, seq, user_ids: part.to_vec() };
        for (user_id, read) in part.iter().zip(gateway.call::<tracker::EntryReceipts>(&request).await?) {
            receipts.delivered_count += u64::from(read.is_delivered);
            receipts.read_count += u64::from(read.is_read);
            let EntryReceipt { delivered_at, read_at, .. } = read;
            receipts.items.push(MemberReceipt { user_id: *user_id, delivered_at, read_at });
        }
    }
    Ok(())
}
