//! Frames to the server, as texts.

use std::{collections::HashMap, fmt};

use base64::{Engine, engine::general_purpose::STANDARD};
use entrenous_model::{ConversationId, EntryId, MediaId, UserId};
use entrenous_protocol::{
    Act, RawValue,
    act::NewEdit,
    device_message::NewDeviceMessage,
    entry::MessageType,
    message::{ContentFields, TextFormat},
    status::StatusChoice,
};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// Where a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// To a person: the direct conversation is created at need.
    User(UserId),
    /// Into a conversation of any kind.
    Conversation(ConversationId),
}

/// A new message.
#[derive(Serialize)]
pub struct OutgoingMessage {
    /// Made by the client as `UUIDv7`: the idempotency key.
    pub id: EntryId,
    /// What it is.
    pub message_type: MessageType,
    /// Ciphertext, or text where the conversation is not encrypted.
    pub content: ContentFields,
    /// The message that this one answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<EntryId>,
    /// The message whose thread this one stands in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<EntryId>,
    /// Media named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<MediaId>,
    /// Users named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<UserId>,
    /// An object of the client's.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
    /// Ed25519 by the device, base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

/// Prints the id, never content.
impl fmt::Debug for OutgoingMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutgoingMessage").field("id", &self.id).finish_non_exhaustive()
    }
}

const NO_CONTENT: ContentFields = ContentFields {
    scheme: None,
    ciphertext: None,
    nonce: None,
    session_id: None,
    epoch: None,
    text: None,
    format: None,
};

impl OutgoingMessage {
    /// Clear text, for conversations without encryption.
    pub fn text(id: EntryId, text: impl Into<String>) -> Self {
        Self::new(id, ContentFields { text: Some(text.into()), format: Some(TextFormat::Plain), ..NO_CONTENT })
    }

    /// Ciphertext of a scheme of the caller's.
    pub fn sealed(id: EntryId, scheme: impl Into<String>, ciphertext: &[u8]) -> Self {
        let ciphertext = Some(STANDARD.encode(ciphertext));
        Self::new(id, ContentFields { scheme: Some(scheme.into()), ciphertext, ..NO_CONTENT })
    }

    /// Any content.
    pub fn new(id: EntryId, content: ContentFields) -> Self {
        Self {
            id,
            message_type: MessageType::Text,
            content,
            reply_to: None,
            thread_id: None,
            attachments: Vec::new(),
            mentions: Vec::new(),
            metadata: Map::new(),
            signature: None,
        }
    }

    /// The frame that sends it.
    pub fn frame(&self, target: Target) -> String {
        #[derive(Serialize)]
        struct Meta {
            target_id: uuid::Uuid,
        }
        #[derive(Serialize)]
        struct Frame<'a> {
            r#type: &'static str,
            id: EntryId,
            payload: &'a OutgoingMessage,
            meta: Meta,
        }
        let (r#type, target_id) = match target {
            Target::User(user_id) => ("chat_message", user_id.as_uuid()),
            Target::Conversation(conversation_id) => ("group_message", conversation_id.as_uuid()),
        };
        let frame = Frame { r#type, id: self.id, payload: self, meta: Meta { target_id } };
        // Strings, numbers and maps with text keys always print.
        serde_json::to_string(&frame).unwrap_or_default()
    }
}

/// Where a `sync` begins.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SyncStart {
    /// Per conversation the last seq that the client has.
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    pub cursors: HashMap<ConversationId, u64>,
    /// Where conversations without a cursor begin; absent: after what the device acknowledged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<SyncFrom>,
    /// Entries a conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Where conversations without a cursor begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncFrom {
    /// At the head.
    Now,
    /// At the first entry that the user may read.
    Start,
}

/// `authenticate`: as first frame, or to renew before the token ends.
pub fn authenticate(id: Option<EntryId>, token: &str) -> String {
    print("authenticate", id, &json!({"token": token}))
}

/// `sync`.
pub fn sync(id: EntryId, start: &SyncStart) -> String {
    print("sync", Some(id), &json!(start))
}

/// `ping`.
pub fn ping(id: EntryId) -> String {
    print("ping", Some(id), &json!({}))
}

/// `typing_indicator`.
pub fn typing(id: Option<EntryId>, conversation_id: ConversationId, typing: bool) -> String {
    print("typing_indicator", id, &json!({"conversation_id": conversation_id, "typing": typing}))
}

/// `status_update`: what the user shows while they are there.
pub fn status_update(id: Option<EntryId>, choice: &StatusChoice) -> String {
    print("status_update", id, &json!(choice))
}

/// `watch_status`: the connection is told the status of these users, now and when it changes.
pub fn watch_status(id: Option<EntryId>, user_ids: &[UserId]) -> String {
    print("watch_status", id, &json!({"user_ids": user_ids}))
}

/// `unwatch_status`: and no longer.
pub fn unwatch_status(id: Option<EntryId>, user_ids: &[UserId]) -> String {
    print("unwatch_status", id, &json!({"user_ids": user_ids}))
}

/// `read_receipt`: everything up to `seq` was read.
pub fn read_receipt(id: Option<EntryId>, conversation_id: ConversationId, seq: u64) -> String {
    print("read_receipt", id, &json!({"conversation_id": conversation_id, "seq": seq}))
}

/// `delivery_receipt`: everything up to `seq` is on this device.
pub fn delivery_receipt(id: Option<EntryId>, conversation_id: ConversationId, seq: u64) -> String {
    print("delivery_receipt", id, &json!({"conversation_id": conversation_id, "seq": seq}))
}

/// `device_message`: all or nothing. Refused where it misses a device of `complete_for`.
pub fn device_message(id: EntryId, messages: &[NewDeviceMessage], complete_for: Option<UserId>) -> String {
    match complete_for {
        Some(user) => print("device_message", Some(id), &json!({"messages": messages, "complete_for": user})),
        None => print("device_message", Some(id), &json!({"messages": messages})),
    }
}

/// `device_message_ack`: device messages up to here are on this device.
pub fn device_message_ack(id: Option<EntryId>, up_to: u64) -> String {
    print("device_message_ack", id, &json!({"up_to": up_to}))
}

/// The frame that joins a public conversation, or leaves one.
pub fn membership(id: Option<EntryId>, conversation_id: ConversationId, is_join: bool) -> String {
    let name = if is_join { "join_conversation" } else { "leave_conversation" };
    print(name, id, &json!({"conversation_id": conversation_id}))
}

/// The frame of an act on a message.
pub fn act(id: Option<EntryId>, conversation_id: ConversationId, act: &Act) -> String {
    let message_id = act.message_id();
    let mut payload = json!({"conversation_id": conversation_id, "message_id": message_id});
    let name = match act {
        Act::Edit(edit) => {
            payload["content"] = json!(edit.content);
            if let Some(metadata) = &edit.metadata {
                payload["metadata"] = json!(metadata);
            }
            if let Some(signature) = &edit.signature {
                payload["signature"] = json!(signature);
            }
            "edit_message"
        }
        Act::Delete { scope, .. } => {
            payload["scope"] = json!(scope);
            "delete_message"
        }
        Act::React(reaction) | Act::Unreact(reaction) => {
            payload["reaction"] = json!(reaction.reaction);
            if matches!(act, Act::React(_)) { "add_reaction" } else { "remove_reaction" }
        }
        Act::Pin { .. } => "pin_message",
        Act::Unpin { .. } => "unpin_message",
    };
    print(name, id, &payload)
}

/// New clear text for a message.
pub fn edit_to_text(message_id: EntryId, text: &str) -> Act {
    edit_to(message_id, &json!({"text": text}), false)
}

/// New ciphertext for a message.
pub fn edit_to_sealed(message_id: EntryId, scheme: &str, ciphertext: &[u8]) -> Act {
    edit_to(message_id, &json!({"scheme": scheme, "ciphertext": STANDARD.encode(ciphertext)}), true)
}

fn edit_to(message_id: EntryId, content: &Value, is_sealed: bool) -> Act {
    let content = serde_json::value::to_raw_value(content).unwrap_or_else(|_| RawValue::NULL.to_owned());
    Act::Edit(NewEdit { message_id, content, is_sealed, metadata: None, signature: None })
}

/// `subscribe`: lifts `unsubscribe`.
pub fn subscribe(id: EntryId, conversation_ids: &[ConversationId]) -> String {
    print("subscribe", Some(id), &json!({"conversation_ids": conversation_ids}))
}

/// `unsubscribe`: pauses conversations on this connection.
pub fn unsubscribe(id: EntryId, conversation_ids: &[ConversationId]) -> String {
    print("unsubscribe", Some(id), &json!({"conversation_ids": conversation_ids}))
}

/// Any frame.
pub fn print(r#type: &str, id: Option<EntryId>, payload: &Value) -> String {
    match id {
        Some(id) => json!({"type": r#type, "id": id, "payload": payload}),
        None => json!({"type": r#type, "payload": payload}),
    }
    .to_string()
}

#[cfg(test)]
mod tests {
    use entrenous_protocol::{
        Limits,
        act::{DeleteScope, Reaction},
        frame::{ClientFrame, parse},
    };

    use super::*;

    fn id(number: u128) -> EntryId {
        uuid::Uuid::from_u128(number).into()
    }

    #[test]
    fn the_server_takes_what_is_printed() {
        let conversation = ConversationId::from(uuid::Uuid::from_u128(9));
        let limits = Limits::default();
        let parse = |text: &str| parse(text, &limits).unwrap();
        let text = OutgoingMessage::text(id(1), "hi").frame(Target::Conversation(conversation));
        assert!(matches!(parse(&text), (Some(at), ClientFrame::GroupMessage { message, .. })
            if at == id(1) && !message.is_sealed));
        let sealed = OutgoingMessage::sealed(id(2), "mls", b"secret").frame(Target::User(uuid::Uuid::nil().into()));
        assert!(matches!(parse(&sealed).1, ClientFrame::ChatMessage { message, .. } if message.is_sealed));
        let start = SyncStart { cursors: [(conversation, 7)].into(), from: Some(SyncFrom::Now), limit: Some(5) };
        assert!(matches!(parse(&sync(id(3), &start)).1, ClientFrame::Sync(sync)
            if sync.cursors[&conversation] == 7 && sync.limit == Some(5)));
        assert!(matches!(parse(&sync(id(3), &SyncStart::default())).1, ClientFrame::Sync(sync) if sync.from.is_none()));
        assert!(matches!(parse(&ping(id(4))).1, ClientFrame::Ping));
        assert!(matches!(parse(&authenticate(None, "t")), (None, ClientFrame::Authenticate { token }) if token == "t"));
        let edit = edit_to_sealed(id(1), "mls", b"other");
        assert!(matches!(parse(&act(Some(id(6)), conversation, &edit)), (Some(at), ClientFrame::Act { act, .. })
            if at == id(6) && matches!(&*act, Act::Edit(edit) if edit.is_sealed && edit.message_id == id(1))));
        for simple in [
            Act::Delete { message_id: id(1), scope: DeleteScope::Me },
            Act::React(Reaction { message_id: id(1), reaction: "👍".to_owned() }),
            Act::Unreact(Reaction { message_id: id(1), reaction: "👍".to_owned() }),
            Act::Pin { message_id: id(1) },
            Act::Unpin { message_id: id(1) },
        ] {
            let ClientFrame::Act { act: taken, .. } = parse(&act(None, conversation, &simple)).1 else { panic!() };
            assert_eq!(format!("{taken:?}"), format!("{simple:?}"));
        }
        let receipt = delivery_receipt(None, conversation, 3);
        assert!(matches!(parse(&receipt).1, ClientFrame::DeliveryReceipt { seq: 3, .. }));
        assert!(matches!(parse(&unsubscribe(id(5), &[conversation])).1, ClientFrame::Unsubscribe { .. }));
    }
}
