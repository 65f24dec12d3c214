//! Table `messaging.invites`.

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension,
    prelude::Queryable,
    sql_types::{BigInt, Binary, Integer, Nullable, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use entrenous_model::{ConversationId, InviteId, UserId};
use entrenous_protocol::rest::Invite;
use uuid::Uuid;

use super::statement;

/// Whether an invite lets somebody in.
macro_rules! is_live {
    () => {
        "(i.expires_at IS NULL OR i.expires_at > clock_timestamp()) AND (i.max_uses IS NULL OR i.uses < i.max_uses)"
    };
}

statement! {
    /// Forgets those that have let nobody in for a day: so long who came by one may ask again, and is answered alike.
    ForgetOld { conversation_id: SqlUuid = Uuid } -> (SqlUuid,);
    "DELETE FROM messaging.invites
     WHERE conversation_id = {}
         AND (expires_at < now() - interval '1 day' OR (uses >= max_uses AND used_at < now() - interval '1 day'))",
}

statement! {
    /// A new one, where there is room.
    InsertInvite {
        id: SqlUuid = Uuid,
        conversation_id: SqlUuid = Uuid,
        token_digest: Binary = Vec<u8>,
        created_by: SqlUuid = Uuid,
        expires_at: Nullable<Timestamptz> = Option<DateTime<Utc>>,
        max_uses: Nullable<Integer> = Option<i32>,
        invites_max: BigInt = i64,
    } -> (SqlUuid, Nullable<Timestamptz>, Nullable<Integer>, Integer, SqlUuid, Timestamptz);
    "INSERT INTO messaging.invites (id, conversation_id, token_digest, created_by, created_at, expires_at, max_uses)
     SELECT {}, {}, {}, {}, date_trunc('milliseconds', clock_timestamp()), {}, {}
     WHERE (SELECT count(*) FROM messaging.invites i WHERE i.conversation_id = $2 AND ", is_live!(), ") < {}
     RETURNING id, expires_at, max_uses, uses, created_by, created_at",
}

statement! {
    /// Those that let somebody in, the oldest first.
    ReadInvites { conversation_id: SqlUuid = Uuid } -> (
        SqlUuid, Nullable<Timestamptz>, Nullable<Integer>, Integer, SqlUuid, Timestamptz,
    );
    "SELECT i.id, i.expires_at, i.max_uses, i.uses, i.created_by, i.created_at FROM messaging.invites i
     WHERE i.conversation_id = {} AND ", is_live!(), " ORDER BY i.id",
}

statement! {
    /// Takes one back.
    DeleteInvite { conversation_id: SqlUuid = Uuid, id: SqlUuid = Uuid } -> (SqlUuid,);
    "DELETE FROM messaging.invites WHERE conversation_id = {} AND id = {}",
}

statement! {
    /// Takes all of a conversation back.
    DeleteInvites { conversation_id: SqlUuid = Uuid } -> (SqlUuid,);
    "DELETE FROM messaging.invites WHERE conversation_id = {}",
}

statement! {
    /// Where a token leads, whether it still lets somebody in or not.
    FindInvite { token_digest: Binary = Vec<u8> } -> (SqlUuid,);
    "SELECT conversation_id FROM messaging.invites WHERE token_digest = {}",
}

statement! {
    /// Whether a token lets somebody in.
    LooksLive { token_digest: Binary = Vec<u8> } -> (SqlUuid,);
    "SELECT i.id FROM messaging.invites i WHERE i.token_digest = {} AND ", is_live!(),
}

statement! {
    /// Lets one in.
    UseInvite { token_digest: Binary = Vec<u8> } -> (SqlUuid,);
    "UPDATE messaging.invites i SET uses = i.uses + 1, used_at = clock_timestamp()
     WHERE i.token_digest = {} AND ", is_live!(), " RETURNING i.id",
}

#[derive(Queryable)]
struct InviteRow {
    id: Uuid,
    expires_at: Option<DateTime<Utc>>,
    max_uses: Option<i32>,
    uses: i32,
    created_by: Uuid,
    created_at: DateTime<Utc>,
}

impl From<InviteRow> for Invite {
    fn from(row: InviteRow) -> Self {
        Self {
            id: row.id.into(),
            token: None,
            expires_at: row.expires_at.map(Into::into),
            max_uses: row.max_uses.and_then(|uses| u32::try_from(uses).ok()),
            uses: u32::try_from(row.uses).unwrap_or_default(),
            created_by: row.created_by.into(),
            created_at: row.created_at.into(),
        }
    }
}

/// An invite to be made.
pub(crate) struct NewInvite {
    pub(crate) id: InviteId,
    pub(crate) conversation_id: ConversationId,
    pub(crate) token_digest: Vec<u8>,
    pub(crate) created_by: UserId,
    pub(crate) expires_at: Option<DateTime<Utc>>,
    pub(crate) max_uses: Option<u32>,
}

/// Makes an invite; none where there are so many already. The head is locked.
pub(crate) async fn insert(
    connection: &mut AsyncPgConnection,
    invite: NewInvite,
    invites_max: usize,
) -> diesel::QueryResult<Option<Invite>> {
    let conversation_id = invite.conversation_id.as_uuid();
    ForgetOld { conversation_id }.execute(connection).await?;
    let statement = InsertInvite {
        id: invite.id.as_uuid(),
        conversation_id,
        token_digest: invite.token_digest,
        created_by: invite.created_by.as_uuid(),
        expires_at: invite.expires_at,
        max_uses: invite.max_uses.and_then(|uses| i32::try_from(uses).ok()),
        invites_max: i64::try_from(invites_max).unwrap_or(i64::MAX),
    };
    let row: Option<InviteRow> = statement.get_result(connection).await.optional()?;
    Ok(row.map(Into::into))
}

/// The invites that let somebody in.
pub(crate) async fn list(
    connection: &mut AsyncPgConnection,
    conversation_id: ConversationId,
) -> diesel::QueryResult<Vec<Invite>> {
    let rows: Vec<InviteRow> = ReadInvites { conversation_id: conversation_id.as_uuid() }.load(connection).await?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// Takes an invite back.
pub(crate) async fn delete(
    connection: &mut AsyncPgConnection,
    conversation_id: ConversationId,
    id: InviteId,
) -> diesel::QueryResult<()> {
    let statement = DeleteInvite { conversation_id: conversation_id.as_uuid(), id: id.as_uuid() };
    statement.execute(connection).await.map(drop)
}

/// Takes all invites of a conversation back.
pub(crate) async fn delete_all(
    connection: &mut AsyncPgConnection,
    conversation_id: ConversationId,
) -> diesel::QueryResult<()> {
    DeleteInvites { conversation_id: conversation_id.as_uuid() }.execute(connection).await.map(drop)
}

/// Where a token leads.
pub(crate) async fn find(
    connection: &mut AsyncPgConnection,
    token_digest: &[u8],
) -> diesel::QueryResult<Option<ConversationId>> {
    let statement = FindInvite { token_digest: token_digest.to_vec() };
    let row: Option<(Uuid,)> = statement.get_result(connection).await.optional()?;
    Ok(row.map(|(id,)| id.into()))
}

/// Whether a token lets somebody in.
pub(crate) async fn is_live(connection: &mut AsyncPgConnection, token_digest: &[u8]) -> diesel::QueryResult<bool> {
    let statement = LooksLive { token_digest: token_digest.to_vec() };
    let row: Option<(Uuid,)> = statement.get_result(connection).await.optional()?;
    Ok(row.is_some())
}

/// Counts one who comes by a token; tells whether it lets them in.
pub(crate) async fn take(connection: &mut AsyncPgConnection, token_digest: &[u8]) -> diesel::QueryResult<bool> {
    let statement = UseInvite { token_digest: token_digest.to_vec() };
    let row: Option<(Uuid,)> = statement.get_result(connection).await.optional()?;
    Ok(row.is_some())
}
