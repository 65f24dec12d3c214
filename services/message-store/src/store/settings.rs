//! The settings of a conversation, its end, and a member's own settings.

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension,
    prelude::Queryable,
    sql_types::{BigInt, Bool, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use entrenous_model::{ConversationId, UserId};
use entrenous_protocol::{
    entry::{ConversationKind, Role},
    rest::{Member, Posting},
};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{entries::Setting, memberships::member, parse, statement, to_i64, to_u64};
use crate::domain::settings::Settings;

statement! {
    /// What a change of the settings is judged by. Read after the lock of the head.
    ReadSettings { conversation_id: SqlUuid = Uuid, caller: SqlUuid = Uuid } -> (
        (Text, Text, BigInt, Integer, Nullable<SqlUuid>, Nullable<SqlUuid>),
        (
            Nullable<Text>, Nullable<Text>, Jsonb, Nullable<BigInt>, Nullable<BigInt>, Text, Bool, Integer, Bool,
        ),
    );
    "SELECT c.kind, m.role, h.leaves, c.member_count, c.direct_low_id, c.direct_high_id,
            c.title, c.description, c.metadata, c.retention_seconds, c.slow_mode_seconds, c.posting, c.history_visible,
            c.max_members, c.is_public
     FROM messaging.conversations c
     JOIN messaging.heads h ON h.conversation_id = c.id
     JOIN messaging.members m ON m.conversation_id = c.id
     WHERE c.id = {} AND c.is_active AND m.user_id = {} AND m.left_seq IS NULL",
}

statement! {
    /// The settings as they are now.
    WriteSettings {
        title: Nullable<Text> = Option<String>,
        description: Nullable<Text> = Option<String>,
        metadata: Jsonb = Value,
        retention_seconds: Nullable<BigInt> = Option<i64>,
        slow_mode_seconds: Nullable<BigInt> = Option<i64>,
        posting: Text = &'static str,
        history_visible: Bool = bool,
        max_members: Integer = i32,
        is_public: Bool = bool,
        updated_at: Timestamptz = DateTime<Utc>,
        conversation_id: SqlUuid = Uuid,
    } -> (SqlUuid,);
    "UPDATE messaging.conversations
     SET title = {}, description = {}, metadata = {}, retention_seconds = {}, slow_mode_seconds = {}, posting = {},
         history_visible = {}, max_members = {}, is_public = {}, updated_at = {}
     WHERE id = {}",
}

statement! {
    /// The conversation is no more. Its rows stay.
    End { deleted_at: Timestamptz = DateTime<Utc>, conversation_id: SqlUuid = Uuid } -> (SqlUuid,);
    "UPDATE messaging.conversations SET is_active = false, deleted_at = {}, updated_at = $1 WHERE id = {}",
}

statement! {
    /// Whether it was deleted, and this was one of its owners.
    WasOwned { conversation_id: SqlUuid = Uuid, caller: SqlUuid = Uuid } -> (Bool,);
    "SELECT true
     FROM messaging.conversations c JOIN messaging.members m ON m.conversation_id = c.id
     WHERE c.id = {} AND c.deleted_at IS NOT NULL AND m.user_id = {} AND m.role = 'owner' AND m.left_seq IS NULL",
}

statement! {
    /// A member with their own settings, locked.
    LockMember { conversation_id: SqlUuid = Uuid, user_id: SqlUuid = Uuid } -> ((SqlUuid, Text, Timestamptz, BigInt), Jsonb);
    "SELECT m.user_id, m.role, m.joined_at, m.joined_seq, m.settings
     FROM messaging.members m
     WHERE m.conversation_id = {} AND m.user_id = {} AND m.left_seq IS NULL
         AND (SELECT c.is_active FROM messaging.conversations c WHERE c.id = m.conversation_id)
     FOR NO KEY UPDATE OF m",
}

statement! {
    /// A member's own settings as they are now.
    WriteOwn { settings: Jsonb = Value, conversation_id: SqlUuid = Uuid, user_id: SqlUuid = Uuid } -> (SqlUuid,);
    "UPDATE messaging.members SET settings = {} WHERE conversation_id = {} AND user_id = {}",
}

/// What a change of the settings is judged by.
#[derive(Queryable)]
struct SettingsRow {
    standing: StandingPart,
    settings: SettingsPart,
}

#[derive(Queryable)]
struct StandingPart {
    kind: String,
    role: String,
    leaves: i64,
    member_count: i32,
    direct_low_id: Option<Uuid>,
    direct_high_id: Option<Uuid>,
}

#[derive(Queryable)]
struct SettingsPart {
    title: Option<String>,
    description: Option<String>,
    metadata: Value,
    retention_seconds: Option<i64>,
    slow_mode_seconds: Option<i64>,
    posting: String,
    history_visible: bool,
    max_members: i32,
    is_public: bool,
}

/// The settings of a conversation, and how its member stands there.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) setting: Setting,
    pub(crate) role: Role,
    /// How many have left the channel.
    pub(crate) leaves: u64,
    pub(crate) member_count: i32,
    pub(crate) settings: Settings,
}

impl SettingsRow {
    fn standing(self, conversation_id: ConversationId) -> diesel::QueryResult<Standing> {
        let Self { standing, settings } = self;
        Ok(Standing {
            setting: Setting {
                conversation_id,
                kind: parse(&standing.kind, ConversationKind::parse)?,
                direct: standing.direct_low_id.zip(standing.direct_high_id),
            },
            role: parse(&standing.role, Role::parse)?,
            leaves: to_u64(standing.leaves),
            member_count: standing.member_count,
            settings: Settings {
                title: settings.title,
                description: settings.description,
                metadata: object(settings.metadata),
                retention_seconds: settings.retention_seconds.map(to_u64),
                slow_mode_seconds: settings.slow_mode_seconds.map(to_u64),
                posting: parse(&settings.posting, Posting::parse)?,
                history_visible: settings.history_visible,
                max_members: u32::try_from(settings.max_members).unwrap_or_default(),
                is_public: settings.is_public,
            },
        })
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// Settings, and how the caller stands; none for who is no member.
pub(crate) async fn read(
    connection: &mut AsyncPgConnection,
    conversation_id: ConversationId,
    caller: UserId,
) -> diesel::QueryResult<Option<Standing>> {
    let statement = ReadSettings { conversation_id: conversation_id.as_uuid(), caller: caller.as_uuid() };
    let row: Option<SettingsRow> = statement.get_result(connection).await.optional()?;
    row.map(|row| row.standing(conversation_id)).transpose()
}

/// Puts settings in the place of those that were there.
pub(crate) async fn write(
    connection: &mut AsyncPgConnection,
    conversation_id: ConversationId,
    settings: &Settings,
    updated_at: DateTime<Utc>,
) -> diesel::QueryResult<()> {
    let statement = WriteSettings {
        title: settings.title.clone(),
        description: settings.description.clone(),
        metadata: Value::Object(settings.metadata.clone()),
        retention_seconds: settings.retention_seconds.map(to_i64),
        slow_mode_seconds: settings.slow_mode_seconds.map(to_i64),
        posting: settings.posting.as_str(),
        history_visible: settings.history_visible,
        max_members: i32::try_from(settings.max_members).unwrap_or(i32::MAX),
        is_public: settings.is_public,
        updated_at,
        conversation_id: conversation_id.as_uuid(),
    };
    statement.execute(connection).await.map(drop)
}

/// Ends a conversation.
pub(crate) async fn end(
    connection: &mut AsyncPgConnection,
    conversation_id: ConversationId,
    deleted_at: DateTime<Utc>,
) -> diesel::QueryResult<()> {
    End { deleted_at, conversation_id: conversation_id.as_uuid() }.execute(connection).await.map(drop)
}

/// Whether a conversation was deleted of which this is an owner.
pub(crate) async fn was_owned(
    connection: &mut AsyncPgConnection,
    conversation_id: ConversationId,
    caller: UserId,
) -> diesel::QueryResult<bool> {
    let statement = WasOwned { conversation_id: conversation_id.as_uuid(), caller: caller.as_uuid() };
    let row: Option<(bool,)> = statement.get_result(connection).await.optional()?;
    Ok(row.is_some())
}

/// Locks a member; gives them with their own settings.
pub(crate) async fn lock_member(
    connection: &mut AsyncPgConnection,
    conversation_id: ConversationId,
    user_id: UserId,
) -> diesel::QueryResult<Option<(Member, Map<String, Value>)>> {
    type Row = ((Uuid, String, DateTime<Utc>, i64), Value);
    let statement = LockMember { conversation_id: conversation_id.as_uuid(), user_id: user_id.as_uuid() };
    let row: Option<Row> = statement.get_result(connection).await.optional()?;
    row.map(|(row, settings)| Ok((member(row)?, object(settings)))).transpose()
}

/// Puts a member's own settings in the place of those that were there.
pub(crate) async fn write_own(
    connection: &mut AsyncPgConnection,
    conversation_id: ConversationId,
    user_id: UserId,
    settings: Map<String, Value>,
) -> diesel::QueryResult<()> {
    let (conversation_id, user_id) = (conversation_id.as_uuid(), user_id.as_uuid());
    WriteOwn { settings: Value::Object(settings), conversation_id, user_id }.execute(connection).await.map(drop)
}
