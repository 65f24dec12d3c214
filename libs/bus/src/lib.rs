//! The three planes over NATS: requests ([`Bus::call`], [`Bus::serve`]), live ([`LivePublisher`], [`LiveSubscription`])
//! and events ([`EventPublisher`]).
//!
//! Nothing that is published here is a promise: a request may time out, a live message may be lost, an event may come
//! twice. What holds is in PostgreSQL.

mod connection;
mod events;
mod live;
mod rpc;
pub mod subjects;

use std::{sync::Arc, time::Duration};

use async_nats::Client;
use bytes::Bytes;
use entrenous_config::Secret;
use serde::{Serialize, de::DeserializeOwned};

pub use connection::{BusError, ConnectionState};
pub use events::{EventPublisher, STREAM_MAX_AGE};
pub use live::{BEAT_INTERVAL, LiveEvent, LiveProbe, LivePublisher, LiveSubscription};
pub use rpc::{Deadline, ServeOptions};

/// Settings of NATS.
#[derive(Debug, Clone, clap::Args)]
pub struct NatsConfig {
    /// Where nats-server is: `nats://host:port`, several separated by commas; `tls://…` for TLS.
    #[arg(long, env)]
    pub nats_url: String,
    /// The service's user.
    #[arg(long, env)]
    pub nats_user: Option<String>,
    /// Its password.
    #[arg(long, env)]
    pub nats_password: Option<Secret>,
}

/// A service's connections to NATS. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bus {
    service: &'static str,
    config: NatsConfig,
    client: Client,
    state: ConnectionState,
    calls: Arc<rpc::Calls>,
}

impl Bus {
    /// Connects; waits at most 10 s for the server.
    ///
    /// # Errors
    /// When the server is away, refuses the credential, is older than 2.10, or allows less than a page a message.
    pub async fn connect(config: &NatsConfig, service: &'static str) -> Result<Self, BusError> {
        let (client, state) = connection::connect(config, service, "requests").await?;
        connection::check_server(&client)?;
        let calls = rpc::Calls::start(client.clone(), service, &state).await?;
        Ok(Self { service, config: config.clone(), client, state, calls })
    }

    /// Whether the connection stands, and its changes.
    pub fn state(&self) -> &ConnectionState {
        &self.state
    }

    /// A publisher of live messages, on a connection of its own.
    ///
    /// # Errors
    /// As [`Bus::connect`].
    pub async fn live_publisher(&self) -> Result<LivePublisher, BusError> {
        let (client, state) = connection::connect(&self.config, self.service, "live").await?;
        LivePublisher::start(client, self.service, &state).await
    }

    /// All live messages, on a connection of its own. Everything published after this returns is heard, as long as the
    /// connection stands.
    ///
    /// # Errors
    /// As [`Bus::connect`].
    pub async fn subscribe_live(&self) -> Result<LiveSubscription, BusError> {
        let (client, state) = connection::connect(&self.config, self.service, "live").await?;
        LiveSubscription::start(client, self.service, state).await
    }

    /// The publisher of events. The stream is made, or brought up to date, and read back.
    ///
    /// # Errors
    /// When JetStream is away or the stream is not as asked for.
    pub async fn event_publisher(&self) -> Result<EventPublisher, BusError> {
        EventPublisher::start(self.client.clone(), Arc::clone(&self.calls)).await
    }

    /// Publishes a value in JSON, at most once.
    ///
    /// # Errors
    /// When the value cannot be written or the connection has ended.
    pub async fn broadcast<T: Serialize + Sync>(&self, subject: &str, value: &T) -> Result<(), BusError> {
        let body = serde_json::to_vec(value).map_err(BusError::Encode)?;
        self.client
            .publish(subject.to_owned(), Bytes::from(body))
            .await
            .map_err(|error| BusError::Publish(error.into()))
    }

    /// Hears what is broadcast on a subject, from when this returns; values that cannot be read are left out.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn hear<T: DeserializeOwned + Send + 'static>(
        &self,
        subject: &str,
    ) -> Result<futures::stream::BoxStream<'static, T>, BusError> {
        use futures::StreamExt;
        let subscriber =
            self.client.subscribe(subject.to_owned()).await.map_err(|error| BusError::Subscribe(error.into()))?;
        self.calls.fence().await?;
        let values = subscriber.filter_map(async |message| {
            serde_json::from_slice(&message.payload)
                .inspect_err(|error| tracing::warn!(%error, "a broadcast that cannot be read"))
                .ok()
        });
        Ok(values.boxed())
    }

    /// Sends out what is buffered and closes; waits at most 3 s.
    pub async fn close(&self) {
        let _ = tokio::time::timeout(Duration::from_secs(3), self.client.drain()).await;
    }
}
