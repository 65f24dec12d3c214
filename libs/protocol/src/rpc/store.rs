//! What the message store answers.
#![expect(missing_docs, reason = "fields are named like those of docs/protocol.md and design words of ARCHITECTURE.md")]

use std::collections::HashMap;

use entrenous_model::{ConversationId, DeviceId, EntryId, InviteId, Timestamp, UserId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};

use super::methods;
use crate::{
    Failure, NewMessage,
    entry::{ConversationKind, EntryKind, MessageType, Role},
    rest::{
        Ban, Conversation, ConversationPatch, CreateConversation, Invite, Member, MessageReaction, MessagesFrom,
        NewInvite, Page, PublicChannel, VisibleTo,
    },
    scheduled::{ScheduleChange, ScheduledMessage},
};

methods! { "message-store" {
    /// Appends a batch of messages. One result each, in the order of the request. At most [`APPEND_MAX`] messages.
    Append = "append": AppendRequest => AppendResponse;
    /// Does something with a message. [`AppendResult::Done`] where that is no entry, or nothing was to do.
    Act = "act": ActRequest => AppendResult;
    /// Makes a conversation, or finds the direct one that exists.
    Create = "create": CreateRequest => CreateResponse;
    /// One conversation as its member sees it. `read_seq` and `unread_count` are left 0: the caller composes them.
    GetConversation = "get_conversation": ConversationRequest => Conversation;
    /// Own conversations, latest activity first.
    ListConversations = "list_conversations": ListConversationsRequest => Page<Conversation>;
    /// Changes the settings of a conversation. `not_found`, `forbidden`, `invalid_request`, `conflict`, `too_large`.
    UpdateConversation = "update_conversation": UpdateConversationRequest => Conversation;
    /// Deletes a group or channel; by its owner, again: the same answer.
    DeleteConversation = "delete_conversation": ConversationRequest => super::Done;
    /// Public channels, the largest first. At most [`CHANNELS_PAGE_MAX`].
    ListChannels = "list_channels": ListChannelsRequest => Page<PublicChannel>;
    /// The members, by id, a page at a time. At most [`MEMBERS_PAGE_MAX`]. `forbidden` in channels, but for those who look
    /// after the members.
    ListMembers = "list_members": ListMembersRequest => Page<Member>;
    /// Adds somebody; already a member: the same answer. `not_found` (user, conversation), `forbidden`, `too_large`.
    AddMember = "add_member": AddMemberRequest => Member;
    /// Removes somebody, or leaves.
    RemoveMember = "remove_member": RemoveMemberRequest => MembershipChanged;
    /// The caller joins a public conversation, or by an invite; already a member: the same answer. `not_found`, `forbidden`
    /// (banned), `too_large`.
    Join = "join": JoinRequest => MembershipChanged;
    /// Gives a member a role. `not_found`, `forbidden`, `conflict` (the last owner).
    SetRole = "set_role": SetRoleRequest => Member;
    /// Merges into the caller's own settings of a conversation. `not_found`, `too_large`.
    SetOwnSettings = "set_own_settings": SetOwnSettingsRequest => Member;
    /// Removes somebody, if they are there, and keeps them out.
    BanMember = "ban_member": MemberRequest => super::Done;
    /// Lets somebody come back.
    UnbanMember = "unban_member": MemberRequest => super::Done;
    /// Who is kept out, by id, a page at a time. At most [`BANS_PAGE_MAX`].
    ListBans = "list_bans": ListMembersRequest => Page<Ban>;
    /// Makes an invite, and tells its token this once. `too_large` above [`INVITES_MAX`].
    CreateInvite = "create_invite": CreateInviteRequest => Invite;
    /// The invites that let somebody in, without their tokens.
    ListInvites = "list_invites": ConversationRequest => Page<Invite>;
    /// Takes an invite back; unknown: the same answer.
    RevokeInvite = "revoke_invite": RevokeInviteRequest => super::Done;
    /// History: messages only.
    History = "history": HistoryRequest => Page<Box<RawValue>>;
    /// Full text of what the caller may read in clear, newest first.
    Search = "search": SearchRequest => Page<Box<RawValue>>;
    /// One message, as history shows it.
    GetMessage = "get_message": GetMessageRequest => Box<RawValue>;
    /// The pinned messages, latest pin first.
    ListPins = "list_pins": ConversationRequest => Vec<Box<RawValue>>;
    /// Who reacted to a message, by user. `forbidden` in channels, but for those who look after the members.
    ListReactions = "list_reactions": ListReactionsRequest => Page<MessageReaction>;
    /// Keeps a message to be sent later. The same again, from the same device, changes nothing. What [`Append`] would refuse is
    /// refused; `id_conflict`, `too_large`, `invalid_request` (too far ahead).
    Schedule = "schedule": ScheduleRequest => ScheduleResponse;
    /// What a user has scheduled, soonest first. At most [`SCHEDULED_PAGE_MAX`].
    ListScheduled = "list_scheduled": ListScheduledRequest => Page<ScheduledMessage>;
    /// Changes a message that its author has scheduled, and sends it where it is due. `not_found`: unknown, or sent. Asked once
    /// only: a second time it may be `not_found` because the first one has sent it.
    ChangeScheduled = "change_scheduled": ChangeScheduledRequest => ScheduleResponse;
    /// Deletes a message that its author has scheduled. As [`ChangeScheduled`].
    CancelScheduled = "cancel_scheduled": CancelScheduledRequest => super::Done;
    /// Where a user stands in conversations, by what they say to have read; those that they are no member of are left out. At
    /// most [`UNREAD_MAX`].
    ReadUnread = "read_unread": ReadUnreadRequest => Vec<Unread>;
    /// Which entries make up a user's unread count. `not_found`; `too_large` above [`UNREAD_SEQS_MAX`].
    ListUnread = "list_unread": ListUnreadRequest => UnreadSeqs;
    /// Who wrote what receipts cover: one answer each, in the order of the request. At most [`AUTHORS_MAX`].
    ReadAuthors = "read_authors": ReadAuthorsRequest => Vec<Authors>;
    /// Ranges of logs, ready to be sent.
    ReadRanges = "read_ranges": ReadRangesRequest => Vec<RangeRead>;
    /// All that `sync` needs to know of users, each read on one snapshot. Answers for the first ones of the request, as
    /// many as fit, one at least; the others are asked for again. At most [`MEMBERSHIPS_MAX`].
    ReadMemberships = "read_memberships": ReadMembershipsRequest => Vec<Memberships>;
    /// Which conversations moved lately: for a gateway that may have missed live messages.
    ChangedSince = "changed_since": ChangedSinceRequest => ChangedSinceResponse;
    /// What a gateway that may have missed live messages must know of its connections, in the order of the request. At most
    /// [`CHECKS_MAX`].
    CheckConnections = "check_connections": CheckConnectionsRequest => Vec<ConnectionCheck>;
    /// Heads of conversations; unknown ones are left out. At most [`HEADS_MAX`].
    Heads = "heads": HeadsRequest => Vec<Head>;
    /// New connections: one answer each, in the order of the request. At most [`ATTACH_MAX`].
    Attach = "attach": AttachRequest => AttachResponse;
    /// Notes when a device was added, so that its first `sync` knows where to begin. Doing it twice changes nothing.
    AddDevice = "add_device": AddDeviceRequest => super::Done;
    /// Takes over what a user allows whom, as identity has it. A version that is not newer than the one there changes nothing.
    TakePrivacy = "take_privacy": Privacy => super::Done;
    /// Whether the viewer may see the presence of each user, in the order of the request. At most [`VISIBLE_MAX`].
    ReadVisible = "read_visible": ReadVisibleRequest => Vec<bool>;
    /// The members of a conversation between whom and the user there is a block, whoever made it.
    ReadBlocked = "read_blocked": ReadBlockedRequest => Vec<UserId>;
}}

/// Messages in one batch.
pub const APPEND_MAX: usize = 512;
/// Bytes of content in one batch, beyond its first message.
pub const APPEND_BYTES_MAX: usize = 1024 * 1024;
/// Messages in one page of [`ListScheduled`].
pub const SCHEDULED_PAGE_MAX: u32 = 100;
/// Leaves of one conversation in an answer of [`ReadRanges`].
pub const LEAVES_MAX: u32 = 1_000;
/// Members in one page of [`ListMembers`].
pub const MEMBERS_PAGE_MAX: u32 = 1_000;
/// Bans in one page of [`ListBans`].
pub const BANS_PAGE_MAX: u32 = 1_000;
/// Channels in one page of [`ListChannels`].
pub const CHANNELS_PAGE_MAX: u32 = 100;
/// Invites of a conversation that let somebody in.
pub const INVITES_MAX: usize = 100;
/// Conversations in one request of [`Heads`].
pub const HEADS_MAX: usize = 10_000;
/// Conversations in one request of [`ReadUnread`].
pub const UNREAD_MAX: usize = 10_000;
/// Entries in one answer of [`ListUnread`].
pub const UNREAD_SEQS_MAX: usize = 200_000;
/// Receipts in one request of [`ReadAuthors`].
pub const AUTHORS_MAX: usize = 10_000;
/// Entries that a receipt is looked at for authors, the last ones that it covers.
pub const AUTHORS_ENTRIES_MAX: u64 = 1_000;
/// Members of a conversation in which receipts are told and their times kept, at most (docs/protocol.md, section 3).
pub const RECEIPT_MEMBERS_MAX: u32 = 256;
/// Users in one request of [`ReadMemberships`]. An answer stays below 2 MiB by answering for fewer of them, except that it
/// holds the first one whole: about 190 bytes a conversation, so that a user with 20,000 conversations still fits into the
/// 4 MiB that every server must take.
pub const MEMBERSHIPS_MAX: usize = 256;
/// Connections in one request of [`CheckConnections`].
pub const CHECKS_MAX: usize = 10_000;
/// Connections in one request of [`Attach`].
pub const ATTACH_MAX: usize = 1_000;
/// Ranges in one request of [`ReadRanges`].
pub const RANGES_MAX: usize = 1_000;
/// Users in one request of [`ReadVisible`].
pub const VISIBLE_MAX: usize = 1_000;
/// For how long somebody removed is told at `sync`.
pub const LEFT_TOLD_DAYS: u64 = 30;

#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AppendRequest {
    pub messages: Vec<AppendMessage>,
    /// By the store's clock: nothing is stored later than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Timestamp>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AppendMessage {
    pub conversation_id: ConversationId,
    /// Set for `chat_message`: the other person; the direct conversation is made at need.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct_with: Option<UserId>,
    pub sender_id: UserId,
    pub sender_device_id: DeviceId,
    /// [`crate::live::origin_of`] the connection that sent it, 0 where it came by REST.
    pub origin: u64,
    pub message: NewMessage,
    /// The `traceparent` of the message, where it is traced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AppendResponse {
    pub results: Vec<AppendResult>,
    /// What the store's clock showed, where something was stored now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum AppendResult {
    /// Committed, now or by an earlier request with the same id.
    Stored(Stored),
    /// The conversation is locked by others; nothing was stored. Try again, with its later messages behind it.
    Busy,
    /// Done, without an entry of its own.
    Done,
    /// Not stored.
    Refused(Failure),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ActRequest {
    pub conversation_id: ConversationId,
    pub caller: UserId,
    pub device_id: DeviceId,
    /// [`crate::live::origin_of`] the connection that asked, 0 where it came by REST.
    pub origin: u64,
    /// Of the entry, where there will be one.
    pub id: EntryId,
    pub act: crate::Act,
    /// By the store's clock: nothing is done later than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Stored {
    pub seq: u64,
    pub sent_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    /// An earlier request had stored it.
    pub is_repeat: bool,
    /// The content that was stored may be another than the one that was sent: clear text passes checks on its way.
    #[serde(default)]
    pub may_differ: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ScheduleRequest {
    pub message: AppendMessage,
    pub send_at: Timestamp,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ScheduleResponse {
    /// It is kept, in whatever state.
    Kept(Box<ScheduledMessage>),
    /// It was sent, now or before.
    Sent {
        stored: Stored,
        /// As history shows it.
        message: Box<RawValue>,
    },
    /// Its time has passed and it is not kept: it is the caller's to send as any other.
    Due,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListScheduledRequest {
    pub caller: UserId,
    /// `next` of the page before.
    pub cursor: Option<String>,
    pub limit: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ChangeScheduledRequest {
    pub caller: UserId,
    pub message_id: EntryId,
    pub change: ScheduleChange,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CancelScheduledRequest {
    pub caller: UserId,
    pub message_id: EntryId,
}

#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CreateRequest {
    pub caller: UserId,
    pub conversation: CreateConversation,
}

#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CreateResponse {
    pub conversation: Conversation,
    /// False for a direct conversation that existed.
    pub is_new: bool,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ConversationRequest {
    pub caller: UserId,
    pub conversation_id: ConversationId,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListConversationsRequest {
    pub caller: UserId,
    /// `next` of the page before.
    pub cursor: Option<String>,
    pub limit: u32,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListMembersRequest {
    pub caller: UserId,
    pub conversation_id: ConversationId,
    /// The last one of the page before.
    pub after: Option<UserId>,
    pub limit: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AddMemberRequest {
    pub caller: UserId,
    pub conversation_id: ConversationId,
    pub user_id: UserId,
    pub role: Option<Role>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RemoveMemberRequest {
    pub caller: UserId,
    pub conversation_id: ConversationId,
    pub user_id: UserId,
    /// Where a frame asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame: Option<FrameOrigin>,
}

/// The frame of a client whose id the entry gets, so that the `ack` stands in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FrameOrigin {
    pub entry_id: EntryId,
    pub device_id: DeviceId,
    /// [`crate::live::origin_of`] the connection.
    pub origin: u64,
}

/// A membership that begins or has ended, now or before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MembershipChanged {
    pub conversation_id: ConversationId,
    /// The entry that says so; none in channels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<MembershipEntry>,
}

/// Where an entry stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MembershipEntry {
    pub seq: u64,
    pub sent_at: Timestamp,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JoinRequest {
    pub caller: UserId,
    pub by: JoinBy,
    /// Where a frame asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame: Option<FrameOrigin>,
}

/// What lets somebody in. Not printed: a token is a secret.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum JoinBy {
    /// It is public.
    Conversation(ConversationId),
    /// The token of an invite.
    Invite(String),
}

impl std::fmt::Debug for JoinBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Conversation(id) => f.debug_tuple("Conversation").field(id).finish(),
            Self::Invite(_) => f.write_str("Invite"),
        }
    }
}

/// Somebody in a conversation, or not.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MemberRequest {
    pub caller: UserId,
    pub conversation_id: ConversationId,
    pub user_id: UserId,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SetRoleRequest {
    pub caller: UserId,
    pub conversation_id: ConversationId,
    pub user_id: UserId,
    pub role: Role,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SetOwnSettingsRequest {
    pub caller: UserId,
    pub conversation_id: ConversationId,
    /// A key that is absent stays, `null` removes it.
    pub settings: Map<String, Value>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UpdateConversationRequest {
    pub caller: UserId,
    pub conversation_id: ConversationId,
    pub patch: ConversationPatch,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListChannelsRequest {
    pub caller: UserId,
    /// Words of title and description; the last one may be the beginning of one.
    pub query: Option<String>,
    /// `next` of the page before.
    pub cursor: Option<String>,
    pub limit: u32,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CreateInviteRequest {
    pub caller: UserId,
    pub conversation_id: ConversationId,
    pub invite: NewInvite,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RevokeInviteRequest {
    pub caller: UserId,
    pub conversation_id: ConversationId,
    pub invite_id: InviteId,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HistoryRequest {
    pub caller: UserId,
    pub conversation_id: ConversationId,
    pub position: HistoryPosition,
    pub limit: u32,
    #[serde(default)]
    pub filter: HistoryFilter,
}

/// Which messages history shows; those of which everything that is set holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HistoryFilter {
    /// Sent at this moment or later, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// … and at this one or before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender_id: Option<UserId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_type: Option<MessageType>,
    /// Replies in this thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<EntryId>,
}

/// Which page of history; seqs are not included, but for `Around`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum HistoryPosition {
    Latest,
    Before(u64),
    After(u64),
    Around(u64),
}

#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SearchRequest {
    pub caller: UserId,
    /// As people write it: words, "phrases", or, -without.
    pub query: String,
    #[serde(default)]
    pub conversation_id: Option<ConversationId>,
    #[serde(default)]
    pub sender_id: Option<UserId>,
    /// Sent at this moment or later, …
    #[serde(default)]
    pub from: Option<Timestamp>,
    /// … and at this one or before.
    #[serde(default)]
    pub to: Option<Timestamp>,
    /// `next` of the page before.
    #[serde(default)]
    pub cursor: Option<String>,
    pub limit: u32,
}

/// Never what is looked for.
impl std::fmt::Debug for SearchRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SearchRequest").field("caller", &self.caller).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GetMessageRequest {
    pub caller: UserId,
    pub conversation_id: ConversationId,
    pub message_id: EntryId,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListReactionsRequest {
    pub caller: UserId,
    pub conversation_id: ConversationId,
    pub message_id: EntryId,
    /// The last one of the page before.
    pub after: Option<UserId>,
    pub limit: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReadRangesRequest {
    /// Whose rights count; none when a gateway repairs a gap for all its connections.
    pub reader: Option<UserId>,
    pub ranges: Vec<Range>,
    /// Bytes of all frames together; a range that does not fit any more has `has_more`. At least one entry is given.
    pub bytes_max: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReadUnreadRequest {
    pub user_id: UserId,
    pub cursors: Vec<ReadCursor>,
}

/// What a user says to have read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReadCursor {
    pub conversation_id: ConversationId,
    /// 0: nothing.
    pub read_seq: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Unread {
    pub conversation_id: ConversationId,
    /// The last seq that counts as read: own messages do, and what was there before the user came.
    pub read_seq: u64,
    pub unread_count: u64,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListUnreadRequest {
    pub user_id: UserId,
    pub cursor: ReadCursor,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UnreadSeqs {
    pub seqs: Vec<u64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReadAuthorsRequest {
    pub receipts: Vec<Covered>,
}

/// What a receipt of a user covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Covered {
    pub user_id: UserId,
    pub conversation_id: ConversationId,
    /// The entries after this seq …
    pub after: u64,
    /// … up to this one; of more than [`AUTHORS_ENTRIES_MAX`] the last ones.
    pub up_to: u64,
}

/// Whom a receipt concerns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Authors {
    /// 0: no such conversation.
    pub member_count: u32,
    /// Others that wrote messages there, and still are members; none above [`RECEIPT_MEMBERS_MAX`] members.
    pub user_ids: Vec<UserId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Range {
    pub conversation_id: ConversationId,
    /// The first entry given is the one after this seq (and after what may not be read).
    pub after: u64,
    pub limit: u32,
    /// Where nobody's rights count, in a channel: those who left are told after so many.
    #[serde(default)]
    pub leaves_after: u64,
}

/// Somebody left a channel, or was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Leave {
    /// The how-manieth of the channel, counted from 1.
    pub leave_no: u64,
    pub user_id: UserId,
    /// The head then: the last seq of the membership.
    pub seq: u64,
}

/// What was read of one range; the answers stand in the order of the request.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RangeRead {
    pub conversation_id: ConversationId,
    /// False: no such conversation, or not (any more) for this reader; everything else is then empty.
    pub is_readable: bool,
    pub entries: Vec<LogEntry>,
    /// The first seq that is kept.
    pub first_seq: u64,
    /// The first seq that this reader may read.
    pub readable_from: u64,
    /// The head on the same snapshot as the entries.
    pub last_seq: u64,
    pub has_more: bool,
    /// How many had left the channel, on the same snapshot.
    #[serde(default)]
    pub leaves: u64,
    /// Those after [`Range::leaves_after`], the first [`LEAVES_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<Leave>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LogEntry {
    pub seq: u64,
    pub id: EntryId,
    pub kind: EntryKind,
    pub sender_device_id: Option<DeviceId>,
    /// As clients get it.
    pub frame: Box<RawValue>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReadMembershipsRequest {
    pub devices: Vec<SyncingDevice>,
}

/// A device that wants to know of its user's memberships.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SyncingDevice {
    pub user_id: UserId,
    pub device_id: DeviceId,
    /// It brings cursors of its own: where finding `device_start_seq` would take a search of the log, it is only the least
    /// that it can be, the seq before the first one that the user may read. Costs an eighth.
    #[serde(default)]
    pub has_cursors: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Memberships {
    pub membership_version: u64,
    pub conversations: Vec<Membership>,
    /// Conversations that the user left or was removed from in the last [`LEFT_TOLD_DAYS`]: conversation and left seq.
    pub left: Vec<(ConversationId, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Membership {
    pub conversation_id: ConversationId,
    pub kind: ConversationKind,
    /// The first seq that this user may read.
    pub readable_from: u64,
    pub first_seq: u64,
    pub last_seq: u64,
    /// The head when the device was added, or `joined_seq - 1` where that is later.
    pub device_start_seq: u64,
    /// Something after `device_start_seq` mentions the user.
    #[serde(default)]
    pub has_mention: bool,
    /// Where that was the last time; 0: nowhere.
    #[serde(default, skip_serializing_if = "is_none")]
    pub last_mention_seq: u64,
    /// How many had left the channel when the user was a member; 0 elsewhere.
    #[serde(default)]
    pub leaves: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HeadsRequest {
    pub conversation_ids: Vec<ConversationId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Head {
    pub conversation_id: ConversationId,
    pub last_seq: u64,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ChangedSinceRequest {
    /// How long ago the caller was sure to have everything. What may have been committed late is added by the store.
    pub age_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ChangedSinceResponse {
    /// The conversations that moved, each with its highest seq.
    Heads(Vec<Head>),
    /// Longer ago than the feed is kept, or too many: compare the heads of all conversations instead.
    Unknown,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CheckConnectionsRequest {
    pub connections: Vec<Attaching>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ConnectionCheck {
    /// 0 for a user without memberships.
    pub membership_version: u64,
    /// The number of the device's newest connection, 0 for a device that never connected.
    pub connection_no: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AttachRequest {
    pub connections: Vec<Attaching>,
    /// Nothing is counted after this moment, by the clock of the store's database (see [`AttachResponse::at`]). None: no
    /// such bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Attaching {
    pub user_id: UserId,
    pub device_id: DeviceId,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AttachResponse {
    /// Changes only when the database was restored from a backup.
    pub incarnation: u64,
    /// Grows per device: the connection with the higher number is the newer one. None at all: it was too late.
    pub connection_nos: Vec<u64>,
    /// What the clock of the store's database showed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AddDeviceRequest {
    pub user_id: UserId,
    pub device_id: DeviceId,
}

/// What a user allows others: the whole of it, as identity has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Privacy {
    pub user_id: UserId,
    /// Grows with each change.
    pub version: u64,
    pub presence_visible_to: VisibleTo,
    pub messages_from: MessagesFrom,
    /// Whom the user has blocked.
    pub blocked: Vec<UserId>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReadVisibleRequest {
    pub viewer: UserId,
    pub user_ids: Vec<UserId>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReadBlockedRequest {
    pub user_id: UserId,
    pub conversation_id: ConversationId,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_none(seq: &u64) -> bool {
    *seq == 0
}

/// Cursors by conversation, as `sync` has them.
pub type Cursors = HashMap<ConversationId, u64>;
