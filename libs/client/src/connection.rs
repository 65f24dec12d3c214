//! One WebSocket with typed frames and answers that can be awaited.

mod pending;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use entrenous_model::{EntryId, IdGenerator};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use url::Url;

use crate::{
    ClosedError, ConnectError, Credential, OutgoingMessage, RequestError, ServerFrame, Socket, SocketOptions,
    SyncStart, Target,
    frame::{self, Body, Connected, Stored, SyncComplete},
    outgoing,
};
use pending::Pending;

/// Frames that wait to be taken by [`Connection::next`]. When they are this many, nothing more is read from the
/// socket, answers included, until some are taken.
const FRAMES_MAX: usize = 4_096;
/// Frames that wait to be written.
const COMMANDS_MAX: usize = 1_024;
/// Frames written before the next look at what came in.
const WRITES_AT_ONCE_MAX: usize = 64;
/// How long an answer is waited for.
const REPLY_WAIT: Duration = Duration::from_secs(60);
/// A connection that is silent for so many heartbeats is dead. Source: docs/protocol.md, section 1, limits.
const HEARTBEATS_MISSED_MAX: u32 = 3;

/// One connection. Ends when it is dropped.
#[derive(Debug)]
pub struct Connection {
    handle: Handle,
    connected: Connected,
    frames: mpsc::Receiver<ServerFrame>,
    end: Arc<OnceLock<ClosedError>>,
    driver: JoinHandle<()>,
}

/// Sends on a connection; cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    end: Arc<OnceLock<ClosedError>>,
}

/// The server's answer to a frame.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// `ack`, with the place in the log where something was stored.
    Ack(Option<Stored>),
    /// `sync_complete`.
    SyncComplete(SyncComplete),
    /// `pong`.
    Pong,
}

/// An answer that is still to come.
#[derive(Debug)]
pub struct PendingReply {
    reply: oneshot::Receiver<Result<Reply, RequestError>>,
    end: Arc<OnceLock<ClosedError>>,
}

#[derive(Debug)]
enum Command {
    Send { text: String, reply: Option<(EntryId, ReplySender)> },
    Close,
}

type ReplySender = oneshot::Sender<Result<Reply, RequestError>>;

impl Connection {
    /// Opens a connection and waits until the server says `connected`.
    ///
    /// # Errors
    /// When no connection comes about, or the server closes it at once (a token that is not good: 4500, 4401).
    pub async fn connect(base: &Url, credential: &Credential, options: SocketOptions) -> Result<Self, ConnectError> {
        open(base, credential, options).await.map(|(socket, connected)| Self::start(socket, connected))
    }

    fn start(socket: Socket, connected: Connected) -> Self {
        let end = Arc::new(OnceLock::new());
        let (commands, command_queue) = mpsc::channel(COMMANDS_MAX);
        let (frame_queue, frames) = mpsc::channel(FRAMES_MAX);
        let driver = Driver {
            socket,
            commands: command_queue,
            frames: frame_queue,
            pending: Pending::default(),
            silence_max: Duration::from_millis(connected.heartbeat_interval_ms.max(1_000)) * HEARTBEATS_MISSED_MAX,
            end: Arc::clone(&end),
        };
        let driver = tokio::spawn(driver.run());
        Self { handle: Handle { commands, end: Arc::clone(&end) }, connected, frames, end, driver }
    }

    /// What the server said first.
    pub fn connected(&self) -> &Connected {
        &self.connected
    }

    /// Something to send with that can be cloned.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The next frame, in the order in which the server sent them, answers included; none when the connection has
    /// ended.
    ///
    /// Somebody must take the frames: when 4,096 wait, nothing more is read, answers included.
    ///
    /// # Cancellation
    /// Safe: nothing is lost.
    pub async fn next(&mut self) -> Option<ServerFrame> {
        self.frames.recv().await
    }

    /// How the connection ended; none while it lasts.
    pub fn end(&self) -> Option<&ClosedError> {
        self.end.get()
    }

    /// Sends a message and waits for its `ack`.
    ///
    /// # Errors
    /// As [`PendingReply::wait`].
    pub async fn send_message(&self, target: Target, message: &OutgoingMessage) -> Result<Stored, RequestError> {
        self.handle.send_message(target, message).await
    }

    /// Begins to receive: see [`SyncStart`].
    ///
    /// # Errors
    /// As [`PendingReply::wait`].
    pub async fn sync(&self, start: &SyncStart) -> Result<SyncComplete, RequestError> {
        self.handle.sync(start).await
    }

    /// Says goodbye and waits until the connection has ended. Frames that were not taken are lost.
    pub async fn close(mut self) {
        // The driver may have ended by itself.
        drop(self.handle.commands.send(Command::Close).await);
        self.frames.close();
        drop((&mut self.driver).await);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
        self.end.get_or_init(|| ClosedError { code: None, reason: "dropped by this client".to_owned() });
    }
}

impl Handle {
    /// Queues a frame that is answered. Frames are sent in the order of these calls.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn request(&self, id: EntryId, text: String) -> Result<PendingReply, RequestError> {
        let (sender, reply) = oneshot::channel();
        self.command(Command::Send { text, reply: Some((id, sender)) }).await?;
        Ok(PendingReply { reply, end: Arc::clone(&self.end) })
    }

    /// Queues a frame whose answer nobody waits for.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn tell(&self, text: String) -> Result<(), RequestError> {
        self.command(Command::Send { text, reply: None }).await
    }

    /// Queues a message. Messages are sent in the order of these calls.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn start_message(&self, target: Target, message: &OutgoingMessage) -> Result<PendingReply, RequestError> {
        self.request(message.id, message.frame(target)).await
    }

    /// Sends a message and waits for its `ack`.
    ///
    /// # Errors
    /// As [`PendingReply::wait`].
    pub async fn send_message(&self, target: Target, message: &OutgoingMessage) -> Result<Stored, RequestError> {
        self.start_message(target, message).await?.stored().await
    }

    /// Begins to receive: see [`SyncStart`].
    ///
    /// # Errors
    /// As [`PendingReply::wait`].
    pub async fn sync(&self, start: &SyncStart) -> Result<SyncComplete, RequestError> {
        let id = IdGenerator.next();
        match self.request(id, outgoing::sync(id, start)).await?.wait().await? {
            Reply::SyncComplete(complete) => Ok(complete),
            Reply::Ack(_) | Reply::Pong => Err(RequestError::Unexpected),
        }
    }

    /// Asks for a `pong`.
    ///
    /// # Errors
    /// As [`PendingReply::wait`].
    pub async fn ping(&self) -> Result<(), RequestError> {
        let id = IdGenerator.next();
        self.request(id, outgoing::ping(id)).await?.wait().await.map(drop)
    }

    /// Presents a new access token before the old one ends.
    ///
    /// # Errors
    /// As [`PendingReply::wait`].
    pub async fn renew_token(&self, token: &str) -> Result<(), RequestError> {
        let id = IdGenerator.next();
        self.request(id, outgoing::authenticate(Some(id), token)).await?.wait().await.map(drop)
    }

    async fn command(&self, command: Command) -> Result<(), RequestError> {
        self.commands.send(command).await.map_err(|_| RequestError::Closed(end_of(&self.end)))
    }
}

fn end_of(end: &OnceLock<ClosedError>) -> ClosedError {
    end.get().cloned().unwrap_or_else(|| ClosedError { code: None, reason: "closing".to_owned() })
}

impl PendingReply {
    /// Waits for the answer, at most a minute.
    ///
    /// # Errors
    /// When the server refuses, the connection ends, or no answer comes in time.
    pub async fn wait(self) -> Result<Reply, RequestError> {
        match tokio::time::timeout(REPLY_WAIT, self.reply).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(_)) => Err(RequestError::Closed(end_of(&self.end))),
            Err(_) => Err(RequestError::TimedOut { after: REPLY_WAIT }),
        }
    }

    /// Waits for the `ack` of a stored entry.
    ///
    /// # Errors
    /// As [`PendingReply::wait`].
    pub async fn stored(self) -> Result<Stored, RequestError> {
        match self.wait().await? {
            Reply::Ack(Some(stored)) => Ok(stored),
            Reply::Ack(None) | Reply::SyncComplete(_) | Reply::Pong => Err(RequestError::Unexpected),
        }
    }
}

/// Opens a connection and waits until the server says `connected`.
pub(crate) async fn open(
    base: &Url,
    credential: &Credential,
    options: SocketOptions,
) -> Result<(Socket, Connected), ConnectError> {
    let mut socket = Socket::connect(base, credential, options).await?;
    let after = options.connect_timeout;
    let connected = tokio::time::timeout(after, wait_for_connected(&mut socket))
        .await
        .map_err(|_| ConnectError::TimedOut { after })??;
    Ok((socket, connected))
}

async fn wait_for_connected(socket: &mut Socket) -> Result<Connected, ClosedError> {
    loop {
        let text = socket.next().await?;
        if let Ok(ServerFrame { body: Body::Connected(connected), .. }) = frame::parse(&text) {
            return Ok(connected);
        }
    }
}

/// The one task that owns the socket.
struct Driver {
    socket: Socket,
    commands: mpsc::Receiver<Command>,
    frames: mpsc::Sender<ServerFrame>,
    pending: Pending,
    silence_max: Duration,
    end: Arc<OnceLock<ClosedError>>,
}

impl Driver {
    async fn run(mut self) {
        let Err(end) = self.drive().await;
        let end = self.end.get_or_init(|| end).clone();
        self.pending.fail_all(&end);
    }

    async fn drive(&mut self) -> Result<std::convert::Infallible, ClosedError> {
        loop {
            tokio::select! {
                text = tokio::time::timeout(self.silence_max, self.socket.next()) => {
                    let text = text.map_err(|_| closed_here("no sign of life from the server"))?;
                    self.take(&text?).await?;
                }
                command = self.commands.recv() => {
                    self.execute(command.unwrap_or(Command::Close)).await?;
                    self.execute_waiting().await?;
                    self.socket.flush().await?;
                }
            }
        }
    }

    async fn take(&mut self, text: &str) -> Result<(), ClosedError> {
        let frame = frame::parse(text).map_err(|_| closed_here("the server sent something that is no frame"))?;
        self.pending.resolve(&frame);
        self.frames.send(frame).await.map_err(|_| closed_here("closed by this client"))
    }

    async fn execute_waiting(&mut self) -> Result<(), ClosedError> {
        for _ in 0..WRITES_AT_ONCE_MAX {
            let Ok(command) = self.commands.try_recv() else { break };
            self.execute(command).await?;
        }
        Ok(())
    }

    async fn execute(&mut self, command: Command) -> Result<(), ClosedError> {
        match command {
            Command::Send { text, reply } => {
                if let Some((id, sender)) = reply {
                    self.pending.add(id, sender);
                }
                self.socket.feed(text).await
            }
            Command::Close => {
                self.socket.close().await;
                Err(closed_here("closed by this client"))
            }
        }
    }
}

fn closed_here(reason: &str) -> ClosedError {
    ClosedError { code: None, reason: reason.to_owned() }
}

#[cfg(test)]
mod tests;
