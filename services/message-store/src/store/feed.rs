//! Table `messaging.feed`: the outbox, and the answer to what changed since.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use entrenous_protocol::rpc::store::Head;
use uuid::Uuid;

use super::{statement, to_u64};
use crate::domain::sweep::{Found, SCAN_ROWS, Scanned};

/// A row of the feed. In the order of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// Marks rows; who had claimed them for this plane or the other has them no longer. The bounds of the times spare
    /// looking into partitions that hold none of them.
    MarkRows {
        earliest: Timestamptz = DateTime<Utc>,
        latest: Timestamptz = DateTime<Utc>,
        created_ats: Array<Timestamptz> = Vec<DateTime<Utc>>,
        batch_ids: Array<SqlUuid> = Vec<Uuid>,
        lives: Array<Bool> = Vec<bool>,
        events: Array<Bool> = Vec<bool>,
    } -> (Integer,);
    "WITH bounds AS (SELECT {} AS earliest, {} AS latest)
     UPDATE messaging.feed f SET live_done = f.live_done OR m.live, event_done = f.event_done OR m.event, next_try_at = NULL
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

/// For how long rows are kept, at least: what [`changed_since`] can look back.
pub(crate) const KEPT: Duration = Duration::from_secs(3_600);
/// Pairs of row and conversation that [`changed_since`] reads, at most.
const PAIRS_MAX: i64 = 250_000;
/// Conversations in one answer of [`changed_since`], at most: about 90 bytes each in JSON, 1.8 MB together.
pub(crate) const CHANGED_MAX: usize = 20_000;
/// Rows of the default partition that are deleted in one statement.
const TRIM_ROWS: i64 = 1_000;

/// One of the two planes that a row has a mark for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plane {
    Live,
    Event,
}

impl Plane {
    /// Its name in logs and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Event => "event",
        }
    }

    fn is_event(self) -> bool {
        self == Self::Event
    }
}

statement! {
    /// See `messaging.scan_feed`.
    Scan {
        is_event: Bool = bool,
        after_at: Nullable<Timestamptz> = Option<DateTime<Utc>>,
        after_id: Nullable<SqlUuid> = Option<Uuid>,
        age_ms: BigInt = i64,
        rows_max: BigInt = i64,
    } -> (Timestamptz, SqlUuid, Bool, BigInt, BigInt, Bool);
    "SELECT * FROM messaging.scan_feed({}, {}, {}, {} * interval '1 millisecond', {})",
}

statement! {
    /// See `messaging.claim_feed`.
    Claim {
        is_event: Bool = bool,
        created_ats: Array<Timestamptz> = Vec<DateTime<Utc>>,
        batch_ids: Array<SqlUuid> = Vec<Uuid>,
        lease_ms: BigInt = i64,
        wait_max_ms: BigInt = i64,
    } -> (
        Timestamptz, SqlUuid, Bool, BigInt,
        Nullable<Array<SqlUuid>>, Nullable<Array<BigInt>>, Nullable<Array<BigInt>>,
    );
    "SELECT * FROM messaging.claim_feed({}, {}, {}, {} * interval '1 millisecond', {} * interval '1 millisecond')",
}

statement! {
    /// Gives claimed rows back.
    Release {
        earliest: Timestamptz = DateTime<Utc>,
        latest: Timestamptz = DateTime<Utc>,
        created_ats: Array<Timestamptz> = Vec<DateTime<Utc>>,
        batch_ids: Array<SqlUuid> = Vec<Uuid>,
    } -> (Integer,);
    "WITH bounds AS (SELECT {} AS earliest, {} AS latest)
     UPDATE messaging.feed f SET next_try_at = NULL
     FROM (SELECT * FROM unnest({}, {}) AS i (created_at, batch_id) ORDER BY created_at, batch_id) r
     WHERE f.created_at = r.created_at AND f.batch_id = r.batch_id AND f.created_at >= $1 AND f.created_at <= $2",
}

statement! {
    /// See `messaging.changed_since`.
    ChangedSince { age_ms: BigInt = i64, pairs_max: BigInt = i64 } -> (SqlUuid, BigInt, BigInt);
    "SELECT * FROM messaging.changed_since({} * interval '1 millisecond', {})",
}

statement! {
    /// See `messaging.drop_feed_partition`.
    DropPartition { keep_ms: BigInt = i64 } -> (Nullable<Text>,);
    "SELECT messaging.drop_feed_partition({} * interval '1 millisecond')",
}

statement! {
    /// Deletes rows of the default partition that are done with.
    TrimDefault { keep_ms: BigInt = i64, rows_max: BigInt = i64 } -> (Integer,);
    "DELETE FROM messaging.feed_default d
     USING (
         SELECT created_at, batch_id FROM messaging.feed_default
         WHERE created_at < now() - {} * interval '1 millisecond' AND live_done AND event_done
         ORDER BY created_at, batch_id LIMIT {} FOR UPDATE SKIP LOCKED
     ) o
     WHERE d.created_at = o.created_at AND d.batch_id = o.batch_id",
}

/// A row that was claimed, with what it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClaimedRow {
    pub(crate) row: FeedRow,
    pub(crate) ranges: Vec<FeedRange>,
}

/// Entries of one conversation, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FeedRange {
    pub(crate) conversation_id: Uuid,
    pub(crate) first_seq: i64,
    pub(crate) last_seq: i64,
}

/// Reads at most [`SCAN_ROWS`] rows after one of them (none: from the oldest) that are at least `age` old.
pub(crate) async fn scan(
    connection: &mut AsyncPgConnection,
    plane: Plane,
    after: Option<FeedRow>,
    age: Duration,
) -> diesel::QueryResult<Scanned<FeedRow>> {
    let statement = Scan {
        is_event: plane.is_event(),
        after_at: after.map(|row| row.created_at),
        after_id: after.map(|row| row.batch_id),
        age_ms: millis(age),
        rows_max: i64::try_from(SCAN_ROWS).unwrap_or(i64::MAX),
    };
    let rows: Vec<(DateTime<Utc>, Uuid, bool, i64, i64, bool)> = statement.load(connection).await?;
    let mut scanned = Scanned { unmarked: Vec::with_capacity(rows.len()), last: None, rows: 0 };
    for (created_at, batch_id, is_marked, wait_ms, number, is_last) in rows {
        let row = FeedRow { created_at, batch_id };
        if !is_marked {
            scanned.unmarked.push((row, Duration::from_millis(to_u64(wait_ms))));
        }
        if is_last {
            scanned.last = Some(row);
            scanned.rows = usize::try_from(number).unwrap_or_default();
        }
    }
    Ok(scanned)
}

/// How a row was found, and its ranges where it was claimed.
type Looked = (DateTime<Utc>, Uuid, bool, i64, Option<Vec<Uuid>>, Option<Vec<i64>>, Option<Vec<i64>>);

/// Claims those of the rows that lack the mark and are nobody else's, for `lease` at least and `wait_max` at most; tells
/// how every row that is still there was found.
pub(crate) async fn claim(
    connection: &mut AsyncPgConnection,
    plane: Plane,
    rows: &[FeedRow],
    lease: Duration,
    wait_max: Duration,
) -> diesel::QueryResult<(Vec<(FeedRow, Found)>, Vec<ClaimedRow>)> {
    let statement = Claim {
        is_event: plane.is_event(),
        created_ats: rows.iter().map(|row| row.created_at).collect(),
        batch_ids: rows.iter().map(|row| row.batch_id).collect(),
        lease_ms: millis(lease),
        wait_max_ms: millis(wait_max),
    };
    let looked: Vec<Looked> = statement.load(connection).await?;
    let mut found = Vec::with_capacity(looked.len());
    let mut claimed = Vec::with_capacity(looked.len());
    for (created_at, batch_id, is_marked, wait_ms, ids, firsts, lasts) in looked {
        let row = FeedRow { created_at, batch_id };
        let how = match (ids, firsts, lasts) {
            (Some(ids), Some(firsts), Some(lasts)) => {
                claimed.push(ClaimedRow { row, ranges: ranges(&ids, &firsts, &lasts) });
                Found::Claimed
            }
            _ if is_marked => Found::Marked,
            _ => Found::Taken(Duration::from_millis(to_u64(wait_ms))),
        };
        found.push((row, how));
    }
    Ok((found, claimed))
}

fn ranges(ids: &[Uuid], firsts: &[i64], lasts: &[i64]) -> Vec<FeedRange> {
    let ends = firsts.iter().zip(lasts);
    let range = |(id, (first, last)): (&Uuid, (&i64, &i64))| FeedRange {
        conversation_id: *id,
        first_seq: *first,
        last_seq: *last,
    };
    ids.iter().zip(ends).map(range).collect()
}

/// Gives claimed rows back: they may be claimed at once.
pub(crate) async fn release(connection: &mut AsyncPgConnection, rows: &[FeedRow]) -> diesel::QueryResult<()> {
    let times = || rows.iter().map(|row| row.created_at);
    let (Some(earliest), Some(latest)) = (times().min(), times().max()) else {
        return Ok(());
    };
    let batch_ids = rows.iter().map(|row| row.batch_id).collect();
    let statement = Release { earliest, latest, created_ats: times().collect(), batch_ids };
    statement.execute(connection).await.map(drop)
}

/// The conversations that rows of the last `age` name, each with its highest seq; none when that is longer than rows are
/// kept, or more than [`CHANGED_MAX`] conversations or [`PAIRS_MAX`] pairs of row and conversation.
pub(crate) async fn changed_since(
    connection: &mut AsyncPgConnection,
    age: Duration,
) -> diesel::QueryResult<Option<Vec<Head>>> {
    if age > KEPT {
        return Ok(None);
    }
    let statement = ChangedSince { age_ms: millis(age), pairs_max: PAIRS_MAX };
    let rows: Vec<(Uuid, i64, i64)> = statement.load(connection).await?;
    let is_cut = rows.iter().any(|(_, _, pairs)| *pairs > PAIRS_MAX);
    if is_cut || rows.len() > CHANGED_MAX {
        return Ok(None);
    }
    let head = |(id, last_seq, _): (Uuid, i64, i64)| Head { conversation_id: id.into(), last_seq: to_u64(last_seq) };
    Ok(Some(rows.into_iter().map(head).collect()))
}

/// Drops the oldest partition that is done with; its name. A lock timeout says that others are using it.
pub(crate) async fn drop_partition(connection: &mut AsyncPgConnection) -> diesel::QueryResult<Option<String>> {
    let (dropped,): (Option<String>,) = DropPartition { keep_ms: millis(KEPT) }.get_result(connection).await?;
    Ok(dropped)
}

/// Deletes some rows of the default partition that are done with; whether there may be more.
pub(crate) async fn trim_default(connection: &mut AsyncPgConnection) -> diesel::QueryResult<bool> {
    let deleted = TrimDefault { keep_ms: millis(KEPT), rows_max: TRIM_ROWS }.execute(connection).await?;
    Ok(i64::try_from(deleted).unwrap_or(i64::MAX) >= TRIM_ROWS)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
