//! How much a user has not read, and whom receipts concern.

use diesel::sql_types::{Array, BigInt, Integer, Nullable, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use entrenous_model::UserId;
use entrenous_protocol::rpc::store::{
    AUTHORS_ENTRIES_MAX, Authors, Covered, ListUnreadRequest, RECEIPT_MEMBERS_MAX, ReadUnreadRequest, Unread,
};
use uuid::Uuid;

use super::{statement, to_i64, to_u64};

statement! {
    /// See `messaging.read_unread`.
    ReadUnread {
        user_id: SqlUuid = Uuid,
        conversation_ids: Array<SqlUuid> = Vec<Uuid>,
        read_seqs: Array<BigInt> = Vec<i64>,
    } -> (SqlUuid, BigInt, BigInt);
    "SELECT * FROM messaging.read_unread({}, {}, {})",
}

statement! {
    /// The entries that `messaging.read_unread` counts; one row without a seq where there are none.
    ListUnread {
        user_id: SqlUuid = Uuid,
        conversation_ids: Array<SqlUuid> = Vec<Uuid>,
        read_seqs: Array<BigInt> = Vec<i64>,
        row_limit: BigInt = i64,
    } -> (Nullable<BigInt>,);
    "SELECT l.seq
     FROM messaging.read_unread({}, {}, {}) u
     LEFT JOIN LATERAL (
         SELECT l.seq FROM messaging.log l
         WHERE l.conversation_id = u.conversation_id AND l.seq > u.read_seq
             AND l.kind = 'message' AND l.message_type <> 'control' AND NOT l.deleted AND l.sender_id <> $1
         ORDER BY l.seq LIMIT {}
     ) l ON true",
}

statement! {
    /// Authors by place; one row at least for each conversation that exists.
    ReadAuthors {
        user_ids: Array<SqlUuid> = Vec<Uuid>,
        conversation_ids: Array<SqlUuid> = Vec<Uuid>,
        afters: Array<BigInt> = Vec<i64>,
        up_tos: Array<BigInt> = Vec<i64>,
        members_max: Integer = i32,
    } -> (BigInt, Integer, Nullable<SqlUuid>);
    "SELECT a.place, c.member_count, s.sender_id
     FROM unnest({}, {}, {}, {}) WITH ORDINALITY AS a (user_id, conversation_id, after, up_to, place)
     JOIN messaging.conversations c ON c.id = a.conversation_id AND c.is_active
     LEFT JOIN LATERAL (
         SELECT DISTINCT l.sender_id
         FROM (SELECT l.sender_id FROM messaging.log l
               WHERE l.conversation_id = a.conversation_id AND l.seq > a.after AND l.seq <= a.up_to
                   AND l.kind = 'message' AND l.sender_id <> a.user_id
               OFFSET 0) l
         JOIN messaging.members m
             ON m.conversation_id = a.conversation_id AND m.user_id = l.sender_id AND m.left_seq IS NULL
         WHERE c.member_count <= {}
     ) s ON true
     ORDER BY a.place",
}

statement! {
    /// See `messaging.check_unread`.
    CheckUnread { members_max: Integer = i32 } -> (BigInt, BigInt);
    "SELECT * FROM messaging.check_unread({})",
}

/// Recounts what some members have not read: how many were looked at, and how far the counts are off.
pub(crate) async fn check(connection: &mut AsyncPgConnection, members_max: i32) -> diesel::QueryResult<(u64, u64)> {
    let (looked_at, drift): (i64, i64) = CheckUnread { members_max }.get_result(connection).await?;
    Ok((to_u64(looked_at), to_u64(drift)))
}

/// Where a user stands in conversations; those that they are no member of are left out.
pub(crate) async fn read(
    connection: &mut AsyncPgConnection,
    request: &ReadUnreadRequest,
) -> diesel::QueryResult<Vec<Unread>> {
    let statement = ReadUnread {
        user_id: request.user_id.as_uuid(),
        conversation_ids: request.cursors.iter().map(|cursor| cursor.conversation_id.as_uuid()).collect(),
        read_seqs: request.cursors.iter().map(|cursor| to_i64(cursor.read_seq)).collect(),
    };
    let rows: Vec<(Uuid, i64, i64)> = statement.load(connection).await?;
    let unread = |(id, read_seq, count): (Uuid, i64, i64)| Unread {
        conversation_id: id.into(),
        read_seq: to_u64(read_seq),
        unread_count: to_u64(count),
    };
    Ok(rows.into_iter().map(unread).collect())
}

/// The seqs of what a user has not read, at most so many; none for who is no member.
pub(crate) async fn list(
    connection: &mut AsyncPgConnection,
    request: &ListUnreadRequest,
    row_limit: usize,
) -> diesel::QueryResult<Option<Vec<u64>>> {
    let statement = ListUnread {
        user_id: request.user_id.as_uuid(),
        conversation_ids: vec![request.cursor.conversation_id.as_uuid()],
        read_seqs: vec![to_i64(request.cursor.read_seq)],
        row_limit: i64::try_from(row_limit).unwrap_or(i64::MAX),
    };
    let rows: Vec<(Option<i64>,)> = statement.load(connection).await?;
    let is_member = !rows.is_empty();
    Ok(is_member.then(|| rows.into_iter().filter_map(|(seq,)| seq.map(to_u64)).collect()))
}

/// Whom receipts concern, in their order.
pub(crate) async fn authors(
    connection: &mut AsyncPgConnection,
    receipts: &[Covered],
) -> diesel::QueryResult<Vec<Authors>> {
    let after = |one: &Covered| one.after.max(one.up_to.saturating_sub(AUTHORS_ENTRIES_MAX));
    let statement = ReadAuthors {
        user_ids: receipts.iter().map(|one| one.user_id.as_uuid()).collect(),
        conversation_ids: receipts.iter().map(|one| one.conversation_id.as_uuid()).collect(),
        afters: receipts.iter().map(|one| to_i64(after(one))).collect(),
        up_tos: receipts.iter().map(|one| to_i64(one.up_to)).collect(),
        members_max: i32::try_from(RECEIPT_MEMBERS_MAX).unwrap_or(i32::MAX),
    };
    let rows: Vec<(i64, i32, Option<Uuid>)> = statement.load(connection).await?;
    let mut all = vec![Authors { member_count: 0, user_ids: Vec::new() }; receipts.len()];
    for (place, member_count, sender_id) in rows {
        if let Some(authors) = usize::try_from(place - 1).ok().and_then(|place| all.get_mut(place)) {
            authors.member_count = u32::try_from(member_count).unwrap_or_default();
            authors.user_ids.extend(sender_id.map(UserId::from));
        }
    }
    Ok(all)
}
