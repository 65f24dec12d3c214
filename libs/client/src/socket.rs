//! One WebSocket that carries texts: nothing is spawned, nothing is parsed.

use std::{fmt, time::Duration};

use futures::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{
        self, ClientRequestBuilder, Message, Utf8Bytes,
        protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
    },
};
use url::Url;

use crate::{ClosedError, ConnectError, outgoing};

/// The subprotocol that both sides speak.
pub const SUBPROTOCOL: &str = "entrenous.v1";
const PATH: &str = "/api/v1/ws";

/// How the connection says who it is.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// The token as a second offered subprotocol, as browsers must.
    Subprotocol(String),
    /// The token in the `Authorization` header.
    Header(String),
    /// The token in a first frame `authenticate`.
    FirstFrame(String),
    /// No token: the server closes such a connection after a while.
    None,
}

/// Prints the way, never the token.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Subprotocol(_) => "Subprotocol",
            Self::Header(_) => "Header",
            Self::FirstFrame(_) => "FirstFrame",
            Self::None => "None",
        })
    }
}

/// Sizes and waits of a connection.
#[derive(Debug, Clone, Copy)]
pub struct SocketOptions {
    /// How long opening may take.
    pub connect_timeout: Duration,
    /// Read buffer in bytes, allocated at once: small for programs with many connections.
    pub read_buffer_bytes: usize,
    /// A message above this ends the connection.
    pub message_bytes_max: usize,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self { connect_timeout: Duration::from_secs(10), read_buffer_bytes: 4 * 1024, message_bytes_max: 16 << 20 }
    }
}

/// One WebSocket that carries texts.
#[derive(Debug)]
pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Socket {
    /// Opens a connection to the server at `base` (`http://…` or `https://…`).
    ///
    /// # Errors
    /// When the address is not usable or no WebSocket comes about in time. A refused token is no error here: the
    /// server closes the open connection with its code.
    pub async fn connect(base: &Url, credential: &Credential, options: SocketOptions) -> Result<Self, ConnectError> {
        let request = request(base, credential)?;
        let config = WebSocketConfig::default()
            .read_buffer_size(options.read_buffer_bytes)
            .write_buffer_size(0)
            .max_message_size(Some(options.message_bytes_max))
            .max_frame_size(Some(options.message_bytes_max));
        let after = options.connect_timeout;
        // Small frames must not wait for the acknowledgement of earlier ones: no Nagle.
        let connecting = connect_async_with_config(request, Some(config), true);
        let (stream, _) = tokio::time::timeout(after, connecting)
            .await
            .map_err(|_| ConnectError::TimedOut { after })?
            .map_err(connect_error)?;
        let mut socket = Self { stream };
        if let Credential::FirstFrame(token) = credential {
            socket.send(outgoing::authenticate(None, token)).await?;
        }
        Ok(socket)
    }

    /// Sends one text.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn send(&mut self, text: impl Into<Utf8Bytes>) -> Result<(), ClosedError> {
        self.send_message(Message::Text(text.into())).await
    }

    /// Sends any WebSocket message; for tests of what servers refuse.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn send_message(&mut self, message: Message) -> Result<(), ClosedError> {
        self.stream.send(message).await.map_err(|error| broken(&error))
    }

    /// Queues one text; [`Socket::flush`] sends what is queued.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn feed(&mut self, text: impl Into<Utf8Bytes>) -> Result<(), ClosedError> {
        self.stream.feed(Message::Text(text.into())).await.map_err(|error| broken(&error))
    }

    /// Sends what is queued.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn flush(&mut self) -> Result<(), ClosedError> {
        self.stream.flush().await.map_err(|error| broken(&error))
    }

    /// The next text. WebSocket pings are answered on the way.
    ///
    /// # Errors
    /// When the connection has ended, with the server's close code where there is one.
    ///
    /// # Cancellation
    /// Safe: nothing is lost.
    pub async fn next(&mut self) -> Result<Utf8Bytes, ClosedError> {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => return Ok(text),
                Some(Ok(Message::Close(frame))) => return Err(closed(frame)),
                Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Err(error)) => return Err(broken(&error)),
                None => return Err(closed(None)),
            }
        }
    }

    /// Says goodbye; does not wait for the answer.
    pub async fn close(&mut self) {
        let frame = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() };
        // A connection that is already broken needs no goodbye.
        drop(self.stream.close(Some(frame)).await);
    }
}

fn request(base: &Url, credential: &Credential) -> Result<ClientRequestBuilder, ConnectError> {
    let address = || ConnectError::Address { address: base.to_string() };
    let mut url = base.clone();
    let scheme = match base.scheme() {
        "http" | "ws" => "ws",
        "https" | "wss" => "wss",
        _ => return Err(address()),
    };
    url.set_scheme(scheme).map_err(|()| address())?;
    url.set_path(PATH);
    let uri = url.as_str().parse().map_err(|_| address())?;
    let request = ClientRequestBuilder::new(uri).with_sub_protocol(SUBPROTOCOL);
    Ok(match credential {
        Credential::Subprotocol(token) => request.with_sub_protocol(format!("bearer.{token}")),
        Credential::Header(token) => request.with_header("Authorization", format!("Bearer {token}")),
        Credential::FirstFrame(_) | Credential::None => request,
    })
}

fn connect_error(error: tungstenite::Error) -> ConnectError {
    match error {
        tungstenite::Error::Http(answer) => {
            let retry_after = answer.headers().get("Retry-After").and_then(|value| value.to_str().ok()?.parse().ok());
            let (status, retry_after) = (answer.status().as_u16(), retry_after.map(Duration::from_secs));
            ConnectError::Upgrade { status, retry_after }
        }
        error => ConnectError::Transport { source: Box::new(error) },
    }
}

fn broken(error: &tungstenite::Error) -> ClosedError {
    ClosedError { code: None, reason: error.to_string() }
}

fn closed(frame: Option<CloseFrame>) -> ClosedError {
    match frame {
        Some(frame) => ClosedError { code: Some(frame.code.into()), reason: frame.reason.as_str().to_owned() },
        None => ClosedError { code: None, reason: String::new() },
    }
}
