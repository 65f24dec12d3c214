//! The live plane: hints that something happened, at most once.
//!
//! A publisher numbers what it publishes in each shard, and says once a second how far it has come: so whoever listens
//! notices what was lost, and a publisher that is gone.

use std::{sync::Arc, time::Duration};

use async_nats::{Client, HeaderMap, Message};
use entrenous_protocol::live::{LIVE_SHARDS, LiveKind, LiveMessage, Preamble, UserNotice, encode_numbers, shard_of};
use entrenous_runtime::trace;
use futures::StreamExt;
use tokio::{
    sync::Mutex,
    time::{Instant, MissedTickBehavior},
};
use uuid::Uuid;

use crate::{
    BusError, ConnectionState,
    rpc::{Calls, header},
    subjects,
};

/// Messages taken at once from the subscription.
const READ_AHEAD: usize = 256;
/// How often a publisher says how far it has numbered.
pub const BEAT_INTERVAL: Duration = Duration::from_secs(1);

/// Publishes live messages and numbers them per shard. Calls made one after another keep their order. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LivePublisher {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    calls: Arc<Calls>,
    publisher: u64,
    since: Instant,
    /// Held while a message is handed to the client: the numbers stand in the order in which messages leave.
    numbers: Mutex<Vec<u64>>,
}

impl LivePublisher {
    pub(crate) async fn start(
        client: Client,
        service: &'static str,
        state: &ConnectionState,
    ) -> Result<Self, BusError> {
        let calls = Calls::start(client.clone(), service, state).await?;
        let numbers = Mutex::new(vec![0; usize::from(LIVE_SHARDS)]);
        let shared = Arc::new(Shared { client, calls, publisher: rand::random(), since: Instant::now(), numbers });
        tokio::spawn(beat(Arc::downgrade(&shared)));
        Ok(Self { shared })
    }

    /// Publishes one message; `publisher` and `number` of the preamble are filled in here. `trace` is the `traceparent` of
    /// what it belongs to, where that is traced.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn publish(&self, mut preamble: Preamble, body: &[u8], trace: Option<&str>) -> Result<(), BusError> {
        let shard = shard_of(preamble.subject);
        let mut numbers = self.shared.numbers.lock().await;
        preamble.publisher = self.shared.publisher;
        if let Some(number) = numbers.get_mut(usize::from(shard)) {
            *number += 1;
            preamble.number = *number;
        }
        self.shared.hand_over(subjects::live(shard), &preamble, body, trace).await
    }

    /// Tells a user's connections something.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn publish_notice(&self, user: Uuid, incarnation: u64, notice: &UserNotice) -> Result<(), BusError> {
        let body = serde_json::to_vec(notice).map_err(BusError::Encode)?;
        let preamble = Preamble { incarnation, subject: user, ..Preamble::empty(LiveKind::UserNotice) };
        self.publish(preamble, &body, None).await
    }

    /// Returns when the server has taken everything published before: a round trip on the same connection.
    ///
    /// # Errors
    /// When the connection broke or the server is silent for 5 s.
    pub async fn fence(&self) -> Result<(), BusError> {
        self.shared.calls.fence().await
    }
}

impl Shared {
    async fn hand_over(
        &self,
        subject: String,
        preamble: &Preamble,
        body: &[u8],
        trace: Option<&str>,
    ) -> Result<(), BusError> {
        let message = preamble.encode(body);
        let handed_over = match trace {
            None => self.client.publish(subject, message).await,
            Some(trace) => {
                let mut headers = HeaderMap::new();
                headers.insert(trace::HEADER, trace);
                self.client.publish_with_headers(subject, headers, message).await
            }
        };
        handed_over.map_err(|error| BusError::Publish(error.into()))
    }

    async fn beat(&self) -> Result<(), BusError> {
        if self.client.connection_state() != async_nats::connection::State::Connected {
            // Beats that wait would all leave at once.
            return Ok(());
        }
        let numbers = self.numbers.lock().await;
        let age_ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        let preamble = Preamble { publisher: self.publisher, seq: age_ms, ..Preamble::empty(LiveKind::Beat) };
        self.hand_over(subjects::LIVE_BEAT.to_owned(), &preamble, &encode_numbers(&numbers), None).await
    }
}

/// Ends with the last user of the publisher.
async fn beat(publisher: std::sync::Weak<Shared>) {
    let mut ticks = tokio::time::interval(BEAT_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(publisher) = publisher.upgrade() else { return };
        if publisher.beat().await.is_err() {
            return;
        }
    }
}

/// What comes out of a [`LiveSubscription`].
#[derive(Debug)]
pub enum LiveEvent {
    /// Messages, in the order of each publisher.
    Messages(Vec<LiveMessage>),
    /// The connection was lost and stands again: anything may have been missed.
    Interrupted,
}

/// All live messages.
#[derive(Debug)]
pub struct LiveSubscription {
    messages: futures::stream::ReadyChunks<async_nats::Subscriber>,
    state: ConnectionState,
    interruptions: u64,
    calls: Arc<Calls>,
}

/// Asks the server whether the connection of a [`LiveSubscription`] still carries anything.
#[derive(Debug, Clone)]
pub struct LiveProbe {
    calls: Arc<Calls>,
}

impl LiveProbe {
    /// A round trip on the connection of the subscription.
    ///
    /// # Errors
    /// When the connection is broken or the server is silent for 5 s.
    pub async fn probe(&self) -> Result<(), BusError> {
        self.calls.fence().await
    }
}

impl LiveSubscription {
    pub(crate) async fn start(client: Client, service: &'static str, state: ConnectionState) -> Result<Self, BusError> {
        let interruptions = state.interruptions();
        let subscriber =
            client.subscribe(subjects::LIVE_ALL).await.map_err(|error| BusError::Subscribe(error.into()))?;
        let calls = Calls::start(client, service, &state).await?;
        calls.fence().await?;
        Ok(Self { messages: subscriber.ready_chunks(READ_AHEAD), state, interruptions, calls })
    }

    /// Asks whether the connection stands.
    pub fn probe(&self) -> LiveProbe {
        LiveProbe { calls: Arc::clone(&self.calls) }
    }

    /// The next messages, or the end of an interruption; `None` when the connection was closed for good.
    ///
    /// # Cancellation
    /// Safe.
    pub async fn next(&mut self) -> Option<LiveEvent> {
        let interrupted = async {
            let interruptions = self.state.interrupted_since(self.interruptions).await;
            self.state.connected().await;
            interruptions
        };
        tokio::select! {
            biased;
            interruptions = interrupted => {
                self.interruptions = interruptions;
                Some(LiveEvent::Interrupted)
            }
            messages = self.messages.next() => {
                let messages = messages?;
                Some(LiveEvent::Messages(
                    messages.iter().filter_map(decode).collect(),
                ))
            }
        }
    }
}

fn decode(message: &Message) -> Option<LiveMessage> {
    let decoded = LiveMessage::decode(&message.payload)?;
    Some(LiveMessage { trace: header(message, trace::HEADER).map(str::to_owned), ..decoded })
}
