//! Conversations as their members see them.

use chrono::{DateTime, Utc};
use diesel::{
    prelude::Queryable,
    sql_types::{BigInt, Bool, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use entrenous_model::{ConversationId, UserId};
use entrenous_protocol::{
    entry::{ConversationKind, Encryption, Role},
    rest::{Conversation, Posting},
};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{
    entries::{EntryRow, EntrySql, entry_columns},
    parse, statement, to_u64,
};

type SettingsSql = (
    SqlUuid,
    Text,
    Text,
    Nullable<Text>,
    Nullable<Text>,
    Jsonb,
    SqlUuid,
    Timestamptz,
    Timestamptz,
    Bool,
    Text,
    Bool,
    Nullable<BigInt>,
    Nullable<BigInt>,
    Integer,
    Integer,
);
type StandingSql = (BigInt, BigInt, BigInt, Text, Jsonb, Nullable<SqlUuid>, Nullable<SqlUuid>, Timestamptz);

macro_rules! conversation_columns {
    () => {
        concat!(
            "c.id, c.kind, c.encryption, c.title, c.description, c.metadata, c.created_by, c.created_at, c.updated_at,
             c.is_public, c.posting, c.history_visible, c.retention_seconds, c.slow_mode_seconds, c.max_members,
             c.member_count, p.epoch, p.first_seq, p.last_seq, p.role, p.settings, c.direct_low_id, c.direct_high_id,
             p.active_at, ",
            entry_columns!(),
            " FROM page p JOIN messaging.conversations c ON c.id = p.conversation_id
              LEFT JOIN messaging.log l ON l.conversation_id = p.conversation_id AND l.seq = p.last_seq
                  AND (c.history_visible OR l.seq >= p.joined_seq) "
        )
    };
}

macro_rules! page_columns {
    () => {
        "SELECT m.conversation_id, m.role, m.settings, m.joined_seq, h.epoch, h.first_seq, h.last_seq,
                coalesce(h.last_entry_at, c.created_at) AS active_at
         FROM messaging.members m
         JOIN messaging.conversations c ON c.id = m.conversation_id AND c.is_active
         JOIN messaging.heads h ON h.conversation_id = m.conversation_id "
    };
}

statement! {
    /// One conversation.
    OneConversation { caller: SqlUuid = Uuid, conversation_id: SqlUuid = Uuid } -> (SettingsSql, StandingSql, EntrySql);
    "WITH page AS MATERIALIZED (", page_columns!(),
    "WHERE m.user_id = {} AND m.conversation_id = {} AND m.left_seq IS NULL) SELECT ", conversation_columns!(),
}

statement! {
    /// A user's conversations, latest activity first, from a place on.
    ConversationPage {
        caller: SqlUuid = Uuid,
        active_at: Nullable<Timestamptz> = Option<DateTime<Utc>>,
        conversation_id: Nullable<SqlUuid> = Option<Uuid>,
        row_limit: BigInt = i64,
    } -> (SettingsSql, StandingSql, EntrySql);
    "WITH page AS MATERIALIZED (", page_columns!(),
    "WHERE m.user_id = {} AND m.left_seq IS NULL
         AND ({}::timestamptz IS NULL
              OR (coalesce(h.last_entry_at, c.created_at), m.conversation_id) < ($2, {}::uuid))
     ORDER BY coalesce(h.last_entry_at, c.created_at) DESC, m.conversation_id DESC LIMIT {})
     SELECT ", conversation_columns!(), "ORDER BY p.active_at DESC, p.conversation_id DESC",
}

/// A conversation as its member sees it.
#[derive(Queryable)]
pub(crate) struct ConversationRow {
    settings: Settings,
    standing: Standing,
    last_entry: EntryRow,
}

#[derive(Queryable)]
pub(crate) struct Settings {
    id: Uuid,
    kind: String,
    encryption: String,
    title: Option<String>,
    description: Option<String>,
    metadata: Value,
    created_by: Uuid,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    is_public: bool,
    posting: String,
    history_visible: bool,
    retention_seconds: Option<i64>,
    slow_mode_seconds: Option<i64>,
    max_members: i32,
    member_count: i32,
}

#[derive(Queryable)]
pub(crate) struct Standing {
    epoch: i64,
    first_seq: i64,
    last_seq: i64,
    role: String,
    settings: Value,
    direct_low_id: Option<Uuid>,
    direct_high_id: Option<Uuid>,
    active_at: DateTime<Utc>,
}

impl ConversationRow {
    /// The other person of a direct conversation.
    pub(crate) fn peer(&self, caller: UserId) -> Option<UserId> {
        let (low, high) = self.standing.direct_low_id.zip(self.standing.direct_high_id)?;
        Some(if low == caller.as_uuid() { high } else { low }.into())
    }

    /// Where the next page begins.
    pub(crate) fn position(&self) -> (DateTime<Utc>, ConversationId) {
        (self.standing.active_at, self.settings.id.into())
    }

    /// As clients see it, without what other services know.
    pub(crate) fn conversation(self, now: DateTime<Utc>) -> diesel::QueryResult<Conversation> {
        let Self { settings, standing, last_entry } = self;
        let last_entry = last_entry.entry(settings.id.into(), now)?;
        let last_entry = last_entry.and_then(|entry| serde_json::value::to_raw_value(&entry).ok());
        let count = |number: i32| u32::try_from(number).unwrap_or_default();
        Ok(Conversation {
            id: settings.id.into(),
            kind: parse(&settings.kind, ConversationKind::parse)?,
            encryption: parse(&settings.encryption, Encryption::parse)?,
            title: settings.title,
            description: settings.description,
            metadata: object(settings.metadata),
            created_by: settings.created_by.into(),
            created_at: settings.created_at.into(),
            updated_at: settings.updated_at.into(),
            is_public: settings.is_public,
            posting: if settings.posting == "moderators" { Posting::Moderators } else { Posting::Everyone },
            history_visible: settings.history_visible,
            retention_seconds: settings.retention_seconds.map(to_u64),
            slow_mode_seconds: settings.slow_mode_seconds.map(to_u64),
            max_members: count(settings.max_members),
            member_count: count(settings.member_count),
            epoch: to_u64(standing.epoch),
            first_seq: to_u64(standing.first_seq),
            last_seq: to_u64(standing.last_seq),
            role: parse(&standing.role, Role::parse)?,
            settings: object(standing.settings),
            read_seq: 0,
            unread_count: 0,
            last_entry,
            peer: None,
        })
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// One conversation; none when it does not exist or the caller is no member.
pub(crate) async fn get(
    connection: &mut AsyncPgConnection,
    caller: UserId,
    conversation_id: ConversationId,
) -> diesel::QueryResult<Option<ConversationRow>> {
    let statement = OneConversation { caller: caller.as_uuid(), conversation_id: conversation_id.as_uuid() };
    let rows: Vec<ConversationRow> = statement.load(connection).await?;
    Ok(rows.into_iter().next())
}

/// A user's conversations, latest activity first, after a position.
pub(crate) async fn list(
    connection: &mut AsyncPgConnection,
    caller: UserId,
    after: Option<(DateTime<Utc>, ConversationId)>,
    limit: i64,
) -> diesel::QueryResult<Vec<ConversationRow>> {
    let (active_at, conversation_id) = after.unzip();
    let statement = ConversationPage {
        caller: caller.as_uuid(),
        active_at,
        conversation_id: conversation_id.map(ConversationId::as_uuid),
        row_limit: limit,
    };
    statement.load(connection).await
}
