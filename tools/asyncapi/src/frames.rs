//! The payloads of WebSocket frames. Where the protocol has a type for one, that type is taken; the others are printed
//! field by field there, and the tests hold what is printed against what stands here.
#![expect(missing_docs, reason = "the names are the wire's; docs/protocol.md explains them")]

use entrenous_model::{ConnectionId, ConversationId, DeviceId, EntryId, Timestamp, UserId};
use entrenous_protocol::{
    Entry, FieldError,
    act::{DeletePayload, EditPayload, PinPayload, ReactionPayload},
    device_message::{DeviceMessage, DeviceMessageFields},
    entry::{MemberChange, Role},
    frame::{ReactionCount, SyncRequest, SyncedConversation, SyncedQueue},
    message::MessageFields,
    status::{PresenceStatus, StatusChoice},
};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde_json::{Map, Value};

/// A token: first frame, or a renewal.
#[derive(Deserialize, JsonSchema)]
pub struct Authenticate {
    pub token: String,
}

/// Everything up to `seq`.
#[derive(Deserialize, JsonSchema)]
pub struct Position {
    pub conversation_id: ConversationId,
    pub seq: u64,
}

/// Somebody received or read everything up to `seq`.
#[derive(Deserialize, JsonSchema)]
pub struct Receipt {
    pub conversation_id: ConversationId,
    pub user_id: UserId,
    /// Only the user's own connections are told.
    pub device_id: Option<DeviceId>,
    pub seq: u64,
    pub at: Timestamp,
}

/// The user is typing, or no longer.
#[derive(Deserialize, JsonSchema)]
pub struct TypingIndicator {
    pub conversation_id: ConversationId,
    pub typing: bool,
}

/// Everything up to here.
#[derive(Deserialize, JsonSchema)]
pub struct UpTo {
    pub up_to: u64,
}

/// Which users.
#[derive(Deserialize, JsonSchema)]
pub struct Users {
    pub user_ids: Vec<UserId>,
}

/// What a user shows. Of whom the user of the connection may not see: `offline` without a time.
#[derive(Deserialize, JsonSchema)]
pub struct StatusUpdate {
    pub user_id: UserId,
    pub status: PresenceStatus,
    pub text: Option<String>,
    pub last_seen_at: Option<Timestamp>,
}

/// Which conversation.
#[derive(Deserialize, JsonSchema)]
pub struct Conversation {
    pub conversation_id: ConversationId,
}

/// Which conversations.
#[derive(Deserialize, JsonSchema)]
pub struct Conversations {
    pub conversation_ids: Vec<ConversationId>,
}

/// Nothing.
#[derive(Deserialize, JsonSchema)]
pub struct Empty {}

/// About the connection itself.
#[derive(Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum ConnectionEvent {
    /// First of all.
    Connected {
        connection_id: ConnectionId,
        user_id: UserId,
        device_id: DeviceId,
        heartbeat_interval_ms: u64,
        server_time: Timestamp,
        /// Changes only when the server was restored from a backup: then forget all cursors and sync anew.
        incarnation: String,
    },
    /// The access token ends soon.
    TokenExpiring { expires_in_ms: u64 },
    /// A planned stop.
    Draining { reconnect_after_ms: u64 },
    /// The server is not sure to be up to date.
    Degraded,
    /// It is up to date again.
    Restored,
}

/// What was stored; without members for a frame that stores nothing.
#[derive(Deserialize, JsonSchema)]
pub struct Ack {
    pub conversation_id: Option<ConversationId>,
    pub seq: Option<u64>,
    pub sent_at: Option<Timestamp>,
}

/// Why a frame of the client's was refused. Some codes come with further members.
#[derive(Deserialize, JsonSchema)]
pub struct Error {
    pub code: String,
    pub title: String,
    pub detail: String,
    pub errors: Option<Vec<FieldError>>,
    pub retry_after_ms: Option<u64>,
}

/// A sign of life.
#[derive(Deserialize, JsonSchema)]
pub struct Heartbeat {
    /// 16 hexadecimal digits; docs/protocol.md, section 3, says of what.
    pub digest: Option<String>,
    pub device_seq: u64,
}

/// Something that happened to the user.
#[derive(Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Notification {
    /// The user is a member from `seq` on.
    ConversationJoined { conversation_id: ConversationId, seq: u64 },
    /// The user was a member up to `seq`, or the conversation ended there.
    ConversationLeft { conversation_id: ConversationId, seq: u64 },
    /// Somebody joined or left a channel whose head is `seq`; told to those who look after its members.
    MemberChanged {
        conversation_id: ConversationId,
        seq: u64,
        user_id: UserId,
        change: MemberChange,
        role: Option<Role>,
        by: UserId,
    },
    /// The user has deleted this message for themselves, on another device or this one.
    MessageHidden { conversation_id: ConversationId, message_id: EntryId },
    /// A message that the user had scheduled was sent.
    ScheduledSent { message_id: EntryId },
    /// It was not, because its content is of an epoch that is over.
    ScheduleStale { message_id: EntryId },
    /// It could not be sent.
    ScheduleFailed { message_id: EntryId },
    /// The user's own settings of a conversation are these now; told once to each device that is there.
    SettingsChanged { conversation_id: ConversationId, settings: Map<String, Value> },
    /// Device messages up to here expired before this device acknowledged them. Told at each `sync` until it acknowledges
    /// `up_to`.
    DeviceMessagesExpired { up_to: u64 },
}

/// How often a message of a channel has each reaction now.
#[derive(Deserialize, JsonSchema)]
pub struct ReactionsChanged {
    pub conversation_id: ConversationId,
    pub message_id: EntryId,
    pub reactions: Vec<ReactionCount>,
}

/// Everything up to the moment of the `sync` has been sent, or `has_more` says where it has not.
#[derive(Deserialize, JsonSchema)]
pub struct SyncComplete {
    pub conversations: Vec<SyncedConversation>,
    pub device_messages: SyncedQueue,
}

/// What may stand in a frame's `id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameId {
    /// Always there: the id of what is created, or of the entry.
    Required,
    /// There, or `null`.
    Optional,
}

/// A frame.
pub struct Frame {
    pub name: &'static str,
    pub summary: &'static str,
    pub id: FrameId,
    /// What `meta.target_id` names, where it must be there.
    pub target: Option<&'static str>,
    pub payload: fn(&mut SchemaGenerator) -> Schema,
}

fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

const fn frame(name: &'static str, summary: &'static str, payload: fn(&mut SchemaGenerator) -> Schema) -> Frame {
    Frame { name, summary, id: FrameId::Optional, target: None, payload }
}

const fn message(name: &'static str, summary: &'static str, target: &'static str) -> Frame {
    Frame { name, summary, id: FrameId::Required, target: Some(target), payload: schema::<MessageFields> }
}

const fn entry(name: &'static str, summary: &'static str) -> Frame {
    Frame { name, summary, id: FrameId::Required, target: None, payload: schema::<Entry> }
}

/// What clients send.
pub const FROM_CLIENTS: &[Frame] = &[
    frame("authenticate", "A token: first frame, or later to renew before the token ends.", schema::<Authenticate>),
    message("chat_message", "A message to a person; makes the direct conversation at need.", "the other user"),
    message("group_message", "A message into a conversation of any kind.", "the conversation"),
    Frame {
        id: FrameId::Required,
        ..frame("edit_message", "New content for one's own message; `id` is the edit's.", schema::<EditPayload>)
    },
    frame("delete_message", "Takes a message back, for everyone or for oneself.", schema::<DeletePayload>),
    frame("add_reaction", "Reacts to a message.", schema::<ReactionPayload>),
    frame("remove_reaction", "Takes a reaction back.", schema::<ReactionPayload>),
    frame("pin_message", "Pins a message.", schema::<PinPayload>),
    frame("unpin_message", "Takes a pin away.", schema::<PinPayload>),
    frame(
        "join_conversation",
        "Joins a public group or channel; the `ack` names the entry, in groups. The entry's id is the frame's.",
        schema::<Conversation>,
    ),
    frame("leave_conversation", "Leaves a group or channel, likewise.", schema::<Conversation>),
    frame("delivery_receipt", "Everything up to `seq` is on this device.", schema::<Position>),
    frame("read_receipt", "Everything up to `seq` was read.", schema::<Position>),
    frame("typing_indicator", "The user is typing, or no longer; ends after 6 s by itself.", schema::<TypingIndicator>),
    frame("status_update", "What the user shows while they are there, from now on.", schema::<StatusChoice>),
    frame(
        "watch_status",
        "The connection is told the status of these users, now and when it changes.",
        schema::<Users>,
    ),
    frame("unwatch_status", "And no longer.", schema::<Users>),
    frame("device_message", "Messages for devices, all or nothing.", schema::<DeviceMessageFields>),
    frame("device_message_ack", "Removes what this device has from its queue.", schema::<UpTo>),
    frame("subscribe", "Lifts `unsubscribe`.", schema::<Conversations>),
    frame("unsubscribe", "Pauses conversations on this connection.", schema::<Conversations>),
    frame("sync", "Where to begin; until the first one a connection gets no entries.", schema::<SyncRequest>),
    frame("ping", "Asks for a `pong`.", schema::<Empty>),
];

/// What the server sends.
pub const FROM_SERVER: &[Frame] = &[
    frame("connection_event", "About the connection itself.", schema::<ConnectionEvent>),
    frame("ack", "A frame of the client's, named by its id, has taken effect.", schema::<Ack>),
    frame("error", "A frame of the client's was refused; the connection goes on.", schema::<Error>),
    entry("chat_message", "A message of a direct conversation."),
    entry("group_message", "A message of a group or channel."),
    entry("message_edited", "New content for a message."),
    entry("message_deleted", "A message taken back."),
    entry("reaction_added", "A reaction."),
    entry("reaction_removed", "A reaction taken back."),
    frame("reactions_changed", "In channels: what people reacted, now and then.", schema::<ReactionsChanged>),
    entry("message_pinned", "A message pinned."),
    entry("message_unpinned", "A message no longer pinned."),
    entry("member_changed", "A change of the members."),
    entry("conversation_updated", "A change of the settings."),
    frame(
        "delivery_receipt",
        "Told to the authors of what it covers, and to the user's own devices.",
        schema::<Receipt>,
    ),
    frame("read_receipt", "Told to the authors of what it covers, and to the user's own devices.", schema::<Receipt>),
    frame("typing_indicator", "Somebody is typing, or no longer.", schema::<entrenous_protocol::live::Typing>),
    frame("status_update", "A user that the connection watches shows this.", schema::<StatusUpdate>),
    frame("device_message", "A message of this device's queue.", schema::<DeviceMessage>),
    frame("notification", "Something that happened to the user.", schema::<Notification>),
    frame("heartbeat", "A sign of life, at the interval that `connected` named.", schema::<Heartbeat>),
    frame("sync_complete", "A `sync` is done; stands for its `ack`.", schema::<SyncComplete>),
    frame("pong", "Answers `ping`.", schema::<Empty>),
];
