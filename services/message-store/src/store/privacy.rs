//! What people allow each other: the copy of what identity has.

use diesel::sql_types::{Array, BigInt, Bool, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use entrenous_model::{ConversationId, UserId};
use entrenous_protocol::rpc::store::{Privacy, ReadBlockedRequest, ReadVisibleRequest};
use uuid::Uuid;

use super::{directs::Direct, statement, to_i64};

statement! {
    /// See `messaging.take_privacy`.
    TakePrivacy {
        user_id: SqlUuid = Uuid,
        version: BigInt = i64,
        presence_visible_to: Text = &'static str,
        messages_from: Text = &'static str,
        blocked_ids: Array<SqlUuid> = Vec<Uuid>,
    } -> (Bool,);
    "SELECT messaging.take_privacy({}, {}, {}, {}, {})",
}

statement! {
    /// See `messaging.read_visible`.
    ReadVisible {
        viewer: SqlUuid = Uuid,
        user_ids: Array<SqlUuid> = Vec<Uuid>,
        direct_ids: Array<SqlUuid> = Vec<Uuid>,
    } -> (BigInt, Bool);
    "SELECT place, is_visible FROM messaging.read_visible({}, {}, {}) ORDER BY place",
}

statement! {
    /// Members between whom and the user there is a block. Who has none, and is on nobody's list, costs two look-ups; anybody
    /// else two for each member.
    ReadBlocked { user_id: SqlUuid = Uuid, conversation_id: SqlUuid = Uuid } -> (SqlUuid,);
    "SELECT m.user_id
     FROM (SELECT {} AS user_id, {} AS conversation_id) asked
     JOIN messaging.members m ON m.conversation_id = asked.conversation_id AND m.left_seq IS NULL
     WHERE ((SELECT true FROM messaging.blocks b WHERE b.user_id = $1 LIMIT 1)
            OR (SELECT true FROM messaging.blocks b WHERE b.blocked_id = $1 LIMIT 1))
         AND ((SELECT true FROM messaging.blocks b WHERE b.user_id = asked.user_id AND b.blocked_id = m.user_id)
              OR (SELECT true FROM messaging.blocks b WHERE b.user_id = m.user_id AND b.blocked_id = asked.user_id))
     ORDER BY m.user_id",
}

statement! {
    /// Which of these direct conversations do not exist, and may not be begun by these senders: there, the others have never
    /// written.
    ReadUnwanted {
        ids: Array<SqlUuid> = Vec<Uuid>,
        sender_ids: Array<SqlUuid> = Vec<Uuid>,
        other_ids: Array<SqlUuid> = Vec<Uuid>,
    } -> (SqlUuid, SqlUuid);
    "SELECT a.id, a.sender_id
     FROM unnest({}, {}, {}) AS a (id, sender_id, other_id)
     WHERE (SELECT true FROM messaging.conversations c WHERE c.id = a.id) IS NULL
         AND ((SELECT true FROM messaging.blocks b WHERE b.user_id = a.other_id AND b.blocked_id = a.sender_id)
              OR (SELECT true FROM messaging.blocks b WHERE b.user_id = a.sender_id AND b.blocked_id = a.other_id)
              OR (SELECT p.messages_from <> 'everyone' FROM messaging.privacy p WHERE p.user_id = a.other_id))",
}

statement! {
    /// Those of these users who have blocked one.
    ReadBlockers { blocked_id: SqlUuid = Uuid, user_ids: Array<SqlUuid> = Vec<Uuid> } -> (SqlUuid,);
    "SELECT user_id FROM messaging.blocks WHERE blocked_id = {} AND user_id = ANY ({})",
}

/// Takes over what a user allows others. Tells whether it was news: an older version changes nothing.
pub(crate) async fn take(connection: &mut AsyncPgConnection, privacy: &Privacy) -> diesel::QueryResult<bool> {
    let statement = TakePrivacy {
        user_id: privacy.user_id.as_uuid(),
        version: to_i64(privacy.version),
        presence_visible_to: privacy.presence_visible_to.as_str(),
        messages_from: privacy.messages_from.as_str(),
        blocked_ids: uuids(&privacy.blocked),
    };
    let (is_news,) = statement.get_result(connection).await?;
    Ok(is_news)
}

/// Whether the viewer may see each of these users, in their order.
pub(crate) async fn visible(
    connection: &mut AsyncPgConnection,
    request: &ReadVisibleRequest,
) -> diesel::QueryResult<Vec<bool>> {
    let direct = |user_id: &UserId| ConversationId::direct(request.viewer, *user_id).as_uuid();
    let statement = ReadVisible {
        viewer: request.viewer.as_uuid(),
        user_ids: uuids(&request.user_ids),
        direct_ids: request.user_ids.iter().map(direct).collect(),
    };
    let rows: Vec<(i64, bool)> = statement.load(connection).await?;
    Ok(rows.into_iter().map(|(_, is_visible)| is_visible).collect())
}

/// The members of a conversation between whom and a user there is a block.
pub(crate) async fn blocked(
    connection: &mut AsyncPgConnection,
    request: ReadBlockedRequest,
) -> diesel::QueryResult<Vec<UserId>> {
    let ReadBlockedRequest { user_id, conversation_id } = request;
    let statement = ReadBlocked { user_id: user_id.as_uuid(), conversation_id: conversation_id.as_uuid() };
    let rows: Vec<(Uuid,)> = statement.load(connection).await?;
    Ok(rows.into_iter().map(|(user_id,)| user_id.into()).collect())
}

/// Of direct conversations that do not exist, those whose maker may not write to the other: with the maker.
pub(crate) async fn unwanted(
    connection: &mut AsyncPgConnection,
    directs: &[Direct],
) -> diesel::QueryResult<Vec<(ConversationId, UserId)>> {
    let statement = ReadUnwanted {
        ids: directs.iter().map(|direct| direct.id.as_uuid()).collect(),
        sender_ids: directs.iter().map(|direct| direct.created_by.as_uuid()).collect(),
        other_ids: directs.iter().map(|direct| direct.other.as_uuid()).collect(),
    };
    let rows: Vec<(Uuid, Uuid)> = statement.load(connection).await?;
    Ok(rows.into_iter().map(|(id, sender)| (id.into(), sender.into())).collect())
}

/// Those of these users who have blocked somebody.
pub(crate) async fn blockers(
    connection: &mut AsyncPgConnection,
    blocked: UserId,
    user_ids: &[UserId],
) -> diesel::QueryResult<Vec<UserId>> {
    let statement = ReadBlockers { blocked_id: blocked.as_uuid(), user_ids: uuids(user_ids) };
    let rows: Vec<(Uuid,)> = statement.load(connection).await?;
    Ok(rows.into_iter().map(|(user_id,)| user_id.into()).collect())
}

fn uuids(ids: &[UserId]) -> Vec<Uuid> {
    ids.iter().map(|id| id.as_uuid()).collect()
}
