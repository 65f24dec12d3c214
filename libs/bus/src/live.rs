//! The live plane: hints that something happened, at most once.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_nats::Client;
use entrenous_protocol::live::{LIVE_SHARDS, LiveKind, LiveMessage, Preamble, UserNotice, shard_of};
use futures::StreamExt;
use uuid::Uuid;

use crate::{BusError, ConnectionState, rpc::Calls, subjects};

/// Messages taken at once from the subscription.
const READ_AHEAD: usize = 256;

/// Publishes live messages and numbers them per shard. Calls made one after another keep their order.
#[derive(Debug, Clone)]
pub struct LivePublisher {
    client: Client,
    calls: Arc<Calls>,
    publisher: u64,
    numbers: Arc<[AtomicU64]>,
}

impl LivePublisher {
    pub(crate) async fn start(
        client: Client,
        service: &'static str,
        state: &ConnectionState,
    ) -> Result<Self, BusError> {
        let calls = Calls::start(client.clone(), service, state).await?;
        let numbers = (0..LIVE_SHARDS).map(|_| AtomicU64::new(0)).collect();
        Ok(Self { client, calls, publisher: rand::random(), numbers })
    }

    /// Publishes one message; `publisher` and `number` of the preamble are filled in here.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn publish(&self, mut preamble: Preamble, body: &[u8]) -> Result<(), BusError> {
        let shard = shard_of(preamble.subject);
        preamble.publisher = self.publisher;
        if let Some(number) = self.numbers.get(usize::from(shard)) {
            preamble.number = number.fetch_add(1, Ordering::Relaxed) + 1;
        }
        let message = preamble.encode(body);
        self.client.publish(subjects::live(shard), message).await.map_err(|error| BusError::Publish(error.into()))
    }

    /// Tells a user's connections something.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn publish_notice(&self, user: Uuid, incarnation: u64, notice: &UserNotice) -> Result<(), BusError> {
        let body = serde_json::to_vec(notice).map_err(BusError::Encode)?;
        let preamble = Preamble {
            kind: LiveKind::UserNotice,
            flags: 0,
            publisher: 0,
            number: 0,
            subject: user,
            seq: 0,
            origin: 0,
            incarnation,
        };
        self.publish(preamble, &body).await
    }

    /// Returns when the server has taken everything published before: a round trip on the same connection.
    ///
    /// # Errors
    /// When the connection broke or the server is silent for 5 s.
    pub async fn fence(&self) -> Result<(), BusError> {
        self.calls.fence().await
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
}

impl LiveSubscription {
    pub(crate) async fn start(client: Client, service: &'static str, state: ConnectionState) -> Result<Self, BusError> {
        let interruptions = state.interruptions();
        let subscriber =
            client.subscribe(subjects::LIVE_ALL).await.map_err(|error| BusError::Subscribe(error.into()))?;
        Calls::start(client, service, &state).await?.fence().await?;
        Ok(Self { messages: subscriber.ready_chunks(READ_AHEAD), state, interruptions })
    }

    /// Whether the connection stands.
    pub fn state(&self) -> &ConnectionState {
        &self.state
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
                    messages.iter().filter_map(|message| LiveMessage::decode(&message.payload)).collect(),
                ))
            }
        }
    }
}
