//! Table `messaging.public_channels`: what everybody finds.

use chrono::{DateTime, Utc};
use diesel::{
    prelude::Queryable,
    sql_types::{Array, BigInt, Bool, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use entrenous_model::{ConversationId, UserId};
use entrenous_protocol::rest::PublicChannel;
use uuid::Uuid;

use super::statement;

/// Of channels that have the words that are asked for, so many are looked at.
const FOUND_MAX: i64 = 10_000;

statement! {
    /// See `messaging.list_channels`.
    ListChannels {
        caller: SqlUuid = Uuid,
        question: Nullable<Text> = Option<String>,
        size: Integer = i32,
        id: SqlUuid = Uuid,
        row_limit: BigInt = i64,
        found_max: BigInt = i64,
    } -> (SqlUuid, Nullable<Text>, Nullable<Text>, Integer, Timestamptz, Bool, Integer);
    "SELECT * FROM messaging.list_channels({}, {}, {}, {}, {}, {})",
}

statement! {
    /// What everybody finds of a channel.
    WritePublic { conversation_id: SqlUuid = Uuid, size: Integer = i32, words: Array<Text> = Vec<String> } -> (SqlUuid,);
    "INSERT INTO messaging.public_channels AS p (conversation_id, size, words) VALUES ({}, {}, array_to_tsvector({}))
     ON CONFLICT (conversation_id) DO UPDATE SET size = EXCLUDED.size, words = EXCLUDED.words",
}

statement! {
    /// Nobody finds it any more.
    DeletePublic { conversation_id: SqlUuid = Uuid } -> (SqlUuid,);
    "DELETE FROM messaging.public_channels WHERE conversation_id = {}",
}

statement! {
    /// The size by which channels are sorted, where it is off by a tenth.
    NoteSize { size: Integer = i32, conversation_id: SqlUuid = Uuid } -> (SqlUuid,);
    "UPDATE messaging.public_channels SET size = {} WHERE conversation_id = {} AND abs(size - $1) * 10 > size",
}

/// A channel with its place in the order.
#[derive(Queryable)]
pub(crate) struct ChannelRow {
    id: Uuid,
    title: Option<String>,
    description: Option<String>,
    member_count: i32,
    created_at: DateTime<Utc>,
    is_member: bool,
    size: i32,
}

impl ChannelRow {
    /// Where the next page begins.
    pub(crate) fn position(&self) -> (i32, ConversationId) {
        (self.size, self.id.into())
    }
}

impl From<ChannelRow> for PublicChannel {
    fn from(row: ChannelRow) -> Self {
        Self {
            id: row.id.into(),
            title: row.title,
            description: row.description,
            member_count: u32::try_from(row.member_count).unwrap_or_default(),
            created_at: row.created_at.into(),
            is_member: row.is_member,
        }
    }
}

/// Public channels, the largest first, after a place; all, or those that answer a question.
pub(crate) async fn list(
    connection: &mut AsyncPgConnection,
    caller: UserId,
    question: Option<String>,
    after: Option<(i32, ConversationId)>,
    limit: i64,
) -> diesel::QueryResult<Vec<ChannelRow>> {
    let (size, id) = after.map_or((i32::MAX, Uuid::max()), |(size, id)| (size, id.as_uuid()));
    let statement =
        ListChannels { caller: caller.as_uuid(), question, size, id, row_limit: limit, found_max: FOUND_MAX };
    statement.load(connection).await
}

/// Everybody finds the channel, by these words.
pub(crate) async fn write(
    connection: &mut AsyncPgConnection,
    conversation_id: ConversationId,
    size: i32,
    words: Vec<String>,
) -> diesel::QueryResult<()> {
    WritePublic { conversation_id: conversation_id.as_uuid(), size, words }.execute(connection).await.map(drop)
}

/// Nobody finds the channel any more.
pub(crate) async fn delete(
    connection: &mut AsyncPgConnection,
    conversation_id: ConversationId,
) -> diesel::QueryResult<()> {
    DeletePublic { conversation_id: conversation_id.as_uuid() }.execute(connection).await.map(drop)
}

/// A public channel has so many members now.
pub(crate) async fn note_size(
    connection: &mut AsyncPgConnection,
    conversation_id: ConversationId,
    size: i32,
) -> diesel::QueryResult<()> {
    NoteSize { size, conversation_id: conversation_id.as_uuid() }.execute(connection).await.map(drop)
}
