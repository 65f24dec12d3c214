//! The live plane.

use std::time::Duration;

use entrenous_bus::{BusError, LivePublisher};
use entrenous_protocol::live::{LiveKind, Preamble};
use tokio::{sync::mpsc, time::Instant};

use super::{Incarnation, Publication, ReactionsFrame, events::Events};
use crate::{
    metrics::Metrics,
    store::feed::{FeedRow, Mark},
};

/// Publications taken at once.
const READ_AHEAD: usize = 64;
/// How long rows gather for one proof: nothing waits for it but their marks.
const PROOF_INTERVAL: Duration = Duration::from_millis(50);

/// Publishes frames and notices, one after another.
pub(super) struct Live {
    pub(super) publisher: LivePublisher,
    pub(super) incarnation: Incarnation,
    pub(super) marks: mpsc::Sender<Mark>,
    pub(super) events: mpsc::Sender<Events>,
    pub(super) metrics: Metrics,
}

impl Live {
    /// Ends when the last sender is gone and everything was published. One round trip at a time proves what was published
    /// before it; meanwhile publishing goes on.
    pub(super) async fn run(self, mut queue: mpsc::Receiver<Publication>) {
        let (rows, fences) = mpsc::channel::<Vec<FeedRow>>(1);
        let fencing = fence(self.publisher.clone(), self.marks.clone(), fences);
        let publishing = async move {
            let mut taken = Vec::with_capacity(READ_AHEAD);
            let mut unproven = Vec::new();
            loop {
                tokio::select! {
                    // While a round trip is under way the rows gather.
                    permit = rows.reserve(), if !unproven.is_empty() => match permit {
                        Ok(permit) => permit.send(std::mem::take(&mut unproven)),
                        Err(_) => unproven.clear(),
                    },
                    count = queue.recv_many(&mut taken, READ_AHEAD) => {
                        if count == 0 {
                            break;
                        }
                        for publication in taken.drain(..) {
                            unproven.extend(self.publish(publication).await);
                        }
                        unproven.truncate(super::MARK_QUEUE);
                    }
                }
            }
            // A closed channel: the fences have ended, and the sweeper will look after the rows.
            let _ = rows.send(unproven).await;
        };
        tokio::join!(publishing, fencing);
    }

    /// The row to be marked once the server has proven to have everything.
    async fn publish(&self, publication: Publication) -> Option<FeedRow> {
        let sent = send(&self.publisher, self.incarnation.get(), &publication).await;
        let row = publication.row?;
        let events = Events { row, events: publication.events };
        if self.events.try_send(events).is_err() {
            self.metrics.publication_dropped("event");
        }
        match sent {
            Ok(()) => Some(row),
            Err(error) => {
                tracing::debug!(%error, "live frames were not sent");
                self.metrics.publication_dropped("live");
                None
            }
        }
    }
}

/// As a preamble has it.
fn short(leaves: u64) -> u32 {
    u32::try_from(leaves).unwrap_or(u32::MAX)
}

/// Sends the notices and memberships, then the frames.
pub(super) async fn send(
    publisher: &LivePublisher,
    incarnation: u64,
    publication: &Publication,
) -> Result<(), BusError> {
    for (user_id, notice) in &publication.notices {
        publisher.publish_notice(user_id.as_uuid(), incarnation, notice).await?;
    }
    for frame in &publication.memberships {
        let preamble = Preamble {
            leaves: short(frame.leaves),
            subject: frame.conversation_id.as_uuid(),
            seq: frame.head,
            incarnation,
            ..Preamble::empty(LiveKind::Membership)
        };
        let body = serde_json::to_vec(&frame.membership).map_err(BusError::Encode)?;
        publisher.publish(preamble, &body, None).await?;
    }
    for frame in &publication.frames {
        let preamble = Preamble {
            flags: frame.flags,
            leaves: short(frame.leaves),
            subject: frame.conversation_id.as_uuid(),
            seq: frame.seq,
            origin: frame.origin,
            incarnation,
            ..Preamble::empty(LiveKind::Entry)
        };
        publisher.publish(preamble, frame.frame.get().as_bytes(), frame.trace.as_deref()).await?;
    }
    for ReactionsFrame { conversation_id, frame } in &publication.reactions {
        let subject = conversation_id.as_uuid();
        let preamble = Preamble { subject, incarnation, ..Preamble::empty(LiveKind::Reactions) };
        publisher.publish(preamble, frame.as_bytes(), None).await?;
    }
    Ok(())
}

/// Proves, then marks.
async fn fence(publisher: LivePublisher, marks: mpsc::Sender<Mark>, mut queue: mpsc::Receiver<Vec<FeedRow>>) {
    while let Some(mut rows) = queue.recv().await {
        if rows.is_empty() {
            continue;
        }
        gather(&mut queue, &mut rows).await;
        if let Err(error) = publisher.fence().await {
            tracing::debug!(%error, "live frames are not known to have left");
            continue;
        }
        for row in rows {
            if marks.send(Mark { row, live: true, event: false }).await.is_err() {
                return;
            }
        }
    }
}

/// Takes what comes within the interval.
async fn gather(queue: &mut mpsc::Receiver<Vec<FeedRow>>, rows: &mut Vec<FeedRow>) {
    let end = Instant::now() + PROOF_INTERVAL;
    while rows.len() < super::MARK_QUEUE {
        match tokio::time::timeout_at(end, queue.recv()).await {
            Ok(Some(more)) => rows.extend(more),
            Ok(None) | Err(_) => return,
        }
    }
}
