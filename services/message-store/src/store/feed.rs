//! Table `messaging.feed`: the outbox.

use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, Bool, Integer, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::statement;

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
