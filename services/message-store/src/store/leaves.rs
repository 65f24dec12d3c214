//! Table `messaging.channel_leaves`.

use diesel::sql_types::{Array, BigInt, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use entrenous_model::ConversationId;
use entrenous_protocol::rpc::store::{LEAVES_MAX, Leave};
use uuid::Uuid;

use super::{statement, to_i64, to_u64};

statement! {
    /// Leaves of channels by place (1, 2, …) in the arrays, of each the first ones in their order.
    ReadLeaves {
        conversation_ids: Array<SqlUuid> = Vec<Uuid>,
        afters: Array<BigInt> = Vec<i64>,
        up_tos: Array<BigInt> = Vec<i64>,
        row_limit: BigInt = i64,
    } -> (BigInt, BigInt, SqlUuid, BigInt);
    "SELECT a.place, v.leave_no, v.user_id, v.seq
     FROM unnest({}, {}, {}) WITH ORDINALITY AS a (conversation_id, after, up_to, place)
     CROSS JOIN LATERAL (
         SELECT v.leave_no, v.user_id, v.seq FROM messaging.channel_leaves v
         WHERE v.conversation_id = a.conversation_id AND v.leave_no > a.after AND v.leave_no <= a.up_to
         ORDER BY v.leave_no LIMIT {}
     ) v
     ORDER BY a.place, v.leave_no",
}

/// The leaves of a channel after so many, up to so many.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LeaveRange {
    pub(crate) conversation_id: ConversationId,
    pub(crate) after: u64,
    pub(crate) up_to: u64,
}

/// The first leaves of each range, in the order of the ranges.
pub(crate) async fn read(
    connection: &mut AsyncPgConnection,
    ranges: &[LeaveRange],
) -> diesel::QueryResult<Vec<Vec<Leave>>> {
    let statement = ReadLeaves {
        conversation_ids: ranges.iter().map(|range| range.conversation_id.as_uuid()).collect(),
        afters: ranges.iter().map(|range| to_i64(range.after)).collect(),
        up_tos: ranges.iter().map(|range| to_i64(range.up_to)).collect(),
        row_limit: i64::from(LEAVES_MAX),
    };
    let rows: Vec<(i64, i64, Uuid, i64)> = statement.load(connection).await?;
    let mut all = vec![Vec::new(); ranges.len()];
    for (place, leave_no, user_id, seq) in rows {
        if let Some(leaves) = usize::try_from(place - 1).ok().and_then(|place| all.get_mut(place)) {
            leaves.push(Leave { leave_no: to_u64(leave_no), user_id: user_id.into(), seq: to_u64(seq) });
        }
    }
    Ok(all)
}
