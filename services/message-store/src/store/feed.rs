//! Table `messaging.feed`: the outbox.

use chrono::{DateTime, Utc};
use diesel::{
    prelude::Queryable,
    sql_types::{Array, BigInt, Bool, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use entrenous_model::ConversationId;
use entrenous_protocol::rpc::store::Head;
use uuid::Uuid;

use super::{statement, to_u64};

/// For how long rows are kept at least, so that who has missed something can read what changed.
pub(crate) const KEPT_SECONDS: i32 = 3_600;

/// A row of the feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FeedRow {
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) batch_id: Uuid,
}

/// What was done with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) row: FeedRow,
    pub(crate) live: bool,
    pub(crate) event: bool,
}

statement! {
    /// Marks rows. The bounds of the times spare looking into partitions that hold none of them.
    MarkRows {
        earliest: Timestamptz = DateTime<Utc>,
        latest: Timestamptz = DateTime<Utc>,
        created_ats: Array<Timestamptz> = Vec<DateTime<Utc>>,
        batch_ids: Array<SqlUuid> = Vec<Uuid>,
        lives: Array<Bool> = Vec<bool>,
        events: Array<Bool> = Vec<bool>,
    } -> (Integer,);
    "WITH bounds AS (SELECT {} AS earliest, {} AS latest)
     UPDATE messaging.feed f SET live_done = f.live_done OR m.live, event_done = f.event_done OR m.event
     FROM (
         SELECT created_at, batch_id, bool_or(live) AS live, bool_or(event) AS event
         FROM unnest({}, {}, {}, {}) AS i (created_at, batch_id, live, event)
         GROUP BY created_at, batch_id ORDER BY created_at, batch_id
     ) m
     WHERE f.created_at = m.created_at AND f.batch_id = m.batch_id AND f.created_at >= $1 AND f.created_at <= $2",
}

statement! {
    /// Makes the feed's partitions ahead of time.
    MakePartitions {} -> (Integer,);
    "SELECT messaging.make_feed_partitions('1 hour')",
}

statement! {
    /// Drops what is done with.
    DropPartition { keep_seconds: Integer = i32 } -> (Nullable<Text>,);
    "SELECT messaging.drop_feed_partition(make_interval(secs => {}))",
}

statement! {
    /// Claims rows; see the function in the migrations.
    Claim {
        from: Timestamptz = DateTime<Utc>,
        age_seconds: Integer = i32,
        lease_seconds: Integer = i32,
        rows_max: BigInt = i64,
    } -> (Timestamptz, SqlUuid, Bool, Bool, Array<SqlUuid>, Array<BigInt>, Array<BigInt>);
    "SELECT * FROM messaging.claim_feed({}, make_interval(secs => {}), make_interval(secs => {}), {})",
}

statement! {
    /// The oldest row that lacks a mark, and what the clock shows.
    OldestUnmarked { from: Timestamptz = DateTime<Utc>, age_seconds: Integer = i32 } -> (Nullable<Timestamptz>, Timestamptz);
    "SELECT messaging.oldest_unmarked({}, make_interval(secs => {})), clock_timestamp()",
}

statement! {
    /// What changed lately; see the function in the migrations.
    ChangedSince { age_seconds: BigInt = i64, pairs_max: BigInt = i64 } -> (SqlUuid, BigInt, BigInt);
    "SELECT * FROM messaging.changed_since(make_interval(secs => {}), {})",
}

/// A row that somebody has claimed for publishing.
#[derive(Debug, Queryable)]
pub(crate) struct Claimed {
    created_at: DateTime<Utc>,
    batch_id: Uuid,
    pub(crate) live_done: bool,
    pub(crate) event_done: bool,
    conversation_ids: Vec<Uuid>,
    first_seqs: Vec<i64>,
    last_seqs: Vec<i64>,
}

impl Claimed {
    pub(crate) fn row(&self) -> FeedRow {
        FeedRow { created_at: self.created_at, batch_id: self.batch_id }
    }

    /// Conversations with their first and last seq.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (ConversationId, u64, u64)> {
        let seqs = self.first_seqs.iter().zip(&self.last_seqs);
        self.conversation_ids.iter().zip(seqs).map(|(id, (first, last))| ((*id).into(), to_u64(*first), to_u64(*last)))
    }
}

/// Claims the oldest rows from a moment on that lack a mark and are at least so old; others get them only after the lease.
pub(crate) async fn claim(
    connection: &mut AsyncPgConnection,
    from: DateTime<Utc>,
    (age_seconds, lease_seconds): (i32, i32),
    rows_max: i64,
) -> diesel::QueryResult<Vec<Claimed>> {
    Claim { from, age_seconds, lease_seconds, rows_max }.load(connection).await
}

/// The time of the oldest row from a moment on that lacks a mark and is at least so old; and what the clock shows.
pub(crate) async fn oldest_unmarked(
    connection: &mut AsyncPgConnection,
    from: DateTime<Utc>,
    age_seconds: i32,
) -> diesel::QueryResult<(Option<DateTime<Utc>>, DateTime<Utc>)> {
    OldestUnmarked { from, age_seconds }.get_result(connection).await
}

/// Drops the oldest partition that nobody needs any more; gives its name.
pub(crate) async fn drop_partition(connection: &mut AsyncPgConnection) -> diesel::QueryResult<Option<String>> {
    let (dropped,): (Option<String>,) = DropPartition { keep_seconds: KEPT_SECONDS }.get_result(connection).await?;
    Ok(dropped)
}

/// The conversations that moved in that time, each with its highest seq; none where more rows than `pairs_max` tell of it.
pub(crate) async fn changed_since(
    connection: &mut AsyncPgConnection,
    age_seconds: i64,
    pairs_max: i64,
) -> diesel::QueryResult<Option<Vec<Head>>> {
    let rows: Vec<(Uuid, i64, i64)> = ChangedSince { age_seconds, pairs_max }.load(connection).await?;
    if rows.iter().any(|(_, _, pairs)| *pairs > pairs_max) {
        return Ok(None);
    }
    let head = |(id, last_seq, _): (Uuid, i64, i64)| Head { conversation_id: id.into(), last_seq: to_u64(last_seq) };
    Ok(Some(rows.into_iter().map(head).collect()))
}

/// Marks rows in one statement; marks are never taken back.
pub(crate) async fn mark(connection: &mut AsyncPgConnection, marks: &[Mark]) -> diesel::QueryResult<usize> {
    let times = || marks.iter().map(|mark| mark.row.created_at);
    let (Some(earliest), Some(latest)) = (times().min(), times().max()) else {
        return Ok(0);
    };
    let statement = MarkRows {
        earliest,
        latest,
        created_ats: times().collect(),
        batch_ids: marks.iter().map(|mark| mark.row.batch_id).collect(),
        lives: marks.iter().map(|mark| mark.live).collect(),
        events: marks.iter().map(|mark| mark.event).collect(),
    };
    statement.execute(connection).await
}

/// Makes the feed's partitions for the next hour, unless another replica is at it.
pub(crate) async fn make_partitions(connection: &mut AsyncPgConnection) -> diesel::QueryResult<i32> {
    let (made,): (i32,) = MakePartitions {}.get_result(connection).await?;
    Ok(made)
}
