//! Publishes what a store died before publishing, or could not: feed rows that lack a mark some seconds after their commit.
//!
//! Every replica sweeps. Rows are claimed for a time, which grows with their age: so replicas do not step on each other,
//! and a row that cannot be published holds up nobody. Frames and events are made again from the log, so that nothing
//! erased comes back; what comes of them goes the way of everything that is published.

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use entrenous_bus::Bus;
use entrenous_db::Database;
use entrenous_model::{Clock, ConversationId};
use entrenous_protocol::rpc::store::{Range, ReadRangesRequest};
use entrenous_runtime::Shutdown;

use super::{Publication, Publisher};
use crate::{
    error::RequestError,
    metrics::Metrics,
    store::{
        entries,
        feed::{self, Claimed},
    },
};

/// Between two sweeps.
const INTERVAL: Duration = Duration::from_secs(3);
/// Rows are left to whoever wrote them for so long.
const AGE_SECONDS: i32 = 5;
/// How long a claim lasts at least.
const LEASE_SECONDS: i32 = 30;
/// Rows claimed at once.
const ROWS_MAX: i64 = 64;
/// A row is seen when its transaction has committed, which may be so much later than the time that it carries.
const LATE_MAX: TimeDelta = TimeDelta::seconds(20);

/// Sweeps until the stop.
pub(crate) struct Sweeper {
    bus: Bus,
    database: Database,
    publisher: Publisher,
    clock: std::sync::Arc<dyn Clock>,
    metrics: Metrics,
    /// Everything before has its marks.
    marked_until: DateTime<Utc>,
}

impl Sweeper {
    pub(crate) fn new(
        bus: Bus,
        database: Database,
        publisher: Publisher,
        clock: std::sync::Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Self {
        // The first sweep looks at everything that is there.
        Self { bus, database, publisher, clock, metrics, marked_until: DateTime::UNIX_EPOCH }
    }

    pub(crate) async fn run(mut self, stop: Shutdown) {
        loop {
            // Not all replicas at the same moment.
            let pause = INTERVAL.mul_f64(rand::random_range(0.5..1.5));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.triggered() => return,
            }
            if !self.bus.state().is_connected() {
                continue;
            }
            tokio::select! {
                swept = self.sweep() => {
                    if let Err(error) = swept {
                        tracing::debug!(%error, "the feed was not swept");
                    }
                }
                () = stop.triggered() => return,
            }
        }
    }

    async fn sweep(&mut self) -> Result<(), RequestError> {
        let mut connection = self.database.get().await?;
        let (oldest, now) = feed::oldest_unmarked(&mut connection, self.marked_until, AGE_SECONDS).await?;
        drop(connection);
        let certain = now - TimeDelta::seconds(AGE_SECONDS.into()) - LATE_MAX;
        self.marked_until = oldest.unwrap_or(certain).min(certain).max(self.marked_until);
        self.metrics.feed_waits(oldest.map_or(TimeDelta::zero(), |oldest| now - oldest));
        while oldest.is_some() {
            // Without JetStream one row is enough to find out when it is back.
            let rows_max = if self.publisher.takes_events() { ROWS_MAX } else { 1 };
            let mut connection = self.database.get().await?;
            let claim = feed::claim(&mut connection, self.marked_until, (AGE_SECONDS, LEASE_SECONDS), rows_max);
            let rows = claim.await?;
            drop(connection);
            for row in &rows {
                self.publish(row).await?;
            }
            self.metrics.feed_swept(rows.len());
            if i64::try_from(rows.len()).unwrap_or(0) < ROWS_MAX {
                break;
            }
        }
        Ok(())
    }

    async fn publish(&self, row: &Claimed) -> Result<(), RequestError> {
        let mut publication = Publication::of_row(row.row());
        let mut countables = self.countables(row).await?;
        let mut ranges: Vec<Range> = row.ranges().map(range).collect();
        while !ranges.is_empty() {
            ranges = self.read(&ranges, row, &mut countables, &mut publication).await?;
        }
        if row.live_done {
            publication.frames.clear();
        }
        if row.event_done {
            publication.events.clear();
        }
        self.publisher.publish(publication);
        Ok(())
    }

    /// Reads what fits, and gives what is left to read. A conversation that is gone has nothing to tell.
    async fn read(
        &self,
        ranges: &[Range],
        row: &Claimed,
        countables: &mut Countables,
        publication: &mut Publication,
    ) -> Result<Vec<Range>, RequestError> {
        let request = ReadRangesRequest { reader: None, ranges: ranges.to_vec(), bytes_max: usize::MAX };
        let mut connection = self.database.get().await?;
        let rows = entries::read_ranges(&mut connection, &request).await?;
        drop(connection);
        let now = self.clock.now().as_datetime();
        let mut left: HashMap<ConversationId, Range> = HashMap::new();
        for read in rows {
            let place = usize::try_from(read.range.place - 1).unwrap_or(usize::MAX);
            let Some(range) = ranges.get(place) else { continue };
            let conversation = range.conversation_id;
            let setting = read.range.setting(conversation)?;
            let Some(entry) = read.entry.entry(conversation, now)?.filter(|_| read.range.fits) else { continue };
            let countable_no = countables.remove(&(conversation, entry.seq)).unwrap_or_default();
            publication.entry(&setting, &entry, 0, countable_no);
            let last = row.ranges().find(|(id, ..)| *id == conversation).map_or(0, |(_, _, last)| last);
            left.insert(conversation, between(conversation, entry.seq, last));
        }
        Ok(left.into_values().filter(|range| range.limit > 0).collect())
    }

    async fn countables(&self, row: &Claimed) -> Result<Countables, RequestError> {
        let mut connection = self.database.get().await?;
        Ok(entries::countables(&mut connection, row.ranges()).await?.into_iter().collect())
    }
}

/// The number among countable messages that events carry.
type Countables = HashMap<(ConversationId, u64), u64>;

fn range((conversation_id, first, last): (ConversationId, u64, u64)) -> Range {
    between(conversation_id, first.saturating_sub(1), last)
}

fn between(conversation_id: ConversationId, after: u64, last: u64) -> Range {
    Range { conversation_id, after, limit: u32::try_from(last.saturating_sub(after)).unwrap_or(u32::MAX) }
}
