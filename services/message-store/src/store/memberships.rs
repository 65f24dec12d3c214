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

/// Rows of memberships in one answer, at most, but for the first user's: each is at most 258 bytes in JSON with seqs below
/// 2^53, so that an answer stays below 2 MiB.
const ROWS_MAX: i64 = 8_000;

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
        Nullable<BigInt>, Nullable<BigInt>, Nullable<Bool>, BigInt, BigInt,
    );
    // The function is stable: everything is read on the snapshot of this statement.
    "SELECT m.*, CASE WHEN m.kind = 'channel' THEN
         (SELECT h.leaves FROM messaging.heads h WHERE h.conversation_id = m.conversation_id) ELSE 0 END,
         CASE WHEN m.has_mention THEN coalesce(
             (SELECT n.seq FROM messaging.mentions n
              WHERE n.user_id = ($1::uuid[])[m.place] AND n.conversation_id = m.conversation_id
              ORDER BY n.seq DESC LIMIT 1), 0) ELSE 0 END
     FROM messaging.read_memberships({}, {}, {}, {}, {}) m",
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
    leaves: i64,
    last_mention_seq: i64,
}

statement! {
    /// What kind of conversation it is and which role a member has there.
    ReadRole { caller: SqlUuid = Uuid, conversation_id: SqlUuid = Uuid } -> (Text, Text);
    "SELECT c.kind, m.role
     FROM messaging.members m JOIN messaging.conversations c ON c.id = m.conversation_id AND c.is_active
     WHERE m.user_id = {} AND m.conversation_id = {} AND m.left_seq IS NULL",
}

statement! {
    /// Members by id, from one on.
    ReadMembers { conversation_id: SqlUuid = Uuid, after: SqlUuid = Uuid, row_limit: BigInt = i64 } -> (
        SqlUuid, Text, Timestamptz, BigInt,
    );
    "SELECT user_id, role, joined_at, joined_seq
     FROM messaging.members
     WHERE conversation_id = {} AND user_id > {} AND left_seq IS NULL
     ORDER BY user_id LIMIT {}",
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
            last_mention_seq: to_u64(self.last_mention_seq),
            leaves: to_u64(self.leaves),
        })
    }
}

/// What kind of conversation it is and which role somebody has there; none for who is no member.
pub(crate) async fn read_role(
    connection: &mut AsyncPgConnection,
    caller: UserId,
    conversation_id: ConversationId,
) -> diesel::QueryResult<Option<(ConversationKind, Role)>> {
    let statement = ReadRole { caller: caller.as_uuid(), conversation_id: conversation_id.as_uuid() };
    let rows: Vec<(String, String)> = statement.load(connection).await?;
    let role =
        |(kind, role): (String, String)| Ok((parse(&kind, ConversationKind::parse)?, parse(&role, Role::parse)?));
    rows.into_iter().next().map(role).transpose()
}

/// Members by id, after one.
pub(crate) async fn list_members(
    connection: &mut AsyncPgConnection,
    conversation_id: ConversationId,
    after: Option<UserId>,
    limit: u32,
) -> diesel::QueryResult<Vec<Member>> {
    let after = after.map_or_else(Uuid::nil, UserId::as_uuid);
    let statement = ReadMembers { conversation_id: conversation_id.as_uuid(), after, row_limit: i64::from(limit) };
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
        settings: None,
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
