//! What people do with messages: the statements of one transaction on a message.

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension,
    prelude::Queryable,
    sql_types::{Array, BigInt, Binary, Bool, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use entrenous_model::{ConversationId, EntryId, UserId};
use entrenous_protocol::{
    act::Reaction,
    entry::{ConversationKind, Encryption, EntryKind, MessageType, Role},
    frame::ReactionCount,
    rest::Posting,
    rpc::store::ActRequest,
};
use uuid::Uuid;

use super::{changes::Placed, entries::Setting, feed::FeedRow, parse, statement, to_u64};

statement! {
    /// What kind of conversation it is: it decides what is locked.
    ReadKind { conversation_id: SqlUuid = Uuid } -> (Text,);
    "SELECT kind FROM messaging.conversations WHERE id = {} AND is_active",
}

statement! {
    /// Keeps a membership and a message as they are until the transaction ends, where the head stays free.
    KeepMessage { caller: SqlUuid = Uuid, conversation_id: SqlUuid = Uuid, message_id: SqlUuid = Uuid } -> (BigInt,);
    "SELECT l.seq
     FROM messaging.members m JOIN messaging.log l ON l.conversation_id = m.conversation_id
     WHERE m.user_id = {} AND m.conversation_id = {} AND l.id = {}
     FOR SHARE OF m, l",
}

statement! {
    /// What an act is judged by. Read after the lock, on a snapshot of its own.
    ReadMessage {
        conversation_id: SqlUuid = Uuid,
        caller: SqlUuid = Uuid,
        message_id: SqlUuid = Uuid,
        entry_id: SqlUuid = Uuid,
    } -> (
        (Text, Text, Text, Nullable<SqlUuid>, Nullable<SqlUuid>, Text, BigInt, Bool, Timestamptz),
        (SqlUuid, Text, Bool, Nullable<Timestamptz>, Nullable<Text>),
        (
            Nullable<BigInt>, Nullable<Text>, Nullable<SqlUuid>, Nullable<SqlUuid>, Nullable<SqlUuid>, Nullable<Binary>,
            Nullable<Binary>, Nullable<Timestamptz>,
        ),
    );
    "SELECT c.kind, c.encryption, c.posting, c.direct_low_id, c.direct_high_id, m.role, h.leaves,
            c.kind = 'direct' AND messaging.is_unwanted(c.id, c.direct_low_id, c.direct_high_id, m.user_id),
            clock_timestamp(),
            l.sender_id, l.kind, l.deleted, l.expires_at, l.message_type,
            o.seq, o.kind, o.sender_id, o.sender_device_id, o.target_id, o.content, o.request_digest, o.sent_at
     FROM (SELECT {} AS conversation_id, {} AS caller, {} AS message_id, {} AS entry_id) asked
     JOIN messaging.conversations c ON c.id = asked.conversation_id AND c.is_active
     JOIN messaging.heads h ON h.conversation_id = c.id
     JOIN messaging.members m ON m.conversation_id = c.id AND m.user_id = asked.caller AND m.left_seq IS NULL
     JOIN messaging.log l ON l.conversation_id = c.id AND l.id = asked.message_id
         AND l.seq >= greatest(h.first_seq, CASE WHEN c.history_visible THEN 1 ELSE m.joined_seq END)
     LEFT JOIN messaging.log o ON o.conversation_id = c.id AND o.id = asked.entry_id",
}

statement! {
    /// The newest of the entries of two kinds that somebody, or anybody, made about a message with this content.
    LastOf {
        conversation_id: SqlUuid = Uuid,
        message_id: SqlUuid = Uuid,
        kinds: Array<Text> = Vec<&'static str>,
        sender_id: Nullable<SqlUuid> = Option<Uuid>,
        content: Nullable<Binary> = Option<Vec<u8>>,
    } -> (Text, BigInt, Timestamptz);
    "SELECT kind, seq, sent_at FROM messaging.log
     WHERE conversation_id = {} AND target_id = {} AND kind = ANY ({}) AND ({}::uuid IS NULL OR sender_id = $4)
         AND content IS NOT DISTINCT FROM {}
     ORDER BY seq DESC LIMIT 1",
}

statement! {
    /// Puts an edit in the place of a message's content.
    Supersede {
        conversation_id: SqlUuid = Uuid,
        message_id: SqlUuid = Uuid,
        seq: BigInt = i64,
        at: Timestamptz = DateTime<Utc>,
        is_sealed: Bool = bool,
    } -> (Integer,);
    "SELECT 1 FROM (SELECT messaging.supersede({}, {}, {}, {}, {})) done",
}

statement! {
    /// See `messaging.erase`.
    Erase { conversation_id: SqlUuid = Uuid, message_ids: Array<SqlUuid> = Vec<Uuid> } -> (Integer,);
    "SELECT 1 FROM (SELECT messaging.erase({}, {})) done",
}

statement! {
    /// See `messaging.react`.
    React {
        conversation_id: SqlUuid = Uuid,
        message_id: SqlUuid = Uuid,
        user_id: SqlUuid = Uuid,
        reaction: Text = String,
        change: Integer = i32,
    } -> (Bool,);
    "SELECT messaging.react({}, {}, {}, {}, {})",
}

statement! {
    /// How many different reactions a message has, how many of them this user gave, and whether this one is among them.
    CountReactions {
        user_id: SqlUuid = Uuid, reaction: Text = String, conversation_id: SqlUuid = Uuid, message_id: SqlUuid = Uuid,
    } -> (BigInt, BigInt, Bool);
    "SELECT count(*), count(*) FILTER (WHERE r.user_id IS NOT NULL), coalesce(bool_or(c.reaction = asked.reaction), false)
     FROM (SELECT {} AS user_id, {} AS reaction, {} AS conversation_id, {} AS message_id) asked
     JOIN messaging.reaction_counts c
         ON c.conversation_id = asked.conversation_id AND c.message_id = asked.message_id
     LEFT JOIN messaging.reactions r
         ON r.conversation_id = c.conversation_id AND r.message_id = c.message_id AND r.user_id = asked.user_id
         AND r.reaction = c.reaction",
}

statement! {
    /// How often each reaction was given, the first one first.
    ReadReactionCounts { conversation_id: SqlUuid = Uuid, message_id: SqlUuid = Uuid } -> (Text, BigInt);
    "SELECT reaction, reacted FROM messaging.reaction_counts WHERE conversation_id = {} AND message_id = {}
     ORDER BY first_at, reaction",
}

statement! {
    /// Pins, where there is room.
    Pin {
        pins_max: BigInt = i64,
        conversation_id: SqlUuid = Uuid,
        message_id: SqlUuid = Uuid,
        pinned_by: SqlUuid = Uuid,
    } -> (SqlUuid,);
    "INSERT INTO messaging.pins (conversation_id, message_id, message_seq, pinned_by, pinned_at)
     SELECT l.conversation_id, l.id, l.seq, asked.pinned_by, date_trunc('milliseconds', clock_timestamp())
     FROM (SELECT {} AS pins_max, {} AS conversation_id, {} AS message_id, {} AS pinned_by) asked
     JOIN messaging.log l ON l.conversation_id = asked.conversation_id AND l.id = asked.message_id
     WHERE (SELECT count(*) FROM messaging.pins p WHERE p.conversation_id = asked.conversation_id) < asked.pins_max",
}

statement! {
    /// Takes a pin away.
    Unpin { conversation_id: SqlUuid = Uuid, message_id: SqlUuid = Uuid } -> (SqlUuid,);
    "DELETE FROM messaging.pins WHERE conversation_id = {} AND message_id = {}",
}

statement! {
    /// Hides a message from one user.
    Hide { caller: SqlUuid = Uuid, conversation_id: SqlUuid = Uuid, message_id: SqlUuid = Uuid } -> (SqlUuid,);
    "INSERT INTO messaging.hidden (user_id, conversation_id, message_id) VALUES ({}, {}, {}) ON CONFLICT DO NOTHING",
}

/// A message, how its conversation stands, and what has the entry's id already.
#[derive(Queryable)]
pub(crate) struct MessageRow {
    conversation: ConversationPart,
    message: MessagePart,
    other: OtherPart,
}

#[derive(Queryable)]
pub(crate) struct ConversationPart {
    kind: String,
    encryption: String,
    posting: String,
    direct_low_id: Option<Uuid>,
    direct_high_id: Option<Uuid>,
    role: String,
    leaves: i64,
    is_unwanted: bool,
    now: DateTime<Utc>,
}

#[derive(Queryable)]
pub(crate) struct MessagePart {
    sender_id: Uuid,
    kind: String,
    deleted: bool,
    expires_at: Option<DateTime<Utc>>,
    message_type: Option<String>,
}

#[derive(Queryable)]
pub(crate) struct OtherPart {
    seq: Option<i64>,
    kind: Option<String>,
    sender_id: Option<Uuid>,
    sender_device_id: Option<Uuid>,
    target_id: Option<Uuid>,
    content: Option<Vec<u8>>,
    request_digest: Option<Vec<u8>>,
    sent_at: Option<DateTime<Utc>>,
}

/// What an act is judged by.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) setting: Setting,
    pub(crate) encryption: Encryption,
    pub(crate) posting: Posting,
    pub(crate) role: Role,
    pub(crate) leaves: i64,
    /// The other of a direct conversation does not take messages from the caller.
    pub(crate) is_unwanted: bool,
    pub(crate) now: DateTime<Utc>,
    pub(crate) sender_id: UserId,
    pub(crate) kind: EntryKind,
    pub(crate) message_type: Option<MessageType>,
    /// Erased, or about to be.
    pub(crate) is_gone: bool,
    pub(crate) expires_at: Option<DateTime<Utc>>,
    /// What has the entry's id.
    pub(crate) other: Option<OtherEntry>,
}

/// An entry that has the id already.
#[derive(Debug)]
pub(crate) struct OtherEntry {
    pub(crate) seq: i64,
    pub(crate) kind: EntryKind,
    pub(crate) sender_id: Uuid,
    pub(crate) sender_device_id: Option<Uuid>,
    pub(crate) target_id: Option<Uuid>,
    pub(crate) content: Option<Vec<u8>>,
    pub(crate) request_digest: Option<Vec<u8>>,
    pub(crate) sent_at: DateTime<Utc>,
}

impl MessageRow {
    fn target(self, conversation_id: ConversationId) -> diesel::QueryResult<Target> {
        let Self { conversation, message, other } = self;
        let setting = Setting {
            conversation_id,
            kind: parse(&conversation.kind, ConversationKind::parse)?,
            direct: conversation.direct_low_id.zip(conversation.direct_high_id),
        };
        Ok(Target {
            setting,
            encryption: parse(&conversation.encryption, Encryption::parse)?,
            posting: parse(&conversation.posting, Posting::parse)?,
            role: parse(&conversation.role, Role::parse)?,
            leaves: conversation.leaves,
            is_unwanted: conversation.is_unwanted,
            now: conversation.now,
            sender_id: message.sender_id.into(),
            kind: parse(&message.kind, EntryKind::parse)?,
            message_type: message.message_type.map(|name| parse(&name, MessageType::parse)).transpose()?,
            is_gone: message.deleted || message.expires_at.is_some_and(|at| at <= conversation.now),
            expires_at: message.expires_at,
            other: other.entry()?,
        })
    }
}

impl OtherPart {
    fn entry(self) -> diesel::QueryResult<Option<OtherEntry>> {
        let (Some(seq), Some(kind), Some(sender_id), Some(sent_at)) =
            (self.seq, self.kind, self.sender_id, self.sent_at)
        else {
            return Ok(None);
        };
        Ok(Some(OtherEntry {
            seq,
            kind: parse(&kind, EntryKind::parse)?,
            sender_id,
            sender_device_id: self.sender_device_id,
            target_id: self.target_id,
            content: self.content,
            request_digest: self.request_digest,
            sent_at,
        }))
    }
}

/// The kind of a conversation that exists.
pub(crate) async fn read_kind(
    connection: &mut AsyncPgConnection,
    conversation_id: ConversationId,
) -> diesel::QueryResult<Option<ConversationKind>> {
    let statement = ReadKind { conversation_id: conversation_id.as_uuid() };
    let row: Option<(String,)> = statement.get_result(connection).await.optional()?;
    row.map(|(kind,)| parse(&kind, ConversationKind::parse)).transpose()
}

/// Keeps the caller's membership and the message as they are until the transaction ends.
pub(crate) async fn keep_message(connection: &mut AsyncPgConnection, request: &ActRequest) -> diesel::QueryResult<()> {
    let statement = KeepMessage {
        caller: request.caller.as_uuid(),
        conversation_id: request.conversation_id.as_uuid(),
        message_id: request.act.message_id().as_uuid(),
    };
    statement.execute(connection).await.map(drop)
}

/// The message, if the caller may read it.
pub(crate) async fn read_target(
    connection: &mut AsyncPgConnection,
    request: &ActRequest,
) -> diesel::QueryResult<Option<Target>> {
    let statement = ReadMessage {
        conversation_id: request.conversation_id.as_uuid(),
        caller: request.caller.as_uuid(),
        message_id: request.act.message_id().as_uuid(),
        entry_id: request.id.as_uuid(),
    };
    let row: Option<MessageRow> = statement.get_result(connection).await.optional()?;
    row.map(|row| row.target(request.conversation_id)).transpose()
}

/// Two kinds of entries of which one undoes the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Toggle {
    pub(crate) on: EntryKind,
    pub(crate) off: EntryKind,
}

/// Which of the two was done last, and where that stands.
pub(crate) async fn last_of(
    connection: &mut AsyncPgConnection,
    request: &ActRequest,
    toggle: Toggle,
    sender_id: Option<UserId>,
    content: Option<Vec<u8>>,
) -> diesel::QueryResult<Option<(EntryKind, i64, DateTime<Utc>)>> {
    let statement = LastOf {
        conversation_id: request.conversation_id.as_uuid(),
        message_id: request.act.message_id().as_uuid(),
        kinds: vec![toggle.on.as_str(), toggle.off.as_str()],
        sender_id: sender_id.map(UserId::as_uuid),
        content,
    };
    let row: Option<(String, i64, DateTime<Utc>)> = statement.get_result(connection).await.optional()?;
    row.map(|(kind, seq, at)| Ok((parse(&kind, EntryKind::parse)?, seq, at))).transpose()
}

/// Puts an edit in the place of a message's content.
pub(crate) async fn supersede(
    connection: &mut AsyncPgConnection,
    conversation_id: ConversationId,
    message_id: EntryId,
    placed: Placed,
    is_sealed: bool,
) -> diesel::QueryResult<()> {
    let (conversation_id, message_id) = (conversation_id.as_uuid(), message_id.as_uuid());
    let statement = Supersede { conversation_id, message_id, seq: placed.seq, at: placed.sent_at, is_sealed };
    statement.execute(connection).await.map(drop)
}

/// Erases a message and everything that was said about it.
pub(crate) async fn erase(
    connection: &mut AsyncPgConnection,
    conversation_id: ConversationId,
    message_id: EntryId,
) -> diesel::QueryResult<()> {
    let statement = Erase { conversation_id: conversation_id.as_uuid(), message_ids: vec![message_id.as_uuid()] };
    statement.execute(connection).await.map(drop)
}

/// Adds a reaction, or takes it back; tells whether that changed anything.
pub(crate) async fn react(
    connection: &mut AsyncPgConnection,
    request: &ActRequest,
    reaction: &Reaction,
    is_added: bool,
) -> diesel::QueryResult<bool> {
    let statement = React {
        conversation_id: request.conversation_id.as_uuid(),
        message_id: reaction.message_id.as_uuid(),
        user_id: request.caller.as_uuid(),
        reaction: reaction.reaction.clone(),
        change: if is_added { 1 } else { -1 },
    };
    statement.get_result::<(bool,)>(connection).await.map(|(changed,)| changed)
}

/// The reactions that a message has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReactionNumbers {
    pub(crate) different: i64,
    pub(crate) own: i64,
    /// Somebody has given the one in question.
    pub(crate) is_known: bool,
}

/// What bounds one more reaction.
pub(crate) async fn count_reactions(
    connection: &mut AsyncPgConnection,
    request: &ActRequest,
    reaction: &Reaction,
) -> diesel::QueryResult<ReactionNumbers> {
    let statement = CountReactions {
        user_id: request.caller.as_uuid(),
        reaction: reaction.reaction.clone(),
        conversation_id: request.conversation_id.as_uuid(),
        message_id: reaction.message_id.as_uuid(),
    };
    let (different, own, is_known) = statement.get_result(connection).await?;
    Ok(ReactionNumbers { different, own, is_known })
}

/// How often each reaction was given.
pub(crate) async fn read_reaction_counts(
    connection: &mut AsyncPgConnection,
    conversation_id: ConversationId,
    message_id: EntryId,
) -> diesel::QueryResult<Vec<ReactionCount>> {
    let statement = ReadReactionCounts { conversation_id: conversation_id.as_uuid(), message_id: message_id.as_uuid() };
    let rows: Vec<(String, i64)> = statement.load(connection).await?;
    Ok(rows.into_iter().map(|(reaction, count)| ReactionCount { reaction, count: to_u64(count) }).collect())
}

/// Pins a message; tells whether there was room.
pub(crate) async fn pin(
    connection: &mut AsyncPgConnection,
    request: &ActRequest,
    pins_max: usize,
) -> diesel::QueryResult<bool> {
    let statement = Pin {
        pins_max: i64::try_from(pins_max).unwrap_or(i64::MAX),
        conversation_id: request.conversation_id.as_uuid(),
        message_id: request.act.message_id().as_uuid(),
        pinned_by: request.caller.as_uuid(),
    };
    statement.execute(connection).await.map(|count| count > 0)
}

/// Takes a pin away.
pub(crate) async fn unpin(connection: &mut AsyncPgConnection, request: &ActRequest) -> diesel::QueryResult<()> {
    let conversation_id = request.conversation_id.as_uuid();
    let statement = Unpin { conversation_id, message_id: request.act.message_id().as_uuid() };
    statement.execute(connection).await.map(drop)
}

/// Hides a message from the caller; tells whether it was not hidden before.
pub(crate) async fn hide(connection: &mut AsyncPgConnection, request: &ActRequest) -> diesel::QueryResult<bool> {
    let statement = Hide {
        caller: request.caller.as_uuid(),
        conversation_id: request.conversation_id.as_uuid(),
        message_id: request.act.message_id().as_uuid(),
    };
    statement.execute(connection).await.map(|count| count > 0)
}

statement! {
    /// Appends the entry of an act.
    AppendAct {
        batch_id: SqlUuid = Uuid,
        conversation_id: SqlUuid = Uuid,
        id: SqlUuid = Uuid,
        kind: Text = &'static str,
        sender_id: SqlUuid = Uuid,
        target_id: SqlUuid = Uuid,
        content: Nullable<Binary> = Option<Vec<u8>>,
        sender_device_id: SqlUuid = Uuid,
        request_digest: Nullable<Binary> = Option<Vec<u8>>,
        metadata: Nullable<Text> = Option<String>,
        signature: Nullable<Binary> = Option<Vec<u8>>,
        expires_at: Nullable<Timestamptz> = Option<DateTime<Utc>>,
    } -> (BigInt, BigInt, Timestamptz, Timestamptz);
    "SELECT seq, countable_no, sent_at, feed_at
     FROM messaging.append_entry({}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {})",
}

/// What the entry of an act has beside what its request says.
#[derive(Debug, Default)]
pub(crate) struct ActEntry {
    /// JSON text.
    pub(crate) content: Option<Vec<u8>>,
    pub(crate) request_digest: Option<Vec<u8>>,
    pub(crate) metadata: Option<String>,
    pub(crate) signature: Option<Vec<u8>>,
    pub(crate) expires_at: Option<DateTime<Utc>>,
}

/// Appends the entry of an act and notes it in the feed. The head is locked.
pub(crate) async fn append(
    connection: &mut AsyncPgConnection,
    batch_id: Uuid,
    request: &ActRequest,
    kind: EntryKind,
    entry: &ActEntry,
) -> diesel::QueryResult<Placed> {
    let statement = AppendAct {
        batch_id,
        conversation_id: request.conversation_id.as_uuid(),
        id: request.id.as_uuid(),
        kind: kind.as_str(),
        sender_id: request.caller.as_uuid(),
        target_id: request.act.message_id().as_uuid(),
        content: entry.content.clone(),
        sender_device_id: request.device_id.as_uuid(),
        request_digest: entry.request_digest.clone(),
        metadata: entry.metadata.clone(),
        signature: entry.signature.clone(),
        expires_at: entry.expires_at,
    };
    let (seq, countable_no, sent_at, created_at) = statement.get_result(connection).await?;
    Ok(Placed { seq, countable_no, sent_at, feed: FeedRow { created_at, batch_id } })
}
