//! WebSocket frames: parsing what clients send, printing what the server sends (entries print themselves).

use entrenous_model::{ConnectionId, ConversationId, DeviceId, EntryId, Timestamp, UserId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json, value::RawValue};
use std::collections::HashMap;

use crate::{
    Act, Code, Failure, Limits, NewMessage,
    act::{DeletePayload, EditPayload, PinPayload, Reaction, ReactionPayload},
    device_message::{DeviceMessage, DeviceMessageBatch, DeviceMessageFields},
    entry::MemberContent,
    live::{Receipt, ReceiptKind, Typing},
    message::{MessageFields, too_large},
    scheduled::ScheduledEvent,
    status::{PresenceStatus, StatusChoice, UserStatus, WATCHED_MAX},
};

/// A frame from a client whose payload has been checked.
#[derive(Debug)]
#[expect(missing_docs, reason = "the fields are the wire's")]
pub enum ClientFrame {
    /// A token: first frame, or a renewal.
    Authenticate { token: String },
    /// A message to a person.
    ChatMessage { to: UserId, message: Box<NewMessage>, send_at: Option<Timestamp> },
    /// A message into a conversation.
    GroupMessage { conversation_id: ConversationId, message: Box<NewMessage>, send_at: Option<Timestamp> },
    /// Something done with a message that exists.
    Act { conversation_id: ConversationId, act: Box<Act> },
    /// Comes into a public conversation.
    JoinConversation { conversation_id: ConversationId },
    /// Leaves a conversation.
    LeaveConversation { conversation_id: ConversationId },
    /// Everything up to `seq` is on this device.
    DeliveryReceipt { conversation_id: ConversationId, seq: u64 },
    /// Everything up to `seq` was read.
    ReadReceipt { conversation_id: ConversationId, seq: u64 },
    /// The user is typing, or no longer.
    TypingIndicator { conversation_id: ConversationId, typing: bool },
    /// What the user shows from now on.
    StatusUpdate(StatusChoice),
    /// The connection is told the status of these users, now and when it changes.
    WatchStatus { user_ids: Vec<UserId> },
    /// And no longer.
    UnwatchStatus { user_ids: Vec<UserId> },
    /// Lifts `unsubscribe`.
    Subscribe { conversation_ids: Vec<ConversationId> },
    /// Pauses conversations.
    Unsubscribe { conversation_ids: Vec<ConversationId> },
    /// Messages for devices.
    DeviceMessage(DeviceMessageBatch),
    /// Device messages up to here are on this device.
    DeviceMessageAck { up_to: u64 },
    /// Where to begin.
    Sync(SyncRequest),
    /// Asks for a `pong`.
    Ping,
}

/// Payload of `sync`.
#[derive(Debug, Default, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SyncRequest {
    /// Per conversation the last seq that the client has.
    #[serde(default)]
    pub cursors: HashMap<ConversationId, u64>,
    /// Where conversations without a cursor begin; absent: after what the device acknowledged.
    #[serde(default)]
    pub from: Option<SyncFrom>,
    /// Entries a conversation.
    #[serde(default)]
    pub limit: Option<u32>,
}

/// Where conversations without a cursor begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SyncFrom {
    /// At the head.
    Now,
    /// At the first entry that the user may read.
    Start,
}

/// A frame that could not be taken, with the id to answer to.
#[derive(Debug)]
pub struct Rejected {
    /// The client's id, where one could be read.
    pub id: Option<EntryId>,
    /// Why.
    pub failure: Failure,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    r#type: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    #[serde(borrow)]
    meta: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
struct ClientMeta {
    #[serde(default)]
    target_id: Option<uuid::Uuid>,
}

/// Reads one frame: the envelope, then the payload of its type.
///
/// # Errors
/// `invalid_request` for what is malformed or not valid, `unknown_type`, `too_large`; each with the client's id where
/// one could be read. The connection goes on.
pub fn parse(text: &str, limits: &Limits) -> Result<(Option<EntryId>, ClientFrame), Rejected> {
    let envelope: Envelope<'_> = serde_json::from_str(text).map_err(|error| Rejected {
        id: None,
        failure: Failure::new(Code::Malformed, format!("not a frame: {error}")),
    })?;
    let id = match envelope.id.map(RawValue::get) {
        None | Some("null") => None,
        Some(raw) => Some(
            serde_json::from_str::<EntryId>(raw)
                .map_err(|_| Rejected { id: None, failure: Failure::invalid("id", "must be a UUID") })?,
        ),
    };
    match parse_payload(&envelope, id, limits) {
        Ok(frame) => Ok((id, frame)),
        Err(failure) => Err(Rejected { id, failure }),
    }
}

fn parse_payload(envelope: &Envelope<'_>, id: Option<EntryId>, limits: &Limits) -> Result<ClientFrame, Failure> {
    #[derive(Deserialize)]
    struct Authenticate {
        token: String,
    }
    #[derive(Deserialize)]
    struct Position {
        conversation_id: ConversationId,
        seq: u64,
    }
    #[derive(Deserialize)]
    struct Typing {
        conversation_id: ConversationId,
        typing: bool,
    }
    #[derive(Deserialize)]
    struct Conversations {
        conversation_ids: Vec<ConversationId>,
    }
    #[derive(Deserialize)]
    struct Users {
        user_ids: Vec<UserId>,
    }
    #[derive(Deserialize)]
    struct UpTo {
        up_to: u64,
    }
    let Some(r#type) = envelope.r#type.as_deref() else {
        return Err(Failure::invalid("type", "is required"));
    };
    Ok(match r#type {
        "authenticate" => ClientFrame::Authenticate { token: payload::<Authenticate>(envelope)?.token },
        "chat_message" => {
            let to = target(envelope)?.into();
            let (message, send_at) = message(envelope, id, limits)?;
            ClientFrame::ChatMessage { to, message, send_at }
        }
        "group_message" => {
            let conversation_id = target(envelope)?.into();
            let (message, send_at) = message(envelope, id, limits)?;
            ClientFrame::GroupMessage { conversation_id, message, send_at }
        }
        "join_conversation" => ClientFrame::JoinConversation { conversation_id: conversation(envelope)? },
        "leave_conversation" => ClientFrame::LeaveConversation { conversation_id: conversation(envelope)? },
        "delivery_receipt" => {
            let Position { conversation_id, seq } = payload(envelope)?;
            ClientFrame::DeliveryReceipt { conversation_id, seq }
        }
        "read_receipt" => {
            let Position { conversation_id, seq } = payload(envelope)?;
            ClientFrame::ReadReceipt { conversation_id, seq }
        }
        "typing_indicator" => {
            let Typing { conversation_id, typing } = payload(envelope)?;
            ClientFrame::TypingIndicator { conversation_id, typing }
        }
        "status_update" => ClientFrame::StatusUpdate(payload::<StatusChoice>(envelope)?.check()?),
        "watch_status" => {
            let Users { user_ids } = payload(envelope)?;
            if user_ids.len() > WATCHED_MAX {
                return Err(too_large("user_ids", WATCHED_MAX));
            }
            ClientFrame::WatchStatus { user_ids }
        }
        "unwatch_status" => ClientFrame::UnwatchStatus { user_ids: payload::<Users>(envelope)?.user_ids },
        "subscribe" => {
            ClientFrame::Subscribe { conversation_ids: payload::<Conversations>(envelope)?.conversation_ids }
        }
        "unsubscribe" => {
            ClientFrame::Unsubscribe { conversation_ids: payload::<Conversations>(envelope)?.conversation_ids }
        }
        "device_message" => ClientFrame::DeviceMessage(payload::<DeviceMessageFields>(envelope)?.check(limits)?),
        "device_message_ack" => ClientFrame::DeviceMessageAck { up_to: payload::<UpTo>(envelope)?.up_to },
        "sync" => ClientFrame::Sync(payload(envelope)?),
        "ping" => ClientFrame::Ping,
        name => parse_act(name, envelope, id, limits)?,
    })
}

fn parse_act(
    name: &str,
    envelope: &Envelope<'_>,
    id: Option<EntryId>,
    limits: &Limits,
) -> Result<ClientFrame, Failure> {
    let (conversation_id, act) = match name {
        "edit_message" => {
            id.ok_or_else(|| Failure::invalid("id", "is required"))?;
            let EditPayload { conversation_id, message_id, fields } = payload(envelope)?;
            (conversation_id, Act::Edit(fields.check(message_id, limits)?))
        }
        "delete_message" => {
            let DeletePayload { conversation_id, message_id, scope } = payload(envelope)?;
            (conversation_id, Act::Delete { message_id, scope: scope.unwrap_or_default() })
        }
        "add_reaction" | "remove_reaction" => {
            let ReactionPayload { conversation_id, message_id, reaction } = payload(envelope)?;
            let reaction = Reaction::check(message_id, reaction)?;
            (conversation_id, if name == "add_reaction" { Act::React(reaction) } else { Act::Unreact(reaction) })
        }
        "pin_message" | "unpin_message" => {
            let PinPayload { conversation_id, message_id } = payload(envelope)?;
            (conversation_id, if name == "pin_message" { Act::Pin { message_id } } else { Act::Unpin { message_id } })
        }
        _ => return Err(Failure::new(Code::UnknownType, "this server does not know the frame's type")),
    };
    Ok(ClientFrame::Act { conversation_id, act: Box::new(act) })
}

fn conversation(envelope: &Envelope<'_>) -> Result<ConversationId, Failure> {
    #[derive(Deserialize)]
    struct Conversation {
        conversation_id: ConversationId,
    }
    Ok(payload::<Conversation>(envelope)?.conversation_id)
}

fn payload<'a, T: Deserialize<'a>>(envelope: &Envelope<'a>) -> Result<T, Failure> {
    let raw = envelope.payload.map_or("{}", RawValue::get);
    serde_json::from_str(raw).map_err(|error| Failure::invalid("payload", describe(&error)))
}

/// What serde says, without the value that it quotes: that is the client's and may be private.
pub fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.split_once(": ") {
        Some((kind, rest)) if kind.starts_with("invalid") => {
            let expected = rest.split_once(", expected ").map_or("", |(_, expected)| expected);
            format!("{kind}, expected {expected}")
        }
        _ => text,
    }
}

/// A new message, and when it is to be sent.
type Sending = (Box<NewMessage>, Option<Timestamp>);

fn message(envelope: &Envelope<'_>, id: Option<EntryId>, limits: &Limits) -> Result<Sending, Failure> {
    let id = id.ok_or_else(|| Failure::invalid("id", "is required"))?;
    let fields = payload::<MessageFields>(envelope)?;
    let send_at = fields.send_at;
    Ok((Box::new(fields.check(id, limits)?), send_at))
}

fn target(envelope: &Envelope<'_>) -> Result<uuid::Uuid, Failure> {
    let meta: ClientMeta = match envelope.meta {
        Some(raw) => serde_json::from_str(raw.get()).map_err(|error| Failure::invalid("meta", describe(&error)))?,
        None => ClientMeta::default(),
    };
    meta.target_id.ok_or_else(|| Failure::invalid("meta.target_id", "is required"))
}

fn print(r#type: &str, id: Option<EntryId>, payload: &serde_json::Value) -> String {
    json!({"type": r#type, "id": id, "payload": payload, "meta": {}}).to_string()
}

/// First frame on every connection.
pub fn connected(
    connection_id: ConnectionId,
    user_id: UserId,
    device_id: DeviceId,
    heartbeat_interval_ms: u64,
    server_time: Timestamp,
    incarnation: &str,
) -> String {
    let payload = json!({
        "event": "connected", "connection_id": connection_id, "user_id": user_id, "device_id": device_id,
        "heartbeat_interval_ms": heartbeat_interval_ms, "server_time": server_time, "incarnation": incarnation,
    });
    print("connection_event", None, &payload)
}

/// The access token ends soon.
pub fn token_expiring(expires_in_ms: u64) -> String {
    print("connection_event", None, &json!({"event": "token_expiring", "expires_in_ms": expires_in_ms}))
}

/// A planned stop.
pub fn draining(reconnect_after_ms: u64) -> String {
    print("connection_event", None, &json!({"event": "draining", "reconnect_after_ms": reconnect_after_ms}))
}

/// The server is not sure to be up to date (`true`), or is again (`false`).
pub fn degraded(is_degraded: bool) -> String {
    print("connection_event", None, &json!({"event": if is_degraded { "degraded" } else { "restored" }}))
}

/// A stored entry is acknowledged.
pub fn ack_entry(id: EntryId, conversation_id: ConversationId, seq: u64, sent_at: Timestamp) -> String {
    #[derive(Serialize)]
    struct Payload {
        conversation_id: ConversationId,
        seq: u64,
        sent_at: Timestamp,
    }
    #[derive(Serialize)]
    struct Ack {
        r#type: &'static str,
        id: EntryId,
        payload: Payload,
        meta: Empty,
    }
    let ack = Ack { r#type: "ack", id, payload: Payload { conversation_id, seq, sent_at }, meta: Empty {} };
    serde_json::to_string(&ack).unwrap_or_default()
}

#[derive(Serialize)]
struct Empty {}

/// Anything else is acknowledged.
pub fn ack(id: EntryId) -> String {
    print("ack", Some(id), &json!({}))
}

/// Answer to `ping`.
pub fn pong(id: Option<EntryId>) -> String {
    print("pong", id, &json!({}))
}

/// `delivery_receipt` or `read_receipt`.
pub fn receipt(receipt: &Receipt) -> String {
    #[derive(Serialize)]
    struct Payload {
        conversation_id: ConversationId,
        user_id: UserId,
        #[serde(skip_serializing_if = "Option::is_none")]
        device_id: Option<DeviceId>,
        seq: u64,
        at: Timestamp,
    }
    let &Receipt { kind, conversation_id, user_id, device_id, seq, at } = receipt;
    let name = match kind {
        ReceiptKind::Delivered => "delivery_receipt",
        ReceiptKind::Read => "read_receipt",
    };
    print(name, None, &json!(Payload { conversation_id, user_id, device_id, seq, at }))
}

/// `typing_indicator`.
pub fn typing(typing: &Typing) -> String {
    print("typing_indicator", None, &json!(typing))
}

/// `status_update`.
pub fn status_update(status: &UserStatus) -> String {
    #[derive(Serialize)]
    struct Payload<'a> {
        user_id: UserId,
        status: PresenceStatus,
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        last_seen_at: Option<Timestamp>,
    }
    let &UserStatus { user_id, status, ref text, last_seen_at } = status;
    print("status_update", None, &json!(Payload { user_id, status, text: text.as_deref(), last_seen_at }))
}

/// A message of this device's queue.
pub fn device_message(message: &DeviceMessage) -> String {
    print("device_message", None, &json!(message))
}

/// The periodic sign of life; `digest` as docs/protocol.md, section 3, defines it.
pub fn heartbeat(digest: Option<u64>, device_seq: u64) -> String {
    let payload = match digest {
        Some(digest) => json!({"digest": format!("{digest:016x}"), "device_seq": device_seq}),
        None => json!({"device_seq": device_seq}),
    };
    print("heartbeat", None, &payload)
}

/// `notification` `conversation_joined`.
pub fn conversation_joined(conversation_id: ConversationId, seq: u64) -> String {
    let payload = json!({"event": "conversation_joined", "conversation_id": conversation_id, "seq": seq});
    print("notification", None, &payload)
}

/// `notification` `conversation_left`.
pub fn conversation_left(conversation_id: ConversationId, seq: u64) -> String {
    let payload = json!({"event": "conversation_left", "conversation_id": conversation_id, "seq": seq});
    print("notification", None, &payload)
}

/// `notification` `member_changed`: in a channel whose head is `seq`.
pub fn channel_member_changed(conversation_id: ConversationId, seq: u64, content: &MemberContent) -> String {
    #[derive(Serialize)]
    struct Payload<'a> {
        event: &'static str,
        conversation_id: ConversationId,
        seq: u64,
        #[serde(flatten)]
        content: &'a MemberContent,
    }
    print("notification", None, &json!(Payload { event: "member_changed", conversation_id, seq, content }))
}

/// `notification` `message_hidden`: the user has deleted it for themselves.
pub fn message_hidden(conversation_id: ConversationId, message_id: EntryId) -> String {
    let payload = json!({"event": "message_hidden", "conversation_id": conversation_id, "message_id": message_id});
    print("notification", None, &payload)
}

/// One reaction and how often it was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[expect(missing_docs, reason = "the names are the wire's")]
pub struct ReactionCount {
    pub reaction: String,
    pub count: u64,
}

/// `reactions_changed`: in a channel, now and then.
pub fn reactions_changed(conversation_id: ConversationId, message_id: EntryId, reactions: &[ReactionCount]) -> String {
    let payload = json!({"conversation_id": conversation_id, "message_id": message_id, "reactions": reactions});
    print("reactions_changed", None, &payload)
}

/// `notification` `scheduled_sent`, `schedule_stale` or `schedule_failed`.
pub fn scheduled(message_id: EntryId, event: ScheduledEvent) -> String {
    print("notification", None, &json!({"event": event, "message_id": message_id}))
}

/// `notification` `settings_changed`: the user's own of a conversation.
pub fn settings_changed(conversation_id: ConversationId, settings: &Map<String, Value>) -> String {
    let payload = json!({"event": "settings_changed", "conversation_id": conversation_id, "settings": settings});
    print("notification", None, &payload)
}

/// `notification` `device_messages_expired`.
pub fn device_messages_expired(up_to: u64) -> String {
    print("notification", None, &json!({"event": "device_messages_expired", "up_to": up_to}))
}

/// One conversation in `sync_complete`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[expect(missing_docs, reason = "the names are the wire's; docs/protocol.md, section 3, explains them")]
pub struct SyncedConversation {
    pub conversation_id: ConversationId,
    pub first_seq: u64,
    pub starts_at: u64,
    pub last_seq: u64,
    pub sent_up_to: u64,
    pub has_more: bool,
}

/// The queue of device messages in `sync_complete`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SyncedQueue {
    /// The queue's last seq.
    pub last_seq: u64,
    /// The queue could not be read in time: what waits follows by itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_more: bool,
}

/// Everything up to the moment of the `sync` has been sent, or `has_more` says where it has not.
pub fn sync_complete(id: Option<EntryId>, conversations: &[SyncedConversation], queue: SyncedQueue) -> String {
    let payload = json!({"conversations": conversations, "device_messages": queue});
    print("sync_complete", id, &payload)
}
