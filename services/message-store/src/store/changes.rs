//! Making conversations and changing their members: transactions, each on one locked head.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension,
    prelude::Queryable,
    sql_types::{Array, BigInt, Binary, Bool, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use entrenous_bus::Deadline;
use entrenous_model::{ConversationId, DeviceId, EntryId, UserId};
use entrenous_protocol::entry::{ConversationKind, EntryKind, Role};
use serde_json::Value;
use uuid::Uuid;

use super::{feed::FeedRow, parse, statement};

statement! {
    /// Bounds what the rest of the transaction may wait for.
    SetTimeouts { lock_ms: Text = String, statement_ms: Text = String } -> (Text, Text);
    "SELECT set_config('lock_timeout', {}, true), set_config('statement_timeout', {}, true)",
}

statement! {
    /// Locks a head, so that nothing else is appended until the transaction ends.
    LockHead { conversation_id: SqlUuid = Uuid } -> (BigInt,);
    "SELECT last_seq FROM messaging.heads WHERE conversation_id = {} FOR NO KEY UPDATE",
}

statement! {
    /// What a change of the members is judged by. Read after the lock, on a snapshot of its own.
    ReadStanding { conversation_id: SqlUuid = Uuid, caller: SqlUuid = Uuid, target: SqlUuid = Uuid } -> (
        (Text, Bool, Integer, Integer, BigInt, BigInt, Array<SqlUuid>),
        (
            Nullable<Text>, Nullable<BigInt>, Nullable<Text>, Nullable<Timestamptz>, Nullable<BigInt>, Nullable<BigInt>,
            Nullable<Timestamptz>, BigInt, Bool, Bool,
        ),
    );
    "SELECT c.kind, c.is_public, c.max_members, c.member_count, h.last_seq, h.leaves,
            CASE WHEN c.kind = 'channel' THEN
                ARRAY(SELECT o.user_id FROM messaging.members o
                      WHERE o.conversation_id = c.id AND o.role IN ('moderator', 'owner') AND o.left_seq IS NULL
                      LIMIT 1000)
            ELSE ARRAY[]::uuid[] END,
            me.role, me.left_seq, them.role, them.joined_at, them.joined_seq, them.left_seq, them.left_at,
            (SELECT count(*) FROM messaging.members o
             WHERE o.conversation_id = c.id AND o.role = 'owner' AND o.left_seq IS NULL),
            coalesce((SELECT true FROM messaging.blocks b WHERE b.user_id = asked.target AND b.blocked_id = asked.caller),
                     false),
            coalesce((SELECT true FROM messaging.bans b WHERE b.conversation_id = c.id AND b.user_id = asked.target), false)
     FROM (SELECT {} AS conversation_id, {} AS caller, {} AS target) asked
     JOIN messaging.conversations c ON c.id = asked.conversation_id AND c.is_active
     JOIN messaging.heads h ON h.conversation_id = c.id
     LEFT JOIN messaging.members me ON me.conversation_id = c.id AND me.user_id = asked.caller
     LEFT JOIN messaging.members them ON them.conversation_id = c.id AND them.user_id = asked.target",
}

statement! {
    /// How many groups and channels each of these users is in.
    CountConversations { user_ids: Array<SqlUuid> = Vec<Uuid> } -> (SqlUuid, BigInt);
    "SELECT m.user_id, count(*)
     FROM messaging.members m JOIN messaging.conversations c ON c.id = m.conversation_id
     WHERE m.user_id = ANY ({}) AND m.left_seq IS NULL AND c.kind <> 'direct' AND c.is_active
     GROUP BY m.user_id",
}

statement! {
    /// A conversation with its head and first members, before its first entry.
    InsertConversation {
        id: SqlUuid = Uuid,
        kind: Text = &'static str,
        encryption: Text = &'static str,
        title: Nullable<Text> = Option<String>,
        description: Nullable<Text> = Option<String>,
        metadata: Jsonb = Value,
        posting: Text = &'static str,
        history_visible: Bool = bool,
        is_public: Bool = bool,
        retention_seconds: Nullable<BigInt> = Option<i64>,
        slow_mode_seconds: Nullable<BigInt> = Option<i64>,
        max_members: Integer = i32,
        member_count: Integer = i32,
        created_by: SqlUuid = Uuid,
        user_ids: Array<SqlUuid> = Vec<Uuid>,
        roles: Array<Text> = Vec<&'static str>,
    } -> (SqlUuid,);
    "WITH made AS (
         INSERT INTO messaging.conversations (
             id, kind, encryption, title, description, metadata, posting, history_visible, is_public, retention_seconds,
             slow_mode_seconds, max_members, member_count, created_by, created_at, updated_at)
         SELECT {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, date_trunc('milliseconds', now()), date_trunc('milliseconds', now())
         RETURNING id
     ), headed AS (
         INSERT INTO messaging.heads (conversation_id) SELECT id FROM made
     )
     INSERT INTO messaging.members (conversation_id, user_id, role, joined_seq, joined_at)
     SELECT made.id, u.user_id, u.role, 1, date_trunc('milliseconds', now())
     FROM made, unnest({}, {}) AS u (user_id, role)",
}

statement! {
    /// One member more, or one less: nobody else changes the number while the head is locked.
    CountMember { difference: Integer = i32, conversation_id: SqlUuid = Uuid } -> (Integer,);
    "UPDATE messaging.conversations SET member_count = member_count + {} WHERE id = {}",
}

statement! {
    /// A member from this seq on, whether new or come back.
    UpsertMember {
        conversation_id: SqlUuid = Uuid,
        user_id: SqlUuid = Uuid,
        role: Text = &'static str,
        joined_seq: BigInt = i64,
        joined_at: Timestamptz = DateTime<Utc>,
    } -> (SqlUuid,);
    "INSERT INTO messaging.members (conversation_id, user_id, role, joined_seq, joined_at) VALUES ({}, {}, {}, {}, {})
     ON CONFLICT (conversation_id, user_id) DO UPDATE SET
         role = EXCLUDED.role, joined_seq = EXCLUDED.joined_seq, joined_at = EXCLUDED.joined_at, left_seq = NULL,
         left_at = NULL",
}

statement! {
    /// No member any more from this seq on.
    EndMember {
        left_seq: BigInt = i64,
        left_at: Timestamptz = DateTime<Utc>,
        conversation_id: SqlUuid = Uuid,
        user_id: SqlUuid = Uuid,
    } -> (SqlUuid,);
    "UPDATE messaging.members SET left_seq = {}, left_at = {} WHERE conversation_id = {} AND user_id = {}",
}

statement! {
    /// A member of a channel from the next entry on, whether new or come back.
    JoinChannel { user_id: SqlUuid = Uuid, role: Text = &'static str, conversation_id: SqlUuid = Uuid } -> (
        BigInt, Timestamptz,
    );
    "INSERT INTO messaging.members (conversation_id, user_id, role, joined_seq, joined_at)
     SELECT h.conversation_id, {}, {}, h.last_seq + 1, date_trunc('milliseconds', clock_timestamp())
     FROM messaging.heads h WHERE h.conversation_id = {}
     ON CONFLICT (conversation_id, user_id) DO UPDATE SET
         role = EXCLUDED.role, joined_seq = EXCLUDED.joined_seq, joined_at = EXCLUDED.joined_at, left_seq = NULL,
         left_at = NULL
     RETURNING joined_seq, joined_at",
}

statement! {
    /// No member of a channel any more after its last entry.
    LeaveChannel { conversation_id: SqlUuid = Uuid, user_id: SqlUuid = Uuid } -> (BigInt, BigInt);
    "WITH moved AS (
         UPDATE messaging.heads SET leaves = leaves + 1 WHERE conversation_id = {}
         RETURNING conversation_id, last_seq, leaves, date_trunc('milliseconds', clock_timestamp()) AS left_at
     ), noted AS (
         INSERT INTO messaging.channel_leaves (conversation_id, leave_no, user_id, seq, left_at)
         SELECT v.conversation_id, v.leaves, {}, v.last_seq, v.left_at FROM moved v
     )
     UPDATE messaging.members m SET left_seq = v.last_seq, left_at = v.left_at
     FROM moved v WHERE m.conversation_id = v.conversation_id AND m.user_id = $2
     RETURNING v.last_seq, v.leaves",
}

statement! {
    /// Appends an entry that is no message.
    AppendEntry {
        batch_id: SqlUuid = Uuid,
        conversation_id: SqlUuid = Uuid,
        id: SqlUuid = Uuid,
        kind: Text = &'static str,
        sender_id: SqlUuid = Uuid,
        target_id: Nullable<SqlUuid> = Option<Uuid>,
        content: Binary = Vec<u8>,
        sender_device_id: Nullable<SqlUuid> = Option<Uuid>,
    } -> (BigInt, BigInt, Timestamptz, Timestamptz);
    "SELECT seq, countable_no, sent_at, feed_at FROM messaging.append_entry({}, {}, {}, {}, {}, {}, {}, {})",
}

statement! {
    /// What has an id.
    FindEntry { conversation_id: SqlUuid = Uuid, id: SqlUuid = Uuid } -> (
        Text, SqlUuid, Nullable<SqlUuid>, BigInt, Timestamptz,
    );
    "SELECT kind, sender_id, sender_device_id, seq, sent_at FROM messaging.log WHERE conversation_id = {} AND id = {}",
}

statement! {
    /// Notes that memberships have changed; the last statement of its transaction.
    BumpVersions { user_ids: Array<SqlUuid> = Vec<Uuid> } -> (Integer,);
    "SELECT 1 FROM (SELECT messaging.bump_versions({})) bumped",
}

statement! {
    /// Another role.
    SetRole { role: Text = &'static str, conversation_id: SqlUuid = Uuid, user_id: SqlUuid = Uuid } -> (SqlUuid,);
    "UPDATE messaging.members SET role = {} WHERE conversation_id = {} AND user_id = {}",
}

/// How the caller, and the one concerned, stand in a conversation.
#[derive(Debug, Queryable)]
pub(crate) struct StandingRow {
    pub(crate) room: RoomPart,
    people: PeoplePart,
}

/// The conversation.
#[derive(Debug, Queryable)]
pub(crate) struct RoomPart {
    kind: String,
    pub(crate) is_public: bool,
    pub(crate) max_members: i32,
    pub(crate) member_count: i32,
    pub(crate) last_seq: i64,
    /// How many have left the channel.
    pub(crate) leaves: i64,
    /// Who looks after the members of the channel, at most 1,000 of them.
    pub(crate) moderators: Vec<Uuid>,
}

/// The people concerned.
#[derive(Debug, Queryable)]
pub(crate) struct PeoplePart {
    caller_role: Option<String>,
    caller_left_seq: Option<i64>,
    target_role: Option<String>,
    target_joined_at: Option<DateTime<Utc>>,
    target_joined_seq: Option<i64>,
    target_left_seq: Option<i64>,
    target_left_at: Option<DateTime<Utc>>,
    owners: i64,
    is_blocked: bool,
    is_banned: bool,
}

impl StandingRow {
    pub(crate) fn kind(&self) -> diesel::QueryResult<ConversationKind> {
        parse(&self.room.kind, ConversationKind::parse)
    }

    /// How many owners there are.
    pub(crate) fn owners(&self) -> i64 {
        self.people.owners
    }

    /// The one concerned has blocked the caller.
    pub(crate) fn is_blocked(&self) -> bool {
        self.people.is_blocked
    }

    /// The one concerned is kept out.
    pub(crate) fn is_banned(&self) -> bool {
        self.people.is_banned
    }

    /// The caller's role, if the caller is a member now.
    pub(crate) fn caller_role(&self) -> diesel::QueryResult<Option<Role>> {
        present(self.people.caller_role.as_deref(), self.people.caller_left_seq)
    }

    /// The role of the one concerned, if that is a member now.
    pub(crate) fn target_role(&self) -> diesel::QueryResult<Option<Role>> {
        present(self.people.target_role.as_deref(), self.people.target_left_seq)
    }

    /// The last role of the one concerned, who was a member once and is no more.
    pub(crate) fn target_role_before(&self) -> diesel::QueryResult<Option<Role>> {
        let role = self.people.target_role.as_deref().filter(|_| self.people.target_left_seq.is_some());
        role.map(|role| parse(role, Role::parse)).transpose()
    }

    /// When the one concerned, who was a member once and is no more, left.
    pub(crate) fn target_left(&self) -> Option<(DateTime<Utc>, i64)> {
        self.people.target_left_at.zip(self.people.target_left_seq)
    }

    /// When the one concerned joined.
    pub(crate) fn target_joined(&self) -> Option<(DateTime<Utc>, i64)> {
        self.people.target_joined_at.zip(self.people.target_joined_seq)
    }
}

fn present(role: Option<&str>, left_seq: Option<i64>) -> diesel::QueryResult<Option<Role>> {
    role.filter(|_| left_seq.is_none()).map(|role| parse(role, Role::parse)).transpose()
}

/// An entry to be appended.
#[derive(Debug, Clone)]
pub(crate) struct NewEntry {
    pub(crate) batch_id: Uuid,
    pub(crate) conversation_id: ConversationId,
    pub(crate) id: EntryId,
    pub(crate) kind: EntryKind,
    pub(crate) sender_id: UserId,
    /// None for what came by REST.
    pub(crate) sender_device_id: Option<DeviceId>,
    pub(crate) target_id: Option<Uuid>,
    /// JSON text.
    pub(crate) content: Vec<u8>,
}

/// An entry that is there.
#[derive(Debug)]
pub(crate) struct FoundEntry {
    pub(crate) kind: EntryKind,
    pub(crate) sender_id: UserId,
    pub(crate) sender_device_id: Option<DeviceId>,
    pub(crate) seq: i64,
    pub(crate) sent_at: DateTime<Utc>,
}

/// Where an entry stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placed {
    pub(crate) seq: i64,
    pub(crate) countable_no: i64,
    pub(crate) sent_at: DateTime<Utc>,
    pub(crate) feed: FeedRow,
}

/// Bounds what the rest of the transaction may wait for, so that it does not commit when everyone has given up.
pub(crate) async fn set_timeouts(
    connection: &mut AsyncPgConnection,
    lock: Duration,
    statement: Duration,
) -> diesel::QueryResult<()> {
    // 0 would mean no limit.
    let text = |duration: Duration| duration.as_millis().max(1).to_string();
    SetTimeouts { lock_ms: text(lock), statement_ms: text(statement) }.execute(connection).await.map(drop)
}

/// How long one try waits for a conversation's head.
const LOCK_MAX: Duration = Duration::from_millis(500);

/// The same, for a transaction that is tried again where it waited too long.
pub(crate) async fn bound(connection: &mut AsyncPgConnection, deadline: Deadline) -> diesel::QueryResult<()> {
    let remaining = deadline.remaining();
    set_timeouts(connection, LOCK_MAX.min(remaining), remaining).await
}

/// Locks a conversation's head; tells whether there is one.
pub(crate) async fn lock_head(
    connection: &mut AsyncPgConnection,
    conversation_id: ConversationId,
) -> diesel::QueryResult<bool> {
    let rows: Vec<(i64,)> = LockHead { conversation_id: conversation_id.as_uuid() }.load(connection).await?;
    Ok(!rows.is_empty())
}

/// How caller and target stand; none where there is no such conversation.
pub(crate) async fn read_standing(
    connection: &mut AsyncPgConnection,
    conversation_id: ConversationId,
    caller: UserId,
    target: UserId,
) -> diesel::QueryResult<Option<StandingRow>> {
    let statement =
        ReadStanding { conversation_id: conversation_id.as_uuid(), caller: caller.as_uuid(), target: target.as_uuid() };
    let rows: Vec<StandingRow> = statement.load(connection).await?;
    Ok(rows.into_iter().next())
}

/// The greatest number of groups and channels that one of these users is in.
pub(crate) async fn count_conversations_max(
    connection: &mut AsyncPgConnection,
    user_ids: &[UserId],
) -> diesel::QueryResult<i64> {
    let user_ids = user_ids.iter().map(|id| id.as_uuid()).collect();
    let rows: Vec<(Uuid, i64)> = CountConversations { user_ids }.load(connection).await?;
    Ok(rows.into_iter().map(|(_, count)| count).max().unwrap_or_default())
}

/// One member more (1) or less (-1).
pub(crate) async fn count_member(
    connection: &mut AsyncPgConnection,
    conversation_id: ConversationId,
    difference: i32,
) -> diesel::QueryResult<()> {
    CountMember { difference, conversation_id: conversation_id.as_uuid() }.execute(connection).await.map(drop)
}

/// Makes somebody a member of a channel from the next entry on. Gives that seq, and when it was.
pub(crate) async fn join_channel(
    connection: &mut AsyncPgConnection,
    conversation_id: ConversationId,
    user_id: UserId,
    role: Role,
) -> diesel::QueryResult<(i64, DateTime<Utc>)> {
    let (user_id, conversation_id) = (user_id.as_uuid(), conversation_id.as_uuid());
    JoinChannel { user_id, role: role.as_str(), conversation_id }.get_result(connection).await
}

/// Ends a membership of a channel with its last entry. Gives that seq, and how many have left.
pub(crate) async fn leave_channel(
    connection: &mut AsyncPgConnection,
    conversation_id: ConversationId,
    user_id: UserId,
) -> diesel::QueryResult<(i64, i64)> {
    let (conversation_id, user_id) = (conversation_id.as_uuid(), user_id.as_uuid());
    LeaveChannel { conversation_id, user_id }.get_result(connection).await
}

/// Makes somebody a member from an entry on.
pub(crate) async fn upsert_member(
    connection: &mut AsyncPgConnection,
    conversation_id: ConversationId,
    user_id: UserId,
    role: Role,
    placed: Placed,
) -> diesel::QueryResult<()> {
    let statement = UpsertMember {
        conversation_id: conversation_id.as_uuid(),
        user_id: user_id.as_uuid(),
        role: role.as_str(),
        joined_seq: placed.seq,
        joined_at: placed.sent_at,
    };
    statement.execute(connection).await.map(drop)
}

/// Ends a membership with an entry.
pub(crate) async fn end_member(
    connection: &mut AsyncPgConnection,
    conversation_id: ConversationId,
    user_id: UserId,
    placed: Placed,
) -> diesel::QueryResult<()> {
    let statement = EndMember {
        left_seq: placed.seq,
        left_at: placed.sent_at,
        conversation_id: conversation_id.as_uuid(),
        user_id: user_id.as_uuid(),
    };
    statement.execute(connection).await.map(drop)
}

/// Gives a member another role.
pub(crate) async fn set_role(
    connection: &mut AsyncPgConnection,
    conversation_id: ConversationId,
    user_id: UserId,
    role: Role,
) -> diesel::QueryResult<()> {
    let (conversation_id, user_id) = (conversation_id.as_uuid(), user_id.as_uuid());
    SetRole { role: role.as_str(), conversation_id, user_id }.execute(connection).await.map(drop)
}

/// Appends an entry and notes it in the feed. The head is locked by this, if it was not yet.
pub(crate) async fn append_entry(connection: &mut AsyncPgConnection, entry: &NewEntry) -> diesel::QueryResult<Placed> {
    let statement = AppendEntry {
        batch_id: entry.batch_id,
        conversation_id: entry.conversation_id.as_uuid(),
        id: entry.id.as_uuid(),
        kind: entry.kind.as_str(),
        sender_id: entry.sender_id.as_uuid(),
        target_id: entry.target_id,
        content: entry.content.clone(),
        sender_device_id: entry.sender_device_id.map(DeviceId::as_uuid),
    };
    let (seq, countable_no, sent_at, created_at) = statement.get_result(connection).await?;
    Ok(Placed { seq, countable_no, sent_at, feed: FeedRow { created_at, batch_id: entry.batch_id } })
}

/// What has an id in a conversation.
pub(crate) async fn find_entry(
    connection: &mut AsyncPgConnection,
    conversation_id: ConversationId,
    id: EntryId,
) -> diesel::QueryResult<Option<FoundEntry>> {
    type Row = (String, Uuid, Option<Uuid>, i64, DateTime<Utc>);
    let statement = FindEntry { conversation_id: conversation_id.as_uuid(), id: id.as_uuid() };
    let row: Option<Row> = statement.get_result(connection).await.optional()?;
    let entry = |(kind, sender_id, sender_device_id, seq, sent_at): Row| {
        Ok(FoundEntry {
            kind: parse(&kind, EntryKind::parse)?,
            sender_id: sender_id.into(),
            sender_device_id: sender_device_id.map(Into::into),
            seq,
            sent_at,
        })
    };
    row.map(entry).transpose()
}

/// Notes that the memberships of these users have changed.
pub(crate) async fn bump_versions(connection: &mut AsyncPgConnection, user_ids: &[UserId]) -> diesel::QueryResult<()> {
    BumpVersions { user_ids: user_ids.iter().map(|id| id.as_uuid()).collect() }.execute(connection).await.map(drop)
}
