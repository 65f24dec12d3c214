//! The event plane: JetStream, at least once, without content.

use std::{sync::Arc, time::Duration};

use async_nats::{
    Client, HeaderMap,
    jetstream::{
        self,
        consumer::{AckPolicy, DeliverPolicy, pull},
        stream::{Config, DiscardPolicy, RetentionPolicy, StorageType},
    },
};
use bytes::Bytes;
use entrenous_protocol::event::CloudEvent;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::{BusError, rpc::Calls, subjects};

/// How long events are kept. Limits retention: a consumer that stands still blocks nobody.
pub const STREAM_MAX_AGE: Duration = Duration::from_secs(3 * 24 * 3_600);
/// How long repeats of an event are recognised by its id.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
/// How long an outside reader may take with a message before it is delivered again.
const READER_ACK_WAIT: Duration = Duration::from_secs(30);
/// Messages that an outside reader may leave without its acknowledgement.
const READER_ACKS_PENDING_MAX: i64 = 1_000;
/// How long JetStream may take to acknowledge.
const ACK_MAX: Duration = Duration::from_secs(5);

/// Publishes events, one JetStream message for each batch.
#[derive(Debug, Clone)]
pub struct EventPublisher {
    context: jetstream::Context,
    calls: Arc<Calls>,
    /// Held by who makes the stream anew: the others find it made.
    making: Arc<Mutex<()>>,
}

#[derive(Deserialize)]
struct PubAck {
    #[serde(default)]
    stream: Option<String>,
    #[serde(default)]
    error: Option<serde_json::Value>,
}

impl EventPublisher {
    pub(crate) async fn start(client: Client, calls: Arc<Calls>) -> Result<Self, BusError> {
        let context = jetstream::new(client);
        ensure_stream(&context).await?;
        ensure_consumers(&context).await?;
        Ok(Self { context, calls, making: Arc::default() })
    }

    /// Publishes a batch and awaits JetStream's ack. The same `batch_id` within two minutes is stored once. A stream that is
    /// gone is made anew.
    ///
    /// # Errors
    /// When there was no ack, or JetStream refused: publish it again later.
    pub async fn publish<T: Serialize + Sync>(
        &self,
        subject: &str,
        batch_id: Uuid,
        events: &[CloudEvent<T>],
    ) -> Result<(), BusError> {
        let body = serde_json::to_vec(events).map_err(BusError::Encode)?;
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", batch_id.to_string());
        headers.insert("Content-Type", "application/cloudevents-batch+json");
        let body = Bytes::from(body);
        let ask = || self.calls.request(subject.to_owned(), headers.clone(), body.clone(), ACK_MAX);
        let ack = match ask().await {
            Err(BusError::NoResponders) => {
                let _making = self.making.lock().await;
                match ask().await {
                    Err(BusError::NoResponders) => {
                        // JetStream is there and the stream is not, or neither is.
                        ensure_stream(&self.context).await?;
                        ensure_consumers(&self.context).await?;
                        ask().await?
                    }
                    ack => ack?,
                }
            }
            ack => ack?,
        };
        match serde_json::from_slice::<PubAck>(&ack) {
            Ok(PubAck { stream: Some(_), error: None }) => Ok(()),
            _ => Err(BusError::Stream("JetStream did not take the event".to_owned())),
        }
    }
}

/// Makes the stream or brings it up to date, and reads it back: a server ignores silently what it does not know.
async fn ensure_stream(context: &jetstream::Context) -> Result<(), BusError> {
    let wanted = Config {
        name: subjects::EVENTS_STREAM.to_owned(),
        subjects: vec![subjects::EVENTS_ALL.to_owned()],
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::Old,
        storage: StorageType::File,
        max_age: STREAM_MAX_AGE,
        duplicate_window: DUPLICATE_WINDOW,
        ..Config::default()
    };
    let failed = |error: &dyn std::fmt::Display| BusError::Stream(error.to_string());
    let stream = context.get_or_create_stream(wanted.clone()).await.map_err(|error| failed(&error))?;
    if !is_as_wanted(&stream.cached_info().config, &wanted) {
        let replicas = stream.cached_info().config.num_replicas;
        let info = context
            .update_stream(Config { num_replicas: replicas, ..wanted.clone() })
            .await
            .map_err(|error| failed(&error))?;
        if !is_as_wanted(&info.config, &wanted) {
            return Err(BusError::Stream("the server keeps other settings than were asked for".to_owned()));
        }
    }
    Ok(())
}

/// Makes the consumers that outsiders read with; those that are there stay where they are.
async fn ensure_consumers(context: &jetstream::Context) -> Result<(), BusError> {
    for name in subjects::EVENTS_CONSUMERS {
        let wanted = pull::Config {
            durable_name: Some(name.to_owned()),
            description: Some("for readers outside of Entrenous".to_owned()),
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::Explicit,
            ack_wait: READER_ACK_WAIT,
            max_ack_pending: READER_ACKS_PENDING_MAX,
            ..pull::Config::default()
        };
        let made = context.create_consumer_on_stream(wanted, subjects::EVENTS_STREAM).await;
        made.map_err(|error| BusError::Stream(format!("consumer {name}: {error}")))?;
    }
    Ok(())
}

fn is_as_wanted(is: &Config, wanted: &Config) -> bool {
    is.subjects == wanted.subjects
        && is.retention == wanted.retention
        && is.max_age == wanted.max_age
        && is.duplicate_window == wanted.duplicate_window
}
