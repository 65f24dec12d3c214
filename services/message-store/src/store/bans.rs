//! Table `messaging.bans`.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use entrenous_model::{ConversationId, UserId};
use entrenous_protocol::rest::Ban;
use uuid::Uuid;

use super::statement;

statement! {
    /// Keeps somebody out.
    InsertBan { conversation_id: SqlUuid = Uuid, user_id: SqlUuid = Uuid, banned_by: SqlUuid = Uuid } -> (SqlUuid,);
    "INSERT INTO messaging.bans (conversation_id, user_id, banned_by, banned_at)
     VALUES ({}, {}, {}, date_trunc('milliseconds', clock_timestamp()))
     ON CONFLICT DO NOTHING",
}

statement! {
    /// Lets somebody in again.
    DeleteBan { conversation_id: SqlUuid = Uuid, user_id: SqlUuid = Uuid } -> (SqlUuid,);
    "DELETE FROM messaging.bans WHERE conversation_id = {} AND user_id = {}",
}

statement! {
    /// Bans by user, from one on.
    ReadBans { conversation_id: SqlUuid = Uuid, after: SqlUuid = Uuid, row_limit: BigInt = i64 } -> (
        SqlUuid, SqlUuid, Timestamptz,
    );
    "SELECT user_id, banned_by, banned_at FROM messaging.bans
     WHERE conversation_id = {} AND user_id > {} ORDER BY user_id LIMIT {}",
}

/// Keeps somebody out; tells whether they were not before.
pub(crate) async fn insert(
    connection: &mut AsyncPgConnection,
    conversation_id: ConversationId,
    user_id: UserId,
    banned_by: UserId,
) -> diesel::QueryResult<bool> {
    let (conversation_id, user_id) = (conversation_id.as_uuid(), user_id.as_uuid());
    let statement = InsertBan { conversation_id, user_id, banned_by: banned_by.as_uuid() };
    statement.execute(connection).await.map(|count| count > 0)
}

/// Lets somebody in again; tells whether they were kept out.
pub(crate) async fn delete(
    connection: &mut AsyncPgConnection,
    conversation_id: ConversationId,
    user_id: UserId,
) -> diesel::QueryResult<bool> {
    let statement = DeleteBan { conversation_id: conversation_id.as_uuid(), user_id: user_id.as_uuid() };
    statement.execute(connection).await.map(|count| count > 0)
}

/// Who is kept out, by id, after one.
pub(crate) async fn list(
    connection: &mut AsyncPgConnection,
    conversation_id: ConversationId,
    after: Option<UserId>,
    limit: u32,
) -> diesel::QueryResult<Vec<Ban>> {
    let after = after.map_or_else(Uuid::nil, UserId::as_uuid);
    let statement = ReadBans { conversation_id: conversation_id.as_uuid(), after, row_limit: i64::from(limit) };
    let rows: Vec<(Uuid, Uuid, DateTime<Utc>)> = statement.load(connection).await?;
    let ban = |(user_id, banned_by, banned_at): (Uuid, Uuid, DateTime<Utc>)| Ban {
        user_id: user_id.into(),
        banned_by: banned_by.into(),
        banned_at: banned_at.into(),
    };
    Ok(rows.into_iter().map(ban).collect())
}
