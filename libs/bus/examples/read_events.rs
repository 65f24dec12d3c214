//! Reads events, as a program outside of Entrenous does it: with async-nats alone, and a durable consumer that remembers
//! how far it has read. See docs/events.md.
//!
//! ```sh
//! NATS_URL=nats://127.0.0.1:4222 NATS_PASSWORD=… cargo run -p entrenous-bus --example read_events
//! ```

use std::{collections::HashSet, ops::ControlFlow};

use anyhow::Context;
use async_nats::{ConnectOptions, jetstream};
use futures::StreamExt;
use serde::Deserialize;

/// One of `reader-1` to `reader-4`: each program has one for itself.
const CONSUMER: &str = "reader-1";

/// What this program needs of a CloudEvent.
#[derive(Debug, Deserialize)]
pub struct Event {
    /// The same each time the event comes.
    pub id: String,
    /// Such as `entrenous.entry.appended.v1`.
    pub r#type: String,
    /// What it says; depends on the type.
    pub data: serde_json::Value,
}

/// Connects as the user that may read events and nothing else.
pub async fn connect(url: &str, password: String) -> anyhow::Result<jetstream::Context> {
    let options = ConnectOptions::with_user_and_password("events-reader".to_owned(), password)
        // Answers come to a subject of the user's own.
        .custom_inbox_prefix("_INBOX.events-reader");
    Ok(jetstream::with_prefix(options.connect(url).await?, "EVENTS.API"))
}

/// Hands on every event, until `handle` says that it is enough.
pub async fn read_events(
    events: &jetstream::Context,
    mut handle: impl FnMut(Event) -> ControlFlow<()>,
) -> anyhow::Result<()> {
    let consumer: jetstream::consumer::PullConsumer = events.get_consumer_from_stream(CONSUMER, "EVENTS").await?;
    let mut messages = consumer.messages().await?;
    // A program that writes to a database keeps the ids there, in the transaction that the event causes.
    let mut seen = HashSet::new();
    while let Some(message) = messages.next().await {
        let message = message?;
        let batch: Vec<Event> = serde_json::from_slice(&message.payload)?;
        let mut is_enough = false;
        for event in batch {
            if seen.insert(event.id.clone()) {
                is_enough |= handle(event).is_break();
            }
        }
        // Only now: what is not acknowledged comes again, also after this program was killed.
        message.double_ack().await.map_err(|error| anyhow::anyhow!(error))?;
        if is_enough {
            break;
        }
    }
    Ok(())
}

#[tokio::main]
#[expect(clippy::print_stdout, clippy::disallowed_methods, reason = "it is an example, not a service")]
async fn main() -> anyhow::Result<()> {
    let setting = |name| std::env::var(name).with_context(|| format!("{name} is needed"));
    let events = connect(&setting("NATS_URL")?, setting("NATS_PASSWORD")?).await?;
    let print = |event: Event| {
        println!("{} {} {}", event.r#type, event.id, event.data);
        ControlFlow::Continue(())
    };
    read_events(&events, print).await
}
