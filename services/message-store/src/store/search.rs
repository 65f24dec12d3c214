//! Full-text search: which blocks of which conversations to look into, what is found there, and how it is shown.

use chrono::{DateTime, Utc};
use diesel::{
    prelude::Queryable,
    sql_types::{Array, BigInt, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use entrenous_model::{Timestamp, UserId};
use entrenous_protocol::rpc::store::SearchRequest;
use uuid::Uuid;

use super::{
    entries::entry_columns,
    history::{HistoryRow, HistorySql, history_columns, newest_edit, not_hidden},
    statement,
};
use crate::domain::search::{Hit, Probe, Scope};

statement! {
    /// Whether there is a word to look for.
    IsQuery { query: Text = String } -> (Bool,);
    "SELECT messaging.search_query({}, '00000000-0000-0000-0000-000000000000', 0) IS NOT NULL",
}

statement! {
    /// See `messaging.choose_language`.
    ChooseLanguage { language: Text = String } -> (BigInt,);
    "SELECT 1::bigint FROM (SELECT messaging.choose_language({})) chosen",
}

statement! {
    /// What the caller may read in clear text between two moments: of each conversation a range of seqs, and when its last entry
    /// was sent.
    ReadScopes {
        caller: SqlUuid = Uuid,
        conversation_id: Nullable<SqlUuid> = Option<Uuid>,
        from: Nullable<Timestamptz> = Option<DateTime<Utc>>,
        before: Nullable<Timestamptz> = Option<DateTime<Utc>>,
    } -> (SqlUuid, BigInt, BigInt, Timestamptz);
    "SELECT r.conversation_id, r.low, r.high, l.sent_at
     FROM (SELECT {}::uuid AS caller, {}::uuid AS conversation_id, {}::timestamptz AS sent_from, {}::timestamptz AS sent_before) asked
     CROSS JOIN LATERAL (
         SELECT m.conversation_id,
                greatest(h.first_seq, CASE WHEN NOT c.history_visible THEN m.joined_seq END,
                    CASE WHEN asked.sent_from IS NOT NULL THEN
                        messaging.seq_at(h.conversation_id, h.first_seq, h.last_seq, asked.sent_from) + 1 END) AS low,
                least(h.last_seq, CASE WHEN asked.sent_before IS NOT NULL THEN
                    messaging.seq_at(h.conversation_id, h.first_seq, h.last_seq, asked.sent_before) END) AS high
         FROM messaging.members m
         JOIN messaging.conversations c ON c.id = m.conversation_id AND c.is_active AND c.encryption = 'none'
         JOIN messaging.heads h ON h.conversation_id = m.conversation_id
         WHERE m.user_id = asked.caller AND m.left_seq IS NULL
             AND (asked.conversation_id IS NULL OR m.conversation_id = asked.conversation_id)
     ) r
     JOIN messaging.log l ON l.conversation_id = r.conversation_id AND l.seq = r.high
     WHERE r.low <= r.high",
}

statement! {
    /// See `messaging.search_blocks`.
    SearchBlocks {
        caller: SqlUuid = Uuid,
        query: Text = String,
        sender_id: Nullable<SqlUuid> = Option<Uuid>,
        conversation_ids: Array<SqlUuid> = Vec<Uuid>,
        lows: Array<BigInt> = Vec<i64>,
        highs: Array<BigInt> = Vec<i64>,
        before_at: Nullable<Timestamptz> = Option<DateTime<Utc>>,
        before_conversation_id: Nullable<SqlUuid> = Option<Uuid>,
        before_seq: Nullable<BigInt> = Option<i64>,
        row_limit: BigInt = i64,
    } -> (BigInt, Nullable<BigInt>, Nullable<Timestamptz>, Nullable<Timestamptz>);
    "SELECT * FROM messaging.search_blocks({}, {}, {}, {}, {}, {}, {}, {}, {}, {})",
}

statement! {
    /// Messages by conversation and seq, as history shows them.
    ReadFound { caller: SqlUuid = Uuid, conversation_ids: Array<SqlUuid> = Vec<Uuid>, seqs: Array<BigInt> = Vec<i64> } -> (
        BigInt, HistorySql
    );
    "SELECT f.place, ", history_columns!(), "
     FROM (SELECT {}::uuid AS caller) asked
     CROSS JOIN unnest({}, {}) WITH ORDINALITY AS f (conversation_id, seq, place)
     JOIN messaging.log l ON l.conversation_id = f.conversation_id AND l.seq = f.seq AND NOT l.deleted", not_hidden!(), newest_edit!(), "
     ORDER BY f.place",
}

/// Place, and seq and time of what was found there; the time of what is below.
type BlockRow = (i64, Option<i64>, Option<DateTime<Utc>>, Option<DateTime<Utc>>);

/// A message that was found.
#[derive(Queryable)]
pub(crate) struct FoundRow {
    /// Counted from 1.
    place: i64,
    pub(crate) message: HistoryRow,
}

impl FoundRow {
    /// The one of these that it belongs to.
    pub(crate) fn hit_of(&self, hits: &[Hit]) -> Option<Hit> {
        usize::try_from(self.place - 1).ok().and_then(|place| hits.get(place)).copied()
    }
}

/// Whether there is a word to look for.
pub(crate) async fn is_query(connection: &mut AsyncPgConnection, query: &str) -> diesel::QueryResult<bool> {
    let (is_query,): (bool,) = IsQuery { query: query.to_owned() }.get_result(connection).await?;
    Ok(is_query)
}

/// Texts from now on are in this language.
pub(crate) async fn choose_language(connection: &mut AsyncPgConnection, language: &str) -> diesel::QueryResult<()> {
    let _: (i64,) = ChooseLanguage { language: language.to_owned() }.get_result(connection).await?;
    Ok(())
}

/// Where the caller may look: of each conversation what was sent from one moment on, and before another one.
pub(crate) async fn scopes(
    connection: &mut AsyncPgConnection,
    request: &SearchRequest,
    before: Option<DateTime<Utc>>,
) -> diesel::QueryResult<Vec<Scope>> {
    let statement = ReadScopes {
        caller: request.caller.as_uuid(),
        conversation_id: request.conversation_id.map(Into::into),
        from: request.from.map(Timestamp::as_datetime),
        before,
    };
    let rows: Vec<(Uuid, i64, i64, DateTime<Utc>)> = statement.load(connection).await?;
    let scope = |(conversation_id, low, high, top_at)| Scope { top_at, conversation_id, low, high };
    Ok(rows.into_iter().map(scope).collect())
}

/// Looks into the highest block of each scope: what is found there, the newest first, and when what is below was sent.
pub(crate) async fn probe(
    connection: &mut AsyncPgConnection,
    request: &SearchRequest,
    scopes: &[Scope],
    before: Option<Hit>,
    row_limit: usize,
) -> diesel::QueryResult<Vec<Probe>> {
    let statement = SearchBlocks {
        caller: request.caller.as_uuid(),
        query: request.query.clone(),
        sender_id: request.sender_id.map(UserId::as_uuid),
        conversation_ids: scopes.iter().map(|scope| scope.conversation_id).collect(),
        lows: scopes.iter().map(|scope| scope.low).collect(),
        highs: scopes.iter().map(|scope| scope.high).collect(),
        before_at: before.map(|hit| hit.sent_at),
        before_conversation_id: before.map(|hit| hit.conversation_id),
        before_seq: before.map(|hit| hit.seq),
        row_limit: i64::try_from(row_limit).unwrap_or(i64::MAX),
    };
    let rows: Vec<BlockRow> = statement.load(connection).await?;
    let mut probes: Vec<_> = scopes.iter().map(|_| Probe::default()).collect();
    for (place, seq, sent_at, below_at) in rows {
        let place = usize::try_from(place - 1).unwrap_or(usize::MAX);
        let (Some(scope), Some(probe)) = (scopes.get(place), probes.get_mut(place)) else {
            continue;
        };
        probe.below_at = below_at;
        let conversation_id = scope.conversation_id;
        probe.hits.extend(seq.zip(sent_at).map(|(seq, sent_at)| Hit { sent_at, conversation_id, seq }));
    }
    Ok(probes)
}

/// The messages of hits, in their order.
pub(crate) async fn read_found(
    connection: &mut AsyncPgConnection,
    caller: UserId,
    hits: &[Hit],
) -> diesel::QueryResult<Vec<FoundRow>> {
    let statement = ReadFound {
        caller: caller.as_uuid(),
        conversation_ids: hits.iter().map(|hit| hit.conversation_id).collect(),
        seqs: hits.iter().map(|hit| hit.seq).collect(),
    };
    statement.load(connection).await
}
