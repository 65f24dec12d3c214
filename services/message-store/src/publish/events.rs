//! The event plane.

use std::time::Duration;

use entrenous_bus::{Bus, EventPublisher, subjects::EVENTS_ENTRY_APPENDED};
use entrenous_model::Timestamp;
use entrenous_protocol::event::{CloudEvent, ENTRY_APPENDED, EntryAppended};
use futures::StreamExt;
use tokio::sync::mpsc;

use crate::{
    SERVICE,
    store::feed::{FeedRow, Mark},
};

/// Messages to JetStream that await their ack.
const IN_FLIGHT: usize = 256;
/// Between two tries to set the stream up.
const RETRY: Duration = Duration::from_secs(1);

/// The events of one feed row.
#[derive(Debug)]
pub(super) struct Events {
    pub(super) row: FeedRow,
    pub(super) events: Vec<(EntryAppended, Timestamp)>,
}

/// Publishes events, pipelined. Ends when the last sender is gone and everything was tried.
pub(super) async fn run(bus: Bus, queue: mpsc::Receiver<Events>, marks: mpsc::Sender<Mark>) {
    let Some(publisher) = connect(&bus, &queue).await else {
        return;
    };
    futures::stream::unfold(queue, async |mut queue| queue.recv().await.map(|events| (events, queue)))
        .for_each_concurrent(IN_FLIGHT, async |events| {
            let row = events.row;
            match publish(&publisher, events).await {
                // The marks end after us: nothing to do when they are gone.
                Ok(()) => drop(marks.send(Mark { row, live: false, event: true }).await),
                Err(error) => tracing::debug!(%error, "events were not taken"),
            }
        })
        .await;
}

/// JetStream may be away at the start: rows wait for the sweeper meanwhile. None when the service stops before.
async fn connect(bus: &Bus, queue: &mpsc::Receiver<Events>) -> Option<EventPublisher> {
    loop {
        match bus.event_publisher().await {
            Ok(publisher) => return Some(publisher),
            Err(error) => tracing::warn!(%error, "no event stream yet"),
        }
        if queue.is_closed() {
            return None;
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Publishes one row's events and awaits the ack.
pub(super) async fn publish(publisher: &EventPublisher, events: Events) -> Result<(), entrenous_bus::BusError> {
    let batch_id = events.row.batch_id;
    let events: Vec<_> = events.events.into_iter().map(|(data, sent_at)| cloud_event(data, sent_at)).collect();
    publisher.publish(EVENTS_ENTRY_APPENDED, batch_id, &events).await
}

fn cloud_event(data: EntryAppended, sent_at: Timestamp) -> CloudEvent<EntryAppended> {
    let id = format!("{}/{}", data.conversation_id, data.seq);
    let subject = data.conversation_id.to_string();
    CloudEvent::new(id, SERVICE, ENTRY_APPENDED, subject, sent_at, data)
}
