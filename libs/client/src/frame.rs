//! Frames from the server: typed, or only their head.

use std::borrow::Cow;

use entrenous_model::{ConnectionId, ConversationId, DeviceId, EntryId, Timestamp, UserId};
use entrenous_protocol::{
    Entry,
    device_message::DeviceMessage,
    frame::{SyncedConversation, SyncedQueue},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::Refusal;

/// A frame from the server.
#[derive(Debug, Clone)]
pub struct ServerFrame {
    /// The client's id in what answers it; the entry's id in what shows an entry.
    pub id: Option<EntryId>,
    /// What it says.
    pub body: Body,
}

/// What a frame says.
#[derive(Debug, Clone)]
pub enum Body {
    /// First of all.
    Connected(Connected),
    /// The access token ends soon.
    TokenExpiring {
        /// When.
        expires_in_ms: u64,
    },
    /// A planned stop of the server.
    Draining {
        /// When to come back.
        reconnect_after_ms: u64,
    },
    /// The server is not sure to be up to date.
    Degraded,
    /// The server is up to date again.
    Restored,
    /// A frame of the client's has taken effect.
    Ack(Option<Stored>),
    /// A frame of the client's was refused.
    Error(Box<Refusal>),
    /// An entry of a conversation's log.
    Entry(Box<Entry>),
    /// A message of this device's queue.
    DeviceMessage(Box<DeviceMessage>),
    /// Delivery receipt.
    Delivered(Receipt),
    /// Read receipt.
    Read(Receipt),
    /// Somebody types, or no longer does.
    Typing(Typing),
    /// A user's status.
    Status(Status),
    /// A note about conversations, keys, devices or from the operator.
    Notification(Notification),
    /// The periodic sign of life.
    Heartbeat(Heartbeat),
    /// A `sync` is done.
    SyncComplete(SyncComplete),
    /// Answer to `ping`.
    Pong,
    /// A type that this client does not know, or whose payload it cannot read.
    Unknown {
        /// The type.
        r#type: String,
        /// The payload as it came.
        payload: Box<RawValue>,
    },
}

/// Payload of `connection_event` `connected`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "the names are the wire's; docs/protocol.md, section 3, explains them")]
pub struct Connected {
    pub connection_id: ConnectionId,
    pub user_id: UserId,
    pub device_id: DeviceId,
    pub heartbeat_interval_ms: u64,
    pub server_time: Timestamp,
    pub incarnation: String,
}

/// Payload of the `ack` of a stored entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "the names are the wire's; docs/protocol.md, section 3, explains them")]
pub struct Stored {
    pub conversation_id: ConversationId,
    pub seq: u64,
    pub sent_at: Timestamp,
}

/// Payload of `delivery_receipt` and `read_receipt`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "the names are the wire's; docs/protocol.md, section 3, explains them")]
pub struct Receipt {
    pub conversation_id: ConversationId,
    pub user_id: UserId,
    pub device_id: Option<DeviceId>,
    pub seq: u64,
    pub at: Timestamp,
}

/// Payload of `typing_indicator`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "the names are the wire's; docs/protocol.md, section 3, explains them")]
pub struct Typing {
    pub conversation_id: ConversationId,
    pub user_id: UserId,
    pub typing: bool,
}

/// Payload of `status_update`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "the names are the wire's; docs/protocol.md, section 3, explains them")]
pub struct Status {
    pub user_id: UserId,
    pub status: String,
    pub text: Option<String>,
    pub last_seen_at: Option<Timestamp>,
}

/// Payload of `notification`.
#[derive(Debug, Clone)]
pub struct Notification {
    /// Which: `conversation_joined`, `conversation_left`, `system`, …
    pub event: String,
    /// The conversation concerned, where there is one.
    pub conversation_id: Option<ConversationId>,
    /// The seq concerned, where there is one.
    pub seq: Option<u64>,
    /// The payload as it came.
    pub payload: Box<RawValue>,
}

/// Payload of `heartbeat`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "the names are the wire's; docs/protocol.md, section 3, explains them")]
pub struct Heartbeat {
    pub digest: Option<String>,
    #[serde(default)]
    pub device_seq: u64,
}

/// Payload of `sync_complete`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SyncComplete {
    /// Those that sent something or have more.
    pub conversations: Vec<SyncedConversation>,
    /// The queue of device messages.
    #[serde(default)]
    pub device_messages: SyncedQueue,
}

/// A text that is no frame.
#[derive(Debug, thiserror::Error)]
#[error("the server sent something that is no frame")]
pub struct FrameError {
    #[from]
    source: serde_json::Error,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
}

/// Reads a frame. What it cannot read inside a frame stays raw.
///
/// # Errors
/// When the text is no frame at all.
pub fn parse(text: &str) -> Result<ServerFrame, FrameError> {
    let envelope: Envelope<'_> = serde_json::from_str(text)?;
    let id = envelope.id.as_deref().and_then(|id| id.parse().ok());
    let payload = envelope.payload.map_or("{}", RawValue::get);
    let body = parse_body(&envelope.r#type, payload).unwrap_or_else(|| Body::Unknown {
        r#type: envelope.r#type.into_owned(),
        payload: envelope.payload.unwrap_or(RawValue::NULL).to_owned(),
    });
    Ok(ServerFrame { id, body })
}

fn parse_body(r#type: &str, payload: &str) -> Option<Body> {
    Some(match r#type {
        "chat_message"
        | "group_message"
        | "message_edited"
        | "message_deleted"
        | "reaction_added"
        | "reaction_removed"
        | "message_pinned"
        | "message_unpinned"
        | "member_changed"
        | "conversation_updated" => Body::Entry(read(payload)?),
        "ack" => Body::Ack(read(payload)),
        "error" => Body::Error(Box::new(Refusal::from_frame(payload).ok()?)),
        "heartbeat" => Body::Heartbeat(read(payload)?),
        "sync_complete" => Body::SyncComplete(read(payload)?),
        "pong" => Body::Pong,
        "device_message" => Body::DeviceMessage(read(payload)?),
        "delivery_receipt" => Body::Delivered(read(payload)?),
        "read_receipt" => Body::Read(read(payload)?),
        "typing_indicator" => Body::Typing(read(payload)?),
        "status_update" => Body::Status(read(payload)?),
        "notification" => Body::Notification(parse_notification(payload)?),
        "connection_event" => parse_connection_event(payload)?,
        _ => return None,
    })
}

fn read<T: DeserializeOwned>(payload: &str) -> Option<T> {
    serde_json::from_str(payload).ok()
}

fn parse_notification(payload: &str) -> Option<Notification> {
    #[derive(Deserialize)]
    struct Known {
        event: String,
        #[serde(default)]
        conversation_id: Option<ConversationId>,
        #[serde(default)]
        seq: Option<u64>,
    }
    let Known { event, conversation_id, seq } = read(payload)?;
    Some(Notification { event, conversation_id, seq, payload: read(payload)? })
}

fn parse_connection_event(payload: &str) -> Option<Body> {
    #[derive(Deserialize)]
    struct Known {
        event: String,
        #[serde(default)]
        expires_in_ms: u64,
        #[serde(default)]
        reconnect_after_ms: u64,
    }
    let Known { event, expires_in_ms, reconnect_after_ms } = read(payload)?;
    Some(match event.as_str() {
        "connected" => Body::Connected(read(payload)?),
        "token_expiring" => Body::TokenExpiring { expires_in_ms },
        "draining" => Body::Draining { reconnect_after_ms },
        "degraded" => Body::Degraded,
        "restored" => Body::Restored,
        _ => return None,
    })
}

/// What a frame is, as far as its head tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadKind {
    /// `ack`.
    Ack,
    /// `error`.
    Error,
    /// An entry of a log.
    Entry,
    /// `sync_complete`.
    SyncComplete,
    /// `pong`.
    Pong,
    /// `connection_event`.
    ConnectionEvent,
    /// Anything else.
    Other,
}

/// The head of a frame: cheap to read, nothing is allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// What it is.
    pub kind: HeadKind,
    /// The client's id in what answers it; the entry's id in what shows an entry.
    pub id: Option<EntryId>,
    /// The conversation, where the payload names one.
    pub conversation_id: Option<ConversationId>,
    /// The seq, where the payload names one.
    pub seq: Option<u64>,
}

/// Reads type, id, conversation and seq, and skips the rest.
///
/// # Errors
/// When the text is no frame.
pub fn head(text: &str) -> Result<Head, FrameError> {
    #[derive(Deserialize, Default)]
    struct Payload {
        #[serde(default)]
        conversation_id: Option<ConversationId>,
        #[serde(default)]
        seq: Option<u64>,
    }
    #[derive(Deserialize)]
    struct Outline<'a> {
        #[serde(borrow)]
        r#type: Cow<'a, str>,
        #[serde(borrow, default)]
        id: Option<Cow<'a, str>>,
        #[serde(default)]
        payload: Payload,
    }
    let outline: Outline<'_> = serde_json::from_str(text)?;
    Ok(Head {
        kind: head_kind(&outline.r#type),
        id: outline.id.and_then(|id| id.parse().ok()),
        conversation_id: outline.payload.conversation_id,
        seq: outline.payload.seq,
    })
}

fn head_kind(r#type: &str) -> HeadKind {
    match r#type {
        "chat_message"
        | "group_message"
        | "message_edited"
        | "message_deleted"
        | "reaction_added"
        | "reaction_removed"
        | "message_pinned"
        | "message_unpinned"
        | "member_changed"
        | "conversation_updated" => HeadKind::Entry,
        "ack" => HeadKind::Ack,
        "error" => HeadKind::Error,
        "sync_complete" => HeadKind::SyncComplete,
        "pong" => HeadKind::Pong,
        "connection_event" => HeadKind::ConnectionEvent,
        _ => HeadKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use entrenous_protocol::{Code, Failure, frame as server};

    use super::*;

    const ID: &str = "01900000-0000-7000-8000-000000000001";

    fn id<T: From<uuid::Uuid>>() -> T {
        ID.parse::<uuid::Uuid>().unwrap().into()
    }

    fn at() -> Timestamp {
        serde_json::from_str("\"2026-11-20T10:30:00.123Z\"").unwrap()
    }

    #[test]
    fn what_the_server_prints_is_understood() {
        let body = |text: &str| parse(text).unwrap().body;
        let connected = server::connected(id(), id(), id(), 30_000, at(), "7");
        assert!(matches!(body(&connected), Body::Connected(Connected { heartbeat_interval_ms: 30_000, .. })));
        let ack = parse(&server::ack_entry(id(), id(), 42, at())).unwrap();
        assert_eq!(ack.id, Some(id()));
        assert!(matches!(ack.body, Body::Ack(Some(Stored { seq: 42, .. }))));
        assert!(matches!(body(&server::ack(id())), Body::Ack(None)));
        assert!(matches!(body(&server::pong(None)), Body::Pong));
        assert!(matches!(body(&server::draining(5)), Body::Draining { reconnect_after_ms: 5 }));
        assert!(matches!(body(&server::degraded(true)), Body::Degraded));
        assert!(matches!(body(&server::heartbeat(Some(3), 0)), Body::Heartbeat(Heartbeat { digest: Some(_), .. })));
        assert!(matches!(body(&server::conversation_left(id(), 9)), Body::Notification(note)
            if note.event == "conversation_left" && note.seq == Some(9)));
        let error = Failure::new(Code::NotFound, "d").frame(Some(id()));
        assert!(matches!(body(&error), Body::Error(refusal) if refusal.is(Code::NotFound)));
        assert!(matches!(
            body(&server::sync_complete(None, &[], server::SyncedQueue::default())),
            Body::SyncComplete(_)
        ));
    }

    #[test]
    fn what_is_not_known_stays_raw() {
        for (text, kind) in [
            (r#"{"type":"new_thing","payload":{"a":1}}"#, "new_thing"),
            (r#"{"type":"chat_message","payload":{"seq":"x"}}"#, "chat_message"),
        ] {
            assert!(matches!(parse(text).unwrap().body, Body::Unknown { r#type, .. } if r#type == kind));
        }
        assert!(parse("[]").is_err());
        assert!(parse(r#"{"type":"heartbeat","id":null}"#).unwrap().id.is_none());
    }

    #[test]
    fn the_head_agrees_with_the_whole() {
        let ack = head(&server::ack_entry(id(), id(), 42, at())).unwrap();
        assert_eq!(ack, Head { kind: HeadKind::Ack, id: Some(id()), conversation_id: Some(id()), seq: Some(42) });
        let pong = head(&server::pong(None)).unwrap();
        assert_eq!(pong, Head { kind: HeadKind::Pong, id: None, conversation_id: None, seq: None });
        assert!(head("{").is_err());
    }
}
