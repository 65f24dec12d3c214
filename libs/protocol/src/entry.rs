//! An entry of a conversation's log, as clients see it.

use std::fmt;

use entrenous_model::{ConversationId, DeviceId, EntryId, MediaId, Timestamp, UserId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::rest::ConversationPatch;

/// What a conversation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ConversationKind {
    /// Two people.
    Direct,
    /// People who see each other.
    Group,
    /// Large; few post.
    Channel,
}

/// Whether the server can read a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Encryption {
    /// The server takes only ciphertext.
    #[default]
    E2ee,
    /// Clear text.
    None,
}

/// What a member may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads and reacts.
    Reader,
    /// Posts and reacts.
    Member,
    /// Looks after members, settings and messages.
    Moderator,
    /// Everything.
    Owner,
}

/// What an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// Something people read (or, as `control`, their encryption does).
    Message,
    /// New content for a message.
    Edit,
    /// A message taken back.
    Deletion,
    /// A reaction.
    Reaction,
    /// A reaction taken back.
    Unreaction,
    /// A message pinned.
    Pin,
    /// A message no longer pinned.
    Unpin,
    /// A change of the members.
    Member,
    /// A change of the settings.
    Settings,
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum MessageType {
    /// Text.
    #[default]
    Text,
    /// Names media.
    Media,
    /// Shown as a note of the system.
    System,
    /// The encryption protocol's own: not shown, not counted.
    Control,
}

macro_rules! stored_names {
    ($($name:ident { $($variant:ident = $text:literal),* $(,)? })*) => {$(
        impl $name {
            /// The name on the wire and in the database.
            pub const fn as_str(self) -> &'static str {
                match self {$(Self::$variant => $text,)*}
            }

            /// The inverse of [`Self::as_str`].
            pub fn parse(text: &str) -> Option<Self> {
                match text {$($text => Some(Self::$variant),)* _ => None}
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    )*};
}
pub(crate) use stored_names;

stored_names! {
    ConversationKind { Direct = "direct", Group = "group", Channel = "channel" }
    Encryption { E2ee = "e2ee", None = "none" }
    Role { Reader = "reader", Member = "member", Moderator = "moderator", Owner = "owner" }
    EntryKind {
        Message = "message", Edit = "edit", Deletion = "deletion", Reaction = "reaction", Unreaction = "unreaction",
        Pin = "pin", Unpin = "unpin", Member = "member", Settings = "settings",
    }
    MessageType { Text = "text", Media = "media", System = "system", Control = "control" }
}

/// How the members changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum MemberChange {
    /// The conversation began.
    Created,
    /// Came by themselves.
    Joined,
    /// Was added.
    Added,
    /// Left by themselves.
    Left,
    /// Was removed.
    Removed,
    /// Was removed and may not come back.
    Banned,
    /// Has another role.
    Role,
}

impl MemberChange {
    /// Whether the user is a member afterwards.
    pub const fn leaves_a_member(self) -> bool {
        !matches!(self, Self::Left | Self::Removed | Self::Banned)
    }
}

/// `content` of a `member` entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MemberContent {
    /// Who is concerned.
    pub user_id: UserId,
    /// What changed.
    pub change: MemberChange,
    /// The role afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Who did it.
    pub by: UserId,
    /// The first members, in `created`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<UserId>,
}

/// `content` of a `settings` entry: what changed, and only that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SettingsContent {
    /// Who did it.
    pub by: UserId,
    /// The new values.
    #[serde(flatten)]
    pub changed: ConversationPatch,
    /// The conversation was deleted; this is its last entry.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
}

/// An entry of the log; for `message` entries the message resource.
#[derive(Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[expect(missing_docs, reason = "the names are the wire's; docs/protocol.md, section 4, explains them")]
pub struct Entry {
    pub id: EntryId,
    pub conversation_id: ConversationId,
    pub seq: u64,
    pub kind: EntryKind,
    pub sender_id: UserId,
    pub sender_device_id: Option<DeviceId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_type: Option<MessageType>,
    #[schema(value_type = Option<Object>)]
    pub content: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_id: Option<EntryId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<u64>,
    pub reply_to: Option<EntryId>,
    pub thread_id: Option<EntryId>,
    pub attachments: Vec<MediaId>,
    pub mentions: Vec<UserId>,
    #[schema(value_type = Object)]
    pub metadata: Box<RawValue>,
    pub signature: Option<String>,
    pub sent_at: Timestamp,
    pub edited_at: Option<Timestamp>,
    pub edit_count: u32,
    pub deleted: bool,
    pub expires_at: Option<Timestamp>,
}

/// Prints everything but content and metadata: entries may reach logs, what people wrote must not.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("conversation_id", &self.conversation_id)
            .field("seq", &self.seq)
            .field("id", &self.id)
            .field("kind", &self.kind)
            .field("content_bytes", &self.content.as_ref().map_or(0, |content| content.get().len()))
            .finish_non_exhaustive()
    }
}

impl Entry {
    /// The frame in which clients get this entry.
    ///
    /// `target` is `meta.target_id`: in a direct conversation the other person as the sender sees it, else the
    /// conversation.
    pub fn frame(&self, kind: ConversationKind, target: uuid::Uuid) -> Box<RawValue> {
        to_raw(&Frame {
            r#type: self.frame_type(kind),
            id: self.id,
            payload: self,
            meta: Meta {
                timestamp: self.sent_at.unix_millis(),
                sender_id: self.sender_id,
                target_id: target,
                client_id: self.sender_device_id,
            },
        })
    }

    /// Whether it is the last one of a conversation that was deleted.
    pub fn is_end(&self) -> bool {
        #[derive(Deserialize)]
        struct Content {
            #[serde(default)]
            deleted: bool,
        }
        let content = self.content.as_ref().filter(|_| self.kind == EntryKind::Settings);
        content.and_then(|content| serde_json::from_str(content.get()).ok()).is_some_and(|Content { deleted }| deleted)
    }

    const fn frame_type(&self, kind: ConversationKind) -> &'static str {
        match (self.kind, kind) {
            (EntryKind::Message, ConversationKind::Direct) => "chat_message",
            (EntryKind::Message, ConversationKind::Group | ConversationKind::Channel) => "group_message",
            (EntryKind::Edit, _) => "message_edited",
            (EntryKind::Deletion, _) => "message_deleted",
            (EntryKind::Reaction, _) => "reaction_added",
            (EntryKind::Unreaction, _) => "reaction_removed",
            (EntryKind::Pin, _) => "message_pinned",
            (EntryKind::Unpin, _) => "message_unpinned",
            (EntryKind::Member, _) => "member_changed",
            (EntryKind::Settings, _) => "conversation_updated",
        }
    }
}

#[derive(Serialize)]
struct Frame<'a> {
    r#type: &'static str,
    id: EntryId,
    payload: &'a Entry,
    meta: Meta,
}

#[derive(Serialize)]
struct Meta {
    timestamp: i64,
    sender_id: UserId,
    target_id: uuid::Uuid,
    client_id: Option<DeviceId>,
}

/// The resource inside an entry's frame, as it stands there.
///
/// # Errors
/// When the text is no frame.
pub fn frame_payload(frame: &RawValue) -> Result<Box<RawValue>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Frame {
        payload: Box<RawValue>,
    }
    serde_json::from_str::<Frame>(frame.get()).map(|frame| frame.payload)
}

fn to_raw(value: &impl Serialize) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned())
}
