//! The example of docs/events.md reads what is published.

use std::ops::ControlFlow;

use entrenous_bus::{Bus, NatsConfig, subjects::EVENTS_ENTRY_APPENDED};
use entrenous_config::Secret;
use entrenous_model::{Clock, IdGenerator, SystemClock};
use entrenous_protocol::{
    entry::{EntryKind, MessageType},
    event::{CloudEvent, ENTRY_APPENDED, EntryAppended},
};
use entrenous_test_support::{EVENTS_READER_PASSWORD, TestNats};

use crate::read_events::{connect, read_events};

fn event(seq: u64) -> CloudEvent<EntryAppended> {
    let data = EntryAppended {
        conversation_id: IdGenerator.next(),
        seq,
        id: IdGenerator.next(),
        kind: EntryKind::Message,
        message_type: Some(MessageType::Text),
        sender_id: IdGenerator.next(),
        countable_no: seq,
        batch_id: IdGenerator.next(),
    };
    let (id, subject) = (format!("{}/{seq}", data.conversation_id), data.conversation_id.to_string());
    CloudEvent::new(id, "message-store", ENTRY_APPENDED, subject, SystemClock.now(), data)
}

/// The ids of the next events, as many as are wanted.
async fn read(nats: &TestNats, count: usize) -> Vec<String> {
    let events = connect(&nats.url(), EVENTS_READER_PASSWORD.to_owned()).await.unwrap();
    let mut ids = Vec::new();
    let reading = read_events(&events, |event| {
        assert_eq!(event.r#type, ENTRY_APPENDED);
        assert!(event.data["conversation_id"].is_string() && event.data.get("content").is_none());
        ids.push(event.id);
        if ids.len() < count { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    reading.await.unwrap();
    ids
}

#[tokio::test]
async fn the_example_reads_each_event_once_and_goes_on_where_it_stopped() {
    let nats = TestNats::with_permissions().await.unwrap();
    let config = NatsConfig {
        nats_url: nats.url(),
        nats_user: Some("message-store".into()),
        nats_password: Some(Secret::new("password-of-message-store")),
    };
    let publisher = Bus::connect(&config, "message-store").await.unwrap().event_publisher().await.unwrap();
    let events: Vec<_> = (1..=5).map(event).collect();
    let ids: Vec<&str> = events.iter().map(|event| event.id.as_str()).collect();
    let (first, rest) = events.split_at(3);
    // The second message repeats an event of the first, under another id of the message.
    for batch in [first, &events[2..3], rest] {
        publisher.publish(EVENTS_ENTRY_APPENDED, IdGenerator.next(), batch).await.unwrap();
    }
    assert_eq!(read(&nats, 4).await, ids);
    let more = [event(6)];
    publisher.publish(EVENTS_ENTRY_APPENDED, IdGenerator.next(), &more).await.unwrap();
    assert_eq!(read(&nats, 1).await, [more[0].id.as_str()]);
}
