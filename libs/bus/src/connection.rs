//! One connection to NATS: credentials, reconnecting with jitter, and what became of it.

use std::{sync::Arc, time::Duration};

use async_nats::{Client, ConnectOptions, Event};
use tokio::sync::watch;

use crate::NatsConfig;

/// How long a service waits for NATS at its start.
const FIRST_CONNECT_MAX: Duration = Duration::from_secs(10);
/// Commands queued in the client while the socket is busy.
const CLIENT_CAPACITY: usize = 8_192;
/// Messages queued for one subscription; above it the newest are dropped, which shows as a hole and is repaired.
const SUBSCRIPTION_CAPACITY: usize = 65_536;
/// The longest wait between two tries to reconnect.
const RECONNECT_DELAY_MAX_MS: u64 = 1_000;
/// A page of 512 KiB, and a batch, with room for what stands around them.
const MAX_PAYLOAD_NEEDED: usize = 4 * 1024 * 1024;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// What can go wrong with NATS.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The server is away or refuses us.
    #[error("cannot connect to NATS")]
    Connect(#[source] Source),
    /// The server is not one that we can work with.
    #[error("nats-server is not usable: {0}")]
    Server(String),
    /// A subscription failed.
    #[error("cannot subscribe")]
    Subscribe(#[source] Source),
    /// A message was not sent.
    #[error("cannot publish")]
    Publish(#[source] Source),
    /// A value cannot be written as JSON.
    #[error("cannot encode the message")]
    Encode(#[source] serde_json::Error),
    /// The event stream is not as it must be.
    #[error("the event stream cannot be set up: {0}")]
    Stream(String),
    /// No answer within the time given.
    #[error("no answer in time")]
    Timeout,
    /// Nobody serves what was asked for.
    #[error("nobody answers")]
    NoResponders,
    /// The connection broke while an answer was awaited.
    #[error("the connection to NATS was interrupted")]
    Interrupted,
}

/// Whether a connection stands. Counts how often it was interrupted, so that no interruption can be missed.
#[derive(Debug, Clone)]
pub struct ConnectionState {
    sender: Arc<watch::Sender<State>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    is_connected: bool,
    interruptions: u64,
}

impl ConnectionState {
    fn new() -> Self {
        Self { sender: Arc::new(watch::Sender::new(State { is_connected: false, interruptions: 0 })) }
    }

    /// Whether the connection stands now.
    pub fn is_connected(&self) -> bool {
        self.sender.borrow().is_connected
    }

    /// How often the connection was lost.
    pub fn interruptions(&self) -> u64 {
        self.sender.borrow().interruptions
    }

    /// Waits until the number of interruptions is another than `known`; gives the new one.
    ///
    /// # Cancellation
    /// Safe.
    pub async fn interrupted_since(&self, known: u64) -> u64 {
        let mut receiver = self.sender.subscribe();
        let changed = receiver.wait_for(|state| state.interruptions != known).await.map(|state| state.interruptions);
        match changed {
            Ok(interruptions) => interruptions,
            Err(_) => std::future::pending().await,
        }
    }

    /// Waits until the connection stands.
    ///
    /// # Cancellation
    /// Safe.
    pub async fn connected(&self) {
        let mut receiver = self.sender.subscribe();
        let is_closed = receiver.wait_for(|state| state.is_connected).await.is_err();
        if is_closed {
            std::future::pending::<()>().await;
        }
    }

    fn note(&self, event: &Event) {
        self.sender.send_if_modified(|state| match event {
            Event::Connected => !std::mem::replace(&mut state.is_connected, true),
            Event::Disconnected | Event::Closed => {
                state.interruptions += 1;
                std::mem::replace(&mut state.is_connected, false)
            }
            _ => false,
        });
    }
}

/// Connects one socket.
pub(crate) async fn connect(
    config: &NatsConfig,
    service: &'static str,
    purpose: &'static str,
) -> Result<(Client, ConnectionState), BusError> {
    let state = ConnectionState::new();
    let noted = state.clone();
    let mut options = ConnectOptions::new()
        .name(format!("{service} {purpose}"))
        .custom_inbox_prefix(crate::subjects::inbox(service, "client"))
        .client_capacity(CLIENT_CAPACITY)
        .subscription_capacity(SUBSCRIPTION_CAPACITY)
        .ping_interval(Duration::from_secs(5))
        .connection_timeout(Duration::from_secs(3))
        .reconnect_delay_callback(|attempt| {
            let ceiling = RECONNECT_DELAY_MAX_MS.min(10_u64 << attempt.min(7));
            Duration::from_millis(rand::random_range(1..=ceiling))
        })
        .event_callback(move |event| {
            let state = noted.clone();
            async move {
                state.note(&event);
                report(service, purpose, &event);
            }
        });
    if let (Some(user), Some(password)) = (&config.nats_user, &config.nats_password) {
        options = options.user_and_password(user.clone(), password.expose().to_owned());
    }
    let addresses: Vec<String> = config.nats_url.split(',').map(|address| address.trim().to_owned()).collect();
    let client = connect_patiently(options, addresses).await?;
    // The callback may run later than the connection is used.
    state.note(&Event::Connected);
    Ok((client, state))
}

async fn connect_patiently(options: ConnectOptions, addresses: Vec<String>) -> Result<Client, BusError> {
    let parsed: Result<Vec<async_nats::ServerAddr>, _> = addresses.iter().map(|address| address.parse()).collect();
    let parsed = parsed.map_err(|error| BusError::Connect(format!("NATS_URL: {error}").into()))?;
    let options = options.retry_on_initial_connect();
    let client = options.connect(parsed).await.map_err(|error| BusError::Connect(error.into()))?;
    let connected = async {
        // The state is told a moment before what the server says of itself.
        while client.connection_state() != async_nats::connection::State::Connected
            || client.server_info().version.is_empty()
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    match tokio::time::timeout(FIRST_CONNECT_MAX, connected).await {
        Ok(()) => Ok(client),
        Err(_) => Err(BusError::Connect(format!("no answer within {FIRST_CONNECT_MAX:?}, or not let in").into())),
    }
}

fn report(service: &str, purpose: &str, event: &Event) {
    match event {
        Event::Connected => tracing::info!(service, purpose, "connected to NATS"),
        Event::Disconnected => tracing::warn!(service, purpose, "NATS connection lost"),
        Event::SlowConsumer(_) => {
            metrics::counter!("chat_errors_total", "type" => "nats_slow_consumer", "severity" => "warning")
                .increment(1);
        }
        Event::ServerError(error) => {
            tracing::error!(service, purpose, %error, "NATS refuses something");
        }
        // One for each try to reconnect; that the connection was lost is told above.
        Event::ClientError(error) => tracing::debug!(service, purpose, %error, "NATS client error"),
        Event::LameDuckMode | Event::Draining | Event::Closed => {}
    }
}

/// Refuses servers that would silently ignore what we ask for.
pub(crate) fn check_server(client: &Client) -> Result<(), BusError> {
    let info = client.server_info();
    if !client.is_server_compatible(2, 10, 0) {
        return Err(BusError::Server(format!("version {} is older than 2.10", info.version)));
    }
    if info.max_payload < MAX_PAYLOAD_NEEDED {
        return Err(BusError::Server(format!(
            "max_payload is {} bytes, at least {MAX_PAYLOAD_NEEDED} are needed (8MB recommended)",
            info.max_payload
        )));
    }
    Ok(())
}
