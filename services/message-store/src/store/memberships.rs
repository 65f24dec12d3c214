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
    rpc::store::{Head, Membership, Memberships, SyncingDevice},
};
use uuid::Uuid;

use super::{devices::made_at, parse, statement, to_u64};

/// Rows of memberships in one answer, at most, but for the first user's: each is at most 222 bytes in JSON with seqs below
/// 2^53, so that an answer stays below 2 MiB.
const ROWS_MAX: i64 = 9_000;

statement! {
    /// See `messaging.read_memberships`.
    ReadMemberships {
        user_ids: Array<SqlUuid> = Vec<Uuid>,
        device_ids: Array<SqlUuid> = Vec<Uuid>,
        made_ats: Array<Nullable<Timestamptz>> = Vec<Option<DateTime<Utc>>>,
        have_cursors: Array<Bool> = Vec<bool>,
        rows_max: BigInt = i64,
    } -> (
        BigInt, BigInt, Nullable<SqlUuid>, Nullable<Text>, Nullable<BigInt>, Nullable<BigInt>, Nullable<BigInt>,
        Nullable<BigInt>, Nullable<BigInt>, Nullable<Bool>,
    );
    "SELECT * FROM messaging.read_memberships({}, {}, {}, {}, {})",
}

#[derive(Queryable)]
struct MembershipRow {
    /// Counted from 1.
    place: i64,
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

/// All that a `sync` needs to know of the first of these users, as many as fit into an answer, on one snapshot.
pub(crate) async fn read(
    connection: &mut AsyncPgConnection,
    devices: &[SyncingDevice],
) -> diesel::QueryResult<Vec<Memberships>> {
    let statement = ReadMemberships {
        user_ids: devices.iter().map(|device| device.user_id.as_uuid()).collect(),
        device_ids: devices.iter().map(|device| device.device_id.as_uuid()).collect(),
        made_ats: devices.iter().map(|device| made_at(device.device_id)).collect(),
        have_cursors: devices.iter().map(|device| device.has_cursors).collect(),
        rows_max: ROWS_MAX,
    };
    let rows: Vec<MembershipRow> = statement.load(connection).await?;
    // Sorted by place, and each place has a row.
    let mut all = Vec::with_capacity(devices.len());
    for users in rows.chunk_by(|one, other| one.place == other.place) {
        let mut memberships = Memberships {
            membership_version: users.first().map(|row| to_u64(row.version)).unwrap_or_default(),
            conversations: Vec::with_capacity(users.len()),
            left: Vec::new(),
        };
        for row in users {
            let Some(conversation_id) = row.conversation_id.map(ConversationId::from) else {
                continue;
            };
            match row.left_seq {
                Some(left_seq) => memberships.left.push((conversation_id, to_u64(left_seq))),
                None => memberships.conversations.push(row.membership(conversation_id)?),
            }
        }
        all.push(memberships);
    }
    Ok(all)
}

impl MembershipRow {
    fn membership(&self, conversation_id: ConversationId) -> diesel::QueryResult<Membership> {
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
