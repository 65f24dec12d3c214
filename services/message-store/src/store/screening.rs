//! What clear text is judged by, beside itself.

use ahash::AHashMap;
use diesel::{
    prelude::Queryable,
    sql_types::{Array, BigInt, Binary, Bool, Integer, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use entrenous_model::ConversationId;
use entrenous_protocol::entry::Encryption;
use uuid::Uuid;

use super::{parse, statement, to_u64};
use crate::moderation::Recent;

/// Entries of a conversation that are looked through for a sender's, the last ones.
const ENTRIES_MAX: i64 = 200;

statement! {
    /// What kind of content conversations take.
    ReadEncryptions { ids: Array<SqlUuid> = Vec<Uuid> } -> (SqlUuid, Text);
    "SELECT id, encryption FROM messaging.conversations WHERE id = ANY ({})",
}

statement! {
    /// How senders stand: the entry is there already; they are members; what they sent lately.
    ReadStandings {
        conversation_ids: Array<SqlUuid> = Vec<Uuid>,
        ids: Array<SqlUuid> = Vec<Uuid>,
        sender_ids: Array<SqlUuid> = Vec<Uuid>,
        contents: Array<Binary> = Vec<Vec<u8>>,
        entries_max: BigInt = i64,
        repeats_seconds: Integer = i32,
        flood_seconds: Integer = i32,
    } -> (BigInt, Bool, Bool, BigInt, BigInt, BigInt);
    "SELECT i.place, o.seq IS NOT NULL, m.user_id IS NOT NULL, r.entries, r.oldest_leaves_ms, r.same
     FROM unnest({}, {}, {}, {}) WITH ORDINALITY AS i (conversation_id, id, sender_id, content, place)
     LEFT JOIN messaging.heads h ON h.conversation_id = i.conversation_id
     LEFT JOIN messaging.members m
         ON m.conversation_id = i.conversation_id AND m.user_id = i.sender_id AND m.left_seq IS NULL
     LEFT JOIN messaging.log o ON o.conversation_id = i.conversation_id AND o.id = i.id
     CROSS JOIN LATERAL (
         SELECT count(*) FILTER (WHERE l.leaves_at > now()) AS entries,
                coalesce(extract(epoch FROM min(l.leaves_at) FILTER (WHERE l.leaves_at > now()) - now()) * 1000, 0)::bigint
                    AS oldest_leaves_ms,
                count(*) FILTER (WHERE l.content = i.content AND l.sent_at > now() - make_interval(secs => l.repeats_seconds))
                    AS same
         FROM (SELECT l.content, l.sent_at, asked.repeats_seconds,
                      l.sent_at + make_interval(secs => asked.flood_seconds) AS leaves_at
               FROM (SELECT {}::bigint AS entries_max, {}::integer AS repeats_seconds, {}::integer AS flood_seconds) asked
               JOIN messaging.log l
                   ON l.conversation_id = i.conversation_id AND l.seq > h.last_seq - asked.entries_max
                      AND l.sender_id = i.sender_id AND l.kind IN ('message', 'edit')) l
     ) r
     ORDER BY i.place",
}

/// A text about to be sent.
pub(crate) struct Sending {
    pub(crate) conversation_id: Uuid,
    pub(crate) id: Uuid,
    pub(crate) sender_id: Uuid,
    /// As it would be stored.
    pub(crate) content: Vec<u8>,
}

/// How a sender stands.
#[derive(Debug, Queryable)]
pub(crate) struct Standing {
    _place: i64,
    /// An entry of the conversation has this id.
    pub(crate) is_known: bool,
    pub(crate) is_member: bool,
    entries: i64,
    oldest_leaves_ms: i64,
    same: i64,
}

impl Standing {
    pub(crate) fn recent(&self) -> Recent {
        Recent {
            entries: to_u64(self.entries),
            oldest_leaves_ms: to_u64(self.oldest_leaves_ms),
            same: to_u64(self.same),
        }
    }
}

/// What kind of content conversations take; those that do not exist are left out.
pub(crate) async fn encryptions(
    connection: &mut AsyncPgConnection,
    ids: Vec<Uuid>,
) -> diesel::QueryResult<AHashMap<ConversationId, Encryption>> {
    let rows: Vec<(Uuid, String)> = ReadEncryptions { ids }.load(connection).await?;
    rows.into_iter().map(|(id, name)| Ok((id.into(), parse(&name, Encryption::parse)?))).collect()
}

/// How senders stand, in the order of what they send.
pub(crate) async fn standings(
    connection: &mut AsyncPgConnection,
    sendings: &[Sending],
    (repeats_seconds, flood_seconds): (u32, u32),
) -> diesel::QueryResult<Vec<Standing>> {
    let seconds = |seconds| i32::try_from(seconds).unwrap_or(i32::MAX);
    let statement = ReadStandings {
        conversation_ids: sendings.iter().map(|sending| sending.conversation_id).collect(),
        ids: sendings.iter().map(|sending| sending.id).collect(),
        sender_ids: sendings.iter().map(|sending| sending.sender_id).collect(),
        contents: sendings.iter().map(|sending| sending.content.clone()).collect(),
        entries_max: ENTRIES_MAX,
        repeats_seconds: seconds(repeats_seconds),
        flood_seconds: seconds(flood_seconds),
    };
    statement.load(connection).await
}
