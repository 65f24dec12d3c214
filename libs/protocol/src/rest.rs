//! REST bodies. Field names are the wire's; docs/protocol.md explains them.
#![expect(missing_docs, reason = "the names are the wire's and docs/protocol.md explains them")]

use std::fmt;

use entrenous_model::{ConversationId, DeviceId, EntryId, InviteId, Timestamp, UserId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};

use crate::entry::{ConversationKind, Encryption, Entry, Role, stored_names};

/// Any list.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Page<T> {
    pub items: Vec<T>,
    pub has_more: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// A list that is whole.
    pub fn whole(items: Vec<T>) -> Self {
        Self { items, has_more: false, next: None }
    }
}

#[derive(Clone, Deserialize, Serialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Register {
    pub username: String,
    pub password: String,
    pub email: Option<String>,
    pub display_name: Option<String>,
}

#[derive(Clone, Deserialize, Serialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Login {
    pub username: String,
    pub password: String,
    pub device: LoginDevice,
}

#[derive(Debug, Clone, Deserialize, Serialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LoginDevice {
    pub id: Option<DeviceId>,
    pub name: String,
    pub platform: Option<String>,
}

#[derive(Clone, Deserialize, Serialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Refresh {
    pub refresh_token: String,
}

#[derive(Clone, Deserialize, Serialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ChangePassword {
    pub current_password: String,
    pub new_password: String,
}

/// Answer to login and refresh.
#[derive(Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Tokens {
    pub access_token: String,
    pub refresh_token: String,
    pub token_type: String,
    pub expires_in: u64,
    pub user: User,
    pub device_id: DeviceId,
}

/// One's own profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct User {
    pub id: UserId,
    pub username: String,
    pub display_name: Option<String>,
    pub email: Option<String>,
    pub role: UserRole,
    pub created_at: Timestamp,
    #[serde(default)]
    pub presence_visible_to: VisibleTo,
    #[serde(default)]
    pub messages_from: MessagesFrom,
}

/// What everybody may see of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Profile {
    pub id: UserId,
    pub username: String,
    pub display_name: Option<String>,
    pub created_at: Timestamp,
}

impl From<User> for Profile {
    fn from(user: User) -> Self {
        Self { id: user.id, username: user.username, display_name: user.display_name, created_at: user.created_at }
    }
}

/// What an account may do on the whole server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum UserRole {
    #[default]
    User,
    Moderator,
    Admin,
}

/// Who may see a user's presence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum VisibleTo {
    /// Who shares a conversation with the user.
    #[default]
    Shared,
    Everyone,
    /// Who has a direct conversation with the user in which both have written.
    Contacts,
    Nobody,
}

/// Who may write to a user directly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum MessagesFrom {
    #[default]
    Everyone,
    /// To whom the user has written.
    Contacts,
    Nobody,
}

stored_names! {
    Posting { Everyone = "everyone", Moderators = "moderators" }
    VisibleTo { Shared = "shared", Everyone = "everyone", Contacts = "contacts", Nobody = "nobody" }
    MessagesFrom { Everyone = "everyone", Contacts = "contacts", Nobody = "nobody" }
}

/// `PATCH /users/me`. A field that is absent stays; `null` clears, or brings the default back.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ProfilePatch {
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    pub display_name: Option<Option<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    pub email: Option<Option<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schema(value_type = Option<VisibleTo>)]
    pub presence_visible_to: Option<Option<VisibleTo>>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schema(value_type = Option<MessagesFrom>)]
    pub messages_from: Option<Option<MessagesFrom>>,
}

/// Tells `null` from absent.
pub(crate) fn present<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Device {
    pub id: DeviceId,
    pub name: String,
    pub platform: Option<String>,
    pub created_at: Timestamp,
    pub last_login_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Deserialize, Serialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CreateConversation {
    pub kind: ConversationKind,
    #[serde(default)]
    pub encryption: Encryption,
    pub title: Option<String>,
    pub description: Option<String>,
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Map<String, Value>>,
    #[serde(default)]
    pub members: Vec<UserId>,
    #[serde(default)]
    pub history_visible: bool,
    /// Of a channel: who may post, `moderators` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub posting: Option<Posting>,
    /// Everybody may join, and find it where it is a channel.
    #[serde(default)]
    pub is_public: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_seconds: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_mode_seconds: Option<u64>,
    /// The deployment's limit by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_members: Option<u32>,
}

impl CreateConversation {
    /// One of this kind, of the caller alone, with nothing else said.
    pub fn of(kind: ConversationKind) -> Self {
        Self {
            kind,
            encryption: Encryption::default(),
            title: None,
            description: None,
            metadata: None,
            members: Vec::new(),
            history_visible: false,
            posting: None,
            is_public: false,
            retention_seconds: None,
            slow_mode_seconds: None,
            max_members: None,
        }
    }
}

/// `PATCH /conversations/{id}`. A field that is absent stays; `null` clears what may be `null`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ConversationPatch {
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    pub title: Option<Option<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    pub description: Option<Option<String>>,
    /// `null`: empty.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Option<Map<String, Value>>>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schema(value_type = Option<u64>)]
    pub retention_seconds: Option<Option<u64>>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schema(value_type = Option<u64>)]
    pub slow_mode_seconds: Option<Option<u64>>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schema(nullable = false)]
    pub posting: Option<Posting>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schema(nullable = false)]
    pub history_visible: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schema(nullable = false)]
    pub max_members: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schema(nullable = false)]
    pub is_public: Option<bool>,
}

#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Conversation {
    pub id: ConversationId,
    pub kind: ConversationKind,
    pub encryption: Encryption,
    pub title: Option<String>,
    pub description: Option<String>,
    #[schema(value_type = Object)]
    pub metadata: Map<String, Value>,
    pub created_by: UserId,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub is_public: bool,
    pub posting: Posting,
    pub history_visible: bool,
    pub retention_seconds: Option<u64>,
    pub slow_mode_seconds: Option<u64>,
    pub max_members: u32,
    pub member_count: u32,
    pub epoch: u64,
    pub first_seq: u64,
    pub last_seq: u64,
    pub role: Role,
    #[schema(value_type = Object)]
    pub settings: Map<String, Value>,
    pub read_seq: u64,
    pub unread_count: u64,
    #[schema(value_type = Option<Object>)]
    pub last_entry: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<Profile>,
}

/// Which messages of others a user has not read: newer than the read cursor, not deleted, not the encryption protocol's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct UnreadEntries {
    pub count: u64,
    pub seqs: Vec<u64>,
}

/// What was read: everything up to `seq`, or up to the highest of `message_ids`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MarkRead {
    pub conversation_id: ConversationId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// At most 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_ids: Option<Vec<EntryId>>,
}

/// Whom a message has reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MessageReceipts {
    /// Each member but the sender; none in a conversation of more than 256 members.
    pub items: Vec<MemberReceipt>,
    pub has_more: bool,
    pub delivered_count: u64,
    pub read_count: u64,
}

/// What became of a message with one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MemberReceipt {
    pub user_id: UserId,
    pub delivered_at: Option<Timestamp>,
    pub read_at: Option<Timestamp>,
}

/// A message as history shows it: edits, deletions and reactions are applied.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Message {
    /// With the newest content.
    #[serde(flatten)]
    pub entry: Entry,
    #[serde(flatten)]
    pub state: MessageState,
}

/// What was done with a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MessageState {
    /// Which edit the content belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edit: Option<MessageEdit>,
    /// The first one first.
    pub reactions: Vec<ReactionSummary>,
    pub pinned: bool,
    pub thread_count: u64,
    /// In the list of pins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned_by: Option<UserId>,
    /// In the list of pins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned_at: Option<Timestamp>,
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Read twice: what is flattened cannot hold raw JSON.
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let entry = serde_json::from_str(text.get()).map_err(serde::de::Error::custom)?;
        let state = serde_json::from_str(text.get()).map_err(serde::de::Error::custom)?;
        Ok(Self { entry, state })
    }
}

/// An edit, which stands in the log as an entry of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MessageEdit {
    pub id: EntryId,
    pub seq: u64,
    pub at: Timestamp,
}

/// A reaction to a message, and how often it was given.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReactionSummary {
    pub reaction: String,
    pub count: u64,
    /// The caller is among them.
    pub mine: bool,
}

/// What somebody answered to a message without words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MessageReaction {
    pub user_id: UserId,
    /// One or more, by time.
    pub reactions: Vec<String>,
    /// When the last one was given.
    pub reacted_at: Timestamp,
}

/// Who may post.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Posting {
    Everyone,
    Moderators,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Member {
    pub user_id: UserId,
    pub role: Role,
    pub joined_at: Timestamp,
    pub joined_seq: u64,
    /// One's own, in the answer to a change of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub settings: Option<Map<String, Value>>,
}

#[derive(Debug, Clone, Deserialize, Serialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AddMember {
    pub user_id: UserId,
    pub role: Option<Role>,
}

/// `PATCH …/members/{user_id}`: a role, or one's own settings. Of these a key that is absent stays, and `null` removes it.
#[derive(Debug, Clone, Default, Deserialize, Serialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MemberPatch {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub settings: Option<Map<String, Value>>,
}

/// Somebody who may not come (back).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Ban {
    pub user_id: UserId,
    pub banned_by: UserId,
    pub banned_at: Timestamp,
}

/// A link that lets people in.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NewInvite {
    /// For ever, where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// How many people it lets in; any number, where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_uses: Option<u32>,
}

/// An invite. Its token is told once, to who made it: it is a secret, and printed nowhere.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Invite {
    pub id: InviteId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    pub expires_at: Option<Timestamp>,
    pub max_uses: Option<u32>,
    pub uses: u32,
    pub created_by: UserId,
    pub created_at: Timestamp,
}

impl fmt::Debug for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invite").field("id", &self.id).field("uses", &self.uses).finish_non_exhaustive()
    }
}

/// A channel that everybody may join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PublicChannel {
    pub id: ConversationId,
    pub title: Option<String>,
    pub description: Option<String>,
    pub member_count: u32,
    pub created_at: Timestamp,
    pub is_member: bool,
}

/// RFC 9457 body, for the documentation; [`crate::Failure::problem`] makes it.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Problem {
    pub r#type: String,
    pub title: String,
    pub status: u16,
    pub detail: String,
    pub code: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<crate::FieldError>,
}
