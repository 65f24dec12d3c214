//! The event plane: JetStream, at least once, without content.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

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
use tokio::{sync::Mutex, time::Instant};
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
/// Between two tries to make a stream that is gone.
const REMAKE_INTERVAL: Duration = Duration::from_secs(1);

/// Publishes events, one JetStream message for each batch. A stream that is gone is made again. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EventPublisher {
    calls: Arc<Calls>,
    stream: Arc<Stream>,
}

/// The stream as we know it.
#[derive(Debug)]
struct Stream {
    context: jetstream::Context,
    /// How often it was made.
    made: AtomicU64,
    /// When it was last tried to make it again.
    tried_at: Mutex<Option<Instant>>,
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
        let stream = Stream { context, made: AtomicU64::new(1), tried_at: Mutex::new(None) };
        stream.ensure().await?;
        Ok(Self { calls, stream: Arc::new(stream) })
    }

    /// Publishes a batch and awaits JetStream's ack. The same `batch_id` within two minutes is stored once. Where nobody
    /// takes it because the stream is gone (JetStream was wiped, or it was deleted), the stream is made again first.
    ///
    /// # Errors
    /// When there was no ack, or JetStream refused or is away: publish it again later.
    pub async fn publish<T: Serialize + Sync>(
        &self,
        subject: &str,
        batch_id: Uuid,
        events: &[CloudEvent<T>],
    ) -> Result<(), BusError> {
        let body = Bytes::from(serde_json::to_vec(events).map_err(BusError::Encode)?);
        let made = self.stream.made.load(Ordering::Acquire);
        match self.publish_once(subject, batch_id, body.clone()).await {
            Err(BusError::NoResponders) => {
                self.stream.remake(made).await?;
                self.publish_once(subject, batch_id, body).await
            }
            published => published,
        }
    }

    async fn publish_once(&self, subject: &str, batch_id: Uuid, body: Bytes) -> Result<(), BusError> {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", batch_id.to_string());
        headers.insert("Content-Type", "application/cloudevents-batch+json");
        let ack = self.calls.request(subject.to_owned(), headers, body, ACK_MAX).await?;
        match serde_json::from_slice::<PubAck>(&ack) {
            Ok(PubAck { stream: Some(_), error: None }) => Ok(()),
            _ => Err(BusError::Stream("JetStream did not take the event".to_owned())),
        }
    }
}

impl Stream {
    /// Makes it again, once for all who miss it, and not more often than every [`REMAKE_INTERVAL`]. `known` is how often it
    /// had been made when the caller missed it.
    async fn remake(&self, known: u64) -> Result<(), BusError> {
        let mut tried_at = self.tried_at.lock().await;
        if self.made.load(Ordering::Acquire) != known {
            return Ok(());
        }
        if tried_at.is_some_and(|at| at.elapsed() < REMAKE_INTERVAL) {
            return Err(BusError::NoResponders);
        }
        let outcome = self.ensure().await;
        *tried_at = Some(Instant::now());
        outcome?;
        self.made.fetch_add(1, Ordering::AcqRel);
        tracing::warn!(stream = subjects::EVENTS_STREAM, "the event stream was gone and has been made again");
        Ok(())
    }

    async fn ensure(&self) -> Result<(), BusError> {
        ensure_stream(&self.context).await?;
        ensure_consumers(&self.context).await
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
