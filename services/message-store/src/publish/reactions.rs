//! Reactions in channels: the counts of a message are sent together now and then, however many people react. Nothing is kept:
//! history shows the counts, and the next reaction tells them again.

use std::time::Duration;

use ahash::AHashSet;
use entrenous_db::{Database, DbError};
use entrenous_model::{ConversationId, EntryId};
use entrenous_protocol::frame;
use tokio::{sync::mpsc, time::Instant};

use super::{Publication, ReactionsFrame};
use crate::store::acts;

/// How long reactions gather.
const INTERVAL: Duration = Duration::from_secs(1);

/// A message whose counts are others.
pub(super) type Changed = (ConversationId, EntryId);

/// Tells until the last sender is gone.
pub(super) async fn run(database: Database, live: mpsc::Sender<Publication>, mut queue: mpsc::Receiver<Changed>) {
    while let Some(first) = queue.recv().await {
        let changed = gather(first, &mut queue).await;
        match read(&database, &changed).await {
            // The live plane ends after us: nothing to do when it is gone.
            Ok(publication) => drop(live.send(publication).await),
            Err(error) => tracing::debug!(%error, "counts of reactions were not told"),
        }
    }
}

/// What comes within the interval, each message once.
async fn gather(first: Changed, queue: &mut mpsc::Receiver<Changed>) -> AHashSet<Changed> {
    let end = Instant::now() + INTERVAL;
    let mut changed = AHashSet::from([first]);
    while let Ok(Some(more)) = tokio::time::timeout_at(end, queue.recv()).await {
        changed.insert(more);
    }
    changed
}

async fn read(database: &Database, changed: &AHashSet<Changed>) -> Result<Publication, DbError> {
    let mut connection = database.get().await?;
    let mut publication = Publication::default();
    for &(conversation_id, message_id) in changed {
        let counts = acts::read_reaction_counts(&mut connection, conversation_id, message_id).await?;
        let frame = frame::reactions_changed(conversation_id, message_id, &counts);
        publication.reactions.push(ReactionsFrame { conversation_id, frame });
    }
    Ok(publication)
}
