//! Marks in the feed: many rows in one statement.

use std::{collections::HashMap, time::Duration};

use entrenous_db::Database;
use tokio::{sync::mpsc, time::Instant};

use super::MARK_QUEUE;
use crate::{
    metrics::Metrics,
    store::feed::{self, FeedRow, Mark},
};

/// Between two statements.
const INTERVAL: Duration = Duration::from_millis(150);

/// Writes marks. Ends when the last sender is gone and everything was tried. Marks that cannot be written are dropped: the
/// sweeper publishes those rows again, which harms nobody.
pub(super) async fn run(database: Database, mut queue: mpsc::Receiver<Mark>, metrics: Metrics) {
    let mut taken = Vec::new();
    while queue.recv_many(&mut taken, MARK_QUEUE).await > 0 {
        gather(&mut queue, &mut taken).await;
        let marks = merge(taken.drain(..));
        let start = Instant::now();
        if let Err(error) = write(&database, &marks).await {
            tracing::debug!(%error, rows = marks.len(), "feed rows were not marked");
        }
        metrics.statement("mark_feed", start.elapsed());
    }
}

/// Takes what comes within the interval.
async fn gather(queue: &mut mpsc::Receiver<Mark>, taken: &mut Vec<Mark>) {
    let end = Instant::now() + INTERVAL;
    while taken.len() < MARK_QUEUE {
        match tokio::time::timeout_at(end, queue.recv_many(taken, MARK_QUEUE)).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

/// One mark a row.
fn merge(marks: impl Iterator<Item = Mark>) -> Vec<Mark> {
    let mut rows: HashMap<FeedRow, Mark> = HashMap::new();
    for mark in marks {
        let merged = rows.entry(mark.row).or_insert(mark);
        merged.live |= mark.live;
        merged.event |= mark.event;
    }
    rows.into_values().collect()
}

async fn write(database: &Database, marks: &[Mark]) -> Result<(), entrenous_db::DbError> {
    let mut connection = database.get().await?;
    feed::mark(&mut connection, marks).await?;
    Ok(())
}
