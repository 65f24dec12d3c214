//! What a `sync` needs to know of a user; members; heads.

use chrono::{DateTime, Utc};
use diesel::{
    prelude::Queryable,
    sql_types::{Array, BigInt, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use entrenous_model::{ConversationId, UserId};
use entrenous_protocol::{
    entry::{ConversationKind, Role},
    rest::Member,
    rpc::store::{Attaching, Head, Membership, Memberships},
};
use uuid::Uuid;

use super::{devices::made_at, parse, statement, to_u64};

statement! {
    /// One row at least, for the version. The device's start is the head when it was added: found in the log by time, since
    /// times grow with seqs. Entries of the same millisecond count as later: better one twice than one never.
    ReadMemberships {
        user_id: SqlUuid = Uuid,
        device_id: SqlUuid = Uuid,
        device_made_at: Nullable<Timestamptz> = Option<DateTime<Utc>>,
    } -> (
        BigInt, Nullable<SqlUuid>, Nullable<Text>, Nullable<BigInt>, Nullable<BigInt>, Nullable<BigInt>,
        Nullable<BigInt>, Nullable<BigInt>, Nullable<Bool>,
    );
    "SELECT v.version, x.conversation_id, x.kind, x.left_seq, x.readable_from, x.first_seq, x.last_seq, x.start_seq,
            EXISTS (SELECT FROM messaging.mentions n
                    WHERE n.user_id = $1 AND n.conversation_id = x.conversation_id AND n.seq > x.start_seq)
     FROM (
         SELECT coalesce((SELECT membership_version FROM messaging.user_versions WHERE user_id = {}), 0) AS version,
                date_trunc('milliseconds', coalesce(
                    (SELECT added_at FROM messaging.devices WHERE device_id = {}), {})) AS added_at
     ) v
     LEFT JOIN LATERAL (
         SELECT m.conversation_id, c.kind, m.left_seq, h.first_seq, h.last_seq,
                greatest(h.first_seq, CASE WHEN c.history_visible THEN 1 ELSE m.joined_seq END) AS readable_from,
                CASE
                    WHEN m.left_seq IS NOT NULL THEN m.left_seq
                    WHEN v.added_at IS NULL THEN greatest(h.last_seq, m.joined_seq - 1)
                    WHEN m.joined_at >= v.added_at THEN m.joined_seq - 1
                    WHEN h.last_entry_at IS NULL OR h.last_entry_at < v.added_at THEN greatest(h.last_seq, m.joined_seq - 1)
                    ELSE greatest(m.joined_seq - 1,
                        messaging.seq_at(m.conversation_id, greatest(h.first_seq, m.joined_seq), h.last_seq, v.added_at))
                END AS start_seq
         FROM messaging.members m
         JOIN messaging.conversations c ON c.id = m.conversation_id AND c.is_active
         JOIN messaging.heads h ON h.conversation_id = m.conversation_id
         WHERE m.user_id = $1 AND (m.left_seq IS NULL OR m.left_at > now() - interval '30 days')
     ) x ON true
     ORDER BY x.conversation_id",
}

#[derive(Queryable)]
struct MembershipRow {
    version: i64,
    conversation_id: Option<Uuid>,
    kind: Option<String>,
    left_seq: Option<i64>,
    readable_from: Option<i64>,
    first_seq: Option<i64>,
    last_seq: Option<i64>,
    start_seq: Option<i64>,
    has_mention: Option<bool>,
}

statement! {
    /// The members, to those who are members.
    ReadMembers { caller: SqlUuid = Uuid, conversation_id: SqlUuid = Uuid } -> (SqlUuid, Text, Timestamptz, BigInt);
    "SELECT m.user_id, m.role, m.joined_at, m.joined_seq
     FROM messaging.members me
     JOIN messaging.conversations c ON c.id = me.conversation_id AND c.is_active
     JOIN messaging.members m ON m.conversation_id = me.conversation_id AND m.left_seq IS NULL
     WHERE me.user_id = {} AND me.conversation_id = {} AND me.left_seq IS NULL
     ORDER BY m.user_id",
}

statement! {
    /// Heads.
    ReadHeads { conversation_ids: Array<SqlUuid> = Vec<Uuid> } -> (SqlUuid, BigInt);
    "SELECT conversation_id, last_seq FROM messaging.heads WHERE conversation_id = ANY ({})",
}

/// All that a `sync` needs to know of a user, on one snapshot.
pub(crate) async fn read(connection: &mut AsyncPgConnection, request: &Attaching) -> diesel::QueryResult<Memberships> {
    let statement = ReadMemberships {
        user_id: request.user_id.as_uuid(),
        device_id: request.device_id.as_uuid(),
        device_made_at: made_at(request.device_id),
    };
    let rows: Vec<MembershipRow> = statement.load(connection).await?;
    let mut memberships =
        Memberships { membership_version: 0, conversations: Vec::with_capacity(rows.len()), left: Vec::new() };
    for row in rows {
        memberships.membership_version = to_u64(row.version);
        let (Some(conversation_id), left_seq) = (row.conversation_id.map(ConversationId::from), row.left_seq) else {
            continue;
        };
        match left_seq {
            Some(left_seq) => memberships.left.push((conversation_id, to_u64(left_seq))),
            None => memberships.conversations.push(row.membership(conversation_id)?),
        }
    }
    Ok(memberships)
}

impl MembershipRow {
    fn membership(self, conversation_id: ConversationId) -> diesel::QueryResult<Membership> {
        let number = |column: Option<i64>| to_u64(column.unwrap_or_default());
        Ok(Membership {
            conversation_id,
            kind: parse(self.kind.as_deref().unwrap_or_default(), ConversationKind::parse)?,
            readable_from: number(self.readable_from),
            first_seq: number(self.first_seq),
            last_seq: number(self.last_seq),
            device_start_seq: number(self.start_seq),
            has_mention: self.has_mention.unwrap_or_default(),
        })
    }
}

/// The members by id; none for who is no member.
pub(crate) async fn list_members(
    connection: &mut AsyncPgConnection,
    caller: UserId,
    conversation_id: ConversationId,
) -> diesel::QueryResult<Vec<Member>> {
    let statement = ReadMembers { caller: caller.as_uuid(), conversation_id: conversation_id.as_uuid() };
    let rows: Vec<(Uuid, String, DateTime<Utc>, i64)> = statement.load(connection).await?;
    rows.into_iter().map(member).collect()
}

/// A member as clients see it.
pub(crate) fn member(
    (user_id, role, joined_at, joined_seq): (Uuid, String, DateTime<Utc>, i64),
) -> diesel::QueryResult<Member> {
    Ok(Member {
        user_id: user_id.into(),
        role: parse(&role, Role::parse)?,
        joined_at: joined_at.into(),
        joined_seq: to_u64(joined_seq),
    })
}

/// Heads of conversations; unknown ones are left out.
pub(crate) async fn heads(
    connection: &mut AsyncPgConnection,
    conversation_ids: &[ConversationId],
) -> diesel::QueryResult<Vec<Head>> {
    let conversation_ids = conversation_ids.iter().map(|id| id.as_uuid()).collect();
    let rows: Vec<(Uuid, i64)> = ReadHeads { conversation_ids }.load(connection).await?;
    let head = |(id, last_seq): (Uuid, i64)| Head { conversation_id: id.into(), last_seq: to_u64(last_seq) };
    Ok(rows.into_iter().map(head).collect())
}
